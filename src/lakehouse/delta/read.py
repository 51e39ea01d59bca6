"""Reading Delta tables by location and version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from lakehouse import store
from lakehouse.delta.log import log_head
from lakehouse.errors import NotCertified


@dataclass(frozen=True)
class TableHead:
    """A table's identity (Delta's metadata id, new when a table is recreated) and its newest version."""

    table_id: str
    version: int


@dataclass(frozen=True)
class Commit:
    """One commit and Delta's own metrics of it."""

    version: int
    metrics: dict[str, str]

    def metric(self, name: str) -> int:
        return int(self.metrics.get(name, "0"))


def head(spark: SparkSession, uri: str) -> TableHead:
    """Identity and newest version of the table at a location. Raises NotCertified where there is no table."""
    found = log_head(spark, uri)
    if found is None:
        raise NotCertified(
            f"received no Delta table at {uri}, expected one",
            hint="run apply_contracts, which creates every table; it says so where this one was dropped",
        )
    return TableHead(table_id=found.table_id, version=found.version)


def commit_tagged(spark: SparkSession, uri: str, tag: str, *, after: int) -> Commit | None:
    """The newest commit later than version ``after`` that carries ``tag`` as its user metadata.

    Read from the log's own objects (commitInfo of the Delta protocol): by ``history()`` it takes a Spark job. An
    auto-compaction that follows a commit carries its tag, too, and is passed over.
    """
    for version in range(head(spark, uri).version, after, -1):
        info = commit_info(uri, version)
        is_compaction = (info.get("operationParameters") or {}).get("auto") is True
        if info.get("userMetadata") == tag and not is_compaction:
            return Commit(version=version, metrics=info.get("operationMetrics") or {})
    return None


def commit_info(uri: str, version: int) -> dict[str, Any]:
    """What the log says of one commit; empty where it has none of that version (not yet, or no longer)."""
    for line in (store.get(f"{uri}/_delta_log/{version:020}.json") or b"").splitlines():
        action = json.loads(line)
        if "commitInfo" in action:
            info: dict[str, Any] = action["commitInfo"]
            return info
    return {}


def superseded_at(uri: str, version: int) -> datetime | None:
    """When the version after this one was committed; None where the log does not have it."""
    milliseconds = commit_info(uri, version + 1).get("timestamp")
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def read(spark: SparkSession, uri: str, version: int | None = None) -> DataFrame:
    """The table at a location, at a version or its newest."""
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(uri)


def is_empty(spark: SparkSession, uri: str) -> bool:
    """Whether a table's newest version consists of no files."""
    return not read(spark, uri).inputFiles()


def is_untouched(uri: str, version: int) -> bool:
    """Whether a table at this version has never held a row: it was created, and that is all."""
    created = store.get(f"{uri}/_delta_log/{0:020}.json") if version == 0 else None
    return created is not None and not any("add" in json.loads(line) for line in created.splitlines())


def has_same_files(spark: SparkSession, uri: str, one: int, other: int) -> bool:
    """Whether two versions consist of the same data files: only metadata changed between them.

    No table has deletion vectors, so the same files are the same rows. Other files need not be other rows
    (OPTIMIZE rewrites them).
    """
    return set(read(spark, uri, one).inputFiles()) == set(read(spark, uri, other).inputFiles())
