"""What tables there are, which of them are active, and which were and are no longer.

One statement lists the databases, one a database reads its INFORMATION_SCHEMA, one for each _CHUNK tables asks which
have rows of late: with 300 tables, a tenth of what a statement a table would be.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any, Literal

from dq_runner import sql
from dq_runner.config import Config
from dq_runner.model import Column, Family, Result, Rule, Table, TableName, Window
from dq_runner.patterns import is_exact, matches_table, parts, plain
from dq_runner.rules.declared import TableRules
from dq_runner.session import Session, StatementFailed
from lakehouse.errors import UsageError

#: Tables whose activity one statement asks for. A branch has some 200 letters; Snowflake takes a statement of 1 MB.
_CHUNK = 50
_FAMILIES: Mapping[str, Family] = {
    "TEXT": "text",
    "FLOAT": "float",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP_NTZ": "timestamp",
    "TIMESTAMP_LTZ": "timestamp",
    "TIMESTAMP_TZ": "timestamp",
}
# By TABLE_TYPE; temporary and event tables are none of ours. An external table reads its files each time, as a view
# runs its query.
_KINDS: Mapping[str, Literal["table", "view", "transient"]] = {
    "BASE TABLE": "table",
    "EXTERNAL TABLE": "view",
    "VIEW": "view",
    "MATERIALIZED VIEW": "view",
}

#: Rules of the runner itself: it says with them what it could not look at, and what has stopped.
CHECKED = Rule("checked", severity="critical", origin="runner", name="checked")
ACTIVE = Rule(
    "active",
    severity="critical",
    origin="runner",
    name="active",
    fix="find out why no rows come in any more; where that is intended, exclude the table in config/dq_platform.yaml",
)


@dataclass
class Found:
    """``tables`` are those to check, in the order of their names.

    ``active`` have rows of late by their date column, ``quiet`` have none; of ``unsure`` it could not be asked.
    ``known``: every table of the schemas that are meant. ``findings`` are of tables that are not to be checked: without
    a date, of a database that cannot be read (``unread``), and the like.
    """

    tables: list[Table] = field(default_factory=list)
    active: set[TableName] = field(default_factory=set)
    quiet: list[Table] = field(default_factory=list)
    unsure: set[TableName] = field(default_factory=set)
    known: dict[TableName, Table] = field(default_factory=dict)
    findings: list[Result] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)


def discover(
    session: Session, config: Config, at: datetime, only: Collection[str] = (), *, whole: bool = False
) -> Found:
    """The tables that the settings mean. ``only``: patterns that narrow them further; ``whole``: no date is needed.

    Raises CredentialsError, NoWarehouse, SourceUnavailable; UsageError where nothing is meant by one of ``only``.
    """
    found = Found()
    for database in _databases(session, config):
        try:
            found.known |= {table.name: table for table in _tables(session, config, database)}
        except StatementFailed as error:
            found.unread.add(database)
            found.findings.append(not_checked(TableName(database, "INFORMATION_SCHEMA", "TABLES"), error))
    meant = [table for table in found.known.values() if is_meant(table, config, only)]
    _refuse_unknown(only, meant, found)
    for table in sorted(meant, key=lambda one: one.name):
        _sort_in(_dated(table, config, found), found, whole or is_whole(table, config))
    declared = {name for name in map(_named, config.declared) if name is not None}
    asked = {table.name for table in meant} if only else set()
    _ask_activity(session, config, at, found, declared | asked)
    return found


def not_checked(table: TableName, error: StatementFailed | Exception, query_id: str = "") -> Result:
    """A table that could not be looked at, with the reason and what to do."""
    hint = getattr(error, "hint", "")
    message = f"{error}. What to do: {hint}" if hint else str(error)
    return Result(
        table,
        CHECKED,
        "error",
        observed="not checked",
        expected="every rule of the table is checked",
        message=message,
        query_id=query_id or str(getattr(error, "query_id", "")),
    )


def skipped(table: TableName, reason: str) -> Result:
    return Result(
        table,
        CHECKED,
        "skipped",
        observed="not checked",
        expected="every rule of the table is checked",
        message=reason,
    )


def fallen_silent(
    config: Config, found: Found, before: Mapping[TableName, date | None], only: Collection[str] = ()
) -> list[Result]:
    """Findings: tables that were active in earlier runs and now have no rows of late, or are gone.

    ``before``: the last day on which each had rows, None where nobody knows it any more. A table that the settings no
    longer mean is none.
    """
    quiet = {table.name for table in found.quiet}
    settled = {table.name for table in found.tables} | {result.table for result in found.findings}
    settled -= quiet
    results = []
    for name, seen in sorted(before.items()):
        if (
            name in settled
            or not config.means(name)
            or name.database in found.unread
            or not _within(name, only)
        ):
            continue
        if name in quiet:
            results.append(_silent(name, f"no rows in {config.active_days} days", seen))
        elif name not in found.known:
            results.append(
                _silent(name, "no such table: dropped, renamed, or not to be seen by the role", seen)
            )
    return results


def _silent(name: TableName, observed: str, seen: date | None) -> Result:
    return Result(
        name,
        ACTIVE,
        "failed",
        observed=observed,
        expected="rows come in, as they did before",
        message=f"the last day with rows was {seen}" if seen else "it has been so for weeks",
    )


def _databases(session: Session, config: Config) -> list[str]:
    answer = session.ask("SHOW DATABASES", about="databases", scan=False)
    names = sorted(str(row["name"]) for row in answer.rows)
    return [name for name in names if config.means_database(name)]


def _tables(session: Session, config: Config, database: str) -> Iterator[Table]:
    """Every table of the database whose schema is meant: keys may refer to one that is itself left out."""
    place = f"{sql.quoted(database)}.INFORMATION_SCHEMA"
    answer = session.ask(
        f"""SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.TABLE_TYPE, t.IS_TRANSIENT,
  c.COLUMN_NAME, c.DATA_TYPE, c.NUMERIC_SCALE, c.IS_NULLABLE
FROM {place}.TABLES t
JOIN {place}.COLUMNS c ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME
WHERE t.TABLE_SCHEMA <> 'INFORMATION_SCHEMA'{_of_schemas(config)}
ORDER BY t.TABLE_SCHEMA, t.TABLE_NAME, c.ORDINAL_POSITION""",
        about=f"{database}.INFORMATION_SCHEMA",
        scan=False,
    )
    for (schema, name), rows in groupby(
        answer.rows, key=lambda row: (row["TABLE_SCHEMA"], row["TABLE_NAME"])
    ):
        columns = list(rows)
        kind = _kind(columns[0])
        if kind is not None and config.means_schema(database, schema):
            yield Table(TableName(database, schema, name), kind, tuple(map(_column, columns)))


def _of_schemas(config: Config) -> str:
    """A condition for the schemas that are meant by name: an account may have more columns than one answer takes."""
    names = [parts(pattern)[-1] for pattern in config.include.schemas]
    if not all(is_exact(name) and name.isascii() for name in names):
        return ""
    return f"\n  AND UPPER(t.TABLE_SCHEMA) IN ({', '.join(sql.text(plain(name).upper()) for name in names)})"


def _kind(row: Mapping[str, Any]) -> Literal["table", "view", "transient"] | None:
    kind = _KINDS.get(str(row["TABLE_TYPE"]).upper())
    return "transient" if kind == "table" and row["IS_TRANSIENT"] == "YES" else kind


def _column(row: Mapping[str, Any]) -> Column:
    name, type_ = str(row["COLUMN_NAME"]), str(row["DATA_TYPE"])
    return Column(name, type_, family(type_, row["NUMERIC_SCALE"]), row["IS_NULLABLE"] == "YES")


def family(type_: str, scale: int | None) -> Family:
    """What a type of INFORMATION_SCHEMA.COLUMNS holds; NUMBER is integer without decimal places."""
    if type_ == "NUMBER":
        return "decimal" if scale else "integer"
    return _FAMILIES.get(type_, "other")


def is_meant(table: Table, config: Config, only: Collection[str] = ()) -> bool:
    """Whether the settings have a table looked at, by its kind and its names."""
    kinds = {"table": True, "view": config.views, "transient": config.transient}
    return kinds[table.kind] and config.means(table.name) and _within(table.name, only)


def _within(name: TableName, only: Collection[str]) -> bool:
    return not only or any(matches_table(pattern, name) for pattern in only)


def _refuse_unknown(only: Collection[str], meant: Sequence[Table], found: Found) -> None:
    unknown = [one for one in only if not any(matches_table(one, table.name) for table in meant)]
    if unknown and not found.unread:
        some = ", ".join(_like(unknown[0], sorted(map(str, found.known)))) or "none"
        raise UsageError(
            f"received the table {', '.join(unknown)}, expected one that the settings mean and the role can see",
            hint=f"scripts/dq.py discover lists them; there are: {some}",
        )


def _like(pattern: str, names: Sequence[str]) -> Sequence[str]:
    """The names that may have been meant: the nearest, by as many parts as were written; else the first."""
    size = pattern.count(".") + 1
    written_so = {".".join(name.split(".")[-size:]).upper(): name for name in names}
    near = difflib.get_close_matches(pattern.upper(), written_so, 5)
    return [written_so[name] for name in near] or names[:5]


def _dated(table: Table, config: Config, found: Found) -> Table:
    try:
        return replace(table, date_column=config.date_column.of(table.name, table.columns))
    except LookupError as error:
        found.findings.append(not_checked(table.name, error))
        return table


def _sort_in(table: Table, found: Found, whole: bool) -> None:
    found.known[table.name] = table
    if any(result.table == table.name for result in found.findings):
        return
    if table.date_column is None and not whole:
        reason = (
            "it has no date column, so that no window can be read: name one in date_column.overrides, or list the "
            "table in window.whole"
        )
        found.findings.append(skipped(table.name, reason))
        return
    found.tables.append(table)


def is_whole(table: Table, config: Config) -> bool:
    """Whether the settings have the table read whole: by window.whole, or because they say that it has no date."""
    override = next(
        (one for one in config.date_column.overrides if matches_table(one.table, table.name)), None
    )
    return config.window.is_whole(table.name) or (override is not None and override.column is None)


def _named(declared: TableRules) -> TableName | None:
    """The one table that rules are declared of; None for a pattern."""
    if not is_exact(declared.table):
        return None
    written = parts(declared.table)
    return TableName(*(plain(part) if part.startswith('"') else part.upper() for part in written))


def _ask_activity(
    session: Session, config: Config, at: datetime, found: Found, wanted: Collection[TableName]
) -> None:
    """Sort the tables by whether they have rows of late. Views are asked apart: it is they that take long.

    ``wanted`` are checked however quiet they are: somebody declared rules of them, or asked for them by name.
    """
    recent = recent_rows(config, at)
    dated = [table for table in found.tables if table.date_column is not None]
    for chunk in _chunks(dated):
        try:
            found.active |= with_rows(session, chunk, recent)
        except StatementFailed:
            # One of them is at fault. The check of each says which; until then each counts as active.
            found.unsure |= {table.name for table in chunk}
    found.quiet = [table for table in dated if table.name not in found.active | found.unsure]
    left_out = {table.name for table in found.quiet} - set(wanted)
    found.tables = [table for table in found.tables if table.name not in left_out]


def recent_rows(config: Config, at: datetime) -> Window:
    """The time in which an active table has rows. Rows from the future make no table active."""
    return Window(at - timedelta(days=config.active_days), at + timedelta(days=1))


def _chunks(tables: Iterable[Table]) -> Iterator[list[Table]]:
    by_kind = sorted(tables, key=lambda table: table.kind == "view")
    for _, group in groupby(by_kind, key=lambda table: table.kind == "view"):
        alike = list(group)
        yield from (alike[start : start + _CHUNK] for start in range(0, len(alike), _CHUNK))


def with_rows(session: Session, tables: Sequence[Table], window: Window) -> set[TableName]:
    """Those of the tables that have a row in the window. The first row that is found ends the search in a table."""
    branches = [
        f"SELECT {number} AS N FROM (SELECT 1 AS FOUND FROM {sql.full_name(table.name)} AS {sql.ALIAS} "
        f"WHERE {sql.within(window, table.date_column)} LIMIT 1)"
        for number, table in enumerate(tables)
    ]
    about = str(tables[0].name) if len(tables) == 1 else f"{len(tables)} tables from {tables[0].name}"
    answer = session.ask("\nUNION ALL ".join(branches), about=about, scan=True)
    return {tables[int(row["N"])].name for row in answer.rows}
