"""What the runner speaks of: tables, the rules that hold for them, and the result of each test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

Severity = Literal["critical", "warning"]

#: ``no_history``: an anomaly rule whose table is too young to be judged, which is no pass.
#: ``skipped``: not tried; the message says why (time or budget was used up, the table has no date).
Status = Literal["passed", "failed", "error", "skipped", "no_history"]

#: Who says that a rule holds: a name's convention, a file in config/dq_rules/, the table's own history, or the runner
#: itself (a table has fallen silent, or could not be checked).
Origin = Literal["convention", "declared", "history", "runner"]

Kind = Literal[
    "not_null",
    "unique",
    "accepted_values",
    "range",
    "regex",
    "not_in_future",
    "few_values",
    "referential",
    "row_count",
    "freshness",
    "custom_sql",
    "volume_anomaly",
    "freshness_anomaly",
    "null_share_anomaly",
    "distinct_share_anomaly",
    "active",
    "checked",
]

#: What a column holds, by its type in INFORMATION_SCHEMA; ``other`` takes not_null and nothing else.
Family = Literal["text", "integer", "decimal", "float", "boolean", "date", "timestamp", "time", "other"]


@dataclass(frozen=True, order=True)
class TableName:
    """A table or view by its three names, as Snowflake stores them."""

    database: str
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.database}.{self.schema}.{self.name}"


@dataclass(frozen=True)
class Column:
    """``type`` is that of INFORMATION_SCHEMA.COLUMNS, TIMESTAMP_NTZ for example."""

    name: str
    type: str
    family: Family
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """A table that was found. ``date_column`` is the column that says when a row came in, None where there is none."""

    name: TableName
    kind: Literal["table", "view", "transient"]
    columns: tuple[Column, ...]
    date_column: Column | None = None

    def column(self, name: str) -> Column | None:
        """The column of exactly this name; else, where only one differs from it in case alone, that one."""
        exact = next((one for one in self.columns if one.name == name), None)
        alike = [one for one in self.columns if one.name.upper() == name.upper()]
        return exact or (alike[0] if len(alike) == 1 else None)


@dataclass(frozen=True)
class Window:
    """Rows whose date column is at or after ``start`` and before ``end``, UTC; both None: the whole table."""

    start: datetime | None = None
    end: datetime | None = None

    @property
    def whole(self) -> bool:
        return self.start is None and self.end is None


@dataclass(frozen=True)
class Rule:
    """One rule of one table.

    ``params`` by kind: accepted_values ``values``; range and row_count ``min`` and ``max`` (one may be missing);
    regex ``pattern``; referential ``to`` (a TableName) and ``to_columns``; freshness ``max_hours``; few_values
    ``max``; custom_sql ``sql``, which counts or lists the rows that break the rule. ``max_share`` is the share of rows
    that may break it. ``owner`` and ``fix`` are for the person who has to act.
    """

    kind: Kind
    columns: tuple[str, ...] = ()
    severity: Severity = "warning"
    origin: Origin = "convention"
    name: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    max_share: Decimal = Decimal(0)
    owner: str = ""
    fix: str = ""

    @property
    def title(self) -> str:
        """Its name, or what it is made of: ``range(AMOUNT)``. Unique in a table together with its origin."""
        return self.name or f"{self.kind}({', '.join(self.columns)})"


@dataclass(frozen=True)
class Mute:
    """A failure that people know of: reported as ever, but no alarm and no exit code, until a day."""

    rule: str
    table: str
    reason: str
    until: date
    by: str = ""


@dataclass(frozen=True)
class Result:
    """One test of one rule on one table: a row of the report.

    ``rows`` were looked at, ``failed_rows`` broke the rule and ``share`` is their part of the rows, None where a rule
    does not count rows. ``observed`` and ``expected`` are for people, in words without values of rows;
    ``value`` is what is drawn over time. ``samples`` are keys of failing rows, and empty unless asked for.
    """

    table: TableName
    rule: Rule
    status: Status
    observed: str = ""
    expected: str = ""
    message: str = ""
    rows: int | None = None
    failed_rows: int | None = None
    share: Decimal | None = None
    value: float | None = None
    sql: str = ""
    query_id: str = ""
    seconds: float = 0.0
    credits: Decimal = Decimal(0)
    samples: tuple[Mapping[str, str], ...] = ()
    muted: Mute | None = None

    @property
    def alarms(self) -> bool:
        """Whether somebody has to be told: a critical rule is broken, and nobody has muted it."""
        return self.status == "failed" and self.rule.severity == "critical" and self.muted is None


class ColumnMeasure(NamedTuple):
    """Rows in which a column is null, and its different values other than null: None where its type has no equality."""

    nulls: int
    distinct: int | None = None


@dataclass(frozen=True)
class Measures:
    """What one scan measures of a table whatever its rules are: history is made of it, and anomalies are judged by it.

    ``rows`` are those of the window, ``newest`` is the latest value of the date column among them, UTC (None without
    rows or without such a column). ``sql`` and ``query_id`` are of the scan.
    """

    table: TableName
    window: Window
    rows: int
    newest: datetime | None = None
    columns: Mapping[str, ColumnMeasure] = field(default_factory=dict)
    sql: str = ""
    query_id: str = ""
