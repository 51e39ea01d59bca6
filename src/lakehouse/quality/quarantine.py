"""Quarantine: refused rows as events in ``ops.quarantine``, with all their reasons and what was received.

Events are only ever added. The id of a row's first event is a function of table, run and position, so that a rerun
finds it there; what becomes of the row later is told by further events, with another status.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.contracts import Contract, quote
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import read
from lakehouse.landing import POSITION, Manifest
from lakehouse.quality import json_text
from lakehouse.quality.insert import insert_new
from lakehouse.quality.rules import PAYLOAD, REASONS, show
from lakehouse.settings import Settings

TABLE = "ops.quarantine"
OPEN = "open"


def first_event_id(table: Column, run_id: Column, position: Column) -> Column:
    """The id of a row's first event."""
    return F.sha2(F.concat_ws("|", table, run_id, position), 256)


def events(rejected: DataFrame, contract: Contract) -> DataFrame:
    """One ``open`` event for each refused row of ``rules.split``: the columns of ops.quarantine.

    ``record_key`` is the row's key joined by ``|``, null where a part of it is missing.
    """
    key = [F.col(quote(name)) for name in contract.key]
    has_key = F.lit(True)
    for column in key:
        has_key = has_key & column.isNotNull()
    values = {
        "event_id": first_event_id(F.lit(contract.name), F.col("_run_id"), F.col(POSITION)),
        "table_name": F.lit(contract.name),
        "status": F.lit(OPEN),
        "run_id": F.col("_run_id"),
        "record_key": F.when(has_key, F.concat_ws("|", *[column.cast("string") for column in key])),
        "payload": F.coalesce(F.col(PAYLOAD), F.lit("")),
        "reasons": F.col(REASONS),
        "contract_version": F.lit(contract.version),
        "position": F.col(POSITION),
        "source": F.col("_source"),
        "occurred_at": F.col("_landed_at"),
        "ingest_date": F.col("ingest_date"),
    }
    fields = schema(contracts.load(TABLE))
    # Who, why and which step are said of later events (quality.refused).
    return rejected.select(
        *[values.get(field.name, F.lit(None)).cast(field.dataType).alias(field.name) for field in fields]
    )


def replace_open(
    spark: SparkSession,
    settings: Settings,
    rejected: DataFrame,
    contract: Contract,
    manifest: Manifest,
    count: int,
) -> None:
    """Write the events of a run's refused rows, ``count`` of them; those that an earlier try wrote stay as they are."""
    if count == 0:
        return
    insert_new(
        events(rejected, contract),
        settings.table_uri(TABLE),
        ("event_id",),
        f"{manifest.run_id}/quarantine/{contract.name}",
        partition_values={"ingest_date": [manifest.landed_at.date().isoformat()]},
    )


def as_received(payload: Column) -> Column:
    """What the source gave of a refused row, whatever landing it came in: equal for the same row extracted twice."""
    fields = json_text.members(payload)
    own = F.map_filter(fields, lambda name, _: name != POSITION)
    return F.sha2(F.coalesce(F.to_json(F.array_sort(F.map_entries(own))), payload), 256)


def received(
    spark: SparkSession, settings: Settings, table: str, runs: Sequence[str], but_not_by: str
) -> DataFrame:
    """``_received``: the rows of a table that runs refused and one other has not, each once, as ``as_received``."""
    first = read(spark, settings.table_uri(TABLE)).where(
        # First events: later ones may hold what somebody made of the row.
        (F.col("table_name") == table) & F.col("run_id").isin(*runs, but_not_by) & F.col("step").isNull()
    )
    found = first.groupBy(as_received(F.col("payload")).alias("_received"))
    by_the_other = F.bool_or(F.col("run_id") == but_not_by)
    return found.agg(by_the_other.alias("_other")).where(~F.col("_other")).select("_received")


def samples(
    spark: SparkSession, settings: Settings, table: str, run_id: str, rule: str | None, n: int = 3
) -> tuple[dict[str, str], ...]:
    """Refused rows of a run, of one rule or of any, without their payload: reasons have personal values masked."""
    frame = read(spark, settings.table_uri(TABLE))
    wanted = (F.col("table_name") == table) & (F.col("run_id") == run_id) & (F.col("status") == OPEN)
    if rule is not None:
        wanted = wanted & F.exists("reasons", lambda reason: reason.startswith(f"{rule}: "))
    shown = frame.where(wanted).select(
        "position",
        show(F.col("record_key"), False).alias("key"),
        F.concat_ws("; ", F.col("reasons")).alias("reasons"),
    )
    rows = shown.orderBy("position").limit(n).collect()
    return tuple({name: value for name, value in row.asDict().items() if value is not None} for row in rows)
