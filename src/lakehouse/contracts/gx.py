"""Contract to Great Expectations: the only contract module that needs it.

Two suites say the same of a table. ``suite`` looks at the stored rows themselves, rule by rule, and is for audits.
``metrics_suite`` looks at one row that holds what a single pass has measured, and is for gates. Both carry the name
and kind of the rule in ``meta``, and neither knows where the data lies.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from great_expectations.core import ExpectationSuite
from great_expectations.expectations import (  # type: ignore[attr-defined]  # re-exported without __all__
    ExpectColumnMaxToBeBetween,
    ExpectColumnValueLengthsToBeBetween,
    ExpectColumnValuesToBeBetween,
    ExpectColumnValuesToBeUnique,
    ExpectColumnValuesToNotBeNull,
    ExpectCompoundColumnsToBeUnique,
    ExpectTableRowCountToBeBetween,
    UnexpectedRowsExpectation,
)
from great_expectations.expectations.expectation import Expectation

from lakehouse.contracts.model import Contract, RowRule, SetRule


def suite(contract: Contract, run_time: datetime | None = None) -> ExpectationSuite:
    """Expectations of the rows of a table.

    A stored row breaks no rule, so none has a tolerance: shares count what was refused before storing. Left out is
    what the stored rows cannot answer: raw values (``parses``), shares of a run, volume of a Bronze run, partners in
    other tables, jumps from row to row, and freshness without a ``run_time``.
    """
    expectations = [
        each for rule in contract.rules if (each := _native(contract, rule, run_time)) is not None
    ]
    return ExpectationSuite(name=contract.name, expectations=expectations)


def metrics_suite(contract: Contract) -> ExpectationSuite:
    """Expectations of one row with a column for each rule, of the rule's name, that holds the rule's measure.

    Measures and their limits: ``RowRule.limits``, ``SetRule.limits``. NULL (nothing to measure) breaks no rule.
    """
    return ExpectationSuite(
        name=f"{contract.name}.metrics",
        expectations=[
            ExpectColumnValuesToBeBetween(
                column=rule.name,
                min_value=rule.limits[0],
                max_value=rule.limits[1],
                **_common(rule),
            )
            for rule in contract.rules
        ],
    )


def _native(contract: Contract, rule: RowRule | SetRule, run_time: datetime | None) -> Expectation | None:
    if isinstance(rule, RowRule):
        return _row(contract, rule)
    common = _common(rule)
    match rule.kind:
        case "unique" if len(rule.columns) == 1:
            return ExpectColumnValuesToBeUnique(column=rule.columns[0], **common)
        case "unique":
            return ExpectCompoundColumnsToBeUnique(
                column_list=list(rule.columns), ignore_row_if="any_value_is_missing", **common
            )
        case "volume" if contract.layer != "bronze":
            return ExpectTableRowCountToBeBetween(min_value=rule.min_rows, max_value=rule.max_rows, **common)
        case "freshness" if run_time is not None and rule.max_age_hours is not None:
            oldest = (run_time - timedelta(hours=rule.max_age_hours)).replace(tzinfo=None)
            is_date = contract.column(rule.columns[0]).type == "date"
            least: datetime | date = oldest.date() if is_date else oldest
            return ExpectColumnMaxToBeBetween(column=rule.columns[0], min_value=least, **common)
        case _:
            return None


def _row(contract: Contract, rule: RowRule) -> Expectation | None:
    common = _common(rule)
    match rule.kind:
        case "parses":
            return None
        case "not_null":
            return ExpectColumnValuesToNotBeNull(column=rule.columns[0], **common)
        case "max_length":
            limit = contract.column(rule.columns[0]).max_length
            return ExpectColumnValueLengthsToBeBetween(column=rule.columns[0], max_value=limit, **common)
        case _:
            # GX fills {batch} by str.format: braces of the predicate itself have to be doubled.
            broken = rule.violation.replace("{", "{{").replace("}", "}}")
            return UnexpectedRowsExpectation(
                unexpected_rows_query=f"SELECT * FROM {{batch}} WHERE {broken}", **common
            )


def _common(rule: RowRule | SetRule) -> dict[str, Any]:
    meta = {"rule": rule.name, "kind": rule.kind, "message": rule.message}
    return {"severity": rule.severity, "meta": meta}
