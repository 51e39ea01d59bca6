"""Emit: the outcomes of a run into the ops tables, its metrics to CloudWatch, its end to OpenLineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.contracts.spark import schema
from lakehouse.delta.rows import rows
from lakehouse.delta.write import merge, replace_where
from lakehouse.flows.known import require_known
from lakehouse.observe import cost, metrics
from lakehouse.observe.outcome import Outcome, outcome_uri, read_all, read_run
from lakehouse.runs import run_time
from lakehouse.session import local_frame
from lakehouse.settings import Settings

#: In ops.job_runs, what the workgroup's queries cost.
ATHENA = "athena"
LEDGER = "ops.row_ledger"
_JOBS = "ops.job_runs"
_BILLS = ("vcpu_hours", "memory_gb_hours", "storage_gb_hours", "cost_usd", "athena_bytes_scanned")
# How far back a bill is asked for: EMR knows it well within a day.
_BILLED = timedelta(days=2)
# What the first daily run of a lake counts of the queries before it.
_FIRST_QUERIES = timedelta(days=1)


def emit(job: Job) -> None:
    """The job emit_lineage_and_metrics, at a run's end: what its jobs left behind, and what everything cost.

    Raises UnknownRun for a run that nothing is known of.
    """
    require_known(job.settings, job.run_id)
    at, outcomes = run_time(job.run_id), _outcomes(job)
    with ThreadPoolExecutor(2) as pool:
        ledger = pool.submit(_replace_ledger, job.beside(), outcomes)
        costs = bill(job, at, _queries(job, at))
        ledger.result()
    _send(job, outcomes, costs)


def record(job: Job) -> None:
    """What the jobs of a run beside the daily one left behind. Idempotent, as emit is."""
    outcomes = _outcomes(job)
    _replace_ledger(job, outcomes)
    _merge_jobs(job, [job_row(job.settings, outcome, None) for outcome in outcomes])
    _send(job, outcomes, {})


def bill(job: Job, now: datetime, more: Sequence[dict[str, Any]] = ()) -> dict[str, Decimal]:
    """Every job that ended since two days before into ops.job_runs, with what EMR billed it; USD by job of this run.

    EMR knows a bill some time after the job's end, and most jobs belong to no daily run: the watchdog asks again. A
    job run is billed once: to the job that EMR started, not to the runs that it made within (chunks of a backfill).
    """
    since = now - _BILLED
    outcomes = sorted(
        (each for each in read_all(job.settings, since) if each.finished_at is not None),
        key=lambda outcome: outcome.started_at,
    )
    first: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.parent is not None and outcome.parent.job_name is not None:
            first.setdefault(outcome.parent.job_name, outcome)
    usage = cost.billed(job.settings, first.keys(), since)
    used = {(first[name].run_id, first[name].job): usage[name] for name in usage}
    jobs = [job_row(job.settings, each, used.get((each.run_id, each.job))) for each in outcomes]
    _merge_jobs(job, [*jobs, *more])
    prices = job.settings.prices
    return {name: each.cost_usd(prices) for (run_id, name), each in used.items() if run_id == job.run_id}


def _outcomes(job: Job) -> list[Outcome]:
    return [outcome for outcome in read_run(job.settings, job.run_id) if outcome.job != job.name]


def _queries(job: Job, at: datetime) -> list[dict[str, Any]]:
    """The row for the queries since the daily run before this one: each query is in one run's row."""
    told = rows(
        job.settings.table_uri(_JOBS), ["run_id", "started_at", "finished_at"], [("job", "=", ATHENA)]
    )
    others = [row for row in told if row["run_id"] != job.run_id]
    if any(row["started_at"] < at < row["finished_at"] for row in others):
        return []  # a later run has counted them
    since = max(
        (row["finished_at"] for row in others if row["finished_at"] <= at), default=at - _FIRST_QUERIES
    )
    asked = cost.scanned(job.settings, since, at)
    return [athena_row(job, asked, since, at)] if asked else []


def _send(job: Job, outcomes: Sequence[Outcome], costs: Mapping[str, Decimal]) -> None:
    problem = metrics.send(job.settings, _metrics(job, outcomes, costs))
    if problem is not None:
        job.outcome.notes.append(problem)


def _metrics(job: Job, outcomes: Sequence[Outcome], costs: Mapping[str, Decimal]) -> list[metrics.Metric]:
    """Those of jobs that succeeded (the others have sent their own), how old each table is, what the run cost."""
    environment, now = job.settings.environment, datetime.now(UTC)
    ended = [outcome for outcome in outcomes if outcome.status == "succeeded"]
    published = {
        table.table for outcome in ended for table in outcome.tables if table.table.startswith("gold.")
    }
    judged = {each.table for outcome in ended for each in outcome.verdicts if each.outcome != "failed"}
    ages = dict.fromkeys(published | judged, max(0.0, (now - run_time(job.run_id)).total_seconds()))
    return [
        *metrics.metrics_of(ended, environment),
        *metrics.freshness(ages, environment, now),
        *metrics.cost(costs, environment, now),
    ]


def _replace_ledger(job: Job, outcomes: Sequence[Outcome]) -> None:
    ledger = [row for outcome in outcomes for row in ledger_rows(outcome)]
    frame = local_frame(job.spark, ledger, schema(contracts.load(LEDGER)))
    replace_where(
        frame, job.settings.table_uri(LEDGER), f"run_id = '{job.run_id}'", f"{job.run_id}/{job.name}/{LEDGER}"
    )


def _merge_jobs(job: Job, jobs: list[dict[str, Any]]) -> None:
    """A bill that is known stays where AWS says nothing of it any more."""
    contract = contracts.load(_JOBS)
    frame = local_frame(job.spark, jobs, schema(contract))
    tag = f"{job.run_id}/{job.name}/{_JOBS}"
    merge(frame, job.settings.table_uri(_JOBS), contract.key, tag, keep=_BILLS)


def ledger_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Rows of ops.row_ledger."""
    return [
        {
            "run_id": outcome.run_id,
            "job": outcome.job,
            "table_name": item.table,
            "read": item.ledger.read,
            "generated": item.ledger.generated,
            "inserted": item.ledger.inserted,
            "updated": item.ledger.updated,
            "unchanged": item.ledger.unchanged,
            "quarantined": item.ledger.quarantined,
            "duplicates": item.ledger.duplicates,
            "superseded": item.ledger.superseded,
            "conflicts": item.ledger.conflicts,
            "recorded_at": outcome.finished_at,
        }
        for item in outcome.tables
        if item.ledger is not None
    ]


def job_row(settings: Settings, outcome: Outcome, usage: cost.Usage | None) -> dict[str, Any]:
    """The row of ops.job_runs; cost where EMR says what it billed."""
    error = outcome.error
    return {
        "run_id": outcome.run_id,
        "job": outcome.job,
        "status": outcome.status,
        "started_at": outcome.started_at,
        "finished_at": outcome.finished_at,
        "seconds": outcome.seconds,
        "error_class": error and error.error_class,
        "error_code": error and error.code,
        "error_message": error and error.message,
        "outcome_uri": outcome_uri(settings, outcome.run_id, outcome.job),
        "vcpu_hours": usage and usage.vcpu_hours,
        "memory_gb_hours": usage and usage.memory_gb_hours,
        "storage_gb_hours": usage and usage.storage_gb_hours,
        "cost_usd": usage and usage.cost_usd(settings.prices),
        "athena_bytes_scanned": None,
    }


def athena_row(job: Job, asked: cost.Scanned, since: datetime, at: datetime) -> dict[str, Any]:
    """The row of ops.job_runs for the queries of [since, at)."""
    return {
        "run_id": job.run_id,
        "job": ATHENA,
        "status": "succeeded",
        "started_at": since,
        "finished_at": at,
        "seconds": asked.seconds,
        "error_class": None,
        "error_code": None,
        "error_message": None,
        "outcome_uri": outcome_uri(job.settings, job.run_id, job.name),
        "vcpu_hours": None,
        "memory_gb_hours": None,
        "storage_gb_hours": None,
        "cost_usd": asked.cost_usd(job.settings.prices),
        "athena_bytes_scanned": asked.bytes,
    }
