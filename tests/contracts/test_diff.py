"""What a change of a contract does to those who rely on it."""

from __future__ import annotations

import dataclasses

import pytest

from lakehouse import contracts
from lakehouse.contracts import Column, Contract
from lakehouse.contracts.diff import diff, is_breaking
from tests.contracts import own

OLD = own.load("silver.orders")


def column(**fields: object) -> Contract:
    """The contract with ``amount`` changed."""
    return dataclasses.replace(
        OLD,
        columns=tuple(
            dataclasses.replace(each, **fields) if each.name == "amount" else each  # type: ignore[arg-type]
            for each in OLD.columns
        ),
    )


def rule(name: str, **fields: object) -> Contract:
    def replaced(each: object) -> object:
        return dataclasses.replace(each, **fields) if each.name == name else each  # type: ignore[attr-defined,type-var]

    return dataclasses.replace(
        OLD,
        row_rules=tuple(replaced(each) for each in OLD.row_rules),  # type: ignore[misc]
        set_rules=tuple(replaced(each) for each in OLD.set_rules),  # type: ignore[misc]
    )


def added(required: bool) -> Contract:
    new = Column("channel", "string", "string", required, "internal", "Sales channel")
    return dataclasses.replace(OLD, columns=(*OLD.columns, new))


def test_nothing_changed() -> None:
    assert diff(OLD, OLD) == ()


def without_rule(name: str) -> Contract:
    return dataclasses.replace(OLD, set_rules=tuple(each for each in OLD.set_rules if each.name != name))


@pytest.mark.parametrize(
    ("new", "impact", "what"),
    [
        pytest.param(added(False), "compatible", "nullable column added", id="nullable column"),
        pytest.param(added(True), "breaking", "required column added", id="required column"),
        pytest.param(dataclasses.replace(OLD, columns=OLD.columns[:-1]), "breaking", "column removed", id="removed"),
        pytest.param(column(type="string"), "breaking", "type decimal(18,2) became string", id="type"),
        pytest.param(column(required=False), "breaking", "may be null now", id="nullable"),
        pytest.param(column(classification="personal"), "breaking", "classification internal became personal",
                     id="classified upwards"),
        pytest.param(column(classification="public"), "compatible", "classification internal became public",
                     id="classified downwards"),
        pytest.param(column(description="Value"), "compatible", "description", id="description"),
        pytest.param(dataclasses.replace(OLD, key=("order_id",)), "breaking",
                     "key (order_id, event_ts) became (order_id)", id="key"),
        pytest.param(dataclasses.replace(OLD, partition_by=()), "breaking", "partitioning (event_month) became ()",
                     id="partitioning"),
        pytest.param(dataclasses.replace(OLD, zorder_by=("customer_id",)), "compatible",
                     "ZORDER (order_id) became (customer_id)", id="zorder"),
        pytest.param(dataclasses.replace(OLD, retention=contracts.Retention(10, 60)), "breaking",
                     "deleted files kept 10 days, before 30", id="shorter retention"),
        pytest.param(rule("volume", min_rows=0), "compatible", "rule changed", id="laxer threshold"),
        pytest.param(rule("volume", min_rows=5), "breaking", "rule changed", id="stricter threshold"),
        pytest.param(rule("freshness", severity="critical"), "breaking", "rule changed", id="now critical"),
        pytest.param(rule("amount_not_negative", predicate="amount > 0"), "breaking", "rule changed", id="condition"),
        pytest.param(without_rule("volume"), "compatible", "warning rule removed", id="rule removed"),
        pytest.param(without_rule("unique_key"), "breaking", "critical rule removed", id="critical rule removed"),
        pytest.param(rule("unique_key", severity="warning"), "breaking", "rule changed", id="only a warning now"),
        pytest.param(rule("amount_not_negative", max_share=0.5), "breaking", "rule changed", id="half may break it"),
        pytest.param(rule("status_known", predicate="`status` IN ('CANCELLED', 'PAID', 'PLACED', 'SHIPPED')"),
                     "compatible", "rule changed", id="values in another order"),
        pytest.param(rule("status_known", predicate="`status` IN ('PAID', 'PLACED', 'SHIPPED')"),
                     "breaking", "rule changed", id="a value gone"),
        pytest.param(column(max_length=9), "breaking", "at most 9 characters, before any number of", id="length"),
        pytest.param(column(derived_from=OLD.column("amount").derived_from[:1]), "breaking",
                     "no longer made of bronze.kafka_orders.amount", id="a source gone"),
        pytest.param(dataclasses.replace(OLD, deletion_vectors=True), "breaking", "deletion vectors on",
                     id="deletion vectors"),
        pytest.param(dataclasses.replace(OLD, sla=contracts.Sla(7)), "breaking",
                     "new rows every 7 days, before 1 days", id="rarer"),
        pytest.param(dataclasses.replace(OLD, sla=contracts.Sla(1, "06:00")), "compatible",
                     "available by 06:00, before none", id="earlier"),
        pytest.param(dataclasses.replace(OLD, content_hash="x"), "compatible",
                     "written differently: order of entries, or tags", id="tags"),
    ],
)  # fmt: skip
def test_a_change_is_classified(new: Contract, impact: str, what: str) -> None:
    changes = diff(OLD, new)
    assert [(change.impact, change.what) for change in changes] == [(impact, what)]
    assert is_breaking(changes) == (impact == "breaking")


def test_breaking_changes_come_first() -> None:
    new = dataclasses.replace(added(False), partition_by=(), zorder_by=())
    assert [change.impact for change in diff(OLD, new)] == ["breaking", "compatible", "compatible"]


@pytest.mark.parametrize(
    ("before", "after", "impact"),
    [
        ("personal", "internal", "breaking"),
        ("personal", "public", "breaking"),
        ("public", "personal", "breaking"),
        ("public", "internal", "breaking"),
        ("internal", "public", "compatible"),
    ],
)
def test_nobody_loses_protection_or_access_without_notice(before: str, after: str, impact: str) -> None:
    changes = diff(column(classification=before), column(classification=after))
    assert [str(each) for each in changes] == [
        f"{impact}: silver.orders.amount: classification {before} became {after}"
    ]


BRONZE = contracts.load("bronze.fx_rates")


def tolerating(contract: Contract, share: float) -> Contract:
    """The contract with another share for the rules that follow from its columns (Bronze: the business's)."""
    on_failure = "quarantine" if contract.layer == "bronze" else "stop"
    return dataclasses.replace(
        contract,
        row_rules=tuple(
            dataclasses.replace(each, max_share=share)
            if each.kind in ("not_null", "parses", "max_length") and each.on_failure == on_failure
            else each
            for each in contract.row_rules
        ),
    )


def test_how_many_rows_may_break_the_rules_of_columns_is_said_once_a_table() -> None:
    lax, strict = tolerating(BRONZE, 0.05), tolerating(BRONZE, 0.0)
    (change,) = diff(lax, strict)
    assert (change.impact, change.where) == ("breaking", "bronze.fx_rates")
    assert change.what == (
        "rules that follow from columns: quarantine, critical from 0.00% of a run's rows, "
        "before quarantine, critical from 5.00% of a run's rows"
    )
    assert [each.impact for each in diff(strict, lax)] == ["compatible"]
    assert [each.impact for each in diff(OLD, tolerating(OLD, 0.05))] == ["breaking"]


@pytest.mark.parametrize(
    ("table", "impact"), [("bronze.fx_rates", "breaking"), ("bronze.kafka_orders", "compatible")]
)
def test_a_column_of_a_source_s_field_is_breaking_where_landings_lack_the_field(
    table: str, impact: str
) -> None:
    old = contracts.load(table)
    new = Column("note", "string", "string", False, "internal", "Note", source_field="note")
    (change,) = diff(old, dataclasses.replace(old, columns=(*old.columns, new)))
    assert change.impact == impact
