"""What a change of a contract does to those who rely on it."""

from __future__ import annotations

import dataclasses

import pytest

from lakehouse import contracts
from lakehouse.contracts import Column, Contract
from lakehouse.contracts.diff import diff, is_breaking

OLD = contracts.load("silver.orders")


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
        pytest.param(dataclasses.replace(OLD, set_rules=OLD.set_rules[1:]), "compatible", "rule removed",
                     id="rule removed"),
    ],
)  # fmt: skip
def test_a_change_is_classified(new: Contract, impact: str, what: str) -> None:
    changes = diff(OLD, new)
    assert [(change.impact, change.what) for change in changes] == [(impact, what)]
    assert is_breaking(changes) == (impact == "breaking")


def test_breaking_changes_come_first() -> None:
    new = dataclasses.replace(added(False), partition_by=(), zorder_by=())
    assert [change.impact for change in diff(OLD, new)] == ["breaking", "compatible", "compatible"]
