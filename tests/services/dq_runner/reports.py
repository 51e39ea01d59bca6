"""Reports of a few rows, as a run would leave them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from dq_runner.report import Counts, Report, ResultRow, Run, Summary

#: A Sunday, six o'clock.
AT = datetime(2026, 11, 29, 6, tzinfo=UTC)


def row(rule: str = "not_null(ID)", status: str = "failed", **more: Any) -> ResultRow:
    values: dict[str, Any] = {
        "timestamp": AT,
        "database": "SALES",
        "schema": "PUBLIC",
        "table": "ORDERS",
        "column": "ID",
        "rule": rule,
        "kind": "not_null",
        "origin": "declared",
        "status": status,
        "severity": "critical",
        "observed": "14 rows",
        "expected": "none",
        "rows": 102_311,
        "failed_rows": 14,
        "share": Decimal("0.000137"),
        "credits": Decimal("0.000012"),
    }
    return ResultRow.model_validate(values | more)


def report(run_id: str, results: Sequence[ResultRow] = (), at: datetime = AT) -> Report:
    statuses = [each.status for each in results]
    counts = Counts(
        **{status: statuses.count(status) for status in set(statuses)},
        critical=sum(each.alarms for each in results),
        muted=sum(each.muted is not None for each in results),
    )
    return Report(
        run=Run(
            run_id=run_id,
            started_at=at,
            finished_at=at + timedelta(minutes=2),
            status="failed" if counts.critical else "passed",
            queries=3,
            scans=2,
            seconds=12.5,
            credits=Decimal("0.003472"),
        ),
        summary=Summary(
            tables=len({each.table for each in results}), results=len(results), counts=counts, new_failures=0
        ),
        tables=(),
        results=tuple(each.model_copy(update={"timestamp": at}) for each in results),
    )
