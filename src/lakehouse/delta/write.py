"""The only code that commits data. Every commit carries a tag by which its writer finds it again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession

from lakehouse.delta.conflicts import CONFLICTS
from lakehouse.delta.layout import Sizes
from lakehouse.delta.read import Commit, commit_info, commit_tagged, head, is_empty
from lakehouse.errors import CommitConflict

_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_MATERIALIZE_SOURCE = "spark.databricks.delta.merge.materializeSource"
_MAX_FILE_SIZE = "spark.databricks.delta.optimize.maxFileSize"
_MIN_FILE_SIZE = "spark.databricks.delta.optimize.minFileSize"
_VACUUM_LOGGING = "spark.databricks.delta.vacuum.logging.enabled"

log = logging.getLogger("lakehouse.delta.write")


class _Write:
    """A write under way: ``commit`` is what it left in the log once it is over, None where that was nothing."""

    def __init__(self, spark: SparkSession, uri: str, tag: str) -> None:
        self._spark, self._uri, self._tag = spark, uri, tag
        self._before = head(spark, uri).version

    @property
    def commit(self) -> Commit | None:
        return commit_tagged(self._spark, self._uri, self._tag, after=self._before)


@contextmanager
def _tagged(spark: SparkSession, uri: str, tag: str) -> Iterator[_Write]:
    """Tag the commits made inside, and name a lost race for what it is: transient."""
    write = _Write(spark, uri, tag)
    spark.conf.set(_USER_METADATA, tag)
    try:
        yield write
    except CONFLICTS as error:
        raise CommitConflict(
            f"{uri}: {_winner(spark, uri)}; nothing of this write is visible ({type(error).__name__})",
            hint="retry; if it repeats, look for the other writer with `DESCRIBE HISTORY`",
        ) from error
    finally:
        spark.conf.unset(_USER_METADATA)


def _winner(spark: SparkSession, uri: str) -> str:
    """Who committed first, by what the newest commit says of itself: of two since, the later one."""
    words = "another writer committed first"
    try:
        version = head(spark, uri).version
        info = commit_info(uri, version)
    except Exception as error:
        # The conflict is what has to be told, and is in any case.
        log.warning("%s: its newest commit cannot be read: %s", uri, error)
        return words
    if not info:
        return words
    return f"{words} (version {version}: {info.get('operation')}, tagged {info.get('userMetadata')!r})"


def replace_where(frame: DataFrame, uri: str, predicate: str, tag: str) -> Commit | None:
    """Replace the rows that match a predicate by these: a rerun writes the same rows once.

    None where there was nothing to remove and nothing to add: Delta makes no commit of that.
    """
    with _tagged(frame.sparkSession, uri, tag) as write:
        frame.write.format("delta").mode("overwrite").option("replaceWhere", predicate).save(uri)
    return write.commit


def replace_run(frame: DataFrame, uri: str, run_id: str, ingest_date: date, tag: str) -> Commit | None:
    """Replace a run's rows in a table partitioned by ``ingest_date``."""
    return replace_where(frame, uri, f"ingest_date = DATE'{ingest_date}' AND _run_id = '{run_id}'", tag)


def append_once(frame: DataFrame, uri: str, app_id: str, version: int, note: str) -> None:
    """Add rows in the commit ``version`` of ``app_id``; where the table has that commit already, nothing happens.

    Delta's own transaction of a stream: versions of one app id have to rise. ``note`` becomes the commit's user
    metadata. For a stream only: RESTORE does not take transactions back.
    """
    options = {"txnAppId": app_id, "txnVersion": str(version), "userMetadata": note}
    try:
        frame.write.format("delta").mode("append").options(**options).save(uri)
    except CONFLICTS as error:
        raise CommitConflict(
            f"{uri}: {_winner(frame.sparkSession, uri)}; nothing of this batch is visible ({type(error).__name__})",
            hint="start the stream again: it repeats the batch",
        ) from error


def overwrite(frame: DataFrame, uri: str, tag: str) -> Commit | None:
    """Replace all rows, in one commit. None where the table was and stays empty."""
    with _tagged(frame.sparkSession, uri, tag) as write:
        frame.write.format("delta").mode("overwrite").save(uri)
    return write.commit


def merge(
    frame: DataFrame,
    uri: str,
    key: Sequence[str],
    tag: str,
    *,
    partition_values: Mapping[str, Sequence[str]] | None = None,
    update: bool = True,
    keep: Sequence[str] = (),
) -> Commit | None:
    """Insert rows by key, or replace the row that has it; the frame must hold each key once.

    Without ``update`` a row whose key is there stays as it is, and no file is rewritten. Columns in ``keep`` have their
    value kept where the frame has none. ``partition_values`` are the
    values the frame has in partition columns: as literals in the condition they keep Delta from reading and rewriting
    other partitions. Returns None where nothing changed (no commit is made).
    """
    spark = frame.sparkSession
    conditions = [f"t.`{column}` = s.`{column}`" for column in key]
    for column, values in (partition_values or {}).items():
        literals = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
        conditions.append(f"t.`{column}` IN ({literals})")
    # Delta first copies a frame, lest it give other rows the second time; one that only inserts is evaluated once.
    spark.conf.set(_MATERIALIZE_SOURCE, "auto" if update else "none")
    with _tagged(spark, uri, tag) as write:
        builder = DeltaTable.forPath(spark, uri).alias("t").merge(frame.alias("s"), " AND ".join(conditions))
        if update:
            updated: dict[str, str | Column] = {
                f"`{name}`": f"coalesce(s.`{name}`, t.`{name}`)" if name in keep else f"s.`{name}`"
                for name in frame.columns
            }
            builder = builder.whenMatchedUpdate(set=updated) if keep else builder.whenMatchedUpdateAll()
        builder.whenNotMatchedInsertAll().execute()
    return write.commit


def restore(spark: SparkSession, uri: str, version: int, tag: str) -> Commit | None:
    """Make an earlier version the newest. None where the table already equals it."""
    with _tagged(spark, uri, tag) as write:
        DeltaTable.forPath(spark, uri).restoreToVersion(version)
    return write.commit


def empty(spark: SparkSession, uri: str, tag: str) -> Commit | None:
    """Remove all rows. None where there are none."""
    if is_empty(spark, uri):
        return None
    with _tagged(spark, uri, tag) as write:
        DeltaTable.forPath(spark, uri).delete()
    return write.commit


def delete_where(spark: SparkSession, uri: str, predicate: str, tag: str) -> Commit | None:
    """Remove the rows that match. None where there are none."""
    with _tagged(spark, uri, tag) as write:
        DeltaTable.forPath(spark, uri).delete(predicate)
    return write.commit


def update_where(
    spark: SparkSession, uri: str, predicate: str, values: Mapping[str, str | Column], tag: str
) -> Commit | None:
    """Set columns of the rows that match, to SQL text or columns. None where there are none.

    The log keeps the predicate, not the values.
    """
    with _tagged(spark, uri, tag) as write:
        DeltaTable.forPath(spark, uri).update(predicate, dict(values))
    return write.commit


def optimize(
    spark: SparkSession,
    uri: str,
    where: str | None,
    zorder_by: Sequence[str],
    tag: str,
    sizes: Sizes,
    *,
    small_only: bool = True,
) -> Commit | None:
    """Rewrite the files of the partitions of ``where`` (None: all), in one commit; no row changes.

    Without columns to order by, files are put together: those that are small, or (``small_only`` false) all that are
    below the target size. None where Delta found nothing to rewrite.
    """
    spark.conf.set(_MAX_FILE_SIZE, str(sizes.target))
    spark.conf.set(_MIN_FILE_SIZE, str(sizes.small if small_only else sizes.target))
    with _tagged(spark, uri, tag) as write:
        builder = DeltaTable.forPath(spark, uri).optimize()
        if where is not None:
            builder = builder.where(where)
        if zorder_by:
            builder.executeZOrderBy(*zorder_by)
        else:
            builder.executeCompaction()
    return write.commit


def vacuum(spark: SparkSession, uri: str) -> None:
    """Delete files that have been out of use for longer than the table's own retention.

    Makes no commit: a version that nobody judged would be one that no reader may trust.
    """
    spark.conf.set(_VACUUM_LOGGING, "false")
    DeltaTable.forPath(spark, uri).vacuum()
