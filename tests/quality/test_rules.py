"""Row rules on landed text: every rule refuses its row and says why; personal values are not shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.contracts import Contract, RowRule
from lakehouse.errors import ContractViolation
from lakehouse.landing import Manifest
from lakehouse.quality import rules
from lakehouse.session import local_frame
from tests.quality.support import NOON

TEXT = {"int": "7", "bigint": "7", "boolean": "true", "date": "2026-01-02"}
GOOD_TEXT = {"status": "PLACED", "currency": "EUR", "ccy": "USD", "publication": "daily"}
# Fields that break a rule written in the contract; those that follow from a column's definition are made up.
BREAKING: dict[str, dict[str, str]] = {
    "amount_not_negative": {"amount": "-0.01"},
    "cost_not_negative": {"cost": "-0.01"},
    "weight_not_negative": {"weight_kg": "-0.001"},
    "rate_positive": {"ccy_per_eur": "0"},
    "ccy_is_iso": {"ccy": "usd"},
    "status_known": {"status": "paid"},
    "currency_known": {"currency": "XXX"},
}
BLANKS = (
    "",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\x00",
    "\u00a0",
    "\u2028",
    "\u200b",
    "\ufeff",
    "\u3000",
    " \u3164\u2800",
)
BRONZE = contracts.load_all("bronze")
# Columns that Kafka gives itself, in the order of its contract.
RECORD = {"topic": "orders", "partition": 0, "offset": 5, "broker_ts": NOON, "key": b"k", "value": b"{}"}


def good_fields(contract: Contract) -> dict[str, str | None]:
    fields: dict[str, str | None] = {}
    for column in contract.columns:
        if column.source_field is None:
            continue
        if column.type == "timestamp":
            text = "2026-01-02 03:04:05" if column.timezone else "2026-01-02T03:04:05.123Z"
        else:
            text = TEXT.get(column.type) or GOOD_TEXT.get(column.name, "1.50")
        if contract.table == "vendor_shipments" and column.name == "status":
            text = "CREATED"
        fields[column.source_field] = text
    return fields


def landed(spark: SparkSession, contract: Contract, rows: list[Mapping[str, str | None] | None]) -> DataFrame:
    """Rows as flows.landed gives them."""
    record = {
        name: value
        for name, value in RECORD.items()
        if name in contract.column_names and contract.table == "kafka_orders"
    }
    types = ", ".join(f"`{name}` {contract.column(name).type}" for name in record)
    schema = "fields map<string,string>, payload string, _position string" + (f", {types}" if types else "")
    data = [
        (fields, json.dumps(fields), f"{index:03d}", *record.values()) for index, fields in enumerate(rows)
    ]
    return local_frame(spark, data, schema).withColumns(
        {
            "_run_id": F.lit("run"),
            "_source": F.lit("source"),
            "_landed_at": F.lit(NOON),
            "ingest_date": F.lit(date(2026, 1, 2)),
        }
    )


def manifest(contract: Contract, fields: list[str], rows: int, source: str = "source") -> Manifest:
    return Manifest(
        source=source,
        table=contract.table,
        run_id="run",
        window_from=None,
        window_to=NOON,
        landed_at=NOON,
        files=(),
        rows=rows,
        fields=dict.fromkeys(fields, rows),
    )


def breaking_fields(contract: Contract, rule: RowRule) -> dict[str, str | None]:
    column = contract.column(rule.columns[0])
    assert column.source_field is not None
    if rule.kind == "not_null":
        return {column.source_field: None}
    if rule.kind == "parses":
        return {column.source_field: "12,5 oops"}
    if rule.kind == "max_length":
        return {column.source_field: "x" * ((column.max_length or 0) + 1)}
    changed = BREAKING[rule.name]
    return {contract.column(name).source_field or name: text for name, text in changed.items()}


def test_why_a_record_is_malformed_quotes_nothing_of_it(spark: SparkSession) -> None:
    contract = contracts.load("bronze.vendor_shipments")
    said = {
        "12 cells, expected 10": "12 cells, expected 10",
        "text behind a closing quote": "text behind a closing quote",
        "a quote that is never closed; bytes that are not UTF-8": (
            "a quote that is never closed; bytes that are not UTF-8"
        ),
        # As landings of earlier releases have it.
        "12 cells, expected 10; surplus: 'Jane Roe', 'jane@example.com'": "12 cells, expected 10",
        "3 cells, expected 10; bytes that are not UTF-8": "3 cells, expected 10; bytes that are not UTF-8",
        "the value has more than 1000 bytes": "the value has more than 1000 bytes",
        "Jane Roe": "J***",
        "3 cells, expected 10; Jane Roe": "3***",
    }
    rows: list[Mapping[str, str | None] | None] = [{"_malformed": why, "_surplus": "'Jane'"} for why in said]
    split = rules.split(landed(spark, contract, rows), contract).orderBy("_position").collect()
    assert [row["_reasons"] for row in split] == [
        [f"malformed: {shown}; expected: one object of named fields"] for shown in said.values()
    ]
    shown = landed(spark, contract, rows).select(rules.show_fields(F.col("fields"), contract).alias("fields"))
    assert [row["fields"]["_malformed"] for row in shown.collect()] == list(said.values())
    assert {row["fields"]["_surplus"] for row in shown.collect()} == {"'***"}


@pytest.mark.parametrize("contract", BRONZE, ids=lambda contract: contract.table)
def test_every_rule_refuses_its_row_and_no_other(spark: SparkSession, contract: Contract) -> None:
    judged = [
        rule
        for rule in contract.row_rules
        if rule.on_failure == "quarantine" and contract.column(rule.columns[0]).source_field is not None
    ]
    good = good_fields(contract)
    rows: list[Mapping[str, str | None] | None] = [
        good,
        *[good | breaking_fields(contract, rule) for rule in judged],
    ]
    # Blank text in a required column is no value: of the first, which is a key, in every form.
    required = [rule for rule in judged if rule.kind == "not_null"]
    blank = [required[0]] * len(BLANKS) + required[1:]
    texts = [*BLANKS, *["  "] * (len(required) - 1)]
    rows += [
        good | {contract.column(rule.columns[0]).source_field or "": text}
        for rule, text in zip(blank, texts, strict=True)
    ]
    rows += [None, {"_malformed": "the value is not a JSON object"}]
    split = rules.split(landed(spark, contract, rows), contract).persist()
    try:
        found = {row["_position"]: row for row in split.collect()}
        stats = split.agg(*rules.batch_metrics(split, contract)).head()
    finally:
        split.unpersist()

    about = {rule.name: rule.columns for rule in contract.row_rules}
    for index, rule in enumerate([*judged, *blank], 1):
        row = found[f"{index:03d}"]
        assert rule.name in row["_broken"]
        # A text that is too long, or blank, is none of the known ones either: the same column, another rule.
        assert all(set(about[name]) & set(rule.columns) for name in row["_broken"])
        [reason] = [reason for reason in row["_reasons"] if reason.startswith(f"{rule.name}: ")]
        assert reason.startswith(f"{rule.name}: {rule.columns[0]} ")
        assert reason.endswith(f"expected: {rule.message}")
    assert found["000"]["_broken"] == []
    for index in (1, 2):
        assert found[f"{len(rows) - index:03d}"]["_broken"] == [rules.MALFORMED]
    assert found["000"]["_reasons"] == []
    assert all(found["000"][name] is not None for name in contract.column_names)

    assert stats is not None
    assert stats["rows"] == len(rows)
    assert stats["bad"] == len(rows) - 1
    assert stats["rule:malformed"] == 2
    for rule in judged:
        assert stats[f"rule:{rule.name}"] >= 1
    assert rules.refusals(contract, manifest(contract, list(good), len(rows)), stats.asDict()) == ()


def test_a_row_has_all_its_reasons_and_shows_no_person(spark: SparkSession) -> None:
    contract = contracts.load("bronze.hubspot_contacts")
    fields = good_fields(contract) | {
        "id": None,
        "createdate": "yesterday\u0007" + "!" * 200,
        "email": "jane.doe@example.com" * 20,
        "phone": "5" * 2000,
    }
    [row] = rules.split(landed(spark, contract, [fields]), contract).collect()
    text = "\n".join(row["_reasons"])
    assert row["_broken"] == ["id_not_null", "createdate_parses", "email_max_length", "phone_max_length"]
    assert "email received 'j***'" in text
    assert "phone received '5***'" in text
    assert "jane" not in text
    assert "id received nothing" in text
    assert "createdate received 'yesterday?" in text
    assert "…'" in text


def test_a_field_of_another_name_is_named(spark: SparkSession) -> None:
    contract = contracts.load("bronze.vendor_shipments")
    fields = good_fields(contract) | {"shipped_local": "2026-10-25 02:30:00"}
    [row] = rules.split(landed(spark, contract, [fields]), contract).collect()
    [reason] = row["_reasons"]
    assert reason.startswith(
        "shipped_at_parses: shipped_at (field shipped_local) received '2026-10-25 02:30:00'"
    )
    assert "Europe/Berlin" in reason


def test_the_payload_hash_is_one_of_values(spark: SparkSession) -> None:
    contract = contracts.load("bronze.snowflake_orders")
    good = good_fields(contract)
    same = good | {"AMOUNT": "1.5", "EVENT_TS": "2026-01-02T04:04:05.000+01:00"}
    other = [good | {"AMOUNT": "1.51"}, good | {"CUSTOMER_ID": None}, good | {"CUSTOMER_ID": ""}]
    rows = rules.split(landed(spark, contract, [good, same, *other]), contract).orderBy("_position").collect()
    hashes = [row["_payload_hash"] for row in rows]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[1:])) == 4
    values = {
        "amount": "1.50",
        "currency": "EUR",
        "customer_id": "1.50",
        "delivered_at": "1767323045000000",
        "event_ts": "1767323045000000",
        "loaded_at": "1767323045000000",
        "order_id": "1.50",
        "shipped_at": "1767323045000000",
        "status": "PLACED",
    }
    canonical = json.dumps(values, separators=(",", ":"))
    assert hashes[0] == hashlib.sha256(canonical.encode()).hexdigest()


def test_samples_are_masked_and_few(spark: SparkSession) -> None:
    contract = contracts.load("bronze.salesforce_leads")
    rows: list[Mapping[str, str | None] | None] = [
        good_fields(contract) | {"Id": f"{index}", "LastName": name, "Email": None}
        for index, name in enumerate(["Doe", "Li", "Ñandú", "Smith", "Z"])
    ]
    split = rules.split(landed(spark, contract, rows), contract)
    found = rules.samples(split, contract, F.col("lastname") != "Doe")
    assert [(row["id"], row["lastname"]) for row in found] == [("1", "***"), ("2", "Ñ***"), ("3", "S***")]
    assert "email" not in found[0]
    assert "_payload_hash" not in found[0]


def stats_of(contract: Contract, rows: int, **changed: int) -> dict[str, Any]:
    """Metrics of a batch in which every value is there, but for those changed (``values__x=0``)."""
    columns = [column.name for column in contract.columns if column.source_field]
    stats: dict[str, Any] = {"rows": rows, "bad": 0, "rule:malformed": 0}
    stats |= {f"values:{name}": rows for name in columns} | {f"rule:{name}_parses": 0 for name in columns}
    return stats | {key.replace("__", ":"): value for key, value in changed.items()}


def test_a_batch_is_refused_with_everything_that_is_wrong() -> None:
    contract = contracts.load("bronze.snowflake_orders")
    fields = [field for field in good_fields(contract) if field not in ("AMOUNT", "SHIPPED_AT")]
    stats = stats_of(
        contract, 100, values__amount=0, values__event_ts=0, rule__event_ts_parses=100, values__status=0
    )
    with pytest.raises(ContractViolation) as caught:
        rules.require_contract(contract, manifest(contract, fields, 100), stats)
    assert {violation.where for violation in caught.value.violations} == {
        f"bronze.snowflake_orders.{name}" for name in ("amount", "shipped_at", "event_ts", "status")
    }
    assert "nothing was written" in caught.value.message
    assert "no field AMOUNT" in caught.value.message
    assert "schema_definitions/bronze/snowflake_orders.yaml" in caught.value.hint


def test_few_unreadable_values_are_single_bad_rows() -> None:
    contract = contracts.load("bronze.snowflake_orders")
    stats = stats_of(contract, 9, values__amount=0, rule__amount_parses=9)
    rules.require_contract(contract, manifest(contract, list(good_fields(contract)), 9), stats)


def test_an_empty_batch_is_fine() -> None:
    contract = contracts.load("bronze.snowflake_orders")
    rules.require_contract(contract, manifest(contract, [], 0), stats_of(contract, 0))


def test_messages_of_a_topic_declare_no_fields() -> None:
    contract = contracts.load("bronze.kafka_orders")
    rules.require_contract(
        contract,
        manifest(contract, ["value"], 50, source="kafka"),
        stats_of(contract, 50, values__shipped_at=0),
    )
    stats = stats_of(contract, 50, values__amount=0)
    with pytest.raises(ContractViolation, match="no value in 50 rows"):
        rules.require_contract(contract, manifest(contract, [], 50, source="kafka"), stats)


def test_fields_beyond_the_contract_are_listed() -> None:
    contract = contracts.load("bronze.fx_rates")
    found = manifest(contract, [*good_fields(contract), "surprise", "_position"], 1)
    assert rules.unknown_fields(contract, found) == ("surprise",)
