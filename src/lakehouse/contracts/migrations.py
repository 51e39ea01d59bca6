"""What a live table needs to obey its contract: columns to add, named migrations, or a refusal that lists it all.

Pure: a live table comes in as data, a plan goes out as data. Columns that may be null are added, descriptions and
properties are brought up to date without asking. Everything else changes what readers or writers see, so somebody
has to write it down as a migration, or the plan refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from lakehouse.contracts.ddl import SOMETIMES, VERSION_PROPERTY, properties
from lakehouse.contracts.loader import PACKAGE, read_text, read_yaml
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
    harmless where it already ran, because a job can be killed between two of them. Both are empty where no stored
    column changes: then the migration only says why.
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
    unset: tuple[str, ...] = ()
    refusals: tuple[Violation, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (
            self.add_columns
            or self.comments
            or self.migrations
            or self.properties
            or self.unset
            or self.refusals
        )


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
    migrations = due(contract, version, registry if registry is not None else load_registry())
    migrated = {name for migration in migrations for name in migration.columns}

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
        migrations=migrations,
        properties={key: value for key, value in wanted.items() if live.properties.get(key) != value},
        unset=tuple(key for key in SOMETIMES if key in live.properties and key not in wanted),
    )


def obeying(contract: Contract) -> LiveTable:
    """The live table that obeys a contract."""
    return LiveTable(
        columns=tuple(
            LiveColumn(column.name, column.type, column.required, column.description)
            for column in contract.columns
        ),
        partition_by=contract.partition_by,
        properties=properties(contract),
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
    return read_registry(resources.files(PACKAGE).joinpath("migrations"))


def read_registry(directory: Traversable) -> tuple[Migration, ...]:
    """Migrations of a folder, by name; none where there is none. Raises ContractError, all faults at once."""
    if not directory.is_dir():
        return ()
    texts: dict[str, str] = {}
    violations: list[Violation] = []
    for entry in directory.iterdir():
        name = entry.name.removesuffix(".yaml")
        if name != entry.name:
            try:
                texts[name] = read_text(entry, _file(name))
            except ContractError as error:
                violations += error.violations
    try:
        migrations = parse_registry(texts)
    except ContractError as error:
        violations += error.violations
    if violations:
        raise _invalid(violations)
    return migrations


def parse_registry(texts: Mapping[str, str]) -> tuple[Migration, ...]:
    """Migrations from the texts of their files, by file name. Raises ContractError, all faults at once."""
    migrations: list[Migration] = []
    violations: list[Violation] = []
    for name, text in sorted(texts.items()):
        try:
            migrations.append(_migration(name, read_yaml(text, _file(name))))
        except ContractError as error:
            violations += error.violations
    if violations:
        raise _invalid(violations)
    return tuple(migrations)


def _migration(name: str, document: Any) -> Migration:
    where = _file(name)
    if not isinstance(document, dict) or set(document) != _KEYS:
        received = (
            ", ".join(sorted(map(str, document))) if isinstance(document, dict) else type(document).__name__
        )
        raise _invalid([Violation(where, received, f"exactly the keys {', '.join(sorted(_KEYS))}")])

    def faults(keys: tuple[str, ...], is_right: Callable[[Any], bool], expected: str) -> list[Violation]:
        wrong = (key for key in keys if not is_right(document[key]))
        return [Violation(f"{where}: {key}", repr(document[key]), expected) for key in wrong]

    violations = [
        *faults(("table", "reason"), lambda value: isinstance(value, str) and bool(value.strip()), "text"),
        *faults(
            ("from_version", "to_version"),
            lambda value: isinstance(value, str) and _ordinal(value) != (),
            "major.minor.patch",
        ),
        *faults(
            ("columns", "statements"),
            lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
            "a list of texts",
        ),
    ]
    if violations:
        raise _invalid(violations)
    if _ordinal(document["to_version"]) <= _ordinal(document["from_version"]):
        higher = f"a version above {document['from_version']}"
        violations.append(Violation(f"{where}: to_version", document["to_version"], higher))
    violations += [
        Violation(f"{where}: statements", repr(statement), f"a statement that names {TABLE_PLACEHOLDER}")
        for statement in document["statements"]
        if TABLE_PLACEHOLDER not in statement
    ]
    if document["columns"] and not document["statements"]:
        names = ", ".join(document["columns"])
        violations.append(
            Violation(f"{where}: statements", "none", f"those that bring {names} to the contract")
        )
    if violations:
        raise _invalid(violations)
    return Migration(
        name=name,
        table=document["table"],
        from_version=document["from_version"],
        to_version=document["to_version"],
        reason=document["reason"],
        columns=tuple(document["columns"]),
        statements=tuple(document["statements"]),
    )


def _file(name: str) -> str:
    return f"{PACKAGE}/migrations/{name}.yaml"


def _invalid(violations: Iterable[Violation]) -> ContractError:
    return ContractError(
        "migration files are invalid", hint="correct the files named", violations=tuple(violations)
    )


def due(contract: Contract, version: str | None, registry: Iterable[Migration]) -> tuple[Migration, ...]:
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
