"""What differs between a contract, its Delta table and Glue is named, one by one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import boto3
import pytest
from deltalake import DeltaTable, Schema

from lakehouse import contracts
from lakehouse.catalog import LAYERS, register
from lakehouse.contracts import Contract, ddl
from lakehouse.flows.drift import drift
from lakehouse.settings import GlueSettings, Settings
from tests.quality.support import make_settings

TABLE = "gold.dim_customers"


def create(settings: Settings, contract: Contract, *without: str) -> None:
    """The table as apply_contracts makes it, but for some columns."""
    spelling = {"bigint": "long", "int": "integer"}
    fields = [
        {
            "name": column.name,
            "type": spelling.get(column.type, column.type),
            "nullable": not column.required,
            "metadata": {"comment": column.description},
        }
        for column in contract.columns
        if column.name not in without
    ]
    DeltaTable.create(
        settings.table_uri(contract.name),
        Schema.from_json(json.dumps({"type": "struct", "fields": fields})),
        partition_by=list(contract.partition_by),
        configuration=ddl.properties(contract),
        storage_options={"allow_http": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"},
        raise_if_key_not_exists=False,
    )


@pytest.fixture
def settings(lake: str) -> Settings:
    name = lake.removeprefix("s3://").replace("-", "_")
    return make_settings(lake, glue=GlueSettings(**{layer: f"{name}_{layer}" for layer in LAYERS}))


def found(settings: Settings, *tables: Contract) -> dict[str, tuple[str, str]]:
    return {each.where: (each.received, each.expected) for each in drift(settings, tables)}


def test_all_agree(settings: Settings) -> None:
    contract = contracts.load(TABLE)
    create(settings, contract)
    register(settings, ("gold",))
    assert found(settings, contract) == {}


def test_every_difference_is_named(settings: Settings) -> None:
    contract = contracts.load(TABLE)
    create(settings, contract, "country")
    register(settings, ("gold",))
    glue = boto3.client("glue", region_name=settings.region)
    table: dict[str, Any] = dict(
        glue.get_table(DatabaseName=settings.glue.gold, Name="dim_customers")["Table"]
    )
    columns = [
        column | ({"Type": "int"} if column["Name"] == "contacts" else {})
        for column in table["StorageDescriptor"]["Columns"]
        if column["Name"] != "industry"
    ]
    glue.update_table(
        DatabaseName=settings.glue.gold,
        TableInput={
            "Name": "dim_customers",
            "StorageDescriptor": table["StorageDescriptor"] | {"Columns": [*columns, {"Name": "x", "Type": "int"}]},
        },
    )  # fmt: skip
    orders = contracts.load("silver.orders")
    create(settings, contracts.load("gold.dim_fx"))
    assert found(settings, contract, orders) == {
        "gold.dim_customers.country (Delta)": ("no such column", "string"),
        "gold.dim_customers.country (Glue)": ("no such column", "string"),
        "gold.dim_customers.industry (Glue)": ("no such column", "string"),
        "gold.dim_customers.contacts (Glue)": ("int", "bigint"),
        "gold.dim_customers.x (Glue)": ("int", "no such column"),
        "silver.orders (Delta)": ("no table", "one: run apply_contracts"),
        "silver.orders (Glue)": (
            "no table",
            f"{settings.glue.silver}.orders: run scripts/emr_submit.sh register_glue_tables",
        ),
        "gold.dim_fx (Delta)": ("a table without a contract", "none"),
    }  # fmt: skip


def test_what_the_contract_asks_for_no_more_is_named(settings: Settings) -> None:
    contract = contracts.load(TABLE)
    create(settings, as_personal(contract, "country"))
    register(settings, ("gold",))
    differences = found(settings, as_personal(contract))
    received, expected = differences["gold.dim_customers (Delta): delta.dataSkippingStatsColumns"]
    assert (received.split(",")[0], expected) == ("`id`", "nothing")


def as_personal(contract: Contract, *personal: str) -> Contract:
    return dataclasses.replace(
        contract,
        columns=tuple(
            dataclasses.replace(each, classification="personal" if each.name in personal else "internal")
            for each in contract.columns
        ),
    )


def test_a_table_that_only_glue_has_is_named(settings: Settings) -> None:
    contract = contracts.load(TABLE)
    create(settings, contract)
    register(settings, ("gold",))
    glue = boto3.client("glue", region_name=settings.region)
    for name, kind in (("dim_left_over", "EXTERNAL_TABLE"), ("a_view", "VIRTUAL_VIEW")):
        glue.create_table(
            DatabaseName=settings.glue.gold,
            TableInput={"Name": name, "TableType": kind, "StorageDescriptor": {}},
        )
    assert found(settings, contract) == {"gold.dim_left_over (Glue)": ("a table without a contract", "none")}
