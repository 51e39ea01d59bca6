"""gold.dim_fx: the rate of every currency on every day. Grain (as_of_date, ccy).

The calendar of a currency runs from its first quote to the newest quote of the whole table plus
max_staleness_days; beyond that nothing can be fresh. A quote is carried forward over weekends, holidays and
gaps for at most max_staleness_days; a day without a fresh quote has null in every rate column.
"""

import datetime as dt

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

TABLE = "gold.dim_fx"
INPUTS = ("silver.fx_rates",)
KEY = ("as_of_date", "ccy")


def transform(rates: DataFrame, *, max_staleness_days: int, publish_id: str) -> DataFrame:
    """One row per day and currency, with the newest rate at most max_staleness_days old (0: of that day)."""
    is_usable = F.col("usd_per_eur").isNotNull() & (F.col("ccy_per_eur") > 0)
    quotes = Window.partitionBy("ccy").orderBy("as_of_date")
    end = F.least(F.date_add(F.max("as_of_date"), max_staleness_days), F.lit(dt.date.max))
    calendar_end = rates.agg(end.alias("_end"))

    # A currency's first quote opens its calendar even where USD was not quoted that day.
    anchors = rates.withColumn("_nth", F.row_number().over(quotes)).where(is_usable | (F.col("_nth") == 1))
    until = F.coalesce(F.date_sub(F.lead("as_of_date").over(quotes), 1), F.col("_end"))
    days = (
        anchors.crossJoin(F.broadcast(calendar_end))
        .withColumn("_until", until)
        .withColumn("_day", F.explode(F.sequence("as_of_date", "_until")))
    )
    is_fresh = is_usable & (F.date_diff("_day", "as_of_date") <= max_staleness_days)
    return days.select(
        F.col("_day").alias("as_of_date"),
        "ccy",
        F.when(is_fresh, F.col("rate_to_base")).alias("rate_to_base"),
        F.when(is_fresh, F.col("ccy_per_eur")).alias("ccy_per_eur"),
        F.when(is_fresh, F.col("usd_per_eur")).alias("usd_per_eur"),
        F.when(is_fresh, F.col("as_of_date")).alias("rate_as_of_date"),
        (is_fresh & (F.col("_day") > F.col("as_of_date"))).alias("is_carried_forward"),
        F.lit(publish_id).alias("_publish_id"),
    )
