"""Whether Snowflake would know the names in a statement. To DuckDB, case and many reserved words mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from local.snowflake import refusals
from local.snowflake.refusals import Refusal, refusal
from local.snowflake.users import User

Name = tuple[str, str, str]
INFORMATION_SCHEMA = "INFORMATION_SCHEMA"

# Those of "Reserved & limited keywords" that cannot be a column's or a table's name without quotes, and that the
# parser takes for one.
_WORDS = (
    "ALL ALTER AND ANY AS BETWEEN BY CASE CAST CHECK COLUMN CONNECT CONSTRAINT CREATE CROSS CURRENT DELETE DISTINCT "
    "DROP ELSE EXISTS FALSE FOLLOWING FOR FROM FULL GRANT GROUP HAVING ILIKE IN INCREMENT INNER INSERT INTERSECT INTO "
    "IS JOIN LATERAL LEFT LIKE MINUS NATURAL NOT NULL OF ON OR ORDER QUALIFY REGEXP REVOKE RIGHT RLIKE ROW ROWS SAMPLE "
    "SELECT SET SOME START TABLE TABLESAMPLE THEN TO TRIGGER TRUE TRY_CAST UNION UNIQUE UPDATE USING VALUES WHEN "
    "WHENEVER WHERE WITH"
)
RESERVED = frozenset(_WORDS.split())
# What a user with rights to read may say.
READING = (exp.Query, exp.Show, exp.Describe, exp.Use)


@dataclass(frozen=True)
class Objects:
    """What there is: columns by table or view, and all schemas."""

    tables: Mapping[Name, Collection[str]]
    schemas: frozenset[tuple[str, str]]

    @property
    def databases(self) -> set[str]:
        return {database for database, _ in self.schemas}


def stored(identifier: Any) -> str:
    """An identifier as Snowflake stores it: in capitals where it has no quotes."""
    name = str(identifier.name)
    return name if identifier.args.get("quoted") else name.upper()


def tables(statement: exp.Expr, database: str | None, schema: str | None) -> Iterator[Name]:
    """The tables that a query reads, by their full names."""
    common = {stored(cte.args["alias"].this) for cte in statement.find_all(exp.CTE)}
    for table in statement.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            continue  # a table function
        parts = [table.args.get("catalog"), table.args.get("db"), table.this]
        if parts[1] is None and stored(table.this) in common:
            continue
        given = [stored(part) if part is not None else None for part in parts]
        yield given[0] or database or "", given[1] or schema or "", given[2] or ""


def refused(
    statement: exp.Expr,
    objects: Callable[[], Objects],
    user: User,
    database: str | None,
    schema: str | None,
) -> Refusal | None:
    """How Snowflake refuses the statement to the user, None where its names are right.

    Looks at queries; of what else there is, a user with rights to read may say nothing.
    """
    if user.grants is not None and not isinstance(statement, READING):
        target = statement.find(exp.Table)
        return refusal(refusals.NO_PRIVILEGE, kind="table", object=target.name if target else "")
    if not isinstance(statement, exp.Query):
        return None
    word = next(_reserved(statement), None)
    if word is not None:
        return refusal(refusals.SYNTAX, object=word)
    there = objects()
    read = list(tables(statement, database, schema))
    for name in read:
        found = _missing(name, there, user)
        if found is not None:
            return found
    return _other_case(statement, [column for name in read for column in there.tables.get(name, ())])


def _reserved(statement: exp.Expr) -> Iterator[str]:
    for identifier in statement.find_all(exp.Identifier):
        if not identifier.args.get("quoted") and str(identifier.this).upper() in RESERVED:
            yield str(identifier.this)


def _missing(name: Name, there: Objects, user: User) -> Refusal | None:
    if not (name[0] and name[1]):
        return None  # the session has no database or schema, which fakesnow says
    if name[0] not in there.databases or not user.sees(name[0]):
        return refusal(refusals.NO_OBJECT, kind="Database", object=name[0])
    if name[1] == INFORMATION_SCHEMA:
        return None
    if name[:2] not in there.schemas or not user.sees(*name[:2]):
        return refusal(refusals.NO_OBJECT, kind="Schema", object=".".join(name[:2]))
    if name not in there.tables or not user.sees(*name):
        return refusal(refusals.NO_OBJECT, object=".".join(name))
    if not user.reads(*name):
        return refusal(refusals.NO_PRIVILEGE, kind="table", object=name[2])
    return None


def _other_case(statement: exp.Expr, columns: Collection[str]) -> Refusal | None:
    """A column that is there in another case only."""
    made = {stored(one.args["alias"]) for one in statement.find_all(exp.Alias) if one.args.get("alias")}
    made |= {
        stored(one) for alias in statement.find_all(exp.TableAlias) for one in alias.args.get("columns") or ()
    }
    exact = {*columns, *made}
    folded = {column.casefold() for column in columns}
    for column in statement.find_all(exp.Column):
        if not isinstance(column.this, exp.Identifier):
            continue
        name = stored(column.this)
        if name not in exact and name.casefold() in folded:
            quoted = column.this.args.get("quoted")
            return refusal(refusals.INVALID_IDENTIFIER, object=f'"{name}"' if quoted else name)
    return None
