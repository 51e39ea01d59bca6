"""Which of several rows of a key wins: a total order, the same within a batch and against the stored row.

The order of a table is the tuple of columns ORDER = (time, source rank, source position, landing time, payload
hash), compared from left to right, the greatest wins, null below everything:

===================  ===========  ==============================  ============================
table                time         _source_rank                    _source_position
===================  ===========  ==============================  ============================
orders               event_ts     2 Snowflake, 1 Kafka            load time; partition/offset
fx_rates             _landed_at   2 history file, 1 daily file    empty
salesforce_accounts  modified_at  2 deleted, 1 live               empty
salesforce_leads     modified_at  2 deleted, 1 live               empty
hubspot_contacts     modified_at  2 archived or merged, 1 live    empty
vendor_shipments     file         1                               landing time # line
===================  ===========  ==============================  ============================

Of two states to which a source gives the same time, rank and position, the one read later wins; the hash decides
only within one landing.

Sources do not always touch the modification time when they delete or merge a record; of two states of the
same instant the deletion therefore outranks the live one. Vendor files carry no modification time: the name
of the file (vendors date it) stands in for it, then a re-delivered file beats its predecessor, then the
later line wins.

Every other column but `_run_id` is a function of that tuple, so that arrival order and batching cannot
change a table. `_run_id` names the run that first brought the row: of rows equal in the whole tuple the
stored one stays, then the one of the smallest run id.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from lakehouse.contracts.payload import payload_hash

INSERTED = "inserted"
UPDATED = "updated"
DUPLICATE = "duplicate"
SUPERSEDED = "superseded"
CONFLICT = "conflict"
CLASSES = (INSERTED, UPDATED, DUPLICATE, SUPERSEDED, CONFLICT)
# The classes that are to be written; the others are counted.
WRITTEN = (INSERTED, UPDATED)

# What label() says of a stored row.
KEPT = "kept"
REPLACED = "replaced"


def with_payload_hash(df: DataFrame, columns: Sequence[str], name: str = "_payload_hash") -> DataFrame:
    """Adds the hash of ``columns`` (``contracts.payload``)."""
    types = {column: df.schema[column].dataType.simpleString() for column in columns}
    return df.withColumn(
        name, payload_hash({column: (type, F.col(column)) for column, type in types.items()})
    )


def as_stored(df: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Stored rows with what the order is made of as it is made now.

    Their hash may be another algorithm's, or of columns that the contract lacked; what was stored before tables had
    ``_landed_at`` was landed at the time that its run id carries.
    """
    run_time = F.try_to_timestamp(F.left("_run_id", F.lit(16)), F.lit("yyyyMMdd'T'HHmmss'Z'"))
    landed = df.withColumn("_landed_at", F.coalesce("_landed_at", run_time))
    return with_payload_hash(landed, columns)


def _newest_first(order: Sequence[str]) -> list[Column]:
    return [F.col(column).desc_nulls_last() for column in order]


def live_or_deleted_rank(is_deleted: Column) -> Column:
    """The _source_rank of a state: of one instant the deletion (2) wins over the live state (1)."""
    return F.when(is_deleted, 2).otherwise(1)


def latest(df: DataFrame, key: Sequence[str], order: Sequence[str]) -> DataFrame:
    """One row per key: the greatest in `order`. The columns stay as they are."""
    window = Window.partitionBy(*key).orderBy(*_newest_first(order), F.col("_run_id").asc())
    return df.withColumn("_nth", F.row_number().over(window)).where(F.col("_nth") == 1).drop("_nth")


def label(source: DataFrame, stored: DataFrame, key: Sequence[str], order: Sequence[str]) -> DataFrame:
    """Source and stored rows together, with `_stored` and `_class`.

    A source row has one of CLASSES; a stored row, of which there is at most one per key, is kept or replaced.
    `order` starts with the time and ends with the payload hash.
    """
    time, payload = order[0], order[-1]
    rows = source.withColumn("_stored", F.lit(False)).unionByName(stored.withColumn("_stored", F.lit(True)))
    stored_first = [F.col("_stored").desc(), F.col("_run_id").asc()]
    by_order: WindowSpec = Window.partitionBy(*key).orderBy(*_newest_first(order), *stored_first)
    # Of rows with the same time and payload one stands for all: the stored one, else the greatest.
    same: WindowSpec = Window.partitionBy(*key, time, payload).orderBy(
        F.col("_stored").desc(), *_newest_first(order), F.col("_run_id").asc()
    )
    whole_key: WindowSpec = Window.partitionBy(*key)

    is_winner = F.col("_nth") == 1
    is_repeated = F.col("_same_nth") > 1
    at_winning_time = F.col(time).eqNullSafe(F.col("_winner.time"))
    return (
        rows.withColumn("_nth", F.row_number().over(by_order))
        .withColumn("_winner", F.first(F.struct(F.col(time).alias("time"))).over(by_order))
        .withColumn("_was_stored", F.max("_stored").over(whole_key))
        .withColumn("_same_nth", F.row_number().over(same))
        .withColumn(
            "_class",
            F.when(F.col("_stored"), F.when(is_winner, KEPT).otherwise(REPLACED))
            .when(is_winner, F.when(F.col("_was_stored"), UPDATED).otherwise(INSERTED))
            .when(is_repeated, DUPLICATE)
            .when(at_winning_time, CONFLICT)
            .otherwise(SUPERSEDED),
        )
        .drop("_nth", "_winner", "_was_stored", "_same_nth")
    )


def classify(source: DataFrame, stored: DataFrame, key: Sequence[str], order: Sequence[str]) -> DataFrame:
    """Every source row once, with its `_class` (and `_generated`, false).

    Within a key, over the source rows and the stored row, the greatest in `order` is the winner: `inserted`
    where the key was not stored, `updated` where it replaces the stored row. Of the losers, one that
    repeats the time and payload of a stored or greater row is a `duplicate`; one of the winner's time with
    another payload a `conflict`; one of an older time `superseded`. Stored rows of other keys do not matter
    and may be left out.
    """
    return (
        label(source, stored, key, order)
        .where(~F.col("_stored"))
        .drop("_stored")
        .withColumn("_generated", F.lit(False))
    )
