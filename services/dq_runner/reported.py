"""What a run found, as the report has it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from dq_runner.execute import Budget, Checked
from dq_runner.model import Result
from dq_runner.report import ORDER, Counts, Muted, Report, ResultRow, Run, Summary, TableRow
from dq_runner.session import Count
from lakehouse.masks import without_secrets

#: Results that somebody has to look into. A scan's statement is 6 KB with 30 columns, and the same for all of its
#: rules: with those that hold, the report of 300 tables would be 120 MB.
_EXPLAINED = ("failed", "error")


@dataclass(frozen=True)
class Ran:
    """What is said of a run as a whole. ``seconds`` are those from its start to its end."""

    run_id: str
    at: datetime
    seconds: float
    warehouse: str
    account: str
    count: Count
    notes: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def report(ran: Ran, checked: Sequence[Checked], entries: Sequence[Result], budget: Budget) -> Report:
    """The report. ``entries`` are results of no table: what config/dq_rules/ declares and nothing is called."""
    results = [result for one in checked for result in one.results] + list(entries)
    rows = sorted((_row(result, ran.at) for result in results), key=_place)
    counts = _counts(results)
    tables = [table_row(one) for one in sorted(checked, key=lambda one: one.table.name)]
    run = Run(
        run_id=ran.run_id,
        started_at=ran.at,
        finished_at=ran.at + timedelta(seconds=round(ran.seconds, 3)),
        status=_status(counts, cut=any(one.cut for one in checked)),
        warehouse=ran.warehouse,
        account=ran.account,
        queries=ran.count.queries,
        scans=ran.count.scans,
        seconds=round(ran.seconds, 3),
        credits=budget.cost(ran.count.seconds),
        notes=ran.notes,
        remarks=ran.remarks,
    )
    summary = Summary(tables=len(tables), results=len(rows), counts=counts, new_failures=0)
    return Report(run=run, summary=summary, tables=tuple(tables), results=tuple(rows))


def _place(row: ResultRow) -> tuple[int, bool, str, str]:
    """Broken first, of these the critical ones; then by table and rule."""
    return ORDER.index(row.status), row.severity != "critical", row.table_name, row.rule


def _status(counts: Counts, *, cut: bool) -> Literal["passed", "failed", "incomplete"]:
    """What is skipped because the settings say so leaves no run incomplete; what there was no time for does."""
    if counts.critical:
        return "failed"
    return "incomplete" if counts.error or cut else "passed"


def _counts(results: Iterable[Result]) -> Counts:
    found = list(results)
    statuses = Counter(result.status for result in found)
    return Counts(
        passed=statuses["passed"],
        failed=statuses["failed"],
        error=statuses["error"],
        skipped=statuses["skipped"],
        no_history=statuses["no_history"],
        critical=sum(result.alarms for result in found),
        muted=sum(result.muted is not None for result in found),
    )


def _row(result: Result, at: datetime) -> ResultRow:
    rule, table, mute = result.rule, result.table, result.muted
    return ResultRow(
        timestamp=at,
        database=table.database,
        schema_=table.schema,
        table=table.name,
        column=", ".join(rule.columns),
        rule=rule.title,
        kind=rule.kind,
        origin=rule.origin,
        status=result.status,
        severity=rule.severity,
        observed=result.observed,
        expected=result.expected,
        message=without_secrets(result.message),
        rows=result.rows,
        failed_rows=result.failed_rows,
        share=result.share,
        value=result.value,
        query_id=result.query_id,
        seconds=round(result.seconds, 3),
        credits=result.credits,
        sql=result.sql if result.status in _EXPLAINED else "",
        owner=rule.owner,
        fix=rule.fix,
        muted=None if mute is None else Muted(reason=mute.reason, until=mute.until, by=mute.by),
        samples=tuple(dict(sample) for sample in result.samples),
    )


def table_row(checked: Checked) -> TableRow:
    """One table."""
    table, window = checked.table, checked.window
    return TableRow(
        database=table.name.database,
        schema_=table.name.schema,
        table=table.name.name,
        kind=table.kind,
        window_from=window.start,
        window_to=window.end,
        date_column=table.date_column.name if table.date_column else "",
        rows=checked.measures.rows if checked.measures else None,
        counts=_counts(checked.results),
        queries=checked.count.queries,
        scans=checked.count.scans,
        seconds=round(checked.count.seconds, 3),
        credits=checked.credits,
    )
