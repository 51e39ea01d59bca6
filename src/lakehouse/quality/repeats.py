"""What a row says again: of the states that Bronze holds of a thing, and that the source shows of it now."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

# The columns that `with_states` adds.
STATES = ("_states", "_shown")


def with_states(rows: DataFrame, is_good: Column, state: Sequence[str], held: DataFrame) -> DataFrame:
    """Rows with the payloads of their state: those that Bronze holds (``_states``), and which of these the batch shows.

    ``_shown`` leaves out what Bronze does not hold: where a source names a thing in every row of a batch, each row
    would carry the payloads of all.
    """
    known = held.groupBy(*state).agg(
        F.collect_set(F.struct(F.col("_payload_hash").alias("payload"), "_landed_at")).alias("_states")
    )
    is_held = F.exists("_states", lambda each: each["payload"] == F.col("_payload_hash"))
    shown = F.collect_set(F.when(is_good & is_held, F.col("_payload_hash"))).over(Window.partitionBy(*state))
    return rows.join(known, on=[*state], how="left").withColumn("_shown", shown)


def is_repeat() -> Column:
    """Whether a row says again what Bronze holds: its payload, and no other one that was landed in between.

    A source that goes back to an earlier state (a rate that is corrected twice) says something new. What the batch
    shows beside a row is no later state: the source shows both. A row that was refused and is replayed keeps its own
    landing time: it says nothing new where its payload was landed since, and brings nothing back.
    """

    def last(states: Column) -> Column:
        return F.array_max(F.transform(states, lambda each: each["_landed_at"]))

    mine = last(F.filter("_states", lambda each: each["payload"] == F.col("_payload_hash")))
    gone = last(F.filter("_states", lambda each: ~F.array_contains("_shown", each["payload"])))
    went_back = (mine <= gone) & (gone <= F.col("_landed_at"))
    return F.coalesce(mine.isNotNull() & ~F.coalesce(went_back, F.lit(False)), F.lit(False))
