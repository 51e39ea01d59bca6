"""Landed rows as they came, in one form whatever the source.

Columns: ``fields`` (source field → text as received, null where null), ``payload`` (the row as text, for
quarantine), ``_position``, provenance; from Kafka also the record's own columns, already typed.
A field named ``_malformed`` says why a row could not be taken apart.

A payload is all there is to know of a row: ``unpacked`` gives from it the fields that the landing gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.contracts import quote
from lakehouse.landing import MALFORMED_FIELD, POSITION, SURPLUS_FIELD, Manifest, parquet_schema
from lakehouse.quality import dlq, json_text
from lakehouse.session import local_frame
from lakehouse.settings import Settings
from lakehouse.sources import kafka

# Footers of parts that are read at a time.
_SIDE_BY_SIDE = 16
HALF_PAIR = "the value escapes half of a surrogate pair"


def read_landed(spark: SparkSession, settings: Settings, manifest: Manifest) -> DataFrame:
    """The rows of a manifest with their provenance; a pure function of the landing (of the topic, for Kafka)."""
    if manifest.kind == "replay":
        rows = _replayed(spark, settings, manifest)
    elif manifest.source == "kafka":
        rows = _records(spark, settings, manifest)
    elif parquet := manifest.uris(settings, "parquet"):
        rows = _parts(spark, parquet)
    else:
        rows = _lines(spark, manifest.uris(settings, "jsonl"))
    landed_at = F.lit(manifest.landed_at.isoformat()).cast("timestamp")
    own = {"_source": F.lit(manifest.source), "_landed_at": landed_at}
    return rows.withColumns(
        {
            "_run_id": F.lit(manifest.run_id),
            **{name: value for name, value in own.items() if name not in rows.columns},
            "ingest_date": F.to_date(landed_at),
        }
    )


def unpacked(frame: DataFrame, source: str, max_value_bytes: int) -> DataFrame:
    """Rows that have nothing but their ``payload``, with ``fields`` and, from Kafka, the record's own columns."""
    if source != "kafka":
        return frame.withColumn("fields", _row_fields(F.col("payload")))
    record = F.from_json("payload", dlq.PAYLOAD_TYPE)
    whole = frame.withColumn("__record", record).withColumns(
        {
            **{name: F.col(f"__record.{name}") for name in ("topic", "partition", "offset", "broker_ts")},
            **{name: F.unbase64(F.col(f"__record.{name}")) for name in ("key", "value")},
        }
    )
    return whole.withColumn("fields", json_fields(F.col("value"), max_value_bytes, _texts())).drop("__record")


def _replayed(spark: SparkSession, settings: Settings, manifest: Manifest) -> DataFrame:
    """Rows of earlier runs, each with source and landing time of its own."""
    lines = spark.read.schema(
        f"{POSITION} string, _source string, _landed_at timestamp, payload string"
    ).json(manifest.uris(settings, "jsonl"))
    return unpacked(lines, manifest.source, settings.sources.kafka.max_value_bytes)


def _parts(spark: SparkSession, uris: list[str]) -> DataFrame:
    """The rows of Parquet parts, those with other types apart: Spark reads all files of a call by the first one's."""
    frames = [_columns(spark.read.parquet(*alike)) for alike in _alike(uris)]
    return reduce(DataFrame.union, frames)


def _alike(uris: list[str]) -> list[list[str]]:
    """Parts by the columns and types that they have."""
    if len(uris) == 1:
        return [uris]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        schemas = pool.map(parquet_schema, uris)
    found: dict[str, list[str]] = {}
    for uri, schema in zip(uris, schemas, strict=True):
        found.setdefault(str(schema.remove_metadata()), []).append(uri)
    return list(found.values())


def _columns(landed: DataFrame) -> DataFrame:
    names = [name for name in landed.columns if name != POSITION]
    entries = [part for name in names for part in (F.lit(name), F.col(quote(name)).cast("string"))]
    # The payload is what is judged: text made of a type by other rules than a cast's would be another value.
    fields = landed.select(F.create_map(*entries).alias("fields"), F.col(POSITION))
    return fields.select("fields", F.to_json("fields").alias("payload"), POSITION)


def _lines(spark: SparkSession, uris: list[str]) -> DataFrame:
    if not uris:
        return local_frame(spark, [], f"fields {json_text.MAP}, payload string, {POSITION} string")
    lines = spark.read.text(uris).select(
        _row_fields(F.col("value")).alias("fields"), F.col("value").alias("payload")
    )
    return lines.withColumn(POSITION, F.col("fields")[POSITION])


def _row_fields(text: Column) -> Column:
    """The members of a JSON object in a line, each as it came; half of a surrogate pair, which names no character and
    cannot be stored, as the six characters of its escape: the row says so as malformed.
    """
    fields = json_text.members(text)
    others = F.map_filter(fields, lambda name, _: name != MALFORMED_FIELD)
    reason = F.create_map(F.lit(MALFORMED_FIELD), F.lit(HALF_PAIR))
    return F.when(json_text.has_half_pair(text), F.map_concat(others, reason)).otherwise(fields)


def _records(spark: SparkSession, settings: Settings, manifest: Manifest) -> DataFrame:
    columns = "topic string, partition int, offset bigint, broker_ts timestamp, key binary, value binary"
    if not kafka.holds_offsets(manifest):
        return local_frame(spark, [], f"{columns}, fields {json_text.MAP}, payload string, {POSITION} string")
    frame = spark.read.format("kafka").options(**kafka.connector_options(settings, manifest)).load()
    times = kafka.record_times(manifest)
    if times is not None:
        since, until = (F.lit(time.isoformat()).cast("timestamp") for time in times)
        frame = frame.where((F.col("timestamp") >= since) & (F.col("timestamp") < until))
    return records(frame, settings.sources.kafka.max_value_bytes)


def records(frame: DataFrame, max_value_bytes: int) -> DataFrame:
    """Records as Spark's Kafka reader gives them, taken apart: of a bounded range or of a batch of the stream.

    ``headers`` come along where the reader was asked for them.
    """
    position = F.concat(F.lpad("partition", 6, "0"), F.lit(":"), F.lpad("offset", 19, "0"))
    record = frame.select(
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("broker_ts"),
        "key",
        "value",
        position.alias(POSITION),
        *[name for name in frame.columns if name == "headers"],
    )
    return record.select("*", *_taken_apart(max_value_bytes))


@lru_cache(maxsize=8)
def _taken_apart(max_value_bytes: int) -> tuple[Column, Column]:
    """``fields`` and ``payload`` of a record; made once, not once a batch of the stream."""
    return json_fields(F.col("value"), max_value_bytes, _texts()).alias("fields"), dlq.payload().alias(
        "payload"
    )


def json_fields(value: Column, max_bytes: int, texts: Sequence[str] = ()) -> Column:
    """The members of a JSON object held in bytes; ``_malformed`` alone where it is none (RFC 8259), or no UTF-8.

    What RFC 8259 leaves open is decided here:

    - Refused: a null (tombstone), more than ``max_bytes`` (never parsed), bytes that are no UTF-8, a byte order mark,
      the same name twice in one object (however spelt), half of a surrogate pair as an escape (it names no
      character), arrays and objects nested more than about 1,000 deep, a number of more than 1,000 digits, an object,
      an array, true or false as one of ``texts`` (the members that a text or a number has to name).
    - Refused as RFC 8259 has it: single quotes, NaN and Infinity, comments, trailing commas, leading zeros, control
      characters in strings, anything but white space after the object, a value that is no object.
    - Taken: any white space around, any order of names, names that the contract does not know, whatever they hold.
      A number of any size or precision, as it was sent: where the contract knows the field, its type judges it.

    Parsed as a variant, which refuses what the RFC does and duplicate names. The parser ignores what follows the first
    value. Wrapped once as an array's element and once as an object's member, trailing text breaks at least one of the
    two: no text closes both a bracket and a brace. The member has its numbers quoted (``quality.json_text``).
    """
    text = F.when(F.octet_length(value) <= max_bytes, value.cast("string"))
    element = F.try_parse_json(F.concat(F.lit("["), text, F.lit("]")))
    exact = json_text.with_numbers_quoted(text)
    member = F.try_parse_json(F.concat(F.lit('{"v":'), exact, F.lit("}")))
    fields = F.try_variant_get(member, "$.v", json_text.MAP)
    is_object = F.try_variant_get(element, "$[0]", json_text.MAP).isNotNull()
    is_alone = F.try_variant_get(element, "$[1]", "variant").isNull()
    reason = (
        F.when(value.isNull(), "the value is null (a tombstone)")
        .when(F.octet_length(value) > max_bytes, f"the value has more than {max_bytes} bytes")
        .when(~F.is_valid_utf8(text), "the value is not UTF-8")
        .when(~(is_object & is_alone) | fields.isNull(), "the value is not a JSON object or has a name twice")
        .when(json_text.has_half_pair(text), HALF_PAIR)
    )
    reason = F.coalesce(reason, *[_not_text(member, name) for name in texts])
    # A sender's field of such a name says nothing about our parsing.
    known = F.map_filter(fields, lambda name, _: ~name.isin(POSITION, MALFORMED_FIELD, SURPLUS_FIELD))
    return F.when(reason.isNull(), known).otherwise(F.create_map(F.lit(MALFORMED_FIELD), reason))


def _not_text(member: Column, name: str) -> Column:
    """Why a member is nothing that could be taken for text; null where it is, or is not there."""
    kind = F.schema_of_variant(F.try_variant_get(member, f"$.v.{name}", "variant"))
    found = (
        F.when(kind.startswith("OBJECT"), "an object")
        .when(kind.startswith("ARRAY"), "an array")
        .when(kind == "BOOLEAN", "true or false")
    )
    return F.concat(F.lit("the value has "), found, F.lit(f" as {name}"))


@lru_cache
def _texts() -> tuple[str, ...]:
    """The members of an event that the contract takes as text."""
    columns = contracts.load(dlq.BRONZE).columns
    return tuple(each.source_field for each in columns if each.type == "string" and each.source_field)
