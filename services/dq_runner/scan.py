"""A table, its rules and a window as queries, and the answers to them as results. Pure: nothing here asks Snowflake.

All rules of a table are aggregates of one query over its window, the *scan*. What has to look at
other rows than those of the window takes a query of its own: keys that are declared unique or to be found in another
table, and SQL that somebody wrote.

How rows are counted:

- A NULL breaks ``not_null`` and no other rule: what is not known breaks nothing.
- NaN is no number: it breaks every ``range``. A regular expression describes the whole value.
- ``unique`` counts the rows beyond the first of each key; a key with a NULL in it is not compared. Of a declared key
  the rows of the window are counted, and the first may lie outside; by convention the window alone is compared.
- ``not_null`` and ``not_in_future`` of the date column count in the whole table: rows without a date, or with one that
  lies ahead, are in no window.
- A share is failed rows ÷ rows in the window (of those that ``where`` means), and 0 where there are none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from dq_runner import checks, sql
from dq_runner.checks import Check, Verdict, as_moment
from dq_runner.draft import Draft, Rows, Scan
from dq_runner.model import Column, ColumnMeasure, Measures, Result, Rule, Table, TableName, Window
from dq_runner.words import counted

#: Aggregates of one scan, and letters of its SQL (Snowflake takes 1 MB): what is beyond goes into another scan.
MOST_AGGREGATES = 500
MOST_LETTERS = 500_000


@dataclass(frozen=True)
class Query:
    """One statement, and the rules that its answer judges. ``is_scan``: of the table's window, for many rules."""

    sql: str
    rules: tuple[Rule, ...]
    is_scan: bool
    scan: Scan | None = None

    def answering(self, needs: Collection[str]) -> str:
        """The statement as far as these values need it: the SQL of one rule, which a person can read and run."""
        return self.sql if self.scan is None else self.scan.only(needs).statement()


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

    def divided(self) -> Plan:
        """The same questions with a query of its own for each rule that may fail for a value or a collation: such a
        rule then keeps no other from its verdict. What is left are counts that no value can make fail.
        """
        queries: list[Query] = []
        places: dict[str, int] = {}
        measured = [name for pair in self.measured.values() for name in pair if name]
        alone = [check.needs for check in self.checks if _may_fail(check.rule)]
        safe = [need for check in self.checks if not _may_fail(check.rule) for need in check.needs]
        groups = [["ROWS", "NEWEST", *measured, *safe], *alone]
        for needs in groups:
            for number, query in enumerate(self.queries):
                own = {need for need in needs if self.places.get(need) == number and need not in places}
                if own:
                    places |= dict.fromkeys(own, len(queries))
                    queries.append(query if query.scan is None else _query(query.scan.only(own), self.checks))
        return replace(self, queries=tuple(queries), places=places)

    def judge(self, answers: Mapping[int, Answer]) -> list[Result]:
        """A result of every rule, in their order; one whose query has no answer is an error."""
        return [self._result(check, answers) for check in self.checks]

    def sample(self, result: Result, most: int) -> str:
        """A query of the keys of at most so many rows that break a rule; empty where no key of the table is known."""
        found = next((one.sample for one in self.checks if one.rule is result.rule), "")
        return f"{found}\nLIMIT {most}" if found and result.status == "failed" else ""

    def measures(self, answers: Mapping[int, Answer]) -> Measures | None:
        """What the scan measured for the table's history; None where a part of it has no answer."""
        first = answers.get(0, Answer())
        values = {
            name: value for answer in answers.values() for row in answer.rows for name, value in row.items()
        }
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

    def _result(self, check: Check, answers: Mapping[int, Answer]) -> Result:
        if check.judge is None:
            return Result(self.table.name, check.rule, check.status, message=check.refused)
        number = self.places[check.needs[0]]
        asked = {need: answers.get(self.places[need]) for need in check.needs}
        answer = answers.get(number, Answer())
        return Result(
            table=self.table.name,
            rule=check.rule,
            expected=check.expected,
            sql=self.queries[number].answering([need for need in check.needs if self.places[need] == number]),
            query_id=answer.query_id,
            seconds=answer.seconds,
            credits=answer.credits,
            **vars(_verdict(check, asked)),
        )


def _may_fail(rule: Rule) -> bool:
    return rule.kind in ("regex", "referential", "custom_sql") or "where" in rule.params


def sampled(result: Result, answer: Answer) -> Result:
    """The result with the keys that the answer of its sample has."""
    keys = tuple({name: str(value) for name, value in row.items()} for row in answer.rows)
    return replace(result, samples=keys)


def _verdict(check: Check, asked: Mapping[str, Answer | None]) -> Verdict:
    """``asked``: the answer in which each value that the check needs has to be."""
    values: dict[str, Any] = {}
    for name, answer in asked.items():
        if answer is None:
            return Verdict("error", message="its query has no answer")
        if answer.failure or answer.skipped:
            return Verdict("skipped" if answer.skipped else "error", message=answer.failure)
        if len(answer.rows) != 1 or name not in answer.rows[0]:
            return Verdict(
                "error", message=f"received {counted(len(answer.rows), 'row')}, expected one with {name}"
            )
        values[name] = answer.rows[0][name]
    return _judged(check, values)


def _judged(check: Check, values: Mapping[str, Any]) -> Verdict:
    assert check.judge is not None
    try:
        return check.judge(values)
    except (TypeError, ValueError, ArithmeticError) as error:
        return Verdict("error", message=f"an answer that cannot be: {error}")


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
    distinct: bool = True,
) -> Plan:
    """The queries of a table's rules over a window, and of what its history is made of.

    ``at``: the moment of the run, with which dates are compared. ``known``: the tables that were found, to which keys
    may refer. ``apart``: keys by convention are looked up by queries of their own, so that a table that cannot be read
    fails no rule of this one. ``distinct``: different values are measured, the dearest part of a scan; rules that need
    them count them in any case. A rule that the table's columns do not allow gets its result without a query.
    """
    draft = Draft.of(table, rules, window, at, known or {}, apart=apart)
    measured = {} if draft.window_scan is None else _measure(table, draft.window_scan, distinct)
    made = tuple(checks.check(draft, rule) for rule in rules)
    queries: list[Query] = []
    places: dict[str, int] = {}
    for part in _parts(draft):
        places |= dict.fromkeys(part.aliases.values(), len(queries))
        queries.append(_query(part, made))
    for alias, statement, rule in draft.extra:
        places[alias] = len(queries)
        queries.append(Query(statement, (rule,), is_scan=False))
    return Plan(table, window, tuple(queries), made, places, measured)


def _measure(table: Table, scan: Scan, distinct: bool) -> dict[str, tuple[str, str]]:
    scan.add("COUNT(*)", "ROWS")
    if table.date_column is not None:
        scan.add(f"MAX({sql.column(table.date_column.name)})", "NEWEST")
    return {column.name: _measured(scan, column, distinct) for column in table.columns}


def _measured(scan: Scan, column: Column, distinct: bool) -> tuple[str, str]:
    name = sql.column(column.name)
    nulls = Rows(scan).count(f"{name} IS NULL")
    return nulls, scan.add(f"COUNT(DISTINCT {name})") if distinct and column.family in _COUNTED else ""


def _parts(draft: Draft) -> list[Scan]:
    """The scans, each as several where its aggregates are more than one statement takes."""
    scans = [scan for scan in (draft.window_scan, draft.whole_scan) if scan is not None]
    return [part for scan in scans for part in _divided(scan)]


def _divided(scan: Scan) -> list[Scan]:
    parts: list[Scan] = []
    letters = 0
    for expression, alias in scan.aliases.items():
        join = scan.joins.get(alias, "")
        letters += len(expression) + len(join)
        if not parts or len(parts[-1].aliases) == MOST_AGGREGATES or letters > MOST_LETTERS:
            parts.append(Scan(scan.source, scan.condition, scan.prefix))
            letters = len(expression) + len(join)
        parts[-1].add(expression, alias, join)
    return parts


def _query(part: Scan, made: Sequence[Check]) -> Query:
    aliases = set(part.aliases.values())
    rules = tuple(check.rule for check in made if aliases & set(check.needs))
    return Query(part.statement(), rules, is_scan=True, scan=part)
