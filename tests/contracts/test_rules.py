"""Every rule that somebody wrote refuses a bad row, and only that one; NULL is the business of not_null alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from lakehouse import contracts
from lakehouse.contracts import Contract
from lakehouse.contracts.spark import conform, schema
from lakehouse.session import local_frame

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
DAY = date(2025, 3, 1)
ORDER = {"status": "PLACED", "amount": Decimal("1.00"), "currency": "EUR"}
SHIPMENT = {"status": "CREATED", "weight_kg": Decimal("1.000"), "cost": Decimal("1.00"), "currency": "EUR"}

# A good row by what rules look at; columns left out are null.
GOOD: dict[str, dict[str, Any]] = {
    "bronze.snowflake_orders": ORDER,
    "bronze.kafka_orders": ORDER,
    "bronze.vendor_shipments": SHIPMENT,
    "bronze.fx_rates": {"ccy": "USD", "ccy_per_eur": Decimal("1.1"), "publication": "daily"},
    "silver.orders": {**ORDER, "source": "kafka", "event_ts": NOON, "event_month": "2025-03"},
    "silver.fx_rates": {
        "ccy": "USD",
        "ccy_per_eur": Decimal("1.1"),
        "usd_per_eur": Decimal("1.1"),
        "rate_to_base": Decimal(1),
    },
    "silver.vendor_shipments": SHIPMENT,
    "silver.hubspot_contacts": {"id": "1", "merged_into": "2"},
    "gold.dim_customers": {"contacts": 0},
    "gold.dim_fx": {
        "as_of_date": DAY,
        "rate_to_base": Decimal(1),
        "rate_as_of_date": DAY,
        "is_carried_forward": False,
    },
    "gold.fact_orders": {
        "order_date": DAY,
        "amount_native": Decimal(1),
        "amount_usd": Decimal(1),
        "usd_per_eur": Decimal(1),
        "ccy_per_eur": Decimal(1),
        "fx_as_of_date": DAY,
        "status": "PAID",
    },
    "ops.dq_verdicts": {"outcome": "passed"},
    "ops.quarantine": {"status": "open"},
    "ops.watch_findings": {"severity": "warning"},
    "ops.job_runs": {"status": "failed"},
    "ops.row_ledger": {
        "read": 8, "generated": 1, "inserted": 3, "updated": 1, "unchanged": 1, "quarantined": 1, "duplicates": 1,
        "superseded": 1, "conflicts": 1,
    },
}  # fmt: skip

ORDER_FLAWS: dict[str, Mapping[str, Any]] = {
    "amount_not_negative": {"amount": Decimal("-0.01")},
    "status_known": {"status": "placed"},
    "currency_known": {"currency": "EURO"},
}
# What makes a good row bad, by rule.
BAD: dict[str, dict[str, Mapping[str, Any]]] = {
    "bronze.snowflake_orders": ORDER_FLAWS,
    "bronze.kafka_orders": ORDER_FLAWS,
    "bronze.vendor_shipments": {
        "status_known": {"status": "LOST"},
        "currency_known": {"currency": "XXX"},
        "weight_not_negative": {"weight_kg": Decimal("-0.001")},
        "cost_not_negative": {"cost": Decimal("-0.01")},
    },
    "bronze.fx_rates": {
        "ccy_is_iso": {"ccy": "USDX"},
        "rate_positive": {"ccy_per_eur": Decimal(0)},
        "publication_known": {"publication": "weekly"},
    },
    "silver.orders": {
        **ORDER_FLAWS,
        "source_known": {"source": "fax"},
        "event_month_of_event_ts": {"event_month": "2025-04"},
    },
    "silver.fx_rates": {
        "ccy_is_iso": {"ccy": "usd"},
        "rate_positive": {"ccy_per_eur": Decimal(-1)},
        "usd_is_base": {"rate_to_base": Decimal("1.000000000001")},
    },
    "silver.vendor_shipments": {
        "status_known": {"status": ""},
        "amounts_not_negative": {"cost": Decimal("-0.01")},
    },
    "silver.hubspot_contacts": {"not_merged_into_itself": {"merged_into": "1"}},
    "gold.dim_customers": {"contacts_not_negative": {"contacts": -1}},
    "gold.dim_fx": {
        "rate_positive": {"usd_per_eur": Decimal(0)},
        "quote_not_of_the_future": {"rate_as_of_date": date(2025, 3, 2)},
        "carried_forward_is_marked": {"rate_as_of_date": date(2025, 2, 28)},
    },
    "gold.fact_orders": {
        "amount_not_negative": {"amount_usd": Decimal("-0.01")},
        "status_known": {"status": "LOST"},
        "priced_with_its_quotes": {"ccy_per_eur": None},
        "quote_not_of_the_future": {"fx_as_of_date": date(2025, 3, 2)},
    },
    "ops.dq_verdicts": {"outcome_known": {"outcome": "maybe"}},
    "ops.quarantine": {"status_known": {"status": "lost"}},
    "ops.watch_findings": {"severity_known": {"severity": "mild"}},
    "ops.job_runs": {"status_known": {"status": "running"}},
    "ops.row_ledger": {"balanced": {"inserted": 4}},
}


def written(contract: Contract) -> list[contracts.RowRule]:
    return [rule for rule in contract.row_rules if rule.kind in ("predicate", "one_of")]


def broken(spark: SparkSession, contract: Contract, rows: list[Mapping[str, Any]]) -> list[set[str]]:
    """Names of the written rules that each row breaks."""
    lax = StructType([StructField(field.name, field.dataType, True) for field in schema(contract)])
    frame = local_frame(spark, [tuple(row.get(name) for name in contract.column_names) for row in rows], lax)
    judged = frame.select(*[F.expr(rule.violation).alias(rule.name) for rule in written(contract)])
    return [{name for name, value in row.asDict().items() if value} for row in judged.collect()]


def test_every_written_rule_has_its_bad_row() -> None:
    rules = {
        each.name: {rule.name for rule in written(each)} for each in contracts.load_all() if written(each)
    }
    assert rules == {table: set(flaws) for table, flaws in BAD.items()}


@pytest.mark.parametrize("table", sorted(BAD))
def test_a_rule_refuses_its_bad_row_and_no_other(spark: SparkSession, table: str) -> None:
    contract = contracts.load(table)
    bad = [{**GOOD[table], **flaw} for flaw in BAD[table].values()]
    found = broken(spark, contract, [GOOD[table], {}, *bad])
    assert found[:2] == [set(), set()], "a good row and a row of nulls break no written rule"
    assert found[2:] == [{name} for name in BAD[table]]


@pytest.mark.parametrize("contract", contracts.load_all(), ids=lambda each: each.name)
def test_spark_understands_every_predicate(spark: SparkSession, contract: Contract) -> None:
    raw = {column.raw: F.lit(None).cast("string") for column in contract.columns if column.source_field}
    frame = local_frame(spark, [], schema(contract)).withColumns(raw)
    judged = frame.select(*[F.expr(rule.violation).alias(rule.name) for rule in contract.row_rules])
    assert {(field.dataType.simpleString(), field.nullable) for field in judged.schema} <= {
        ("boolean", False)
    }


def test_a_value_parses_or_was_never_there(spark: SparkSession) -> None:
    rule = contracts.load("bronze.vendor_shipments").rule("cost_parses")
    assert isinstance(rule, contracts.RowRule)
    rows = [(None, None), ("", None), ("  ", None), ("1.00", Decimal(1)), ("one", None)]
    frame = local_frame(spark, rows, "__raw_cost string, cost decimal(18,2)")
    assert [row[0] for row in frame.select(F.expr(rule.violation)).collect()] == [False] * 4 + [True]


def test_an_older_version_is_read_with_today_s_columns(spark: SparkSession) -> None:
    contract = contracts.load("gold.dim_customers")
    older = dataclasses.replace(
        contract, columns=tuple(column for column in contract.columns if column.name != "country")
    )
    frame = conform(local_frame(spark, [("1", "n", "t", "i", True, 2, "p")], schema(older)), contract)
    assert [field.dataType for field in frame.schema] == [field.dataType for field in schema(contract)]
    assert frame.collect()[0].asDict()["country"] is None


def test_rows_by_name_keep_their_values_in_whatever_order_the_columns_are(spark: SparkSession) -> None:
    row = {"amount": 1, "count": 2}
    for fields in ("amount long, count long", "count long, amount long"):
        (stored,) = local_frame(spark, [row], fields).collect()
        assert stored.asDict() == row
    for other in ({"amount": 1}, {**row, "more": 3}):
        with pytest.raises(ValueError, match=r"a row has not the columns of its table: (count|more)"):
            local_frame(spark, [other], "amount long, count long")
