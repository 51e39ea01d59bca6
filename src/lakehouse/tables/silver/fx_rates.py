"""silver.fx_rates: the ECB's reference rates, in USD for one unit of a currency. Grain (as_of_date, ccy).

Both quotes are kept: ccy_per_eur as the ECB gives it and usd_per_eur of the same date; rate_to_base is
their quotient. A date without a quote for USD has null in usd_per_eur and rate_to_base, and no row for EUR.

A rate depends on two quotes, its own and that of USD. `transform` therefore leaves usd_per_eur and
rate_to_base empty and `resolve` fills them from the quotes that stand after this batch, restating stored
rows of the date where the quote for USD came late or changed. SCOPE is the whole date for that reason.
"""

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
# Why a row is in the result of `resolve`.
_READ, _RESTATED, _EURO = "read", "restated", "euro"


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
    euro = F.struct("usd_per_eur", "publication", "_landed_at", "_source_rank", "_source_position", "_run_id")
    date = Window.partitionBy("as_of_date")
    rows = (
        label(source, stored, KEY, ORDER)
        .withColumn("_stored_rates", F.struct("usd_per_eur", "rate_to_base"))
        .withColumn("_stored_euro", F.max(F.when(F.col("_stored") & is_eur, euro)).over(date))
        .withColumn("usd_per_eur", F.max(F.when(is_base, F.col("ccy_per_eur"))).over(date))
        .transform(with_cross_rate, "rate_to_base", usd_per_eur="usd_per_eur", ccy_per_eur="ccy_per_eur")
    )

    is_read = ~F.col("_stored")
    is_restated = stands & ~F.col("_stored_rates").eqNullSafe(F.struct("usd_per_eur", "rate_to_base"))
    needs_euro = is_base & ~F.col("_stored_euro").eqNullSafe(euro)
    results = F.array_compact(
        F.array(
            F.when(is_read, _READ),
            F.when(F.col("_stored") & is_restated, _RESTATED),
            F.when(needs_euro, _EURO),
        )
    )
    is_euro_row = F.col("_result") == _EURO
    return (
        rows.withColumn("_result", F.explode(results))
        .withColumn(
            "_class",
            F.when(is_euro_row, F.when(F.col("_stored_euro").isNull(), INSERTED).otherwise(UPDATED))
            .when(F.col("_result") == _RESTATED, UPDATED)
            # The ECB does not quote EUR against itself; a source that does says nothing new.
            .when(is_eur, DUPLICATE)
            .otherwise(F.col("_class")),
        )
        .withColumn("_generated", F.col("_result") != _READ)
        .withColumn("ccy", F.when(is_euro_row, QUOTED_AGAINST).otherwise(F.col("ccy")))
        .withColumn("ccy_per_eur", F.when(is_euro_row, F.lit(1).cast(RATE)).otherwise(F.col("ccy_per_eur")))
        .withColumn(
            "rate_to_base", F.when(is_euro_row, F.col("usd_per_eur")).otherwise(F.col("rate_to_base"))
        )
        .transform(with_payload_hash, BUSINESS)
        .select(*COLUMNS, "_class", "_generated")
    )
