"""silver.fx_rates: the ECB's reference rates, in USD for one unit of a currency. Grain (as_of_date, ccy).

Both quotes are kept: ccy_per_eur as the ECB gives it and usd_per_eur of the same date; rate_to_base is
their quotient. A date without a quote for USD has null in usd_per_eur and rate_to_base, and no row for EUR.

A rate depends on two quotes, its own and that of USD. `transform` therefore leaves usd_per_eur and
rate_to_base empty and `resolve` fills them from the quotes that stand after this batch, restating stored
rows of the date where the quote for USD came late or changed. SCOPE is the whole date for that reason.
"""

from decimal import Decimal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.tables.money import RATE, with_cross_rate
from lakehouse.tables.order import DUPLICATE, INSERTED, KEPT, UPDATED, WRITTEN, label, with_payload_hash

TABLE = "silver.fx_rates"
INPUTS = ("bronze.fx_rates",)
KEY = ("as_of_date", "ccy")
ORDER = ("_landed_at", "_source_rank", "_source_position", "_payload_hash")
BUSINESS = ("as_of_date", "ccy", "ccy_per_eur")
SCOPE = ("as_of_date",)

BASE = "USD"
QUOTED_AGAINST = "EUR"
COLUMNS = (
    "as_of_date",
    "ccy",
    "ccy_per_eur",
    "usd_per_eur",
    "rate_to_base",
    "publication",
    "_landed_at",
    "_source_rank",
    "_source_position",
    "_payload_hash",
    "_run_id",
)
HISTORY_RANK = 2
DAILY_RANK = 1


def transform(quotes: DataFrame) -> DataFrame:
    """Every quote in Bronze as a row of silver.fx_rates, usd_per_eur and rate_to_base still null."""
    rank = F.when(F.col("publication") == "history", HISTORY_RANK).otherwise(DAILY_RANK)
    rows = quotes.select(
        "as_of_date",
        "ccy",
        F.col("ccy_per_eur").cast(RATE).alias("ccy_per_eur"),
        F.lit(None).cast(RATE).alias("usd_per_eur"),
        F.lit(None).cast(RATE).alias("rate_to_base"),
        "publication",
        "_landed_at",
        rank.alias("_source_rank"),
        F.lit("").alias("_source_position"),
        "_run_id",
    )
    return with_payload_hash(rows, BUSINESS).select(*COLUMNS)


def resolve(source: DataFrame, stored: DataFrame) -> DataFrame:
    """What becomes of each source row, and the rows to generate; `stored` has all rows of the source's dates.

    Generated are the stored rows whose rate changes with the quote for USD, and the row for EUR, which takes
    publication, landing time and run from the quote for USD. What would not change is not generated.
    """
    is_eur = F.col("ccy") == QUOTED_AGAINST
    stands = F.col("_class").isin(*WRITTEN, KEPT) & ~is_eur
    is_base = stands & (F.col("ccy") == BASE) & (F.col("ccy_per_eur") > 0)
    date = Window.partitionBy("as_of_date")
    origin = ("publication", "_landed_at", "_source_rank", "_source_position", "_run_id")

    rows = (
        label(source, stored, KEY, ORDER)
        .withColumn("_was", F.struct("usd_per_eur", "rate_to_base"))
        .withColumn("usd_per_eur", F.max(F.when(is_base, F.col("ccy_per_eur"))).over(date))
        .transform(with_cross_rate, "rate_to_base", usd_per_eur="usd_per_eur", ccy_per_eur="ccy_per_eur")
        .withColumn(
            "_eur_was",
            F.max(F.when(F.col("_stored") & is_eur, F.struct("_was.usd_per_eur", *origin))).over(date),
        )
    )
    # The ECB does not quote EUR against itself; if a source does, it says nothing new.
    read = rows.where(~F.col("_stored")).withColumn(
        "_class", F.when(is_eur, DUPLICATE).otherwise(F.col("_class"))
    )
    is_restated = ~F.col("_was").eqNullSafe(F.struct("usd_per_eur", "rate_to_base"))
    restated = rows.where(F.col("_stored") & stands & is_restated).withColumn("_class", F.lit(UPDATED))
    eur = (
        rows.where(is_base)
        .withColumn("_eur", F.struct("usd_per_eur", *origin))
        .where(~F.col("_eur_was").eqNullSafe(F.col("_eur")))
        .withColumn("_class", F.when(F.col("_eur_was").isNull(), INSERTED).otherwise(UPDATED))
        .withColumn("ccy", F.lit(QUOTED_AGAINST))
        .withColumn("ccy_per_eur", F.lit(Decimal("1.000000000000")).cast(RATE))
        .withColumn("rate_to_base", F.col("usd_per_eur"))
        .transform(with_payload_hash, BUSINESS)
    )
    generated = restated.unionByName(eur.drop("_eur"))
    return (
        read.withColumn("_generated", F.lit(False))
        .unionByName(generated.withColumn("_generated", F.lit(True)))
        .select(*COLUMNS, "_class", "_generated")
    )
