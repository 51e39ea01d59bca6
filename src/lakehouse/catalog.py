"""The Glue catalog, as Athena engine v3 wants native Delta tables to be registered.

A table is found by its ``_delta_log``; its columns are those of the log's newest schema, because Lake Formation and
Athena's views compare the two. Sources: Athena user guide, "Query Delta Lake tables" (table_type, provider and the
``path`` of the SerDe); Delta protocol, "Schema Serialization Format" (type names).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.exceptions import ClientError
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse import store
from lakehouse.contracts import glue
from lakehouse.errors import TableUnreadable, TerminalError, Violation
from lakehouse.settings import Settings
from lakehouse.submit import RECOVER

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient

log = logging.getLogger("lakehouse.catalog")

Layer = Literal["bronze", "silver", "gold", "ops"]
LAYERS: tuple[Layer, ...] = ("bronze", "silver", "gold", "ops")
# Marks the tables that this module may change; it never touches one without it.
OWNER = "lakehouse.managed"
Action = Literal["created", "updated", "unchanged"]
_INVALID = ("ValidationException", "InvalidInputException")

_PRIMITIVES = {
    "string": "string",
    "long": "bigint",
    "integer": "int",
    "short": "smallint",
    "byte": "tinyint",
    "float": "float",
    "double": "double",
    "boolean": "boolean",
    "binary": "binary",
    "date": "date",
    "timestamp": "timestamp",
    "timestamp_ntz": "timestamp",
}


class CatalogConflict(TerminalError):
    """Glue already holds something of this name that is not ours."""

    code = "CATALOG_CONFLICT"


class CatalogRefused(TerminalError):
    """A Delta table has a form that Glue does not take, e.g. a name of 300 bytes."""

    code = "CATALOG_REFUSED"


@dataclass(frozen=True)
class Registration:
    """What was done for one table."""

    table: str
    action: Action
    columns: int


def glue_type(delta_type: str | Mapping[str, Any]) -> str:
    """A type of the Delta log as Hive and Athena spell it. Raises CatalogRefused for one that Athena cannot read."""
    if isinstance(delta_type, str):
        if delta_type.startswith("decimal("):
            return delta_type.replace(" ", "")
        if delta_type not in _PRIMITIVES:
            raise _refusal("column type", delta_type, "one that Athena reads")
        return _PRIMITIVES[delta_type]
    kind = delta_type["type"]
    if kind == "array":
        return f"array<{glue_type(delta_type['elementType'])}>"
    if kind == "map":
        return f"map<{glue_type(delta_type['keyType'])},{glue_type(delta_type['valueType'])}>"
    fields = ",".join(f"{field['name']}:{glue_type(field['type'])}" for field in delta_type["fields"])
    return f"struct<{fields}>"


def discover(settings: Settings, layer: Layer) -> list[str]:
    """Names of the Delta tables of a layer: the folders that hold a ``_delta_log``."""
    bucket, prefix = store.split(f"{settings.lake_uri}/{layer}/")
    pages = (
        store.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    )
    folders = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
    found = []
    for folder in folders:
        name = folder.removeprefix(prefix).rstrip("/")
        first = store.client().list_objects_v2(Bucket=bucket, Prefix=f"{folder}_delta_log/", MaxKeys=1)
        if not name.startswith("_") and first.get("KeyCount", 0) > 0:
            found.append(name)
    return found


def open_table(location: str) -> DeltaTable:
    """A Delta table without Spark."""
    return DeltaTable(location, storage_options=store.delta_options())


def register(settings: Settings, layers: tuple[Layer, ...]) -> list[Registration]:
    """Bring Glue to what the Delta logs say. Idempotent; drops nothing.

    Every table that can be is registered before CatalogConflict, CatalogRefused or TableUnreadable names all that
    cannot.
    """
    client = boto3.client("glue", region_name=settings.region)
    results: list[Registration] = []
    conflicts: list[str] = []
    refused: list[Violation] = []
    unreadable: dict[str, str] = {}
    for layer in layers:
        database = getattr(settings.glue, layer)
        _ensure_database(client, database, f"{settings.lake_uri}/{layer}")
        for name in discover(settings, layer):
            try:
                results.append(
                    _register(client, database, f"{layer}.{name}", settings.table_uri(f"{layer}.{name}"))
                )
            except DeltaError as error:
                unreadable[f"{layer}.{name}"] = str(error).strip().partition("\n")[0][:300]
            except CatalogConflict as conflict:
                conflicts.append(conflict.message)
            except CatalogRefused as refusal:
                refused += [replace(v, where=f"{layer}.{name}: {v.where}") for v in refusal.violations]
    if conflicts:
        raise CatalogConflict(
            "Glue holds tables of these names that this project does not own: " + "; ".join(conflicts),
            hint=f"rename or drop them, or set their parameter {OWNER}=true to hand them over",
            violations=tuple(refused),
        )
    if refused:
        raise CatalogRefused(
            "Glue does not take tables of these forms; the others are registered",
            hint="rename the folder or the column, or drop the table, then run this again",
            violations=tuple(refused),
        )
    if unreadable:
        raise TableUnreadable(
            "; ".join(f"{name} cannot be read: {why}" for name, why in unreadable.items())
            + "; the others are registered",
            hint="; ".join(f"{RECOVER} repair --table {name}" for name in unreadable),
        )
    return results


def table_input(name: str, location: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """Glue's TableInput for a Delta table, from the log's schema."""
    columns = [
        {
            "Name": field["name"],
            "Type": glue_type(field["type"]),
            "Comment": glue.comment(str(field.get("metadata", {}).get("comment", ""))),
        }
        for field in schema["fields"]
    ]
    return {
        "Name": name,
        "Description": glue.description(description),
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {
            "EXTERNAL": "TRUE",
            "classification": "delta",
            "spark.sql.sources.provider": "delta",
            "table_type": "delta",
            OWNER: "true",
        },
        "PartitionKeys": [],
        "StorageDescriptor": {
            "Columns": columns,
            "Location": location,
            "InputFormat": "org.apache.hadoop.mapred.SequenceFileInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
                "Parameters": {"path": location, "serialization.format": "1"},
            },
        },
    }


def _ensure_database(client: GlueClient, name: str, location: str) -> None:
    try:
        client.get_database(Name=name)
    except client.exceptions.EntityNotFoundException:
        client.create_database(DatabaseInput={"Name": name, "LocationUri": location})


def _register(client: GlueClient, database: str, table: str, location: str) -> Registration:
    delta = open_table(location)
    schema = json.loads(delta.schema().to_json())
    name = table.split(".")[1].lower()  # Glue folds it
    wanted = table_input(name, location, schema, delta.metadata().description or "")
    action = _write(client, database, wanted)
    return Registration(table, action, len(schema["fields"]))


def _write(client: GlueClient, database: str, wanted: dict[str, Any]) -> Action:
    try:
        live = _live(client, database, wanted["Name"])
        if live is None:
            client.create_table(DatabaseName=database, TableInput=wanted)  # type: ignore[arg-type]
            return "created"
        if live.get("Parameters", {}).get(OWNER) != "true":
            where = live.get("StorageDescriptor", {}).get("Location")
            raise CatalogConflict(f"{database}.{wanted['Name']} at {where}")
        if covers(live, wanted):
            return "unchanged"
        client.update_table(DatabaseName=database, TableInput=wanted)  # type: ignore[arg-type]
        return "updated"
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "AlreadyExistsException":  # somebody registered it a moment ago
            return _write(client, database, wanted)
        if code in _INVALID:
            raise _refusal("definition", error.response["Error"]["Message"], "one that Glue takes") from error
        raise


def _refusal(where: str, received: str, expected: str) -> CatalogRefused:
    return CatalogRefused("Glue refuses", violations=(Violation(where, received, expected),))


def _live(client: GlueClient, database: str, name: str) -> Mapping[str, Any] | None:
    try:
        return client.get_table(DatabaseName=database, Name=name)["Table"]
    except client.exceptions.EntityNotFoundException:
        return None


def covers(live: Any, wanted: Any) -> bool:
    """Whether what Glue holds is what we would write.

    Glue adds fields to what it was given (Retention, Compressed, NumberOfBuckets, SkewedInfo …), and other engines add
    parameters: those do not count. Nothing and an empty text, list or map are the same to it.
    """
    if isinstance(wanted, Mapping) and wanted:
        return isinstance(live, Mapping) and all(covers(live.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list) and wanted:
        return isinstance(live, list) and len(live) == len(wanted) and all(map(covers, live, wanted))
    return bool(live == wanted or not (live or wanted))
