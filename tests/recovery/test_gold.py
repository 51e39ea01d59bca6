"""Gold completed, rebuilt, rolled back: always all of its tables, always from certified Silver."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.delta import damage
from lakehouse.delta.log import forget
from lakehouse.delta.read import head, read
from lakehouse.delta.write import overwrite
from lakehouse.errors import CommitConflict, NotCertified, RecoveryRefused, TableUnreadable, UsageError
from lakehouse.flows import publish
from lakehouse.flows.recovery import base, status
from lakehouse.observe.outcome import Outcome
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import Verdict
from lakehouse.runs import new_run_id, run_time
from tests.quality.support import make_settings
from tests.recovery.support import ACTIONS, RECOVERED_AT, copied, data_of, destroyed, killed_at
from tests.support import make_tables
from tests.tables.rows import Row, at, collect, day, frame, ordered

DAY = datetime(2025, 1, 20, 6, tzinfo=UTC)
FACTS = "gold.fact_orders"
ORDERS = ("bronze.snowflake_orders", "bronze.kafka_orders")
PROVENANCE = {"_source_rank": 1, "_source_position": ""}


class Shop:
    """Silver as the gate left it, and Gold."""

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self.spark, self.settings = spark, make_settings(uri)
        #: What was written to Silver last, by table: rows that stay need a verdict and no commit.
        self.contents: dict[str, Sequence[Row]] = {}

    def create(self) -> None:
        names = (
            *publish.INPUTS, *publish.OUTPUTS, *ORDERS, "ops.publications", "ops.recovery_log", "ops.dq_verdicts"
        )  # fmt: skip
        make_tables(self.spark, self.settings, names)

    def again(self, uri: str) -> Shop:
        """A shop like this one, at another place."""
        copied(self.settings.lake_uri, uri)
        other = Shop(self.spark, uri)
        other.contents = dict(self.contents)
        return other

    def job(self, run_id: str) -> Job:
        outcome = Outcome(job="recover", run_id=run_id, started_at=run_time(run_id))
        job = Job("recover", self.settings, run_id, outcome, argparse.Namespace())
        job.__dict__["spark"] = self.spark
        return job

    def silver(self, run: str, orders: Sequence[Row]) -> None:
        """What a run made of Silver, certified."""
        euro = {"ccy_per_eur": Decimal(1), "usd_per_eur": Decimal("1.1"), "rate_to_base": Decimal("1.1")}
        rates = [
            {"as_of_date": day("2025-01-15"), "ccy": "EUR", **euro, "publication": "daily", **PROVENANCE}
        ]
        account = {"id": "A1", "name": "Acme", "is_deleted": False, "modified_at": at("2025-01-01")}
        contents: dict[str, Sequence[Row]] = {
            "silver.orders": orders,
            "silver.fx_rates": rates,
            "silver.salesforce_accounts": [account | PROVENANCE],
            "silver.hubspot_contacts": [],
        }
        for name, rows in contents.items():
            if self.contents.get(name) != rows:
                overwrite(frame(self.spark, name, rows), self.settings.table_uri(name), f"{run}/{name}")
                self.contents[name] = rows
            live = head(self.spark, self.settings.table_uri(name))
            verdicts.write(
                self.settings,
                Verdict(
                    verdict_id=uuid.uuid4().hex,
                    table=name,
                    layer="silver",
                    run_id=run,
                    table_id=live.table_id,
                    version=live.version,
                    outcome="passed",
                    contract_version="1.0.0",
                    contract_hash="c",
                    rules_hash="r",
                    rules=(),
                    created_at=datetime.now(UTC),
                ),
            )

    def publish(self, run: str) -> None:
        publish.publish(self.job(run))

    def recover(self, action: str, run_id: str | None = None, *, apply: bool = True, **asked: Any) -> str:
        words: list[str] = []
        request = base.Request(action=action, by="anna", why="a test", **asked)
        job = self.job(run_id or new_run_id(RECOVERED_AT))
        base.recover(job, ACTIONS[action], request, apply=apply, tell=words.append)
        return "\n".join(words)

    def gold(self) -> dict[str, list[Row]]:
        return {
            name: ordered(
                collect(read(self.spark, self.settings.table_uri(name)).drop("_publish_id")),
                *contracts.load(name).key,
            )
            for name in publish.OUTPUTS
        }

    def version(self, name: str) -> int:
        return head(self.spark, self.settings.table_uri(name)).version

    def is_intact(self) -> bool:
        marker = publish.latest_marker(self.settings)
        assert marker is not None
        return publish.is_intact(self.job(new_run_id(RECOVERED_AT)), marker)


def order(n: int, **more: Any) -> Row:
    known = {"customer_id": "A1", "status": "PAID", "amount": Decimal("10.00"), "currency": "EUR"}
    own = {"order_id": f"O-{n}", "event_ts": at("2025-01-15 10:00:00"), "event_month": "2025-01"}
    return {**own, "source": "snowflake", **known, **PROVENANCE, "_payload_hash": f"{n}", **more}


FIRST, SECOND, THIRD = (new_run_id(DAY + timedelta(days=n)) for n in range(3))


@pytest.fixture(scope="module")
def empty(spark: SparkSession, reachable: str) -> Shop:
    """A shop whose Silver nobody has certified."""
    shop = Shop(spark, f"{reachable}/empty")
    shop.create()
    return shop


@pytest.fixture(scope="module")
def published(empty: Shop, reachable: str) -> Shop:
    """Five orders in Gold by FIRST. Tests work on copies of it."""
    shop = empty.again(f"{reachable}/published")
    shop.silver(FIRST, [order(n) for n in range(1, 6)])
    shop.publish(FIRST)
    return shop


@pytest.fixture(scope="module")
def shop(published: Shop, reachable: str) -> Shop:
    """Whose Gold is cut off, damaged and mended: its tests follow each other."""
    return published.again(f"{reachable}/shop")


@pytest.mark.proof
def test_gold_follows_silver_back(empty: Shop, reachable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = empty.again(f"{reachable}/followed")
    shop.silver(FIRST, [order(1)])
    shop.publish(FIRST)
    before, version = shop.gold(), shop.version("silver.orders")
    shop.silver(SECOND, [order(1, amount=Decimal("1000.00")), order(2)])
    shop.publish(SECOND)
    wrong = shop.gold()
    with pytest.raises(UsageError, match="nothing depends on Gold"):
        shop.recover("rollback", table=FACTS, version=1, with_dependents=True)
    back = {"table": "silver.orders", "version": version, "with_dependents": True}
    assert "Gold is then published" in shop.recover("rollback", apply=False, **back)
    assert shop.gold() == wrong

    run = new_run_id(RECOVERED_AT)
    with killed_at(monkeypatch, publish, "_mark"):
        shop.recover("rollback", run, **back)
    shop.recover("rollback", run, **back)
    assert shop.gold() == before
    assert shop.is_intact()


def test_gold_is_not_made_of_what_nobody_certified(empty: Shop) -> None:
    with pytest.raises(NotCertified, match=r"silver\.orders"):
        empty.recover("rebuild-gold", apply=False)


def test_a_cut_off_publication_damage_and_the_way_back(
    spark: SparkSession, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monday, version = shop.gold(), shop.version(FACTS)
    assert "nothing to do" in shop.recover("complete-publication")

    # Cut off between dimensions and facts.
    shop.silver(SECOND, [order(n, amount=Decimal("20.00")) for n in range(1, 8)])
    with killed_at(monkeypatch, publish, "_mark"):
        shop.publish(SECOND)
    with pytest.raises(RecoveryRefused, match="has not come to an end") as refused:
        shop.recover("rebuild-gold")
    assert "complete-publication" in refused.value.hint
    assert f"{FACTS}: committed" in shop.recover("complete-publication", apply=False)
    run = new_run_id(RECOVERED_AT)
    shop.recover("complete-publication", run)
    assert shop.is_intact()
    tuesday = shop.gold()
    assert [row["amount_usd"] for row in tuesday[FACTS]] == [Decimal("22.00")] * 7

    # Damaged by hand: made anew from what Silver certifies, though the inputs are those of the last publication.
    table = DeltaTable.forPath(spark, shop.settings.table_uri(FACTS))
    table.update("order_id = 'O-1'", {"usd_per_eur": "9", "amount_usd": "180"})
    table.delete("order_id = 'O-2'")
    assert not shop.is_intact()
    assert "1 rows added, 0 removed, 1 changed, 5 the same" in shop.recover("rebuild-gold")
    assert shop.gold() == tuesday  # the frozen quote is the published one, not the damaged
    assert shop.is_intact()
    assert publish.pending(shop.settings) is None

    # Back to the first publication, all tables of it.
    with pytest.raises(UsageError, match="one of --to-version"):
        shop.recover("rollback", table=FACTS)
    with pytest.raises(RecoveryRefused, match="no publication made version 0"):
        shop.recover("rollback", table=FACTS, version=0)
    assert "2 removed, 5 changed" in shop.recover("rollback", apply=False, table=FACTS, version=version)
    run = new_run_id(RECOVERED_AT + timedelta(hours=1))
    with killed_at(monkeypatch, publish, "write_marker"):
        shop.recover("rollback", run, table=FACTS, version=version)
    assert not shop.is_intact()
    shop.recover("rollback", run, table=FACTS, version=version)
    assert shop.gold() == monday
    assert shop.is_intact()
    logged = read(spark, shop.settings.table_uri(base.LOG)).where(f"run_id = '{run}'").collect()
    assert {row["table_name"]: row["rows_removed"] for row in logged} == {
        "gold.dim_customers": 0,
        "gold.dim_fx": 0,
        FACTS: 2,
    }


def test_gold_that_cannot_be_read_is_published_anew(spark: SparkSession, shop: Shop) -> None:
    """The next publication has begun, and reads what is broken: it is given up, and quotes come from the one before."""
    whole = publish.markers(shop.settings)[-2][1].outputs[FACTS].version  # the rebuilt one; then it went back
    at = data_of(shop.settings.table_uri(FACTS))[0]
    destroyed(at, b"garbage")
    forget(spark)
    shop.silver(THIRD, [order(n) for n in range(1, 8)])

    with pytest.raises(Exception) as raised:  # noqa: PT011  # what Spark makes of it
        shop.publish(THIRD)
    told = damage.recognised(raised.value)
    assert isinstance(told, TableUnreadable)
    assert (told.tables, at in told.message) == ((FACTS,), True)
    assert publish.pending(shop.settings) is not None
    words = shop.recover("rebuild-gold", apply=False)
    assert "can never be completed" in words
    assert f"Quotes that are frozen are those of version {whole}" in words
    assert publish.pending(shop.settings) is not None

    shop.recover("repair", new_run_id(RECOVERED_AT + timedelta(hours=2)), table=FACTS)

    assert [row["order_id"] for row in shop.gold()[FACTS]] == [f"O-{n}" for n in range(1, 8)]
    assert publish.pending(shop.settings) is None
    assert shop.is_intact()
    # The run whose publication was given up has nothing left to do.
    again = shop.job(THIRD)
    publish.publish(again)
    assert [note for note in again.outcome.notes if "already shows" in note]


def test_gold_that_housekeeping_rewrote_needs_nobody(
    spark: SparkSession, published: Shop, reachable: str
) -> None:
    shop = published.again(f"{reachable}/kept")
    version = shop.version(FACTS)
    job = shop.job(new_run_id(RECOVERED_AT))
    uri = shop.settings.table_uri(FACTS)
    DeltaTable.forPath(spark, uri).optimize().executeCompaction()
    spark.sql(f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ('a' = 'b')")
    live = head(spark, uri)
    assert [each.what for each in status._gold(job)] == [
        f"{FACTS}: is at version {live.version}; publication "
        f"{publish.latest_marker(shop.settings).publish_id} made version {version}"  # type: ignore[union-attr]
    ]

    verdicts.write(
        shop.settings,
        Verdict(
            verdict_id="a" * 32, table=FACTS, layer="gold", run_id=job.run_id, table_id=live.table_id,
            version=live.version, outcome="passed", action="optimize", optimized_from=version,
            contract_version="1.0.0", contract_hash="", rules_hash="", rules=(), created_at=datetime.now(UTC),
        ),
    )  # fmt: skip

    assert list(status._gold(job)) == []
    assert shop.is_intact()


@pytest.mark.proof
def test_of_two_publications_beside_each_other_gold_shows_one(
    spark: SparkSession, empty: Shop, reachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = empty.again(f"{reachable}/two")
    shop.silver(FIRST, [order(1)])
    real = publish.intent_of

    def meanwhile(*arguments: Any) -> publish.Intent:
        """When this one has looked at Gold, the other run certifies, and is killed before its marker."""
        monkeypatch.setattr(publish, "intent_of", real)
        shop.silver(SECOND, [order(1, amount=Decimal("20.00")), order(2)])
        with killed_at(monkeypatch, publish, "_mark"):
            shop.publish(SECOND)
        return real(*arguments)

    monkeypatch.setattr(publish, "intent_of", meanwhile)
    with pytest.raises(CommitConflict, match=f"of run {SECOND} began first; nothing of this one"):
        shop.publish(FIRST)

    # Its retry completes the other one, and finds that Gold shows what is certified.
    shop.publish(FIRST)
    assert shop.is_intact()
    ((name, _),) = publish.markers(shop.settings)
    assert name.startswith(f"{SECOND}.")
    for table in publish.OUTPUTS:
        published = read(spark, shop.settings.table_uri(table)).select("_publish_id").distinct().collect()
        assert [row["_publish_id"] for row in published] == [name]
