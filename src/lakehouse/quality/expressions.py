"""SQL expressions of a fix file: a value from the row's own fields, and nothing else.

A fix is written by one person and reviewed by another, but it runs with the rights of a job. So an expression is taken
apart by Spark's own parser and walked: what is not on a list is refused, by name. Nothing is looked for that is
forbidden; only what is allowed passes. Spark then analyses it against the fields alone, as text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.contracts import quote
from lakehouse.session import local_frame

MAX_CHARACTERS = 1_000
# How deep Spark's parser can go depends on what the JVM has compiled so far: what passes today has to pass tomorrow.
MAX_PARENTHESES = 100
_MAX_PADDED = 1_000

# Node classes of Spark's parser (org.apache.spark.sql.catalyst) that compute a value from values.
_NODES = frozenset(
    {
        "Literal", "UnresolvedAttribute", "UnresolvedFunction", "CaseWhen", "Cast",
        "Add", "Subtract", "Multiply", "Divide", "IntegralDivide", "Remainder", "UnaryMinus", "UnaryPositive",
        "EqualTo", "EqualNullSafe", "LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual",
        "And", "Or", "Not", "In", "IsNull", "IsNotNull", "Between", "Like", "ILike", "RLike",
        "Concat", "Substring", "StringTrim", "StringTrimLeft", "StringTrimRight", "StringReplace", "StringLocate",
    }
)  # fmt: skip
# Built-in scalar functions that give the same answer for the same arguments, always and everywhere.
FUNCTIONS = (
    "abs", "between", "bround", "btrim", "ceil", "ceiling", "char_length", "coalesce", "concat", "concat_ws",
    "contains", "date_add", "date_format", "date_sub", "decimal", "endswith", "extract", "floor", "from_utc_timestamp",
    "get_json_object", "greatest", "if", "ifnull", "ilike", "initcap", "instr", "isnotnull", "isnull", "least", "left",
    "length", "like", "lower", "lpad", "ltrim", "nullif", "nvl", "nvl2", "regexp_extract", "regexp_like",
    "regexp_replace", "replace", "right", "rlike", "round", "rpad", "rtrim", "sign", "split_part", "startswith",
    "substr", "substring", "substring_index", "timestamp_micros", "timestamp_millis", "timestamp_seconds", "to_date",
    "to_timestamp", "to_utc_timestamp", "translate", "trim", "try_add", "try_divide", "try_multiply", "try_subtract",
    "try_to_number", "try_to_timestamp", "upper",
)  # fmt: skip
_ALLOWED = (
    "only the row's fields, text, numbers, CASE, arithmetic, comparisons, CAST, TRY_CAST "
    f"and the functions {', '.join(FUNCTIONS)}"
)
_AN_EXPRESSION = "an SQL expression over the row's fields, which are text"
_REPLACEABLE = "org.apache.spark.sql.catalyst.expressions.RuntimeReplaceable"
_TEMPORAL = frozenset({"DateType", "TimestampType", "TimestampNTZType"})


def refusal(spark: SparkSession, sql: str, fields: Collection[str]) -> tuple[str, str] | None:
    """Why an expression may not be used, as what was received and what was expected; None where it may.

    ``fields`` are the names that it may speak of; each is text.
    """
    if len(sql) > MAX_CHARACTERS:
        return f"{len(sql)} characters", f"at most {MAX_CHARACTERS}"
    if (opened := sql.count("(")) > MAX_PARENTHESES:
        return f"{opened} opening parentheses", f"at most {MAX_PARENTHESES}"
    try:
        tree = spark._jsparkSession.sessionState().sqlParser().parseExpression(sql)
    except (PySparkException, Py4JJavaError) as error:
        return f"no SQL expression: {_first_line(error)}", _AN_EXPRESSION
    for node in _walk(spark.sparkContext._gateway, tree):
        found = _forbidden(node, fields)
        if found is not None:
            return found, _ALLOWED
    return _unanalysable(spark, sql, fields)


def _walk(gateway: Any, node: Any) -> Iterator[Any]:
    yield node
    children = node.children()
    for index in range(children.size()):
        yield from _walk(gateway, children.apply(index))
    if is_instance_of(gateway, node, _REPLACEABLE):
        # What Spark will run in its place; it is not always among the children.
        yield from _walk(gateway, node.replacement())


def _forbidden(node: Any, fields: Collection[str]) -> str | None:
    kind = str(node.getClass().getSimpleName())
    if kind not in _NODES:
        return f"{_words(node)} ({kind})"
    if kind == "UnresolvedAttribute":
        parts = _strings(node.nameParts())
        if len(parts) != 1 or parts[0] not in fields:
            known = ", ".join(sorted(fields))
            return f"the name {'.'.join(parts)}, which is no field of the row ({known})"
    elif kind == "UnresolvedFunction":
        parts = _strings(node.nameParts())
        if len(parts) != 1 or parts[0].lower() not in FUNCTIONS or node.isDistinct():
            return f"the function {'.'.join(parts)}"
        if parts[0].lower() in ("lpad", "rpad") and not _is_small(node):
            return f"{parts[0]} to a length that is no number up to {_MAX_PADDED}"
    elif kind == "Literal" and node.dataType().getClass().getSimpleName().rstrip("$") in _TEMPORAL:
        # TIMESTAMP 'now' is a literal, too.
        return f"the literal {_words(node)}; write times as text and convert them"
    return None


def _is_small(node: Any) -> bool:
    arguments = node.children()
    length = arguments.apply(1) if arguments.size() > 1 else None
    if length is None or length.getClass().getSimpleName() != "Literal":
        return False
    text = str(length.toString())
    return text.isascii() and text.isdigit() and int(text) <= _MAX_PADDED


def _unanalysable(spark: SparkSession, sql: str, fields: Collection[str]) -> tuple[str, str] | None:
    """What Spark says of the expression over nothing but text columns; whether it could read the clock after all."""
    frame = local_frame(spark, [], ", ".join(f"{quote(name)} string" for name in fields))
    try:
        chosen = frame.select(F.expr(sql).try_cast("string").alias("value"))
        plan = chosen._jdf.queryExecution().analyzed()
        tree = plan.expressions().apply(0)
        for node in _walk(spark.sparkContext._gateway, tree):
            # Spark reads 'now' and 'today' where constant text becomes a time.
            if node.getClass().getSimpleName() == "Cast" and _reads_clock(node):
                return f"{_words(node)}, a time made of constant text", _ALLOWED
        if not tree.deterministic():
            return "an expression whose value changes from call to call", _ALLOWED
    except (PySparkException, Py4JJavaError) as error:
        return f"what Spark cannot evaluate: {_first_line(error)}", _AN_EXPRESSION
    return None


def _reads_clock(cast: Any) -> bool:
    target = cast.dataType().getClass().getSimpleName().rstrip("$")
    child = cast.child()
    return (
        target in _TEMPORAL
        and child.foldable()
        and child.dataType().getClass().getSimpleName().startswith("StringType")
    )


def _strings(names: Any) -> list[str]:
    return [str(names.apply(index)) for index in range(names.size())]


def _words(node: Any) -> str:
    text = " ".join(str(node.toString()).split())
    return text if len(text) <= 80 else text[:79] + "…"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
