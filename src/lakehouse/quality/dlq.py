"""Events that the stream refused: rows of ``ops.kafka_orders_dlq``, bytes as received and all reasons."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.contracts import Contract, quote
from lakehouse.contracts.spark import schema
from lakehouse.landing import POSITION
from lakehouse.quality.rules import REASONS, show

TABLE = "ops.kafka_orders_dlq"
BRONZE = "bronze.kafka_orders"
# A record of the topic as the payload of a refused row: bytes as base64, what is null left out.
PAYLOAD_TYPE = "topic string, partition int, offset bigint, broker_ts timestamp, key string, value string"


def payload(column: Callable[[str], Column] = F.col) -> Column:
    """The payload of a record by its columns; ``flows.landed.unpacked`` takes it apart again."""
    names = ("topic", "partition", "offset", "broker_ts")
    record = F.struct(
        *[column(name).alias(name) for name in names],
        *[F.base64(column(name)).alias(name) for name in ("key", "value")],
    )
    # Microseconds: a payload holds what the record's columns held.
    return F.to_json(record, {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"})


def refused(rejected: DataFrame, contract: Contract) -> DataFrame:
    """The columns of ops.kafka_orders_dlq for refused rows of ``rules.split`` that kept their ``headers``."""
    own = {"reasons": F.col(REASONS), "contract_version": F.lit(contract.version)}
    return rejected.select(
        *[
            own.get(field.name, F.col(quote(field.name))).cast(field.dataType).alias(field.name)
            for field in schema(contracts.load(TABLE))
        ]
    )


def count_by_rule(events: DataFrame) -> dict[str, int]:
    """How many events break each rule."""
    names = F.transform("reasons", lambda reason: F.substring_index(reason, ": ", 1))
    counted = events.select(F.explode(F.array_distinct(names)).alias("rule")).groupBy("rule").count()
    return {row["rule"]: row["count"] for row in counted.collect()}


def samples(events: DataFrame, rule: str | None, n: int = 3) -> tuple[dict[str, str], ...]:
    """Events that break a rule, or any, without their payload: reasons have personal values masked."""
    if rule is not None:
        events = events.where(F.exists("reasons", lambda reason: reason.startswith(f"{rule}: ")))
    shown = events.select(
        POSITION,
        show(F.try_validate_utf8(F.col("key").cast("string")), False).alias("key"),
        F.concat_ws("; ", F.col("reasons")).alias("reasons"),
    )
    rows = shown.orderBy(POSITION).limit(n).collect()
    return tuple({name: value for name, value in row.asDict().items() if value is not None} for row in rows)
