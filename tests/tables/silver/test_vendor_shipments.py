"""silver.vendor_shipments: later files, re-delivered files, later lines."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from pyspark.sql import SparkSession

from lakehouse.tables.silver import vendor_shipments

from ..rows import Silver, assert_schema, at, frame

MONDAY, TUESDAY = "shipments_20250113.csv", "shipments_20250114.csv"


def test_schema_is_the_contracts(spark: SparkSession) -> None:
    empty = frame(spark, "bronze.vendor_shipments", [])
    assert_schema(vendor_shipments.transform(empty), vendor_shipments.TABLE)


def test_the_later_file_and_line_stay(spark: SparkSession) -> None:
    first, again = at("2025-01-14 06:00:00"), at("2025-01-15 06:00:00")
    table = Silver(spark, vendor_shipments)
    table.add(
        [
            {"shipment_id": "S1", "file": MONDAY, "line": 900, "status": "CREATED"},
            {"shipment_id": "S1", "file": TUESDAY, "line": 2, "status": "DELIVERED", "delivered_at": first},
            {"shipment_id": "S2", "file": MONDAY, "line": 9, "status": "CREATED"},
            {"shipment_id": "S2", "file": MONDAY, "line": 10, "status": "IN_TRANSIT"},
            {"shipment_id": "S3", "file": MONDAY, "line": 11},
            {"shipment_id": "S3", "file": MONDAY, "line": 12},
            {"shipment_id": "S4", "file": MONDAY, "line": 13, "cost": Decimal("1.00"), "_landed_at": first},
            {"shipment_id": "S5", "file": MONDAY, "line": 14, "carrier": " ", "weight_kg": Decimal("0.250")},
        ]
    )
    assert table.classes == Counter(inserted=5, superseded=1, conflict=1, duplicate=1)
    assert (table.one("S1")["status"], table.one("S1")["file"], table.one("S1")["line"]) == (
        "DELIVERED",
        TUESDAY,
        2,
    )
    assert table.one("S2")["status"] == "IN_TRANSIT"
    assert table.one("S3")["line"] == 12
    assert (table.one("S5")["carrier"], table.one("S5")["weight_kg"]) == (None, Decimal("0.250"))
    assert {row["is_deleted"] for row in table.rows} == {False}

    table.classes.clear()
    table.add(
        [
            # The corrected file of the same name has the shipment further up.
            {"shipment_id": "S4", "file": MONDAY, "line": 3, "cost": Decimal("2.00"), "_landed_at": again},
            {"shipment_id": "S1", "file": MONDAY, "line": 901, "status": "CREATED", "_landed_at": again},
        ]
    )
    assert table.classes == Counter(updated=1, superseded=1)
    assert table.one("S4")["cost"] == Decimal("2.00")
    assert table.one("S1")["status"] == "DELIVERED"
