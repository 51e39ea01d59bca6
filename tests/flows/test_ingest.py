"""An ingest beside runs that are certified while it works: no row twice, and none that the ledger does not count."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from lakehouse.cli import Job
from lakehouse.flows import backfill
from lakehouse.flows.ingest import Load, ingest
from lakehouse.landing import LandingWriter, Manifest
from lakehouse.settings import Settings
from lakehouse.sources import snowflake
from tests.quality.quarantine_support import NOON, ORDER_FIELDS, ORDERS, Lake, an_order

GOOD = [an_order(n) for n in range(1, 31)]
BAD = an_order(31, STATUS="LOST")


@pytest.fixture
def world(spark: SparkSession, lake: str) -> Lake:
    world = Lake(spark, lake)
    world.emits = True
    return world


def extracted(settings: Settings, run_id: str, watermarks: Any) -> tuple[Manifest, ...]:
    """What the warehouse gives: all rows, the refused one last."""
    writer = LandingWriter(settings, "snowflake", "snowflake_orders", run_id)
    rows = [*GOOD, BAD]
    writer.write_arrow(
        pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in ORDER_FIELDS.items()})
    )
    return (writer.commit(window_from=None, window_to=NOON),)


def test_what_was_certified_while_a_run_wrote_is_a_repeat(
    world: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Load.write

    def beside_another(load: Load) -> Any:
        monkeypatch.setattr(Load, "write", write)
        world.certify(world.orders(*GOOD[:20], BAD, hours=1), ORDERS)
        return write(load)

    monkeypatch.setattr(snowflake, "extract", extracted)
    monkeypatch.setattr(Load, "write", beside_another)
    job = world.job("snowflake_to_bronze", at=NOON + timedelta(hours=2))
    ingest(job, "snowflake")
    world.done(job)

    [table] = job.outcome.tables
    assert table.ledger is not None
    assert (table.ledger.inserted, table.ledger.duplicates, table.ledger.quarantined) == (10, 20, 1)
    world.certify(job.run_id, ORDERS)
    assert sorted(row["order_id"] for row in world.table(ORDERS).collect()) == sorted(
        row["ORDER_ID"] for row in GOOD
    )
    # Its first try had put the refused row into quarantine: that event stays, and the ledger counts it.
    assert [row["run_id"] for row in world.rows(table=ORDERS)].count(job.run_id) == 1
    assert world.ledger_differences() == ()


def test_a_chunk_that_was_killed_behind_its_gate_is_in_the_ledger_all_the_same(
    world: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(job: Job) -> None:
        raise RuntimeError("killed here")

    def landed(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
        return extracted(settings, run_id, None)

    monkeypatch.setattr(snowflake, "backfill", landed)
    job = world.job("backfill")
    job.arguments.__dict__.update(
        source="snowflake", since=NOON.date(), until=NOON.date(), chunk_days=1, dry_run=False
    )
    with monkeypatch.context() as patch:
        patch.setattr(backfill, "record", killed)
        with pytest.raises(RuntimeError, match="killed here"):
            backfill.backfill(job)
    assert world.table("ops.row_ledger").count() == 0

    for _ in range(2):
        backfill.backfill(job)
        [line] = world.table("ops.row_ledger").collect()
        assert (line["job"], line["read"], line["inserted"]) == ("backfill_snowflake_to_bronze", 31, 30)
    assert world.ledger_differences() == ()
