"""Housekeeping on real tables: rows stay, readers keep what they trust, and nothing that is open is touched."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.contracts import Contract, ddl
from lakehouse.delta.files import data_files
from lakehouse.delta.layout import MIB, Sizes, depth
from lakehouse.delta.read import head, read
from lakehouse.delta.write import merge, vacuum
from lakehouse.errors import CommitConflict, ConfigError, UsageError
from lakehouse.flows import known, leftovers, maintain, promote, publish
from lakehouse.flows.maintain import Entry, Limits
from lakehouse.flows.publish import Intent, Marker, TableVersion
from lakehouse.landing import LandingWriter
from lakehouse.observe.outcome import Outcome
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import CertifiedRun, Verdict, VerdictInput
from lakehouse.runs import new_run_id, run_time
from lakehouse.store import StoredObject
from tests.quality.support import make_settings
from tests.support import Aws, make_tables

if TYPE_CHECKING:
    from lakehouse.settings import Settings

SUNDAY = datetime(2026, 1, 4, 4, tzinfo=UTC)
BRONZE, SILVER, GOLD = "bronze.fx_rates", "silver.fx_rates", "gold.dim_fx"
STREAM = "bronze.kafka_orders"
SIZES = Sizes(target=MIB, small=MIB // 4, least=4)
NOW = datetime.now(UTC)
IN_FORTY_DAYS = NOW + timedelta(days=40)


class World:
    """A lake of which each test takes a table of its own: tables by the contract of one, at places of their own."""

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        self.spark, self.settings = spark, settings
        self._numbers = itertools.count(1)
        make_tables(spark, settings, ("ops.maintenance_log", "ops.dq_verdicts"))

    def job(self, run_id: str | None = None, **arguments: Any) -> Job:
        run_id = run_id or new_run_id(SUNDAY + timedelta(seconds=next(self._numbers)))
        outcome = Outcome(job="delta_optimize_vacuum", run_id=run_id, started_at=run_time(run_id))
        given = {
            "table": None,
            "optimize_only": False,
            "vacuum_only": False,
            "force": False,
            "dry_run": False,
        }
        job = Job(
            "delta_optimize_vacuum", self.settings, run_id, outcome, argparse.Namespace(**given | arguments)
        )
        job.__dict__["spark"] = self.spark.newSession()
        return job

    def table(self, like: str, files: int = 5) -> Contract:
        """A table with small files, of which nothing is certified."""
        contract = contracts.load(like)
        contract = dataclasses.replace(
            contract, name=f"{contract.layer}.t{next(self._numbers)}_{contract.table}"
        )
        self.spark.sql(ddl.create_table(contract, self.uri(contract)))
        if files:
            self.append(contract, files)
        return contract

    def uri(self, contract: Contract) -> str:
        return self.settings.table_uri(contract.name)

    def append(self, contract: Contract, files: int = 5, **values: Any) -> None:
        frame = rows(self.spark, self.uri(contract), 40 * files, values).repartition(files)
        frame.write.format("delta").mode("append").save(self.uri(contract))

    def version(self, contract: Contract) -> int:
        return head(self.spark, self.uri(contract)).version

    def files(self, contract: Contract) -> int:
        return len(data_files(self.spark, self.uri(contract), contract.partition_by, ()))

    def content(self, contract: Contract, version: int | None = None) -> tuple[int, int]:
        """Rows and a sum over their hashes."""
        frame = read(self.spark, self.uri(contract), version)
        columns = [F.col(f"`{name}`") for name in frame.columns]
        (found,) = frame.agg(F.count("*"), F.sum(F.xxhash64(*columns).cast("decimal(38,0)"))).collect()
        return int(found[0]), int(found[1] or 0)

    def certify(self, contract: Contract, version: int | None = None) -> Verdict:
        """What a gate leaves."""
        live = head(self.spark, self.uri(contract))
        verdict = Verdict(
            verdict_id=uuid.uuid4().hex,
            table=contract.name,
            layer="bronze" if contract.layer == "bronze" else "silver",
            run_id=new_run_id(SUNDAY),
            table_id=live.table_id,
            version=live.version if version is None else version,
            outcome="warned",
            certified_runs=(CertifiedRun(run_id="r1", window_to=SUNDAY, state={"a": 1}),),
            inputs={"bronze.fx_rates": VerdictInput(table_id="x", version=1, run_ids=("r1",))}
            if contract.layer == "silver"
            else {},
            contract_version=contract.version,
            contract_hash=contract.content_hash,
            rules_hash=contract.rules_hash,
            rows=7,
            rules=(),
            created_at=datetime.now(UTC),
        )
        verdicts.write(self.settings, verdict)
        return verdict

    def certification(self, contract: Contract) -> verdicts.Certification:
        live = head(self.spark, self.uri(contract))
        return verdicts.certification(
            contract.name, verdicts.read_all(self.settings, contract.name), live.table_id
        )

    def keep(
        self,
        contract: Contract,
        job: Job | None = None,
        at: datetime = NOW,
        pending: Intent | None = None,
        **arguments: Any,
    ) -> dict[str, Entry]:
        """Maintain one table; its entries by operation."""
        job = job or self.job(**{"optimize_only": True} | arguments)
        limits = Limits(at, run_time(job.run_id).date(), SIZES)
        return {entry.operation: entry for entry in maintain.maintain_table(job, contract, limits, pending)}

    def rewind(self, contract: Contract) -> int:
        """The version that the next promotion starts from."""
        live = head(self.spark, self.uri(contract))
        return promote._rewind(self.job(), contract.name, live, self.certification(contract)).version


def rows(spark: SparkSession, uri: str, count: int, values: dict[str, Any]) -> DataFrame:
    """Rows of a table's types, each other than the rest."""
    made = []
    for field in read(spark, uri).schema:
        kind = field.dataType.simpleString()
        column = F.concat(F.lit(f"{field.name} "), F.col("id").cast("string"))
        if kind in ("date", "timestamp"):
            column = F.lit("2026-01-02")
        elif kind not in ("string", "binary"):
            column = F.col("id") % 1000
        made.append(values.get(field.name, column).cast(field.dataType).alias(field.name))
    return spark.range(count).select(*made)


@pytest.fixture(scope="module")
def world(spark: SparkSession, aws: Aws) -> Iterator[World]:
    aws.client("s3").create_bucket(
        Bucket="housekeeping", CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]}
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.env.items():
            patch.setenv(name, value)
        store.client.cache_clear()
        spark._jsc.hadoopConfiguration().set("fs.s3a.endpoint", aws.endpoint)
        yield World(spark, make_settings("s3://housekeeping"))
    store.client.cache_clear()


# What readers trust ----------------------------------------------------------------------------------------------


def test_silver_is_rewritten_and_stays_certified(world: World) -> None:
    table = world.table(SILVER)
    before, told = world.content(table), world.certify(table)
    known = world.certification(table)
    job = world.job(optimize_only=True)

    found = world.keep(table, job)["optimize"]

    assert (found.files_before, found.files_after, found.skipped_reason) == (5, 1, None)
    assert (world.files(table), world.content(table)) == (1, before)
    after = world.certification(table)
    assert after.version == found.version == world.version(table)
    assert after == known.model_copy(update={"version": after.version}), "nothing but the version has changed"
    (verdict,) = [each for each in verdicts.read_all(world.settings, table.name) if each.action == "optimize"]
    assert (verdict.outcome, verdict.optimized_from) == ("passed", told.version)
    assert (verdict.inputs, verdict.certified_runs, verdict.rows) == (told.inputs, told.certified_runs, 7)
    assert world.rewind(table) == found.version, "the next promotion goes on from here"
    read_by_gold = {table.name: TableVersion(table_id=told.table_id or "", version=told.version or 0)}
    (now,) = publish.optimized(world.settings, read_by_gold).values()
    assert now.version == found.version, "nothing that would have to be published"
    # The same run again does nothing, another one finds nothing to do.
    assert world.keep(table, world.job(job.run_id, optimize_only=True))["optimize"] == found
    assert "does not pay" in (world.keep(table)["optimize"].skipped_reason or "")
    assert world.version(table) == found.version


def test_a_table_that_was_only_altered_since_its_certification_counts_as_certified(world: World) -> None:
    table = world.table(SILVER)
    world.certify(table)
    world.spark.sql(ddl.set_properties(world.uri(table), {"lakehouse.contract_version": "9"}))

    found = world.keep(table)["optimize"]

    assert world.certification(table).version == found.version == world.version(table)


def test_an_uncertified_head_is_left_alone_and_that_is_said(world: World) -> None:
    table = world.table(SILVER)
    assert "nothing is certified" in (world.keep(table)["optimize"].skipped_reason or "")
    world.certify(table)
    certified = world.version(table)
    world.append(table)

    reason = world.keep(table, force=True)["optimize"].skipped_reason or ""

    assert f"version {certified} is certified and version {certified + 1} the newest" in reason
    assert world.version(table) == certified + 1


def test_a_promotion_that_no_gate_has_judged_is_left_alone(world: World) -> None:
    table = world.table(SILVER)
    world.certify(table)
    live = head(world.spark, world.uri(table))
    run = new_run_id(SUNDAY)
    promotion = promote.Promotion(
        table=table.name, run_id=run, table_id=live.table_id, version=live.version, inputs={}
    )
    store.put(known.promotion_uri(world.settings, table.name, run), promotion.model_dump_json().encode())

    assert f"run {run} promoted" in (world.keep(table)["optimize"].skipped_reason or "")
    assert world.version(table) == live.version


def crash(world: World, table: Contract, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A run that is killed after its commit and before its verdict."""
    job = world.job(optimize_only=True)

    def killed(*_: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(verdicts, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            world.keep(table, job)
    return job


@pytest.mark.parametrize("same_run", [True, False], ids=["same run", "next run"])
def test_the_verdict_that_a_killed_run_owed_is_written_later(
    world: World, monkeypatch: pytest.MonkeyPatch, same_run: bool
) -> None:
    table = world.table(SILVER)
    told = world.certify(table)
    job = crash(world, table, monkeypatch)
    assert world.certification(table).version == told.version

    found = world.keep(table, world.job(job.run_id if same_run else None, optimize_only=True))["optimize"]

    assert world.certification(table).version == world.version(table) == (told.version or 0) + 1
    if same_run:
        assert (found.files_before, found.files_after, found.version) == (5, 1, world.version(table))
        assert (found.bytes_before or 0) > (found.bytes_after or 0) > 0
    else:
        assert "does not pay" in (found.skipped_reason or "")


def test_a_promotion_in_the_gap_restores_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = world.table(SILVER)
    told, before = world.certify(table), world.content(table)
    crash(world, table, monkeypatch)
    # The contract of its own name is not one of the project's.
    monkeypatch.setattr(promote, "apply_contracts", lambda *_: [])
    monkeypatch.setattr(promote.contracts, "load", lambda _: table)

    assert world.rewind(table) == (told.version or 0) + 2
    assert world.content(table) == before
    found = world.keep(table)["optimize"]
    assert (found.files_after, world.content(table)) == (1, before)
    assert world.certification(table).version == world.version(table)


def test_a_verdict_of_housekeeping_does_not_outlive_a_newer_one_of_a_gate() -> None:
    def verdict(version: int, after: int | None = None, minute: int = 0) -> Verdict:
        return Verdict(
            verdict_id=f"{version}-{minute}", table=SILVER, layer="silver", run_id="r", table_id="t", version=version,
            outcome="passed", action="judge" if after is None else "optimize", optimized_from=after,
            contract_version="1", contract_hash="h", rules_hash="h", rules=(),
            created_at=SUNDAY + timedelta(minutes=minute),
        )  # fmt: skip

    def certified(*found: Verdict) -> int | None:
        return verdicts.certification(SILVER, found, "t").version

    assert certified(verdict(5), verdict(6, after=5, minute=1)) == 6
    assert certified(verdict(5), verdict(8, minute=1), verdict(6, after=5, minute=2)) == 8
    assert certified(verdict(6, after=5)) is None
    chain = [verdict(6, after=5, minute=1), verdict(9, after=6, minute=2), verdict(7, after=4, minute=3)]
    assert [verdicts.optimized(chain, "t", version) for version in (4, 5, 6, 9)] == [7, 9, 9, 9]
    assert verdicts.optimized(chain, "another", 5) == 5


def test_bronze_is_rewritten_whether_certified_or_not(world: World) -> None:
    table = world.table(BRONZE)
    first = world.keep(table)["optimize"]
    assert (first.files_after, world.certification(table).version) == (1, None)
    world.certify(table)
    world.append(table)
    second = world.keep(table)["optimize"]
    assert second.files_before == 6
    assert world.certification(table).version == first.version, "what came since is for its gate to judge"
    world.certify(table)
    world.append(table, 4)
    world.certify(table)
    third = world.keep(table)["optimize"]
    known = world.certification(table)
    assert (known.version, known.run_ids, known.watermark) == (third.version, {"r1"}, SUNDAY)


def test_the_days_partition_of_the_stream_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = world.table(STREAM, files=0)
    monkeypatch.setattr(maintain, "_STREAMED", (table.name,))
    today, yesterday = SUNDAY.date(), SUNDAY.date() - timedelta(days=1)
    for day in (yesterday, today, yesterday, today):
        world.append(table, 1, ingest_date=F.lit(day))
    before = world.content(table)

    assert world.keep(table, force=True)["optimize"].files_after == 3

    found = data_files(world.spark, world.uri(table), table.partition_by, ())
    counted = {day: sum(file.partition[0][1] == str(day) for file in found) for day in (yesterday, today)}
    assert counted == {yesterday: 1, today: 2}
    assert world.content(table) == before


# Gold ------------------------------------------------------------------------------------------------------------


def test_gold_stays_what_was_published(world: World) -> None:
    table = world.table(GOLD)
    assert "nothing is published" in (put_marker(world) or world.keep(table)["optimize"].skipped_reason or "")
    put_marker(world, table)
    marker = publish.latest_marker(world.settings)
    assert marker is not None

    found = world.keep(table)["optimize"]

    assert found.files_after == 1
    assert publish.is_intact(world.job(), marker)
    world.append(table, 4)
    assert not publish.is_intact(world.job(), marker)
    assert "the newest" in (world.keep(table)["optimize"].skipped_reason or "")


def test_an_open_publication_keeps_what_it_reads_and_writes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    silver = world.table(SILVER)
    world.certify(silver)
    monkeypatch.setattr(maintain, "INPUTS", (silver.name,))
    pending = Intent(
        publish_id="p1", run_id="r", run_date=date(2026, 1, 4), inputs={}, previous={}, contracts={},
        max_staleness_days=1, restate_days=1,
    )  # fmt: skip

    found = world.keep(silver, pending=pending, at=IN_FORTY_DAYS, optimize_only=False)

    assert [entry.skipped_reason for entry in found.values()] == [
        "publication p1 is not complete; the next silver_to_gold completes it"
    ] * 2


def put_marker(world: World, *tables: Contract) -> None:
    live = {table.name: head(world.spark, world.uri(table)) for table in tables}
    outputs = {
        name: TableVersion(table_id=each.table_id, version=each.version) for name, each in live.items()
    }
    marker = Marker(publish_id="p0", inputs={}, outputs=outputs, contracts={})
    store.put(publish._uri(world.settings, "p0.marker.json"), marker.model_dump_json().encode())


# Rewriting -------------------------------------------------------------------------------------------------------


def test_order_is_made_where_it_pays_and_once(world: World) -> None:
    table = dataclasses.replace(world.table(SILVER, files=6), zorder_by=("_payload_hash",))
    world.certify(table)
    before = world.content(table)
    size = sum(file.bytes for file in data_files(world.spark, world.uri(table), (), ()))
    sizes = Sizes(target=size // 3, small=10, least=4)

    def keep() -> dict[str, Entry]:
        job = world.job(optimize_only=True)
        return {
            e.operation: e
            for e in maintain.maintain_table(job, table, Limits(NOW, SUNDAY.date(), sizes), None)
        }

    done = keep()["zorder"]

    assert done.skipped_reason is None
    assert world.certification(table).version == done.version
    files = data_files(world.spark, world.uri(table), (), table.zorder_by)
    assert len(files) > 1
    assert depth(files, table.zorder_by) == 1
    assert world.content(table) == before
    assert "already in order" in (keep()["zorder"].skipped_reason or "")


def test_a_dry_run_says_and_does_nothing(world: World) -> None:
    table = world.table(SILVER)
    world.certify(table)
    before = world.version(table)
    job = world.job(dry_run=True)
    limits = Limits(NOW, SUNDAY.date(), SIZES)

    said = [str(entry) for entry in maintain.maintain_table(job, table, limits, None)]

    assert (
        f"{table.name}: optimize skipped: dry run: it would rewrite 1 of 1 partitions (5 small files can be 1)"
        in said
    )
    assert (world.version(table), maintain._recorded(job, table.name)) == (before, ())


@pytest.mark.proof
def test_merges_against_optimize_leave_every_row_once(world: World) -> None:
    """Delta decides who wins; the other one is told so, and repeats."""
    table = world.table(BRONZE)
    uri = world.uri(table)
    key, rounds = ("_position",), 2
    lost: list[str] = []

    def repeated(name: str, act: Callable[[SparkSession], object]) -> None:
        session = world.spark.newSession()
        for _ in range(10):
            try:
                act(session)
                return
            except CommitConflict:
                lost.append(name)
        raise AssertionError(f"{name} never won")

    def merging() -> None:
        for number in range(rounds):
            changed = F.concat(F.lit("p "), F.col("id").cast("string"))
            repeated(
                "merge",
                lambda session, number=number, changed=changed: merge(
                    rows(session, uri, 10, {"_position": changed, "_payload_hash": F.lit(str(number))}),
                    uri,
                    key,
                    "m",
                ),
            )

    def optimizing() -> None:
        for _ in range(rounds):
            repeated(
                "optimize",
                lambda session: maintain.optimize(session, uri, None, (), "o", SIZES, small_only=False),
            )

    threads = [threading.Thread(target=work) for work in (merging, optimizing)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = read(world.spark, uri)
    assert found.count() == 200 + 10
    assert found.groupBy("_position").count().where("count > 1").count() == 0
    assert {row[0] for row in found.where("_position LIKE 'p %'").select("_payload_hash").collect()} == {
        str(rounds - 1)
    }


# Deleting --------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(world: World) -> Contract:
    """A table whose retention is over at once: the clock that Delta uses cannot be turned."""
    table = dataclasses.replace(
        world.table(SILVER),
        retention=contracts.Retention(deleted_files_days=0, log_days=60),
    )
    name = "delta.deletedFileRetentionDuration"
    world.spark.sql(ddl.set_properties(world.uri(table), {name: ddl.properties(table)[name]}))
    return table


def test_vacuum_deletes_what_no_reader_needs(world: World, short: Contract) -> None:
    world.certify(short)
    before = world.content(short)

    found = world.keep(short, at=datetime.now(UTC) + timedelta(minutes=1), optimize_only=False)["vacuum"]

    assert (found.files_before, found.files_after, found.files_deleted) == (6, 1, 5)
    assert (world.content(short), world.version(short)) == (before, found.version)
    again = world.keep(
        short, at=datetime.now(UTC) + timedelta(minutes=1), vacuum_only=True, optimize_only=False
    )
    assert list(again) == ["vacuum"]
    assert again["vacuum"].skipped_reason == "no file has been out of use for 0 days"


def test_a_certified_version_keeps_its_files(world: World, short: Contract) -> None:
    world.certify(short)
    certified = world.version(short)
    world.append(short)
    maintain.optimize(world.spark, world.uri(short), None, (), "by hand", SIZES)

    found = world.keep(short, at=IN_FORTY_DAYS, vacuum_only=True, optimize_only=False)["vacuum"]

    assert f"the certified version {certified} is not the newest since" in (found.skipped_reason or "")
    assert len(maintain._stored(world.settings, short.name)) == 11


def test_a_retention_that_differs_from_the_contract_is_refused(world: World) -> None:
    table = world.table(SILVER)
    short = dataclasses.replace(table, retention=contracts.Retention(deleted_files_days=0, log_days=60))
    world.certify(table)
    certified, before = world.version(table), world.content(table)

    found = world.keep(short, at=IN_FORTY_DAYS, optimize_only=False)

    assert found["optimize"].skipped_reason is None
    assert "run apply_contracts" in (found["vacuum"].skipped_reason or "")
    # Delta itself knows no retention but the table's.
    vacuum(world.spark.newSession(), world.uri(table))
    assert world.content(table, certified) == before


def test_without_the_safety_check_nothing_is_begun(world: World) -> None:
    unsafe = world.job()
    unsafe.spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    with pytest.raises(ConfigError, match="expected true"):
        maintain.maintain(unsafe)


def test_what_crashed_tries_landed_goes_and_what_a_manifest_names_stays(world: World) -> None:
    settings = world.settings
    run, open_run = new_run_id(SUNDAY), new_run_id(SUNDAY)
    LandingWriter(settings, "fx", "fx_rates", run).write_rows([{"a": 1}])
    writer = LandingWriter(settings, "fx", "fx_rates", run)
    writer.write_rows([{"a": 1}])
    manifest = writer.commit(window_from=None, window_to=None)
    LandingWriter(settings, "fx", "fx_rates", open_run).write_rows([{"a": 1}])
    inbox = f"{settings.lake_uri}/landing/vendor/inbox/day.csv"
    store.put(inbox, b"x")
    kept = [f"{settings.kafka_checkpoint_uri}/metadata", f"{settings.lake_uri}/checkpoints/lost/now/x"]
    for uri in kept:
        store.put(uri, b"x")

    assert leftovers.of_landing(settings, datetime.now(UTC)) == []
    assert leftovers.of_checkpoints(settings, datetime.now(UTC)) == []
    job = world.job()
    limits = Limits(IN_FORTY_DAYS, SUNDAY.date(), SIZES)
    found = [maintain._expire(job, folder, limits) for folder in maintain.FOLDERS]

    assert [entry.files_deleted for entry in found] == [2, 1]
    left = {item.uri.rpartition("/")[2] for item in store.objects(f"{settings.lake_uri}/landing/")}
    assert left == {"manifest.json", "day.csv", manifest.files[0].name}
    assert list(store.keys(f"{settings.lake_uri}/checkpoints/")) == kept[:1]
    assert maintain._expire(job, "landing", limits) == found[0], "the same run does nothing twice"


def test_a_folder_without_a_manifest_goes_only_when_nobody_writes_it() -> None:
    items = [StoredObject(f"s3://b/x/{age}", 1, NOW - timedelta(days=age)) for age in (40, 1)]
    assert leftovers.leftovers(items, None, NOW - timedelta(days=30)) == []
    assert leftovers.leftovers(items[:1], None, NOW - timedelta(days=30)) == items[:1]


# The job ---------------------------------------------------------------------------------------------------------


def test_the_job_goes_on_after_a_lost_race_and_says_so_at_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = world.table(SILVER), world.table(SILVER)
    for table in (first, second):
        world.certify(table)
    known = {table.name: table for table in (first, second)}
    load = contracts.load
    monkeypatch.setattr(maintain.contracts, "load", lambda name: known.get(name) or load(name))
    monkeypatch.setattr(maintain, "targets", lambda _: (tuple(known), ()))
    rewrite = maintain.optimize

    def lose(spark: SparkSession, uri: str, *rest: Any, **more: Any) -> Any:
        if uri == world.uri(first):
            raise CommitConflict("somebody merged")
        return rewrite(spark, uri, *rest, **more)

    job = world.job(optimize_only=True)
    with monkeypatch.context() as patch:
        patch.setattr(maintain, "optimize", lose)
        with pytest.raises(
            CommitConflict, match=r"1 of 2 operations were not done.*somebody merged"
        ) as caught:
            maintain.maintain(job)
    assert caught.value.exit_code == 20

    def logged() -> dict[str, Any]:
        log = read(world.spark, world.settings.table_uri("ops.maintenance_log"))
        return {row["table_name"]: row for row in log.where(F.col("run_id") == job.run_id).collect()}

    assert logged()[first.name]["skipped_reason"].startswith("another writer was faster")
    done = logged()[second.name]
    assert (done["files_before"], done["files_after"], done["skipped_reason"]) == (5, 1, None)

    again = world.job(job.run_id, optimize_only=True)
    maintain.maintain(again)
    assert logged()[first.name]["files_after"] == 1
    assert logged()[second.name] == done
    told = read(world.spark, world.settings.table_uri("ops.dq_verdicts"))
    assert told.where(F.col("run_id") == job.run_id).count() == 2


def test_targets() -> None:
    tables, folders = maintain.targets(None)
    assert set(tables) == set(contracts.names())
    assert folders == ("landing", "checkpoints")
    assert maintain.targets(["gold.dim_fx", "landing"]) == (("gold.dim_fx",), ("landing",))
    assert all(name.startswith("ops.") for name in maintain.targets(["ops"])[0])
    with pytest.raises(UsageError, match="received --table dim_fx, expected one of bronze"):
        maintain.targets(["dim_fx"])
