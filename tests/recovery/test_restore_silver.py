"""Silver made anew from certified Bronze, after damage, a wrong transform, a kill; never with fewer rows."""

from __future__ import annotations

import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.errors import RecoveryRefused, UsageError
from lakehouse.flows.recovery import base, silver
from lakehouse.runs import new_run_id
from lakehouse.tables.silver import vendor_shipments
from tests.recovery.support import RECOVERED_AT, Recoverable, killed_at, shipments

SILVER, BRONZE = "silver.vendor_shipments", "bronze.vendor_shipments"


def test_damage_a_wrong_transform_and_a_day_are_undone(
    world: Recoverable, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promote(world.shipped(*shipments("A", 1, 30), hours=1))
    good, first = world.version(SILVER), world.silver("A")
    rows = shipments("A", 1, 1, file="A2.csv", status="DELIVERED") + shipments("A", 31, 40)
    later = world.shipped(*rows, hours=2)
    world.promote(later)
    before = world.silver("A")
    assert len(before) == 40

    # By hand: an uncertified head.
    table = DeltaTable.forPath(world.spark, world.settings.table_uri(SILVER))
    table.delete("id = 'A-002'")
    table.update("id = 'A-003'", {"carrier": F.lit("GLS")})
    version = world.version(SILVER)
    told = world.recover("restore-silver", apply=False, table=SILVER)
    assert "0 rows added, 0 removed, 0 changed" in told  # against the certified version
    assert "1 rows added, 0 removed, 1 changed" in told  # against what is there now
    assert "added: id=A-002" in told
    assert "carrier: GLS -> DHL" in told
    assert world.version(SILVER) == version

    # By a transform that was wrong when it ran, and passed the gate.
    def wrong(rows: DataFrame) -> DataFrame:
        return right(rows).withColumn("carrier", F.lit("?"))

    right = vendor_shipments.transform
    with monkeypatch.context() as patch:
        patch.setattr(vendor_shipments, "transform", wrong)
        world.promote(world.shipped(*shipments("A", 41, 45), hours=3))
    told = world.recover("restore-silver", apply=False, table=SILVER)
    assert "0 rows added, 0 removed, 5 changed" in told
    assert "changed: id=A-041 (carrier: ? -> DHL)" in told

    run = new_run_id(RECOVERED_AT)
    with killed_at(monkeypatch, silver, "_judge"):
        world.recover("restore-silver", run, table=SILVER)
    assert [each.run_id for each in base.unfinished(world.settings)] == [run]
    written = world.version(SILVER)
    assert world.known(SILVER).version != written
    with pytest.raises(UsageError, match="another recovery"):
        world.recover("restore-silver", run)
    world.recover("restore-silver", run, table=SILVER)
    assert world.version(SILVER) == written  # not written twice
    assert world.known(SILVER).version == written
    assert base.unfinished(world.settings) == ()
    assert world.silver("A")[:40] == before
    assert {row["carrier"] for row in world.table(SILVER).where("id LIKE 'A%'").collect()} == {"DHL"}
    (row,) = world.logged(run)
    assert (row["table_name"], row["rows_added"], row["rows_removed"], row["rows_changed"]) == (
        SILVER,
        0,
        0,
        5,
    )
    assert (row["after_version"], row["requested_by"], row["reason"]) == (written, "anna", "a test")
    assert "has been done already" in world.recover("restore-silver", run, table=SILVER)

    # And back to what the first run made: what the others brought is merged again by the next one.
    told = world.recover("rollback", table=SILVER, version=good)
    assert "0 rows added, 15 removed, 1 changed" in told
    assert world.silver("A") == first
    assert world.known(SILVER).version == world.version(SILVER)
    assert later not in world.known(SILVER).merged[BRONZE]


def test_bronze_that_lost_rows_is_refused_and_loaded_again(world: Recoverable) -> None:
    run = world.shipped(*shipments("B", 1, 20), hours=11)
    world.promote(run)
    before = world.silver("B")
    table = DeltaTable.forPath(world.spark, world.settings.table_uri(BRONZE))
    table.delete(f"_run_id = '{run}' AND line = 7")
    # A verdict after the damage certifies a version that has it.
    later = [world.shipped(*shipments("B", n, n), hours=hours) for n, hours in ((21, 13), (22, 12))]
    with pytest.raises(RecoveryRefused, match=f"run {run} has 19 rows of 20") as refused:
        world.recover("restore-silver", table=SILVER)
    assert "--reload" in refused.value.hint
    runs = (later[1], run, later[0])
    told = world.recover("restore-silver", apply=False, table=SILVER, reload=True, runs=runs)
    assert f"run {run} read 20 rows: 20 would be loaded, 0 refused" in told
    assert "2 rows added, 0 removed, 0 changed" in told
    # In the order in which they landed: by its id, a run that brought a state back may be before what it took back.
    assert sorted(runs, key=lambda each: told.index(f"run {each} read")) == [run, *later]
    with pytest.raises(UsageError, match="expected runs that were certified"):
        world.recover(
            "restore-silver", apply=False, table=SILVER, reload=True, runs=(new_run_id(RECOVERED_AT),)
        )

    recovery = new_run_id(RECOVERED_AT)
    world.recover("restore-silver", recovery, table=SILVER, reload=True, runs=(run,))

    assert world.silver("B")[:20] == before
    assert len(world.silver("B")) == 22
    assert [row["table_name"] for row in world.logged(recovery)] == [BRONZE, SILVER]
    assert world.table(BRONZE).where(f"_run_id = '{run}'").count() == 20
