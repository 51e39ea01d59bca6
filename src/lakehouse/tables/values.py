"""Small column expressions that several tables need. None depends on the session's time zone."""

from pyspark.sql import Column
from pyspark.sql import functions as F

# What Python's str.strip() takes for whitespace, so that the rule can be restated in one word elsewhere.
WHITESPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())


def clean(column: str) -> Column:
    """An optional text: surrounding whitespace removed, nothing left means null."""
    trimmed = F.btrim(F.col(column), F.lit(WHITESPACE))
    return F.when(trimmed != "", trimmed)


def utc_date(timestamp: Column) -> Column:
    """The calendar day of an instant in UTC, whatever the session's zone; floors before 1970 too."""
    return F.date_from_unix_date(F.floor(F.unix_seconds(timestamp) / F.lit(86_400)).cast("int"))


def utc_month(timestamp: Column) -> Column:
    """The month of an instant in UTC as 'YYYY-MM'."""
    return F.substring(utc_date(timestamp).cast("string"), 1, 7)


def sortable_instant(timestamp: Column) -> Column:
    """An instant as text that sorts like it: '2025-01-31T86399.999999' (UTC day, seconds of the day)."""
    seconds = F.pmod(F.unix_seconds(timestamp), F.lit(86_400))
    micros = F.pmod(F.unix_micros(timestamp), F.lit(1_000_000))
    return F.concat(
        utc_date(timestamp).cast("string"),
        F.lit("T"),
        F.lpad(seconds.cast("string"), 5, "0"),
        F.lit("."),
        F.lpad(micros.cast("string"), 6, "0"),
    )


def sortable_number(number: Column, width: int) -> Column:
    """A non-negative integer as zero-padded text of fixed width."""
    return F.lpad(number.cast("string"), width, "0")


def whole_millis(timestamp: Column) -> Column:
    """An instant cut (never rounded) to whole milliseconds, the finest that Athena reads without rounding."""
    return F.date_trunc("millisecond", timestamp)
