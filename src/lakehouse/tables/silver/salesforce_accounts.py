"""silver.salesforce_accounts: the latest state of each account, deleted ones marked. Grain id."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.tables.order import classify, live_or_deleted_rank, with_payload_hash
from lakehouse.tables.values import clean

TABLE = "silver.salesforce_accounts"
INPUTS = ("bronze.salesforce_accounts",)
KEY = ("id",)
ORDER = ("modified_at", "_source_rank", "_source_position", "_landed_at", "_payload_hash")
BUSINESS = (
    "id",
    "name",
    "type",
    "industry",
    "country",
    "phone",
    "website",
    "is_deleted",
    "created_at",
    "modified_at",
)
SCOPE = KEY


def transform(accounts: DataFrame) -> DataFrame:
    """Every version in Bronze as a row of silver.salesforce_accounts; modified_at is SystemModstamp."""
    rows = accounts.select(
        "id",
        clean("name").alias("name"),
        clean("type").alias("type"),
        clean("industry").alias("industry"),
        clean("billingcountry").alias("country"),
        clean("phone").alias("phone"),
        clean("website").alias("website"),
        F.coalesce("isdeleted", F.lit(False)).alias("is_deleted"),
        F.col("createddate").alias("created_at"),
        F.col("systemmodstamp").alias("modified_at"),
        "_landed_at",
        "_run_id",
    )
    return with_payload_hash(rows, BUSINESS).select(
        *BUSINESS,
        live_or_deleted_rank(F.col("is_deleted")).alias("_source_rank"),
        F.lit("").alias("_source_position"),
        "_landed_at",
        "_payload_hash",
        "_run_id",
    )


def resolve(source: DataFrame, stored: DataFrame) -> DataFrame:
    """What becomes of each source row, see lakehouse.tables.silver."""
    return classify(source, stored, KEY, ORDER)
