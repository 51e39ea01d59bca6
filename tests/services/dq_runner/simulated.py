"""Series of days as tables have them, from a seed: seasons, trends, noise, month ends, incidents that nobody marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from dq_runner.anomalies import anomaly_results
from dq_runner.history import Day, Series
from dq_runner.model import Column, ColumnMeasure, Measures, Result, Table, TableName, Window

NAME = TableName("SALES", "PUBLIC", "ORDERS")
BARE = Table(NAME, "table", ())
TABLE = Table(NAME, "table", (), Column("LOADED_AT", "TIMESTAMP_NTZ", "timestamp"))
SPAN = 86_400
#: Eight weeks, and the day under test.
DAYS = 57
#: Rows of a weekday as parts of a usual day, Monday first.
SEASON = np.array([1, 1.05, 1.1, 1, 0.95, 0.5, 0.35])

Array = Any
#: Of a day: rows, seconds of lag, and (nulls, different values) by column.
Columns = Mapping[str, tuple[int, int | None]]


def known(rows: int, lag: float | None = 60.0, columns: Columns | None = None) -> Day:
    return Day.model_construct(
        table=("SALES", "PUBLIC", "ORDERS"), span=SPAN, rows=int(rows), lag=lag, columns=dict(columns or {})
    )


def judged(
    days: Mapping[date, Day],
    day: date,
    rows: int,
    lag: float | None = 60.0,
    columns: Columns | None = None,
    table: Table = TABLE,
    **more: Any,
) -> dict[str, Result]:
    """The results of a day after these, by the title of their rule."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    window = Window(start, start + timedelta(days=1))
    newest = None if lag is None else start + timedelta(days=1) - timedelta(seconds=lag)
    measured = {name: ColumnMeasure(*each) for name, each in (columns or {}).items()}
    measures = Measures(NAME, window, int(rows), newest, measured, "SELECT 1", "01b2")
    series = Series({(NAME, SPAN): days})
    found = anomaly_results(table, measures, series, start + timedelta(hours=30), **more)
    return {each.rule.title: each for each in found}


def history(rows: Sequence[int], day: date) -> dict[date, Day]:
    """Days with these rows, the last of them the day before ``day``."""
    return {day - timedelta(days=len(rows) - place): known(each) for place, each in enumerate(rows)}


def starts(random: np.random.Generator, count: int) -> list[date]:
    return [date(2026, 1, 1) + timedelta(days=int(each)) for each in random.integers(0, 365, count)]


def volumes(kind: str, random: np.random.Generator, first: Sequence[date]) -> Array:
    """Rows a day, a series a line. ``kind``: words that say what is in it; noise is 10% of a day's rows by default."""
    days = np.array([each.toordinal() for each in first])[:, None] + np.arange(DAYS)
    shape = days.shape
    expected = 10 ** random.uniform(3, 6, (shape[0], 1)) * SEASON[(days - 1) % 7]
    for word, weekly in (("growing", 0.05), ("shrinking", -0.03)):
        if word in kind:
            expected = expected * np.exp(weekly * np.arange(DAYS) / 7)
    if "month ends" in kind:
        ends = np.array([[(date.fromordinal(int(day) + 1)).day == 1 for day in line] for line in days])
        expected = expected * np.where(ends, 2.5, 1)
    noise = _noise(kind, random, shape)
    scale = 0.03 if "quiet" in kind else 0.1
    rows = random.poisson(expected * np.exp(scale * noise)).astype(np.int64)
    if "constant" in kind:
        rows = np.repeat(np.round(expected[:, :1]).astype(np.int64), DAYS, axis=1)
    if "past incidents" in kind:
        # Two of the eight days that count most are lost, and nobody has marked them.
        for line in rows:
            line[7 * random.choice(8, 2, replace=False)] = 0
    return rows


def _noise(kind: str, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Of deviation 1."""
    if "heavy tails" in kind:
        return random.standard_t(3, shape) / np.sqrt(3)
    if "laplace" in kind:
        return random.laplace(0, 1 / np.sqrt(2), shape)
    noise = random.normal(0, 1, shape)
    if "sluggish" in kind:
        for day in range(1, shape[1]):
            noise[:, day] = 0.6 * noise[:, day - 1] + 0.8 * noise[:, day]
    return noise
