"""The data files of a table, as its log describes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession

from lakehouse.delta.layout import FileFact
from lakehouse.delta.log import newest_snapshot


def data_files(
    spark: SparkSession, uri: str, partition_by: Sequence[str], columns: Sequence[str]
) -> tuple[FileFact, ...]:
    """The files of the newest version, with the ranges of these columns. One small Spark job over the log."""
    frame = DataFrame(newest_snapshot(spark, uri).allFiles().toDF(), spark)
    return tuple(
        FileFact(
            path=unquote(row["path"]),
            partition=tuple((column, row["partitionValues"].get(column)) for column in partition_by),
            bytes=row["size"],
            ranges=_ranges(row["stats"], columns),
        )
        for row in frame.select("path", "partitionValues", "size", "stats").collect()
    )


def _ranges(stats: str | None, columns: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    known = json.loads(stats) if stats else {}
    least, greatest = known.get("minValues") or {}, known.get("maxValues") or {}
    return {
        column: (least[column], greatest[column])
        for column in columns
        if least.get(column) is not None and greatest.get(column) is not None
    }
