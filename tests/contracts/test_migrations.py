"""Plans: what is done without asking, what a migration covers, what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from lakehouse import contracts
from lakehouse.contracts import Column, Contract, ddl
from lakehouse.contracts.migrations import (
    LiveColumn,
    LiveTable,
    Migration,
    Plan,
    live_columns,
    parse_registry,
    plan,
    refuse,
)
from lakehouse.errors import ContractError

CONTRACT = contracts.load("gold.dim_customers")


def live(contract: Contract = CONTRACT) -> LiveTable:
    """The table that obeys a contract."""
    return LiveTable(
        columns=tuple(
            LiveColumn(column.name, column.type, column.required, column.description)
            for column in contract.columns
        ),
        partition_by=contract.partition_by,
        properties=ddl.properties(contract) | {"delta.minReaderVersion": "1"},
    )


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
