"""What the watchdog says, and when it is silent."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import head, read
from lakehouse.errors import UsageError, WatchAlarm
from lakehouse.flows import publish, watch
from lakehouse.flows.publish import Intent, Marker
from lakehouse.flows.recovery import status
from lakehouse.flows.watch import Finding
from lakehouse.observe.outcome import Outcome
from lakehouse.observe.stream import Progress
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import Outcome as Judgement
from lakehouse.quality.verdicts import RuleResult, Verdict
from lakehouse.runs import new_run_id, run_time
from lakehouse.session import local_frame
from local.bootstrap import keep_versions
from tests.quality.support import make_settings
from tests.support import Aws, make_tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.settings import Settings

NOW = datetime(2026, 1, 4, 9, tzinfo=UTC)
SILVER = "silver.fx_rates"


def verdict(hours_ago: float, outcome: Judgement = "passed", **changes: Any) -> Verdict:
    broken = RuleResult(name="rate_positive", severity="critical", passed=False, observed="1", expected="0")
    values: dict[str, Any] = {
        "verdict_id": uuid.uuid4().hex,
        "table": SILVER,
        "layer": "silver",
        "run_id": new_run_id(NOW),
        "table_id": "t",
        "version": 1,
        "outcome": outcome,
        "contract_version": "1",
        "contract_hash": "h",
        "rules_hash": "h",
        "rules": (broken,) if outcome == "failed" else (),
        "created_at": NOW - timedelta(hours=hours_ago),
    }
    return Verdict(**(values | changes))


def words(found: list[Finding]) -> str:
    return "\n".join(map(str, found))


# What the verdicts say -------------------------------------------------------------------------------------------


def test_a_table_that_was_certified_today_needs_nobody() -> None:
    assert watch.of_certification(SILVER, 1, [verdict(25)], NOW) == []
    assert watch.of_certification(SILVER, 7, [verdict(100)], NOW) == []


def test_a_file_that_lies_in_an_inbox_for_a_day_is_critical() -> None:
    def state(hours_ago: int, **left: float) -> dict[str, Any]:
        since = {f"{name}.csv": NOW - timedelta(hours=hours) for name, hours in left.items()}
        return {
            "read_at": (NOW - timedelta(hours=hours_ago)).isoformat(),
            "left": {name: [time.isoformat(), "it is UTF-16"] for name, time in since.items()},
        }

    (found,) = watch.of_inbox("bronze.vendor_shipments", [state(1, old=25, new=23), state(25, gone=90)], NOW)
    assert (found.severity, found.subject) == ("critical", "old.csv")
    assert "in the inbox since 2026-01-03T08:00:00+00:00: it is UTF-16" in str(found)
    assert watch.of_inbox("bronze.fx_rates", [{}, {"files": {}}], NOW) == []
    assert watch.of_inbox("bronze.fx_rates", [], NOW) == []


def test_an_old_certification_is_critical() -> None:
    (found,) = watch.of_certification(SILVER, 1, [verdict(27)], NOW)
    assert (found.severity, found.next_step) == ("critical", "airflow dags trigger daily_batch_pipeline")
    assert "certified 27 hours ago" in found.observed
    (never,) = watch.of_certification(SILVER, 1, [], NOW)
    assert never.observed == "it was never certified"


def test_a_refused_run_is_named_with_the_rules_it_broke() -> None:
    failed = verdict(3, "failed")
    (found,) = watch.of_certification(SILVER, 1, [verdict(27), failed], NOW)
    assert f"run {failed.run_id} was refused since (rate_positive)" in found.observed
    assert (
        found.next_step
        == f"scripts/emr_submit.sh run_ge_checks --layer silver --table fx_rates --run-id {failed.run_id}"
    )


@pytest.mark.parametrize("action", ["optimize", "erase"])
def test_what_judges_nothing_certifies_nothing_anew(action: str) -> None:
    assert watch.of_certification(SILVER, 1, [verdict(27), verdict(1, action=action)], NOW) != []


# Volume, stream, Gold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "is_unusual"), [(100, False), (49, True), (50, False), (200, False), (201, True)]
)
def test_a_day_of_unusual_size_is_a_warning(newest: int, is_unusual: bool) -> None:
    days = {date(2026, 1, n): 100 for n in (1, 2, 3)} | {date(2026, 1, 4): newest}
    found = watch.of_volume({"bronze.fx_rates": days})
    assert [each.severity for each in found] == (["warning"] if is_unusual else [])


def test_too_few_days_say_nothing_about_volume() -> None:
    assert watch.of_volume({"bronze.fx_rates": {date(2026, 1, 1): 100, date(2026, 1, 2): 0}}) == []


@pytest.mark.parametrize(
    ("silent_minutes", "lag", "expected"),
    [(1, 5, None), (16, 0, '"ensure"'), (1, 100_001, '"restart"')],
    ids=["alive", "silent", "behind"],
)
def test_stream(silent_minutes: int, lag: int, expected: str | None) -> None:
    at = NOW - timedelta(minutes=silent_minutes)
    progress = Progress(run_id="r", topic="t", at=at, alive_at=at, until={}, latest={}, lag={"0": lag})
    found = watch.of_stream(progress, NOW)
    assert [expected in each.next_step for each in found if expected] == ([True] if expected else [])
    assert bool(found) == bool(expected)
    assert watch.of_stream(None, NOW)[0].observed == "the stream has never begun"


def test_who_was_erased_and_comes_back_is_critical() -> None:
    (found,) = watch.of_erasures({("run", "bronze.hubspot_contacts"): 2})
    assert (found.severity, found.subject, found.observed) == (
        "critical", "run", "2 rows of a person whom run erased",
    )  # fmt: skip
    assert found.next_step == "scripts/emr_submit.sh recover erase --status"


@pytest.fixture
def settings(lake: str) -> Settings:
    return make_settings(lake)


@pytest.mark.parametrize(
    ("published", "now", "is_late"),
    [
        (datetime(2026, 1, 4, 6, tzinfo=UTC), NOW, False),
        (datetime(2026, 1, 3, 6, tzinfo=UTC), NOW, True),
        (datetime(2026, 1, 3, 6, tzinfo=UTC), NOW.replace(hour=7), False),
        (None, NOW, True),
    ],
    ids=["today", "yesterday", "yesterday, before it is due", "never"],
)
def test_gold_has_to_be_there_when_it_was_promised(
    settings: Settings, published: datetime | None, now: datetime, is_late: bool
) -> None:
    if published is not None:
        marker = Marker(publish_id=f"{new_run_id(published)}.1234", inputs={}, outputs={}, contracts={})
        store.put(
            publish._uri(settings, f"{marker.publish_id}.marker.json"), marker.model_dump_json().encode()
        )
    late = {each.table for each in watch.of_gold(settings, now)}
    assert late == (set(contracts.names("gold")) if is_late else set())


# The job ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(spark: SparkSession, aws: Aws) -> Iterator[Settings]:
    """A lake with every table, and nothing certified."""
    aws.client("s3").create_bucket(
        Bucket="watched", CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]}
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.env.items():
            patch.setenv(name, value)
        store.client.cache_clear()
        spark._jsc.hadoopConfiguration().set("fs.s3a.endpoint", aws.endpoint)
        settings = make_settings("s3://watched")
        names = ["gold.dim_fx", SILVER, "bronze.fx_rates", "bronze.kafka_orders"]
        names += contracts.names("ops")
        make_tables(spark, settings, names)
        yield settings
    store.client.cache_clear()


def a_job(spark: SparkSession, settings: Settings, run_id: str | None = None, table: str = "all") -> Job:
    run_id = run_id or new_run_id(NOW)
    outcome = Outcome(job="dq_watchdog", run_id=run_id, started_at=run_time(run_id))
    job = Job("dq_watchdog", settings, run_id, outcome, argparse.Namespace(table=table))
    job.__dict__["spark"] = spark.newSession()
    return job


def put(spark: SparkSession, settings: Settings, table: str, **values: Any) -> None:
    """Append one row; what is not given is 0, a word or the moment."""
    fields = schema(contracts.load(table))
    defaults: dict[str, Any] = {"string": "x", "bigint": 0, "int": 0, "timestamp": NOW, "date": NOW.date()}
    row = [values.get(field.name, defaults.get(field.dataType.simpleString())) for field in fields]
    local_frame(spark, [row], fields).write.format("delta").mode("append").save(settings.table_uri(table))


def test_the_whole_lake(spark: SparkSession, world: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fault of each kind, all written and told before the job fails."""
    from decimal import Decimal

    ingest = {"run_id": new_run_id(NOW), "job": "fx_to_bronze", "table_name": "bronze.fx_rates"}
    put(spark, world, "ops.row_ledger", **ingest, read=3, inserted=2)
    put(spark, world, "ops.quarantine", table_name="bronze.fx_rates", status="open", reasons=["r: 1"])
    put(spark, world, SILVER, rate_to_base=Decimal(-1), usd_per_eur=Decimal(1), ccy_per_eur=Decimal(1))
    live = head(spark, world.table_uri(SILVER))
    verdicts.write(
        world, verdict(1, table_id=live.table_id, version=live.version, created_at=datetime.now(UTC))
    )
    intent = Intent(
        publish_id=f"{new_run_id(NOW)}.1", run_id=new_run_id(NOW), run_date=NOW.date(), inputs={}, previous={},
        contracts={}, max_staleness_days=1, restate_days=1,
    )  # fmt: skip
    store.put(publish._uri(world, f"{intent.publish_id}.intent.json"), intent.model_dump_json().encode())
    job = a_job(spark, world)

    with pytest.raises(WatchAlarm, match="critical of") as caught:
        watch.watch(job)

    assert (caught.value.exit_code, caught.value.error_class) == (11, "terminal")
    stored = read(spark, world.table_uri(watch.TABLE)).where(f"run_id = '{job.run_id}'").collect()
    by_check = {(row["check_name"], row["table_name"]): row for row in stored}
    assert by_check["ledger", "bronze.fx_rates"]["observed"].startswith("3 read and 0 generated rows")
    assert by_check["quarantine", "bronze.fx_rates"]["severity"] == "warning"
    assert by_check["certification", "bronze.fx_rates"]["observed"] == "it was never certified"
    assert ("certification", SILVER) not in by_check
    assert by_check["publication", "gold.fact_orders"]["next_step"].endswith(
        f'{{"run_id": "{intent.run_id}"}}\''
    )
    assert by_check["exists", "silver.orders"]["next_step"] == "airflow dags trigger catalog_and_dq"
    assert by_check["freshness", "gold.dim_fx"]["observed"] == "nothing published"
    broken = [row for row in stored if (row["check_name"], row["table_name"]) == ("rule", SILVER)]
    assert [row["subject"] for row in broken if row["severity"] == "critical"] != []
    assert {row["next_step"] for row in broken} == {
        "scripts/emr_submit.sh run_ge_checks --layer silver --table fx_rates"
    }
    criticals = [row for row in stored if row["severity"] == "critical"]
    assert len(criticals) == caught.value.message.count("\n  - ")
    assert "airflow dags trigger" in caught.value.message
    assert any(
        f"findings of the last 7 days: {len(criticals)} critical" in note for note in job.outcome.notes
    )

    # The same run again replaces its findings; another day that finds nothing is green and keeps them.
    monkeypatch.setattr(watch, "findings", lambda *_: [])
    watch.watch(a_job(spark, world))
    assert read(spark, world.table_uri(watch.TABLE)).count() == len(stored)
    watch.watch(a_job(spark, world, job.run_id))
    assert read(spark, world.table_uri(watch.TABLE)).count() == 0


def test_a_recheck_looks_at_what_is_certified(spark: SparkSession, world: Settings) -> None:
    job = a_job(spark, world, table=SILVER)
    with pytest.raises(WatchAlarm, match=r"critical: silver\.fx_rates: rule"):
        watch.recheck(job)
    green = a_job(spark, world, table="bronze.fx_rates")
    watch.recheck(green)
    assert green.outcome.notes == ["0 of 1 tables have certified rows, and were looked at"]
    with pytest.raises(UsageError, match="received --table orders"):
        watch.recheck(a_job(spark, world, table="orders"))


def test_a_table_that_was_deleted_is_told_from_one_that_never_was(
    spark: SparkSession, lake: str, aws: Aws
) -> None:
    settings, bucket = make_settings(lake), lake.removeprefix("s3://")
    s3 = aws.client("s3")
    keep_versions(s3, bucket)
    s3.put_object(Bucket=bucket, Key=f"silver/fx_rates/_delta_log/{0:020}.json", Body=b"{}")
    s3.delete_object(Bucket=bucket, Key=f"silver/fx_rates/_delta_log/{0:020}.json")
    # What a try leaves that was cut off before its first commit.
    s3.put_object(Bucket=bucket, Key="silver/orders/_delta_log/", Body=b"")
    s3.delete_object(Bucket=bucket, Key="silver/orders/_delta_log/")
    job = a_job(spark, settings)

    deleted, never = (watch.of_missing(job, name) for name in (SILVER, "silver.orders"))

    assert (deleted.severity, never.severity) == ("critical", "critical")
    assert deleted.next_step == "scripts/undelete.sh silver/fx_rates/ (RUNBOOK_AWS_2025.md 8.12)"
    assert never.next_step == "airflow dags trigger catalog_and_dq"
    assert [(each.what, each.command) for each in status._dropped(job)] == [
        ("silver.fx_rates: its objects were deleted", deleted.next_step)
    ]
