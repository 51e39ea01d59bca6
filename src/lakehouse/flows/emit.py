"""Emit: the outcomes of a run into the ops tables, its metrics to CloudWatch, its end to OpenLineage."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.contracts.spark import schema
from lakehouse.delta.write import replace_where
from lakehouse.observe import cost, metrics
from lakehouse.observe.outcome import Outcome, outcome_uri, read_run
from lakehouse.settings import Settings


def emit(job: Job) -> None:
    """Record what every job of this run left behind. Idempotent: the run's rows are replaced."""
    outcomes = [outcome for outcome in read_run(job.settings, job.run_id) if outcome.job != job.name]
    ledger = [row for outcome in outcomes for row in ledger_rows(outcome)]
    names = {outcome.job: outcome.parent.job_name for outcome in outcomes if outcome.parent}
    # EMR has the run a little earlier than the job's own clock has its start.
    since = min((outcome.started_at for outcome in outcomes), default=job.outcome.started_at) - timedelta(
        hours=1
    )
    used = cost.billed(job.settings, {name for name in names.values() if name}, since)
    runs = [job_row(job.settings, outcome, used.get(names.get(outcome.job) or "")) for outcome in outcomes]
    with ThreadPoolExecutor(2) as pool:
        written = [
            pool.submit(_replace, job.beside(), table, rows)
            for table, rows in (("ops.row_ledger", ledger), ("ops.job_runs", runs))
        ]
    for each in written:
        each.result()
    problem = metrics.send(job.settings, metrics.metrics_of(outcomes, job.settings.environment))
    if problem is not None:
        job.outcome.notes.append(problem)


def _replace(job: Job, table: str, rows: list[tuple[Any, ...]]) -> None:
    frame = job.spark.createDataFrame(rows, schema(contracts.load(table)))
    replace_where(
        frame, job.settings.table_uri(table), f"run_id = '{job.run_id}'", f"{job.run_id}/{job.name}/{table}"
    )


def ledger_rows(outcome: Outcome) -> list[tuple[Any, ...]]:
    """Rows of ops.row_ledger, in the contract's column order."""
    return [
        (
            outcome.run_id, outcome.job, item.table,
            item.ledger.read, item.ledger.generated, item.ledger.inserted, item.ledger.updated, item.ledger.unchanged,
            item.ledger.quarantined, item.ledger.duplicates, item.ledger.superseded, item.ledger.conflicts,
            outcome.finished_at,
        )
        for item in outcome.tables
        if item.ledger is not None
    ]  # fmt: skip


def job_row(settings: Settings, outcome: Outcome, usage: cost.Usage | None) -> tuple[Any, ...]:
    """The row of ops.job_runs, in the contract's column order; cost where EMR says what it billed."""
    error = outcome.error
    return (
        outcome.run_id, outcome.job, outcome.status, outcome.started_at, outcome.finished_at, outcome.seconds,
        error and error.error_class, error and error.code, error and error.message,
        outcome_uri(settings, outcome.run_id, outcome.job),
        usage and usage.vcpu_hours, usage and usage.memory_gb_hours, usage and usage.storage_gb_hours,
        usage and usage.cost_usd(settings.prices),
    )  # fmt: skip
