"""gold.fact_orders: the latest state of each order, priced in USD. Grain order_id.

* order_date is the UTC day of the order's first event: shipping an order does not re-price it.
* customer_id, status, currency, amount_native and event_ts are those of the latest event in the total order;
  shipped_at is the earliest and delivered_at the latest that any event tells.
* The quotes are those of gold.dim_fx on (order_date, currency), the join that users make themselves. Without
  a fresh rate amount_usd, fx_as_of_date and both quotes are null; so they are where the price exceeds
  DECIMAL(18,2).
* A published order older than restate_days keeps the quotes it was published with, missing ones included,
  unless its order_date or currency changed; amount_usd always follows the present amount.
* An order of an unknown customer stays, with is_known_customer false.

Timestamps are cut to whole milliseconds; amount_usd is rounded half-up once.
"""

import datetime as dt

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.tables.money import with_usd
from lakehouse.tables.values import utc_date, whole_millis

TABLE = "gold.fact_orders"
INPUTS = ("silver.orders", "gold.dim_customers", "gold.dim_fx")
KEY = ("order_id",)

QUOTES = ("fx_as_of_date", "usd_per_eur", "ccy_per_eur")


def latest_state(orders: DataFrame) -> DataFrame:
    """One row per order: the latest event, the day of the first one, first shipping and last delivery."""
    # Silver has an event of an order once: its time alone orders them.
    last = F.max_by(F.struct("customer_id", "status", "currency", "amount", "event_ts"), F.col("event_ts"))
    return (
        orders.groupBy("order_id")
        .agg(
            last.alias("last"),
            F.min("event_ts").alias("first_event_ts"),
            F.min("shipped_at").alias("shipped_at"),
            F.max("delivered_at").alias("delivered_at"),
        )
        .select(
            "order_id",
            "last.*",
            utc_date(F.col("first_event_ts")).alias("order_date"),
            "shipped_at",
            "delivered_at",
        )
    )


def with_quotes(
    states: DataFrame, fx: DataFrame, previous: DataFrame | None, frozen_before: dt.date
) -> DataFrame:
    """Adds the quotes that price an order: those of its day, or of its publication where that is frozen."""
    todays = fx.select(
        F.col("as_of_date").alias("order_date"),
        F.col("ccy").alias("currency"),
        F.struct(F.col("rate_as_of_date").alias("fx_as_of_date"), "usd_per_eur", "ccy_per_eur").alias(
            "_todays"
        ),
    )
    priced = states.join(todays, on=["order_date", "currency"], how="left")
    if previous is None:
        return priced.select(*states.columns, *_quotes(F.col("_todays")))
    published = previous.select(
        "order_id",
        F.struct("order_date", "currency", *QUOTES).alias("_published"),
    )
    is_same = F.col("_published.order_date").eqNullSafe(F.col("order_date")) & F.col(
        "_published.currency"
    ).eqNullSafe(F.col("currency"))
    is_frozen = F.col("_published").isNotNull() & (F.col("order_date") < F.lit(frozen_before)) & is_same
    chosen = F.when(is_frozen, F.struct(*_quotes(F.col("_published")))).otherwise(F.col("_todays"))
    return (
        priced.join(published, on="order_id", how="left")
        .withColumn("_chosen", chosen)
        .select(*states.columns, *_quotes(F.col("_chosen")))
    )


def _quotes(holder: Column) -> list[Column]:
    return [holder[name].alias(name) for name in QUOTES]


def transform(
    orders: DataFrame,
    customers: DataFrame,
    fx: DataFrame,
    previous: DataFrame | None,
    *,
    run_date: dt.date,
    restate_days: int,
    publish_id: str,
) -> DataFrame:
    """The whole table, from silver.orders, this publication's dimensions and what is published.

    run_date is the UTC day of the run; `previous` is None for the first publication. Orders with an
    order_date before run_date - restate_days are frozen.
    """
    known = customers.select(F.col("id").alias("customer_id"), F.lit(True).alias("_known"))
    is_priced = F.col("amount_usd").isNotNull()
    frozen_before = run_date - dt.timedelta(days=restate_days)
    return (
        latest_state(orders)
        .transform(with_quotes, fx, previous, frozen_before)
        .transform(
            with_usd, "amount_usd", amount="amount", usd_per_eur="usd_per_eur", ccy_per_eur="ccy_per_eur"
        )
        .join(known, on="customer_id", how="left")
        .select(
            "order_id",
            "customer_id",
            "order_date",
            "currency",
            F.col("amount").alias("amount_native"),
            "amount_usd",
            *(F.when(is_priced, F.col(quote)).alias(quote) for quote in QUOTES),
            "status",
            whole_millis(F.col("shipped_at")).alias("shipped_at"),
            whole_millis(F.col("delivered_at")).alias("delivered_at"),
            whole_millis(F.col("event_ts")).alias("event_ts"),
            F.coalesce("_known", F.lit(False)).alias("is_known_customer"),
            F.lit(publish_id).alias("_publish_id"),
        )
    )
