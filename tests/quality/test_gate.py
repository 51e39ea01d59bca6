"""The gate on Delta tables: verdicts for every table first, then the refusal, and what each certifies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import head, read
from lakehouse.delta.write import overwrite, replace_run
from lakehouse.errors import GateFailed, NotCertified, UsageError
from lakehouse.flows import gate
from lakehouse.flows.ingest import SOURCES
from lakehouse.flows.known import promotion_uri
from lakehouse.flows.landed import read_landed
from lakehouse.flows.promote import PromotedInput, Promotion
from lakehouse.landing import LandingWriter
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Failure, LedgerCounts, Outcome, TableOutcome
from lakehouse.quality import quarantine, rules, verdicts
from lakehouse.quality.verdicts import Verdict
from lakehouse.runs import new_run_id
from lakehouse.session import local_frame
from tests.quality.support import NOON, make_settings
from tests.support import make_tables

FX = "bronze.fx_rates"
CONTACTS = "silver.hubspot_contacts"


def quotes(count: int, **changes: str) -> list[dict[str, Any]]:
    """Distinct quotes, each with the changes."""
    return [
        {
            "as_of_date": f"{2000 + index // 28}-02-{index % 28 + 1:02d}",
            "ccy": "USD",
            "ccy_per_eur": "1.1",
            "publication": "daily",
        }
        | changes
        for index in range(count)
    ]


class Lake:
    """A lake with the tables that a test names, and runs that land and load into it."""

    def __init__(self, spark: SparkSession, uri: str, tables: Sequence[str]) -> None:
        self.spark, self.settings = spark, make_settings(uri)
        self.now = NOON
        make_tables(spark, self.settings, (*tables, "ops.dq_verdicts", "ops.quarantine"))

    def ingest(
        self, rows: list[dict[str, Any]], *, duplicates: int = 0, status: Any = "succeeded", hours: int = 0
    ) -> str:
        """Land and load FX quotes; returns the run. ``duplicates`` of them are reported and not written."""
        run = new_run_id(NOON + timedelta(hours=hours))
        writer = LandingWriter(self.settings, "fx", "fx_rates", run)
        writer.write_rows(rows)
        manifest = writer.commit(
            window_from=None,
            window_to=NOON + timedelta(hours=hours),
            fields=list(quotes(1)[0]),
            state={"run": run},
        )
        contract = contracts.load(FX)
        split = rules.split(read_landed(self.spark, self.settings, manifest), contract).persist()
        refused = split.where(F.size(rules.BROKEN) > 0)
        stats = split.agg(*rules.batch_metrics(split, contract)).head()
        assert stats is not None
        quarantine.replace_open(self.spark, self.settings, refused, contract, manifest, stats["bad"])
        good = split.where(F.size(rules.BROKEN) == 0).select(*contract.column_names)
        uri = self.settings.table_uri(FX)
        if duplicates:
            good = good.dropDuplicates([*contract.key, "_payload_hash"])
        written = len(rows) - stats["bad"] - duplicates
        if written:
            replace_run(good, uri, run, manifest.landed_at.date(), run)
        split.unpersist()
        ledger = LedgerCounts(
            read=len(rows),
            inserted=written,
            quarantined=stats["bad"],
            duplicates=duplicates,
        )
        table = TableOutcome(
            table=FX,
            ledger=ledger,
            table_id=head(self.spark, uri).table_id,
            rules={
                key.removeprefix("rule:"): count
                for key, count in stats.asDict().items()
                if key.startswith("rule:") and count
            },
        )
        self.report(run, [table], status)
        return run

    def report(self, run: str, tables: list[TableOutcome], status: Any = "succeeded") -> None:
        error = (
            Failure(error_class="terminal", code="SOURCE", message="broken", hint="")
            if status == "failed"
            else None
        )
        outcomes.write(
            self.settings,
            Outcome(
                job="fx_to_bronze", run_id=run, status=status, started_at=NOON, tables=tables, error=error
            ),
        )

    def gate(self, run: str, table: str = FX) -> list[Verdict]:
        """Judge the run, a minute after what was judged before: the order of verdicts is that of their times."""
        layer: Any = table.split(".")[0]
        self.now += timedelta(minutes=1)
        return gate.gate(self.spark, self.settings, layer, run, [table], self.now)

    def certification(self, table: str = FX) -> verdicts.Certification:
        live = head(self.spark, self.settings.table_uri(table))
        return verdicts.certification(table, verdicts.read_all(self.settings, table), live.table_id)

    def loaded(self) -> list[Row]:
        frame = read(self.spark, self.settings.table_uri("ops.dq_verdicts"))
        return frame.orderBy("created_at").collect()


def refused(lake: Lake, run: str, table: str = FX) -> GateFailed:
    with pytest.raises(GateFailed) as caught:
        lake.gate(run, table)
    assert caught.value.exit_code == 11
    with pytest.raises(NotCertified):
        lake.certification(table).require(run)
    return caught.value


def test_a_clean_run_is_certified_and_a_poisoned_one_is_not(spark: SparkSession, lake: str) -> None:
    fx = Lake(spark, lake, [FX])
    good = fx.ingest(quotes(95) + quotes(5, ccy_per_eur="-1"))
    [verdict] = fx.gate(good)
    assert verdict.outcome == "passed"
    assert verdict.rows == 95
    known = fx.certification()
    known.require(good)
    assert known.watermark == NOON
    assert known.states == ({"run": good},)
    certified_version = known.version

    bad = fx.ingest(quotes(90) + quotes(10, ccy_per_eur="-1"), hours=24)
    failure = refused(fx, bad)
    assert (
        f"{FX}: rate_positive: observed 10 of 100 rows broke it (10.00%), expected at most 5.00%"
        in failure.message
    )
    assert "rejected_rows" in failure.message
    assert "rate_positive: ccy_per_eur received '-1'" in failure.message
    assert failure.hint
    after = fx.certification()
    assert (after.version, after.watermark, after.run_ids) == (certified_version, NOON, {good})

    # Both verdicts are in ops, once each, however often they are loaded.
    verdicts.load_into_ops(spark, fx.settings, verdicts.uris(fx.settings, FX))
    rows = fx.loaded()
    assert [(row["outcome"], row["certified_run_ids"], row["window_to"] is None) for row in rows] == [
        ("passed", [good], False),
        ("failed", [], True),
    ]
    assert all(store.get(row["uri"]) for row in rows)

    # Judging the good run again changes nothing that it certifies.
    fx.gate(good)
    assert fx.certification().run_ids == {good}


def test_quarantine_holds_a_refused_row_once(spark: SparkSession, lake: str) -> None:
    fx = Lake(spark, lake, [FX])
    run = fx.ingest([*quotes(3), quotes(1, ccy_per_eur="x")[0] | {"ccy": None}])
    manifest_rows = read(spark, fx.settings.table_uri("ops.quarantine"))
    [row] = manifest_rows.collect()
    assert (row["status"], row["run_id"], row["table_name"], row["record_key"]) == ("open", run, FX, None)
    assert [reason.split(":")[0] for reason in row["reasons"]] == ["ccy_not_null", "ccy_per_eur_parses"]
    assert '"ccy_per_eur":"x"' in row["payload"]
    again = local_frame(spark, [row], manifest_rows.schema)
    from lakehouse.quality.insert import insert_new

    insert_new(again, fx.settings.table_uri("ops.quarantine"), ("event_id",), "again")
    assert read(spark, fx.settings.table_uri("ops.quarantine")).count() == 1


def test_what_no_ingest_reported_is_refused(spark: SparkSession, lake: str) -> None:
    fx = Lake(spark, lake, [FX])
    failure = refused(fx, new_run_id(NOON))
    assert "no outcome of an ingest of this run" in failure.message
    assert "run the ingest job of fx" in failure.hint
    failed = fx.ingest(quotes(2), status="failed")
    assert "the ingest fx_to_bronze failed (SOURCE)" in refused(fx, failed).message
    # A job names its verdicts even where it fails.
    job = as_job(fx, failed)
    with pytest.raises(GateFailed):
        gate.check_bronze(job)
    assert [(each.table, each.outcome) for each in job.outcome.verdicts] == [(FX, "failed")]
    assert store.get(job.outcome.verdicts[0].uri)
    run = fx.ingest(quotes(2), hours=1)
    outcome = outcomes.read(fx.settings, run, "fx_to_bronze")
    assert outcome is not None
    fx.report(run, [outcome.tables[0].model_copy(update={"table_id": "another"})])
    assert "made anew" in refused(fx, run).message
    # A table that is not there is a verdict too.
    run = new_run_id(NOON)
    with pytest.raises(GateFailed, match="no such table"):
        gate.gate(spark, fx.settings, "bronze", run, ["vendor_shipments"], NOON)
    assert len(verdicts.read_all(fx.settings, "bronze.vendor_shipments")) == 1


def test_broken_sets_of_rows_are_refused(spark: SparkSession, lake: str) -> None:
    fx = Lake(spark, lake, [FX])
    # The same quotes again and again: Bronze keeps one of each, the ledger counts the others.
    repeated = fx.ingest(quotes(10) + quotes(10), duplicates=10)
    failure = refused(fx, repeated)
    assert (
        "repeated_keys: observed 10 of 20 rows repeat another one (50.00%), expected at most 20.00%"
        in failure.message
    )
    assert "as_of_date=2000-02-01, ccy=USD, publication=daily, rows=2" in failure.message

    # As many duplicates, but of an earlier run: an overlap is no broken extract.
    overlap = fx.ingest(quotes(12), hours=1)
    outcome = outcomes.read(fx.settings, overlap, "fx_to_bronze")
    assert outcome is not None
    table = outcome.tables[0]
    fx.report(
        overlap, [table.model_copy(update={"ledger": LedgerCounts(read=22, inserted=12, duplicates=10)})]
    )
    assert fx.gate(overlap)[0].outcome == "passed"

    # One key with two payloads and a row nobody can explain; an empty file.
    rows = [*quotes(9), *quotes(1, ccy_per_eur="1.2"), *quotes(1, ccy="GBP", publication="weekly")]
    both = refused(fx, fx.ingest(rows, hours=2))
    assert "unique_quote: observed 1 of 11 rows repeat" in both.message
    assert "rows=2" in both.message
    assert "publication_known" in both.message
    assert "publication=weekly" in both.message
    assert "volume: observed 0 rows read" in refused(fx, fx.ingest([], hours=3)).message


def test_the_tripwire_finds_what_slipped_through(spark: SparkSession, lake: str) -> None:
    fx = Lake(spark, lake, [FX])
    run = fx.ingest(quotes(5))
    uri = fx.settings.table_uri(FX)
    spoilt = read(spark, uri).withColumn(
        "ccy_per_eur",
        F.when(F.col("as_of_date") == "2000-02-03", Decimal(-1)).otherwise(F.col("ccy_per_eur")),
    )
    extra = spoilt.where("as_of_date = DATE'2000-02-01'").withColumn("ccy", F.lit("GBP"))
    rows = spoilt.unionByName(extra).collect()
    replace_run(local_frame(spark, rows, spoilt.schema), uri, run, rows[0]["ingest_date"], "spoilt")
    failure = refused(fx, run)
    assert "rows_reverified: observed 1 written rows break a row rule" in failure.message
    assert "as_of_date=2000-02-03" in failure.message
    assert "written_rows: observed 6 rows of the run, expected 5" in failure.message


def test_thresholds_let_pass_and_warn(spark: SparkSession, lake: str) -> None:
    fx = Lake(spark, lake, [FX])
    fx.settings = make_settings(
        lake,
        dq_thresholds={FX: {"rate_positive": {"max_share": 0.5}, "rejected_rows": {"severity": "warning"}}},
    )
    run = fx.ingest(quotes(8) + quotes(2, ccy_per_eur="0"))
    job = as_job(fx, run)
    gate.check_bronze(job)
    [verdict] = verdicts.read_all(fx.settings, FX)
    assert verdict.outcome == "warned"
    assert verdict.rules_hash != contracts.load(FX).rules_hash
    assert fx.certification().run_ids == {run}
    assert [(each.table, each.outcome) for each in job.outcome.verdicts] == [(FX, "warned")]
    assert job.outcome.notes == [
        f"{FX}: rejected_rows: observed 2 of 10 rows rejected (20.00%), expected at most 5.00%"
    ]


def as_job(lake: Lake, run: str) -> Job:
    """The gate of FX as a job, with the session that there is."""
    outcome = Outcome(job="dq_check_bronze", run_id=run, started_at=NOON)
    job = Job("dq_check_bronze", lake.settings, run, outcome, argparse.Namespace(table=[FX]))
    job.__dict__["spark"] = lake.spark
    return job


def test_tables_of_another_layer_are_a_usage_error(spark: SparkSession, lake: str) -> None:
    with pytest.raises(UsageError, match=r"silver\.orders"):
        gate.gate(spark, make_settings(lake), "bronze", new_run_id(NOON), ["silver.orders"], NOON)


def test_bronze_tables_start_with_the_name_of_their_source() -> None:
    for name, tables in SOURCES.items():
        assert {table.split("_")[0] for table in tables} == {name}


class Silver(Lake):
    """HubSpot contacts in Silver, beside the accounts that they refer to."""

    def __init__(self, spark: SparkSession, uri: str) -> None:
        super().__init__(spark, uri, [CONTACTS, "silver.salesforce_accounts"])

    def promote(self, rows: list[dict[str, Any]], bronze_runs: tuple[str, ...]) -> str:
        """Make these rows the table, as a promotion of the Bronze runs; returns the run."""
        good = {
            "email": "jane.doe@example.com",
            "is_deleted": False,
            "modified_at": NOON,
            "_source_rank": 0,
            "_source_position": "",
            "_payload_hash": "h",
            "_run_id": "r",
        }
        types = schema(contracts.load(CONTACTS))
        data = [tuple((good | row).get(field.name) for field in types) for row in rows]
        uri = self.settings.table_uri(CONTACTS)
        commit = overwrite(local_frame(self.spark, data, types), uri, "promotion")
        run = new_run_id(NOON)
        promotion = Promotion(
            table=CONTACTS,
            run_id=run,
            table_id=head(self.spark, uri).table_id,
            version=commit.version,
            inputs={"bronze.hubspot_contacts": PromotedInput(table_id="B", version=3, run_ids=bronze_runs)},
        )
        store.put(promotion_uri(self.settings, CONTACTS, run), promotion.model_dump_json().encode())
        return run


def test_silver_certifies_what_was_promoted(spark: SparkSession, lake: str) -> None:
    silver = Silver(spark, lake)
    assert "no promotion by this run" in refused(silver, new_run_id(NOON), CONTACTS).message

    first = silver.promote([{"id": "1"}, {"id": "2", "account_id": "unknown"}], ("a", "b"))
    [verdict] = silver.gate(first, CONTACTS)
    assert verdict.outcome == "warned"  # of all contacts with an account, all have an unknown one
    assert [rule.name for rule in verdict.rules if not rule.passed] == ["known_account"]
    known = silver.certification(CONTACTS)
    assert known.merged == {"bronze.hubspot_contacts": {"a", "b"}}
    assert known.version == verdict.version

    # A promotion that lost rows, and contacts that make no sense: nothing of it is certified, nobody is shown.
    second = silver.promote([{"id": "1", "merged_into": "1"}], ("a", "b", "c"))
    failure = refused(silver, second, CONTACTS)
    assert (
        "not_shrinking: observed 1 rows, expected at least the 2 rows of the certified version"
        in failure.message
    )
    assert "not_merged_into_itself" in failure.message
    assert "email=j***" in failure.message
    assert "jane" not in failure.message
    assert silver.certification(CONTACTS).merged == {"bronze.hubspot_contacts": {"a", "b"}}

    # The head has moved on since: what the first run promoted is not what is there.
    assert "while this run promoted version" in str(refused_again(silver, first))


def refused_again(silver: Silver, run: str) -> GateFailed:
    """A run that stays certified although its gate, asked again, refuses."""
    with pytest.raises(GateFailed) as caught:
        silver.gate(run, CONTACTS)
    silver.certification(CONTACTS).require(run)
    return caught.value


def test_a_key_twice_in_silver(spark: SparkSession, lake: str) -> None:
    silver = Silver(spark, lake)
    run = silver.promote([{"id": "1"}, {"id": "1"}, {"id": "2"}], ("a",))
    assert "id=1, rows=2" in refused(silver, run, CONTACTS).message
