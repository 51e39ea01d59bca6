"""What a day should be by the days before it: medians and median absolute deviations on a scale that the caller
chose.

Pure arithmetic; ``anomalies`` says why it is done so, and what was measured of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

#: MAD × this is the standard deviation of a normal distribution.
SIGMA = 1.4826
#: Days so many spreads away are left out, and the rest is looked at again.
OUTLIER = 5.0
#: Weeks between the two days whose difference tells of the drift, and how much drift of a week is believed.
DRIFT_WEEKS = 4
MOST_DRIFT = 0.1
#: The spread is widened by ``1 + WIDENED ÷ days``: the level is an estimate from so many days of the weekday.
WIDENED = 2.4

Values = Mapping[date, float]
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
    """The level of each weekday (0 is Monday), each day's distance to its own, and how far these spread."""

    levels: Mapping[int, float]
    distances: Values
    spread: float


def same_weekday(days: Iterable[date], day: date) -> int:
    """How many of the days are of the weekday of ``day``."""
    return sum(each.weekday() == day.weekday() for each in days)


def band(history: Values, day: date, *, width: float, floor: float, noise: Noise) -> Band:
    """What is expected of ``day`` by days before it, one of the same weekday at least.

    ``width``: spreads on either side. ``floor``: the least spread, to which ``noise`` adds what chance makes.
    """
    weekday, days = day.weekday(), same_weekday(history, day)
    fit = _fit(history, day)
    wide = _wide(fit, weekday, days, floor, noise)
    kept = {each: history[each] for each, far in fit.distances.items() if abs(far) <= OUTLIER * wide}
    if 2 * same_weekday(kept, day) > days:
        days = same_weekday(kept, day)
        fit = _fit(kept, day)
        wide = _wide(fit, weekday, days, floor, noise)
    level, reach = fit.levels[weekday], width * wide
    return Band(level - reach, level + reach + _more(history, day, fit, reach), days)


def _wide(fit: _Fit, weekday: int, days: int, floor: float, noise: Noise) -> float:
    return max(fit.spread * (1 + WIDENED / days), math.hypot(floor, noise(fit.levels[weekday])))


def _fit(history: Values, day: date) -> _Fit:
    drift = _drift(history)
    moved = {each: value + drift * _weeks(each, day) for each, value in history.items()}
    by_weekday: dict[int, list[float]] = {}
    for each, value in moved.items():
        by_weekday.setdefault(each.weekday(), []).append(value)
    levels = {weekday: median(values) for weekday, values in by_weekday.items()}
    distances = {each: value - levels[each.weekday()] for each, value in moved.items()}
    return _Fit(levels, distances, SIGMA * median(map(abs, distances.values())))


def _drift(history: Values) -> float:
    """What a week adds: the median of what weekdays gained in four weeks."""
    apart = timedelta(weeks=DRIFT_WEEKS)
    gained = [value - history[each - apart] for each, value in history.items() if each - apart in history]
    return max(-MOST_DRIFT, min(MOST_DRIFT, median(gained) / DRIFT_WEEKS)) if gained else 0.0


def _weeks(earlier: date, later: date) -> float:
    return (later - earlier).days / 7


def _more(history: Values, day: date, fit: _Fit, reach: float) -> float:
    """How much more than its weekday the same edge of an earlier month had, where that is more than ``reach``."""
    edge = month_edge(day)
    drift = _drift(history)
    more = [
        value + drift * _weeks(each, day) - fit.levels[each.weekday()]
        for each, value in history.items()
        if edge and month_edge(each) == edge and each.weekday() in fit.levels
    ]
    return max((far for far in more if far > reach), default=0.0)


def month_edge(day: date) -> str:
    """Whether a day is the last or the first of its month."""
    if day.day == 1:
        return "first"
    return "last" if (day + timedelta(days=1)).day == 1 else ""
