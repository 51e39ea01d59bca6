"""What everything cost: each job run's bill once, whenever EMR knows it, and each query once."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.cli import Job
from lakehouse.delta.read import read
from lakehouse.flows import emit, own_run
from lakehouse.observe import cost
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.cost import Scanned, Usage
from lakehouse.observe.outcome import Outcome, Parent
from lakehouse.runs import new_run_id, run_time
from tests.quality.support import make_settings
from tests.support import make_tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.settings import Settings

AT = datetime(2026, 1, 4, 6, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
USED = Usage(Decimal(2), Decimal(8), Decimal(0))


@pytest.fixture
def settings(spark: SparkSession, lake: str) -> Settings:
    settings = make_settings(lake)
    make_tables(spark, settings, ("ops.job_runs", "ops.row_ledger"))
    return settings


def a_job(
    spark: SparkSession, settings: Settings, run_id: str, name: str = "emit_lineage_and_metrics"
) -> Job:
    job = Job(name, settings, run_id, Outcome(job=name, run_id=run_id, started_at=AT), argparse.Namespace())
    job.__dict__["spark"] = spark
    return job


def ended(settings: Settings, run_id: str, job: str, at: datetime, emr_name: str | None) -> None:
    """A job that EMR knows by a name (None: it was not started by Airflow) ended."""
    parent = Parent(dag_id="d", run_id="r", task_id=job, try_number=1, job_name=emr_name)
    outcome = Outcome(
        job=job, run_id=run_id, status="succeeded", started_at=at, finished_at=at + HOUR, seconds=3600.0,
        parent=parent if emr_name else None,
    )  # fmt: skip
    outcomes.write(settings, outcome)


def recorded(spark: SparkSession, settings: Settings) -> dict[tuple[str, str], Decimal | None]:
    found = read(spark, settings.table_uri("ops.job_runs")).collect()
    assert len({(row["run_id"], row["job"]) for row in found}) == len(found)
    return {(row["run_id"], row["job"]): row["cost_usd"] for row in found}


def test_a_bill_that_comes_late_counts_once_and_stays(
    spark: SparkSession, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    daily, backfill = new_run_id(AT), new_run_id(AT + HOUR)
    chunk = own_run.derived_run_id(backfill, "a day")
    ended(settings, daily, "bronze_to_silver", AT, "day")
    ended(settings, backfill, "backfill", AT + HOUR, "by hand")
    ended(settings, chunk, "backfill_fx_to_bronze", AT + 2 * HOUR, "by hand")
    ended(settings, daily, "dq_watchdog", AT, None)
    known: dict[str, Usage] = {}
    monkeypatch.setattr(
        cost, "billed", lambda _, names, since: {k: v for k, v in known.items() if k in names}
    )
    monkeypatch.setattr(cost, "scanned", lambda *_: None)
    usd = USED.cost_usd(settings.prices)

    emit.record(a_job(spark, settings, chunk))
    emit.emit(a_job(spark, settings, daily))
    everything = {
        (daily, "bronze_to_silver"),
        (daily, "dq_watchdog"),
        (backfill, "backfill"),
        (chunk, "backfill_fx_to_bronze"),
    }
    assert recorded(spark, settings) == dict.fromkeys(everything)

    known.update({"day": USED, "by hand": USED})
    told = emit.bill(a_job(spark, settings, daily, "dq_watchdog"), AT + 6 * HOUR)
    assert told == {"bronze_to_silver": usd}
    billed = dict.fromkeys(everything) | {(daily, "bronze_to_silver"): usd, (backfill, "backfill"): usd}
    assert recorded(spark, settings) == billed

    known.clear()
    emit.emit(a_job(spark, settings, daily))
    emit.record(a_job(spark, settings, chunk))
    assert recorded(spark, settings) == billed


def test_every_query_is_in_the_row_of_one_run(
    spark: SparkSession, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[datetime, datetime]] = []

    def scanned(_: Any, since: datetime, until: datetime) -> Scanned:
        asked.append((since, until))
        return Scanned(queries=1, seconds=1, bytes=10, billed_bytes=10_000_000)

    monkeypatch.setattr(cost, "scanned", scanned)
    first, second, between = (new_run_id(at) for at in (AT, AT + 3 * DAY, AT + DAY))
    for run_id in (first, second, between):
        ended(settings, run_id, "bronze_to_silver", run_time(run_id), None)
    for run_id in (first, second, second, between):
        emit.emit(a_job(spark, settings, run_id))
    # No day was left out, a repeated run asks the same again, and one that comes late finds its time counted.
    assert asked == [(AT - DAY, AT), (AT, AT + 3 * DAY), (AT, AT + 3 * DAY)]
    assert {run for run, job in recorded(spark, settings) if job == emit.ATHENA} == {first, second}
    assert run_time(between) == AT + DAY
