"""What a Delta log says of a table, read once and without a Spark job.

``DeltaTable.detail()`` counts files and takes over a second a table; the metadata alone takes some milliseconds. Python
has no public way to it, so this asks Delta's own log class, always for the newest version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession


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
    jvm: Any = spark.sparkContext._jvm
    pair = jvm.org.apache.spark.sql.delta.DeltaLog.forTableWithSnapshot(spark._jsparkSession, uri)
    snapshot = pair._2()
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
