"""What a change of a contract does to those who rely on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lakehouse.contracts.model import Contract, RowRule, SetRule

Impact = Literal["breaking", "compatible"]


@dataclass(frozen=True)
class Change:
    """One difference between two versions of a contract."""

    impact: Impact
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.impact}: {self.where}: {self.what}"


def diff(old: Contract, new: Contract) -> tuple[Change, ...]:
    """Every difference that a reader or a writer of the table can notice, breaking ones first.

    Breaking is what can make a query fail or mean something else: a column gone, of another type or now nullable,
    another key, partitioning or classification upwards. A stricter rule is breaking for the source that feeds it.
    """
    changes = [*_columns(old, new), *_table(old, new), *_rules(old, new)]
    return tuple(sorted(changes, key=lambda change: change.impact != "breaking"))


def is_breaking(changes: tuple[Change, ...]) -> bool:
    return any(change.impact == "breaking" for change in changes)


def _columns(old: Contract, new: Contract) -> list[Change]:
    changes: list[Change] = []
    before = {column.name: column for column in old.columns}
    after = {column.name: column for column in new.columns}
    for name, column in before.items():
        where = f"{new.name}.{name}"
        other = after.get(name)
        if other is None:
            changes.append(Change("breaking", where, "column removed"))
            continue
        if column.type != other.type:
            changes.append(Change("breaking", where, f"type {column.type} became {other.type}"))
        if column.required and not other.required:
            changes.append(Change("breaking", where, "may be null now"))
        if other.required and not column.required:
            changes.append(Change("breaking", where, "must have a value now; stored rows may have none"))
        if column.classification != other.classification:
            impact: Impact = "breaking" if other.is_personal else "compatible"
            changes.append(
                Change(impact, where, f"classification {column.classification} became {other.classification}")
            )
        if (column.source_field, column.timezone) != (other.source_field, other.timezone):
            changes.append(Change("breaking", where, "taken from another source field or zone"))
        if column.description != other.description:
            changes.append(Change("compatible", where, "description"))
    for name, column in after.items():
        if name not in before:
            changes.append(
                Change(
                    "breaking" if column.required else "compatible",
                    f"{new.name}.{name}",
                    "required column added" if column.required else "nullable column added",
                )
            )
    return changes


def _table(old: Contract, new: Contract) -> list[Change]:
    changes = [
        Change("breaking", new.name, f"{label} {_list(before)} became {_list(after)}")
        for label, before, after in (
            ("key", old.key, new.key),
            ("partitioning", old.partition_by, new.partition_by),
        )
        if before != after
    ]
    for label, days_before, days_after in (
        ("deleted files", old.retention.deleted_files_days, new.retention.deleted_files_days),
        ("log", old.retention.log_days, new.retention.log_days),
    ):
        if days_before != days_after:
            changes.append(
                Change(
                    "breaking" if days_after < days_before else "compatible",
                    new.name,
                    f"{label} kept {days_after} days, before {days_before}",
                )
            )
    if old.zorder_by != new.zorder_by:
        changes.append(
            Change("compatible", new.name, f"ZORDER {_list(old.zorder_by)} became {_list(new.zorder_by)}")
        )
    return changes


def _rules(old: Contract, new: Contract) -> list[Change]:
    before = {rule.name: rule for rule in old.rules}
    after = {rule.name: rule for rule in new.rules}
    changes = [
        Change("compatible", f"{new.name} {name}", "rule removed") for name in before if name not in after
    ]
    for name, rule in after.items():
        where = f"{new.name} {name}"
        other = before.get(name)
        if other is None:
            critical = rule.severity == "critical"
            changes.append(
                Change("breaking" if critical else "compatible", where, f"{rule.severity} rule added")
            )
        elif rule != other:
            stricter = _condition(rule) != _condition(other) or _is_stricter(other, rule)
            changes.append(Change("breaking" if stricter else "compatible", where, "rule changed"))
    return changes


def _condition(rule: RowRule | SetRule) -> tuple[object, ...]:
    if isinstance(rule, RowRule):
        return (rule.predicate, rule.on_failure)
    return (rule.kind, rule.columns, rule.references, rule.referenced_columns)


def _is_stricter(old: RowRule | SetRule, new: RowRule | SetRule) -> bool:
    if (old.severity, new.severity) == ("warning", "critical"):
        return True
    if (new.max_share if new.max_share is not None else 1.0) < (
        old.max_share if old.max_share is not None else 1.0
    ):
        return True
    if isinstance(old, SetRule) and isinstance(new, SetRule):
        return (
            (new.min_rows or 0) > (old.min_rows or 0)
            or _limit(new.max_rows) < _limit(old.max_rows)
            or _limit(new.max_age_hours) < _limit(old.max_age_hours)
        )
    return False


def _limit(value: float | None) -> float:
    return float("inf") if value is None else value


def _list(names: tuple[str, ...]) -> str:
    return f"({', '.join(names)})"
