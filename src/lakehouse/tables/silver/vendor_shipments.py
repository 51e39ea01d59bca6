"""silver.vendor_shipments: the latest state of each shipment. Grain id (the vendor's shipment_id).

Vendor files have no modification time and no deletes: the file with the later name wins, then a later
delivery of the same file, then the later line. weight_kg is in kilograms, cost in `currency`, timestamps
are UTC.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.tables.order import classify, with_payload_hash
from lakehouse.tables.values import clean, sortable_instant, sortable_number

TABLE = "silver.vendor_shipments"
INPUTS = ("bronze.vendor_shipments",)
KEY = ("id",)
ORDER = ("file", "_source_rank", "_source_position", "_landed_at", "_payload_hash")
BUSINESS = (
    "id",
    "order_id",
    "carrier",
    "tracking_number",
    "status",
    "shipped_at",
    "delivered_at",
    "weight_kg",
    "cost",
    "currency",
)
SCOPE = KEY


def transform(shipments: DataFrame) -> DataFrame:
    """Every line in Bronze as a row of silver.vendor_shipments."""
    position = F.concat(sortable_instant(F.col("_landed_at")), F.lit("#"), sortable_number(F.col("line"), 10))
    rows = shipments.select(
        F.col("shipment_id").alias("id"),
        clean("order_id").alias("order_id"),
        clean("carrier").alias("carrier"),
        clean("tracking_number").alias("tracking_number"),
        clean("status").alias("status"),
        "shipped_at",
        "delivered_at",
        F.col("weight_kg").cast("decimal(10,3)").alias("weight_kg"),
        F.col("cost").cast("decimal(18,2)").alias("cost"),
        clean("currency").alias("currency"),
        "file",
        "line",
        position.alias("_source_position"),
        "_landed_at",
        "_run_id",
    )
    return with_payload_hash(rows, BUSINESS).select(
        *BUSINESS,
        F.lit(False).alias("is_deleted"),
        "file",
        "line",
        F.lit(1).alias("_source_rank"),
        "_source_position",
        "_landed_at",
        "_payload_hash",
        "_run_id",
    )


def resolve(source: DataFrame, stored: DataFrame) -> DataFrame:
    """What becomes of each source row, see lakehouse.tables.silver."""
    return classify(source, stored, KEY, ORDER)
