"""A table, its rules and a window as queries, and the answers to them as results. Pure: nothing here asks Snowflake.

All rules of a table are aggregates of one query over its window, the *scan*. What has to look at
other rows than those of the window takes a query of its own: keys that are declared unique or to be found in another
table, and SQL that somebody wrote.

How rows are counted:

- A NULL breaks ``not_null`` and no other rule: what is not known breaks nothing.
- NaN is no number: it breaks every ``range``.
- ``unique`` counts the rows beyond the first of each key; a key with a NULL in it is not compared. Of a declared key
  the rows of the window are counted, and the first may lie outside; by convention the window alone is compared.
- ``not_null`` of the date column counts in the whole table: a row without a date is in no window.
- A share is failed rows ÷ rows in the window (of those that ``where`` means), and 0 where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from dq_runner import checks, sql
from dq_runner.checks import Check, Draft, Judge, Scan, Values, Verdict, as_moment
from dq_runner.model import Column, ColumnMeasure, Measures, Result, Rule, Table, TableName, Window

#: Aggregates of one scan, and letters of its SQL (Snowflake takes 1 MB): what is beyond goes into another scan.
MOST_AGGREGATES = 500
MOST_LETTERS = 500_000


@dataclass(frozen=True)
class Query:
    """One statement, and the rules that its answer judges. ``is_scan``: of the table's window, for many rules."""

    sql: str
    rules: tuple[Rule, ...]
    is_scan: bool


@dataclass(frozen=True)
class Answer:
    """What came back: rows as mappings by column name, or ``failure`` (why none came).

    ``skipped``: the query was not tried.
    """

    rows: Sequence[Mapping[str, Any]] = ()
    query_id: str = ""
    seconds: float = 0.0
    credits: Decimal = Decimal(0)
    failure: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class Plan:
    """The queries of one table. Answers are given by the number of the query in ``queries``."""

    table: Table
    window: Window
    queries: tuple[Query, ...]
    checks: tuple[Check, ...]
    #: The query that has each value.
    places: Mapping[str, int]
    measured: Mapping[str, tuple[str, str]]

    @property
    def scans(self) -> tuple[Query, ...]:
        return tuple(query for query in self.queries if query.is_scan)

    @property
    def extra(self) -> tuple[Query, ...]:
        return tuple(query for query in self.queries if not query.is_scan)

    def judge(self, answers: Mapping[int, Answer]) -> list[Result]:
        """A result of every rule, in their order; one whose query has no answer is an error."""
        values = _values(answers)
        return [self._result(check, answers, values) for check in self.checks]

    def measures(self, answers: Mapping[int, Answer]) -> Measures | None:
        """What the scan measured for the table's history; None where a part of it has no answer."""
        values = _values(answers)
        first = answers.get(0, Answer())
        try:
            columns = {
                name: ColumnMeasure(int(values[nulls]), int(values[distinct]) if distinct else None)
                for name, (nulls, distinct) in self.measured.items()
            }
            rows, newest = int(values["ROWS"]), as_moment(values.get("NEWEST"))
        except (KeyError, TypeError, ValueError):
            return None
        statement = self.queries[0].sql
        return Measures(self.table.name, self.window, rows, newest, columns, statement, first.query_id)

    def _result(self, check: Check, answers: Mapping[int, Answer], values: Values) -> Result:
        if check.judge is None:
            return Result(
                self.table.name, check.rule, check.status, expected=check.expected, message=check.refused
            )
        number = self.places[check.needs[0]]
        answer = answers.get(number, Answer(failure="the query has no answer"))
        verdict = _verdict(
            check, check.judge, [answers.get(self.places[need]) for need in check.needs], values
        )
        return Result(
            table=self.table.name,
            rule=check.rule,
            expected=check.expected,
            sql=self.queries[number].sql,
            query_id=answer.query_id,
            seconds=answer.seconds,
            credits=answer.credits,
            **vars(verdict),
        )


def _verdict(check: Check, judge: Judge, asked: Sequence[Answer | None], values: Values) -> Verdict:
    for answer in asked:
        if answer is None:
            return Verdict("error", message="the query has no answer")
        if answer.failure or answer.skipped:
            return Verdict("skipped" if answer.skipped else "error", message=answer.failure)
    try:
        return judge(values)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        return Verdict(
            "error", message=f"the answer is not what was asked for: {type(error).__name__} of {error}"
        )


def _values(answers: Mapping[int, Answer]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for answer in answers.values():
        if len(answer.rows) == 1:
            found |= answer.rows[0]
    return found


# Planning ----------------------------------------------------------------------------------------------------------

#: Families of which distinct values are counted: of amounts and times nearly every one is.
_COUNTED = ("text", "integer", "boolean", "date")


def plan(
    table: Table,
    rules: Sequence[Rule],
    window: Window,
    at: datetime,
    known: Mapping[TableName, Table] | None = None,
    *,
    apart: bool = False,
) -> Plan:
    """The queries of a table's rules over a window, and of what its history is made of.

    ``at``: the moment of the run, with which dates are compared. ``known``: the tables that were found, to which keys
    may refer. ``apart``: keys by convention are looked up by queries of their own, so that a table that cannot be read
    fails no rule of this one. A rule that the table's columns do not allow gets its result without a query.
    """
    draft = Draft.of(table, window, at, known or {}, apart=apart)
    measured = {} if draft.window_scan is None else _measure(draft, draft.window_scan)
    made = tuple(checks.check(draft, rule) for rule in rules)
    queries: list[Query] = []
    places: dict[str, int] = {}
    for scan in (draft.window_scan, draft.whole_scan):
        for part in [] if scan is None else _parts(scan):
            places |= dict.fromkeys(part.aliases.values(), len(queries))
            queries.append(_query(table, part, made))
    for alias, statement, rule in draft.extra:
        places[alias] = len(queries)
        queries.append(Query(statement, (rule,), is_scan=False))
    return Plan(table, window, tuple(queries), made, places, measured)


def _measure(draft: Draft, scan: Scan) -> dict[str, tuple[str, str]]:
    scan.rows()
    if draft.table.date_column is not None:
        scan.add(f"MAX({sql.column(draft.table.date_column.name)})", "NEWEST")
    return {column.name: _measured(scan, column) for column in draft.table.columns}


def _measured(scan: Scan, column: Column) -> tuple[str, str]:
    name = sql.column(column.name)
    nulls = scan.add(checks.count(f"{name} IS NULL"))
    return nulls, scan.add(f"COUNT(DISTINCT {name})") if column.family in _COUNTED else ""


def _parts(scan: Scan) -> list[Scan]:
    """A scan as several, where its aggregates are more than one statement takes."""
    parts = [Scan(scan.source, scan.condition, scan.prefix)]
    letters = 0
    for expression, alias in scan.aliases.items():
        letters += len(expression) + len(alias) + 8
        if len(parts[-1].aliases) == MOST_AGGREGATES or letters > MOST_LETTERS:
            parts.append(Scan(scan.source, scan.condition, scan.prefix))
            letters = len(expression)
        parts[-1].add(expression, alias, scan.joins.get(alias, ""))
    return [part for part in parts if part.aliases]


def _query(table: Table, part: Scan, made: Sequence[Check]) -> Query:
    aliases = set(part.aliases.values())
    rules = tuple(check.rule for check in made if aliases & set(check.needs))
    return Query(part.statement(), rules, is_scan=True)
