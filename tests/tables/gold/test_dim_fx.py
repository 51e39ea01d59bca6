"""gold.dim_fx: the calendar, how far a rate is carried, and what is not usable."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.tables.gold import dim_fx

from ..rows import Row, assert_schema, collect, day, frame


def rate(as_of_date: str, ccy: str, ccy_per_eur: str, usd_per_eur: str | None = "1.1", **more: Any) -> Row:
    to_base = None if usd_per_eur is None else Decimal(usd_per_eur) / Decimal(ccy_per_eur)
    return {
        "as_of_date": day(as_of_date),
        "ccy": ccy,
        "ccy_per_eur": Decimal(ccy_per_eur),
        "usd_per_eur": None if usd_per_eur is None else Decimal(usd_per_eur),
        "rate_to_base": None if to_base is None else round(to_base, 12),
        **more,
    }


def test_calendar_is_carried_forward_as_long_as_it_is_fresh(spark: SparkSession) -> None:
    rates = frame(
        spark,
        "silver.fx_rates",
        [
            rate("2025-01-03", "EUR", "1"),
            rate("2025-01-07", "EUR", "1", "1.2"),
            rate("2025-01-01", "GBP", "2", None),  # that day had no USD
            rate("2025-01-03", "GBP", "2"),
            rate("2025-01-05", "GBP", "4", None),
            rate("2025-01-08", "JPY", "4", None),  # the newest day of the table
        ],
    )
    got = dim_fx.transform(rates, max_staleness_days=2, publish_id="p1")
    assert_schema(got, dim_fx.TABLE)
    rows = {(row["ccy"], row["as_of_date"].day): row for row in collect(got)}

    def quotes(ccy: str) -> list[tuple[int, Any, Any]]:
        return [
            (n, row["usd_per_eur"], row["rate_as_of_date"] and row["rate_as_of_date"].day)
            for (name, n), row in sorted(rows.items())
            if name == ccy
        ]

    first, second = Decimal("1.1"), Decimal("1.2")
    assert quotes("EUR") == [
        (3, first, 3), (4, first, 3), (5, first, 3), (6, None, None),
        (7, second, 7), (8, second, 7), (9, second, 7), (10, None, None),
    ]  # fmt: skip
    assert quotes("GBP") == [
        (1, None, None), (2, None, None), (3, first, 3), (4, first, 3), (5, first, 3),
        *((n, None, None) for n in range(6, 11)),
    ]  # fmt: skip
    assert quotes("JPY") == [(8, None, None), (9, None, None), (10, None, None)]
    assert rows["GBP", 5]["ccy_per_eur"] == 2
    assert rows["GBP", 5]["rate_to_base"] == Decimal("0.55")
    carried = {key for key, row in rows.items() if row["is_carried_forward"]}
    assert carried == {("EUR", 4), ("EUR", 5), ("EUR", 8), ("EUR", 9), ("GBP", 4), ("GBP", 5)}
    assert {row["_publish_id"] for row in rows.values()} == {"p1"}


def test_no_quotes_no_days_and_the_end_of_the_calendar(spark: SparkSession) -> None:
    nothing = dim_fx.transform(frame(spark, "silver.fx_rates", []), max_staleness_days=5, publish_id="p1")
    last = frame(spark, "silver.fx_rates", [rate("9999-12-30", "EUR", "1")])
    end = dim_fx.transform(last, max_staleness_days=5, publish_id="p1")
    assert [row["as_of_date"] for row in collect(nothing.unionByName(end))] == [
        day("9999-12-30"),
        day("9999-12-31"),
    ]
