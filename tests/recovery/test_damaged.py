"""A lake in which objects are missing or broken: what is said of it, and the way out, for each layer.

Every test breaks what the others have mended; what they assert is that the rows are those of before.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse import store
from lakehouse.delta import damage
from lakehouse.delta.log import forget
from lakehouse.errors import RecoveryRefused, TableUnreadable, WatchAlarm
from lakehouse.flows import watch
from lakehouse.flows.recovery import reload, repair, status
from lakehouse.runs import new_run_id
from tests.recovery.support import RECOVERED_AT, Recoverable, data_of, destroyed, killed_at, shipments
from tests.support import Aws

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SILVER, BRONZE, VERDICTS = "silver.vendor_shipments", "bronze.vendor_shipments", "ops.dq_verdicts"


class Damaged(Recoverable):
    """Two runs of the vendor, promoted."""

    def uri(self, name: str) -> str:
        return self.settings.table_uri(name)

    def rows_of(self, name: str, *without: str) -> list[tuple[Any, ...]]:
        forget(self.spark)
        rows = self.table(name).drop(*without).collect()
        return sorted((tuple(row) for row in rows), key=str)

    def told(self) -> dict[str, status.Finding]:
        """What status says of tables that cannot be read, by table."""
        forget(self.spark)
        found = status.status(self.job("recover"))
        return {each.what.split()[0]: each for each in found if "cannot be read" in each.what}

    def watched(self, table: str) -> list[watch.Finding]:
        forget(self.spark)
        run_id = new_run_id(RECOVERED_AT)
        job = self.job("dq_watchdog", run_id)
        job.arguments = argparse.Namespace(table=table)
        return watch.findings(job, RECOVERED_AT)


@pytest.fixture(scope="module")
def lake(spark: SparkSession, reachable: str) -> Damaged:
    lake = Damaged(
        spark,
        f"{reachable}/damaged",
        "silver.orders",
        SILVER,
        "ops.recovery_log",
        "ops.watch_findings",
        "ops.publications",
    )
    for n in (1, 2):
        lake.promote(lake.shipped(*shipments(f"D{n}", 1, 20), hours=n))
    return lake


def promotion(lake: Damaged) -> None:
    """The next day's promotion, which reads Silver."""
    forget(lake.spark)
    lake.promote(lake.shipped(*shipments("D1", 1, 3, file="again.csv", status="RETURNED"), hours=10))


def unreadable(lake: Damaged, act: Any) -> TableUnreadable:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # what Spark makes of it
        act()
    told = damage.recognised(raised.value)
    assert isinstance(told, TableUnreadable)
    return told


def test_a_broken_file_in_silver(lake: Damaged) -> None:
    before = lake.rows_of(SILVER, "_run_id")
    at = data_of(lake.uri(SILVER))[0]
    body = store.get(at) or b""
    good = lake.version(SILVER)
    destroyed(at, body[:200] + b"garbage" + body[207:])

    told = unreadable(lake, lambda: promotion(lake))
    assert (told.tables, at in told.message) == ((SILVER,), True)
    assert told.hint == f"scripts/emr_submit.sh recover repair --table {SILVER}"
    # The version that cannot be read is none to go back to, and what is said leads out.
    forget(lake.spark)
    with pytest.raises(RecoveryRefused, match="cannot be read any more") as refused:
        lake.recover("rollback", table=SILVER, version=good)
    assert refused.value.hint.endswith(f"restore-silver --table {SILVER}")
    words = lake.recover("restore-silver", apply=False, table=SILVER)
    assert f"cannot be compared: {SILVER} cannot be read: {at}" in words
    assert "43 rows in place of what cannot be read" in words or "40 rows in place" in words

    lake.recover("restore-silver", table=SILVER)

    now = lake.rows_of(SILVER, "_run_id")
    assert len(now) == len(before) == 40
    assert lake.known(SILVER).version == lake.version(SILVER)
    assert SILVER not in lake.told()
    promotion(lake)


@pytest.mark.proof
def test_a_deleted_file_in_bronze_comes_from_landing(lake: Damaged, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lake.rows_of(BRONZE)
    at = data_of(lake.uri(BRONZE))[0]
    destroyed(at, None)

    assert lake.told()[BRONZE] == status.Finding(
        f"{BRONZE} cannot be read: {at} is missing", f"scripts/emr_submit.sh recover repair --table {BRONZE}"
    )
    found = [each for each in lake.watched("all") if each.check == "readable"]
    assert [(each.table, at in each.observed, each.next_step) for each in found] == [
        (BRONZE, True, f"scripts/emr_submit.sh recover repair --table {BRONZE}")
    ]
    told = lake.recover("repair", apply=False, table=BRONZE)
    assert (
        f"{at} is missing (20 rows): no version of it is whole" in told or "no version of it is whole" in told
    )
    assert lake.told()

    run = new_run_id(RECOVERED_AT)
    with killed_at(monkeypatch, reload, "look"):  # the other files are kept, and no run is loaded yet
        lake.recover("repair", run, table=BRONZE)
    assert lake.rows_of(BRONZE) != before
    lake.recover("repair", run, table=BRONZE)

    assert lake.rows_of(BRONZE) == before
    assert not lake.told()
    assert "has been done already" in lake.recover("repair", run, table=BRONZE)
    assert "0 rows added, 0 removed, 0 changed" in lake.recover("restore-silver", apply=False, table=SILVER)
    assert [row["table_name"] for row in lake.logged(run)] == [BRONZE]


def test_a_broken_file_in_ops_is_told_again_by_verdicts(lake: Damaged) -> None:
    before = lake.rows_of(VERDICTS)
    at = data_of(lake.uri(VERDICTS))[0]
    destroyed(at, b"")
    assert "has 0 bytes" in lake.told()[VERDICTS].what
    lake.recover("repair", table=VERDICTS)
    assert lake.rows_of(VERDICTS) == before
    assert not lake.told()


@pytest.mark.parametrize(
    "what",
    [
        "garbage checkpoint",
        pytest.param("pointer to nowhere", marks=pytest.mark.proof),
        pytest.param("garbage pointer", marks=pytest.mark.proof),
    ],
)
def test_a_checkpoint_is_put_aside(lake: Damaged, what: str) -> None:
    uri = lake.uri(SILVER)
    forget(lake.spark)
    before = lake.rows_of(SILVER)
    jvm: Any = lake.spark._jvm
    live = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(lake.spark._jsparkSession, uri)
    live.checkpoint()
    pointer = f"{uri}/_delta_log/_last_checkpoint"
    at = {
        "garbage checkpoint": f"{uri}/_delta_log/{lake.version(SILVER):020}.checkpoint.parquet",
        "pointer to nowhere": pointer,
        "garbage pointer": pointer,
    }[what]
    destroyed(at, b'{"version": 400, "size": 1}' if what == "pointer to nowhere" else b"garbage")

    told = lake.told()[SILVER]
    assert at in told.what
    if what == "garbage checkpoint":
        assert at in unreadable(lake, lambda: lake.rows_of(SILVER)).message
    assert "put aside" in lake.recover("repair", apply=False, table=SILVER)
    lake.recover("repair", table=SILVER)
    assert not lake.told()
    assert lake.rows_of(SILVER) == before


def test_a_newest_commit_that_is_gone_without_a_trace(lake: Damaged) -> None:
    """Delta reads the version before it, as if nothing had happened; the verdicts know better."""
    lake.promote(lake.shipped(*shipments("D9", 1, 5), hours=20))
    before = lake.rows_of(SILVER, "_run_id")
    newest = lake.version(SILVER)
    log = f"{lake.uri(SILVER)}/_delta_log"
    for each in [f"{log}/_last_checkpoint", *store.keys(f"{log}/{newest:020}")]:
        destroyed(each, None)
    forget(lake.spark)
    found = [each for each in status.status(lake.job("recover")) if "commits are missing" in each.what]
    assert [each.command for each in found] == [f"scripts/emr_submit.sh recover repair --table {SILVER}"]
    assert unreadable(lake, lambda: promotion(lake)).tables == (SILVER,)
    forget(lake.spark)
    assert "keeps no version" in lake.recover("repair", apply=False, table=SILVER)
    lake.recover("repair", table=SILVER)
    assert len(lake.rows_of(SILVER, "_run_id")) == len(before)
    assert lake.known(SILVER).version == lake.version(SILVER)


@pytest.mark.proof
def test_a_commit_that_is_lost_with_its_versions_makes_the_table_anew(
    lake: Damaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lake.rows_of(SILVER, "_run_id")
    uri = lake.uri(SILVER)
    at = f"{uri}/_delta_log/{lake.version(SILVER):020}.json"
    for each in list(store.keys(f"{uri}/_delta_log/")):
        if "checkpoint" in each:
            destroyed(each, None)
    destroyed(at, b"garbage")
    assert at in lake.told()[SILVER].what
    told = lake.recover("repair", apply=False, table=SILVER)
    assert "created anew, empty" in told
    assert f"restore-silver --table {SILVER}" in told
    run = new_run_id(RECOVERED_AT)
    with killed_at(monkeypatch, repair, "apply_contracts"):  # it is put aside, and not created yet
        lake.recover("repair", run, table=SILVER)
    lake.recover("repair", run, table=SILVER)
    lake.recover("restore-silver", table=SILVER)
    assert not lake.told()
    assert len(lake.rows_of(SILVER, "_run_id")) == len(before)


def test_the_watchdog_tells_what_it_cannot_write(lake: Damaged) -> None:
    job = lake.job("dq_watchdog", new_run_id(RECOVERED_AT))
    watch.write(job, [watch.Finding("a", SILVER, "warning", "b", "c", "d")], RECOVERED_AT)
    at = data_of(lake.uri("ops.watch_findings"))[0]
    destroyed(at, b"garbage")
    forget(lake.spark)
    with pytest.raises(WatchAlarm) as caught:
        watch.watch(lake.job("dq_watchdog", new_run_id(RECOVERED_AT)))
    assert "ops.watch_findings: readable" in caught.value.message
    lake.recover("repair", table="ops.watch_findings")
    assert {row["check_name"] for row in lake.table("ops.watch_findings").collect()} - {"a"}
    assert not lake.table("ops.watch_findings").where("check_name = 'a'").collect()


@pytest.mark.proof  # versions stay on in the bucket that the tests of recovery share
def test_a_version_that_the_bucket_keeps_is_put_back(lake: Damaged, aws: Aws) -> None:
    """Last: from here on the bucket keeps versions, as production's does."""
    bucket, _ = store.split(lake.settings.lake_uri)
    aws.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    before = lake.rows_of(BRONZE)
    data = data_of(lake.uri(BRONZE))[0]
    commit = f"{lake.uri(BRONZE)}/_delta_log/{lake.version(BRONZE):020}.json"
    store.put(data, b"garbage")
    store.delete(commit)
    assert commit in lake.told()[BRONZE].what
    lake.recover("repair", table=BRONZE)
    assert lake.rows_of(BRONZE) == before
    assert not lake.told()
