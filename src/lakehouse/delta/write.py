"""The only code that commits data. Every commit carries a tag by which its writer finds it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from lakehouse.delta.conflicts import CONFLICTS
from lakehouse.delta.read import Commit, commit_tagged
from lakehouse.errors import CommitConflict

_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"


@contextmanager
def _commit(spark: SparkSession, uri: str, tag: str) -> Iterator[None]:
    """Tag the commits made inside, and name a lost race for what it is: transient."""
    spark.conf.set(_USER_METADATA, tag)
    try:
        yield
    except CONFLICTS as error:
        raise CommitConflict(
            f"{uri}: another writer committed first; nothing of this write is visible ({type(error).__name__})",
            hint="retry; if it repeats, look for the other writer with `DESCRIBE HISTORY`",
        ) from error
    finally:
        spark.conf.unset(_USER_METADATA)


def replace_where(frame: DataFrame, uri: str, predicate: str, tag: str) -> Commit | None:
    """Replace the rows that match a predicate by these: a rerun writes the same rows once.

    None where there was nothing to remove and nothing to add: Delta makes no commit of that.
    """
    spark = frame.sparkSession
    with _commit(spark, uri, tag):
        frame.write.format("delta").mode("overwrite").option("replaceWhere", predicate).save(uri)
    return commit_tagged(spark, uri, tag)


def replace_run(frame: DataFrame, uri: str, run_id: str, ingest_date: date, tag: str) -> Commit | None:
    """Replace a run's rows in a table partitioned by ``ingest_date``."""
    return replace_where(frame, uri, f"ingest_date = DATE'{ingest_date}' AND _run_id = '{run_id}'", tag)


def overwrite(frame: DataFrame, uri: str, tag: str) -> Commit | None:
    """Replace all rows, in one commit. None where the table was and stays empty."""
    spark = frame.sparkSession
    with _commit(spark, uri, tag):
        frame.write.format("delta").mode("overwrite").save(uri)
    return commit_tagged(spark, uri, tag)


def merge(
    frame: DataFrame,
    uri: str,
    key: Sequence[str],
    tag: str,
    *,
    partition_values: Mapping[str, Sequence[str]] | None = None,
    update: bool = True,
) -> Commit | None:
    """Insert rows by key, or replace the row that has it; the frame must hold each key once.

    ``partition_values`` are the values the frame has in partition columns: as literals in the condition they
    keep Delta from reading and rewriting other partitions. Returns None where nothing changed (no commit is made).
    """
    spark = frame.sparkSession
    conditions = [f"t.`{column}` = s.`{column}`" for column in key]
    for column, values in (partition_values or {}).items():
        literals = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
        conditions.append(f"t.`{column}` IN ({literals})")
    with _commit(spark, uri, tag):
        builder = DeltaTable.forPath(spark, uri).alias("t").merge(frame.alias("s"), " AND ".join(conditions))
        if update:
            builder = builder.whenMatchedUpdateAll()
        builder.whenNotMatchedInsertAll().execute()
    return commit_tagged(spark, uri, tag)


def restore(spark: SparkSession, uri: str, version: int, tag: str) -> Commit | None:
    """Make an earlier version the newest. None where the table already equals it."""
    with _commit(spark, uri, tag):
        DeltaTable.forPath(spark, uri).restoreToVersion(version)
    return commit_tagged(spark, uri, tag)


def empty(spark: SparkSession, uri: str, tag: str) -> Commit | None:
    """Remove all rows."""
    with _commit(spark, uri, tag):
        DeltaTable.forPath(spark, uri).delete()
    return commit_tagged(spark, uri, tag)
