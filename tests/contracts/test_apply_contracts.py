"""Live tables follow their contracts: created, extended, migrated, refused, and otherwise left alone."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse import contracts, store
from lakehouse.contracts import Column, Contract, ddl
from lakehouse.contracts.migrations import Migration
from lakehouse.contracts.spark import schema
from lakehouse.delta.log import log_head
from lakehouse.errors import ContractError, TableUnreadable
from lakehouse.flows.apply_contracts import apply_contracts
from local.bootstrap import keep_versions
from tests.contracts import own
from tests.support import Aws

ORDERS = own.load("silver.orders")
CHANNEL = Column("channel", "string", "string", False, "internal", "Sales channel, the shop's own word")


def extended(contract: Contract = ORDERS) -> Contract:
    """The contract with a nullable column before the system columns."""
    at = contract.column_names.index("source")
    columns = (*contract.columns[:at], CHANNEL, *contract.columns[at:])
    return dataclasses.replace(contract, version="1.1.0", columns=columns, content_hash="extended")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tables in a folder, which keeps no versions of what was deleted."""
    monkeypatch.setattr("lakehouse.flows.apply_contracts.is_dropped", lambda spark, uri: False)
    return SimpleNamespace(table_uri=lambda name: f"file://{tmp_path}/{name.replace('.', '/')}")


def test_all_tables_are_created_on_s3_and_then_left_alone(spark: SparkSession, lake: str) -> None:
    at = SimpleNamespace(table_uri=lambda name: f"{lake}/{name.replace('.', '/')}")
    created = apply_contracts(spark, at)
    assert [change.table for change in created] == list(contracts.names())
    assert {(change.action, change.version) for change in created} == {("created", 0)}
    again = apply_contracts(spark, at)
    assert {(change.action, change.version, change.steps) for change in again} == {("unchanged", 0, ())}
    assert [change.table_id for change in again] == [change.table_id for change in created]
    for contract in contracts.load_all():
        head = log_head(spark, at.table_uri(contract.name))
        assert head is not None
        assert head.partition_by == contract.partition_by
        assert ddl.properties(contract).items() <= head.properties.items()
    for name in ("bronze.kafka_orders", "ops.dq_verdicts"):
        table = spark.read.format("delta").load(at.table_uri(name))
        assert table.schema.fieldNames() == list(contracts.load(name).column_names)
    protocols = spark.sql(f"DESCRIBE DETAIL {ddl.target(at.table_uri('silver.orders'))}").collect()[0]
    assert (protocols["minReaderVersion"], protocols["minWriterVersion"]) == (1, 2)


def drop(aws: Aws, uri: str) -> None:
    """Delete every object of a table."""
    s3, (bucket, key) = aws.client("s3"), store.split(uri)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key}/"):
        for item in page.get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"])


def test_a_dropped_table_is_not_made_anew_while_its_versions_are_kept(
    spark: SparkSession, lake: str, aws: Aws
) -> None:
    at = SimpleNamespace(table_uri=lambda name: f"{lake}/{name.replace('.', '/')}")
    s3, bucket = aws.client("s3"), lake.removeprefix("s3://")
    keep_versions(s3, bucket)
    quarantine, fx = contracts.load("ops.quarantine"), contracts.load("silver.fx_rates")
    created = {change.table: change for change in apply_contracts(spark, at, [ORDERS, quarantine])}
    for name in created:
        drop(aws, at.table_uri(name))
    assert not list(store.keys(f"{lake}/"))

    with pytest.raises(TableUnreadable) as refused:
        apply_contracts(spark, at, [ORDERS, fx, quarantine])

    assert [each.where for each in refused.value.violations] == ["silver.orders", "ops.quarantine"]
    assert "scripts/undelete.sh silver/orders/ (RUNBOOK_AWS_2025.md 8.12)" in refused.value.hint
    assert "scripts/undelete.sh ops/quarantine/" in refused.value.hint
    assert not list(store.keys(f"{lake}/"))

    # Brought back, it is the table that it was; of the one whose versions are gone, too, a new one is made.
    for item in s3.list_object_versions(Bucket=bucket)["DeleteMarkers"]:
        if item["Key"].startswith("silver/"):
            s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    for item in s3.list_object_versions(Bucket=bucket, Prefix="ops/quarantine/")["Versions"]:
        s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    now = {change.table: change for change in apply_contracts(spark, at, [ORDERS, fx, quarantine])}
    assert {name: change.action for name, change in now.items()} == {
        "silver.orders": "unchanged",
        "silver.fx_rates": "created",
        "ops.quarantine": "created",
    }
    assert now["silver.orders"].table_id == created["silver.orders"].table_id
    assert now["ops.quarantine"].table_id != created["ops.quarantine"].table_id


def test_a_table_looks_as_its_contract_says(spark: SparkSession, settings: Any) -> None:
    apply_contracts(spark, settings, [ORDERS])
    uri = settings.table_uri("silver.orders")
    live = spark.read.format("delta").load(uri).schema
    assert [(field.name, field.dataType, field.nullable) for field in live] == [
        (field.name, field.dataType, field.nullable) for field in schema(ORDERS)
    ]
    assert [field.metadata["comment"] for field in live] == [column.description for column in ORDERS.columns]
    detail = spark.sql(f"DESCRIBE DETAIL {ddl.target(uri)}").collect()[0]
    assert detail["description"] == ORDERS.description
    assert detail["properties"]["delta.deletedFileRetentionDuration"] == "interval 30 days"


def test_a_column_is_added_in_its_place_and_rows_stay(spark: SparkSession, settings: Any) -> None:
    apply_contracts(spark, settings, [ORDERS])
    uri = settings.table_uri("silver.orders")
    spark.sql(
        f"INSERT INTO {ddl.target(uri)} VALUES ('1', TIMESTAMP'2025-01-01 00:00:00', null, 'PAID', 1, 'EUR', null, "
        "null, 'kafka', '2025-01', 1, 'p', 'h', 'r')"
    )
    (change,) = apply_contracts(spark, settings, [extended()])
    assert change.steps == (
        "added column channel string",
        "set lakehouse.contract_hash, lakehouse.contract_version",
    )
    table = spark.read.format("delta").load(uri)
    assert table.schema.fieldNames() == list(extended().column_names)
    assert [row.asDict()["channel"] for row in table.collect()] == [None]
    assert apply_contracts(spark, settings, [extended()])[0].action == "unchanged"
    with pytest.raises(ContractError, match=r"a live table of contract version 1\.1\.0"):
        apply_contracts(spark, settings, [ORDERS])


def test_after_a_restore_the_contract_is_applied_again(spark: SparkSession, settings: Any) -> None:
    apply_contracts(spark, settings, [ORDERS])
    apply_contracts(spark, settings, [extended()])
    uri = settings.table_uri("silver.orders")
    spark.sql(f"RESTORE TABLE {ddl.target(uri)} TO VERSION AS OF 0")
    assert "channel" not in spark.read.format("delta").load(uri).columns
    (change,) = apply_contracts(spark, settings, [extended()])
    assert change.steps[0] == "added column channel string"
    assert spark.read.format("delta").load(uri).schema.fieldNames() == list(extended().column_names)


def test_a_description_follows(spark: SparkSession, settings: Any) -> None:
    apply_contracts(spark, settings, [ORDERS])
    reworded = dataclasses.replace(
        ORDERS,
        columns=(
            dataclasses.replace(ORDERS.columns[0], description="The order's number"),
            *ORDERS.columns[1:],
        ),
    )
    assert apply_contracts(spark, settings, [reworded])[0].steps == ("described column order_id",)
    live = spark.read.format("delta").load(settings.table_uri("silver.orders")).schema
    assert live["order_id"].metadata["comment"] == "The order's number"
    assert not live["order_id"].nullable


def test_refusals_come_before_any_change_and_all_together(spark: SparkSession, settings: Any) -> None:
    fx, accounts = contracts.load("silver.fx_rates"), contracts.load("silver.salesforce_accounts")
    apply_contracts(spark, settings, [ORDERS, fx])
    narrower = dataclasses.replace(
        fx,
        columns=tuple(
            dataclasses.replace(column, type="decimal(20,6)") if column.type == "decimal(20,12)" else column
            for column in fx.columns
        ),
    )
    with pytest.raises(ContractError) as refused:
        apply_contracts(spark, settings, [extended(), narrower, accounts])
    assert [violation.where for violation in refused.value.violations] == [
        "silver.fx_rates.ccy_per_eur",
        "silver.fx_rates.usd_per_eur",
        "silver.fx_rates.rate_to_base",
    ]
    head = log_head(spark, settings.table_uri("silver.orders"))
    assert head is not None
    assert head.version == 0
    assert log_head(spark, settings.table_uri("silver.salesforce_accounts")) is None


class TestMigrations:
    """Changes that somebody wrote down."""

    relaxed = dataclasses.replace(
        ORDERS,
        version="2.0.0",
        columns=tuple(
            dataclasses.replace(column, required=False) if column.name == "amount" else column
            for column in ORDERS.columns
        ),
    )
    migration = Migration(
        "amount_may_be_missing", "silver.orders", "1.0.0", "2.0.0", "Free orders have no amount", ("amount",),
        ("ALTER TABLE {table} ALTER COLUMN amount DROP NOT NULL",),
    )  # fmt: skip

    def test_it_runs_once_and_leads_to_the_contract(self, spark: SparkSession, settings: Any) -> None:
        apply_contracts(spark, settings, [ORDERS])
        with pytest.raises(ContractError, match="NOT NULL"):
            apply_contracts(spark, settings, [self.relaxed])
        (change,) = apply_contracts(spark, settings, [self.relaxed], [self.migration])
        assert change.steps[0] == "migrated by amount_may_be_missing: Free orders have no amount"
        assert spark.read.format("delta").load(settings.table_uri("silver.orders")).schema["amount"].nullable
        assert apply_contracts(spark, settings, [self.relaxed], [self.migration])[0].action == "unchanged"

    def test_killed_in_between_it_runs_again(self, spark: SparkSession, settings: Any) -> None:
        apply_contracts(spark, settings, [ORDERS])
        spark.sql(self.migration.statements[0].format(table=ddl.target(settings.table_uri("silver.orders"))))
        (change,) = apply_contracts(spark, settings, [self.relaxed], [self.migration])
        assert change.steps[-1] == "set lakehouse.contract_version"

    def test_one_that_does_not_keep_its_word_is_refused(self, spark: SparkSession, settings: Any) -> None:
        apply_contracts(spark, settings, [ORDERS])
        idle = dataclasses.replace(self.migration, statements=("DESCRIBE DETAIL {table}",))
        with pytest.raises(ContractError, match="after amount_may_be_missing the table still differs"):
            apply_contracts(spark, settings, [self.relaxed], [idle])
        head = log_head(spark, settings.table_uri("silver.orders"))
        assert head is not None
        assert head.properties[ddl.VERSION_PROPERTY] == "1.0.0"


def test_foreign_files_in_a_table_s_place_are_not_touched(
    spark: SparkSession, settings: Any, tmp_path: Path
) -> None:
    (tmp_path / "silver" / "orders").mkdir(parents=True)
    (tmp_path / "silver" / "orders" / "orders.csv").write_text("id\n1\n")
    with pytest.raises(ContractError, match="holds files but no Delta table"):
        apply_contracts(spark, settings, [ORDERS])


def test_two_runs_at_once_make_one_table(spark: SparkSession, settings: Any) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            apply_contracts(spark, settings, [ORDERS])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error).__name__ for error in failures] in ([], ["CommitConflict"])
    head = log_head(spark, settings.table_uri("silver.orders"))
    assert head is not None
    assert head.version == 0


def test_a_property_goes_with_the_contract_s_wish(spark: SparkSession, settings: Any) -> None:
    personal = dataclasses.replace(
        ORDERS,
        columns=tuple(dataclasses.replace(each, classification="personal") for each in ORDERS.columns),
    )
    key = "delta.dataSkippingStatsColumns"
    apply_contracts(spark, settings, [personal], [])
    head = log_head(spark, settings.table_uri(ORDERS.name))
    assert head is not None
    assert key in head.properties
    (change,) = apply_contracts(spark, settings, [ORDERS], [])
    assert change.steps == (f"took away {key}",)
    head = log_head(spark, settings.table_uri(ORDERS.name))
    assert head is not None
    assert key not in head.properties
    (change,) = apply_contracts(spark, settings, [ORDERS], [])
    assert change.action == "unchanged"
