"""A Silver table back to a version that was certified; the next promotion goes on from there."""

from __future__ import annotations

import pytest
from delta.tables import DeltaTable

from lakehouse.errors import RecoveryRefused, UsageError
from lakehouse.flows import gate
from lakehouse.flows.recovery.versions import parse_time
from lakehouse.runs import new_run_id
from tests.recovery.support import RECOVERED_AT, Recoverable, killed_at, shipments

SILVER, BRONZE = "silver.vendor_shipments", "bronze.vendor_shipments"


@pytest.mark.proof
def test_back_and_on_again(world: Recoverable, monkeypatch: pytest.MonkeyPatch) -> None:
    world.promote(world.shipped(*shipments("V", 1, 5), hours=31))
    good, before = world.version(SILVER), world.silver("V")
    later = world.shipped(*shipments("V", 1, 8, file="V2.csv", status="RETURNED"), hours=32)
    world.promote(later)
    after = world.silver("V")
    DeltaTable.forPath(world.spark, world.settings.table_uri(SILVER)).delete("id = 'V-004'")
    damaged = world.version(SILVER)
    with pytest.raises(RecoveryRefused, match=f"no verdict certified version {damaged}"):
        world.recover("rollback", table=SILVER, version=damaged)
    with pytest.raises(UsageError, match="one of --to-version and --to-time"):
        world.recover("rollback", table=SILVER)
    told = world.recover("rollback", apply=False, table=SILVER, version=good)
    assert "1 rows added, 3 removed, 4 changed" in told
    assert f"merges these runs of {BRONZE} again: {later}" in told

    run = new_run_id(RECOVERED_AT)
    with killed_at(monkeypatch, gate, "leave"):
        world.recover("rollback", run, table=SILVER, version=good)
    world.recover("rollback", run, table=SILVER, version=good)

    assert world.silver("V") == before
    assert world.known(SILVER).version == world.version(SILVER)
    assert later not in world.known(SILVER).merged[BRONZE]
    (row,) = world.logged(run)
    assert (row["rows_added"], row["rows_removed"], row["rows_changed"]) == (1, 3, 4)
    # By time: what was certified at the end of time is what there is.
    assert "0 rows added, 0 removed" in world.recover(
        "rollback", apply=False, table=SILVER, time=parse_time("9999-12-31")
    )

    world.promote(later)
    assert world.silver("V") == after
    # A version with a run that is discarded since must not come back.
    version = world.version(SILVER)
    world.recover("discard", table=BRONZE, runs=(later,), with_dependents=True)
    with pytest.raises(RecoveryRefused, match="were discarded since"):
        world.recover("rollback", table=SILVER, version=version)


def test_a_time_is_utc_unless_it_says_otherwise() -> None:
    assert parse_time("2026-01-01T06:00").isoformat() == "2026-01-01T06:00:00+00:00"
    assert parse_time("2026-01-01T06:00+01:00").isoformat() == "2026-01-01T06:00:00+01:00"
    with pytest.raises(UsageError, match="ISO 8601"):
        parse_time("yesterday")
