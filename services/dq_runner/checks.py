"""How each kind of rule is asked and judged: by aggregates of the table's scan, or by a query of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from dq_runner import sql
from dq_runner.draft import COMPARED, Draft, Refused, Rows, column_of
from dq_runner.model import Column, Family, Rule, Status, Table, TableName
from dq_runner.patterns import matches, parts
from dq_runner.rules import custom_sql
from dq_runner.words import counted

Values = Mapping[str, Any]

RANGED: tuple[Family, ...] = ("integer", "decimal", "float", "date", "timestamp")
_MOST_SHOWN = 10
_LOOK_BACK = timedelta(days=35)
#: Rows come in while a run goes on, and another try of it has the same moment: they are not of the future.
RUN_TAKES = timedelta(hours=1)


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

    Without a judge it cannot be asked: ``refused`` says why. ``sample`` is a query of the keys of rows that break it,
    empty where nothing names them.
    """

    rule: Rule
    needs: tuple[str, ...] = ()
    judge: Judge | None = None
    expected: str = ""
    sample: str = ""
    refused: str = ""
    status: Status = "error"


def check(draft: Draft, rule: Rule) -> Check:
    """The rule of this table; where it cannot be asked, the check says why."""
    try:
        return _CHECKS[rule.kind](draft, rule)
    except Refused as refused:
        return Check(rule, refused=str(refused), status=refused.status)


def as_moment(value: Any) -> datetime | None:
    """A date or time of an answer as a moment in UTC: without a zone it is UTC."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        if not isinstance(value, date):
            raise TypeError(f"a date, received {type(value).__name__}")
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Rules of single rows ----------------------------------------------------------------------------------------------


def _broken_by(draft: Draft, rule: Rule, rows: Rows, broken: str, expected: str) -> Check:
    """A rule that single rows break, counted in the scan."""
    return _counted(rule, rows.count(broken), rows, expected, _sample(draft, rows, broken))


def _counted(rule: Rule, failed: str, rows: Rows, expected: str, sample: str = "") -> Check:
    number = rows.count()

    def judge(values: Values) -> Verdict:
        return _share(rule, int(values[failed]), int(values[number]))

    if rule.max_share:
        expected = f"{expected}, but for a share of {rule.max_share:f} at most"
    return Check(rule, (failed, number), judge, expected, sample)


def _share(rule: Rule, failed: int, rows: int) -> Verdict:
    if not 0 <= failed <= rows:
        raise ValueError(f"{failed} failed rows of {rows}")
    share = Decimal(failed) / Decimal(rows) if rows else Decimal(0)
    return Verdict(
        # The share is rounded, the product is not.
        status="failed" if failed > rule.max_share * rows else "passed",
        observed=f"{failed:,} of {counted(rows, 'row')}" if rows else "no rows to look at",
        rows=rows,
        failed_rows=failed,
        share=share,
        value=float(share),
    )


def _sample(draft: Draft, rows: Rows, broken: str, join: str = "") -> str:
    if not draft.key:
        return ""
    names = ", ".join(sql.column(column.name) for column in draft.key)
    condition = f"{rows.condition} AND ({broken})" if rows.condition else broken
    return f"SELECT DISTINCT {names}\n{rows.source}{join}\nWHERE {condition}\nORDER BY {names}"


def _not_null(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule)
    rows = draft.rows(rule, beyond=column == draft.table.date_column)
    expected = "no NULL in the whole table" if rows.beyond else "no NULL"
    return _broken_by(draft, rule, rows, f"{sql.column(column.name)} IS NULL", expected)


def _not_in_future(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, "date", "timestamp")
    rows = draft.rows(rule, beyond=column == draft.table.date_column)
    last = draft.at.astimezone(UTC) + RUN_TAKES
    moment = f"{last:%Y-%m-%d}" + ("" if column.family == "date" else f"{last: %H:%M}")
    return _broken_by(
        draft,
        rule,
        rows,
        f"{sql.column(column.name)} > {draft.moment(last, column)}",
        f"no time after {moment} UTC",
    )


def _literals(values: tuple[Any, ...], column: Column) -> list[str]:
    try:
        return list(dict.fromkeys(sql.literal(value, column) for value in values))
    except ValueError as error:
        raise Refused(str(error)) from None


def _accepted_values(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, *COMPARED)
    given = rule.params["values"]
    named = ", ".join(str(value) for value in given[:_MOST_SHOWN]) + (
        ", …" if len(given) > _MOST_SHOWN else ""
    )
    broken = f"{sql.column(column.name)} NOT IN ({', '.join(_literals(given, column))})"
    return _broken_by(draft, rule, draft.rows(rule), broken, rule.params.get("said", f"one of {named}"))


def _range(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, *RANGED)
    name = sql.column(column.name)
    least, most = rule.params.get("min"), rule.params.get("max")
    broken = [] if least is None else [f"{name} < {_literals((least,), column)[0]}"]
    broken += [] if most is None else [f"{name} > {_literals((most,), column)[0]}"]
    broken += [f"{name} = 'NaN'::FLOAT"] if column.family == "float" else []
    return _broken_by(draft, rule, draft.rows(rule), " OR ".join(broken), _between(least, most))


def _between(least: Any, most: Any) -> str:
    bounds = [] if least is None else [f"at least {least}"]
    return " and ".join(bounds + ([] if most is None else [f"at most {most}"]))


def _regex(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, "text")
    pattern = rule.params["pattern"]
    # Snowflake matches the whole value.
    broken = f"NOT REGEXP_LIKE({sql.column(column.name)}, {sql.text(pattern)})"
    return _broken_by(
        draft, rule, draft.rows(rule), broken, rule.params.get("said", f"text of the form {pattern}")
    )


# Keys --------------------------------------------------------------------------------------------------------------


def _unique(draft: Draft, rule: Rule) -> Check:
    columns = draft.columns(rule, *COMPARED)
    is_in_scan = len(columns) == 1 and (rule.origin == "convention" or draft.is_whole(rule))
    return _unique_in_scan(draft, rule, columns[0]) if is_in_scan else _unique_by_query(draft, rule, columns)


def _unique_in_scan(draft: Draft, rule: Rule, column: Column) -> Check:
    rows = draft.rows(rule)
    name = sql.column(column.name)
    failed = rows.scan.add(f"COUNT({rows.value(name)}) - COUNT(DISTINCT {rows.value(name)})")
    where = "" if draft.is_whole(rule) else " within the window"
    known = f"{rows.condition} AND {name} IS NOT NULL" if rows.condition else f"{name} IS NOT NULL"
    sample = (
        f"SELECT {name}\n{rows.source}\nWHERE {known}\nGROUP BY {name}\nHAVING COUNT(*) > 1\nORDER BY {name}"
    )
    return _counted(rule, failed, rows, f"no value twice{where}", sample)


def _unique_by_query(draft: Draft, rule: Rule, columns: list[Column]) -> Check:
    """Of each key the rows in the window, and in the whole table: one row less where all of them are in the window."""
    rows = draft.rows(rule)
    names = [sql.column(column.name) for column in columns]
    known = " AND ".join([*(f"{name} IS NOT NULL" for name in names), *([rows.where] if rows.where else [])])
    inside = f"COUNT(CASE WHEN {rows.scan.condition} THEN 1 END)" if rows.scan.condition else "COUNT(*)"
    keys = ", ".join(f"{name} AS K{number}" for number, name in enumerate(names))
    counted = (
        f"  SELECT {keys}, {inside} - CASE WHEN COUNT(*) = {inside} THEN 1 ELSE 0 END AS FAILED\n"
        f"  {rows.source}{_keys_of_window(rows, names, known)}\n  WHERE {known}\n  GROUP BY {', '.join(names)}"
    )
    failed = draft.ask(rule, "COALESCE(SUM(Q.FAILED), 0)::NUMBER(38,0)", f"\nFROM (\n{counted}\n) AS Q")
    named = ", ".join(f"Q.K{number} AS {sql.quoted(column.name)}" for number, column in enumerate(columns))
    order = ", ".join(f"Q.K{number}" for number, _ in enumerate(columns))
    sample = f"SELECT {named}\nFROM (\n{counted}\n) AS Q\nWHERE Q.FAILED > 0\nORDER BY {order}"
    return _counted(rule, failed, rows, "no key twice in the table", sample)


def _keys_of_window(rows: Rows, names: list[str], known: str) -> str:
    """A join that leaves the rows whose key is in the window; empty for the whole table."""
    if not rows.scan.condition:
        return ""
    keys = ", ".join(f"{name} AS K{number}" for number, name in enumerate(names))
    pairs = " AND ".join(f"W.K{number} = {name}" for number, name in enumerate(names))
    inner = f"SELECT DISTINCT {keys} {rows.source} WHERE {rows.scan.condition} AND {known}"
    return f"\n  JOIN ({inner}) AS W ON {pairs}"


def _referential(draft: Draft, rule: Rule) -> Check:
    columns = draft.columns(rule, *COMPARED)
    parent = _parent(draft, rule.params["to"])
    others = [column_of(parent, name, *COMPARED) for name in rule.params["to_columns"]]
    for column, other in zip(columns, others, strict=True):
        _require_like(column, other, parent)
    expected = f"a key that is in {parent.name} ({', '.join(other.name for other in others)})"
    if rule.origin == "convention" and not draft.apart:
        return _found_by_join(draft, rule, columns[0], parent, others[0], expected)
    return _found_by_query(draft, rule, columns, parent, others, expected)


def _require_like(column: Column, other: Column, parent: Table) -> None:
    """A comparison of text with numbers fails at the first value that is none."""
    numbers = {"integer", "decimal", "float"}
    if column.family != other.family and not {column.family, other.family} <= numbers:
        raise Refused(
            f"received {column.name} of type {column.type}, expected {other.type} as in {parent.name}"
        )


def _parent(draft: Draft, to: TableName | str) -> Table:
    found = [draft.known[to]] if isinstance(to, TableName) and to in draft.known else []
    if isinstance(to, str):
        found = _meant(to, draft.table.name, draft.known)
    if len(found) != 1:
        received = f"{to}, which means {len(found)} tables" if found else f"{to}"
        raise Refused(
            f"received {received} as the table that has the keys, expected one of the {len(draft.known)} tables that "
            "were found: correct the name, or include the table in config/dq_platform.yaml"
        )
    return found[0]


def _meant(to: str, here: TableName, known: Mapping[TableName, Table]) -> list[Table]:
    """The tables that a name of one to three parts means; parts that it lacks are those of the referring table."""
    given = parts(to)
    own = (here.database, here.schema)[: 3 - len(given)]
    alike = [
        table
        for name, table in known.items()
        if (name.database, name.schema)[: len(own)] == own
        and all(map(matches, given, (name.database, name.schema, name.name)[len(own) :]))
    ]
    # Of names that differ in case alone, one without quotes is that in capitals.
    exact = [table for table in alike if str(table.name) == str(table.name).upper()]
    return exact if len(exact) == 1 else alike


def _found_by_join(
    draft: Draft, rule: Rule, column: Column, parent: Table, other: Column, expected: str
) -> Check:
    """In the scan itself: the other table's keys are joined once each, so that no row is counted twice."""
    rows = draft.rows(rule)
    joined = f"P{len(rows.scan.joins)}"
    name, key = sql.column(column.name), sql.column(other.name, "P")
    keys = f"SELECT DISTINCT {key} AS K FROM {sql.full_name(parent.name)} AS P"
    join = f"LEFT JOIN ({keys}) AS {joined} ON {joined}.K = {name}"
    broken = f"{name} IS NOT NULL AND {joined}.K IS NULL"
    failed = rows.scan.add(f"COUNT(CASE WHEN {broken} THEN 1 END)", join=join)
    return _counted(rule, failed, rows, expected, _sample(draft, rows, broken, f"\n{join}"))


def _found_by_query(
    draft: Draft, rule: Rule, columns: list[Column], parent: Table, others: list[Column], expected: str
) -> Check:
    rows = draft.rows(rule)
    names = [sql.column(column.name) for column in columns]
    pairs = " AND ".join(
        f"{sql.column(other.name, 'P')} = {name}" for name, other in zip(names, others, strict=True)
    )
    missing = f"NOT EXISTS (SELECT 1 FROM {sql.full_name(parent.name)} AS P WHERE {pairs})"
    broken = " AND ".join([*(f"{name} IS NOT NULL" for name in names), missing])
    condition = f"{rows.condition} AND {broken}" if rows.condition else broken
    failed = draft.ask(rule, "COUNT(*)", f"\n{rows.source}\nWHERE {condition}")
    return _counted(rule, failed, rows, expected, _sample(draft, rows, broken))


# Rules of the table ------------------------------------------------------------------------------------------------


def _few_values(draft: Draft, rule: Rule) -> Check:
    (column,) = draft.columns(rule, *COMPARED)
    rows = draft.rows(rule)
    found = rows.scan.add(f"COUNT(DISTINCT {rows.value(sql.column(column.name))})")
    number = rows.count()
    most = rule.params["max"]

    def judge(values: Values) -> Verdict:
        different = int(values[found])
        status: Status = "failed" if different > most else "passed"
        return Verdict(status, counted(different, "value"), rows=int(values[number]), value=float(different))

    return Check(rule, (found, number), judge, f"at most {most:,} different values")


def _row_count(draft: Draft, rule: Rule) -> Check:
    number = draft.rows(rule).count()
    least, most = rule.params.get("min"), rule.params.get("max")

    def judge(values: Values) -> Verdict:
        rows = int(values[number])
        is_outside = (least is not None and rows < least) or (most is not None and rows > most)
        return Verdict(
            "failed" if is_outside else "passed", counted(rows, "row"), rows=rows, value=float(rows)
        )

    between = _between(least, most)
    return Check(rule, (number,), judge, f"{between} row{'' if between.endswith(' 1') else 's'}")


def _freshness(draft: Draft, rule: Rule) -> Check:
    """By the newest date that is not in the future, whatever the window is.

    Weeks before ``max_hours`` are not looked at: of a table that is ordered by time most partitions stay unread.
    """
    column = _freshness_column(draft, rule)
    name = sql.column(column.name)
    most = rule.params["max_hours"]
    first = draft.at - timedelta(hours=float(most)) - _LOOK_BACK
    bounds = f"{name} >= {draft.moment(first, column)} AND {name} <= {draft.moment(draft.at, column)}"
    rows = Rows(draft.any_scan(), draft.where(rule), beyond=True)
    condition = f"{rows.condition} AND {bounds}" if rows.condition else bounds
    newest = rows.scan.add(f"(SELECT MAX({name}) {rows.source} WHERE {condition})")

    def judge(values: Values) -> Verdict:
        found = as_moment(values[newest])
        if found is None:
            return Verdict("failed", f"no row since {first:%Y-%m-%d}")
        hours = Decimal(round((draft.at - found).total_seconds())) / 3600
        observed = f"{hours:.1f} hours: the newest row is of {found:%Y-%m-%d %H:%M} UTC"
        return Verdict("failed" if hours > most else "passed", observed, value=float(hours))

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
    rows = draft.rows(rule)
    statement = custom_sql.on(rule.params["sql"], draft.table.name, rows.scan.condition or "TRUE")
    failed = (
        draft.ask(rule, f"COALESCE((\n{statement.sql}\n), 0)")
        if statement.counts
        else draft.ask(rule, "COUNT(*)", f"\nFROM (\n{statement.sql}\n) AS Q")
    )
    if rule.max_share:
        return _counted(rule, failed, rows, "no row")

    def judge(values: Values) -> Verdict:
        number = int(values[failed])
        if number < 0 or number != values[failed]:
            raise ValueError(f"{values[failed]} as a number of rows")
        return Verdict(
            "failed" if number else "passed", counted(number, "row"), failed_rows=number, value=float(number)
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
