"""One table looked at closely: what its columns hold, which rules hold for it and why, a rule file to begin with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dq_runner.config import Config
from dq_runner.discovery import Found
from dq_runner.model import Column, Measures, Rule, Table, Window
from dq_runner.patterns import matches, matches_table, written
from dq_runner.rules.conventions import conventions
from dq_runner.rules.of_table import rules_for
from dq_runner.scan import plan
from dq_runner.session import Session
from dq_runner.words import counted

_WHY: Mapping[str, str] = {
    "not_null": "it is the table's id, by its name",
    "unique": "it is the table's id, by its name",
    "referential": "it is the id of a table of that name",
    "not_in_future": "its name says nothing of a time to come",
    "range": "it is an amount, a count or a rate, by its name",
    "few_values": "it is a status, a type or a category, by its name",
}
_PLAIN = re.compile(r"(?!(?i:true|false|null)$)[A-Za-z_][A-Za-z0-9_$.]*")


@dataclass(frozen=True)
class Explored:
    """A table, its rules, the reason of each, and what one scan of the window measured."""

    table: Table
    window: Window
    rules: tuple[tuple[Rule, str], ...]
    off: tuple[tuple[Rule, str], ...]
    measures: Measures | None


def explore(
    session: Session, config: Config, found: Found, table: Table, window: Window, at: datetime
) -> Explored:
    """Ask for nulls and different values of each column: one scan. Raises StatementFailed and what ends a session."""
    made = plan(table, (), window, at, found.known)
    answers = {
        number: session.ask(query.sql, about=str(table.name), scan=True)
        for number, query in enumerate(made.queries)
    }
    rules = rules_for(table, config, found.known)
    return Explored(
        table,
        window,
        tuple((rule, why(rule, table, config)) for rule in rules),
        tuple(_switched_off(table, config, found, rules)),
        made.measures(answers),
    )


def why(rule: Rule, table: Table, config: Config) -> str:
    """Why a rule holds for a table."""
    if rule.origin == "declared":
        by = [
            entry.table
            for entry in config.declared
            if matches_table(entry.table, table.name) and rule.title in {made.title for made in entry.made()}
        ]
        return f"config/dq_rules/ declares it of {by[-1] if by else table.name}"
    said = rule.params.get("said")
    return f"by its name it is {said}" if said else _WHY.get(rule.kind, "by its name")


def _switched_off(
    table: Table, config: Config, found: Found, rules: Sequence[Rule]
) -> Iterator[tuple[Rule, str]]:
    lines = [
        line for entry in config.declared if matches_table(entry.table, table.name) for line in entry.off
    ]
    held = {(rule.kind, rule.columns) for rule in rules}
    for rule in conventions(table, found.known, config.conventions.severity, config.conventions.few):
        if (rule.kind, rule.columns) in held:
            continue
        for line in lines:
            if line.rule in ("*", rule.kind) and any(matches(line.column, name) for name in rule.columns):
                yield rule, line.reason
                break


def words(explored: Explored) -> list[str]:
    """For a terminal."""
    table, measures = explored.table, explored.measures
    date_column = table.date_column.name if table.date_column else "none"
    lines = [f"{table.name}  {table.kind}  date column: {date_column}", _rows(explored), "", "columns"]
    lines += [f"  {_column(column, measures)}" for column in table.columns]
    lines += ["", "rules"]
    lines += [
        f"  {rule.title:<40} {rule.severity:<9} {rule.origin:<11} {reason}" for rule, reason in explored.rules
    ]
    lines += [f"  {rule.title:<40} switched off: {reason}" for rule, reason in explored.off]
    lines += [] if explored.rules else ["  none"]
    return [*lines, "", "a file for config/dq_rules/ to begin with:", "", *suggestion(explored).splitlines()]


def _rows(explored: Explored) -> str:
    window = explored.window
    read = (
        "the whole table"
        if window.whole
        else f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC"
    )
    if explored.measures is None:
        return f"{read}: nothing could be measured"
    newest = (
        f", the newest of {explored.measures.newest:%Y-%m-%d %H:%M} UTC" if explored.measures.newest else ""
    )
    return f"{read}: {counted(explored.measures.rows, 'row')}{newest}"


def _column(column: Column, measures: Measures | None) -> str:
    found = measures.columns.get(column.name) if measures else None
    told = "" if measures is None or found is None else f"{_share(found.nulls, measures.rows):>8} null"
    if found is not None and found.distinct is not None:
        told += f"  {found.distinct:>10,} different"
    return f"{column.name:<30} {column.type:<15} {'' if column.nullable else 'NOT NULL':<9}{told}".rstrip()


def _share(part: int, of: int) -> str:
    return f"{100 * part / of:.1f} %" if of else "-"


def suggestion(explored: Explored) -> str:
    """A rule file of what holds in the window that was looked at; a person decides what is to hold for ever."""
    lines = [
        "tables:",
        f"  - table: {_yaml(written(explored.table.name))}",
        "    owner: who acts when a rule is broken",
        "    rules:",
    ]
    return "\n".join([*lines, *(f"      - {line}" for line in _suggested(explored))]) + "\n"


def _suggested(explored: Explored) -> Iterator[str]:
    measures = explored.measures
    known = {(rule.kind, rule.columns) for rule, _ in explored.rules}
    measured = measures.columns if measures is not None and measures.rows else {}
    full = [
        name for name, found in measured.items() if not found.nulls and ("not_null", (name,)) not in known
    ]
    if full:
        yield f"{{kind: not_null, columns: [{', '.join(map(_yaml, full))}], severity: critical}}"
    for name, found in measured.items():
        is_key = measures is not None and found.distinct == measures.rows > 1
        if is_key and ("unique", (name,)) not in known:
            yield f"{{kind: unique, columns: [{_yaml(name)}]}}"
    yield "{kind: row_count, min: 1}"
    if explored.table.date_column is not None:
        yield "{kind: freshness, max_hours: 48}"


def _yaml(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def as_json(explored: Explored) -> dict[str, Any]:
    table, measures = explored.table, explored.measures
    return {
        "database": table.name.database,
        "schema": table.name.schema,
        "table": table.name.name,
        "kind": table.kind,
        "date_column": table.date_column.name if table.date_column else None,
        "rows": measures.rows if measures else None,
        "columns": [_column_json(column, measures) for column in table.columns],
        "rules": [
            {"rule": rule.title, "severity": rule.severity, "origin": rule.origin, "why": reason}
            for rule, reason in explored.rules
        ],
        "switched_off": [{"rule": rule.title, "reason": reason} for rule, reason in explored.off],
        "suggestion": suggestion(explored),
    }


def _column_json(column: Column, measures: Measures | None) -> dict[str, Any]:
    found = measures.columns.get(column.name) if measures else None
    return {
        "name": column.name,
        "type": column.type,
        "nullable": column.nullable,
        "nulls": found.nulls if found else None,
        "distinct": found.distinct if found else None,
    }
