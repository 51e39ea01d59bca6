"""Column lineage is declared for every column of Silver and Gold, and is what the transforms do."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse import contracts
from lakehouse.contracts import Contract
from lakehouse.contracts.lineage import column_lineage, dependants, origins, violations
from lakehouse.contracts.spark import schema
from lakehouse.session import local_frame

DERIVED = [*contracts.load_all("silver"), *contracts.load_all("gold")]


def replaced(table: str, name: str, **fields: Any) -> list[Contract]:
    """All contracts, one column of them changed."""
    return [
        dataclasses.replace(
            contract,
            columns=tuple(
                dataclasses.replace(column, **fields) if (contract.name, column.name) == (table, name) else column
                for column in contract.columns
            ),
        )
        for contract in contracts.load_all()
    ]  # fmt: skip


def test_declared_lineage_is_whole_and_names_columns_that_exist() -> None:
    assert violations(contracts.load_all()) == []


@pytest.mark.parametrize(
    ("sources", "received", "expected"),
    [
        pytest.param((), "nothing", "the columns it is made of, or transformLogic in words", id="none"),
        pytest.param((("bronze.gone", "amount"),), "bronze.gone.amount", "a table that has a contract", id="table"),
        pytest.param((("bronze.kafka_orders", "x"),), "bronze.kafka_orders.x", "a column of bronze.kafka_orders",
                     id="column"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_found(
    sources: tuple[tuple[str, str], ...], received: str, expected: str
) -> None:
    [found] = violations(replaced("silver.orders", "amount", derived_from=sources))
    assert "properties[amount]" in found.where
    assert (found.received, found.expected) == (received, expected)


@pytest.mark.parametrize("contract", DERIVED, ids=lambda each: each.name)
def test_sources_are_the_transform_s_inputs(contract: Contract) -> None:
    module = importlib.import_module(f"lakehouse.tables.{contract.name}")
    named = {table for sources in column_lineage(contract.name).values() for table, _ in sources}
    assert named == set(module.INPUTS)


@pytest.mark.parametrize("contract", DERIVED, ids=lambda each: each.name)
def test_a_transform_reads_the_declared_columns(
    contract: Contract, spark: SparkSession, tmp_path: Path
) -> None:
    """Spark's own plan is asked which columns of which input it reads for one column of the result."""
    module = importlib.import_module(f"lakehouse.tables.{contract.name}")
    frames = {name: empty(spark, name, tmp_path / name) for name in module.INPUTS}
    result = transform(module, list(frames.values()))
    for column, declared in column_lineage(contract.name).items():
        read = columns_read(result.select(column))
        assert set(declared) - read == LATER.get((contract.name, column), set()), column
        if contract.layer == "silver" and (contract.name, column) not in LATER:
            assert read == set(declared), column


# silver.fx_rates gets these from the rows of the same date, in its second step.
LATER = {
    ("silver.fx_rates", "usd_per_eur"): {("bronze.fx_rates", "ccy_per_eur")},
    ("silver.fx_rates", "rate_to_base"): {("bronze.fx_rates", "ccy_per_eur")},
}


def empty(spark: SparkSession, table: str, folder: Path) -> DataFrame:
    """One row of nulls as a file, so that the plan tells which columns are read."""
    shape = schema(contracts.load(table))
    for field in shape.fields:
        field.nullable = True
    local_frame(spark, [tuple(None for _ in shape.fields)], shape).write.parquet(str(folder))
    return spark.read.schema(shape).parquet(str(folder))


def transform(module: Any, frames: list[DataFrame]) -> DataFrame:
    import datetime as dt

    known = {
        "previous": None,
        "run_date": dt.date(2025, 1, 1),
        "restate_days": 7,
        "max_staleness_days": 5,
        "publish_id": "p",
    }
    wanted = inspect.signature(module.transform).parameters
    result: DataFrame = module.transform(*frames, **{key: known[key] for key in wanted if key in known})
    return result


def columns_read(frame: DataFrame) -> set[tuple[str, str]]:
    """The columns that the plan takes from each file, which is named like its table."""
    leaves = frame._jdf.queryExecution().sparkPlan().collectLeaves()  # type: ignore[operator]
    found: set[tuple[str, str]] = set()
    for leaf in (leaves.apply(number) for number in range(leaves.size())):
        table = leaf.relation().location().rootPaths().apply(0).getName()
        found |= {(table, name) for name in leaf.requiredSchema().fieldNames()}
    return found


def test_origins_lead_to_bronze() -> None:
    assert origins("gold.fact_orders", "amount_usd") == [
        ("bronze.fx_rates", "ccy_per_eur"),
        ("bronze.kafka_orders", "amount"),
        ("bronze.snowflake_orders", "amount"),
    ]
    assert origins("silver.orders", "source") == []


def test_dependants_lead_to_gold() -> None:
    reached = dependants("bronze.salesforce_accounts")
    assert reached["billingcountry"] == [
        ("gold.dim_customers", "country"),
        ("silver.salesforce_accounts", "country"),
    ]
    assert ("gold.fact_orders", "is_known_customer") in reached["id"]
    assert dependants("gold.fact_orders") == {}


def test_lineage_is_plain_data() -> None:
    assert json.loads(json.dumps(column_lineage("silver.vendor_shipments")))["id"] == [
        ["bronze.vendor_shipments", "shipment_id"]
    ]
    assert column_lineage("bronze.fx_rates") == {}
