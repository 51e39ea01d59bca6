"""What a day should be by the days before it: medians and median absolute deviations, on a scale of the caller's.

Pure arithmetic; ``anomalies`` says why it is done so, and what was measured of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from statistics import median

#: MAD × this is the standard deviation of a normal distribution.
SIGMA = 1.4826
#: Days so many spreads away are left out, and the rest is looked at again.
OUTLIER = 5.0
#: Weeks in which a gain is taken for drift, and how much of it a week is believed. A lasting step is in a third of
#: eight weeks' gains and moves their median little; of gains in four weeks it is in the half.
DRIFT_WEEKS = 2
MOST_DRIFT = 0.1
#: The spread is widened by ``1 + WIDENED ÷ days``: the level is an estimate from so many days of the weekday.
WIDENED = 2.0

#: Values by the ordinal number of their day.
Values = Mapping[int, float]
#: What chance alone makes at a level.
Noise = Callable[[float], float]


@dataclass(frozen=True)
class Band:
    """Between which bounds a day is expected; ``days`` of the same weekday say so."""

    low: float
    high: float
    days: int


@dataclass(frozen=True)
class _Fit:
    """The level of each weekday on the day in question, each day's distance to its own, and how far these spread.

    ``drift`` is what a day adds.
    """

    levels: Mapping[int, float]
    distances: Values
    drift: float
    spread: float


def same_weekday(days: Iterable[int], day: int) -> int:
    """How many of the days are of the weekday of ``day``."""
    return sum(each % 7 == day % 7 for each in days)


def band(history: Values, day: int, *, width: float, floor: float, noise: Noise) -> Band:
    """What is expected of ``day`` by days before it, one of the same weekday at least.

    ``width``: spreads on either side. ``floor``: the least spread, to which ``noise`` adds what chance makes.
    """
    days = same_weekday(history, day)
    fit = _fit(history, day)
    wide = _wide(fit, day, days, floor, noise)
    kept = {each: history[each] for each, far in fit.distances.items() if abs(far) <= OUTLIER * wide}
    if len(kept) < len(history) and 2 * same_weekday(kept, day) > days:
        days = same_weekday(kept, day)
        fit = _fit(kept, day)
        wide = _wide(fit, day, days, floor, noise)
    level, reach = fit.levels[day % 7], width * wide
    return Band(level - reach, level + reach + _more(history, day, fit, reach), days)


def _wide(fit: _Fit, day: int, days: int, floor: float, noise: Noise) -> float:
    return max(fit.spread * (1 + WIDENED / days), math.hypot(floor, noise(fit.levels[day % 7])))


def _fit(history: Values, day: int) -> _Fit:
    drift = _drift(history) / 7
    by_weekday: dict[int, list[float]] = {}
    moved = {each: value + drift * (day - each) for each, value in history.items()}
    for each, value in moved.items():
        by_weekday.setdefault(each % 7, []).append(value)
    levels = {weekday: median(values) for weekday, values in by_weekday.items()}
    distances = {each: value - levels[each % 7] for each, value in moved.items()}
    return _Fit(levels, distances, drift, SIGMA * median(map(abs, distances.values())))


def _drift(history: Values) -> float:
    """What a week adds: the median of what weekdays gained in ``DRIFT_WEEKS``."""
    apart = 7 * DRIFT_WEEKS
    gained = [value - history[each - apart] for each, value in history.items() if each - apart in history]
    return max(-MOST_DRIFT, min(MOST_DRIFT, median(gained) / DRIFT_WEEKS)) if gained else 0.0


def _more(history: Values, day: int, fit: _Fit, reach: float) -> float:
    """How much more than its weekday the same edge of an earlier month had, where that is more than ``reach``."""
    edge = month_edge(day)
    if not edge:
        return 0.0
    more = [
        value + fit.drift * (day - each) - fit.levels[each % 7]
        for each, value in history.items()
        if each % 7 in fit.levels and month_edge(each) == edge
    ]
    return max((far for far in more if far > reach), default=0.0)


def month_edge(day: int) -> str:
    """Whether a day is the first or the last of its month, or the first or last of it from Monday to Friday."""
    month = date.fromordinal(day).month
    friday, monday = day % 7 == 5, day % 7 == 1
    if date.fromordinal(day + (3 if friday else 1)).month != month:
        return "last"
    return "first" if date.fromordinal(day - (3 if monday else 1)).month != month else ""
