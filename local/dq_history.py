"""What earlier runs of the data-quality runner would have measured of the tables of ``dq_tables``, counted here.

Eight weeks of runs would take minutes. What a run keeps of a day is counted from the rows instead, by none of the
runner's SQL, and written by its own code; a test compares both for a day that was really run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from dq_runner import history
from dq_runner.model import ColumnMeasure, Measures, TableName, Window
from local.snowflake import orders
from local.snowflake.dq_tables import DATABASE, SCHEMA, Made, OrderRows, Shop

#: Types of which a run counts different values.
_COUNTED = ("VARCHAR", "NUMBER(38,0)", "DATE")
_ORDERS = TableName(DATABASE, orders.SCHEMA, orders.TABLE)


def write(bucket: str, made: Shop, sample: OrderRows, at: datetime) -> int:
    """Keep the measures of the days before the one under test; returns how many days.

    ``at``: the moment of the run under test; those before it ran at the same time of their days.
    """
    days = made.days[:-1]
    for day, of_orders in zip(days, _orders(sample, days, at, made.day), strict=True):
        found = [of_day(table, day) for table in made.tables if table.dated and table.read == "SELECT"]
        kept = [measures for measures in found if measures.rows]
        history.write(bucket, f"seeded-{day}", at - (made.day - day), [*kept, of_orders])
    return len(days)


def of_day(table: Made, day: date) -> Measures:
    """A table's rows of one day."""
    begins = datetime.combine(day, time(), UTC)
    rows = table.by_day.get(day, [])
    columns = {
        name: _measure((row[name] for row in rows), counted=kind in _COUNTED)
        for name, kind in table.columns.items()
    }
    newest = (
        max((row[table.dated].replace(tzinfo=UTC) for row in rows), default=None) if table.dated else None
    )
    name = TableName(DATABASE, SCHEMA, table.name)
    return Measures(name, Window(begins, begins + timedelta(days=1)), len(rows), newest, columns)


def _orders(sample: OrderRows, days: Sequence[date], at: datetime, last: date) -> Iterator[Measures]:
    """The orders as they were at the end of each day: the table is read whole. Its rows are in the order of loading."""
    place = sample.header.index(orders.LOADED_AT)
    rows = iter(sample.rows)
    waiting = next(rows, None)
    seen: dict[str, set[str]] = {name: set() for name in sample.header}
    nulls = dict.fromkeys(sample.header, 0)
    count, newest = 0, ""
    for day in days:
        while waiting is not None and waiting[place][:10] <= day.isoformat():
            count, newest = count + 1, waiting[place]
            for name, cell in zip(sample.header, waiting, strict=True):
                nulls[name] += not cell
                if cell:
                    seen[name].add(cell)
            waiting = next(rows, None)
        columns = {
            name: ColumnMeasure(nulls[name], len(seen[name]) if orders.COLUMNS[name] == orders.TEXT else None)
            for name in sample.header
        }
        # The day of a table that is read whole is the one before the run.
        moment = datetime.fromisoformat(newest).replace(tzinfo=UTC) if newest else None
        yield Measures(_ORDERS, Window(), count, moment, columns)


def _measure(cells: Iterable[Any], *, counted: bool) -> ColumnMeasure:
    found = list(cells)
    known = {cell for cell in found if cell is not None}
    return ColumnMeasure(found.count(None), len(known) if counted else None)
