"""What can still be read of a table some of whose data files cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.delta.broken import Broken, DataFile, broken_files
from lakehouse.delta.files import data_files
from lakehouse.delta.read import read
from lakehouse.delta.write import overwrite, replace_where

_IGNORE = ("spark.sql.files.ignoreCorruptFiles", "spark.sql.files.ignoreMissingFiles")


def unreadable_files(spark: SparkSession, uri: str, files: Iterable[DataFile]) -> list[Broken]:
    """Data files of the newest version that cannot be read whole, by reading all columns of all of them once."""
    found = {each.uri: each for each in broken_files(uri)}
    rows = _ignoring(spark, uri)
    # What is not asked for is not read: a file's rows are counted by its footer alone.
    all_columns = F.max(F.xxhash64(*rows.columns))
    counted = {
        unquote(row["file"]).replace("s3a://", "s3://", 1): row["rows"]
        for row in rows.groupBy(F.col("_metadata.file_path").alias("file"))
        .agg(F.count(F.lit(1)).alias("rows"), all_columns)
        .collect()
    }
    for file in files:
        if file.rows is not None and file.uri not in found and counted.get(file.uri, 0) != file.rows:
            found[file.uri] = Broken(file.uri, "cannot be read whole")
    return sorted(found.values())


def keep_others(
    spark: SparkSession, uri: str, lost: Collection[str], partition_by: Sequence[str], tag: str
) -> None:
    """Take data files out of a table without reading them: their partitions are replaced by the rows of the others."""
    names = {each.rpartition("/")[2] for each in lost}
    kept = _ignoring(spark, uri).where(~F.col("_metadata.file_name").isin(sorted(names)))
    if not partition_by:
        overwrite(kept, uri, tag)
        return
    touched = {
        file.partition
        for file in data_files(spark, uri, partition_by, ())
        if file.path.rpartition("/")[2] in names
    }
    predicate = " OR ".join(
        "(" + " AND ".join(_equals(column, value) for column, value in partition) + ")"
        for partition in sorted(touched, key=str)
    )
    if touched:
        replace_where(kept.where(predicate), uri, predicate, tag)


def _ignoring(spark: SparkSession, uri: str) -> DataFrame:
    """The newest version as far as it can be read, by a session of its own."""
    lenient = spark.newSession()
    for name in _IGNORE:
        lenient.conf.set(name, "true")
    return read(lenient, uri)


def _equals(column: str, value: str | None) -> str:
    if value is None:
        return f"`{column}` IS NULL"
    literal = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"`{column}` = '{literal}'"
