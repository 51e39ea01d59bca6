"""All refused rows in one view, whoever refused them, and what became of each.

A row is (table_name, run_id, position). Its first event says what was received: in ``ops.quarantine``, or in
``ops.kafka_orders_dlq`` where the stream refused it. Every later event is in ``ops.quarantine`` and numbered by its
``step``. ``states`` folds the events of a row into one line, by their steps and never by their times, so that no clock
decides: *replayed* is the end, whatever else was said; else *discarded* is; else the greatest step says *open* or
*fixed*. Nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import head, read
from lakehouse.errors import NotCertified, Violation
from lakehouse.landing import read_manifest
from lakehouse.quality import dlq, verdicts
from lakehouse.quality.insert import insert_new
from lakehouse.quality.quarantine import OPEN, TABLE, first_event_id
from lakehouse.settings import Settings

FIXED = "fixed"
REPLAYED = "replayed"
DISCARDED = "discarded"
STATUSES = (OPEN, FIXED, REPLAYED, DISCARDED)
# The states in which somebody can still do something about a row.
LIVE = (OPEN, FIXED)
LEDGER = "ops.row_ledger"
IDENTITY = ("table_name", "run_id", "position")


@dataclass(frozen=True)
class Selection:
    """Rows by what is known of them; None: any. ``reason`` is a rule's name, ``day`` that of the first event."""

    table: str | None = None
    reason: str | None = None
    run_id: str | None = None
    day: date | None = None
    statuses: tuple[str, ...] = STATUSES

    def of(self, rows: DataFrame) -> DataFrame:
        """The selected ones of ``states``."""
        found = rows.where(F.col("status").isin(*self.statuses))
        if self.table is not None:
            found = found.where(F.col("table_name") == self.table)
        if self.run_id is not None:
            found = found.where(F.col("run_id") == self.run_id)
        if self.day is not None:
            found = found.where(F.col("ingest_date") == self.day)
        if self.reason is not None:
            found = found.where(breaks(self.reason))
        return found


def breaks(rule: str) -> Column:
    """Whether a row's ``reasons`` name a rule."""
    return F.exists("reasons", lambda reason: F.substring_index(reason, ": ", 1) == rule)


def events(spark: SparkSession, settings: Settings) -> DataFrame:
    """Every event of every refused row, in the columns of ops.quarantine.

    Raises NotCertified where a table is not there, or is older than its contract.
    """
    stored, streamed = (_table(spark, settings, name) for name in (TABLE, dlq.TABLE))
    fields = schema(contracts.load(TABLE))
    key = F.concat_ws("|", "topic", "partition", "offset")
    values = {
        "event_id": first_event_id(F.lit(dlq.BRONZE), F.col("_run_id"), F.col("_position")),
        "table_name": F.lit(dlq.BRONZE),
        "status": F.lit(OPEN),
        "run_id": F.col("_run_id"),
        "record_key": key,
        "payload": dlq.payload(),
        "reasons": F.col("reasons"),
        "contract_version": F.col("contract_version"),
        "position": F.col("_position"),
        "source": F.col("_source"),
        "occurred_at": F.col("_landed_at"),
        "ingest_date": F.col("ingest_date"),
    }
    first = streamed.select(
        *[
            values.get(field.name, F.lit(None)).cast(field.dataType).alias(field.name)
            for field in fields.fields
        ]
    )
    return stored.select(*fields.names).unionByName(first)


def _table(spark: SparkSession, settings: Settings, name: str) -> DataFrame:
    uri = settings.table_uri(name)
    head(spark, uri)
    frame = read(spark, uri)
    missing = set(contracts.load(name).column_names) - set(frame.columns)
    if missing:
        raise NotCertified(
            f"{name}: received a table without {', '.join(sorted(missing))}, expected its contract's columns",
            hint="run apply_contracts, which adds them",
        )
    return frame


def states(log: DataFrame) -> DataFrame:
    """One line for each refused row of ``events``: what was received, and where it stands.

    Columns: the identity; ``status``; ``payload``, ``reasons`` and ``contract_version`` of the newest open or fixed
    event; ``step``, the greatest so far; of the first event ``received`` (its payload), ``source``, ``record_key``,
    ``landed_at`` and ``ingest_date``. A row without a first event (its table was emptied by hand) has null there.
    """
    step = F.coalesce("step", F.lit(0))
    is_first = F.col("event_id") == first_event_id(*[F.col(name) for name in IDENTITY])
    # Two events of one step were written at the same time: their ids decide, for everybody alike.
    order = F.struct(step, "event_id")
    newest = F.struct("status", "payload", "reasons", "contract_version")
    first = F.struct(
        F.col("payload").alias("received"),
        "source",
        "record_key",
        F.col("occurred_at").alias("landed_at"),
        "ingest_date",
    )
    found = log.groupBy(*IDENTITY).agg(
        F.bool_or(F.col("status") == REPLAYED).alias("_replayed"),
        F.bool_or(F.col("status") == DISCARDED).alias("_discarded"),
        F.max_by(newest, F.when(F.col("status").isin(*LIVE), order)).alias("_newest"),
        F.max_by(first, F.when(is_first, order)).alias("_first"),
        F.max(step).alias("step"),
    )
    status = (
        F.when(F.col("_replayed"), REPLAYED)
        .when(F.col("_discarded"), DISCARDED)
        .otherwise(F.col("_newest.status"))
    )
    return found.select(
        *IDENTITY,
        status.alias("status"),
        *[F.col(f"_newest.{name}") for name in ("payload", "reasons", "contract_version")],
        "step",
        "_first.*",
    )


def rows(spark: SparkSession, settings: Settings) -> DataFrame:
    """``states`` of all refused rows."""
    return states(events(spark, settings))


def later(
    found: DataFrame,
    status: str,
    unique: Sequence[Column],
    *,
    payload: Column,
    reasons: Column,
    contract_version: Column,
    actor: str,
    note: str,
    at: datetime,
    replay_run_id: str | None = None,
) -> DataFrame:
    """The next event of each of ``states``. ``unique`` makes the step what it is: written twice, it is one event."""
    at_column = F.lit(at.isoformat()).cast("timestamp")
    values = {
        "event_id": F.sha2(F.concat_ws("|", *IDENTITY, F.lit(status), *unique), 256),
        "table_name": F.col("table_name"),
        "status": F.lit(status),
        "run_id": F.col("run_id"),
        "record_key": F.col("record_key"),
        "payload": payload,
        "reasons": reasons,
        "contract_version": contract_version,
        "position": F.col("position"),
        "source": F.col("source"),
        "occurred_at": at_column,
        "ingest_date": F.to_date(at_column),
        "actor": F.lit(actor),
        "note": F.lit(note),
        "step": F.col("step") + 1,
        "replay_run_id": F.lit(replay_run_id),
    }
    return found.select(
        *[
            values[field.name].cast(field.dataType).alias(field.name)
            for field in schema(contracts.load(TABLE))
        ]
    )


def append(settings: Settings, new: DataFrame, tag: str) -> None:
    """Add events to ops.quarantine; those that are there already stay as they are."""
    # Of any day: a step that is repeated after midnight is the same step.
    insert_new(new, settings.table_uri(TABLE), ("event_id",), tag)


def discard(settings: Settings, found: DataFrame, *, by: str, why: str, at: datetime) -> None:
    """Give rows up: they stay where they are, and nothing replays them any more."""
    new = later(
        found,
        DISCARDED,
        (),
        payload=F.col("payload"),
        reasons=F.col("reasons"),
        contract_version=F.col("contract_version"),
        actor=by,
        note=why,
        at=at,
    )
    append(settings, new, f"quarantine/discard/{at.isoformat()}")


@dataclass(frozen=True)
class Balance:
    """Rows of one table by what became of them."""

    table: str
    quarantined: int
    open: int
    fixed: int
    replayed: int
    discarded: int

    @property
    def holds(self) -> bool:
        """Whether every refused row is in exactly one state. A fixed row still waits, like an open one."""
        return self.quarantined == self.open + self.fixed + self.replayed + self.discarded


def balances(log: DataFrame) -> tuple[Balance, ...]:
    """The balance of each table: refused rows by their first events, and states by all events."""
    is_first = F.col("event_id") == first_event_id(*[F.col(name) for name in IDENTITY])
    refused = log.where(is_first).groupBy("table_name").agg(F.count_distinct("event_id").alias("quarantined"))
    counted = states(log).groupBy("table_name").pivot("status", list(STATUSES)).count()
    joined = refused.join(counted, on="table_name", how="full").fillna(0).orderBy("table_name").collect()
    return tuple(
        Balance(row["table_name"], row["quarantined"], *(row[status] for status in STATUSES))
        for row in joined
    )


def ledger_differences(
    spark: SparkSession, settings: Settings, log: DataFrame
) -> tuple[int, tuple[Violation, ...]]:
    """Lines of ops.row_ledger about Bronze, and those that count other refused rows than ``events`` has of their run.

    Where the stream had read a run's events, they carry its run id; the run's manifest says which they are.
    """
    is_first = F.col("event_id") == first_event_id(*[F.col(name) for name in IDENTITY])
    counted = log.where(is_first).groupBy("table_name", "run_id").agg(F.count_distinct("event_id").alias("n"))
    told = _table(spark, settings, LEDGER).where(
        F.col("table_name").startswith("bronze.") & F.col("job").endswith("_to_bronze")
    )
    lines = told.select("table_name", "run_id", "quarantined").join(
        counted, on=["table_name", "run_id"], how="left"
    )
    compared = lines.select("*", F.coalesce("n", F.lit(0)).alias("found")).collect()
    differences = []
    for line in compared:
        found = line["found"]
        if found != line["quarantined"] and line["table_name"] == dlq.BRONZE:
            found += _of_stream(spark, settings, line["run_id"])
        if found != line["quarantined"]:
            where = f"{line['table_name']}, run {line['run_id']}"
            differences.append(
                Violation(where, f"{found} refused rows", f"{line['quarantined']}, as {LEDGER} has it")
            )
    return len(compared), tuple(differences)


def _of_stream(spark: SparkSession, settings: Settings, run_id: str) -> int:
    """Rows of the DLQ that a run of the daily pipeline recorded as its own."""
    manifest = read_manifest(settings, "kafka", dlq.BRONZE.split(".")[1], run_id)
    if manifest is None or not verdicts.is_streamed(manifest.state):
        return 0
    run = verdicts.CertifiedRun(run_id=run_id, state=manifest.state)
    return _table(spark, settings, dlq.TABLE).where(verdicts.rows_of([run])).count()
