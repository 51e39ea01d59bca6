"""What Athena refuses for its types and DuckDB would convert without a word: a column compared with a text.

The words and the places are Trino's: of a comparison the operator, of IN the first item that does not fit.
"""

from __future__ import annotations

import re

from sqlglot import exp

from local.aws.athena_words import QueryError, offset_of, place_of

Kind = exp.DataType.Type
# All instants of the lake have a zone; DuckDB is shown them in UTC without it.
INSTANTS = (Kind.TIMESTAMP, Kind.TIMESTAMPNTZ)
# Trino turns > into < before it looks for the operator, and <> into =.
OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "=",
    exp.LT: "<",
    exp.GT: "<",
    exp.LTE: "<=",
    exp.GTE: "<=",
}
NAMES = {
    Kind.INT: "integer",
    Kind.FLOAT: "real",
    **dict.fromkeys(INSTANTS, "timestamp(3) with time zone"),
}
TYPED = {Kind.BOOLEAN, Kind.DATE, *INSTANTS, *exp.DataType.NUMERIC_TYPES}


def refuse_texts(sql: str, tree: exp.Expr) -> None:
    """Raises QueryError (TYPE_MISMATCH) where a column that is no text meets a text; needs the nodes' types."""
    for node in tree.walk():
        if type(node) in OPERATORS:
            _comparison(sql, node)
        elif isinstance(node, exp.Between):
            _between(sql, node)
        elif isinstance(node, exp.In):
            _in(sql, node)


def _comparison(sql: str, node: exp.Expr) -> None:
    left, right = node.args["this"], node.args["expression"]
    if (_typed(left) and _text(right)) or (_text(left) and _typed(right)):
        words = f"Cannot apply operator: {_name(left)} {OPERATORS[type(node)]} {_name(right)}"
        raise _mismatch(sql, _behind(sql, left, r"[<>=!]"), words)


def _between(sql: str, node: exp.Between) -> None:
    value, low, high = node.this, node.args["low"], node.args["high"]
    if _typed(value) and (_text(low) or _text(high)):
        words = f"Cannot check if {_name(value)} is BETWEEN {_name(low)} and {_name(high)}"
        raise _mismatch(sql, _behind(sql, value, r"\b(NOT|BETWEEN)\b"), words)


def _in(sql: str, node: exp.In) -> None:
    wrong = [item for item in node.expressions if _text(item)] if _typed(node.this) else []
    if wrong:
        kinds = ", ".join(dict.fromkeys(_name(each) for each in (node.this, *node.expressions)))
        words = (
            "IN value and list items must be the same type or coercible to a common type. Cannot find common type "
            f"between {_name(node.this)} and {_name(wrong[0])}, all types (without duplicates): [{kinds}]"
        )
        raise _mismatch(sql, _start(wrong[0]), words)


def _mismatch(sql: str, offset: int, words: str) -> QueryError:
    return QueryError(f"TYPE_MISMATCH: line {place_of(sql, offset)}: {words}")


def _typed(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and node.type is not None and node.type.this in TYPED


def _text(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and node.is_string


def _name(node: exp.Expr) -> str:
    """The type in Trino's words; that of a text has its length."""
    if _text(node):
        return f"varchar({len(node.name)})"
    kind = node.type
    return NAMES.get(kind.this, kind.sql("trino").lower()) if kind is not None else "unknown"


def _start(node: exp.Expr) -> int:
    return int(node.meta.get("start", 0)) if isinstance(node, exp.Literal) else offset_of(node)


def _behind(sql: str, node: exp.Expr, pattern: str) -> int:
    """Where an operator begins that comes behind an operand."""
    ends = [each.meta["end"] for each in node.walk() if "end" in each.meta]
    found = re.compile(pattern, re.I).search(sql, max(ends, default=0) + 1)
    return found.start() if found else _start(node)
