"""Athena's SQL over the Delta tables of the Glue catalog: read by sqlglot, run by DuckDB, spoken like Athena.

Only statements that read are known. DuckDB behind a translator is good for looking around and for joins, filters and
aggregates; it is no proof that a query means the same on Athena (see NOTES at the end for what is corrected here).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope

from local.aws.athena_checks import refuse_texts
from local.aws.athena_words import (
    Column,
    QueryError,
    column_of,
    offset_of,
    place_of,
    printed,
    translate_error,
)

CATALOG = "awsdatacatalog"
NAME = r'(?:"[^"]+"|`[^`]+`|\w+)'
SHOW_TABLES = re.compile(rf"^SHOW\s+TABLES(?:\s+(?:IN|FROM)\s+({NAME}))?(?:\s+(?:LIKE\s+)?'([^']*)')?$", re.I)
SHOW_DATABASES = re.compile(r"^SHOW\s+(?:DATABASES|SCHEMAS)(?:\s+(?:LIKE\s+)?'([^']*)')?$", re.I)
SHOW_COLUMNS = re.compile(
    rf"^SHOW\s+COLUMNS\s+(?:IN|FROM)\s+(?:({NAME})\.)?({NAME})(?:\s+(?:IN|FROM)\s+({NAME}))?$", re.I
)
DESCRIBE = re.compile(rf"^(?:DESCRIBE|DESC)\s+(?:EXTENDED\s+|FORMATTED\s+)?(?:({NAME})\.)?({NAME})$", re.I)
SHOW_CREATE_TABLE = re.compile(rf"^SHOW\s+CREATE\s+TABLE\s+(?:({NAME})\.)?({NAME})$", re.I)
SHOW_PARTITIONS = re.compile(rf"^SHOW\s+PARTITIONS\s+(?:({NAME})\.)?({NAME})$", re.I)
# Statements of Athena that write, or belong to the workgroup; sqlglot knows them as words only.
WRITING = {"UNLOAD", "ALTER", "MSCK", "VACUUM", "OPTIMIZE", "MERGE", "PREPARE", "EXECUTE", "DEALLOCATE"}
# Statements of which Athena has more than this one.
ELSEWHERE = {
    "SHOW": "SHOW DATABASES, SCHEMAS, TABLES, COLUMNS, CREATE TABLE and PARTITIONS",
    "EXPLAIN": "EXPLAIN of a query, without ANALYZE",
}
EXPLAIN = re.compile(r"^EXPLAIN\s+(?:\([^)]*\)\s*)?(?!ANALYZE\b)", re.I)
# Columns that every Delta table has and SELECT * leaves out: of which object a row is.
HIDDEN = ("$path", "$file_size", "$file_modified_time")
READING = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
# Java's date patterns, as far as DuckDB's strftime has them; longest first.
JODA = {
    "yyyy": "%Y",
    "YYYY": "%G",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "dd": "%d",
    "HH": "%H",
    "hh": "%I",
    "mm": "%M",
    "ss": "%S",
    "SSS": "%g",
    "EEEE": "%A",
    "EEE": "%a",
    "yy": "%y",
    "a": "%p",
    "M": "%-m",
    "d": "%-d",
    "H": "%-H",
    "DDD": "%j",
    "xx": "%V",
    "ww": "%V",
}


@dataclass
class Table:
    """A table of the catalog: its location and the columns Glue shows."""

    database: str
    name: str
    location: str
    columns: list[tuple[str, str, str]]
    delta: bool = True


Catalog = dict[str, dict[str, Table]]


@dataclass
class Statement:
    """A statement that may run: what it is and, for queries, its tree."""

    sql: str
    kind: str  # DML, DDL or UTILITY, as Athena sorts them
    substatement: str
    tree: exp.Expr | None = None
    lines: Callable[[Catalog, str], tuple[list[Column], list[str]]] | None = None
    explain: bool = False


@dataclass
class Result:
    columns: list[Column]
    rows: Iterator[list[str | None]]
    header: bool
    scanned: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


# -- reading a statement -------------------------------------------------------------------------------------


def parse(sql: str, parameters: list[str] | None = None) -> Statement:
    """Take a statement apart without running it.

    Raises QueryError(malformed) for what Athena refuses on submission: syntax errors, several statements, and (here)
    everything that writes.
    """
    text = sql.strip().rstrip(";").strip()
    bare = re.sub(r"--[^\n]*", " ", re.sub(r"/\*.*?\*/", " ", text, flags=re.S)).strip()
    if not bare:
        raise QueryError("Query string is empty", malformed=True)
    for pattern, make in (
        (SHOW_TABLES, _show_tables),
        (SHOW_DATABASES, _show_databases),
        (SHOW_COLUMNS, _show_columns),
        (DESCRIBE, _describe),
        (SHOW_CREATE_TABLE, _show_create_table),
        (SHOW_PARTITIONS, _show_partitions),
    ):
        match = pattern.match(re.sub(r"\s+", " ", bare))
        if match:
            return make(text, match)
    explain = EXPLAIN.match(bare)
    if explain:
        inner = parse(bare[explain.end() :], parameters)
        if inner.tree is None:
            raise QueryError("Only SELECT queries can be explained", malformed=True)
        return Statement(text, "UTILITY", "EXPLAIN", inner.tree, explain=True)
    try:
        trees = [t for t in sqlglot.parse(text, read="athena") if t is not None]
    except sqlglot.errors.ParseError as e:
        quoted = re.sub(r"'[^']*'|\"[^\"]*\"", lambda m: "x" * len(m[0]), text).find("`")
        if quoted >= 0:
            raise QueryError(
                f"line {place_of(text, quoted)}: backquoted identifiers are not supported; use double quotes to quote "
                "identifiers",
                malformed=True,
            ) from e
        raise _syntax_error(text, e) from e
    except sqlglot.errors.TokenError as e:
        raise QueryError(f"line 1:1: {str(e).splitlines()[0]}", malformed=True) from e
    if len(trees) != 1:
        raise QueryError("Only one sql statement is allowed. Got: " + text, malformed=True)
    tree = trees[0]
    if not isinstance(tree, READING):
        first = bare.split(None, 1)[0].upper()
        if first in ELSEWHERE:
            raise QueryError(
                f"Queries of this type are not supported: {' '.join(bare.split()[:2]).upper()}. The local Athena has "
                f"{ELSEWHERE[first]}",
                malformed=True,
            )
        if isinstance(tree, exp.Command | exp.Alias | exp.Column) and first not in WRITING:
            raise QueryError(
                f"line 1:1: mismatched input '{bare.split(None, 1)[0]}'. Expecting: 'DESCRIBE', 'EXPLAIN', "
                "'SELECT', 'SHOW', 'VALUES', 'WITH', <query>",
                malformed=True,
            )
        raise QueryError(
            f"Queries of this type are not supported: {first}. The local Athena reads only; tables are written by the "
            "Spark jobs and registered by register_glue_tables",
            malformed=True,
        )
    for name in tree.find_all(exp.Identifier):
        if "$" in name.name and not name.args.get("quoted"):
            at = place_of(text, int(name.meta.get("start", 0)) + name.name.index("$"))
            raise QueryError(f"line {at}: mismatched input '$'. Expecting: <expression>", malformed=True)
    _bind(tree, parameters or [])
    return Statement(text, "DML", "SELECT", tree)


def _bind(tree: exp.Expr, parameters: list[str]) -> None:
    places = sorted(tree.find_all(exp.Placeholder), key=lambda p: p.meta.get("start", 0))
    if len(places) != len(parameters):
        raise QueryError(
            f"Incorrect number of parameters: expected {len(places)} but found {len(parameters)}",
            malformed=True,
        )
    for place, text in zip(places, parameters, strict=True):
        try:
            value = sqlglot.parse_one(text, read="athena")
        except sqlglot.errors.ParseError:
            value = exp.Literal.string(text)
        place.replace(exp.Literal.string(text) if isinstance(value, exp.Column) else value)


def _syntax_error(text: str, error: sqlglot.errors.ParseError) -> QueryError:
    """Trino's words for sqlglot's finding; sqlglot points at the last token it took, or at the first too many."""
    found = error.errors[0]
    highlight = str(found.get("highlight") or "")
    line, end = int(found.get("line") or 1), int(found.get("col") or 1)
    rest = str(found.get("end_context") or "").strip()
    incomplete = not rest and (
        "Expected" in found["description"]
        or "equired" in found["description"]
        or "Expecting" in found["description"]
    )
    if incomplete:
        last = text.rstrip().splitlines()
        return QueryError(
            f"line {len(last)}:{len(last[-1]) + 1}: mismatched input '<EOF>'. Expecting: <expression>",
            malformed=True,
        )
    # a typing error in a keyword reads as an alias: blame the word before, as Trino does
    before = str(found.get("start_context") or "").split()
    if (
        before
        and re.fullmatch(r"[A-Za-z]+", before[-1])
        and found["description"].startswith("Invalid expression")
    ):
        word = before[-1]
        position = text.rfind(
            word, 0, max(0, text.find(highlight, len(str(found.get("start_context")).rstrip())))
        )
        if position >= 0:
            return QueryError(
                f"line {place_of(text, position)}: mismatched input '{word}'. Expecting: ',', <EOF>, 'FROM'",
                malformed=True,
            )
    return QueryError(
        f"line {line}:{max(1, end - len(highlight) + 1)}: mismatched input '{highlight}'. Expecting: <EOF>",
        malformed=True,
    )


def _name(text: str | None) -> str:
    return (text or "").strip('"`').lower()


def glob(pattern: str | None) -> Callable[[str], bool]:
    """Hive's patterns: * any characters, | alternatives, anything else a regular expression."""
    if not pattern:
        return lambda _: True
    try:
        compiled = re.compile("|".join(f"(?:{p.replace('*', '.*')})" for p in pattern.split("|")), re.I)
    except re.error as e:
        raise QueryError(
            f"FAILED: ParseException: the pattern '{pattern}' is no regular expression: {e}"
        ) from e
    return lambda name: compiled.fullmatch(name) is not None


def _show_databases(text: str, match: re.Match[str]) -> Statement:
    def lines(catalog: Catalog, _: str) -> tuple[list[Column], list[str]]:
        return [Column("database_name", "string")], sorted(filter(glob(match[1]), catalog))

    return Statement(text, "DDL", "SHOW_DATABASES", lines=lines)


def _show_tables(text: str, match: re.Match[str]) -> Statement:
    def lines(catalog: Catalog, database: str) -> tuple[list[Column], list[str]]:
        name = _name(match[1]) or database
        if name not in catalog:
            raise QueryError(f"FAILED: SemanticException [Error 10072]: Database does not exist: {name}")
        return [Column("tab_name", "string")], sorted(filter(glob(match[2]), catalog[name]))

    return Statement(text, "DDL", "SHOW_TABLES", lines=lines)


def _find(catalog: Catalog, database: str, name: str) -> Table:
    table = catalog.get(database, {}).get(name)
    if table is None:
        raise QueryError(f"FAILED: SemanticException [Error 10001]: Table not found {database}.{name}")
    return table


def _show_columns(text: str, match: re.Match[str]) -> Statement:
    def lines(catalog: Catalog, database: str) -> tuple[list[Column], list[str]]:
        table = _find(catalog, _name(match[1]) or _name(match[3]) or database, _name(match[2]))
        return [Column("field", "string")], [f"{name:<20}" for name, _, _ in table.columns]

    return Statement(text, "DDL", "SHOW_COLUMNS", lines=lines)


def _describe(text: str, match: re.Match[str]) -> Statement:
    def lines(catalog: Catalog, database: str) -> tuple[list[Column], list[str]]:
        table = _find(catalog, _name(match[1]) or database, _name(match[2]))
        columns = [Column(n, "string") for n in ("col_name", "data_type", "comment")]
        return columns, [f"{name:<20}\t{kind:<20}\t{comment:<20}" for name, kind, comment in table.columns]

    return Statement(text, "DDL", "DESCRIBE_TABLE", lines=lines)


def _show_create_table(text: str, match: re.Match[str]) -> Statement:
    def lines(catalog: Catalog, database: str) -> tuple[list[Column], list[str]]:
        table = _find(catalog, _name(match[1]) or database, _name(match[2]))
        columns = [
            f"  `{name}` {kind}"
            + (f" COMMENT '{comment.replace(chr(39), chr(92) + chr(39))}'" if comment else "")
            for name, kind, comment in table.columns
        ]
        return [Column("createtab_stmt", "string")], [
            f"CREATE EXTERNAL TABLE `{table.database}.{table.name}`(",
            *(f"{column}, " for column in columns[:-1]),
            *(f"{column})" for column in columns[-1:]),
            "LOCATION",
            f"  '{table.location}'",
            "TBLPROPERTIES (",
            "  'table_type'='delta')",
        ]

    return Statement(text, "DDL", "SHOW_CREATE_TABLE", lines=lines)


def _show_partitions(text: str, match: re.Match[str]) -> Statement:
    def lines(catalog: Catalog, database: str) -> tuple[list[Column], list[str]]:
        table = _find(catalog, _name(match[1]) or database, _name(match[2]))
        # Glue has no partition keys of a native Delta table.
        raise QueryError(
            "FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. Table "
            f"{table.name} is not a partitioned table"
        )

    return Statement(text, "DDL", "SHOW_PARTITIONS", lines=lines)


# -- running -------------------------------------------------------------------------------------------------


def tables_of(statement: Statement, catalog: Catalog, database: str) -> dict[exp.Table, Table | str]:
    """The catalog's table (or the name of an information_schema view) behind every table reference."""
    assert statement.tree is not None
    found: dict[exp.Table, Table | str] = {}
    inside: set[int] = set()
    for scope in traverse_scope(statement.tree):
        for source in scope.sources.values():
            if isinstance(source, exp.Table):
                inside.add(id(source))
        for node in scope.tables:
            is_cte = (
                not node.db
                and node.alias_or_name in scope.sources
                and not isinstance(scope.sources[node.alias_or_name], exp.Table)
            )
            if is_cte or not isinstance(node.this, exp.Identifier):
                continue
            found[node] = _resolve(statement.sql, node, catalog, database)
    return found


def _resolve(sql: str, node: exp.Table, catalog: Catalog, database: str) -> Table | str:
    at = place_of(sql, offset_of(node))
    name, schema, top = node.name.lower(), (node.db or database).lower(), (node.catalog or CATALOG).lower()
    if node.args.get("version") or node.args.get("when"):
        # Read without it, the query would answer for another version than it asks for.
        raise QueryError(f"NOT_SUPPORTED: line {at}: This connector does not support versioned tables")
    if top != CATALOG:
        raise QueryError(f"CATALOG_NOT_FOUND: line {at}: Catalog '{top}' does not exist")
    if schema == "information_schema":
        if name not in ("tables", "columns", "schemata"):
            raise QueryError(f"TABLE_NOT_FOUND: line {at}: Table '{top}.{schema}.{name}' does not exist")
        return name
    if schema not in catalog:
        raise QueryError(f"SCHEMA_NOT_FOUND: line {at}: Schema '{schema}' does not exist")
    table = catalog[schema].get(name)
    if table is None:
        raise QueryError(f"TABLE_NOT_FOUND: line {at}: Table '{top}.{schema}.{name}' does not exist")
    if not table.delta:
        raise QueryError(
            f"NOT_SUPPORTED: line {at}: {schema}.{name} is no Delta table; the local Athena reads Delta only"
        )
    if not table.location:
        raise QueryError(
            f"HIVE_INVALID_METADATA: No path property defined for Delta Lake table: {schema}.{name}"
        )
    return table


def execute(
    statement: Statement,
    catalog: Catalog,
    database: str,
    open_table: Callable[[Table, bool], tuple[Any, int]],
) -> Result:
    """Run the statement. `open_table` gives something DuckDB can scan, with the hidden columns where it is told so, and
    the bytes that a scan reads."""
    if statement.lines is not None:
        columns, texts = statement.lines(catalog, database)
        return Result(columns, ([text] for text in texts), header=False)
    import duckdb

    tree = statement.tree
    assert tree is not None
    tree = tree.copy()
    copied = Statement(statement.sql, statement.kind, statement.substatement, tree)
    references = tables_of(copied, catalog, database)
    hidden = any(column.name.lower() in HIDDEN for column in tree.find_all(exp.Column))
    if hidden:
        _hide(tree, references)
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "enable_external_access": "false",
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    for macro in MACROS:
        connection.execute(macro)
    schema: dict[str, object] = {}
    views: dict[str, str] = {}
    scanned = 0
    for node, table in references.items():
        key = table if isinstance(table, str) else f"{table.database}.{table.name}"
        if key not in views:
            view = f"__t{len(views)}"
            if isinstance(table, str):
                connection.register(f"{view}_data", _information_schema(table, catalog))
            else:
                data, size = open_table(table, hidden)
                scanned += size
                connection.register(f"{view}_data", data)
            schema[view] = _view(connection, view)
            views[key] = view
        alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(node.name, quoted=True))
        node.replace(
            exp.Table(
                this=exp.to_identifier(views[key]),
                alias=alias,
                **{k: node.args[k] for k in ("sample", "joins", "pivots") if node.args.get(k)},
            )
        )
    _strip_qualifiers(tree)
    names = _output_names(tree)
    _annotate(tree, schema)
    refuse_texts(statement.sql, tree)
    sql = _translate(tree).sql("duckdb", identify=True)
    if statement.explain:
        plan = "\n".join(row[1] for row in connection.execute(f"EXPLAIN {sql}").fetchall())
        return Result(
            [Column("Query Plan", "varchar", 2147483647)], ([line] for line in plan.splitlines()), header=True
        )
    try:
        relation = connection.execute(sql)
        described = relation.description or []
        columns = [column_of(d[0], str(d[1])) for d in described]
        columns = [
            Column(names.get(i, c.name) if len(names) else c.name, c.type, c.precision, c.scale)
            for i, c in enumerate(columns)
        ]
        return Result(columns, _rows(relation, columns), header=True, scanned=scanned)
    except duckdb.Error as e:
        raise translate_error(statement.sql, statement.tree, e) from e


def _hide(tree: exp.Expr, references: dict[exp.Table, Table | str]) -> None:
    """Leave the hidden columns out of every * over a table of the catalog."""
    named = [exp.to_identifier(name, quoted=True) for name in HIDDEN]
    for scope in traverse_scope(tree):
        aliases = {node.alias_or_name for node in scope.tables if isinstance(references.get(node), Table)}
        for each in scope.expression.expressions if isinstance(scope.expression, exp.Select) else []:
            star = each.this if isinstance(each, exp.Column) and each.table in aliases else each
            if aliases and isinstance(star, exp.Star):
                star.set("except_", [name.copy() for name in named])


def _view(connection: Any, view: str) -> dict[str, str]:
    """A view over the registered data in which instants are plain UTC timestamps of whole milliseconds, as Athena reads
    them: it rounds, so that two instants of one millisecond are equal."""
    columns = connection.execute(f"DESCRIBE {view}_data").fetchall()
    instants = [c[0] for c in columns if c[1] in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")]
    rounded = [
        f'epoch_ms(CAST(floor((epoch_us("{name}") + 500) / 1000) AS BIGINT)) AS "{name}"' for name in instants
    ]
    replace = f" REPLACE ({', '.join(rounded)})" if rounded else ""
    connection.execute(f"CREATE VIEW {view} AS SELECT *{replace} FROM {view}_data")
    return {c[0]: "TIMESTAMP" if c[0] in instants else c[1] for c in columns}


def _strip_qualifiers(tree: exp.Expr) -> None:
    for column in tree.find_all(exp.Column):
        for part in ("db", "catalog"):
            if column.args.get(part):
                column.set(part, None)


def _output_names(tree: exp.Expr) -> dict[int, str]:
    """Athena's names for unnamed columns: _col and the position."""
    first = tree
    while isinstance(first, exp.SetOperation | exp.Subquery):
        first = first.this
    if not isinstance(first, exp.Select) or any(e.is_star for e in first.expressions):
        return {} if isinstance(first, exp.Select) else {i: f"_col{i}" for i in range(1000)}
    return {
        i: f"_col{i}"
        for i, e in enumerate(first.expressions)
        if not isinstance(e, exp.Alias | exp.Column | exp.Dot)
    }


def _translate(tree: exp.Expr) -> exp.Expr:
    """Where DuckDB's operator or function of the same name means something else than Trino's."""
    for node in reversed(list(tree.walk())):
        new = _trino(node)
        if new is node:
            continue
        if node is tree:
            tree = new
        else:
            node.replace(new)
    return tree


def _trino(node: exp.Expr) -> exp.Expr:
    """The node as DuckDB has to be told it; the same node where both agree."""
    if isinstance(node, exp.Mod) and _exact(node.left) and _exact(node.right):
        _refuse_zero(node)
    if isinstance(node, exp.DateDiff):
        # Trino counts completed units, DuckDB's date_diff the boundaries crossed
        unit = str(node.args.get("unit") or "DAY").strip("'").lower()
        first, second = exp.cast(node.expression, "timestamp"), exp.cast(node.this, "timestamp")
        return exp.Anonymous(this="date_sub", expressions=[exp.Literal.string(unit), first, second])
    if isinstance(node, exp.ArgMax | exp.ArgMin) and node.args.get("count") is None:
        # Trino gives the null of the row that wins, DuckDB looks for the best row without one
        name = "arg_max_null" if isinstance(node, exp.ArgMax) else "arg_min_null"
        return exp.Anonymous(this=name, expressions=[node.this, node.expression])
    average = node.this if isinstance(node, exp.Window) else node
    if isinstance(average, exp.Avg) and (average is not node or not isinstance(node.parent, exp.Window)):
        exact = _exact(average.this)
        if exact is not None and exact[0]:
            return _decimal(node, exact[1])
    if isinstance(node, exp.Div):
        # Trino keeps decimals, DuckDB turns to doubles
        exact = _exact(node)
        if exact is not None:
            _refuse_zero(node)
        if exact is not None and exact[0]:
            return _decimal(node, exact[1])
    if isinstance(node, exp.Anonymous) and node.name.lower() == "format_datetime":
        pattern = node.expressions[1]
        if isinstance(pattern, exp.Literal):
            return exp.Anonymous(
                this="strftime", expressions=[node.expressions[0], exp.Literal.string(_joda(pattern.name))]
            )
    return node


def _refuse_zero(node: exp.Expr) -> None:
    """Exact numbers cannot be divided by zero in Trino; DuckDB says null."""
    divisor = node.expression
    if isinstance(divisor, exp.Literal) and float(divisor.name):
        return
    if _is_try(node):
        return  # null is what it would make of the error
    zero = exp.EQ(this=exp.paren(divisor.copy()), expression=exp.Literal.number(0))
    failing = exp.Anonymous(this="error", expressions=[exp.Literal.string("Division by zero")])
    guarded = exp.Case(ifs=[exp.If(this=zero, true=failing)], default=divisor.copy())
    guarded.meta["divisor"], guarded.type = True, divisor.type
    node.set("expression", guarded)


def _is_try(node: exp.Expr | None) -> bool:
    while node is not None and (node.name if isinstance(node, exp.Anonymous) else node.key).lower() != "try":
        node = node.parent
    return node is not None


def _annotate(tree: exp.Expr, schema: dict[str, object]) -> None:
    """Give the nodes their types (integer division depends on them), as far as sqlglot can work them out.

    It needs every column qualified for that, which rewrites the tree: done on a copy, the types are brought back.
    """
    for number, node in enumerate(tree.walk()):
        node.meta["n"] = number
    try:
        typed = annotate_types(
            qualify(
                tree.copy(),
                schema=schema,
                dialect="athena",
                validate_qualify_columns=False,
                expand_stars=False,
                expand_alias_refs=False,
                quote_identifiers=False,
                identify=False,
            ),
            schema=schema,
            dialect="duckdb",
        )
    except sqlglot.errors.SqlglotError:
        return  # the statement runs with less exact arithmetic, or DuckDB says what is wrong with it
    types = {node.meta["n"]: node.type for node in typed.walk() if "n" in node.meta and node.type is not None}
    for node in tree.walk():
        known = types.get(node.meta.get("n", -1))
        if known is not None:
            node.type = known.copy()


def _exact(node: exp.Expr) -> tuple[bool, int] | None:
    """Whether an exact number is a decimal (else an integer), and its scale; None where it is no exact number."""
    if isinstance(
        node, exp.Paren | exp.Neg | exp.Sum | exp.Max | exp.Min | exp.Abs | exp.Coalesce | exp.Window
    ):
        return _exact(node.this)
    if isinstance(node, exp.Count):
        return False, 0
    if isinstance(node, exp.Case) and "divisor" in node.meta:
        return _exact(node.args["default"])
    if isinstance(node, exp.Literal):
        whole, point, fraction = node.name.partition(".")
        return (bool(point), len(fraction)) if node.is_number and (whole + fraction).isdigit() else None
    if isinstance(node, exp.Mul | exp.Add | exp.Sub | exp.Div):
        left, right = _exact(node.left), _exact(node.right)
        if left is None or right is None:
            return None
        scale = left[1] + right[1] if isinstance(node, exp.Mul) else max(left[1], right[1])
        return left[0] or right[0], scale
    kind = node.type
    if kind is None or not kind.is_type(exp.DataType.Type.DECIMAL, *exp.DataType.INTEGER_TYPES):
        return None
    params = kind.expressions
    return kind.this == exp.DataType.Type.DECIMAL, int(params[1].name) if len(params) > 1 else 0


def _decimal(node: exp.Expr, scale: int) -> exp.Expr:
    return exp.cast(exp.func("round", node.copy(), exp.Literal.number(scale)), f"decimal(38,{scale})")


def _joda(pattern: str) -> str:
    return re.sub("|".join(sorted(JODA, key=len, reverse=True)), lambda m: JODA[m[0]], pattern)


def _information_schema(name: str, catalog: Catalog) -> Any:
    import pyarrow as pa

    if name == "schemata":
        rows = [{"catalog_name": CATALOG, "schema_name": d} for d in sorted({*catalog, "information_schema"})]
        return pa.Table.from_pylist(rows)
    if name == "tables":
        fields = ["table_catalog", "table_schema", "table_name", "table_type"]
        rows = [
            dict(zip(fields, (CATALOG, d, t, "BASE TABLE"), strict=True))
            for d in sorted(catalog)
            for t in sorted(catalog[d])
        ]
        return pa.Table.from_pylist(rows, schema=pa.schema([(f, pa.string()) for f in fields]))
    schema = pa.schema(
        [
            ("table_catalog", pa.string()),
            ("table_schema", pa.string()),
            ("table_name", pa.string()),
            ("column_name", pa.string()),
            ("ordinal_position", pa.int64()),
            ("column_default", pa.string()),
            ("is_nullable", pa.string()),
            ("data_type", pa.string()),
            ("comment", pa.string()),
        ]
    )
    columns = [
        (CATALOG, d, t, column, i, None, "YES", "varchar" if kind == "string" else kind, comment or None)
        for d in sorted(catalog)
        for t in sorted(catalog[d])
        for i, (column, kind, comment) in enumerate(catalog[d][t].columns, 1)
    ]
    return pa.Table.from_pylist([dict(zip(schema.names, c, strict=True)) for c in columns], schema=schema)


def _rows(relation: Any, columns: list[Column]) -> Iterator[list[str | None]]:
    while batch := relation.fetchmany(5000):
        for row in batch:
            yield [printed(value, column.type) for value, column in zip(row, columns, strict=True)]


# Functions of Trino that DuckDB lacks under that name.
MACROS = (
    "CREATE MACRO at_timezone(ts, zone) AS timezone(zone, timezone('UTC', ts))",
    "CREATE MACRO to_iso8601(x) AS CASE WHEN typeof(x) = 'DATE' THEN CAST(x AS VARCHAR) "
    "ELSE strftime(CAST(x AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%gZ') END",
    "CREATE MACRO from_iso8601_date(x) AS CAST(x AS DATE)",
    "CREATE MACRO to_unixtime(x) AS epoch(x)",
    "CREATE MACRO day_of_month(x) AS day(x)",
    "CREATE MACRO week_of_year(x) AS week(x)",
)
