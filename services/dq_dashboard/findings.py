"""What the page shows: one test of one rule on one table, whoever made it, the runner or a gate of the lakehouse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from dq_runner.model import Severity, Status, TableName
from dq_runner.patterns import written
from dq_runner.report import ORDER, Muted, ResultRow

Source = Literal["snowflake", "lakehouse"]
SOURCES: tuple[Source, ...] = ("snowflake", "lakehouse")

#: A test that could not be made is no test that held.
BROKEN: tuple[Status, ...] = ("failed", "error")


@dataclass(frozen=True, slots=True)
class Finding:
    """One test. ``key`` is the same in every run; ``run_id`` names the run (or the gate's run) that made it.

    ``table`` is a name as SQL has it: of Snowflake's three parts one with a dot in it stands in double quotes.

    ``share`` is between 0 and 1. ``new``: it is broken now, and was not in the last run of an earlier day.
    """

    source: Source
    at: datetime
    run_id: str
    table: str
    column: str
    rule: str
    kind: str
    origin: str
    status: Status
    severity: Severity
    observed: str
    expected: str
    message: str = ""
    rows: int | None = None
    failed_rows: int | None = None
    share: float | None = None
    value: float | None = None
    sql: str = ""
    query_id: str = ""
    seconds: float | None = None
    credits: Decimal | None = None
    owner: str = ""
    fix: str = ""
    new: bool = False
    muted: Muted | None = None
    samples: tuple[dict[str, str], ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.source, self.table, self.rule

    @property
    def broken(self) -> bool:
        return self.status in BROKEN

    @property
    def critical(self) -> bool:
        """Whether it raises an alarm: a critical rule is broken, and nobody has muted it."""
        return self.status == "failed" and self.severity == "critical" and self.muted is None


def of_runner(row: ResultRow, run_id: str) -> Finding:
    """A row of the runner's report."""
    return Finding(
        source="snowflake",
        at=row.timestamp,
        run_id=run_id,
        table=written(TableName(row.database, row.schema_, row.table)),
        column=row.column,
        rule=row.rule,
        kind=row.kind,
        origin=row.origin,
        status=row.status,
        severity=row.severity,
        observed=row.observed,
        expected=row.expected,
        message=row.message,
        rows=row.rows,
        failed_rows=row.failed_rows,
        share=None if row.share is None else float(row.share),
        value=row.value,
        sql=row.sql,
        query_id=row.query_id,
        seconds=row.seconds,
        credits=row.credits,
        owner=row.owner,
        fix=row.fix,
        new=row.new,
        muted=row.muted,
        samples=row.samples,
    )


def in_order(findings: list[Finding]) -> list[Finding]:
    """What is new first, then what is broken, critical before warning, then by table and rule."""
    return sorted(
        findings,
        key=lambda one: (
            not one.new,
            one.muted is not None,
            ORDER.index(one.status),
            one.severity != "critical",
            one.key,
        ),
    )
