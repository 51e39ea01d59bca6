"""SQL that people write in rules: proved to read and to do nothing else.

The proof is by parsing. What runs is made from the parsed tree, not from the text, so that what a comment or a string
hides cannot be read in another way by Snowflake. Functions that the parser does not know (a user's own, SYSTEM$…, an
external one) are refused: nobody can tell from the statement what they do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dq_runner import sql as names
from dq_runner.model import Table, TableName
from dq_runner.rules.codes import listed

_DIALECT = "snowflake"
# It logs what it takes for no SELECT, which is refused here with a word of its own.
logging.getLogger("sqlglot").setLevel(logging.ERROR)
#: ``{table}``: the table; ``{rows}``: its rows in the window.
_STANDS_FOR = {"{table}": "DQ__TABLE", "{rows}": "DQ__ROWS"}

_REFUSED: tuple[tuple[type[exp.Expr], str], ...] = (
    (exp.DML, "a statement that changes rows"),
    (exp.DDL, "a statement that changes objects"),
    (exp.Command, "a statement that is no SELECT"),
    (exp.Into, "INTO"),
    (exp.Lock, "a lock"),
    (exp.Parameter, "a variable"),
    (exp.SessionParameter, "a variable"),
    (exp.Placeholder, "a placeholder"),
    (exp.NextValueFor, "a sequence"),
)
#: Functions that the parser does not know by a class of their own, and that only compute.
_KNOWN = frozenset(
    listed("""
    ARRAY_EXCEPT CHARINDEX DIV0 DIV0NULL EDITDISTANCE EQUAL_NULL HASH HAVERSINE INSERT IS_NULL_VALUE
    JAROWINKLER_SIMILARITY OBJECT_KEYS PARSE_URL REGEXP_COUNT REGEXP_INSTR STRTOK TO_BINARY TO_CHAR TO_DECIMAL
    TO_NUMBER TO_NUMERIC TO_VARCHAR TRY_TO_DECIMAL TRY_TO_NUMBER TRY_TO_NUMERIC TYPEOF ZEROIFNULL
""")
)
#: Functions that the parser knows, and that do more than compute.
_ACTING = ("AI", "SYSTEM", "CORTEX")


@dataclass(frozen=True)
class Statement:
    """``counts``: its one value is a number of rows; else it lists them."""

    sql: str
    counts: bool


def parsed(text: str) -> exp.Query:
    """Raises ValueError, which says what the statement has to be, where it is not one SELECT without side effects."""
    for given, name in _STANDS_FOR.items():
        text = text.replace(given, name)
    found = _statements(text)
    if len(found) != 1:
        raise ValueError(f"one SELECT, not {len(found)} statements")
    (root,) = found
    if not isinstance(root, exp.Select | exp.SetOperation):
        raise ValueError(f"one SELECT, not {root.key.upper()}")
    _prove(root)
    _require_places(root)
    if _has_one_value(root) and len(root.expressions) != 1 and not root.args.get("having"):
        raise ValueError("one aggregate, which counts rows, or rows that are listed: this always has one row")
    return root


def _require_places(root: exp.Query) -> None:
    """The placeholders stand where a table does: a name in text or before a column would be left as it is."""
    for node in root.find_all(exp.Identifier, exp.Literal, exp.Var):
        is_table = isinstance(node.parent, exp.Table) and node.arg_key == "this" and not node.parent.db
        if not is_table and any(name in str(node.this).upper() for name in _STANDS_FOR.values()):
            raise ValueError(
                "{table} and {rows} after FROM or JOIN only, with an alias by which columns are named"
            )


def on(text: str, table: TableName, window: str) -> Statement:
    """The statement for one table. ``window`` is the condition of its window."""
    root = parsed(text)
    for node in list(root.find_all(exp.Table)):
        if node.name == _STANDS_FOR["{table}"]:
            _name(node, table)
        elif node.name == _STANDS_FOR["{rows}"]:
            rows = f"SELECT * FROM {names.full_name(table)} AS {names.ALIAS} WHERE {window}"
            kept = {name: node.args.get(name) for name in ("alias", "joins", "pivots", "sample")}
            node.replace(exp.Subquery(this=sqlglot.parse_one(rows, read=_DIALECT), **kept))
    return Statement(_text(root), _has_one_value(root) and len(root.expressions) == 1)


def _name(node: exp.Table, table: TableName) -> None:
    node.set("this", exp.to_identifier(table.name, quoted=True))
    node.set("db", exp.to_identifier(table.schema, quoted=True))
    node.set("catalog", exp.to_identifier(table.database, quoted=True))


def condition(text: str) -> exp.Expr:
    """A condition on one row. Raises ValueError where it is none."""
    found = _statements(f"SELECT 1 FROM T WHERE (\n{text}\n)")
    parts = {name for one in found for name, part in one.args.items() if part}
    where = found[0].args.get("where") if len(found) == 1 else None
    if (
        where is None
        or not isinstance(where.this, exp.Paren)
        or not parts <= {"expressions", "from_", "where"}
    ):
        raise ValueError("one condition on the columns of a row")
    given: exp.Expr = where.this.this
    _prove(given)
    for kind, what in (
        (exp.Query, "a query"),
        (exp.AggFunc, "an aggregate"),
        (exp.Window, "a window function"),
    ):
        if given.find(kind):
            raise ValueError(f"a condition on the columns of a row, without {what}")
    return given


def on_table(text: str, table: Table) -> str:
    """The condition with a table's own columns. Raises ValueError where it has one that the table lacks."""
    given = condition(text)
    holder = exp.Paren(this=given)
    for node in list(holder.find_all(exp.Column)):
        name = node.name if node.this.args.get("quoted") else node.name.upper()
        found = table.column(name)
        if found is None or node.table:
            raise ValueError(
                f"received the column {node.sql(dialect=_DIALECT)}, expected one of {table.name}"
            )
        node.replace(exp.column(exp.to_identifier(found.name, quoted=True), table=names.ALIAS))
    return _text(holder.this)


def _statements(text: str) -> list[exp.Expr]:
    try:
        return [
            one for one in sqlglot.parse(text, read=_DIALECT) if one and not isinstance(one, exp.Semicolon)
        ]
    except SqlglotError as error:
        errors = getattr(error, "errors", None)
        detail = errors[0] if errors else {}
        said = (
            f"{detail.get('description')} in line {detail.get('line')}"
            if detail
            else str(error).split("\n")[0]
        )
        raise ValueError(f"valid SQL of Snowflake: {said}") from None
    except RecursionError:
        raise ValueError("SQL with fewer levels") from None


def _prove(root: exp.Expr) -> None:
    for node in root.walk():
        problem = next(_problems(node), None)
        if problem is not None:
            raise ValueError(f"a statement that only reads, without {problem}")


def _problems(node: exp.Expr) -> Iterator[str]:
    # A query is DML to the parser, too.
    yield from (what for kind, what in _REFUSED if isinstance(node, kind) and not isinstance(node, exp.Query))
    if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc) and node.name.upper() not in _KNOWN:
        yield f"the function {node.name}, which is not known to have no effects"
    elif isinstance(node, exp.Func) and node.sql_name().startswith(_ACTING):
        yield f"the function {node.sql_name()}"
    if isinstance(node, exp.Column) and node.table and node.name.upper() == "NEXTVAL":
        yield "a sequence"
    if isinstance(node, exp.Var) and node.name.startswith("@"):
        yield "a stage"


def _has_one_value(root: exp.Query) -> bool:
    """Whether a statement has one row whatever there is: of aggregates, or of queries within it."""
    if not isinstance(root, exp.Select) or root.args.get("group"):
        return False
    if root.args.get("from_") is None:
        return root.args.get("where") is None
    return any(
        not found.find_ancestor(exp.Window, exp.Subquery)
        for chosen in root.expressions
        for found in chosen.find_all(exp.AggFunc)
    )


def _text(root: exp.Expr) -> str:
    return root.sql(dialect=_DIALECT, comments=False)
