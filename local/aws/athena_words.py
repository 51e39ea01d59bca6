"""How Athena says things: types, printed values, positions and error messages."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from dataclasses import dataclass
from typing import Any

from sqlglot import exp


class QueryError(Exception):
    """What Athena would report as the StateChangeReason; `malformed` statements are refused when submitted."""

    def __init__(self, message: str, malformed: bool = False):
        super().__init__(message)
        self.malformed = malformed


@dataclass(frozen=True)
class Column:
    """A column of a result, typed as Athena names types."""

    name: str
    type: str
    precision: int = 0
    scale: int = 0


def place_of(text: str, offset: int) -> str:
    """line:column of an offset, both counted from one."""
    return f"{text.count(chr(10), 0, offset) + 1}:{offset - (text.rfind(chr(10), 0, offset) + 1) + 1}"


def offset_of(node: exp.Expr) -> int:
    starts = [i.meta["start"] for i in node.find_all(exp.Identifier) if "start" in i.meta]
    return min(starts) if starts else int(node.meta.get("start", 0))


TYPES = {
    "BOOLEAN": ("boolean", 0),
    "TINYINT": ("tinyint", 3),
    "SMALLINT": ("smallint", 5),
    "INTEGER": ("integer", 10),
    "BIGINT": ("bigint", 19),
    "HUGEINT": ("bigint", 19),
    "UBIGINT": ("bigint", 19),
    "UINTEGER": ("bigint", 19),
    "USMALLINT": ("integer", 10),
    "UTINYINT": ("smallint", 5),
    "FLOAT": ("float", 17),
    "DOUBLE": ("double", 17),
    "VARCHAR": ("varchar", 2147483647),
    "BLOB": ("varbinary", 1073741824),
    "DATE": ("date", 0),
    "TIME": ("time", 3),
    "INTERVAL": ("interval day to second", 0),
    "JSON": ("json", 0),
    "UUID": ("varchar", 36),
}


def column_of(name: str, kind: str) -> Column:
    decimal_type = re.fullmatch(r"DECIMAL\((\d+),\s?(\d+)\)", kind)
    if decimal_type:
        return Column(name, "decimal", int(decimal_type[1]), int(decimal_type[2]))
    if kind.startswith("TIMESTAMP WITH TIME ZONE"):
        return Column(name, "timestamp with time zone", 3)
    if kind.startswith("TIMESTAMP"):
        return Column(name, "timestamp", 3)
    if kind.endswith("]"):
        return Column(name, "array")
    if kind.startswith("STRUCT"):
        return Column(name, "row")
    if kind.startswith("MAP"):
        return Column(name, "map")
    athena, precision = TYPES.get(kind, ("varchar", 2147483647))
    return Column(name, athena, precision)


def printed(value: Any, kind: str = "") -> str | None:
    """A value as Athena prints it; None for null."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, dt.datetime):
        rounded = value.replace(tzinfo=None) + dt.timedelta(microseconds=500)
        shown = f"{rounded:%Y-%m-%d %H:%M:%S}.{rounded.microsecond // 1000:03d}"
        return f"{shown} UTC" if value.tzinfo is not None else shown
    if isinstance(value, dt.time):
        return f"{value:%H:%M:%S}.{value.microsecond // 1000:03d}"
    if isinstance(value, dt.timedelta):
        seconds, rest = divmod(value, dt.timedelta(seconds=1))
        days, seconds = divmod(seconds, 86400)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        return f"{days} {clock}.{rest.microseconds // 1000:03d}"
    if isinstance(value, bytes | bytearray):
        return " ".join(f"{b:02x}" for b in value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(printed(v) or "null" for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}={printed(v) or 'null'}" for k, v in value.items()) + "}"
    return str(value)


def _double(value: float) -> str:
    """Java's Double.toString."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        shown = format(decimal.Decimal(repr(value)), "f")
        return shown if "." in shown else shown + ".0"
    digits, exponent = f"{decimal.Decimal(repr(value)):E}".split("E")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{digits if '.' in digits else digits + '.0'}E{int(exponent)}"


def translate_error(sql: str, tree: exp.Expr | None, error: Exception) -> QueryError:
    """Athena's words for what DuckDB complains about."""
    message = str(error)
    column = re.search(r'Referenced column "([^"]+)"|does not have a column named "([^"]+)"', message)
    qualifier = re.search(r'Referenced table "([^"]+)" not found', message)
    if column or qualifier:
        return _column_not_found(sql, tree, column and (column[1] or column[2]), qualifier and qualifier[1])
    function = re.search(
        r"(?:Scalar |Aggregate |Table |Macro )?Function with name \"?(\w+)\"? does not exist", message
    )
    if function:
        name = function[1].lower()
        position = sql.lower().find(name + "(")
        return QueryError(
            f"FUNCTION_NOT_FOUND: line {place_of(sql, max(0, position))}: Function '{name}' not registered (locally; "
            "the function may exist on Athena)"
        )
    ambiguous = re.search(r'Ambiguous reference to column name "([^"]+)"', message)
    if ambiguous and tree is not None:
        node = next(
            (c for c in tree.find_all(exp.Column) if c.name.lower() == ambiguous[1].lower() and not c.table),
            None,
        )
        at = place_of(sql, offset_of(node)) if node is not None else "1:1"
        return QueryError(f"AMBIGUOUS_NAME: line {at}: Column '{ambiguous[1]}' is ambiguous")
    if "Division by zero" in message:
        return QueryError("DIVISION_BY_ZERO: Division by zero")
    first = message.splitlines()[0]
    kind, _, rest = first.partition(": ")
    if "must appear in the GROUP BY clause" in first:
        return _not_aggregate(sql, tree, rest)
    if kind == "Conversion Error":
        return QueryError(f"INVALID_CAST_ARGUMENT: {_cast(rest)}")
    if "Binder" in kind:
        return QueryError(f"TYPE_MISMATCH: line 1:1: {rest}")
    return QueryError(f"GENERIC_USER_ERROR: {first}")


def _not_aggregate(sql: str, tree: exp.Expr | None, message: str) -> QueryError:
    found = re.match(r'column "([^"]+)" must', message)
    nodes = [c for c in tree.find_all(exp.Column) if found and c.name == found[1]] if tree is not None else []
    if not nodes:
        return QueryError(f"EXPRESSION_NOT_AGGREGATE: line 1:1: {message}")
    first = min(nodes, key=offset_of)
    return QueryError(
        f"EXPRESSION_NOT_AGGREGATE: line {place_of(sql, offset_of(first))}: '{first.sql('athena').lower()}' must be an "
        "aggregate expression or appear in GROUP BY clause"
    )


#: DuckDB's names of types in its messages, as Trino's messages have them.
CASTS = {
    "INT8": "TINYINT",
    "INT16": "SMALLINT",
    "INT32": "INT",
    "INT64": "BIGINT",
    "FLOAT": "REAL",
    "BOOL": "BOOLEAN",
}


def _cast(message: str) -> str:
    """Trino's words for a text that is no value of a type; other conversions keep DuckDB's."""
    text = re.match(r"Could not convert string (['\"])(.*)\1 to (\w+)(?:\((\d+),(\d+)\))?", message, re.S)
    if text and text[4]:
        return f"Cannot cast VARCHAR '{text[2]}' to DECIMAL({text[4]}, {text[5]}). Value is not a number."
    if text:
        return f"Cannot cast '{text[2]}' to {CASTS.get(text[3], text[3])}"
    moment = re.match(
        r'(?:invalid )?(date|timestamp) field (?:value out of range|format): "(.*?)"', message, re.S
    )
    return f"Value cannot be cast to {moment[1]}: {moment[2]}" if moment else message


def _column_not_found(sql: str, tree: exp.Expr | None, name: str | None, table: str | None) -> QueryError:
    """`name` is a column that no table has, `table` one that no FROM has."""
    columns = tree.find_all(exp.Column) if tree is not None else iter(())
    found = next(
        (
            c
            for c in columns
            if (name and c.name.lower() == name.lower()) or (table and c.table.lower() == table.lower())
        ),
        None,
    )
    at = place_of(sql, offset_of(found)) if found is not None else "1:1"
    shown = (found.sql("athena") if found is not None else name or table or "").lower()
    return QueryError(
        f"COLUMN_NOT_FOUND: line {at}: Column '{shown}' cannot be resolved or requester is not authorized to access "
        "requested resources"
    )
