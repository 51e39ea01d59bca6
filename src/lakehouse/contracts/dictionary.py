"""Contracts as a page for people: docs/data-dictionary.md."""

from __future__ import annotations

from collections.abc import Iterable

from lakehouse.contracts.lineage import Source, origins
from lakehouse.contracts.model import LAYERS, Column, Contract, RowRule, SetRule

_HEADER = """# Data dictionary

Generated from `schema_definitions/` by `make docs`; edit the contracts, not this page.

Personal columns are masked in samples and logs. Times are UTC. A row rule is broken where its condition is FALSE;
NULL breaks only the *not null* of required columns. Shares are of the rows that a run reads. *made of* names the
columns that a value comes from, not those that only join or filter rows; *source* is the field as the source names it.
"""


def markdown(contracts: Iterable[Contract]) -> str:
    """The whole page."""
    tables = list(contracts)
    parts = [_HEADER]
    for layer in LAYERS:
        members = [contract for contract in tables if contract.layer == layer]
        if members:
            parts.append(f"## {layer.capitalize()}\n")
            parts.append(_index(members))
            parts.extend(_table(contract) for contract in members)
    return "\n".join(parts)


def _index(contracts: list[Contract]) -> str:
    lines = ["| table | holds | grain |", "|---|---|---|"]
    lines += [
        f"| [{each.name}](#{each.name.replace('.', '')}) | {_cell(each.description)} | {_cell(each.grain)} |"
        for each in contracts
    ]
    return "\n".join(lines) + "\n"


def _table(contract: Contract) -> str:
    lines = [
        f"### {contract.name}",
        "",
        f"{contract.description}. {contract.grain}. Version {contract.version}.",
        "",
        f"Key ({', '.join(contract.key)}); {'; '.join(_storage(contract))}.",
    ]
    if contract.sla.available_by:
        lines += ["", f"Available every day by {contract.sla.available_by} UTC."]
    if contract.limitations:
        lines += ["", contract.limitations]
    lines += ["", *_columns(contract), "", *_rules(contract)]
    return "\n".join(lines) + "\n"


def _storage(contract: Contract) -> list[str]:
    retention = contract.retention
    facts = [
        f"partitioned by {', '.join(contract.partition_by)}" if contract.partition_by else "not partitioned"
    ]
    if contract.zorder_by:
        facts.append(f"ZORDER {', '.join(contract.zorder_by)}")
    facts.append(f"deleted files kept {retention.deleted_files_days} days, log {retention.log_days} days")
    if retention.landing_days:
        facts.append(f"landing files {retention.landing_days} days")
    return facts


def _columns(contract: Contract) -> list[str]:
    has_source = any(column.source_field for column in contract.columns)
    has_lineage = any(column.derived_from for column in contract.columns)
    more = ["source"] if has_source else ["made of"] if has_lineage else []
    if contract.layer == "gold":
        more.append("in Bronze")
    head = ["column", "type", "null", "class", "description", *more]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for column in contract.columns:
        cells = [
            f"`{column.name}`",
            column.type,
            "no" if column.required else "yes",
            f"**{column.classification}**" if column.is_personal else column.classification,
            _cell(column.description),
        ]
        if has_source:
            cells.append(_source(column))
        elif has_lineage:
            cells.append(_sources(column.derived_from) or _cell(column.derivation or ""))
        if contract.layer == "gold":
            cells.append(_sources(origins(contract.name, column.name)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sources(sources: Iterable[Source]) -> str:
    return ", ".join(_code(f"{table}.{column}") for table, column in sources)


def _source(column: Column) -> str:
    if column.source_field is None:
        return ""
    form = f" {column.source_format}" if column.source_format else ""
    zone = f" ({column.timezone})" if column.timezone else ""
    return f"`{column.source_field}`{form}{zone}"


def _rules(contract: Contract) -> list[str]:
    """Rules that somebody wrote; those derived from columns can be read off the columns."""
    written = [rule for rule in contract.row_rules if rule.kind in ("predicate", "one_of")]
    if not written and not contract.set_rules:
        return ["No rules beyond those of the columns."]
    lines = ["| rule | condition | if broken | meaning |", "|---|---|---|---|"]
    for row_rule in written:
        condition, message = _code(_condition(row_rule)), _cell(row_rule.message)
        lines.append(f"| {row_rule.name} | {condition} | {_consequence(row_rule)} | {message} |")
    for set_rule in contract.set_rules:
        condition, message = _cell(_set_condition(set_rule)), _cell(set_rule.message)
        lines.append(f"| {set_rule.name} | {condition} | {set_rule.severity} | {message} |")
    return lines


def _condition(rule: RowRule) -> str:
    return rule.predicate.replace("`", "")


def _consequence(rule: RowRule) -> str:
    share = f", at most {rule.max_share:.2%} of a run" if rule.max_share else ""
    return f"{rule.on_failure}, {rule.severity}{share}"


def _set_condition(rule: SetRule) -> str:
    columns = ", ".join(rule.columns)
    share = f"{rule.max_share:.2%}" if rule.max_share is not None else ""
    match rule.kind:
        case "unique":
            return f"unique ({columns})"
        case "duplicates":
            return f"at most {share} repeat ({columns})"
        case "rejected":
            return f"at most {share} break any row rule"
        case "volume":
            low = f"at least {rule.min_rows}" if rule.min_rows is not None else ""
            high = f"at most {rule.max_rows}" if rule.max_rows is not None else ""
            return " and ".join(part for part in (low, high) if part) + " rows"
        case "freshness":
            return f"newest {columns} at most {rule.max_age_hours:g} hours before the run"
        case "jump":
            value, order, *per = rule.columns
            of = f" of a {', '.join(per)}" if per else ""
            words = f"{value}{of} changes by at most {share} from one {order} to the next"
            return f"{words}, in the last {rule.within_days} days"
        case "referential":
            return f"at most {share} of ({columns}) lack {rule.references} ({', '.join(rule.referenced_columns)})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{_cell(text)}`"
