"""Rows that an older contract stored, against the same rows read again by a contract with one more column."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.tables.order import as_stored
from lakehouse.tables.silver import salesforce_accounts

from .. import oracle
from ..rows import Row, at, collect, complete, frame, ordered

NAMES = ("Alpha", "Beta", None)
SITES = ("https://a.example", None)
STORED_RUN = "20250115T060000Z-00000000-0000-0000-0000-000000000001"
STORED_AT, READ_AT = at("2025-01-15 06:00:00"), at("2025-01-16 06:00:00")
MODIFIED = at("2025-01-14 12:00:00")


def account(n: int, name: str | None, **more: object) -> Row:
    return {"id": f"A{n:04d}", "name": name, "systemmodstamp": MODIFIED, **more}


@pytest.mark.parametrize(
    "stored_landing", [None, STORED_AT], ids=["stored without a landing time", "with one"]
)
def test_what_was_read_later_wins_whatever_the_hashes_say(
    spark: SparkSession, stored_landing: object
) -> None:
    """Of one modification time; half of the stale rows would win by their hash."""
    draw = random.Random(7)
    old = [account(n, draw.choice(NAMES), _run_id=STORED_RUN, _landed_at=STORED_AT) for n in range(200)]
    new = [
        account(n, draw.choice(NAMES), website=draw.choice(SITES), _run_id="run-2", _landed_at=READ_AT)
        for n in range(200)
    ]
    # What came late and was read before the stored row: a refused row that was replayed.
    late = [account(n, "Late", _run_id="run-3", _landed_at=at("2025-01-13")) for n in range(0, 200, 2)]
    transformed = salesforce_accounts.transform(frame(spark, "bronze.salesforce_accounts", old))
    stored = transformed.withColumns(
        {"_payload_hash": F.sha2("id", 256), "_landed_at": F.lit(stored_landing).cast("timestamp")}
    )

    source = salesforce_accounts.transform(frame(spark, "bronze.salesforce_accounts", [*new, *late]))
    rows = collect(
        salesforce_accounts.resolve(source, as_stored(stored, salesforce_accounts.BUSINESS)).drop(
            "_generated"
        )
    )

    classes = Counter((row["_run_id"], row["_class"]) for row in rows)
    assert classes == Counter({("run-2", "updated"): 200, ("run-3", "conflict"): 100})
    winners = [{k: v for k, v in row.items() if k != "_class"} for row in rows if row["_class"] == "updated"]
    expected = oracle.silver_accounts(complete("bronze.salesforce_accounts", row) for row in new)
    assert ordered(winners, "id") == ordered(expected, "id")


def test_a_row_stored_under_another_hash_is_a_duplicate_of_what_it_says(spark: SparkSession) -> None:
    """The same landing merged again, after the column and the algorithm changed: nothing to write."""
    rows = [account(n, name, _run_id=STORED_RUN, _landed_at=STORED_AT) for n, name in enumerate(NAMES)]
    source = salesforce_accounts.transform(frame(spark, "bronze.salesforce_accounts", rows))
    stored = source.withColumns(
        {"_payload_hash": F.sha2("id", 256), "_landed_at": F.lit(None).cast("timestamp")}
    )

    found = salesforce_accounts.resolve(source, as_stored(stored, salesforce_accounts.BUSINESS))

    assert [row["_class"] for row in found.select("_class").collect()] == ["duplicate"] * len(NAMES)
