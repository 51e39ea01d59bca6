"""A table that is not as a job expects it is told as what it is, not as a stack trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lakehouse import store
from lakehouse.delta import damage
from lakehouse.delta.write import replace_where
from lakehouse.errors import ContractViolation, TableUnreadable
from lakehouse.session import local_frame

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def table(spark: SparkSession, lake: str) -> str:
    """A table of two commits."""
    uri = f"{lake}/silver/a"
    for name in ("a", "b"):
        local_frame(spark, [(name,)], "name string").write.format("delta").mode("append").save(uri)
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    return uri


@pytest.mark.parametrize("kept", ["_delta_log/00000000000000000001.json", "_delta_log/"], ids=["log", "data"])
def test_deleted_objects_make_a_table_unreadable(spark: SparkSession, table: str, kept: str) -> None:
    for uri in list(store.keys(f"{table}/")):
        if f"{table}/{kept}" not in uri and (kept == "_delta_log/" or "_delta_log" in uri):
            store.delete(uri)

    with pytest.raises(Exception) as raised:  # noqa: PT011  # whatever Delta and Spark make of it
        spark.read.format("delta").load(table).collect()

    told = damage.recognised(raised.value, lambda: damage.look({"silver.a": table}, files=True))
    assert isinstance(told, TableUnreadable)
    assert f"silver.a cannot be read: {table}/" in told.message
    assert told.hint == "scripts/emr_submit.sh recover repair --table silver.a"
    # Nobody knows the table: then what Delta says, and no stack trace.
    alone = damage.recognised(raised.value)
    assert isinstance(alone, TableUnreadable)
    assert "\n" not in alone.message


def test_a_table_of_an_earlier_contract_is_told(spark: SparkSession, table: str) -> None:
    newer = local_frame(spark, [("c", 1)], "name string, added long")

    with pytest.raises(Exception) as raised:  # noqa: PT011  # Delta's own
        replace_where(newer, table, "name = 'c'", "newer")

    told = damage.recognised(raised.value)
    assert isinstance(told, ContractViolation)
    assert "apply_contracts" in told.hint
    assert "DELTA_METADATA_MISMATCH" in told.message
    assert "nullable" not in told.message


def test_anything_else_stays_what_it_is() -> None:
    error = ValueError("[SOMETHING_ELSE] of its own")
    assert damage.recognised(error) is error
