"""What a Delta log says of a table, read once and without a Spark job.

``DeltaTable.detail()`` counts files and takes over a second a table; the metadata alone takes some milliseconds. Python
has no public way to it, so this asks Delta's own log class, always for the newest version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from lakehouse import store


@dataclass(frozen=True)
class LogHead:
    """A table's identity, newest version and metadata; ``schema_json`` is Delta's own form of the schema."""

    table_id: str
    version: int
    schema_json: str
    partition_by: tuple[str, ...]
    properties: Mapping[str, str]


def log_head(spark: SparkSession, uri: str) -> LogHead | None:
    """The newest version of the log at a location, or None where there is no Delta table."""
    snapshot = newest_snapshot(spark, uri)
    if snapshot.version() < 0:
        return None
    metadata = snapshot.metadata()
    columns, entries = metadata.partitionColumns(), metadata.configuration().toSeq()
    return LogHead(
        table_id=metadata.id(),
        version=snapshot.version(),
        schema_json=metadata.schemaString(),
        partition_by=tuple(columns.apply(i) for i in range(columns.size())),
        properties={entries.apply(i)._1(): entries.apply(i)._2() for i in range(entries.size())},
    )


def newest_snapshot(spark: SparkSession, uri: str) -> Any:
    """Delta's own Snapshot of the newest version, in the JVM; its version is -1 where there is no table."""
    # The whole name at once: written with dots, each part of it is looked for in every jar as a class of its own.
    delta_log: Any = getattr(spark.sparkContext._jvm, "org.apache.spark.sql.delta.DeltaLog")
    return delta_log.forTableWithSnapshot(spark._jsparkSession, uri)._2()


def forget(spark: SparkSession) -> None:
    """Have Delta read every log anew: objects of one were changed behind its back."""
    delta_log: Any = getattr(spark.sparkContext._jvm, "org.apache.spark.sql.delta.DeltaLog")
    delta_log.clearCache()


def is_dropped(spark: SparkSession, uri: str) -> bool:
    """Whether there is no table at a location, and the bucket's versions hold the log of one that was deleted.

    Commits and checkpoints begin with a digit; a try to create a table that was cut off leaves none of them.
    """
    # The log last: what has versions may have become a table meanwhile.
    return store.has_versions(f"{uri}/_delta_log/0") and log_head(spark, uri) is None


def way_back(uri: str) -> str:
    """What brings a dropped table back."""
    _, key = store.split(uri)
    return f"scripts/undelete.sh {key}/ (RUNBOOK_AWS_2025.md 8.12)"
