"""What a change of a contract does to those who rely on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lakehouse.contracts.model import Classification, Column, Contract, RowRule, SetRule

Impact = Literal["breaking", "compatible"]
_READERS = ("silver", "gold")
_CONFIDENTIALITY: dict[Classification, int] = {"public": 0, "internal": 1, "personal": 2}
# Rules that follow from a column's own definition.
_OF_COLUMNS = ("not_null", "parses", "max_length")
_LITERAL = re.compile(r"'(?:[^']|'')*'")


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
    another key, partitioning or classification upwards, later or rarer data. A stricter rule is breaking for the
    source that feeds it, and a critical rule gone or weaker for those who read Silver and Gold. A column that is no
    longer personal is breaking for the persons: its values return to samples, logs and statistics unmasked. Rules that
    follow from a column are a matter of the column, but for the share of rows that may break them.
    """
    changes = [*_columns(old, new), *_table(old, new), *_rules(old, new)]
    if not changes and old.content_hash != new.content_hash and old.version == new.version:
        changes = [Change("compatible", new.name, "written differently: order of entries, or tags")]
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
            upwards = _CONFIDENTIALITY[other.classification] > _CONFIDENTIALITY[column.classification]
            impact: Impact = "breaking" if upwards or column.is_personal else "compatible"
            changes.append(
                Change(impact, where, f"classification {column.classification} became {other.classification}")
            )
        if _arrival(column) != _arrival(other):
            changes.append(Change("breaking", where, "taken from another source field, format or zone"))
        if column.is_provenance != other.is_provenance:
            changes.append(Change("breaking", where, "counts otherwise in what makes rows duplicates"))
        if column.is_state != other.is_state:
            changes.append(
                Change("compatible", where, "counts otherwise in what goes back to an earlier state")
            )
        if column.max_length != other.max_length:
            shorter = _limit(other.max_length) < _limit(column.max_length)
            what = f"at most {_characters(other)} characters, before {_characters(column)}"
            impact = "breaking" if shorter or new.layer in _READERS else "compatible"
            changes.append(Change(impact, where, what))
        changes += _lineage(where, column, other)
        if column.description != other.description:
            changes.append(Change("compatible", where, "description"))
    changes += [_added(new, column) for name, column in after.items() if name not in before]
    return changes


def _added(contract: Contract, column: Column) -> Change:
    where = f"{contract.name}.{column.name}"
    if column.required:
        return Change("breaking", where, "required column added")
    if column.source_field is not None and contract.declares_fields:
        # The gate refuses a batch without a declared field: a column that a source dropped looks just the same.
        what = f"column of the source's field {column.source_field} added: a landing without it is refused"
        return Change("breaking", where, what)
    return Change("compatible", where, "nullable column added")


def _arrival(column: Column) -> tuple[str | None, ...]:
    return (column.source_field, column.source_format, column.timezone)


def _characters(column: Column) -> str:
    return "any number of" if column.max_length is None else str(column.max_length)


def _lineage(where: str, old: Column, new: Column) -> list[Change]:
    gone = [".".join(each) for each in old.derived_from if each not in new.derived_from]
    more = [".".join(each) for each in new.derived_from if each not in old.derived_from]
    changes = []
    if gone:
        changes.append(Change("breaking", where, f"no longer made of {', '.join(gone)}"))
    if more:
        changes.append(Change("compatible", where, f"made of {', '.join(more)} too"))
    if old.derivation != new.derivation:
        changes.append(Change("compatible", where, "derivation"))
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
        ("landing files", old.retention.landing_days, new.retention.landing_days),
    ):
        if days_before != days_after:
            shorter = _limit(days_after) < _limit(days_before)
            what = f"{label} kept {_days(days_after)}, before {days_before or 'any time'}"
            changes.append(Change("breaking" if shorter else "compatible", new.name, what))
    changes += _promises(old, new)
    if old.zorder_by != new.zorder_by:
        changes.append(
            Change("compatible", new.name, f"ZORDER {_list(old.zorder_by)} became {_list(new.zorder_by)}")
        )
    return changes


def _promises(old: Contract, new: Contract) -> list[Change]:
    """What readers may rely on beside the rows, and the words."""
    changes: list[Change] = []
    if old.sla.frequency_days != new.sla.frequency_days:
        rarer = _limit(new.sla.frequency_days) > _limit(old.sla.frequency_days)
        what = f"new rows every {_days(new.sla.frequency_days)}, before {_days(old.sla.frequency_days)}"
        changes.append(Change("breaking" if rarer else "compatible", new.name, what))
    if old.sla.available_by != new.sla.available_by:
        later = (new.sla.available_by or "24:00") > (old.sla.available_by or "24:00")
        what = f"available by {new.sla.available_by or 'no agreed time'}, before {old.sla.available_by or 'none'}"
        changes.append(Change("breaking" if later else "compatible", new.name, what))
    if old.deletion_vectors != new.deletion_vectors:
        # Readers without the feature can no longer read the table; those with it read any other as well.
        state = "on" if new.deletion_vectors else "off"
        impact: Impact = "breaking" if new.deletion_vectors else "compatible"
        changes.append(Change(impact, new.name, f"deletion vectors {state}"))
    if old.auto_compact != new.auto_compact:
        changes.append(
            Change("compatible", new.name, f"auto-compaction {'on' if new.auto_compact else 'off'}")
        )
    common = [name for name in new.column_names if name in old.column_names]
    if common != [name for name in old.column_names if name in common]:
        changes.append(Change("compatible", new.name, "order of columns"))
    words = [
        label
        for label, before, after in (
            ("domain", old.domain, new.domain),
            ("purpose", old.description, new.description),
            ("limitations", old.limitations, new.limitations),
            ("grain in words", old.grain, new.grain),
        )
        if before != after
    ]
    return [*changes, *(Change("compatible", new.name, label) for label in words)]


def _rules(old: Contract, new: Contract) -> list[Change]:
    before = {rule.name: rule for rule in old.rules if rule.kind not in _OF_COLUMNS}
    after = {rule.name: rule for rule in new.rules if rule.kind not in _OF_COLUMNS}
    has_readers = new.layer in _READERS
    changes = _rules_of_columns(old, new)
    for name, rule in before.items():
        if name not in after:
            relied_on = has_readers and rule.severity == "critical"
            what = f"{rule.severity} rule removed"
            changes.append(Change("breaking" if relied_on else "compatible", f"{new.name} {name}", what))
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
            weaker = has_readers and other.severity == "critical" and _is_stricter(rule, other)
            changes.append(Change("breaking" if stricter or weaker else "compatible", where, "rule changed"))
    return changes


def _rules_of_columns(old: Contract, new: Contract) -> list[Change]:
    """How many rows may break them, and what follows: a table says it once for all its columns."""
    before = {rule.name: rule for rule in old.row_rules if rule.kind in _OF_COLUMNS}
    changes: list[Change] = []
    for rule in new.row_rules:
        other = before.get(rule.name)
        if other is None or rule.kind not in _OF_COLUMNS or _tolerance(rule) == _tolerance(other):
            continue
        stricter = rule.on_failure != other.on_failure or _is_stricter(other, rule)
        weaker = new.layer in _READERS and _is_stricter(rule, other)
        what = f"rules that follow from columns: {_tolerance(rule)}, before {_tolerance(other)}"
        changes.append(Change("breaking" if stricter or weaker else "compatible", new.name, what))
    return list(dict.fromkeys(changes))


def _tolerance(rule: RowRule) -> str:
    return f"{rule.on_failure}, {rule.severity} from {rule.max_share:.2%} of a run's rows"


def _condition(rule: RowRule | SetRule) -> tuple[object, ...]:
    if isinstance(rule, SetRule):
        return (rule.kind, rule.columns, rule.references, rule.referenced_columns, rule.within_days)
    if rule.kind == "one_of":
        # Which value of a list comes first means nothing.
        return (rule.columns, frozenset(_LITERAL.findall(rule.predicate)), rule.on_failure)
    return (rule.predicate, rule.on_failure)


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


def _days(value: int | None) -> str:
    return "any time" if value is None else f"{value} days"


def _list(names: tuple[str, ...]) -> str:
    return f"({', '.join(names)})"
