"""What the double knows of its tables beyond DuckDB: INFORMATION_SCHEMA as Snowflake fills it, for whoever asks.

fakesnow's has no views among the tables, guesses the rows, and knows neither when a table was changed nor whether it is
transient. Here rows are counted when somebody asks, and every statement that changes a table is noted.
"""

from __future__ import annotations

import functools
import importlib
import json
import string
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlglot
from duckdb import DuckDBPyConnection
from fakesnow.instance import FakeSnow
from sqlglot import exp

from local.snowflake.names import INFORMATION_SCHEMA, Name, Objects, stored, tables
from local.snowflake.users import User

fakesnow_cursor: Any = importlib.import_module("fakesnow.cursor")
fakesnow_transforms: Any = importlib.import_module("fakesnow.transforms")

_HOME = "_fs_global._double"
_OWN = "_fs_information_schema"
_CHANGES = (
    exp.Insert,
    exp.Update,
    exp.Delete,
    exp.Merge,
    exp.Create,
    exp.Alter,
    exp.Drop,
    exp.TruncateTable,
    exp.Copy,
)
# What INFORMATION_SCHEMA has of itself, as far as clients stumble over it.
_VIEWS = ("COLUMNS", "DATABASES", "SCHEMATA", "TABLES", "VIEWS")
_TYPES = """
CASE WHEN starts_with(data_type, 'DECIMAL') OR data_type IN ('BIGINT', 'HUGEINT', 'INTEGER', 'SMALLINT', 'TINYINT')
     THEN 'NUMBER' WHEN data_type IN ('DOUBLE', 'FLOAT') THEN 'FLOAT' WHEN data_type = 'VARCHAR' THEN 'TEXT'
     WHEN data_type = 'BLOB' THEN 'BINARY' WHEN data_type = 'JSON' THEN 'VARIANT'
     WHEN data_type IN ('TIMESTAMP', 'TIMESTAMP_NS') THEN 'TIMESTAMP_NTZ'
     WHEN data_type = 'TIMESTAMP WITH TIME ZONE' THEN 'TIMESTAMP_TZ'
     WHEN ends_with(data_type, '[]') THEN 'ARRAY' WHEN starts_with(data_type, 'STRUCT') THEN 'OBJECT'
     ELSE data_type END
"""
_CREATION = f"""
CREATE SCHEMA IF NOT EXISTS {_HOME};
CREATE TABLE IF NOT EXISTS {_HOME}.facts (
    catalog VARCHAR, schema VARCHAR, name VARCHAR, kind VARCHAR, is_transient VARCHAR, row_count BIGINT,
    created TIMESTAMPTZ, last_altered TIMESTAMPTZ, definition VARCHAR);
CREATE TABLE IF NOT EXISTS {_HOME}.visible (username VARCHAR, catalog VARCHAR, schema VARCHAR, name VARCHAR);
CREATE VIEW IF NOT EXISTS {_HOME}.TABLES AS
SELECT catalog AS TABLE_CATALOG, schema AS TABLE_SCHEMA, name AS TABLE_NAME, 'SYSADMIN' AS TABLE_OWNER,
    kind AS TABLE_TYPE, is_transient AS IS_TRANSIENT, NULL::VARCHAR AS CLUSTERING_KEY, row_count AS ROW_COUNT,
    row_count * 64 AS BYTES, CASE WHEN kind = 'BASE TABLE' THEN 1 END AS RETENTION_TIME,
    CASE WHEN kind = 'BASE TABLE' THEN 'YES' ELSE 'NO' END AS IS_INSERTABLE_INTO, 'YES' AS IS_TYPED,
    created AS CREATED, last_altered AS LAST_ALTERED, last_altered AS LAST_DDL, 'SYSADMIN' AS LAST_DDL_BY,
    'NO' AS AUTO_CLUSTERING_ON, ext.comment AS COMMENT, 'NO' AS IS_TEMPORARY, 'NO' AS IS_ICEBERG, 'NO' AS IS_DYNAMIC,
    'NO' AS IS_IMMUTABLE, 'NO' AS IS_HYBRID
FROM {_HOME}.facts LEFT JOIN _fs_global.{_OWN}._fs_tables_ext AS ext
    ON catalog = ext_table_catalog AND schema = ext_table_schema AND name = ext_table_name;
CREATE VIEW IF NOT EXISTS {_HOME}.VIEWS AS
SELECT catalog AS TABLE_CATALOG, schema AS TABLE_SCHEMA, name AS TABLE_NAME, 'SYSADMIN' AS TABLE_OWNER,
    definition AS VIEW_DEFINITION, 'NONE' AS CHECK_OPTION, 'NO' AS IS_UPDATABLE, 'NO' AS INSERTABLE_INTO,
    'NO' AS IS_SECURE, created AS CREATED, last_altered AS LAST_ALTERED, last_altered AS LAST_DDL,
    'SYSADMIN' AS LAST_DDL_BY, NULL::VARCHAR AS COMMENT
FROM {_HOME}.facts WHERE kind = 'VIEW';
CREATE VIEW IF NOT EXISTS {_HOME}.COLUMNS AS
SELECT database_name AS TABLE_CATALOG, schema_name AS TABLE_SCHEMA, table_name AS TABLE_NAME,
    column_name AS COLUMN_NAME, column_index::BIGINT AS ORDINAL_POSITION, column_default AS COLUMN_DEFAULT,
    CASE WHEN is_nullable THEN 'YES' ELSE 'NO' END AS IS_NULLABLE, {_TYPES} AS DATA_TYPE,
    CASE WHEN data_type = 'VARCHAR' THEN coalesce(ext_character_maximum_length, 16777216) END
        AS CHARACTER_MAXIMUM_LENGTH,
    CASE WHEN data_type = 'VARCHAR' THEN coalesce(ext_character_octet_length, 16777216) END AS CHARACTER_OCTET_LENGTH,
    CASE WHEN data_type = 'BIGINT' THEN 38 WHEN data_type <> 'DOUBLE' THEN numeric_precision END AS NUMERIC_PRECISION,
    CASE WHEN data_type <> 'DOUBLE' AND numeric_precision IS NOT NULL THEN 10 END AS NUMERIC_PRECISION_RADIX,
    CASE WHEN data_type = 'BIGINT' THEN 0 WHEN data_type <> 'DOUBLE' THEN numeric_scale END AS NUMERIC_SCALE,
    CASE WHEN starts_with(data_type, 'TIMESTAMP') OR data_type = 'TIME' THEN 9 END AS DATETIME_PRECISION,
    NULL::VARCHAR AS COLLATION_NAME, 'NO' AS IS_IDENTITY, NULL::VARCHAR AS IDENTITY_GENERATION, comment AS COMMENT
FROM duckdb_columns() LEFT JOIN _fs_global.{_OWN}._fs_columns_ext
    ON database_name = ext_table_catalog AND schema_name = ext_table_schema AND table_name = ext_table_name
    AND column_name = ext_column_name
WHERE schema_name <> '{_OWN}';
CREATE VIEW IF NOT EXISTS {_HOME}.SCHEMATA AS
SELECT catalog_name AS CATALOG_NAME,
    CASE WHEN schema_name = '{_OWN}' THEN '{INFORMATION_SCHEMA}' ELSE schema_name END AS SCHEMA_NAME,
    'SYSADMIN' AS SCHEMA_OWNER, 'NO' AS IS_TRANSIENT, 'NO' AS IS_MANAGED_ACCESS, 1 AS RETENTION_TIME,
    to_timestamp(0) AS CREATED, to_timestamp(0) AS LAST_ALTERED, NULL::VARCHAR AS COMMENT, 'ROLE' AS OWNER_ROLE_TYPE
FROM system.information_schema.schemata WHERE schema_name NOT IN ('main', 'pg_catalog', 'information_schema');
CREATE VIEW IF NOT EXISTS {_HOME}.DATABASES AS
SELECT database_name AS DATABASE_NAME, 'SYSADMIN' AS DATABASE_OWNER, 'NO' AS IS_TRANSIENT, NULL::VARCHAR AS COMMENT,
    to_timestamp(0) AS CREATED, to_timestamp(0) AS LAST_ALTERED, 1 AS RETENTION_TIME, 'STANDARD' AS TYPE
FROM duckdb_databases() WHERE NOT internal AND database_name NOT IN ('memory', '_fs_global');
"""
# What of a view's row has to be visible, and the names of SHOW's columns.
_KEYS = {
    "TABLES": ("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME"),
    "VIEWS": ("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME"),
    "COLUMNS": ("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME"),
    "SCHEMATA": ("CATALOG_NAME", "SCHEMA_NAME"),
    "DATABASES": ("DATABASE_NAME",),
}
_SHOWN = {
    "DATABASES": ("name",),
    "SCHEMAS": ("database_name", "name"),
    "TABLES": ("database_name", "schema_name", "name"),
    "VIEWS": ("database_name", "schema_name", "name"),
    "OBJECTS": ("database_name", "schema_name", "name"),
}

# For whom fakesnow rewrites a statement: the user, and the session's database.
_asking: ContextVar[tuple[User, str | None] | None] = ContextVar("asking", default=None)


@dataclass
class Fact:
    """What is noted of a table or view; times are UTC in ISO form."""

    created: str
    last_altered: str
    transient: bool = False


class Catalog:
    """The facts, kept in a file, and the views that are made of them."""

    def __init__(self, snow: FakeSnow, path: Path) -> None:
        self._snow, self._path = snow, path
        self._lock = threading.RLock()
        self._begun = datetime.now(UTC).isoformat()
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        self._facts: dict[Name, Fact] = {tuple(name): Fact(**fact) for name, fact in found}
        self._objects: Objects | None = None
        snow.duck_conn.execute(_CREATION)
        _answer_as_snowflake_does()

    # What there is ---------------------------------------------------------------------------------------------

    def objects(self) -> Objects:
        """Tables and views with their columns; read anew after a change."""
        with self._lock:
            if self._objects is None:
                with self._cursor() as cursor:
                    rows = cursor.execute(
                        "SELECT database_name, schema_name, table_name, list(column_name) FROM duckdb_columns() "
                        f"WHERE schema_name <> '{_OWN}' AND database_name <> '_fs_global' GROUP BY ALL"
                    ).fetchall()
                    schemas = cursor.execute(
                        f"SELECT CATALOG_NAME, SCHEMA_NAME FROM {_HOME}.SCHEMATA"
                    ).fetchall()
                known = {(str(d), str(s), str(n)): frozenset(columns) for d, s, n, columns in rows}
                self._objects = Objects(known, frozenset((str(d), str(s)) for d, s in schemas))
            return self._objects

    def note(self, statement: exp.Expr, database: str | None, schema: str | None) -> None:
        """After a statement has run: what it changed is another than before."""
        if isinstance(statement, (exp.Query, exp.Show, exp.Describe)):
            return
        with self._lock:
            self._objects = None
            for name in (
                list(tables(statement, database, schema))[:1] if isinstance(statement, _CHANGES) else []
            ):
                self._note(statement, name)

    def changed(self, *name: str) -> None:
        """A table was changed by other ways than a statement."""
        with self._lock:
            self._objects = None
            self._touch((name[0], name[1], name[2]), None)

    def _note(self, statement: exp.Expr, name: Name) -> None:
        if isinstance(statement, exp.Drop):
            self._facts = {
                known: fact
                for known, fact in self._facts.items()
                if statement.args.get("kind") not in ("TABLE", "VIEW") or known != name
            }
            self._keep()
        elif isinstance(statement, exp.Create):
            self._touch(name, statement.find(exp.TransientProperty) is not None)
        else:
            self._touch(name, None)

    def _touch(self, name: Name, transient: bool | None) -> None:
        now = datetime.now(UTC).isoformat()
        known = self._facts.get(name)
        if known is None or transient is not None:
            self._facts[name] = Fact(now, now, bool(transient))
        else:
            known.last_altered = now
        self._keep()

    def _keep(self) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(
            json.dumps([[name, asdict(fact)] for name, fact in self._facts.items()]), encoding="utf-8"
        )
        part.replace(self._path)

    # INFORMATION_SCHEMA ----------------------------------------------------------------------------------------

    @contextmanager
    def asked_by(self, user: User, statement: exp.Expr, database: str | None) -> Iterator[None]:
        """While the statement runs, INFORMATION_SCHEMA and SHOW tell the user what there is for them."""
        names = {name[2] for name in tables(statement, database, None) if name[1] == INFORMATION_SCHEMA}
        if names or (user.grants is not None and isinstance(statement, exp.Show)):
            with self._lock:
                self._refresh(user, counted="TABLES" in names)
        token = _asking.set((user, database))
        try:
            yield
        finally:
            _asking.reset(token)

    def _refresh(self, user: User, counted: bool) -> None:
        with self._cursor() as cursor:
            cursor.execute("BEGIN")
            if counted or not cursor.execute(f"SELECT 1 FROM {_HOME}.facts LIMIT 1").fetchone():
                cursor.execute(f"DELETE FROM {_HOME}.facts")
                cursor.executemany(
                    f"INSERT INTO {_HOME}.facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._rows(cursor)
                )
            if user.grants is not None:
                cursor.execute(f"DELETE FROM {_HOME}.visible WHERE username = ?", [user.name])
                seen = [[user.name, *name] for name in self._all() if user.sees(*name)]
                cursor.executemany(
                    f"INSERT INTO {_HOME}.visible VALUES (?, ?, ?, ?)", seen or [[user.name, "", "", ""]]
                )
            cursor.execute("COMMIT")

    def _all(self) -> list[Name]:
        there = self.objects()
        own = [(database, INFORMATION_SCHEMA, view) for database in there.databases for view in _VIEWS]
        return [*there.tables, *own]

    def _rows(self, cursor: DuckDBPyConnection) -> list[list[Any]]:
        views = {
            (str(d), str(s), str(n)): str(sql)
            for d, s, n, sql in cursor.execute(
                "SELECT database_name, schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        }
        return [
            self._row(cursor, name, INFORMATION_SCHEMA if name[1] == INFORMATION_SCHEMA else views.get(name))
            for name in self._all()
        ]

    def _row(self, cursor: DuckDBPyConnection, name: Name, view: str | None) -> list[Any]:
        fact = self._facts.get(name) or Fact(self._begun, self._begun)
        transient = "YES" if fact.transient else "NO"
        count = None
        if view is None:
            quoted = ".".join('"' + part.replace('"', '""') + '"' for part in name)
            count = (cursor.execute(f"SELECT count(*) FROM {quoted}").fetchone() or (None,))[0]
        kind = "BASE TABLE" if view is None else "VIEW"
        return [*name, kind, transient, count, fact.created, fact.last_altered, view]

    def _cursor(self) -> DuckDBPyConnection:
        return self._snow.duck_conn.cursor()


def _visible(keys: tuple[str, ...], user: User) -> str:
    """The condition that a row is visible to the user."""
    if user.grants is None:
        return "TRUE"
    held = ", ".join(("catalog", "schema", "name")[: len(keys)])
    row = ", ".join(f'"{key}"' for key in keys)
    who = user.name.replace("'", "''")
    return f"({row}) IN (SELECT ({held}) FROM {_HOME}.visible WHERE username = '{who}')"


def _subquery(view: str, table: exp.Table, user: User, database: str) -> exp.Expr:
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(view))
    condition = _visible(_KEYS[view], user)
    if view != "DATABASES":
        held = database.replace("'", "''")
        condition += f" AND \"{_KEYS[view][0]}\" = '{held}'"
    query = sqlglot.parse_one(f"SELECT * FROM {_HOME}.{view} WHERE {condition}", read="duckdb")
    return exp.Subquery(this=query, alias=alias)


class _Quoting(string.Template):
    """fakesnow's words about a statement are SQL text, in which a name may have an apostrophe."""

    def substitute(self, *args: Any, **words: Any) -> str:
        return super().substitute({name: str(word).replace("'", "''") for name, word in words.items()})


def _answer_as_snowflake_does() -> None:
    """Lead what fakesnow makes of INFORMATION_SCHEMA and SHOW here. Once a process."""
    if hasattr(fakesnow_transforms.information_schema_fs, "__wrapped__"):
        return
    there, transform = (
        fakesnow_transforms.information_schema_fs,
        fakesnow_cursor.FakeSnowflakeCursor._transform,
    )

    @functools.wraps(there)
    def information_schema(expression: Any) -> Any:
        asking = _asking.get()
        if asking is None or not isinstance(expression, exp.Table) or expression.name not in _KEYS:
            return there(expression)
        if expression.db != INFORMATION_SCHEMA:
            return expression
        catalog = expression.args.get("catalog")
        return _subquery(
            expression.name, expression, asking[0], stored(catalog) if catalog else asking[1] or ""
        )

    @functools.wraps(transform)
    def shown(self: Any, expression: Any, params: Any) -> Any:
        asking = _asking.get()
        keys = _SHOWN.get(expression.name.upper()) if isinstance(expression, exp.Show) else None
        result = transform(self, expression, params)
        if asking is None or keys is None or asking[0].grants is None:
            return result
        condition = sqlglot.parse_one(_visible(keys, asking[0]), read="duckdb")
        return exp.select("*").from_(result.subquery("shown")).where(condition)

    fakesnow_transforms.information_schema_fs = information_schema
    fakesnow_cursor.FakeSnowflakeCursor._transform = shown
    for name in [name for name in vars(fakesnow_cursor) if name.startswith("SQL_")]:
        words = getattr(fakesnow_cursor, name)
        if isinstance(words, string.Template):
            setattr(fakesnow_cursor, name, _Quoting(words.template))
