"""Landed parts as they are read: types and names of each part are its own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from lakehouse.flows.ingest import Load, certification
from lakehouse.landing import LandingWriter
from tests.quality.quarantine_support import NOON, ORDER_FIELDS, ORDERS, Lake, an_order

HOSTILE = (
    "DISCOUNT %", "_POSITION", "__position", "_malformed", "_SURPLUS", "amount", "Amount", "a.b", "a`b", 'say "x"',
    "it's", "_poſition",
    "a,b;c {d}(e)=f", " ", "tab\tand\nline", "\U0001f600", "payload", "fields", "_source", "_run_id", "é" * 300,
)  # fmt: skip
# Widths of a whole number in consecutive parts, and the largest value of each.
WIDTHS = (
    (pa.int16(), 300),
    (pa.int32(), 70_001),
    (pa.int8(), -128),
    (pa.int64(), 9_000_000_000),
    (pa.decimal128(38, 0), Decimal(10**38 - 1)),
    (pa.int32(), -70_001),
)


def test_a_part_is_read_by_its_own_types_and_no_name_meets_ours(spark: SparkSession, lake: str) -> None:
    world = Lake(spark, lake)
    job = world.job("snowflake_to_bronze")
    writer = LandingWriter(world.settings, "snowflake", "snowflake_orders", job.run_id)
    given: dict[str, Any] = {}
    for part, (kind, value) in enumerate(WIDTHS):
        row = an_order(part)
        given[row["ORDER_ID"]] = str(value)
        columns = {name: pa.array([row[name]], each) for name, each in ORDER_FIELDS.items()}
        columns["CUSTOMER_ID"] = pa.array([value], kind)
        columns |= {name: pa.array([1], kind) for name in HOSTILE}
        writer.write_arrow(pa.table(columns))
    manifest = writer.commit(window_from=None, window_to=NOON)

    load = Load(job, manifest, certification(job, ORDERS))
    try:
        load.require_contract()
        outcome = load.write()
    finally:
        load.release()

    assert outcome.ledger is not None
    assert (outcome.ledger.read, outcome.ledger.inserted) == (len(WIDTHS), len(WIDTHS))
    stored = world.table(ORDERS).collect()
    assert {row["order_id"]: row["customer_id"] for row in stored} == given
    assert sorted(row["amount"] for row in stored) == [Decimal(f"{n}.50") for n in range(len(WIDTHS))]
    assert len({row["_position"] for row in stored}) == len(WIDTHS)
    [surprise] = load.surprises()
    assert all(name in surprise for name in ("DISCOUNT %", "source:_POSITION", "__position", "amount_2"))
