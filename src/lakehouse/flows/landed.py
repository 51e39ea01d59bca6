"""Landed rows as they came, in one form whatever the source.

Columns: ``fields`` (source field → text as received, null where null), ``payload`` (the row as text, for
quarantine), ``_position``, provenance; from Kafka also the record's own columns, already typed.
A field named ``_malformed`` says why a row could not be taken apart.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.landing import POSITION, Manifest
from lakehouse.settings import Settings
from lakehouse.sources import kafka

_FIELDS = "map<string,string>"


def read_landed(spark: SparkSession, settings: Settings, manifest: Manifest) -> DataFrame:
    """The rows of a manifest with their provenance; a pure function of the landing (of the topic, for Kafka)."""
    if manifest.source == "kafka":
        rows = _records(spark, settings, manifest)
    elif parquet := manifest.uris(settings, "parquet"):
        rows = _columns(spark.read.parquet(*parquet))
    else:
        rows = _lines(spark, manifest.uris(settings, "jsonl"))
    landed_at = F.lit(manifest.landed_at.isoformat()).cast("timestamp")
    return rows.withColumns(
        {
            "_run_id": F.lit(manifest.run_id),
            "_source": F.lit(manifest.source),
            "_landed_at": landed_at,
            "ingest_date": F.to_date(landed_at),
        }
    )


def _columns(landed: DataFrame) -> DataFrame:
    names = [name for name in landed.columns if name != POSITION]
    entries = [part for name in names for part in (F.lit(name), F.col(f"`{name}`").cast("string"))]
    return landed.select(
        F.create_map(*entries).alias("fields"),
        F.to_json(F.struct(*[F.col(f"`{name}`") for name in names])).alias("payload"),
        F.col(POSITION),
    )


def _lines(spark: SparkSession, uris: list[str]) -> DataFrame:
    if not uris:
        return spark.createDataFrame([], f"fields {_FIELDS}, payload string, {POSITION} string")
    # As a variant: numbers stay exact, where from_json takes them through doubles.
    parsed = F.try_variant_get(F.try_parse_json("value"), "$", _FIELDS)
    lines = spark.read.text(uris).select(parsed.alias("fields"), F.col("value").alias("payload"))
    return lines.withColumn(POSITION, F.col("fields")[POSITION])


def _records(spark: SparkSession, settings: Settings, manifest: Manifest) -> DataFrame:
    columns = "topic string, partition int, offset bigint, broker_ts timestamp, key binary, value binary"
    if not manifest.rows:
        return spark.createDataFrame([], f"{columns}, fields {_FIELDS}, payload string, {POSITION} string")
    records = spark.read.format("kafka").options(**kafka.connector_options(settings, manifest)).load()
    position = F.concat(F.lpad("partition", 6, "0"), F.lit(":"), F.lpad("offset", 19, "0"))
    record = records.select(
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("broker_ts"),
        "key",
        "value",
        position.alias(POSITION),
    )
    kept = F.struct(
        "topic",
        "partition",
        "offset",
        "broker_ts",
        F.base64("key").alias("key"),
        F.base64("value").alias("value"),
    )
    return record.select("*", json_fields(F.col("value")).alias("fields"), F.to_json(kept).alias("payload"))


def json_fields(value: Column) -> Column:
    """The members of a JSON object held in bytes; ``_malformed`` alone where it is none (RFC 8259), or no UTF-8.

    Parsed as a variant, which refuses what the RFC does and duplicate names, and keeps numbers exact to 38 digits.
    The parser ignores what follows the first value. Wrapped once as an array's element and once as an object's
    member, trailing text breaks at least one of the two: no text closes both a bracket and a brace.
    """
    text = value.cast("string")
    element = F.try_parse_json(F.concat(F.lit("["), text, F.lit("]")))
    member = F.try_parse_json(F.concat(F.lit('{"v":'), text, F.lit("}")))
    fields = F.try_variant_get(element, "$[0]", _FIELDS)
    is_alone = F.try_variant_get(element, "$[1]", "variant").isNull() & member.isNotNull()
    reason = (
        F.when(value.isNull(), "the value is null (a tombstone)")
        .when(~F.is_valid_utf8(text), "the value is not UTF-8")
        .when(fields.isNull() | ~is_alone, "the value is not a JSON object")
    )
    return F.when(reason.isNull(), fields).otherwise(F.create_map(F.lit("_malformed"), reason))
