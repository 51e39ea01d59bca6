"""Thresholds that an environment changes: {table: {rule: {max_share | min | max | severity}}}."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from lakehouse.contracts import loader
from lakehouse.contracts.model import Contract, RowRule, SetRule, Severity
from lakehouse.errors import ContractError, Violation

Overrides = Mapping[str, Mapping[str, Mapping[str, Any]]]

_FIELDS: dict[str, dict[str, str]] = {
    "row": {"max_share": "max_share"},
    "unique": {},
    "duplicates": {"max_share": "max_share"},
    "referential": {"max_share": "max_share"},
    "jump": {"max_share": "max_share"},
    "rejected": {"max_share": "max_share"},
    "volume": {"min": "min_rows", "max": "max_rows"},
    "freshness": {"max": "max_age_hours"},
}


def apply(contract: Contract, overrides: Overrides) -> Contract:
    """``contract`` with its thresholds replaced; refuses unknown tables and this table's unknown rules."""
    violations = _unknown_tables(overrides)
    changed, faults = _changed(contract, overrides.get(contract.name) or {})
    _refuse(violations + faults)
    return dataclasses.replace(
        contract,
        row_rules=tuple(_as_row(changed.get(rule.name, rule)) for rule in contract.row_rules),
        set_rules=tuple(_as_set(changed.get(rule.name, rule)) for rule in contract.set_rules),
    )


def check(overrides: Overrides) -> None:
    """Refuse everything in ``overrides`` that no contract knows, of all tables at once."""
    violations = _unknown_tables(overrides)
    for name in overrides:
        if name in loader.names():
            violations += _changed(loader.load(name), overrides[name] or {})[1]
    _refuse(violations)


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise ContractError(
            "threshold overrides do not fit the contracts",
            hint="correct config/dq_thresholds.yaml; `make table T=<table>` lists a table's rules",
            violations=tuple(violations),
        )


def _unknown_tables(overrides: Overrides) -> list[Violation]:
    known = loader.names()
    return [
        Violation(f"dq_thresholds: {name}", "an unknown table", f"one of {', '.join(known)}")
        for name in overrides
        if name not in known
    ]


def _changed(
    contract: Contract, wanted: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, RowRule | SetRule], list[Violation]]:
    changed: dict[str, RowRule | SetRule] = {}
    violations: list[Violation] = []
    rules = {rule.name: rule for rule in contract.rules}
    for rule_name, values in wanted.items():
        where = f"dq_thresholds: {contract.name}.{rule_name}"
        rule = rules.get(rule_name)
        if rule is None:
            violations.append(Violation(where, "an unknown rule", f"one of {', '.join(rules)}"))
            continue
        if not isinstance(values, Mapping):
            violations.append(Violation(where, repr(values), "a mapping of thresholds"))
            continue
        fields = {"severity": "severity", **_FIELDS["row" if isinstance(rule, RowRule) else rule.kind]}
        replaced: dict[str, Any] = {}
        for key, value in values.items():
            if key not in fields:
                violations.append(
                    Violation(f"{where}.{key}", "an unknown threshold", f"one of {', '.join(fields)}")
                )
                continue
            expected = _expected(fields[key], value)
            if expected:
                violations.append(Violation(f"{where}.{key}", repr(value), expected))
            else:
                replaced[fields[key]] = value
        changed[rule_name] = dataclasses.replace(rule, **replaced)
    return changed, violations


def _expected(field: str, value: object) -> str | None:
    """What a threshold should have been, or None where it is that."""
    if field == "severity":
        return None if value in get_args(Severity) else f"one of {', '.join(get_args(Severity))}"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if field == "max_share":
        return None if number and 0 <= value <= 1 else "a share between 0 and 1"  # type: ignore[operator]
    if field == "max_age_hours":
        return None if number and value >= 0 else "a number of hours of at least 0"  # type: ignore[operator]
    return None if number and isinstance(value, int) and value >= 0 else "a whole number of at least 0"


def _as_row(rule: RowRule | SetRule) -> RowRule:
    assert isinstance(rule, RowRule)
    return rule


def _as_set(rule: RowRule | SetRule) -> SetRule:
    assert isinstance(rule, SetRule)
    return rule
