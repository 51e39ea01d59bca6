"""The day as a user lives it: clean, repeated, spoilt, cut off; every job runs through its own shell.

The tests share one lake and follow each other; each leaves it certified and published.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from random import Random
from threading import Lock
from typing import Any

import pytest

from lakehouse.runs import run_time
from tests.e2e.conftest import AFTER, INGESTION, World, run_id
from tests.tables import oracle
from tests.tables.rows import ordered

pytestmark = pytest.mark.timeout(900)

# Their rows of the warehouse stay in Bronze and are never promoted.
REFUSED = (run_id(2),)
GOLD = ("gold.dim_customers", "gold.dim_fx", "gold.fact_orders")


def gold(world: World) -> dict[str, list[dict[str, Any]]]:
    return {name: world.rows(name) for name in GOLD}


def test_every_row_of_the_day_is_accounted_for(world: World) -> None:
    for job in INGESTION:
        for table in world.outcome(job, run_id(1)).tables:
            assert table.ledger is not None
            stored = world.table(table.table).where(f"_run_id = '{run_id(1)}'").count()
            assert stored == table.ledger.inserted
            assert table.ledger.read == stored + table.ledger.quarantined + table.ledger.duplicates


def test_quarantine_holds_each_flaw_of_the_sample_with_its_reasons(world: World) -> None:
    flaws = json.loads((world.data / "day1" / "manifest.json").read_text())["flaws"]
    expected = {
        table: sum(facts["rows"] for facts in kinds.values() if facts.get("effect") == "quarantined")
        for table, kinds in flaws.items()
    }
    found = Counter(row["table_name"] for row in world.rows("ops.quarantine"))
    assert found == {table: count for table, count in expected.items() if count}
    assert all(row["reasons"] and row["payload"] for row in world.rows("ops.quarantine"))


def silver_orders(world: World, refused: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """silver.orders as computed from what Bronze holds, but for refused runs of the warehouse."""
    warehouse = [row for row in world.rows("bronze.snowflake_orders") if row["_run_id"] not in refused]
    rows = oracle.silver_orders(warehouse, world.rows("bronze.kafka_orders"))
    return ordered(oracle.greatest(rows, ("order_id", "event_ts"), "event_ts"), "order_id", "event_ts")


def test_silver_and_gold_equal_an_independent_computation(world: World) -> None:
    orders = silver_orders(world)
    fx = oracle.silver_fx(world.rows("bronze.fx_rates"))
    accounts, contacts = (
        ordered(oracle.greatest(compute(world.rows(f"bronze.{table}")), ("id",), "modified_at"), "id")
        for table, compute in (
            ("salesforce_accounts", oracle.silver_accounts),
            ("hubspot_contacts", oracle.silver_contacts),
        )
    )
    assert orders == world.rows("silver.orders")
    assert ordered(fx, "as_of_date", "ccy") == world.rows("silver.fx_rates")
    assert accounts == world.rows("silver.salesforce_accounts")
    assert contacts == world.rows("silver.hubspot_contacts")

    assert_gold_is_computed_from_silver(world, run_id(1))


def assert_gold_is_computed_from_silver(world: World, run: str) -> None:
    publish_id = world.rows("gold.fact_orders")[0]["_publish_id"]
    assert publish_id.startswith(run)
    accounts, contacts = world.rows("silver.salesforce_accounts"), world.rows("silver.hubspot_contacts")
    customers = oracle.dim_customers(accounts, contacts, publish_id)
    facts = oracle.fact_orders(
        world.rows("silver.orders"),
        customers,
        world.rows("silver.fx_rates"),
        [],
        run_date=run_time(run).date(),
        staleness=world.settings.fx.max_staleness_days,
        restate_days=world.settings.fx.restate_days,
        publish_id=publish_id,
    )
    assert sorted(customers, key=lambda row: row["id"]) == world.rows("gold.dim_customers")
    assert sorted(facts, key=lambda row: row["order_id"]) == world.rows("gold.fact_orders")


def without_publication(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "_publish_id"} for row in rows]


def test_a_second_run_of_the_day_adds_nothing(world: World) -> None:
    before = gold(world)
    bronze = world.table("bronze.snowflake_orders").count()
    refused = world.rows("ops.quarantine")
    world.day(run_id(1))
    assert gold(world) == before
    world.day(run_id(1, hour=7))
    assert gold(world) == before
    assert world.table("bronze.snowflake_orders").count() == bronze
    assert world.outcome("silver_to_gold", run_id(1, hour=7)).tables == []
    # The overlap brought back a row that was written and one that was refused: it is in quarantine once.
    [again] = world.outcome("snowflake_to_bronze", run_id(1, hour=7)).tables
    assert again.ledger is not None
    assert again.ledger.read == again.ledger.duplicates == 2
    assert world.rows("ops.quarantine") == refused


def test_rejected_rows_above_their_share_stop_the_day_and_the_next_run_recovers(world: World) -> None:
    before = gold(world)
    bad = world.generate("shares", "--day", "2", "--poison", "shares")
    world.load(bad)
    spoilt = run_id(2)
    assert set(world.ingest(spoilt).values()) == {0}
    assert world.run("dq_check_bronze", spoilt) == 11
    failure = world.outcome("dq_check_bronze", spoilt).error
    assert failure is not None
    assert failure.code == "GATE_FAILED"
    assert "bronze.snowflake_orders" in failure.message
    assert "amount_not_negative" in failure.message

    # Nobody gets past a gate by submitting by hand.
    assert world.run("bronze_to_silver", spoilt) == 10
    assert world.run("silver_to_gold", spoilt) == 10
    by_hand = world.outcome("silver_to_gold", spoilt).error
    assert by_hand is not None
    assert by_hand.code == "NOT_CERTIFIED"
    assert "was not touched" in by_hand.message
    assert gold(world) == before

    world.withdraw(bad)
    world.load(world.generate("day2", "--day", "2"))
    world.day(run_id(2, hour=8))
    assert silver_orders(world, refused=(spoilt,)) == world.rows("silver.orders")
    assert len(world.rows("gold.fact_orders")) > len(before["gold.fact_orders"])


def test_a_missing_column_refuses_the_batch_before_anything_is_written(world: World) -> None:
    bad = world.generate("missing", "--day", "3", "--poison", "missing_column")
    world.load(bad)
    version = world.table("bronze.snowflake_orders").count()
    assert world.run("snowflake_to_bronze", run_id(3)) == 10
    failure = world.outcome("snowflake_to_bronze", run_id(3)).error
    assert failure is not None
    assert failure.code == "CONTRACT_VIOLATION"
    assert "amount" in failure.message
    assert world.table("bronze.snowflake_orders").count() == version
    world.withdraw(bad)
    world.load(world.generate("day3", "--day", "3"))
    world.day(run_id(3, hour=9))


def test_a_publication_cut_off_is_completed_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.flows import publish

    world.load(world.generate("day4", "--day", "4"))
    run = run_id(4)
    assert world.run("apply_contracts", run) == 0
    assert set(world.ingest(run).values()) == {0}
    for job in AFTER[:-1]:
        assert world.run(job, run) == 0
    with monkeypatch.context() as patch:
        patch.setattr(publish, "_mark", lambda *_: (_ for _ in ()).throw(RuntimeError("killed here")))
        assert world.run("silver_to_gold", run) == 1
    half_done = gold(world)
    assert world.run("silver_to_gold", run) == 0
    notes = world.outcome("silver_to_gold", run).notes
    assert any("which had been cut off" in note for note in notes)
    assert gold(world) == half_done
    published = {row["publish_id"] for row in world.rows("ops.publications")}
    assert {row["_publish_id"] for row in world.rows("gold.fact_orders")} <= published


def test_an_uncertified_head_of_silver_is_taken_back_before_the_next_merge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakehouse.delta.write import merge
    from lakehouse.flows import promote

    world.load(world.generate("day5", "--day", "5"))
    run = run_id(5)
    assert set(world.ingest(run).values()) == {0}
    assert world.run("dq_check_bronze", run) == 0

    def merge_and_die(*arguments: Any, **options: Any) -> None:
        merge(*arguments, **options)
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(promote, "merge", merge_and_die)
        assert world.run("bronze_to_silver", run) == 1
    for job in AFTER[1:]:
        assert world.run(job, run) == 0, world.outcome(job, run).error
    assert silver_orders(world, refused=REFUSED) == world.rows("silver.orders")


class Killed(BaseException):
    """The process is gone: nothing of it, and nothing that catches exceptions, does anything more."""


@contextmanager
def killed_at(event: int) -> Iterator[None]:
    """Kill the process at its n-th step outward: before or after a commit, before or after a small object is put."""
    from lakehouse import store
    from lakehouse.delta import write

    steps = count()
    lock = Lock()

    def step() -> None:
        with lock:
            if next(steps) >= event:
                raise Killed

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            step()
            answer = function(*arguments, **options)
            step()
            return answer

        return call

    real = write._tagged

    @contextmanager
    def tagged(*arguments: Any) -> Iterator[Any]:
        step()
        with real(*arguments) as commit:
            yield commit
        step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "_tagged", tagged)
        patch.setattr(store, "put", guarded(store.put))
        patch.setattr(store, "put_if_absent", guarded(store.put_if_absent))
        with suppress(Killed):
            yield


def test_jobs_killed_at_random_and_repeated_give_the_same_tables(world: World) -> None:
    world.load(world.generate("day6", "--day", "6"))
    run, chance = run_id(6), Random(20261121)
    kills = {"snowflake_to_bronze": 3, "dq_check_bronze": 2, "bronze_to_silver": 4, "silver_to_gold": 4}
    for job in (*INGESTION, *AFTER):
        for _ in range(kills.get(job, 1)):
            with killed_at(chance.randrange(1, 16)):
                world.run(job, run)
        assert world.run(job, run) == 0, world.outcome(job, run).error

    for table in ("snowflake_orders", "kafka_orders", "hubspot_contacts"):
        job = next(job for job, source in INGESTION.items() if table.startswith(source))
        [reported] = world.outcome(job, run).tables
        assert reported.ledger is not None
        stored = world.table(f"bronze.{table}").where(f"_run_id = '{run}'").count()
        assert reported.ledger.inserted == stored
    assert silver_orders(world, refused=REFUSED) == world.rows("silver.orders")
    assert_gold_is_computed_from_silver(world, run_id(6))
    published = [row for row in world.rows("ops.publications") if row["run_id"] == run]
    assert len({row["publish_id"] for row in published}) * len(GOLD) == len(published)


def test_tables_that_somebody_restored_are_brought_back(world: World) -> None:
    from lakehouse.delta.write import restore

    before = gold(world), world.rows("silver.orders")
    for table in ("silver.orders", "gold.fact_orders"):
        restore(world.spark, world.settings.table_uri(table), 1, "by hand")
    assert (gold(world), world.rows("silver.orders")) != before
    world.day(run_id(6, hour=9))
    assert world.rows("silver.orders") == before[1]
    for table, rows in before[0].items():
        assert without_publication(rows) == without_publication(world.rows(table))


def test_the_end_of_the_day_records_every_job(world: World) -> None:
    run = run_id(1)
    assert world.run("emit_lineage_and_metrics", run) == 0
    recorded = {row["job"] for row in world.rows("ops.job_runs") if row["run_id"] == run}
    assert recorded == {"apply_contracts", *INGESTION, *AFTER}
    metrics = world.stack.client("cloudwatch").list_metrics(Namespace=world.settings.metrics.namespace)
    assert {"RowsRead", "Seconds"} <= {metric["MetricName"] for metric in metrics["Metrics"]}
