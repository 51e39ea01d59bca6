"""silver.salesforce_leads: the latest state of each lead, deleted ones marked. Grain id."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.tables.order import classify, live_or_deleted_rank, with_payload_hash
from lakehouse.tables.values import clean

TABLE = "silver.salesforce_leads"
INPUTS = ("bronze.salesforce_leads",)
KEY = ("id",)
ORDER = ("modified_at", "_source_rank", "_source_position", "_landed_at", "_payload_hash")
BUSINESS = (
    "id",
    "first_name",
    "last_name",
    "email",
    "company",
    "status",
    "country",
    "converted_account_id",
    "is_converted",
    "is_deleted",
    "created_at",
    "modified_at",
)
SCOPE = KEY


def transform(leads: DataFrame) -> DataFrame:
    """Every version in Bronze as a row of silver.salesforce_leads; modified_at is SystemModstamp."""
    rows = leads.select(
        "id",
        clean("firstname").alias("first_name"),
        clean("lastname").alias("last_name"),
        clean("email").alias("email"),
        clean("company").alias("company"),
        clean("status").alias("status"),
        clean("country").alias("country"),
        clean("convertedaccountid").alias("converted_account_id"),
        F.coalesce("isconverted", F.lit(False)).alias("is_converted"),
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
