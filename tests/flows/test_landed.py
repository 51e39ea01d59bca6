"""Landed parts as they are read: types and names of each part are its own."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.flows.ingest import Load, certification
from lakehouse.flows.landed import HALF_PAIR, read_landed, unpacked
from lakehouse.landing import LandingWriter
from lakehouse.session import local_frame
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


PIECES = [
    "\ud800",
    "\udbff",
    "\udc00",
    "\udfff",
    "\U0001f600",
    "\\",
    "u",
    "d800",
    "\\ud800",
    '"',
    "\n",
    "a",
    "ü",
    "?",
    "\x00",
]


def has_half_a_pair(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def test_half_a_surrogate_pair_is_refused_with_its_text_and_every_other_text_kept(
    spark: SparkSession,
) -> None:
    """Spark would store a question mark for it, without a word. One pass over every way in which pieces can meet."""
    random = Random(7)
    texts = ["".join(random.choices(PIECES, k=random.randint(0, 6))) for _ in range(3_000)]
    # Two halves that meet as escapes are a pair.
    texts = [text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") for text in texts]
    lines = [json.dumps({"id": str(n), "name": text, "_malformed": None}) for n, text in enumerate(texts)]

    frame = local_frame(spark, [(line,) for line in lines], "payload string")
    rows = unpacked(frame, "hubspot", 0).select("payload", F.to_json("fields").alias("fields")).collect()

    assert [row["payload"] for row in rows] == lines
    for text, row in zip(texts, rows, strict=True):
        fields = json.loads(row["fields"])
        assert fields["name"] == text.encode("utf-8", "backslashreplace").decode()
        assert fields.get("_malformed") == (HALF_PAIR if has_half_a_pair(text) else None)
    assert 500 < sum(map(has_half_a_pair, texts)) < 2_500


def test_a_line_keeps_every_digit_and_says_what_it_cannot_keep(spark: SparkSession, lake: str) -> None:
    world = Lake(spark, lake)
    writer = LandingWriter(
        world.settings, "hubspot", "hubspot_contacts", world.job("hubspot_to_bronze").run_id
    )
    digits = 12345678901234567890123456789012345678901
    writer.write_rows(
        [{"id": "1", "name": "A\ud83d"}, {"id": digits, "name": "\\ud83d \U0001f600", "x": 1e22, "no": None}]
    )
    manifest = writer.commit(window_from=None, window_to=NOON)

    rows = read_landed(spark, world.settings, manifest).collect()

    broken, whole = (row["fields"] for row in sorted(rows, key=lambda row: row["_position"]))
    assert (broken["id"], broken["name"], broken["_malformed"]) == ("1", "A\\ud83d", HALF_PAIR)
    assert whole == {
        "_position": rows[1]["_position"],
        "id": str(digits),
        "name": "\\ud83d \U0001f600",
        "x": "1e+22",
        "no": None,
    }
