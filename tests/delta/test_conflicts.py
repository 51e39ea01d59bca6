"""A writer that was too late says who was there first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyspark.sql.types import LongType, StructField, StructType

from lakehouse.delta import write
from lakehouse.errors import CommitConflict
from lakehouse.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIELDS = StructType([StructField("n", LongType())])


def test_a_conflict_names_the_commit_that_was_first(
    spark: SparkSession, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from delta.exceptions import ConcurrentAppendException

    uri, tag = f"{lake}/silver/orders", "20260104T060000Z-1/bronze_to_silver/silver.orders"
    rows = local_frame(spark, [(1,)], FIELDS)
    rows.write.format("delta").save(uri)

    def too_late() -> None:
        with write._tagged(spark, uri, "late"):
            write.overwrite(rows, uri, tag)
            raise ConcurrentAppendException("Files were added", "")

    with pytest.raises(CommitConflict) as lost:
        too_late()
    assert lost.value.message == (
        f"{uri}: another writer committed first (version 1: WRITE, tagged '{tag}'); nothing of this write is visible "
        "(ConcurrentAppendException)"
    )

    def unreadable(*_: object) -> None:
        raise OSError("the log cannot be read")

    monkeypatch.setattr(write, "commit_info", unreadable)
    with pytest.raises(CommitConflict, match="another writer committed first; nothing of this write"):
        too_late()
