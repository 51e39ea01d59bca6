"""How each kind of rule is asked and judged: by aggregates of the table's scan, or by a query of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from dq_runner import sql
from dq_runner.model import Column, Family, Rule, Status, Table, TableName, Window
from dq_runner.patterns import matches, parts
from dq_runner.rules import custom_sql

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What an answer says of a rule: fields of a Result."""

    status: Status
    observed: str = ""
    message: str = ""
    rows: int | None = None
    failed_rows: int | None = None
    share: Decimal | None = None
    value: float | None = None


Judge = Callable[[Values], Verdict]


@dataclass(frozen=True)
class Check:
    """A rule as it is asked and judged: ``needs`` are the values that ``judge`` takes.

    Without a judge it cannot be asked: ``refused`` says why. ``broken`` is the condition of rows that break it.
    """

    rule: Rule
    needs: tuple[str, ...] = ()
    judge: Judge | None = None
    expected: str = ""
    broken: str = ""
    refused: str = ""
    status: Status = "error"


class Refused(Exception):
    """A rule that this table does not allow; the message says what was received and what was expected."""

    def __init__(self, message: str, status: Status = "error") -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Scan:
    """Aggregates over one window: each expression once, whoever asks for it."""

    source: str
    condition: str
    prefix: str
    aliases: dict[str, str] = field(default_factory=dict)
    joins: dict[str, str] = field(default_factory=dict)

    def add(self, expression: str, alias: str = "", join: str = "") -> str:
        """The name of an aggregate's value. ``join``: what it needs after FROM."""
        found = self.aliases.setdefault(expression, alias or f"{self.prefix}{len(self.aliases)}")
        if join:
            self.joins[found] = join
        return found

    def rows(self) -> str:
        return self.add("COUNT(*)", "ROWS" if self.prefix == "M" else "")

    def statement(self) -> str:
        chosen = ",\n  ".join(
            f"{expression} AS {sql.quoted(alias)}" for expression, alias in self.aliases.items()
        )
        joins = "".join(f"\n{join}" for join in dict.fromkeys(self.joins.values()))
        where = f"\nWHERE {self.condition}" if self.condition else ""
        return f"SELECT\n  {chosen}\nFROM {self.source} AS {sql.ALIAS}{joins}{where}"


@dataclass
class Draft:
    """One table while its rules are compiled. ``window_scan`` is None where the window has no date to go by."""

    table: Table
    window: Window
    at: datetime
    known: Mapping[TableName, Table]
    apart: bool
    window_scan: Scan | None
    whole_scan: Scan
    extra: list[tuple[str, str, Rule]] = field(default_factory=list)

    @classmethod
    def of(
        cls, table: Table, window: Window, at: datetime, known: Mapping[TableName, Table], *, apart: bool
    ) -> Draft:
        source = sql.full_name(table.name)
        has_window = window.whole or table.date_column is not None
        condition = sql.within(window, table.date_column) if has_window else ""
        scan = Scan(source, condition, "M") if has_window else None
        return cls(table, window, at, known, apart, scan, Scan(source, "", "W"))

    def is_whole(self, rule: Rule) -> bool:
        return self.window.whole or rule.params.get("window") == "whole"

    def scan(self, rule: Rule) -> Scan:
        if self.window_scan is None and not self.is_whole(rule):
            raise Refused(
                "the table has no date column by which rows of a day can be told: name one in "
                "date_column.overrides, or have the table read whole",
                "skipped",
            )
        return (
            self.window_scan
            if self.window_scan and (self.window.whole or not self.is_whole(rule))
            else self.whole_scan
        )

    def condition(self, rule: Rule) -> str:
        """The window and the rule's own ``where``; empty where it means all rows."""
        found = (self.scan(rule).condition, self.where(rule))
        return " AND ".join(part for part in found if part)

    def where(self, rule: Rule) -> str:
        given = rule.params.get("where")
        try:
            return f"({custom_sql.on_table(given, self.table)})" if given else ""
        except (LookupError, ValueError) as error:
            raise Refused(f"where: {error}") from None

    def columns(self, rule: Rule, *families: Family) -> list[Column]:
        """The rule's columns, of one of the families if any are given."""
        return [column_of(self.table, name, *families) for name in rule.columns]

    def ask(self, rule: Rule, statement: str) -> str:
        """A query of the rule's own, its value called ``{alias}``; the name of the value is returned."""
        alias = f"E{len(self.extra)}"
        self.extra.append((alias, statement.replace("{alias}", sql.quoted(alias), 1), rule))
        return alias


def column_of(table: Table, name: str, *families: Family) -> Column:
    """Raises Refused where a table has no such column, or one of another family."""
    found = table.column(name)
    if found is None:
        there = ", ".join(column.name for column in table.columns[:30])
        more = f" and {len(table.columns) - 30} more" if len(table.columns) > 30 else ""
        raise Refused(f"received the column {name}, expected one of {table.name}: {there}{more}")
    if families and found.family not in families:
        raise Refused(f"{found.name} is {found.type}, expected a column of {' or '.join(families)}")
    return found


def check(draft: Draft, rule: Rule) -> Check:
    """The rule of this table; where it cannot be asked, the check says why."""
    try:
        return _CHECKS[rule.kind](draft, rule)
    except Refused as refused:
        return Check(rule, refused=str(refused), status=refused.status)


def count(condition: str) -> str:
    """COUNT_IF over no rows is NULL elsewhere."""
    return f"COUNT(CASE WHEN {condition} THEN 1 END)"


def as_moment(value: Any) -> datetime | None:
    """A date or time of an answer as a moment in UTC: without a zone it is UTC."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        if not isinstance(value, date):
            raise TypeError(f"a date, received {type(value).__name__}")
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Rules of rows -----------------------------------------------------------------------------------------------------


def _rows_that(draft: Draft, rule: Rule, broken: str, expected: str) -> Check:
    """A rule that single rows break, counted in the scan."""
    where = draft.where(rule)
    scan = draft.scan(rule)
    condition = f"{where} AND ({broken})" if where else broken
    rows = scan.add(count(where)) if where else scan.rows()
    return _counted(rule, scan.add(count(condition)), rows, expected, condition)


def _counted(rule: Rule, failed: str, rows: str, expected: str, broken: str = "") -> Check:
    def judge(values: Values) -> Verdict:
        return _share(rule, int(values[failed]), int(values[rows]))

    return Check(rule, (failed, rows), judge, _with_share(rule, expected), broken)


def _with_share(rule: Rule, expected: str) -> str:
    return f"{expected} (at most {rule.max_share:f} of the rows break it)" if rule.max_share else expected


def _share(rule: Rule, failed: int, rows: int) -> Verdict:
    if not 0 <= failed <= rows:
        raise ValueError(f"{failed} failed rows of {rows}")
    share = Decimal(failed) / Decimal(rows) if rows else Decimal(0)
    return Verdict(
        status="failed" if failed > rule.max_share * rows else "passed",
        observed=f"{failed:,} of {rows:,} rows" if rows else "no rows to look at",
        rows=rows,
        failed_rows=failed,
        share=share,
        value=float(share),
    )


def _not_null(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule)
    broken = f"{sql.column(column.name)} IS NULL"
    if column != draft.table.date_column or draft.is_whole(rule):
        return _rows_that(draft, rule, broken, "no NULL")
    # Rows without a date are in no window.
    where = draft.where(rule)
    scan = draft.scan(rule)
    condition = f"{where} AND ({broken})" if where else broken
    source = f"FROM {scan.source} AS {sql.ALIAS}"
    failed = scan.add(f"(SELECT COUNT(*) {source} WHERE {condition})")
    rows = scan.add(f"(SELECT COUNT(*) {source}{f' WHERE {where}' if where else ''})")
    return _counted(rule, failed, rows, "no NULL in the whole table", condition)


_COMPARED: tuple[Family, ...] = (
    "text",
    "integer",
    "decimal",
    "float",
    "boolean",
    "date",
    "timestamp",
    "time",
)
_RANGED: tuple[Family, ...] = ("integer", "decimal", "float", "date", "timestamp")


def _literals(values: tuple[Any, ...], column: Column) -> list[str]:
    try:
        return list(dict.fromkeys(sql.literal(value, column) for value in values))
    except ValueError as error:
        raise Refused(str(error)) from None


def _accepted_values(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, *_COMPARED)
    values = _literals(rule.params["values"], column)
    broken = f"{sql.column(column.name)} NOT IN ({', '.join(values)})"
    named = ", ".join(str(value) for value in rule.params["values"][:10])
    expected = f"one of {named}" if len(values) <= 10 else f"one of {len(values)} values: {named}, …"
    return _rows_that(draft, rule, broken, rule.params.get("said", expected))


def _range(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, *_RANGED)
    name = sql.column(column.name)
    least, most = rule.params.get("min"), rule.params.get("max")
    broken = [] if least is None else [f"{name} < {_literals((least,), column)[0]}"]
    broken += [] if most is None else [f"{name} > {_literals((most,), column)[0]}"]
    broken += [f"{name} = 'NaN'::FLOAT"] if column.family == "float" else []
    return _rows_that(draft, rule, " OR ".join(broken), _between(least, most))


def _between(least: Any, most: Any) -> str:
    bounds = [] if least is None else [f"at least {least}"]
    return " and ".join(bounds + ([] if most is None else [f"at most {most}"]))


def _regex(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, "text")
    pattern = rule.params["pattern"]
    # Snowflake matches the whole value.
    broken = f"NOT REGEXP_LIKE({sql.column(column.name)}, {sql.text(pattern)})"
    return _rows_that(draft, rule, broken, rule.params.get("said", f"the form {pattern}"))


def _not_in_future(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, "date", "timestamp")
    broken = f"{sql.column(column.name)} > {_now(draft, column)}"
    return _rows_that(draft, rule, broken, f"not after {draft.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")


def _now(draft: Draft, column: Column) -> str:
    """The moment of the run; for dates its day."""
    utc = draft.at.astimezone(UTC)
    return sql.day(utc.date()) if column.family == "date" else sql.moment(utc, column.type)


# Keys --------------------------------------------------------------------------------------------------------------


def _unique(draft: Draft, rule: Rule) -> Check:
    columns = draft.columns(rule, *_COMPARED)
    is_in_scan = len(columns) == 1 and (rule.origin == "convention" or draft.is_whole(rule))
    return _unique_in_scan(draft, rule, columns[0]) if is_in_scan else _unique_by_query(draft, rule, columns)


def _unique_in_scan(draft: Draft, rule: Rule, column: Column) -> Check:
    name = sql.column(column.name)
    where = draft.where(rule)
    scan = draft.scan(rule)
    key = f"CASE WHEN {where} THEN {name} END" if where else name
    failed = scan.add(f"COUNT({key}) - COUNT(DISTINCT {key})")
    rows = scan.add(count(where)) if where else scan.rows()
    return _counted(
        rule, failed, rows, "no value twice" if draft.is_whole(rule) else "no value twice in the window"
    )


def _unique_by_query(draft: Draft, rule: Rule, columns: list[Column]) -> Check:
    """Keys of the window, counted in the whole table."""
    where = draft.where(rule)
    scan = draft.scan(rule)
    rows = scan.add(count(where)) if where else scan.rows()
    names = [sql.column(column.name) for column in columns]
    known = " AND ".join([*(f"{name} IS NOT NULL" for name in names), *([where] if where else [])])
    within = scan.condition or "TRUE"
    source = f"{scan.source} AS {sql.ALIAS}"
    pairs = " AND ".join(f"W.K{number} = {name}" for number, name in enumerate(names))
    keys = ", ".join(f"{name} AS K{number}" for number, name in enumerate(names))
    looked_up = (
        f"\n  JOIN (SELECT DISTINCT {keys} FROM {source} WHERE {within} AND {known}) AS W ON {pairs}"
        if scan.condition
        else ""
    )
    failed = draft.ask(
        rule,
        "SELECT COALESCE(SUM(Q.FAILED), 0)::NUMBER(38,0) AS {alias} FROM (\n"
        f"  SELECT {count(within)} - CASE WHEN COUNT(*) = {count(within)} THEN 1 ELSE 0 END AS FAILED\n"
        f"  FROM {source}{looked_up}\n  WHERE {known}\n  GROUP BY {', '.join(names)}\n) AS Q",
    )
    return _counted(rule, failed, rows, "no key twice in the table")


def _referential(draft: Draft, rule: Rule) -> Check:
    columns = draft.columns(rule, *_COMPARED)
    parent = _parent(draft, rule.params["to"])
    others = [column_of(parent, name, *_COMPARED) for name in rule.params["to_columns"]]
    for column, other in zip(columns, others, strict=True):
        if column.family != other.family and {column.family, other.family} != {"integer", "decimal"}:
            raise Refused(
                f"{column.name} is {column.type}, expected the type of {parent.name} {other.name}, {other.type}"
            )
    expected = f"found in {parent.name} ({', '.join(other.name for other in others)})"
    if rule.origin == "convention" and not draft.apart:
        return _found_by_join(draft, rule, columns[0], parent, others[0], expected)
    return _found_by_query(draft, rule, columns, parent, others, expected)


def _parent(draft: Draft, to: TableName | str) -> Table:
    if isinstance(to, TableName):
        found = draft.known.get(to)
    else:
        here = draft.table.name
        own = (here.database, here.schema, here.name)
        given = parts(to)
        wanted = [*own[: 3 - len(given)], *given]
        alike = [
            table
            for name, table in draft.known.items()
            if all(
                matches(part, one) if number >= 3 - len(given) else part == one
                for number, (part, one) in enumerate(
                    zip(wanted, (name.database, name.schema, name.name), strict=True)
                )
            )
        ]
        exact = [table for table in alike if str(table.name) == ".".join(wanted).upper()]
        found = (exact or alike)[0] if len(exact or alike) == 1 else None
    if found is None:
        raise Refused(
            f"received {to} as the table that has the keys, expected one of the {len(draft.known)} that were found"
        )
    return found


def _found_by_join(
    draft: Draft, rule: Rule, column: Column, parent: Table, other: Column, expected: str
) -> Check:
    """In the scan itself: the other table's keys are joined once each, so that no row is counted twice."""
    scan = draft.scan(rule)
    joined = f"P{len(scan.joins)}"
    key = sql.column(other.name, "P")
    join = (
        f"LEFT JOIN (SELECT DISTINCT {key} AS K FROM {sql.full_name(parent.name)} AS P) AS {joined}"
        f" ON {joined}.K = {sql.column(column.name)}"
    )
    condition = f"{sql.column(column.name)} IS NOT NULL AND {joined}.K IS NULL"
    return _counted(rule, scan.add(count(condition), join=join), scan.rows(), expected)


def _found_by_query(
    draft: Draft, rule: Rule, columns: list[Column], parent: Table, others: list[Column], expected: str
) -> Check:
    where = draft.where(rule)
    scan = draft.scan(rule)
    rows = scan.add(count(where)) if where else scan.rows()
    names = [sql.column(column.name) for column in columns]
    pairs = " AND ".join(
        f"{sql.column(other.name, 'P')} = {name}" for name, other in zip(names, others, strict=True)
    )
    conditions = [part for part in (scan.condition, where) if part] + [
        f"{name} IS NOT NULL" for name in names
    ]
    failed = draft.ask(
        rule,
        f"SELECT COUNT(*) AS {{alias}}\nFROM {scan.source} AS {sql.ALIAS}\nWHERE {' AND '.join(conditions)}\n"
        f"  AND NOT EXISTS (SELECT 1 FROM {sql.full_name(parent.name)} AS P WHERE {pairs})",
    )
    return _counted(rule, failed, rows, expected)


# Rules of the table ------------------------------------------------------------------------------------------------


def _few_values(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, *_COMPARED)
    name = sql.column(column.name)
    where = draft.where(rule)
    scan = draft.scan(rule)
    found = scan.add(f"COUNT(DISTINCT {f'CASE WHEN {where} THEN {name} END' if where else name})")
    rows = scan.rows()
    most = rule.params["max"]

    def judge(values: Values) -> Verdict:
        number = int(values[found])
        return Verdict(
            "failed" if number > most else "passed",
            f"{number:,} values",
            rows=int(values[rows]),
            value=float(number),
        )

    return Check(rule, (found, rows), judge, f"at most {most:,} different values")


def _row_count(draft: Draft, rule: Rule) -> Check:
    where = draft.where(rule)
    scan = draft.scan(rule)
    rows = scan.add(count(where)) if where else scan.rows()
    least, most = rule.params.get("min"), rule.params.get("max")

    def judge(values: Values) -> Verdict:
        number = int(values[rows])
        is_outside = (least is not None and number < least) or (most is not None and number > most)
        return Verdict(
            "failed" if is_outside else "passed", f"{number:,} rows", rows=number, value=float(number)
        )

    return Check(rule, (rows,), judge, f"{_between(least, most)} rows")


def _freshness(draft: Draft, rule: Rule) -> Check:
    """By the newest date that is not in the future, in the whole table."""
    column = _freshness_column(draft, rule)
    name = sql.column(column.name)
    where = draft.where(rule)
    scan = draft.window_scan or draft.whole_scan
    condition = f"{name} <= {_now(draft, column)}{f' AND {where}' if where else ''}"
    newest = scan.add(f"(SELECT MAX({name}) FROM {scan.source} AS {sql.ALIAS} WHERE {condition})")
    most = rule.params["max_hours"]

    def judge(values: Values) -> Verdict:
        found = as_moment(values[newest])
        if found is None:
            return Verdict("failed", "no row with a date up to now")
        hours = Decimal((draft.at - found).total_seconds()) / 3600
        return Verdict(
            "failed" if hours > most else "passed",
            f"{hours:.1f} hours: the newest row is of {found:%Y-%m-%d %H:%M} UTC",
            value=float(hours),
        )

    return Check(rule, (newest,), judge, f"at most {most:f} hours old")


def _freshness_column(draft: Draft, rule: Rule) -> Column:
    if rule.columns:
        return draft.columns(rule, "date", "timestamp")[0]
    if draft.table.date_column is None:
        raise Refused(
            "the table has no date column: name one in the rule's columns or in date_column.overrides"
        )
    return draft.table.date_column


def _custom_sql(draft: Draft, rule: Rule) -> Check:
    window = draft.scan(rule).condition or "TRUE"
    statement = custom_sql.on(rule.params["sql"], draft.table.name, window)
    asked = (
        f"SELECT COALESCE((\n{statement.sql}\n), 0) AS {{alias}}"
        if statement.counts
        else f"SELECT COUNT(*) AS {{alias}} FROM (\n{statement.sql}\n) AS Q"
    )
    failed = draft.ask(rule, asked)
    if statement.of_window:
        return _counted(rule, failed, draft.scan(rule).rows(), "no row")

    def judge(values: Values) -> Verdict:
        number = int(values[failed])
        if number < 0 or number != values[failed]:
            raise ValueError(f"{values[failed]} rows")
        return Verdict(
            "failed" if number else "passed", f"{number:,} rows", failed_rows=number, value=float(number)
        )

    return Check(rule, (failed,), judge, "no row")


_CHECKS: dict[str, Callable[[Draft, Rule], Check]] = {
    "not_null": _not_null,
    "unique": _unique,
    "accepted_values": _accepted_values,
    "range": _range,
    "regex": _regex,
    "not_in_future": _not_in_future,
    "few_values": _few_values,
    "referential": _referential,
    "row_count": _row_count,
    "freshness": _freshness,
    "custom_sql": _custom_sql,
}
