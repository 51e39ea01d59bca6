"""Conventions and declarations as the rules of one table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date

from dq_runner.config import Config
from dq_runner.model import Result, Rule, Table, TableName
from dq_runner.patterns import is_exact, matches, matches_table, parts, plain
from dq_runner.rules.conventions import conventions
from dq_runner.rules.declared import Off, TableRules
from dq_runner.rules.mutes import means


def rules_for(table: Table, config: Config, known: Mapping[TableName, Table]) -> tuple[Rule, ...]:
    """The table's rules: what is declared, and the conventions that nothing replaces or switches off.

    No two have the same title. A declared rule replaces the convention of the same kind for the same columns. Where a
    pattern and the table's own
    entry declare a rule of the same title, the table's own holds.
    """
    entries = [entry for entry in config.declared if matches_table(entry.table, table.name)]
    declared = _declared(sorted(entries, key=lambda entry: is_exact(entry.table)))
    replaced = {(rule.kind, _columns(rule, table)) for rule in declared if "where" not in rule.params}
    off = [line for entry in entries for line in entry.off]
    found = (
        conventions(table, known, config.conventions.severity, config.conventions.few)
        if config.conventions.on
        else ()
    )
    titles = {rule.title for rule in declared}
    kept = [
        replace(rule, name=f"{rule.title} by convention") if rule.title in titles else rule
        for rule in found
        if (rule.kind, rule.columns) not in replaced and not any(_is_off(rule, line) for line in off)
    ]
    return (*declared, *kept)


def _declared(entries: list[TableRules]) -> list[Rule]:
    """By title; the later of two takes the place of the earlier."""
    return list({rule.title: rule for entry in entries for rule in entry.made()}.values())


def _columns(rule: Rule, table: Table) -> tuple[str, ...]:
    """A rule's columns as the table names them."""
    return tuple(found.name if (found := table.column(name)) else name for name in rule.columns)


def _is_off(rule: Rule, line: Off) -> bool:
    return line.rule in ("*", rule.kind) and any(matches(line.column, name) for name in rule.columns)


def unmatched(config: Config, meant: Collection[TableName]) -> list[Result]:
    """An error for each declared rule that is for none of the tables that are looked at: nothing was checked."""
    found = {
        (entry.table, rule.title): Result(
            _pattern_name(entry.table),
            rule,
            "error",
            observed="no such table",
            message=f"config/dq_rules/ declares it for {entry.table}, which means none of the tables that are looked "
            f"at ({len(meant)}): correct the name, or have config/dq_platform.yaml include the table (and its kind: "
            "views, transient)",
        )
        for entry in config.declared
        if not any(matches_table(entry.table, name) for name in meant)
        for rule in entry.made()
    }
    return list(found.values())


def idle(config: Config, known: Mapping[TableName, Table], results: Iterable[Result], day: date) -> list[str]:
    """Lines of config/dq_rules/ and config/dq_mutes.yaml that do nothing, as notes: a name may be wrong, or outdated.

    Of a pattern it is not said: it may wait for tables to come. Nor of a mute that has ended.
    """
    off = [
        f"config/dq_rules/: off {line.rule} of {line.column} of {entry.table} switches off no convention"
        for entry in config.declared
        if is_exact(entry.table) and config.conventions.on
        for line in entry.off
        if not any(_is_off(rule, line) for rule in _conventions_of(entry, config, known))
    ]
    tested = [(result.table, result.rule.title) for result in results]
    mutes = [
        f"config/dq_mutes.yaml: the mute of {mute.rule} of {mute.table} is of no rule that was tested"
        for mute in config.mutes
        if mute.until >= day and not any(means(mute, *one) for one in tested)
    ]
    return [*off, *mutes]


def _conventions_of(entry: TableRules, config: Config, known: Mapping[TableName, Table]) -> list[Rule]:
    tables = [table for name, table in known.items() if matches_table(entry.table, name)]
    return [
        rule
        for table in tables
        for rule in conventions(table, known, config.conventions.severity, config.conventions.few)
    ]


def _pattern_name(pattern: str) -> TableName:
    database, schema, name = (plain(part) for part in parts(pattern))
    return TableName(database, schema, name)
