"""Tables of the local Snowflake for tests of rules, and the same rules in plain Python: an independent count."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from dq_runner import sql
from dq_runner.model import Column, Family, Rule, Table, TableName, Window
from dq_runner.scan import Answer, Plan

Row = Mapping[str, Any]

AT = datetime(2026, 11, 29, 6, tzinfo=UTC)
YESTERDAY = Window(datetime(2026, 11, 28, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC))
WHOLE = Window()
FAMILIES: dict[str, Family] = {
    "TEXT": "text",
    "NUMBER": "decimal",
    "INTEGER": "integer",
    "FLOAT": "float",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP_NTZ": "timestamp",
    "TIMESTAMP_LTZ": "timestamp",
    "TIMESTAMP_TZ": "timestamp",
    "VARIANT": "other",
}
_DDL = {"NUMBER": "NUMBER(18,2)", "INTEGER": "NUMBER(38,0)"}


def table(
    name: str, columns: Mapping[str, str], date_column: str | None = None, schema: str = "PUBLIC"
) -> Table:
    made = tuple(Column(each, kind, FAMILIES[kind]) for each, kind in columns.items())
    dated = next((column for column in made if column.name == date_column), None)
    return Table(TableName("DB", schema, name), "table", made, dated)


@contextmanager
def snowflake() -> Iterator[Any]:
    """A cursor of the local Snowflake, in this process."""
    import fakesnow
    from snowflake import connector

    with fakesnow.patch(), connector.connect(database="DB", schema="PUBLIC") as connection:
        yield connection.cursor()


def create(cursor: Any, made: Table, rows: Sequence[Row]) -> None:
    columns = ", ".join(
        f"{sql.quoted(column.name)} {_DDL.get(column.type, column.type)}" for column in made.columns
    )
    cursor.execute(f"CREATE OR REPLACE TABLE {sql.full_name(made.name)} ({columns})")
    if rows:
        values = ", ".join(
            f"({', '.join(_literal(row.get(column.name), column) for column in made.columns)})"
            for row in rows
        )
        cursor.execute(f"INSERT INTO {sql.full_name(made.name)} SELECT * FROM VALUES {values}")


def _literal(value: Any, column: Column) -> str:
    if value is None:
        return f"NULL::{_DDL.get(column.type, column.type)}"
    if isinstance(value, datetime):
        zone = value.strftime("%z") if value.tzinfo else ""
        zone = f" {zone[:3]}:{zone[3:]}" if zone else ""
        return f"'{value.replace(tzinfo=None).isoformat(sep=' ')}{zone}'::{column.type}"
    if isinstance(value, date):
        return f"'{value}'::DATE"
    if isinstance(value, float):
        return f"'{value!r}'::FLOAT"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, Decimal | int):
        return f"{value}::{_DDL[column.type]}"
    return sql.text(value)


def ask(cursor: Any, plan: Plan) -> dict[int, Answer]:
    """The answers of all queries of a plan."""
    return {number: answer(cursor, query.sql) for number, query in enumerate(plan.queries)}


def answer(cursor: Any, statement: str) -> Answer:
    cursor.execute(statement)
    names = [column[0] for column in cursor.description]
    return Answer([dict(zip(names, row, strict=True)) for row in cursor.fetchall()])


#: Conditions of rules, in SQL and in Python.
CONDITIONS: dict[str, Callable[[Row], bool]] = {
    "": lambda row: True,
    "flag": lambda row: row["FLAG"] is True,
    "NOT flag OR AMOUNT > 0": lambda row: (
        row["FLAG"] is False or (row["AMOUNT"] is not None and row["AMOUNT"] > 0)
    ),
}


# The same in Python ------------------------------------------------------------------------------------------------


def inside(made: Table, rows: Sequence[Row], window: Window) -> list[Row]:
    """The rows of a window."""
    if window.whole:
        return list(rows)
    assert made.date_column is not None
    assert window.start is not None
    assert window.end is not None
    dates = [(row, row[made.date_column.name]) for row in rows]
    return [row for row, value in dates if value is not None and window.start <= moment(value) < window.end]


def moment(value: date | datetime) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def failed(
    rule: Rule, made: Table, rows: Sequence[Row], window: Window, parents: Collection[Any] = ()
) -> int:
    """The rows that break a rule, counted row by row; ``parents``: keys that are there to be found."""
    rows = [row for row in rows if CONDITIONS[rule.params.get("where", "")](row)]
    window = WHOLE if rule.params.get("window") == "whole" else window
    seen = inside(made, rows, window)
    is_dated = made.date_column is not None and rule.columns == (made.date_column.name,)
    if rule.kind in ("not_null", "not_in_future") and is_dated:
        seen = list(rows)
    if rule.kind == "unique":
        return _beyond_first(rule, rows, seen)
    if rule.kind == "referential":
        return sum(_key(rule, row) not in parents for row in seen if None not in _key(rule, row))
    return sum(_breaks(rule, row[rule.columns[0]]) for row in seen)


def _key(rule: Rule, row: Row) -> tuple[Any, ...]:
    return tuple(_comparable(row[name]) for name in rule.columns)


def _comparable(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _beyond_first(rule: Rule, rows: Sequence[Row], seen: Sequence[Row]) -> int:
    everywhere = Counter(key for row in rows if None not in (key := _key(rule, row)))
    counted = Counter(key for row in seen if None not in (key := _key(rule, row)))
    if rule.origin == "convention":
        everywhere = counted
    return sum(number - (everywhere[key] == number) for key, number in counted.items())


def _breaks(rule: Rule, value: Any) -> bool:
    if rule.kind == "not_null":
        return value is None
    if value is None:
        return False
    if rule.kind == "accepted_values":
        return value not in rule.params["values"]
    if rule.kind == "regex":
        return re.fullmatch(rule.params["pattern"].replace("[:space:]", r"\s"), value, re.ASCII) is None
    if rule.kind == "not_in_future":
        last = AT + timedelta(hours=1)
        return value > last.date() if type(value) is date else moment(value) > last
    return not _in_range(value, rule.params.get("min"), rule.params.get("max"))


def _in_range(value: Any, least: Any, most: Any) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return False
    if isinstance(value, float):  # a bound is the float that is nearest to it
        least, most = (None if each is None else float(each) for each in (least, most))
    if isinstance(value, date):
        value, least, most = (_time(each) for each in (value, least, most))
    return (least is None or value >= least) and (most is None or value <= most)


def _time(value: Any) -> datetime | None:
    return (
        None if value is None else moment(datetime.fromisoformat(value) if isinstance(value, str) else value)
    )


def days_ago(days: float) -> datetime:
    """A time without zone (UTC) so many days before the run."""
    return (AT - timedelta(days=days)).replace(tzinfo=None)
