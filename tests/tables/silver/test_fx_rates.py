"""silver.fx_rates: see test_fx_transform.py for the rates; here its columns."""

from __future__ import annotations

from decimal import Decimal

from pyspark.sql import SparkSession

from lakehouse.tables.silver import fx_rates

from ..rows import assert_schema, at, collect, day, frame


def test_schema_is_the_contracts(spark: SparkSession) -> None:
    source = fx_rates.transform(frame(spark, "bronze.fx_rates", []))
    assert_schema(source, fx_rates.TABLE)
    resolved = fx_rates.resolve(source, frame(spark, fx_rates.TABLE, []))
    assert_schema(resolved.drop("_class", "_generated"), fx_rates.TABLE)


def test_a_quote_keeps_where_it_came_from(spark: SparkSession) -> None:
    landed = at("2025-01-02 16:05:00.123456")
    quote = {
        "as_of_date": day("2025-01-02"),
        "ccy": "GBP",
        "ccy_per_eur": Decimal("0.83"),
        "_landed_at": landed,
    }
    got = collect(
        fx_rates.transform(
            frame(spark, "bronze.fx_rates", [quote | {"publication": name} for name in ("daily", "history")])
        )
    )
    assert [(row["publication"], row["_source_rank"], row["_landed_at"]) for row in got] == [
        ("daily", 1, landed),
        ("history", 2, landed),
    ]
    assert len({row["_payload_hash"] for row in got}) == 1
