"""gold.dim_customers: one row per Salesforce account, deleted ones included. Grain id."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

TABLE = "gold.dim_customers"
INPUTS = ("silver.salesforce_accounts", "silver.hubspot_contacts")
KEY = ("id",)


def transform(accounts: DataFrame, contacts: DataFrame, *, publish_id: str) -> DataFrame:
    """Accounts with the number of their HubSpot contacts that are neither archived nor merged."""
    is_live = ~F.coalesce("is_deleted", F.lit(False)) & F.col("merged_into").isNull()
    counted = (
        contacts.where(is_live & F.col("account_id").isNotNull())
        .groupBy(F.col("account_id").alias("id"))
        .agg(F.count(F.lit(1)).alias("contacts"))
    )
    return accounts.join(counted, on="id", how="left").select(
        "id",
        "name",
        "type",
        "industry",
        "country",
        (~F.coalesce("is_deleted", F.lit(False))).alias("is_active"),
        F.coalesce("contacts", F.lit(0)).cast("bigint").alias("contacts"),
        F.lit(publish_id).alias("_publish_id"),
    )
