"""What earlier runs measured: one small object a run, ``reports/measures/<day>/<run id>.json``.

``day`` is the UTC date of the rows: the first of the window, or the day before the run where a table is read whole.
The objects are listed by month and read side by side. Of a day that was measured twice the later run counts, table by
table. A day on which a table could not be measured has no line in it, and is left out of its history: it is not a day
without rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from dq_runner.model import Measures, TableName, Window
from lakehouse import store

SCHEMA: Literal["dq-measures/1"] = "dq-measures/1"
FOLDER = "reports/measures"
_KEY = re.compile(rf"/{FOLDER}/(\d{{4}}-\d\d-\d\d)/[^/]+\.json$")

_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    # A reader of today reads what a later version adds.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Day(_Part):
    """What was measured of a table on a day.

    ``span``: seconds of the window, None: the whole table; days of another span are not compared. ``lag``: seconds
    from the newest row to the end of the window (of a whole table: to the run), None without rows or date column.
    ``columns``: rows that are null and different values, None where these are not counted.
    """

    table: tuple[str, str, str]
    span: _Count | None
    rows: _Count
    lag: Annotated[float, Field(ge=0)] | None
    columns: dict[str, tuple[_Count, _Count | None]]

    @property
    def name(self) -> TableName:
        return TableName(*self.table)


class Measured(_Part):
    """The measures of one run and one day: the grain is a table."""

    schema_: Annotated[Literal["dq-measures/1"], Field(alias="schema")] = SCHEMA
    run_id: str
    started_at: AwareDatetime
    day: date
    tables: tuple[Day, ...]

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


@dataclass(frozen=True)
class Series:
    """The days before a day, by table and span. ``notes`` say what could not be read and is left out."""

    days: Mapping[tuple[TableName, int | None], Mapping[date, Day]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, table: TableName, span: int | None) -> Mapping[date, Day]:
        return self.days.get((table, span), {})


def day_of(window: Window, at: datetime) -> date:
    """The day (UTC) that a table's measures are of."""
    begins = window.start or at - timedelta(days=1)
    return begins.astimezone(UTC).date()


def measured(measures: Measures, at: datetime) -> Day:
    """A table's measures as history keeps them. ``at``: the moment of the run."""
    window = measures.window
    end = window.end or at
    span = None if window.start is None else round((end - window.start).total_seconds())
    lag = None if measures.newest is None else max(0.0, (end - measures.newest).total_seconds())
    name = measures.table
    columns = {column: (each.nulls, each.distinct) for column, each in sorted(measures.columns.items())}
    return Day(
        table=(name.database, name.schema, name.name), span=span, rows=measures.rows, lag=lag, columns=columns
    )


def write(bucket: str, run_id: str, at: datetime, measures: Sequence[Measures]) -> None:
    """Keep what a run measured; written again by another try of the run, it is replaced.

    ``at``: the moment of the run. Raises what S3 says.
    """
    ordered = sorted(measures, key=lambda each: (day_of(each.window, at), each.table))
    for day, group in groupby(ordered, key=lambda each: day_of(each.window, at)):
        rows = tuple(measured(each, at) for each in group)
        body = Measured(run_id=run_id, started_at=at, day=day, tables=rows).model_dump_json(by_alias=True)
        store.put(f"s3://{bucket}/{FOLDER}/{day}/{run_id}.json", body.encode())


def past(bucket: str, before: date, weeks: int = 8) -> Series:
    """What was measured of the days in the weeks before a day, itself left out.

    An object that is no such measure is left out and said in ``notes``. Raises what S3 says where it cannot be read.
    """
    first = before - timedelta(weeks=weeks)
    uris = [
        uri
        for month in _months(first, before)
        for uri in store.keys(f"s3://{bucket}/{FOLDER}/{month}")
        if first.isoformat() <= _day_in(uri) < before.isoformat()
    ]
    found: list[Measured] = []
    notes: list[str] = []
    for uri, body in store.get_each(uris):
        try:
            found.append(_parsed(uri, body))
        except ValueError as error:
            notes.append(f"history: {uri} is left out: {error}")
    return Series(_series(found), tuple(notes))


def _months(first: date, last: date) -> list[str]:
    days = (last - first).days
    return sorted({f"{first + timedelta(days=number):%Y-%m}" for number in range(days + 1)})


def _day_in(uri: str) -> str:
    """The day in a key; what has another form sorts outside every span."""
    match = _KEY.search(uri)
    return match.group(1) if match else ""


def _parsed(uri: str, body: bytes) -> Measured:
    """Raises ValueError with what is wrong, no value of the object in it."""
    try:
        found = Measured.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(
            f"received {len(body)} bytes that are no measures ({where}: {first['msg']})"
        ) from None
    if found.day.isoformat() != _day_in(uri):
        raise ValueError(f"received measures of {found.day}, expected {_day_in(uri)}")
    return found


def _series(found: Iterable[Measured]) -> dict[tuple[TableName, int | None], dict[date, Day]]:
    days: dict[tuple[TableName, int | None], dict[date, Day]] = {}
    # The latest run comes last, and wins.
    for run in sorted(found, key=lambda each: (each.started_at, each.run_id)):
        for line in run.tables:
            days.setdefault((line.name, line.span), {})[run.day] = line
    return days
