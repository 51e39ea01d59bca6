"""Every contract file is valid ODCS and keeps the house rules of columns, keys, types and rules."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import jsonschema
import pytest
import yaml

from lakehouse import contracts
from lakehouse.contracts import Contract, RowRule, SetRule

TABLES = {
    "bronze": {
        "hubspot_contacts", "salesforce_accounts", "salesforce_leads", "snowflake_orders", "kafka_orders",
        "vendor_shipments", "fx_rates",
    },
    "silver": {
        "orders", "fx_rates", "salesforce_accounts", "salesforce_leads", "hubspot_contacts", "vendor_shipments",
    },
    "gold": {"dim_customers", "dim_fx", "fact_orders"},
    "ops": {
        "dq_verdicts", "quarantine", "kafka_orders_dlq", "row_ledger", "job_runs", "maintenance_log",
        "publications", "recovery_log", "reconciliations", "watch_findings",
    },
}  # fmt: skip
BRONZE_SYSTEM = ("_run_id", "_source", "_landed_at", "_position", "_payload_hash", "ingest_date")
SILVER_SYSTEM = {"_source_rank", "_source_position", "_landed_at", "_payload_hash", "_run_id"}
IDS = re.compile(r"(^|_)id$|accountid$|^(run|publish|verdict|event)_id$")
MONEY = re.compile(r"^(amount|cost$)")
RATES = re.compile(r"_per_eur$|^rate_to_base$")
PERSONAL = re.compile(r"^(email|first_?name|last_?name|phone|payload|value|headers)$")

every_contract = pytest.mark.parametrize("contract", contracts.load_all(), ids=lambda each: each.name)
bronze_contracts = pytest.mark.parametrize(
    "contract", contracts.load_all("bronze"), ids=lambda each: each.name
)


def text_of(name: str) -> str:
    layer, table = name.split(".")
    return resources.files("schema_definitions").joinpath(layer, f"{table}.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def odcs_schema() -> Any:
    package = resources.files("open_data_contract_standard")
    schema = json.loads(package.joinpath("schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft201909Validator(schema)


def test_there_is_one_contract_for_each_table() -> None:
    assert {layer: {name.split(".")[1] for name in contracts.names(layer)} for layer in TABLES} == TABLES  # type: ignore[arg-type]


@every_contract
def test_it_is_valid_odcs(contract: Contract, odcs_schema: Any) -> None:
    faults = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
        for error in odcs_schema.iter_errors(yaml.safe_load(text_of(contract.name)))
    ]
    assert faults == []


def test_what_is_not_odcs_is_found(odcs_schema: Any) -> None:
    document = yaml.safe_load(text_of("silver.orders"))
    document["schema"][0]["properties"][0]["logicalType"] = "text"
    assert list(odcs_schema.iter_errors(document))


@every_contract
def test_files_have_one_shape(contract: Contract) -> None:
    document = yaml.safe_load(text_of(contract.name))
    assert list(document) == [
        "apiVersion", "kind", "id", "name", "version", "status", "domain", "description", "schema", "slaProperties",
    ]  # fmt: skip
    order = [
        "name", "description", "logicalType", "physicalType", "required", "primaryKey", "primaryKeyPosition",
        "partitioned", "partitionKeyPosition", "classification", "transformLogic", "transformSourceObjects",
        "logicalTypeOptions", "items", "customProperties",
    ]  # fmt: skip
    for item in document["schema"][0]["properties"]:
        assert list(item) == [key for key in order if key in item]


@every_contract
def test_every_column_says_what_it_is(contract: Contract) -> None:
    for column in contract.columns:
        assert column.description, column.name
        assert column.description[0].isupper() or column.description.startswith(
            ("amount_native", "terminal", "read", "passed", "open", "succeeded", "optimize")
        ), column.name
        assert column.classification in ("public", "internal", "personal"), column.name


@every_contract
def test_keys_are_required_columns(contract: Contract) -> None:
    assert contract.key
    for name in (*contract.key, *contract.partition_by):
        assert contract.column(name).required, name


@every_contract
def test_types_are_those_that_every_reader_understands(contract: Contract) -> None:
    for column in contract.columns:
        if IDS.search(column.name):
            assert column.type == "string", column.name
        if MONEY.match(column.name):
            assert column.type == "decimal(18,2)", column.name
        if RATES.search(column.name):
            assert column.type == "decimal(20,12)", column.name
        if contract.layer != "ops":
            assert column.type != "double", f"{column.name}: exact numbers only"


@every_contract
def test_personal_data_is_classified(contract: Contract) -> None:
    for column in contract.columns:
        assert column.is_personal == bool(PERSONAL.match(column.name)), column.name


@bronze_contracts
def test_bronze_ends_with_its_system_columns(contract: Contract) -> None:
    assert contract.column_names[-6:] == BRONZE_SYSTEM
    assert all(contract.column(name).required for name in BRONZE_SYSTEM)
    assert contract.partition_by == ("ingest_date",)
    assert [name for name in contract.column_names if contract.column(name).is_system] == list(BRONZE_SYSTEM)


@bronze_contracts
def test_bronze_columns_say_where_they_come_from(contract: Contract) -> None:
    envelope = {"topic", "partition", "offset", "broker_ts", "key", "value"}
    without = {column.name for column in contract.business_columns if column.source_field is None}
    assert without == (envelope if contract.name == "bronze.kafka_orders" else set())


@bronze_contracts
def test_only_bronze_refuses_rows_one_by_one(contract: Contract) -> None:
    assert [rule.kind for rule in contract.set_rules].count("rejected") == 1
    assert {rule.on_failure for rule in contract.row_rules if rule.columns[0] in BRONZE_SYSTEM} == {"stop"}


@pytest.mark.parametrize("contract", contracts.load_all("silver"), ids=lambda each: each.name)
def test_silver_ends_with_what_decides_between_rows(contract: Contract) -> None:
    assert set(contract.column_names[-5:]) == SILVER_SYSTEM


@pytest.mark.parametrize("contract", contracts.load_all("gold"), ids=lambda each: each.name)
def test_gold_rows_name_their_publication(contract: Contract) -> None:
    assert contract.column_names[-1] == "_publish_id"
    assert contract.column("_publish_id").required


@pytest.mark.parametrize(
    "contract", [*contracts.load_all("silver"), *contracts.load_all("gold")], ids=lambda each: each.name
)
def test_silver_and_gold_are_unique_by_key_and_stop_at_bad_rows(contract: Contract) -> None:
    unique = [rule for rule in contract.set_rules if rule.kind == "unique"]
    assert [(rule.columns, rule.severity) for rule in unique] == [(contract.key, "critical")]
    assert {rule.on_failure for rule in contract.row_rules} == {"stop"}
    assert {rule.max_share for rule in contract.row_rules} == {0.0}


@every_contract
def test_required_columns_and_lengths_give_their_rules(contract: Contract) -> None:
    derived = {(rule.kind, rule.columns) for rule in contract.row_rules}
    for column in contract.columns:
        assert (("not_null", (column.name,)) in derived) == column.required, column.name
        assert (("max_length", (column.name,)) in derived) == (column.max_length is not None), column.name
        parsed = column.source_field is not None and column.type != "string"
        assert (("parses", (column.name,)) in derived) == parsed, column.name


@every_contract
def test_references_lead_to_keys_of_tables_of_the_same_layer(contract: Contract) -> None:
    for rule in contract.set_rules:
        if rule.kind == "referential":
            assert rule.references is not None
            other = contracts.load(rule.references)
            assert other.layer == contract.layer
            types = [contract.column(name).type for name in rule.columns]
            assert types == [other.column(name).type for name in rule.referenced_columns]


@pytest.mark.parametrize(
    ("table", "name", "expected"),
    [
        ("silver.fx_rates", "ccy_not_null", "`ccy` IS NOT NULL"),
        ("silver.fx_rates", "unique_key", ("as_of_date", "ccy")),
        ("bronze.fx_rates", "ccy_not_null", "`ccy` IS NOT NULL"),
        ("bronze.fx_rates", "rate_positive", "ccy_per_eur > 0"),
        ("bronze.snowflake_orders", "order_id_not_null", "`order_id` IS NOT NULL"),
        ("bronze.snowflake_orders", "amount_not_negative", "amount >= 0"),
        ("bronze.kafka_orders", "status_known", "`status` IN ('PLACED', 'PAID', 'SHIPPED', 'CANCELLED')"),
        ("silver.orders", "unique_key", ("order_id", "event_ts")),
    ],
)
def test_the_rules_that_every_release_has(table: str, name: str, expected: object) -> None:
    rule = contracts.load(table).rule(name)
    assert rule.severity == "critical"
    assert (rule.predicate if isinstance(rule, RowRule) else rule.columns) == expected


def test_currencies_are_the_euro_and_what_the_ecb_quotes() -> None:
    rule = contracts.load("silver.orders").rule("currency_known")
    assert isinstance(rule, RowRule)
    listed = re.findall(r"'([A-Z]{3})'", rule.predicate)
    assert len(listed) == len(set(listed)) == 42
    assert {"EUR", "USD", "GBP", "CYP", "HRK", "RUB", "TRL", "BGN"} <= set(listed)


def test_an_empty_rate_feed_is_critical_and_a_day_without_orders_is_not() -> None:
    rates, orders = (
        contracts.load(name).rule("volume") for name in ("bronze.fx_rates", "bronze.snowflake_orders")
    )
    assert isinstance(rates, SetRule)
    assert isinstance(orders, SetRule)
    assert (rates.min_rows, rates.severity) == (1, "critical")
    assert (orders.min_rows, orders.severity) == (1, "warning")


def test_stream_fed_bronze_is_kept_for_a_shorter_time() -> None:
    assert contracts.load("bronze.kafka_orders").retention == contracts.Retention(14, 30)
    assert contracts.load("silver.orders").retention == contracts.Retention(30, 60)


def test_local_times_name_their_zone() -> None:
    shipments = contracts.load("bronze.vendor_shipments")
    assert shipments.column("shipped_at").timezone == "Europe/Berlin"
    assert shipments.column("shipped_at").source_field == "shipped_local"
    assert contracts.load("bronze.snowflake_orders").column("loaded_at").timezone == "UTC"
