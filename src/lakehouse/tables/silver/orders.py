"""silver.orders: one row per event of an order, from Snowflake and Kafka.

Grain (order_id, event_ts). Where both sources tell of an event, Snowflake's row stays; within Snowflake the
later load, within Kafka the later offset; of one load what was landed later. Timestamps are UTC with microseconds,
amount is in `currency`.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.tables.order import classify, with_payload_hash
from lakehouse.tables.values import clean, sortable_instant, sortable_number, utc_month

TABLE = "silver.orders"
INPUTS = ("bronze.snowflake_orders", "bronze.kafka_orders")
KEY = ("order_id", "event_ts")
ORDER = ("event_ts", "_source_rank", "_source_position", "_landed_at", "_payload_hash")
BUSINESS = (
    "order_id",
    "event_ts",
    "customer_id",
    "status",
    "amount",
    "currency",
    "shipped_at",
    "delivered_at",
)
SCOPE = KEY

SNOWFLAKE_RANK = 2
KAFKA_RANK = 1


def _rows(bronze: DataFrame, source: str, rank: int, position: Column) -> DataFrame:
    rows = bronze.select(
        "order_id",
        "event_ts",
        clean("customer_id").alias("customer_id"),
        "status",
        F.col("amount").cast("decimal(18,2)").alias("amount"),
        "currency",
        "shipped_at",
        "delivered_at",
        F.lit(source).alias("source"),
        utc_month(F.col("event_ts")).alias("event_month"),
        F.lit(rank).alias("_source_rank"),
        position.alias("_source_position"),
        "_landed_at",
        "_run_id",
    )
    return with_payload_hash(rows, BUSINESS)


def transform(snowflake_orders: DataFrame, kafka_orders: DataFrame) -> DataFrame:
    """Every Bronze row of both sources as a row of silver.orders."""
    loaded = F.coalesce(sortable_instant(F.col("loaded_at")), F.lit(""))
    offset = F.concat(
        sortable_number(F.col("partition"), 10), F.lit("/"), sortable_number(F.col("offset"), 20)
    )
    rows = _rows(snowflake_orders, "snowflake", SNOWFLAKE_RANK, loaded).unionByName(
        _rows(kafka_orders, "kafka", KAFKA_RANK, offset)
    )
    return rows.select(
        "order_id",
        "event_ts",
        "customer_id",
        "status",
        "amount",
        "currency",
        "shipped_at",
        "delivered_at",
        "source",
        "event_month",
        "_source_rank",
        "_source_position",
        "_landed_at",
        "_payload_hash",
        "_run_id",
    )


def resolve(source: DataFrame, stored: DataFrame) -> DataFrame:
    """What becomes of each source row, see lakehouse.tables.silver."""
    return classify(source, stored, KEY, ORDER)
