"""Exact conversion of money: integers inside, one rounding at the end, half-up (away from zero).

Spark's decimal division rounds to a scale of its own choosing before anyone can round to ours, and ``div``
returns a 64-bit integer. Quotients are therefore taken on integers held in DECIMAL(38,0) and the remainder
decides the rounding. The steps are columns of their own because an expression that names its parts several
times grows without bound.
"""

from decimal import Decimal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

MONEY = "decimal(18,2)"
RATE = "decimal(20,12)"
_INTEGER = "decimal(38,0)"
_E12 = Decimal(10**12)


def _picos(rate: str) -> Column:
    """A DECIMAL(20,12) as the integer number of its 10^-12 units."""
    return (F.col(rate) * F.lit(_E12)).cast("decimal(20,0)")


def _with_quotient(
    df: DataFrame, name: str, numerator: Column, denominator: Column, digits: int
) -> DataFrame:
    """Adds numerator / denominator of non-negative integers, half-up, as DECIMAL(38,0).

    Null where an operand is null, where the denominator is not positive, or where the result exceeds
    `digits` digits.
    """
    limit = F.lit(Decimal(10**digits))
    # Null where limit x divisor itself exceeds 38 digits: then the quotient surely is in range.
    bound = F.try_multiply(F.col("_divisor"), limit)
    whole = ((F.col("_dividend") - F.col("_remainder")) / F.col("_divisor")).cast(_INTEGER)
    carry = F.when(F.col("_remainder") * 2 >= F.col("_divisor"), 1).otherwise(0)
    return (
        df.withColumn("_dividend", numerator.cast(_INTEGER))
        .withColumn("_divisor", F.when(denominator > 0, denominator))
        .withColumn("_bound", bound)
        .withColumn(
            "_dividend",
            F.when(F.col("_bound").isNull() | (F.col("_dividend") < F.col("_bound")), F.col("_dividend")),
        )
        .withColumn("_remainder", F.col("_dividend") % F.col("_divisor"))
        .withColumn("_quotient", (whole + carry).cast(_INTEGER))
        .withColumn(name, F.when(F.col("_quotient") < limit, F.col("_quotient")))
        .drop("_dividend", "_divisor", "_bound", "_remainder", "_quotient")
    )


def with_cross_rate(df: DataFrame, name: str, *, usd_per_eur: str, ccy_per_eur: str) -> DataFrame:
    """Adds the USD for one unit of a currency, usd_per_eur / ccy_per_eur, as DECIMAL(20,12), half-up once.

    Null where a quote is missing, where ccy_per_eur is not positive, or where the result exceeds
    DECIMAL(20,12).
    """
    rate = (F.col("_picos").cast("decimal(20,0)") * F.lit(Decimal("0.000000000001"))).cast(RATE)
    numerator = _picos(usd_per_eur) * F.lit(_E12)
    return (
        _with_quotient(df, "_picos", numerator, _picos(ccy_per_eur), 20).withColumn(name, rate).drop("_picos")
    )


def with_usd(df: DataFrame, name: str, *, amount: str, usd_per_eur: str, ccy_per_eur: str) -> DataFrame:
    """Adds amount x usd_per_eur / ccy_per_eur as DECIMAL(18,2), half-up once (away from zero).

    Null where an operand is missing, where ccy_per_eur is not positive, or where the result exceeds
    DECIMAL(18,2).
    """
    cents = (F.abs(amount) * F.lit(Decimal(100))).cast("decimal(18,0)")
    # At most 18 + 20 digits: the product fits DECIMAL(38,0) for every pair of operands.
    numerator = cents * _picos(usd_per_eur)
    usd = (F.col("_cents").cast("decimal(18,0)") * F.lit(Decimal("0.01"))).cast(MONEY)
    return (
        _with_quotient(df, "_cents", numerator, _picos(ccy_per_eur), 18)
        .withColumn(name, F.when(F.col(amount) < 0, (-usd).cast(MONEY)).otherwise(usd))
        .drop("_cents")
    )
