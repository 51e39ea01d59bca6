"""Names and values as Snowflake's SQL has them: the one place where either becomes part of a statement.

All of it means the same to the local Snowflake: times are cast with their zone written out, text escapes backslashes
and quotes, numbers are written in full.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from dq_runner.model import Column, TableName, Window

#: The table that is looked at, in every query.
ALIAS = "T"


def quoted(name: str) -> str:
    """An identifier as it is, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def full_name(table: TableName) -> str:
    return ".".join(quoted(part) for part in (table.database, table.schema, table.name))


def column(name: str, of: str = ALIAS) -> str:
    return f"{of}.{quoted(name)}"


def text(value: str) -> str:
    """A string literal: Snowflake reads backslashes in it as escapes."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def moment(value: datetime, kind: str) -> str:
    """A moment in UTC, as a literal of a column's type: it compares without a cast of the column, which would keep
    Snowflake from leaving out partitions.
    """
    utc = value.astimezone(UTC)
    if kind == "DATE":
        # A date is the midnight with which it begins: what is before this moment began before the next midnight.
        begins = utc.replace(hour=0, minute=0, second=0, microsecond=0)
        return day((begins if begins == utc else begins + timedelta(days=1)).date())
    written = utc.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    zone = " +00:00" if kind in ("TIMESTAMP_TZ", "TIMESTAMP_LTZ") else ""
    return f"'{written}{zone}'::{kind if zone else 'TIMESTAMP_NTZ'}"


def day(value: date) -> str:
    return f"'{value.isoformat()}'::DATE"


def within(window: Window, date_column: Column | None) -> str:
    """The condition of a window; empty for the whole table. Raises ValueError where the table has no date."""
    if window.whole:
        return ""
    if date_column is None:
        raise ValueError("the table has no date column")
    name = column(date_column.name)
    bounds = [] if window.start is None else [f"{name} >= {moment(window.start, date_column.type)}"]
    bounds += [] if window.end is None else [f"{name} < {moment(window.end, date_column.type)}"]
    return " AND ".join(bounds)


def literal(value: Any, of: Column) -> str:
    """A declared value as a literal of a column's type. Raises ValueError, which says what the column takes."""
    try:
        return _LITERALS[of.family](value, of)
    except (KeyError, ValueError, ArithmeticError):
        raise ValueError(
            f"received {value!r}, expected {_TAKES.get(of.family, 'no value')}, for {of.name} is {of.type}"
        ) from None


def _text(value: Any, of: Column) -> str:
    if isinstance(value, bool):
        raise ValueError
    return text(
        value if isinstance(value, str) else f"{value:f}" if isinstance(value, Decimal) else str(value)
    )


def _number(value: Any, of: Column) -> str:
    number = Decimal(value if isinstance(value, str | Decimal) else int(value))
    if isinstance(value, bool) or not number.is_finite() or len(f"{number:f}") > 40:
        raise ValueError
    return f"({number:f})" if number < 0 else f"{number:f}"


def _float(value: Any, of: Column) -> str:
    if isinstance(value, bool):
        raise ValueError
    return f"'{float(value)!r}'::FLOAT"


def _boolean(value: Any, of: Column) -> str:
    if not isinstance(value, bool):
        raise ValueError
    return "TRUE" if value else "FALSE"


def _date(value: Any, of: Column) -> str:
    return day(date.fromisoformat(_string(value)))


def _timestamp(value: Any, of: Column) -> str:
    found = datetime.fromisoformat(_string(value))
    return moment(found if found.tzinfo else found.replace(tzinfo=UTC), of.type)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


_LITERALS = {
    "text": _text,
    "integer": _number,
    "decimal": _number,
    "float": _float,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
}
_TAKES = {
    "text": "text",
    "integer": "a number",
    "decimal": "a number",
    "float": "a number",
    "boolean": "true or false",
    "date": "a day, as 2026-01-31",
    "timestamp": "a day or time in UTC, as 2026-01-31 or 2026-01-31T09:30:00",
}
