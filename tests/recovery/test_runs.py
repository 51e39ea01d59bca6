"""Runs that a person takes in or discards, and what the next run then does."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse.errors import GateFailed, RecoveryRefused, UnknownRun, UsageError
from lakehouse.flows import gate
from lakehouse.flows.recovery import silver
from lakehouse.quality import verdicts
from lakehouse.runs import new_run_id
from lakehouse.tables.silver import orders
from tests.quality.quarantine_support import ORDERS, SHIPMENTS, an_order
from tests.quality.support import NOON
from tests.recovery.support import RECOVERED_AT, Recoverable, killed_at, shipments

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def some_orders(*numbers: int) -> list[dict[str, Any]]:
    return [an_order(n) for n in numbers]


def as_hinted(world: Recoverable, *runs: str) -> tuple[str, set[str]]:
    """Discard runs, which is refused, and then those that the hint names. What was said, and the runs."""
    with pytest.raises(RecoveryRefused, match="has to go with it") as refused:
        world.recover("discard", table=ORDERS, runs=runs, with_dependents=True)
    hint = refused.value.hint
    assert f"scripts/emr_submit.sh recover discard --table {ORDERS} " in hint
    assert "--with-dependents" in hint
    named = re.findall(r"--run (\S+)", hint)
    return world.recover("discard", table=ORDERS, runs=tuple(named), with_dependents=True), set(named)


def silver_orders(world: Recoverable) -> list[str]:
    return sorted(row["order_id"] for row in world.table("silver.orders").collect())


@pytest.mark.proof
def test_a_refused_run_is_taken_in_by_a_person(world: Recoverable) -> None:
    run = world.shipments(*shipments("R", 1, 10), *shipments("R", 11, 20, status="GONE"), hours=21)
    with pytest.raises(GateFailed):
        world.certify(run, SHIPMENTS)
    (failed,) = [each for each in verdicts.read_all(world.settings, SHIPMENTS) if each.run_id == run]
    broken = tuple(rule.name for rule in failed.failures)
    assert broken

    with pytest.raises(GateFailed, match=broken[0]) as refused:
        world.recover("recertify", table=SHIPMENTS, runs=(run,))
    assert f"--accept {broken[0]}" in refused.value.hint
    with pytest.raises(UsageError, match="nonsense"):
        world.recover("recertify", table=SHIPMENTS, runs=(run,), accept=("nonsense",))
    told = world.recover("recertify", apply=False, table=SHIPMENTS, runs=(run,), accept=broken)
    assert "taken in although these do not hold" in told
    assert run not in world.known(SHIPMENTS).run_ids

    recovery = new_run_id(RECOVERED_AT)
    world.recover("recertify", recovery, table=SHIPMENTS, runs=(run,), accept=broken)

    known = world.known(SHIPMENTS)
    known.require(run)
    verdict = known.latest[run]
    assert (verdict.action, verdict.outcome, verdict.by) == ("recertify", "warned", "anna")
    assert set(verdict.accepted) == set(broken)
    assert {rule.name for rule in verdict.rules if not rule.passed} >= set(broken)
    assert "certified already" in world.recover("recertify", table=SHIPMENTS, runs=(run,), accept=broken)
    (row,) = world.logged(recovery)
    assert (row["rows_added"], row["target"]) == (10, f"run {run}")
    world.promote(world.shipped(*shipments("R", 30, 30), hours=22))
    assert len(world.silver("R")) == 11


def test_nobody_accepts_what_is_not_there(world: Recoverable) -> None:
    run = new_run_id(NOON)
    gate.judge(world.spark, world.settings, "bronze", run, [SHIPMENTS], datetime.now(UTC))
    with pytest.raises(RecoveryRefused, match="nobody can accept"):
        world.recover("recertify", table=SHIPMENTS, runs=(run,), accept=("ingested",))
    world.recover("discard", table=SHIPMENTS, runs=(run,))
    for action in ("recertify", "discard"):
        with pytest.raises(UnknownRun, match="does not know"):
            world.recover(action, table=SHIPMENTS, runs=(new_run_id(NOON),))
    with pytest.raises(UsageError, match="restore-silver or rollback"):
        world.recover("discard", table="silver.orders", runs=(new_run_id(NOON),))


def test_a_discarded_run_leaves_silver_and_its_window_comes_again(
    world: Recoverable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.ordered(*[an_order(n) for n in range(1, 21)], hours=1, since=None)
    second = world.ordered(*[an_order(n, STATUS="SHIPPED") for n in range(21, 31)], hours=2, since=at(1))
    third = world.ordered(*[an_order(n) for n in range(31, 41)], hours=3, since=at(2))
    world.promote(third, orders)
    assert world.known(ORDERS).watermark == at(3)
    with pytest.raises(RecoveryRefused, match=r"silver\.orders contains rows") as refused:
        world.recover("discard", table=ORDERS, runs=(second,))
    assert "--with-dependents" in refused.value.hint
    assert world.known(ORDERS).run_ids == {first, second, third}

    told = world.recover("discard", apply=False, table=ORDERS, runs=(second,), with_dependents=True)
    assert "0 rows added, 10 removed, 0 changed, 30 the same" in told
    assert "the next run extracts again from 2026-01-02 13:00:00 UTC" in told

    recovery = new_run_id(RECOVERED_AT)
    asked = {"table": ORDERS, "runs": (second,), "with_dependents": True}
    with killed_at(monkeypatch, silver, "overwrite"):
        world.recover("discard", recovery, **asked)
    assert world.known(ORDERS).run_ids == {first, third}
    world.recover("discard", recovery, **asked)

    # The later run stays, and yet the window of the one in the middle is open again.
    assert world.known(ORDERS).watermark == at(1)
    assert second not in world.known("silver.orders").merged[ORDERS]
    assert world.table("silver.orders").count() == 30
    assert world.known("silver.orders").version == world.version("silver.orders")
    assert [(row["table_name"], row["rows_removed"]) for row in world.logged(recovery)] == [
        (ORDERS, 10),
        ("silver.orders", 10),
    ]
    # The next run reads it once more; what the third brought are repeats.
    again = world.ordered(*[an_order(n) for n in range(21, 41)], hours=4, since=at(1))
    assert world.table(ORDERS).where(f"_run_id = '{again}'").count() == 10
    world.promote(again, orders)
    assert world.table("silver.orders").where("status = 'PAID'").count() == 40
    assert world.known(ORDERS).watermark == at(4)


@pytest.mark.proof
def test_windows_that_overlap_are_discarded_together_and_no_row_is_lost(
    spark: SparkSession, reachable: str
) -> None:
    world = Recoverable(spark, f"{reachable}/overlap", "silver.orders", "ops.recovery_log")
    first = world.ordered(*some_orders(*range(1, 11)), hours=1, since=None)
    wrong = world.ordered(*some_orders(*range(6, 16)), hours=1.5, since=at(0))
    last = world.ordered(*some_orders(*range(11, 21)), hours=3, since=at(0.5))
    world.promote(last, orders)
    assert world.table(ORDERS).where(f"_run_id = '{last}'").count() == 5

    told, discarded = as_hinted(world, wrong)

    assert discarded == {wrong, last}
    assert "the next run extracts again from 2026-01-02 13:00:00 UTC" in told
    assert world.known(ORDERS).run_ids == {first}
    again = world.ordered(*some_orders(*range(6, 21)), hours=4, since=at(0))
    world.promote(again, orders)
    assert silver_orders(world) == sorted(f"O-{n}" for n in range(1, 21))


@pytest.mark.proof
def test_a_backfill_is_discarded_with_those_that_left_out_its_rows(
    spark: SparkSession, reachable: str
) -> None:
    world = Recoverable(spark, f"{reachable}/filled", "silver.orders", "ops.recovery_log")
    first = world.ordered(*some_orders(*range(1, 11)), hours=1, since=None)
    wrong = world.backfilled(*some_orders(*range(8, 15)), hours=2, since=at(-12))
    last = world.ordered(*some_orders(11, 12, 15, 16), hours=3, since=at(0))
    world.promote(last, orders)
    assert world.table(ORDERS).where(f"_run_id = '{last}'").count() == 2

    told, discarded = as_hinted(world, wrong)

    assert discarded == {wrong, last}
    assert "the next run extracts again from 2026-01-02 13:00:00 UTC" in told
    assert f"no daily run reads all of run {wrong} again (backfill of [2026-01-02 00:00" in told
    assert world.known(ORDERS).run_ids == {first}
    again = world.ordered(*some_orders(11, 12, 15, 16), hours=4, since=at(0))
    world.backfilled(*some_orders(*range(8, 15)), hours=5, since=at(-12))
    world.promote(again, orders)
    assert silver_orders(world) == sorted(f"O-{n}" for n in range(1, 17))
