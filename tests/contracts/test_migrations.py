"""Plans: what is done without asking, what a migration covers, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lakehouse import contracts
from lakehouse.contracts import Column, Contract, ddl
from lakehouse.contracts.migrations import (
    LiveColumn,
    LiveTable,
    Migration,
    Plan,
    live_columns,
    obeying,
    parse_registry,
    plan,
    read_registry,
    refuse,
)
from lakehouse.errors import ContractError

CONTRACT = contracts.load("gold.dim_customers")


def live(contract: Contract = CONTRACT) -> LiveTable:
    """The table that obeys a contract, with a property that is none of ours."""
    table = obeying(contract)
    return dataclasses.replace(table, properties={**table.properties, "delta.minReaderVersion": "1"})


def changed(*, version: str = "1.1.0", **columns: dict[str, object]) -> Contract:
    """The contract with fields of some columns replaced."""
    return dataclasses.replace(
        CONTRACT,
        version=version,
        columns=tuple(
            dataclasses.replace(column, **columns[column.name]) if column.name in columns else column  # type: ignore[arg-type]
            for column in CONTRACT.columns
        ),
    )


def with_column(column: Column, at: int) -> Contract:
    columns = list(CONTRACT.columns)
    columns.insert(at, column)
    return dataclasses.replace(CONTRACT, version="1.1.0", columns=tuple(columns))


SEGMENT = Column("segment", "string", "string", False, "internal", "Customer's segment")
TO_TEXT = Migration(
    "count_as_text", CONTRACT.name, "1.0.0", "1.1.0", "Counts are text now", ("contacts",), ("x",)
)


def test_a_table_that_obeys_needs_nothing() -> None:
    assert plan(CONTRACT, live(), []).is_empty


def test_a_nullable_column_is_added_where_the_contract_has_it() -> None:
    contract = with_column(SEGMENT, 3)
    result = plan(contract, live(), [])
    assert (result.add_columns, result.refusals, result.comments) == ((SEGMENT,), (), ())
    assert result.properties == {ddl.VERSION_PROPERTY: "1.1.0"}
    assert ddl.add_columns(contract, "s3://b/t", result.add_columns) == (
        r"ALTER TABLE delta.`s3://b/t` ADD COLUMNS (`segment` string COMMENT 'Customer\'s segment' AFTER `type`)"
    )


def test_several_columns_are_added_in_the_contract_s_order() -> None:
    second = dataclasses.replace(SEGMENT, name="region")
    columns = list(CONTRACT.columns)
    columns[2:2] = [SEGMENT, second]
    contract = dataclasses.replace(CONTRACT, columns=tuple(columns))
    assert "`segment` string COMMENT 'Customer\\'s segment' AFTER `name`, `region`" in ddl.add_columns(
        contract, "s3://b/t", plan(contract, live(), []).add_columns
    )


def test_descriptions_and_properties_follow_without_asking() -> None:
    contract = dataclasses.replace(
        changed(country={"description": "Where they are"}), retention=contracts.Retention(10, 20)
    )
    result = plan(contract, live(), [])
    assert [column.name for column in result.comments] == ["country"]
    assert result.properties == {
        "delta.deletedFileRetentionDuration": "interval 10 days",
        "delta.logRetentionDuration": "interval 20 days",
        ddl.VERSION_PROPERTY: "1.1.0",
    }


def test_statistics_of_a_column_that_becomes_personal_are_turned_off() -> None:
    result = plan(changed(country={"classification": "personal"}), live(), [])
    columns = result.properties["delta.dataSkippingStatsColumns"].split(",")
    assert "`id`" in columns
    assert "`country`" not in columns


def test_what_only_some_contracts_ask_for_goes_with_it() -> None:
    personal = changed(country={"classification": "personal"})
    nobody = dataclasses.replace(
        personal,
        columns=tuple(dataclasses.replace(each, classification="internal") for each in CONTRACT.columns),
    )
    result = plan(nobody, live(personal), [])
    assert (result.unset, result.is_empty) == (("delta.dataSkippingStatsColumns",), False)
    assert ddl.unset_properties("s3://b/t", result.unset) == (
        "ALTER TABLE delta.`s3://b/t` UNSET TBLPROPERTIES IF EXISTS ('delta.dataSkippingStatsColumns')"
    )


@pytest.mark.parametrize(
    ("contract", "where", "received", "expected"),
    [
        pytest.param(
            changed(contacts={"type": "int"}), "gold.dim_customers.contacts", "bigint NOT NULL", "int NOT NULL",
            id="narrower type",
        ),
        pytest.param(
            changed(name={"required": True}), "gold.dim_customers.name", "string", "string NOT NULL", id="stricter"
        ),
        pytest.param(
            changed(contacts={"required": False}), "gold.dim_customers.contacts", "bigint NOT NULL", "bigint",
            id="laxer",
        ),
        pytest.param(
            with_column(dataclasses.replace(SEGMENT, required=True), 3), "gold.dim_customers.segment",
            "no such column", "string NOT NULL: it cannot simply be added", id="required column added",
        ),
        pytest.param(
            dataclasses.replace(CONTRACT, columns=CONTRACT.columns[:-2] + CONTRACT.columns[-1:]),
            "gold.dim_customers.contacts", "bigint NOT NULL", "no such column", id="column removed",
        ),
        pytest.param(
            dataclasses.replace(CONTRACT, partition_by=("country",)), "gold.dim_customers partitioning", "none",
            "country", id="partitioned otherwise",
        ),
        pytest.param(
            dataclasses.replace(CONTRACT, version="0.9.0"), "gold.dim_customers",
            "a live table of contract version 1.0.0", "at most 0.9.0", id="code older than the table",
        ),
    ],
)  # fmt: skip
def test_anything_else_is_refused(contract: Contract, where: str, received: str, expected: str) -> None:
    result = plan(contract, live(), [])
    assert [(each.where, each.received, each.expected) for each in result.refusals] == [
        (where, received, expected)
    ]
    assert result == Plan(contract.name, refusals=result.refusals)


def test_refusals_of_all_tables_come_in_one_error() -> None:
    plans = [
        plan(changed(contacts={"type": "int"}, name={"required": True}), live(), []),
        plan(CONTRACT, dataclasses.replace(live(), columns=()), []),
    ]
    with pytest.raises(ContractError) as refused:
        refuse(plans)
    assert len(refused.value.violations) == 2 + 4  # the second lacks its four required columns
    refuse([plan(CONTRACT, live(), [])])


def test_a_migration_covers_the_columns_it_names() -> None:
    contract = changed(contacts={"type": "string"})
    assert plan(contract, live(), []).refusals
    result = plan(contract, live(), [TO_TEXT])
    assert (result.migrations, result.refusals) == ((TO_TEXT,), ())


@pytest.mark.parametrize(
    ("version", "due"),
    [("1.0.0", ["count_as_text", "second"]), ("1.1.0", ["second"]), ("1.2.0", [])],
)
def test_migrations_run_from_the_live_version_to_the_contract_s(version: str, due: list[str]) -> None:
    second = dataclasses.replace(TO_TEXT, name="second", from_version="1.1.0", to_version="1.2.0")
    later = dataclasses.replace(TO_TEXT, name="later", from_version="1.2.0", to_version="2.0.0")
    other = dataclasses.replace(TO_TEXT, name="other", table="gold.dim_fx")
    table = dataclasses.replace(live(), properties={ddl.VERSION_PROPERTY: version})
    result = plan(dataclasses.replace(CONTRACT, version="1.2.0"), table, [later, second, TO_TEXT, other])
    assert [migration.name for migration in result.migrations] == due


def test_versions_order_as_numbers() -> None:
    table = dataclasses.replace(live(), properties={ddl.VERSION_PROPERTY: "1.9.0"})
    assert not plan(dataclasses.replace(CONTRACT, version="1.10.0"), table, []).refusals


def test_a_table_of_unknown_origin_is_adopted_where_it_fits() -> None:
    result = plan(CONTRACT, dataclasses.replace(live(), properties={}), [TO_TEXT])
    assert (result.migrations, result.refusals) == ((), ())
    assert result.properties == ddl.properties(CONTRACT)


def test_the_log_s_schema_is_read_as_contracts_spell_it() -> None:
    schema = (
        '{"type":"struct","fields":['
        '{"name":"a","type":"long","nullable":false,"metadata":{"comment":"A"}},'
        '{"name":"b","type":"decimal(18,2)","nullable":true,"metadata":{}},'
        '{"name":"c","type":{"type":"array","elementType":"string","containsNull":true},"nullable":true,'
        '"metadata":{}},{"name":"d","type":"integer","nullable":true,"metadata":{}}]}'
    )
    assert live_columns(schema) == (
        LiveColumn("a", "bigint", True, "A"),
        LiveColumn("b", "decimal(18,2)", False),
        LiveColumn("c", "array<string>", False),
        LiveColumn("d", "int", False),
    )


def test_migration_files_are_read_and_refused_together() -> None:
    good = """
table: gold.dim_customers
from_version: 1.0.0
to_version: 2.0.0
reason: Contacts are counted elsewhere
columns: [contacts]
statements: ["ALTER TABLE {table} DROP COLUMN IF EXISTS contacts"]
"""
    (migration,) = parse_registry({"drop_contacts": good})
    assert (migration.name, migration.columns) == ("drop_contacts", ("contacts",))
    with pytest.raises(ContractError) as refused:
        parse_registry(
            {
                "a": "table: x",
                "b": good.replace("{table}", "gold.dim_customers"),
                "c": good.replace("2.0.0", "two"),
            }
        )
    assert [violation.where for violation in refused.value.violations] == [
        "schema_definitions/migrations/a.yaml",
        "schema_definitions/migrations/b.yaml: statements",
        "schema_definitions/migrations/c.yaml: to_version",
    ]


GOOD = """table: gold.dim_customers
from_version: 1.0.0
to_version: 2.0.0
reason: Contacts are counted elsewhere
columns: [contacts]
statements: ["ALTER TABLE {table} DROP COLUMN IF EXISTS contacts"]
"""


@pytest.mark.parametrize(
    ("old", "new", "where", "received"),
    [
        ("columns: [contacts]", "columns: null", "columns", "None"),
        ("columns: [contacts]", "columns: contacts", "columns", "'contacts'"),
        ("columns: [contacts]", "columns: [1]", "columns", "[1]"),
        ('["ALTER TABLE {table} DROP COLUMN IF EXISTS contacts"]', "ALTER TABLE x", "statements", "'ALTER TABLE x'"),
        ('["ALTER TABLE {table} DROP COLUMN IF EXISTS contacts"]', "[]", "statements", "none"),
        ("from_version: 1.0.0", "from_version: 1.0", "from_version", "1.0"),
        ("to_version: 2.0.0", "to_version: 0.9.0", "to_version", "0.9.0"),
        ("table: gold.dim_customers", "table: [gold]", "table", "['gold']"),
        ("reason: Contacts are counted elsewhere", "reason:", "reason", "None"),
    ],
)  # fmt: skip
def test_a_migration_of_wrong_types_is_refused_by_name(old: str, new: str, where: str, received: str) -> None:
    assert old in GOOD
    with pytest.raises(ContractError) as refused:
        parse_registry({"m": GOOD.replace(old, new)})
    (violation,) = refused.value.violations
    assert (violation.where, violation.received) == (
        f"schema_definitions/migrations/m.yaml: {where}",
        received,
    )


def test_files_that_are_no_yaml_or_no_utf8_are_refused_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("table: [")
    (tmp_path / "b.yaml").write_text(GOOD, encoding="utf-16")
    (tmp_path / "c.yaml").write_text("- 1")
    (tmp_path / "d.yaml").write_text("1: 2\ntable: x\n")
    (tmp_path / "notes.txt").write_text("no migration")
    with pytest.raises(ContractError) as refused:
        read_registry(tmp_path)
    assert {violation.where.rpartition("/")[2]: violation.expected for violation in refused.value.violations} == {
        "a.yaml": "YAML",
        "b.yaml": "text in UTF-8",
        "c.yaml": "exactly the keys columns, from_version, reason, statements, table, to_version",
        "d.yaml": "exactly the keys columns, from_version, reason, statements, table, to_version",
    }  # fmt: skip
    assert read_registry(tmp_path / "none") == ()


def test_a_change_of_rules_alone_needs_no_statement() -> None:
    text = GOOD.replace("[contacts]", "[]").replace(
        '["ALTER TABLE {table} DROP COLUMN IF EXISTS contacts"]', "[]"
    )
    (migration,) = parse_registry({"why": text})
    result = plan(dataclasses.replace(CONTRACT, version="2.0.0"), live(), [migration])
    assert (result.migrations, result.refusals) == ((migration,), ())
