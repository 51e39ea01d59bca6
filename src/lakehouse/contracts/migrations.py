"""What a live table needs to obey its contract: columns to add, named migrations, or a refusal that lists it all.

Pure: a live table comes in as data, a plan goes out as data. Columns that may be null are added, descriptions and
properties are brought up to date without asking. Everything else changes what readers or writers see, so somebody
has to write it down as a migration, or the plan refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from lakehouse.contracts.ddl import VERSION_PROPERTY, properties
from lakehouse.contracts.loader import PACKAGE
from lakehouse.contracts.model import Column, Contract
from lakehouse.errors import ContractError, Violation

TABLE_PLACEHOLDER = "{table}"
_KEYS = {"table", "from_version", "to_version", "reason", "columns", "statements"}
_DELTA_TYPES = {"integer": "int", "long": "bigint"}


@dataclass(frozen=True)
class LiveColumn:
    """A column as the Delta log has it, its type spelt as in a contract."""

    name: str
    type: str
    required: bool
    comment: str = ""


@dataclass(frozen=True)
class LiveTable:
    """What the Delta log says of a table."""

    columns: tuple[LiveColumn, ...]
    partition_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Migration:
    """A change that somebody decided on: statements that lead one contract version to another.

    ``columns`` are those that it brings to the contract. ``statements`` name the table as ``{table}``; each must be
    harmless where it already ran, because a job can be killed between two of them.
    """

    name: str
    table: str
    from_version: str
    to_version: str
    reason: str
    columns: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What to do to one live table, in this order: migrations, columns, comments, properties. Nothing on refusals."""

    table: str
    add_columns: tuple[Column, ...] = ()
    comments: tuple[Column, ...] = ()
    migrations: tuple[Migration, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[Violation, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.add_columns or self.comments or self.migrations or self.properties or self.refusals)


def plan(contract: Contract, live: LiveTable, registry: Iterable[Migration] | None = None) -> Plan:
    """Compare a live table with its contract. Where a migration is due, plan again after it has run."""
    table = contract.name
    version = live.properties.get(VERSION_PROPERTY)
    if version is not None and _ordinal(version) > _ordinal(contract.version):
        return Plan(
            table,
            refusals=(
                Violation(
                    table, f"a live table of contract version {version}", f"at most {contract.version}"
                ),
            ),
        )
    due = _due(contract, version, registry if registry is not None else load_registry())
    migrated = {name for migration in due for name in migration.columns}

    live_columns = {column.name: column for column in live.columns}
    add: list[Column] = []
    comments: list[Column] = []
    refusals: list[Violation] = []
    for column in contract.columns:
        where = f"{table}.{column.name}"
        have = live_columns.get(column.name)
        if column.name in migrated:
            continue
        if have is None:
            if column.required or column.name in contract.partition_by:
                refusals.append(
                    Violation(where, "no such column", f"{_spell(column)}: it cannot simply be added")
                )
            else:
                add.append(column)
        elif (have.type, have.required) != (column.type, column.required):
            refusals.append(Violation(where, _spell(have), _spell(column)))
        elif have.comment != column.description:
            comments.append(column)
    for name, have in live_columns.items():
        if name not in contract.column_names and name not in migrated:
            refusals.append(Violation(f"{table}.{name}", f"{_spell(have)}", "no such column"))
    if (
        live.partition_by != contract.partition_by
        and not set(live.partition_by + contract.partition_by) & migrated
    ):
        refusals.append(
            Violation(
                f"{table} partitioning",
                ", ".join(live.partition_by) or "none",
                ", ".join(contract.partition_by) or "none",
            )
        )
    if refusals:
        return Plan(table, refusals=tuple(refusals))
    wanted = properties(contract)
    return Plan(
        table,
        add_columns=tuple(add),
        comments=tuple(comments),
        migrations=due,
        properties={key: value for key, value in wanted.items() if live.properties.get(key) != value},
    )


def refuse(plans: Iterable[Plan]) -> None:
    """Raise one ContractError with the refusals of all tables, if there are any."""
    violations = tuple(violation for each in plans for violation in each.refusals)
    if violations:
        raise ContractError(
            "live tables differ from their contracts in ways that need a decision; nothing was changed",
            hint="correct the contract, or write the change down in schema_definitions/migrations/<name>.yaml "
            "(docs/adr, ODCS contracts)",
            violations=violations,
        )


def live_columns(schema_json: str) -> tuple[LiveColumn, ...]:
    """Columns of a Delta or Spark schema in its JSON form."""
    return tuple(
        LiveColumn(
            name=item["name"],
            type=_type_name(item["type"]),
            required=not item["nullable"],
            comment=str((item.get("metadata") or {}).get("comment", "")),
        )
        for item in json.loads(schema_json)["fields"]
    )


@cache
def load_registry() -> tuple[Migration, ...]:
    """Migrations of ``schema_definitions/migrations``, by name. Raises ContractError, all faults at once."""
    directory = resources.files(PACKAGE).joinpath("migrations")
    if not directory.is_dir():
        return ()
    texts = {
        entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
        for entry in directory.iterdir()
        if entry.name.endswith(".yaml")
    }
    return parse_registry(texts)


def parse_registry(texts: Mapping[str, str]) -> tuple[Migration, ...]:
    """Migrations from the texts of their files, by file name."""
    migrations: list[Migration] = []
    violations: list[Violation] = []
    for name, text in sorted(texts.items()):
        where = f"{PACKAGE}/migrations/{name}.yaml"
        document = yaml.safe_load(text)
        if not isinstance(document, dict) or set(document) != _KEYS:
            received = ", ".join(sorted(document)) if isinstance(document, dict) else type(document).__name__
            violations.append(Violation(where, received, f"exactly the keys {', '.join(sorted(_KEYS))}"))
            continue
        faults = [
            Violation(f"{where}: {key}", repr(document[key]), "major.minor.patch")
            for key in ("from_version", "to_version")
            if _ordinal(str(document[key])) == ()
        ]
        faults += [
            Violation(f"{where}: statements", repr(statement), f"a statement that names {TABLE_PLACEHOLDER}")
            for statement in document["statements"] or ["nothing"]
            if TABLE_PLACEHOLDER not in str(statement)
        ]
        violations += faults
        if not faults:
            migrations.append(
                Migration(
                    name=name,
                    table=str(document["table"]),
                    from_version=str(document["from_version"]),
                    to_version=str(document["to_version"]),
                    reason=str(document["reason"]),
                    columns=tuple(str(column) for column in document["columns"]),
                    statements=tuple(str(statement) for statement in document["statements"]),
                )
            )
    if violations:
        raise ContractError(
            "migration files are invalid", hint="correct the files named", violations=tuple(violations)
        )
    return tuple(migrations)


def _due(contract: Contract, version: str | None, registry: Iterable[Migration]) -> tuple[Migration, ...]:
    """Migrations from the live version up to the contract's, oldest first."""
    if version is None:
        return ()
    own = [
        migration
        for migration in registry
        if migration.table == contract.name
        and _ordinal(version) < _ordinal(migration.to_version) <= _ordinal(contract.version)
        and _ordinal(migration.from_version) >= _ordinal(version)
    ]
    return tuple(sorted(own, key=lambda migration: (_ordinal(migration.to_version), migration.name)))


def _ordinal(version: str) -> tuple[int, ...]:
    """A version as something that orders; empty where it is none."""
    parts = version.split(".")
    return (
        tuple(int(part) for part in parts)
        if len(parts) == 3 and all(part.isdecimal() for part in parts)
        else ()
    )


def _spell(column: Column | LiveColumn) -> str:
    return f"{column.type}{' NOT NULL' if column.required else ''}"


def _type_name(value: Any) -> str:
    if isinstance(value, dict):
        kind = value.get("type")
        if kind == "array":
            return f"array<{_type_name(value['elementType'])}>"
        if kind == "struct":
            fields = ",".join(f"{each['name']}:{_type_name(each['type'])}" for each in value["fields"])
            return f"struct<{fields}>"
        return json.dumps(value, sort_keys=True)
    return _DELTA_TYPES.get(str(value), str(value)).replace(" ", "")
