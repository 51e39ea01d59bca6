"""A table's contract as frozen data: columns, rules, retention. Imports neither pyspark nor a cloud library."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Layer = Literal["bronze", "silver", "gold", "ops"]
Classification = Literal["public", "internal", "personal"]
Severity = Literal["critical", "warning"]
OnFailure = Literal["quarantine", "stop"]
RowRuleKind = Literal["not_null", "parses", "max_length", "one_of", "predicate"]
SetRuleKind = Literal["unique", "duplicates", "volume", "freshness", "referential", "jump", "rejected"]

LAYERS: tuple[Layer, ...] = ("bronze", "silver", "gold", "ops")


def quote(identifier: str) -> str:
    """A column name as Spark SQL takes it whatever it is called (``offset``, ``partition``)."""
    return "`" + identifier.replace("`", "``") + "`"


def raw_name(column: str) -> str:
    """Name of the column that holds a value as it was received while ``column`` holds it parsed.

    It exists only between landing and Bronze, where the ``<column>_parses`` rules are judged.
    """
    return f"__raw_{column}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``source_*`` and ``timezone`` say how a Bronze column arrives; elsewhere they are None.

    ``is_provenance``: a Bronze column that says by which way a value came; two rows that differ in nothing else are
    duplicates. ``is_state``: see ``Contract.state``.

    ``derived_from``: the columns, (table, column), that a Silver or Gold column's values are made of; empty where
    ``derivation`` says in words where they come from.
    """

    name: str
    type: str
    logical_type: str
    required: bool
    classification: Classification
    description: str
    max_length: int | None = None
    source_field: str | None = None
    source_format: str | None = None
    timezone: str | None = None
    is_provenance: bool = False
    is_state: bool = False
    derived_from: tuple[tuple[str, str], ...] = ()
    derivation: str | None = None

    @property
    def is_personal(self) -> bool:
        return self.classification == "personal"

    @property
    def is_system(self) -> bool:
        """Whether the lakehouse, not the business, fills the column."""
        return self.name.startswith("_") or self.name in ("ingest_date", "event_month")

    @property
    def raw(self) -> str:
        return raw_name(self.name)


@dataclass(frozen=True, slots=True)
class RowRule:
    """A condition on one row, in Spark SQL.

    A row breaks the rule where ``predicate`` is FALSE. NULL is no violation: a value that is not there is
    the business of the ``not_null`` rules alone, whose predicates are never NULL.

    ``max_share`` is the share of a run's rows that may break it before the gate acts on ``severity``.
    A ``parses`` rule needs the raw columns and can be judged only before the row is stored.
    """

    name: str
    kind: RowRuleKind
    columns: tuple[str, ...]
    predicate: str
    on_failure: OnFailure
    max_share: float
    severity: Severity
    message: str

    @property
    def violation(self) -> str:
        """SQL that is TRUE for a row that breaks the rule and FALSE, never NULL, for any other."""
        return f"NOT coalesce(({self.predicate}), TRUE)"

    @property
    def judges_raw_value(self) -> bool:
        return self.kind == "parses"

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """Least and greatest share of broken rows with which the rule holds."""
        return (None, self.max_share)


@dataclass(frozen=True, slots=True)
class SetRule:
    """A condition on many rows at once. Which fields are filled depends on ``kind``:

    - ``unique``: no two rows agree in ``columns`` (rows with a NULL among them do not count).
    - ``duplicates``: at most ``max_share`` of the rows that a run read repeat the ``columns`` of another one.
    - ``volume``: ``min_rows`` to ``max_rows``; in Bronze of the rows that a run read, else of the table.
    - ``freshness``: the newest ``columns[0]`` is at most ``max_age_hours`` older than the run.
    - ``referential``: at most ``max_share`` of the rows with all of ``columns`` set lack a partner in
      ``references`` (``referenced_columns``).
    - ``jump``: where ``columns[1]`` is at most ``within_days`` older than the newest, ``columns[0]`` differs from that
      of the row before it (by ``columns[1]``, among those that agree in the other columns) by at most ``max_share``
      of it.
    - ``rejected``: at most ``max_share`` of the rows that a run read break any row rule.
    """

    name: str
    kind: SetRuleKind
    columns: tuple[str, ...]
    severity: Severity
    message: str
    max_share: float | None = None
    min_rows: int | None = None
    max_rows: int | None = None
    max_age_hours: float | None = None
    within_days: int | None = None
    references: str | None = None
    referenced_columns: tuple[str, ...] = ()

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """Least and greatest measure with which the rule holds.

        The measure is a count of surplus rows (unique), of rows (volume), hours (freshness), else a share.
        """
        match self.kind:
            case "unique":
                return (None, 0)
            case "volume":
                return (self.min_rows, self.max_rows)
            case "freshness":
                return (None, self.max_age_hours)
            case _:
                return (None, self.max_share)


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that deleted data files, the Delta log and landing files are kept."""

    deleted_files_days: int
    log_days: int
    landing_days: int | None = None


@dataclass(frozen=True, slots=True)
class Sla:
    """What readers may rely on; ``available_by`` is a UTC time of day, ``HH:MM``."""

    frequency_days: int | None = None
    available_by: str | None = None


@dataclass(frozen=True)
class Contract:
    """Everything there is to know about one table before any row of it exists."""

    name: str
    layer: Layer
    table: str
    version: str
    domain: str
    description: str
    limitations: str
    grain: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    zorder_by: tuple[str, ...]
    deletion_vectors: bool
    auto_compact: bool
    row_rules: tuple[RowRule, ...]
    set_rules: tuple[SetRule, ...]
    retention: Retention
    sla: Sla
    content_hash: str

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def business_columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if not column.is_system)

    @property
    def state(self) -> tuple[str, ...]:
        """The columns that name a thing of which the source shows what it is now, and not what it was; else the key.

        A warehouse that keeps every load of an event shows each load; a file that is delivered again may have a
        shipment in another line, or no longer.
        """
        return tuple(column.name for column in self.columns if column.is_state) or self.key

    @property
    def personal_columns(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.is_personal)

    @property
    def declares_fields(self) -> bool:
        """Whether the source says which fields it gives; messages of a topic do not."""
        return self.layer == "bronze" and not self.table.startswith("kafka_")

    @property
    def rules(self) -> tuple[RowRule | SetRule, ...]:
        return (*self.row_rules, *self.set_rules)

    @property
    def rules_hash(self) -> str:
        """Hash of the rules in force, thresholds included: it changes when an override does."""
        return sha256([dataclasses.asdict(rule) for rule in self.rules])

    def column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")

    def rule(self, name: str) -> RowRule | SetRule:
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise KeyError(f"{self.name} has no rule {name}")

    def with_overrides(self, overrides: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Contract:
        """The contract with the thresholds of ``overrides`` ({table: {rule: {max_share|min|max|severity}}}).

        Raises ContractError, all faults at once, for an unknown table and for this table's unknown rules.
        """
        from lakehouse.contracts.overrides import apply

        return apply(self, overrides)


def sha256(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Hex digest of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
