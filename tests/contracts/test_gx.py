"""Suites made from contracts find what the rules describe."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import great_expectations as gx
import pandas as pd
import pytest
from great_expectations.core import ExpectationSuite
from pyspark.sql import SparkSession

from lakehouse import contracts
from lakehouse.contracts.gx import metrics_suite, suite
from lakehouse.contracts.spark import schema
from lakehouse.session import local_frame

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
RATES = contracts.load("silver.fx_rates")


def failed(batch: Any, expectations: ExpectationSuite) -> dict[str, str]:
    """Rules that do not hold, with their severity."""
    result = batch.validate(expectations, result_format="BOOLEAN_ONLY")
    assert all(item.exception_info.get("raised_exception", False) is False for item in result.results)
    return {
        item.expectation_config.meta["rule"]: str(item.expectation_config.severity.value)
        for item in result.results
        if not item.success
    }


@pytest.fixture(scope="module")
def context() -> Any:
    made = gx.get_context(mode="ephemeral")
    made.variables.progress_bars = {"globally": False}
    return made


def quote(day: date, ccy: str, rate: str) -> tuple[Any, ...]:
    return (day, ccy, Decimal(rate), Decimal("1.1"), Decimal(1), "daily", NOON, 1, "", "hash", "run")


def test_rows_are_audited(spark: SparkSession, context: Any) -> None:
    source = context.data_sources.add_spark("spark", persist=False).add_dataframe_asset("rates")
    definition = source.add_batch_definition_whole_dataframe("all")

    def audit(rows: list[tuple[Any, ...]], at: datetime) -> dict[str, str]:
        frame = local_frame(spark, rows, schema(RATES))
        return failed(definition.get_batch(batch_parameters={"dataframe": frame}), suite(RATES, at))

    good = [quote(date(2025, 2, 28), "USD", "1.1"), quote(date(2025, 2, 28), "GBP", "0.8")]
    assert audit(good, NOON) == {}
    bad = [*good, quote(date(2025, 2, 28), "GBP", "0.9"), quote(date(2025, 2, 28), "usd", "-1")]
    assert audit(bad, datetime(2025, 4, 1, tzinfo=UTC)) == {
        "unique_key": "critical",
        "ccy_is_iso": "critical",
        "rate_positive": "critical",
        "freshness": "warning",
    }


def test_measures_are_judged(context: Any) -> None:
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("measures")
    definition = asset.add_batch_definition_whole_dataframe("all")

    def judge(**measures: float) -> dict[str, str]:
        row: dict[str, Any] = {rule.name: 0.0 for rule in orders.rules} | {"volume": 10}
        frame = pd.DataFrame([row | measures])
        return failed(definition.get_batch(batch_parameters={"dataframe": frame}), metrics_suite(orders))

    orders = contracts.load("bronze.snowflake_orders")
    assert judge() == {}
    assert judge(amount_not_negative=0.05, rejected_rows=0.05, repeated_keys=0.2) == {}
    assert judge(amount_not_negative=0.051) == {"amount_not_negative": "critical"}
    assert judge(volume=0) == {"volume": "warning"}
    assert judge(rejected_rows=0.06, repeated_keys=0.3) == {
        "rejected_rows": "critical",
        "repeated_keys": "critical",
    }
    assert judge(amount_not_negative=float("nan")) == {}


@pytest.mark.parametrize("contract", contracts.load_all(), ids=lambda each: each.name)
def test_every_rule_has_its_expectation(contract: contracts.Contract) -> None:
    measured = [each.meta["rule"] for each in metrics_suite(contract).expectations]
    assert measured == [rule.name for rule in contract.rules]
    unanswerable = {"parses", "duplicates", "rejected", "referential", "jump"} | (
        {"volume"} if contract.layer == "bronze" else set()
    )
    audited = [each.meta["rule"] for each in suite(contract, NOON).expectations]
    assert audited == [rule.name for rule in contract.rules if rule.kind not in unanswerable]
