"""One table while its rules become SQL: its scans, the queries besides them, and the rows that a rule looks at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dq_runner import sql
from dq_runner.model import Column, Family, Rule, Status, Table, TableName, Window
from dq_runner.rules import custom_sql

_NO_DATE = (
    "the table has no date column by which the rows of a day can be told: name one in date_column.overrides of "
    "config/dq_platform.yaml, or have the table read whole"
)
_MOST_NAMES = 30

COMPARED: tuple[Family, ...] = (
    *("text", "integer", "decimal", "float"),
    *("boolean", "date", "timestamp", "time"),
)


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

    def only(self, chosen: Collection[str]) -> Scan:
        """The scan of some of its aggregates, by their names."""
        return Scan(
            self.source,
            self.condition,
            self.prefix,
            {expression: alias for expression, alias in self.aliases.items() if alias in chosen},
            {alias: join for alias, join in self.joins.items() if alias in chosen},
        )

    def statement(self) -> str:
        named = (f"{expression} AS {sql.quoted(alias)}" for expression, alias in self.aliases.items())
        chosen = ",\n  ".join(named)
        if all(expression.startswith("(SELECT ") for expression in self.aliases):
            # Queries within it, and no aggregate: from the table's rows there would be an answer of each.
            return f"SELECT\n  {chosen}"
        lines = [f"SELECT\n  {chosen}", f"FROM {self.source} AS {sql.ALIAS}"]
        lines += dict.fromkeys(self.joins.values())
        return "\n".join([*lines, *([f"WHERE {self.condition}"] if self.condition else [])])


@dataclass(frozen=True)
class Rows:
    """The rows that a rule looks at: those of its scan for which ``where`` holds.

    ``beyond``: of the whole table, by a query within the scan.
    """

    scan: Scan
    where: str = ""
    beyond: bool = False

    def count(self, condition: str = "") -> str:
        """The name of the number of rows for which a condition holds; of all without one."""
        both = _both(self.where, condition)
        if self.beyond:
            return self.scan.add(f"(SELECT COUNT(*) {self.source}{f' WHERE {both}' if both else ''})")
        # COUNT_IF over no rows is not 0 everywhere.
        return self.scan.add(f"COUNT(CASE WHEN {both} THEN 1 END)" if both else "COUNT(*)")

    def value(self, name: str) -> str:
        """A column where ``where`` holds, else NULL: for aggregates."""
        return f"CASE WHEN {self.where} THEN {name} END" if self.where else name

    @property
    def source(self) -> str:
        return f"FROM {self.scan.source} AS {sql.ALIAS}"

    @property
    def condition(self) -> str:
        """What holds for all of them; empty where nothing has to."""
        return _both("" if self.beyond else self.scan.condition, self.where)


def _both(first: str, second: str) -> str:
    return f"{first} AND ({second})" if first and second else first or second


@dataclass
class Draft:
    """``window_scan`` is None where the window has no date to go by; ``key`` names rows in samples."""

    table: Table
    window: Window
    at: datetime
    known: Mapping[TableName, Table]
    apart: bool
    window_scan: Scan | None
    whole_scan: Scan
    key: tuple[Column, ...] = ()
    extra: list[tuple[str, str, Rule]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        table: Table,
        rules: Sequence[Rule],
        window: Window,
        at: datetime,
        known: Mapping[TableName, Table],
        *,
        apart: bool,
    ) -> Draft:
        source = sql.full_name(table.name)
        has_window = window.whole or table.date_column is not None
        condition = sql.within(window, table.date_column) if has_window else ""
        scan = Scan(source, condition, "M") if has_window else None
        return cls(table, window, at, known, apart, scan, Scan(source, "", "W"), _key(table, rules))

    def is_whole(self, rule: Rule) -> bool:
        return self.window.whole or rule.params.get("window") == "whole"

    def rows(self, rule: Rule, *, beyond: bool = False) -> Rows:
        """The rows of a rule. Raises Refused where it cannot be said which they are."""
        if self.window_scan is None and not self.is_whole(rule):
            raise Refused(_NO_DATE, "skipped")
        own = self.window.whole or not self.is_whole(rule)
        scan = self.window_scan if self.window_scan is not None and own else self.whole_scan
        return Rows(scan, self.where(rule), beyond and not self.is_whole(rule))

    def any_scan(self) -> Scan:
        """One that has to be read in any case."""
        return self.window_scan or self.whole_scan

    def where(self, rule: Rule) -> str:
        given = rule.params.get("where")
        try:
            return f"({custom_sql.on_table(given, self.table)})" if given else ""
        except ValueError as error:
            raise Refused(f"where: {error}") from None

    def columns(self, rule: Rule, *families: Family) -> list[Column]:
        """The rule's columns, of one of the families if any are given."""
        return [column_of(self.table, name, *families) for name in rule.columns]

    @staticmethod
    def moment(value: datetime, column: Column) -> str:
        """A moment as a value of a column; for dates its day."""
        utc = value.astimezone(UTC)
        return sql.day(utc.date()) if column.family == "date" else sql.moment(utc, column.type)

    def ask(self, rule: Rule, value: str, rest: str = "") -> str:
        """The name of a value that a query of the rule's own has: SELECT value, and what follows it."""
        alias = f"E{len(self.extra)}"
        self.extra.append((alias, f"SELECT {value} AS {sql.quoted(alias)}{rest}", rule))
        return alias


def column_of(table: Table, name: str, *families: Family) -> Column:
    """Raises Refused where a table has no such column, or one of another family."""
    found = table.column(name)
    if found is None:
        there = ", ".join(column.name for column in table.columns[:_MOST_NAMES]) or "none"
        more = f" and {len(table.columns) - _MOST_NAMES} more" if len(table.columns) > _MOST_NAMES else ""
        raise Refused(
            f"received the column {name}, expected one of the columns of {table.name}: {there}{more}"
        )
    if families and found.family not in families:
        raise Refused(f"received {found.name} of type {found.type}, expected one of {', '.join(families)}")
    return found


def _key(table: Table, rules: Sequence[Rule]) -> tuple[Column, ...]:
    """What is declared unique, else what is by convention."""
    uniques = sorted(
        (rule for rule in rules if rule.kind == "unique"), key=lambda rule: rule.origin != "declared"
    )
    for rule in uniques:
        found = [table.column(name) for name in rule.columns]
        if all(found):
            return tuple(column for column in found if column is not None)
    return ()
