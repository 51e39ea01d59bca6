"""Drift: what the live tables and the Glue catalog say of a table, against its contract. Reads only; needs no Spark.

The order of columns is no difference: everything here reads and writes by name, and a live table keeps its order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import boto3

from lakehouse.catalog import LAYERS, discover, open_table
from lakehouse.contracts import Contract, ddl, glue
from lakehouse.contracts.migrations import LiveColumn, live_columns
from lakehouse.errors import Violation
from lakehouse.settings import Settings
from lakehouse.submit import by_hand

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient


def drift(settings: Settings, contracts: Sequence[Contract]) -> list[Violation]:
    """Every difference between contracts and what there is, by table; tables that have no contract come last."""
    client = boto3.client("glue", region_name=settings.region)
    there = {f"{layer}.{name}" for layer in LAYERS for name in discover(settings, layer)}
    found: list[Violation] = []
    for contract in contracts:
        if contract.name in there:
            found += _table(settings, contract)
        else:
            found.append(Violation(f"{contract.name} (Delta)", "no table", "one: run apply_contracts"))
        found += _glue(client, settings, contract)
    known = {contract.name for contract in contracts}
    found += [
        Violation(f"{name} (Delta)", "a table without a contract", "none") for name in sorted(there - known)
    ]
    found += [
        Violation(f"{name} (Glue)", "a table without a contract", "none")
        for name in sorted(_registered(client, settings) - known)
    ]
    return found


def _registered(client: GlueClient, settings: Settings) -> set[str]:
    """What Glue has in the layers' databases, by dotted name; views are anybody's."""
    names: set[str] = set()
    for layer in LAYERS:
        pages = client.get_paginator("get_tables").paginate(DatabaseName=getattr(settings.glue, layer))
        try:
            tables = [table for page in pages for table in page["TableList"]]
        except client.exceptions.EntityNotFoundException:
            continue
        names |= {f"{layer}.{table['Name']}" for table in tables if table.get("TableType") != "VIRTUAL_VIEW"}
    return names


def _table(settings: Settings, contract: Contract) -> Iterable[Violation]:
    table = open_table(settings.table_uri(contract.name))
    columns = {column.name: column for column in live_columns(table.schema().to_json())}
    for wanted in contract.columns:
        have = columns.pop(wanted.name, None)
        where = f"{contract.name}.{wanted.name} (Delta)"
        expected = LiveColumn(wanted.name, wanted.type, wanted.required, wanted.description)
        if have is None:
            yield Violation(where, "no such column", _spell(expected))
        elif _spell(have) != _spell(expected):
            yield Violation(where, _spell(have), _spell(expected))
        elif have.comment != expected.comment:
            yield Violation(f"{where}: description", repr(have.comment), repr(expected.comment))
    for name, have in columns.items():
        yield Violation(f"{contract.name}.{name} (Delta)", _spell(have), "no such column")
    metadata = table.metadata()
    if tuple(metadata.partition_columns) != contract.partition_by:
        yield Violation(
            f"{contract.name} (Delta): partitioning",
            ", ".join(metadata.partition_columns) or "none",
            ", ".join(contract.partition_by) or "none",
        )
    properties = ddl.properties(contract)
    for key in sorted({*properties, *ddl.SOMETIMES}):
        value, expected_value = metadata.configuration.get(key), properties.get(key)
        if value != expected_value:
            yield Violation(
                f"{contract.name} (Delta): {key}", value or "nothing", expected_value or "nothing"
            )


def _glue(client: GlueClient, settings: Settings, contract: Contract) -> Iterable[Violation]:
    database = getattr(settings.glue, contract.layer)
    try:
        storage = client.get_table(DatabaseName=database, Name=contract.table)["Table"]["StorageDescriptor"]
    except client.exceptions.EntityNotFoundException:
        yield Violation(
            f"{contract.name} (Glue)",
            "no table",
            f"{database}.{contract.table}: run {by_hand('register_glue_tables')}",
        )
        return
    have = {item["Name"]: item for item in storage["Columns"]}
    for wanted in glue.columns(contract):
        where = f"{contract.name}.{wanted['Name']} (Glue)"
        item = have.pop(wanted["Name"], None)
        if item is None:
            yield Violation(where, "no such column", wanted["Type"])
        elif item.get("Type") != wanted["Type"]:
            yield Violation(where, str(item.get("Type")), wanted["Type"])
        elif item.get("Comment", "") != wanted["Comment"]:
            yield Violation(f"{where}: description", repr(item.get("Comment", "")), repr(wanted["Comment"]))
    for name, item in have.items():
        yield Violation(f"{contract.name}.{name} (Glue)", str(item.get("Type")), "no such column")
    location = str(storage.get("Location", "")).rstrip("/")
    if location != settings.table_uri(contract.name).rstrip("/"):
        yield Violation(f"{contract.name} (Glue): location", location, settings.table_uri(contract.name))


def _spell(column: LiveColumn) -> str:
    return f"{column.type}{' NOT NULL' if column.required else ''}"
