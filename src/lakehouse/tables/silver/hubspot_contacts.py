"""silver.hubspot_contacts: the latest state of each contact. Grain id.

An archived contact and one merged into another stay, marked is_deleted; merged_into names the survivor.
account_id is the Salesforce account the contact belongs to.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.tables.order import classify, live_or_deleted_rank, with_payload_hash
from lakehouse.tables.values import clean

TABLE = "silver.hubspot_contacts"
INPUTS = ("bronze.hubspot_contacts",)
KEY = ("id",)
ORDER = ("modified_at", "_source_rank", "_source_position", "_landed_at", "_payload_hash")
BUSINESS = (
    "id",
    "email",
    "first_name",
    "last_name",
    "phone",
    "company",
    "lifecycle_stage",
    "country",
    "account_id",
    "merged_into",
    "is_deleted",
    "created_at",
    "modified_at",
)
SCOPE = KEY


def transform(contacts: DataFrame) -> DataFrame:
    """Every version in Bronze as a row of silver.hubspot_contacts; modified_at is lastmodifieddate."""
    is_archived = F.coalesce("archived", F.lit(False))
    is_merged = clean("merged_into").isNotNull()
    rows = contacts.select(
        "id",
        clean("email").alias("email"),
        clean("firstname").alias("first_name"),
        clean("lastname").alias("last_name"),
        clean("phone").alias("phone"),
        clean("company").alias("company"),
        clean("lifecyclestage").alias("lifecycle_stage"),
        clean("country").alias("country"),
        clean("salesforceaccountid").alias("account_id"),
        clean("merged_into").alias("merged_into"),
        (is_archived | is_merged).alias("is_deleted"),
        F.col("createdate").alias("created_at"),
        F.col("lastmodifieddate").alias("modified_at"),
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
