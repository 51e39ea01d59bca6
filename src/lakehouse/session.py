"""The Spark session of a job, and what must hold before it may write.

Most of Spark's properties come with the submission (``emr_configs/``). Set here is what may differ in no run; checked
here is what cannot be set once the JVM runs: Delta, and a log store that keeps two drivers apart.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from lakehouse.errors import ConfigError, StorageUnsafe

CONDITIONAL_STORE = "com.lakehouse.delta.S3ConditionalLogStore"
# Keeps commits apart by a DynamoDB table, for an S3 that has no conditional writes; nothing of S3 to probe then.
DYNAMODB_STORE = "io.delta.storage.S3DynamoDBLogStore"
_DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
_SUBMIT_HINT = "submit the job with the properties of emr_configs/spark-defaults.conf and delta-core.conf"
_EVERYWHERE = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}

_probed: set[str] = set()


def spark_session(app_name: str, lake_uri: str) -> SparkSession:
    """The session of this process, in UTC, proven safe to commit to the lake (``s3://bucket``) with.

    Raises ConfigError where the submission left out Delta or the log store, StorageUnsafe where S3 creates a key
    twice.
    """
    # Python converts timestamps with the zone of its process.
    os.environ["TZ"] = "UTC"
    time.tzset()
    builder = SparkSession.builder.appName(app_name)
    for key, value in _EVERYWHERE.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    if _DELTA_EXTENSION not in (spark.conf.get("spark.sql.extensions", "") or ""):
        raise ConfigError(
            f"Spark runs without Delta (spark.sql.extensions lacks {_DELTA_EXTENSION})", hint=_SUBMIT_HINT
        )
    stores = {log_store(spark, scheme) for scheme in ("s3", "s3a")}
    if stores == {CONDITIONAL_STORE}:
        probe(spark, lake_uri)
    elif stores != {DYNAMODB_STORE}:
        raise ConfigError(
            "spark.delta.logStore.s3.impl and .s3a.impl: received "
            f"{', '.join(sorted(store or 'nothing' for store in stores))}, expected {CONDITIONAL_STORE} for both: "
            "with Delta's default, two drivers that write one table lose commits",
            hint=_SUBMIT_HINT,
        )
    return spark


def log_store(spark: SparkSession, scheme: str) -> str:
    """The class that writes Delta logs of a URI scheme, or "" where Delta's default does."""
    # Delta reads it from the context's properties: a session that sets it later changes nothing.
    return spark.sparkContext.getConf().get(f"spark.delta.logStore.{scheme}.impl", "") or ""


def probe(spark: SparkSession, lake_uri: str) -> None:
    """Create ``ops/_probe/log_store`` as a commit is created: where it exists, that must be refused.

    Once a process and lake. The key stays, so that later runs need a single put; the first one makes two.
    """
    if lake_uri in _probed:
        return
    for _ in range(2):
        if not _create(spark, f"{lake_uri}/ops/_probe/log_store"):
            _probed.add(lake_uri)
            return
    raise StorageUnsafe(
        f"{lake_uri}: S3 created one key twice, although If-None-Match: * has to make it refuse the second; "
        "commits of two drivers could be lost",
        hint="where this S3 cannot write conditionally, use S3DynamoDBLogStore (docs/deployment.md, Delta on S3)",
    )


def _create(spark: SparkSession, uri: str) -> bool:
    """Write a key by the conditional log store; False where it was refused because the key exists."""
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    lines = jvm.java.util.Collections.singletonList(uuid.uuid4().hex).iterator()
    try:
        store = jvm.com.lakehouse.delta.S3ConditionalLogStore(conf)
        store.write(jvm.org.apache.hadoop.fs.Path(uri), lines, False, conf)
    except Py4JJavaError as error:
        if error.java_exception.getClass().getName() == "java.nio.file.FileAlreadyExistsException":
            return False
        raise
    except (PySparkException, TypeError) as error:
        # PySpark's form of IllegalArgumentException; TypeError is py4j's word for a class that is not there.
        raise StorageUnsafe(
            f"{uri}: cannot be created conditionally: {error}",
            hint="s3:// has to be S3A of Hadoop 3.4.2 or later, and lakehouse-jvm.jar has to be on the class path",
        ) from error
    return True


def local_frame(
    spark: SparkSession, rows: Sequence[Sequence[Any]] | Sequence[Mapping[str, Any]], fields: StructType | str
) -> DataFrame:
    """A frame of the few rows that this process holds; naive times are UTC.

    Rows are mappings with a value for each name of ``fields`` and no other, whatever their order, or, where ``fields``
    is written out beside them, values in its order: two columns that a contract swaps must never swap their values.

    By Arrow: from a list Spark would start Python workers, which pickle the rows once more, at ten times the cost.
    Raises ValueError or TypeError where a value is none of its field's type, or null where that is not allowed, and
    ValueError where a mapping has other names.
    """
    shape = cast(StructType, StructType.fromDDL(fields)) if isinstance(fields, str) else fields
    ordered = [_ordered(row, shape.names) if isinstance(row, Mapping) else row for row in rows]
    columns = []
    for number, (field, target) in enumerate(zip(shape.fields, to_arrow_schema(shape), strict=True)):
        column = pa.array([row[number] for row in ordered], target.type)
        if column.null_count and not field.nullable:
            raise ValueError(f"{field.name}: received {column.null_count} nulls, expected none")
        columns.append(column)
    return spark.createDataFrame(pa.Table.from_arrays(columns, shape.names), shape)


def _ordered(row: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    if row.keys() != set(names):
        received = ", ".join(sorted(row.keys() ^ set(names)))
        raise ValueError(f"a row has not the columns of its table: {received} in one of the two alone")
    return [row[name] for name in names]
