"""What a change of the contracts since their last release asks for: a version, a migration, or nothing.

A breaking change needs a new major version and a named migration, which says what becomes of stored rows; any other
needs a higher version, because live tables and verdicts name the version and hash of the contract they obey. What a
migration has to name is asked of the plan that production makes. Pure: contracts and migrations in, findings out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lakehouse.contracts import lineage
from lakehouse.contracts.diff import Change, diff, is_breaking
from lakehouse.contracts.loader import PACKAGE
from lakehouse.contracts.migrations import Migration, due, obeying, plan
from lakehouse.contracts.model import Contract
from lakehouse.errors import Violation


@dataclass(frozen=True)
class Finding:
    """What became of one table's contract. ``affected`` is in words, by change; ``problems`` say what to write."""

    table: str
    before: str | None
    after: str | None
    changes: tuple[Change, ...]
    affected: tuple[tuple[str, ...], ...]
    problems: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The finding as a person reads it."""
        lines = [f"{self.table} {self.before or 'not released'} -> {self.after or 'removed'}"]
        for change, affected in zip(self.changes, self.affected, strict=True):
            lines.append(f"  {change}")
            lines += [f"    {each}" for each in affected]
        return lines + [f"  FAILED: {problem}" for problem in self.problems]


def findings(
    released: Iterable[Contract], current: Iterable[Contract], registry: Iterable[Migration]
) -> list[Finding]:
    """One finding for each table whose contract is not what was released, in the order of the contracts."""
    old = {contract.name: contract for contract in released}
    new = {contract.name: contract for contract in current}
    # Who reads a column that is gone was said by the old contracts.
    together = list((old | new).values())
    before = list((new | old).values())
    migrations = tuple(registry)
    found = []
    for name in dict.fromkeys([*new, *old]):
        one, other = old.get(name), new.get(name)
        if one is not None and other is not None and one.content_hash == other.content_hash:
            continue
        changes = _changes(one, other)
        found.append(
            Finding(
                table=name,
                before=one.version if one else None,
                after=other.version if other else None,
                changes=changes,
                affected=tuple(
                    _affected(change, name, together, before) if change.impact == "breaking" else ()
                    for change in changes
                ),
                problems=tuple(_problems(one, other, changes, migrations)),
            )
        )
    return found


def unknown(
    released: Iterable[Contract], current: Iterable[Contract], registry: Iterable[Migration]
) -> list[Violation]:
    """Tables and columns that migrations name and no contract has; of columns only those still to be migrated."""
    old = {contract.name: contract for contract in released}
    new = {contract.name: contract for contract in current}
    found = []
    for migration in registry:
        where = f"{PACKAGE}/migrations/{migration.name}.yaml"
        sides = [side[migration.table] for side in (old, new) if migration.table in side]
        if not sides:
            expected = "a table that has a contract (delete the file where the table is gone)"
            found.append(Violation(f"{where}: table", migration.table, expected))
            continue
        before = old.get(migration.table)
        if before is not None and _parts(migration.to_version) <= _parts(before.version):
            continue
        known = list(dict.fromkeys(name for side in sides for name in side.column_names))
        found += [
            Violation(f"{where}: columns", name, f"columns of {migration.table}: {', '.join(known)}")
            for name in migration.columns
            if name not in known
        ]
    return found


def _changes(old: Contract | None, new: Contract | None) -> tuple[Change, ...]:
    if old is None:
        assert new is not None
        return (Change("compatible", new.name, "table added"),)
    if new is None:
        return (Change("breaking", old.name, "table removed"),)
    return diff(old, new)


def _affected(change: Change, table: str, *sides: Sequence[Contract]) -> tuple[str, ...]:
    """Columns, tables and rules that rely on what changed, before the change or after it."""
    subject = change.where.removeprefix(f"{table}.") if change.where.startswith(f"{table}.") else None
    columns: set[tuple[str, str]] = set()
    tables: set[str] = set()
    rules: set[str] = set()
    for contracts in sides:
        tables |= set(lineage.readers(table, contracts))
        made_of_it = lineage.dependants(table, contracts)
        if subject is not None:
            columns |= set(made_of_it.get(subject, ()))
        touched = columns | ({(table, subject)} if subject is not None else set())
        for contract in contracts:
            for rule in contract.rules:
                refers = getattr(rule, "references", None) == table and (
                    subject is None or subject in getattr(rule, "referenced_columns", ())
                )
                if refers or any((contract.name, column) in touched for column in rule.columns):
                    rules.add(f"{contract.name} {rule.name}")
    lines = []
    if columns:
        lines.append(f"columns made of it: {', '.join('.'.join(each) for each in sorted(columns))}")
    rest = sorted(tables - {name for name, _ in columns})
    if rest:
        lines.append(f"tables made of {table} that may join or filter by it: {', '.join(rest)}")
    if rules:
        lines.append(f"quality rules: {', '.join(sorted(rules))}")
    return tuple(lines or ["nothing downstream reads it"])


def _problems(
    old: Contract | None, new: Contract | None, changes: tuple[Change, ...], registry: tuple[Migration, ...]
) -> list[str]:
    if old is None:
        return []
    breaking = is_breaking(changes)
    file = f"{PACKAGE}/{old.layer}/{old.table}.yaml"
    before = _parts(old.version)
    next_major = f"{before[0] + 1}.0.0"
    after = _parts(new.version) if new is not None else _parts(next_major)
    if after < before:
        return [f"version {'.'.join(map(str, after))} is lower than the released {old.version}: see {file}"]
    problems = []
    if breaking and after[0] == before[0]:
        problems.append(f"a breaking change needs a new major version: write version: {next_major} in {file}")
    elif after == before:
        minor = any(change.what != "description" for change in changes)
        wanted = f"{before[0]}.{before[1] + 1}.0" if minor else f"{before[0]}.{before[1]}.{before[2] + 1}"
        problems.append(f"a compatible change needs a higher version: write version: {wanted} in {file}")
    target = next_major if new is None or (breaking and after[0] == before[0]) else new.version
    problems += _migration_problems(old, new, target, breaking, registry)
    return problems


def _migration_problems(
    old: Contract, new: Contract | None, target: str, breaking: bool, registry: tuple[Migration, ...]
) -> list[str]:
    """What the table that obeys ``old`` lacks on its way to ``new``: asked of the plan that production makes."""
    migrations = due(dataclasses.replace(old, version=target), old.version, registry)
    wanted = dataclasses.replace(new, version=target) if new is not None else None
    refused = plan(wanted, obeying(old), migrations).refusals if wanted is not None else ()
    columns = ", ".join(_columns(old, new, refused))
    if breaking and not migrations:
        what = f"columns: [{columns}], a reason and statements" + ("" if columns else ": []")
        return [
            f"a breaking change needs a migration: write {PACKAGE}/migrations/<name>.yaml with table: {old.name}, "
            f'from_version: "{old.version}", to_version: "{target}", {what}'
        ]
    if migrations and refused:
        names = ", ".join(migration.name for migration in migrations)
        return [f"the migration {names} does not name the columns that change: {columns}"]
    return [f"apply_contracts refuses this change: {each}" for each in refused]


def _columns(old: Contract, new: Contract | None, refused: Iterable[Violation]) -> list[str]:
    """The columns for which a plan was refused; those of the partitions where it was for these."""
    names: list[str] = []
    for each in refused:
        if each.where == f"{old.name} partitioning":
            names += [*old.partition_by, *(new.partition_by if new is not None else ())]
        else:
            names.append(each.where.removeprefix(f"{old.name}."))
    return list(dict.fromkeys(names))


def _parts(version: str) -> tuple[int, int, int]:
    major, minor, patch = (int(part) for part in version.split("."))
    return (major, minor, patch)
