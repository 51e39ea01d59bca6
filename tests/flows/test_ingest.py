"""An ingest beside runs that are certified while it works: no row twice, and none that the ledger does not count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.flows import backfill
from lakehouse.flows.ingest import Load, _classified, ingest
from lakehouse.landing import LandingWriter, Manifest
from lakehouse.quality.repeats import with_states
from lakehouse.session import local_frame
from lakehouse.settings import Settings
from lakehouse.sources import snowflake
from tests.quality.quarantine_support import (
    ORDER_FIELDS,
    ORDERS,
    SHIPMENTS,
    Lake,
    a_shipment,
    an_order,
)
from tests.quality.support import NOON

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


def quotes(spark: SparkSession, rows: list[tuple[str, str, int]]) -> DataFrame:
    """Rows (currency, payload, hour of landing) of bronze.fx_rates, as far as they are compared."""
    return local_frame(
        spark,
        [
            (NOON.date(), ccy, payload, NOON + timedelta(hours=hour), f"{number:09d}", [])
            for number, (ccy, payload, hour) in enumerate(rows)
        ],
        "as_of_date date, ccy string, _payload_hash string, _landed_at timestamp, _position string, "
        "_reasons array<string>",
    )


# Held states of a key, the batch, and what each row of it is.
STATES: dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]], list[str]]] = {
    "new": ([], [("A", 9)], ["inserted"]),
    "read again": ([("A", 1)], [("A", 9)], ["duplicate"]),
    "corrected": ([("A", 1)], [("B", 9)], ["inserted"]),
    "taken back": ([("A", 1), ("B", 2)], [("A", 9)], ["inserted"]),
    "taken back and read again": ([("A", 1), ("B", 2), ("A", 3)], [("A", 9)], ["duplicate"]),
    "taken back twice": ([("A", 1), ("B", 2), ("A", 3)], [("B", 9)], ["inserted"]),
    "both still shown": ([("A", 1), ("B", 2)], [("A", 9), ("B", 9)], ["duplicate", "duplicate"]),
    "one of two of a landing": ([("A", 1), ("B", 1)], [("A", 9)], ["inserted"]),
    "twice in the batch": ([("A", 1), ("B", 2)], [("A", 9), ("A", 9)], ["inserted", "duplicate"]),
    "replayed and landed since": ([("A", 1), ("B", 5)], [("A", 1)], ["duplicate"]),
    "replayed and overtaken": ([("B", 5)], [("A", 2)], ["inserted"]),
    "an older run loaded again": ([("A", 6), ("B", 5)], [("A", 1)], ["duplicate"]),
}


def test_a_row_is_a_repeat_of_the_latest_state_and_not_of_all_that_ever_was(spark: SparkSession) -> None:
    batch = [(name, *row) for name, (_, rows, _) in STATES.items() for row in rows]
    held = [(name, *row) for name, (rows, _, _) in STATES.items() for row in rows]

    classified = _classified(quotes(spark, batch), contracts.load("bronze.fx_rates"), quotes(spark, held))

    found: dict[str, list[str]] = {}
    for row in classified.orderBy("_position").collect():
        found.setdefault(row["ccy"], []).append(row["_class"])
    assert found == {name: classes for name, (_, _, classes) in STATES.items()}


def test_rows_of_one_state_do_not_carry_the_payloads_of_all(spark: SparkSession) -> None:
    """A file that names one shipment in every line: the payloads of all in each row would grow by their square."""
    batch = quotes(spark, [("USD", f"{n}", 9) for n in range(50)])
    held = quotes(spark, [("USD", "7", 1), ("USD", "gone", 2), ("SEK", "3", 2)])

    rows = with_states(batch, F.size("_reasons") == 0, ["as_of_date", "ccy"], held).collect()

    assert [row["_shown"] for row in rows] == [["7"]] * 50


@pytest.mark.proof
def test_a_correction_and_its_return_reach_bronze_and_repeats_do_not(world: Lake) -> None:
    """Lines of a file that is delivered again; loads of the warehouse, which the source itself orders, all shown."""

    def inserted(run_id: str, table: str) -> int:
        world.certify(run_id, table)
        return world.table(table).where(F.col("_run_id") == run_id).count()

    first, second = a_shipment(1), a_shipment(1, status="DELIVERED")
    brought = [
        inserted(world.shipments(line, hours=hour), SHIPMENTS)
        for hour, line in enumerate([first, second, second, first, first])
    ]
    assert brought == [1, 1, 0, 1, 0]

    # A shipment of a file is one state, in whatever line: S-2 had moved up, and S-3 was in another delivery only.
    moved = [a_shipment(1, shipment_id="S-2", status="DELIVERED"), a_shipment(2, shipment_id="S-3")]
    lines = [a_shipment(1, file="other.csv"), a_shipment(2, file="other.csv")]
    again = [line | {"file": "other.csv", "_position": f"other.csv:{n:09d}"} for n, line in enumerate(moved)]
    deliveries = [lines, again, lines, lines]
    brought = [
        inserted(world.shipments(*rows, hours=5 + hour), SHIPMENTS) for hour, rows in enumerate(deliveries)
    ]
    assert brought == [2, 2, 1, 0]

    early, late = an_order(1), an_order(1, STATUS="SHIPPED", LOADED_AT=datetime(2026, 1, 1, 12))  # noqa: DTZ001
    windows = [[early], [early, late], [late], [early], [early, late]]
    others = [an_order(n) for n in range(2, 9)]  # a key twice is a small part of a batch
    brought = [
        inserted(world.orders(*rows, *others, hours=hour), ORDERS) for hour, rows in enumerate(windows)
    ]
    assert brought == [8, 1, 0, 0, 0]


def test_landing_time_is_the_time_of_landing_whatever_day_the_run_is_of(world: Lake) -> None:
    began = datetime.now(UTC)
    newer = world.shipments(a_shipment(1), hours=48)
    older = world.shipments(a_shipment(1, status="DELIVERED"))  # a run of an earlier day, started later

    landed = {row["_run_id"]: row["_landed_at"] for row in world.table(SHIPMENTS).collect()}

    assert began.replace(tzinfo=None) <= landed[newer] < landed[older]
    days = {row["ingest_date"] for row in world.table(SHIPMENTS).collect()}
    assert days == {moment.date() for moment in landed.values()}
