"""silver.orders: what becomes of each column."""

from __future__ import annotations

from decimal import Decimal

from pyspark.sql import SparkSession

from lakehouse.tables.silver import orders

from ..rows import assert_schema, at, collect, frame


def test_schema_is_the_contracts(spark: SparkSession) -> None:
    empty = [frame(spark, name, []) for name in orders.INPUTS]
    assert_schema(orders.transform(*empty), orders.TABLE)


def test_columns_of_both_sources(spark: SparkSession) -> None:
    event = at("2025-01-31 23:59:59.999999")
    common = {"order_id": "O-1", "event_ts": event, "customer_id": " A1\t", "amount": Decimal("12.30")}
    snowflake = [common | {"loaded_at": at("2025-02-01 00:00:01.5"), "_run_id": "r1"}]
    kafka = [common | {"partition": 3, "offset": 41, "_run_id": "r2"}]
    first, second = sorted(
        collect(
            orders.transform(
                frame(spark, "bronze.snowflake_orders", snowflake), frame(spark, "bronze.kafka_orders", kafka)
            )
        ),
        key=lambda row: row["_source_rank"],
    )
    assert (first["source"], first["_source_position"], first["_run_id"]) == (
        "kafka",
        "0000000003/00000000000000000041",
        "r2",
    )
    assert (second["source"], second["_source_position"], second["_run_id"]) == (
        "snowflake",
        "2025-02-01T00001.500000",
        "r1",
    )
    assert first["customer_id"] == second["customer_id"] == "A1"
    assert first["event_month"] == second["event_month"] == "2025-01"
    assert first["_payload_hash"] == second["_payload_hash"]
    assert first["event_ts"] == event


def test_a_blank_customer_is_null(spark: SparkSession) -> None:
    blanks = {
        "null": None,
        "empty": "",
        "spaces": "   ",
        "no-break": "\u00a0\t\n",
        "kept": "\u2003Z\u00fc rich \n",
    }
    rows = [
        {"order_id": name, "event_ts": at("2025-01-01"), "customer_id": text} for name, text in blanks.items()
    ]
    got = collect(
        orders.transform(
            frame(spark, "bronze.snowflake_orders", rows), frame(spark, "bronze.kafka_orders", [])
        )
    )
    cleaned = {row["order_id"]: row["customer_id"] for row in got}
    assert cleaned == {"null": None, "empty": None, "spaces": None, "no-break": None, "kept": "Z\u00fc rich"}


def test_months_of_every_year_and_of_another_session_zone(spark: SparkSession) -> None:
    moments = {
        "0001-01-01 00:00:00": "0001-01",
        "1582-10-15 00:00:00": "1582-10",
        "1969-12-31 23:59:59.999999": "1969-12",
        "2025-03-30 00:30:00": "2025-03",
        "2024-12-31 23:30:00": "2024-12",
        "9999-12-31 23:59:59.999999": "9999-12",
    }
    rows = [{"order_id": text, "event_ts": at(text), "loaded_at": at(text)} for text in moments]
    zone = spark.conf.get("spark.sql.session.timeZone")
    try:
        spark.conf.set("spark.sql.session.timeZone", "Asia/Kathmandu")
        got = collect(
            orders.transform(
                frame(spark, "bronze.snowflake_orders", rows), frame(spark, "bronze.kafka_orders", [])
            )
        )
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone or "UTC")
    assert {row["order_id"]: row["event_month"] for row in got} == moments
    assert {row["order_id"]: row["event_ts"] for row in got} == {text: at(text) for text in moments}
    assert {row["order_id"]: row["_source_position"] for row in got}["9999-12-31 23:59:59.999999"] == (
        "9999-12-31T86399.999999"
    )
