"""Days again: repeated, killed at random, beside a backfill, with rows that no window brought. `make proofs`.

The tests share one lake after its first day and follow each other; each leaves it certified and published.
"""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from local.days import AFTER, INGESTION, killed_at, run_id
from tests.e2e.computed import GOLD, assert_gold_is_computed_from_silver, gold, silver_orders
from tests.e2e.conftest import World

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1800)]


def test_jobs_killed_at_random_and_repeated_give_the_same_tables(world: World) -> None:
    world.load(world.generate("day6", "--day", "6"))
    run, chance = run_id(6), Random(20261121)
    kills = {
        "snowflake_to_bronze": 1,
        "kafka_orders_to_bronze": 1,
        "bronze_to_silver": 2,
        "silver_to_gold": 2,
    }
    for job in (*INGESTION, *AFTER):
        for _ in range(kills.get(job, 0)):
            with killed_at(chance.randrange(1, 16)):
                world.run(job, run)
        assert world.run(job, run) == 0, world.outcome(job, run).error

    for table in ("snowflake_orders", "kafka_orders", "hubspot_contacts"):
        job = next(job for job, source in INGESTION.items() if table.startswith(source))
        [reported] = world.outcome(job, run).tables
        assert reported.ledger is not None
        stored = world.table(f"bronze.{table}").where(f"_run_id = '{run}'").count()
        assert reported.ledger.inserted == stored
    assert silver_orders(world) == world.rows("silver.orders")
    assert_gold_is_computed_from_silver(world, run_id(6))
    published = [row for row in world.rows("ops.publications") if row["run_id"] == run]
    assert len({row["publish_id"] for row in published}) * len(GOLD) == len(published)

    before, orders = world.rows("silver.orders"), ("--table", "silver.orders", "--force")
    for _ in range(2):
        with killed_at(chance.randrange(6)):
            world.run("delta_optimize_vacuum", run, *orders)
    assert world.run("delta_optimize_vacuum", run, *orders) == 0, world.outcome(
        "delta_optimize_vacuum", run
    ).error
    assert world.rows("silver.orders") == before


def test_a_run_that_is_repeated_whole_changes_nothing(world: World) -> None:
    before, told = gold(world), world.outcome("silver_to_gold", run_id(6)).tables
    world.day(run_id(6))
    assert gold(world) == before
    assert world.outcome("silver_to_gold", run_id(6)).tables == told != []


def test_a_day_brings_back_what_somebody_took_away_by_hand(world: World) -> None:
    from lakehouse.delta.write import restore

    orders = len(world.rows("gold.fact_orders"))
    for table in ("silver.orders", "gold.fact_orders"):
        restore(world.spark, world.settings.table_uri(table), 1, "by hand")
    assert len(world.rows("gold.fact_orders")) < orders
    world.day(run_id(6, hour=16))
    assert silver_orders(world) == world.rows("silver.orders")
    assert_gold_is_computed_from_silver(world, run_id(6, hour=16))
    assert len(world.rows("gold.fact_orders")) == orders


def test_a_backfill_beside_a_run_that_loads_steps_back_or_makes_it_load_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.flows import backfill
    from lakehouse.flows.ingest import Load
    from lakehouse.sources import hubspot

    world.load(world.generate("day8", "--day", "8"))
    daily, beside = run_id(8), run_id(8, hour=7)
    extract, write = hubspot.extract, Load.write

    def certify_beside(first: str, last: str, hour: int) -> None:
        days = ("--source", "hubspot", "--from", first, "--to", last)
        assert world.run("backfill", run_id(8, hour=hour), *days) == 0

    def extract_beside_a_backfill(*arguments: Any) -> Any:
        found = extract(*arguments)
        certify_beside("2026-11-01", "2026-11-07", 4)
        patch.setattr(Load, "write", write_beside_a_backfill)
        return found

    def write_beside_a_backfill(load: Load) -> Any:
        patch.setattr(Load, "write", write)
        certify_beside("2026-11-08", "2026-11-08", 5)
        return write(load)

    with monkeypatch.context() as patch:
        patch.setattr(hubspot, "extract", extract_beside_a_backfill)
        assert world.run("hubspot_to_bronze", daily) == 0
    [contacts] = world.outcome("hubspot_to_bronze", daily).tables
    assert contacts.ledger is not None
    # What was certified while the source was read, or its rows were written, is a repeat.
    assert contacts.ledger.duplicates > 0
    held = [(row["id"], row["_payload_hash"]) for row in world.rows("bronze.hubspot_contacts")]
    assert len(held) == len(set(held))
    assert set(world.ingest(daily).values()) == {0}
    days = ("--source", "snowflake", "--from", "2026-11-07", "--to", "2026-11-08")
    assert world.run("backfill", beside, *days) == 20
    failure = world.outcome("backfill", beside).error
    assert failure is not None
    assert daily in failure.message

    with monkeypatch.context() as patch:
        # As if it had begun before the run had loaded: it did not see it.
        patch.setattr(backfill, "_require_free", lambda *_: None)
        assert world.run("backfill", beside, *days) == 0
    assert world.run("dq_check_bronze", daily) == 11
    failure = world.outcome("dq_check_bronze", daily).error
    assert failure is not None
    assert "loaded_alone" in failure.message
    assert f"repeat the ingest of this run ({daily})" in failure.hint
    assert world.run("snowflake_to_bronze", daily) == 0
    for job in AFTER:
        assert world.run(job, daily) == 0, world.outcome(job, daily).error
    rows = [
        (row["order_id"], row["event_ts"], row["_payload_hash"])
        for row in world.rows("bronze.snowflake_orders")
    ]
    assert len(rows) == len(set(rows))


def test_records_that_a_source_purged_or_never_gave_are_found_by_their_ids(world: World) -> None:
    from local.saas.admin import Admin

    live = [row for row in world.rows("silver.salesforce_accounts") if not row["is_deleted"]]
    changed_at = datetime(2026, 10, 2, 9, tzinfo=UTC)
    contacts = world.rows("silver.hubspot_contacts")
    quiet = next(row for row in contacts if not row["is_deleted"] and row["modified_at"] < changed_at)
    first = run_id(8, hour=8)
    assert world.run("reconcile", first, "--ids") == 0, world.outcome("reconcile", first).error
    admin = Admin(world.stack.exports["LOCAL_SALESFORCE_URL"])
    admin.delete("salesforce", "Account", live[0]["id"], purge=True)
    admin.upsert(
        "hubspot", "contacts", {"id": "990001", "email": "late@example.com"}, at="2026-10-02T08:00:00Z"
    )
    admin.upsert("hubspot", "contacts", {"id": quiet["id"], "phone": "+49 30 7"}, at=changed_at.isoformat())

    found = run_id(8, hour=9)
    assert world.run("reconcile", found, "--ids") == 10
    failure = world.outcome("reconcile", found).error
    assert failure is not None
    assert "silver.salesforce_accounts, 2026-11-08: source" in failure.message
    assert "1 missing, 1 older than at the source, 0 gone at the source" in failure.message
    assert failure.hint == (
        "scripts/emr_submit.sh backfill --source hubspot --from 2026-10-02 --to 2026-10-02; "
        "scripts/emr_submit.sh reconcile --ids --mark-gone"
    )
    days = ("--source", "hubspot", "--from", "2026-10-02", "--to", "2026-10-02")
    assert world.run("backfill", run_id(8, hour=10), *days) == 0
    marked = run_id(8, hour=11)
    assert world.run("reconcile", marked, "--ids", "--mark-gone") == 0, world.outcome(
        "reconcile", marked
    ).error
    notes = world.outcome("reconcile", marked).notes
    assert "silver.hubspot_contacts: certified runs wait for bronze_to_silver: compare after it" in notes
    assert any("1 records that the source has no more" in note for note in notes)
    world.day(run_id(8, hour=12))
    [gone] = [row for row in world.rows("silver.salesforce_accounts") if row["id"] == live[0]["id"]]
    assert gone["is_deleted"]
    assert gone["name"] == live[0]["name"]
    [called] = [row for row in world.rows("silver.hubspot_contacts") if row["id"] == quiet["id"]]
    assert (called["phone"], called["modified_at"]) == ("+49 30 7", changed_at)
    assert world.run("reconcile", run_id(8, hour=13), "--ids") == 0
