"""Column lineage: which columns a column of Silver or Gold is made of, as the contracts declare it.

Declared once, in the contract (``transformSourceObjects``, or ``transformLogic`` where no column stands behind a
value). A column's sources are those that its values are made of; columns that only join or filter rows do not count.
"""

from __future__ import annotations

from collections.abc import Iterable

from lakehouse.contracts.loader import PACKAGE, load, load_all
from lakehouse.contracts.model import Contract
from lakehouse.errors import Violation

Source = tuple[str, str]


def column_lineage(table: str) -> dict[str, list[Source]]:
    """The declared (table, column) sources of each column of ``table``, one step back, in the table's order.

    Columns that have none (constants, technical columns) are left out; Bronze and ops have no lineage of their own.
    """
    return {column.name: list(column.derived_from) for column in load(table).columns if column.derived_from}


def origins(table: str, column: str) -> list[Source]:
    """The Bronze columns behind a column, through every table between, sorted."""
    found: set[Source] = set()
    waiting = list(column_lineage(table).get(column, []))
    seen: set[Source] = set()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        before = column_lineage(source[0]).get(source[1], [])
        if source[0].startswith("bronze."):
            found.add(source)
        waiting += before
    return sorted(found)


def dependants(table: str, contracts: Iterable[Contract] | None = None) -> dict[str, list[Source]]:
    """For each column of ``table``, the (table, column) made of it, directly or through other columns, sorted."""
    direct: dict[Source, set[Source]] = {}
    for contract in contracts if contracts is not None else load_all():
        for column in contract.columns:
            for source in column.derived_from:
                direct.setdefault(source, set()).add((contract.name, column.name))
    result: dict[str, list[Source]] = {}
    for start in sorted(source for source in direct if source[0] == table):
        found: set[Source] = set()
        waiting = [start]
        while waiting:
            for each in direct.get(waiting.pop(), set()) - found:
                found.add(each)
                waiting.append(each)
        result[start[1]] = sorted(found)
    return result


def readers(table: str, contracts: Iterable[Contract] | None = None) -> list[str]:
    """The tables that are made of ``table``, directly or through others, by name."""
    tables = list(contracts if contracts is not None else load_all())
    found: set[str] = set()
    waiting = [table]
    while waiting:
        start = waiting.pop()
        for contract in tables:
            inputs = {name for column in contract.columns for name, _ in column.derived_from}
            if start in inputs and contract.name not in found:
                found.add(contract.name)
                waiting.append(contract.name)
    return sorted(found)


def violations(contracts: Iterable[Contract]) -> list[Violation]:
    """What is wrong with the declared lineage of all tables: columns without one, and sources that do not exist."""
    tables = {contract.name: contract for contract in contracts}
    found: list[Violation] = []
    for contract in tables.values():
        if contract.layer not in ("silver", "gold"):
            continue
        file = f"{PACKAGE}/{contract.layer}/{contract.table}.yaml"
        for column in contract.columns:
            where = f"{file}: schema[{contract.table}].properties[{column.name}].transformSourceObjects"
            if not column.is_system and not column.derived_from and not column.derivation:
                found.append(
                    Violation(where, "nothing", "the columns it is made of, or transformLogic in words")
                )
            for table, name in column.derived_from:
                if table not in tables:
                    found.append(Violation(where, f"{table}.{name}", "a table that has a contract"))
                elif name not in tables[table].column_names:
                    found.append(Violation(where, f"{table}.{name}", f"a column of {table}"))
    return found
