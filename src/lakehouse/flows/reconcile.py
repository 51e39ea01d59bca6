"""Reconcile: what the sources hold against what the lake holds, and a bounded proposal where they differ.

By days: orders of Snowflake, their number, the sum of their amounts and their load times for each day of events, as the
source has them now and as it gave them to certified runs, refused rows included and fixed ones as they came. By ids
(``--ids``): every contact, account and lead of the source against certified Silver: whether it is live, and when it
last changed. What a certified run received and refused is known to the lake.

All that is found goes to ops.reconciliations first; a difference then ends the job as failed, with the command that
would close it, so that whoever is on call hears of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import import_module

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import read
from lakehouse.delta.write import replace_where
from lakehouse.errors import SourceDiffers
from lakehouse.flows import own_run
from lakehouse.flows.backfill import command
from lakehouse.flows.emit import record
from lakehouse.flows.ingest import Load, certification
from lakehouse.flows.landed import unpacked
from lakehouse.landing import POSITION, LandingWriter, read_manifest
from lakehouse.quality import refused, rules, verdicts
from lakehouse.quality.verdicts import Certification
from lakehouse.runs import run_time
from lakehouse.session import local_frame
from lakehouse.sources import snowflake
from lakehouse.sources.snowflake import DayTotal
from lakehouse.submit import by_hand

TABLE = "ops.reconciliations"
ORDERS = "bronze.snowflake_orders"
# Silver tables that are compared by id, with the source that names the ids.
BY_ID = {
    "silver.hubspot_contacts": "hubspot",
    "silver.salesforce_accounts": "salesforce",
    "silver.salesforce_leads": "salesforce",
}

# Bronze columns that say when a record changed and whether it is deleted.
DELETES = {"hubspot": ("lastmodifieddate", "archived"), "salesforce": ("systemmodstamp", "isdeleted")}
_2000 = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
MARK_GONE = f"{by_hand('reconcile')} --ids --mark-gone"


@dataclass(frozen=True)
class Finding:
    """One line of ops.reconciliations. ``proposal`` is None where source and lake agree."""

    table: str
    day: date
    source_rows: int
    lake_rows: int
    source_amount: Decimal | None = None
    lake_amount: Decimal | None = None
    reloaded: bool = False
    missing: int | None = None
    outdated: int | None = None
    gone: int | None = None
    proposal: str | None = None

    @property
    def closing_missing(self) -> str | None:
        """What is left to do once rows that are gone are marked."""
        left = [each for each in (self.proposal or "").split("; ") if each not in ("", MARK_GONE)]
        return "; ".join(left) or None

    def __str__(self) -> str:
        amounts = (
            "" if self.source_amount is None else f", amounts {self.source_amount} and {self.lake_amount}"
        )
        ids = (
            ""
            if self.missing is None
            else f", {self.missing} missing, {self.outdated} older than at the source, {self.gone} gone at the source"
        )
        loads = ", of other load times" if self.reloaded else ""
        return (
            f"{self.table}, {self.day}: source {self.source_rows}, lake {self.lake_rows}{amounts}{loads}{ids}"
        )


def options(parser: argparse.ArgumentParser) -> None:
    """The job's own arguments."""
    parser.add_argument("--days", type=int, default=35, help="days of events to compare (default: 35)")
    parser.add_argument("--ids", action="store_true", help="compare all ids of contacts, accounts and leads")
    parser.add_argument(
        "--mark-gone",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="with --ids: mark what a source purged as deleted in the lake",
    )


def reconcile(job: Job) -> None:
    """The job reconcile. Raises SourceDiffers, after everything is written, where a source and the lake differ."""
    job.outcome.repeated_by(_command(job))
    found = list(_ids(job)) if job.arguments.ids else _days(job, job.arguments.days)
    _write(job, found)
    differing = [each for each in found if each.proposal is not None]
    if differing:
        proposals = dict.fromkeys(each.proposal for each in differing if each.proposal is not None)
        raise SourceDiffers(
            "\n".join(
                [
                    "received other rows from the sources than the lake holds, expected the same",
                    *(f"  - {each}" for each in differing),
                ]
            ),
            hint="; ".join(proposals),
        )
    job.outcome.notes.append(f"{len(found)} comparisons, all equal")


def _command(job: Job) -> str:
    given = job.arguments
    if not given.ids:
        return f"{by_hand('reconcile')} --days {given.days}"
    return MARK_GONE if given.mark_gone else f"{by_hand('reconcile')} --ids"


def compare(
    source: Mapping[date, DayTotal], lake: Mapping[date, DayTotal], days: Sequence[date]
) -> list[Finding]:
    """A finding for each day; days that differ propose the backfill of the whole stretch that they are in."""
    nothing = DayTotal(0, Decimal(0))
    differing = [day for day in days if source.get(day, nothing) != lake.get(day, nothing)]
    proposals = dict(_proposals("snowflake", differing))
    return [
        Finding(
            ORDERS,
            day,
            source.get(day, nothing).rows,
            lake.get(day, nothing).rows,
            source.get(day, nothing).amount,
            lake.get(day, nothing).amount,
            reloaded=source.get(day, nothing).loaded != lake.get(day, nothing).loaded,
            proposal=proposals.get(day),
        )
        for day in days
    ]


def _proposals(source: str, days: Sequence[date]) -> Iterator[tuple[date, str]]:
    """The command for each of some days in order: adjacent days share one."""
    stretch: list[date] = []
    for day in [*days, None]:
        if stretch and (day is None or day - stretch[-1] > timedelta(days=1)):
            proposal = command(source, stretch[0], stretch[-1])
            yield from ((each, proposal) for each in stretch)
            stretch = []
        if day is not None:
            stretch.append(day)


def _days(job: Job, count: int) -> list[Finding]:
    known = certification(job, ORDERS)
    if known.watermark is None:
        job.outcome.notes.append(f"{ORDERS}: nothing is certified, so nothing is compared")
        return []
    until = run_time(job.run_id).date() + timedelta(days=1)
    since = until - timedelta(days=count)
    source = snowflake.days(job.settings, since, until, known.watermark)
    lake = {
        row["day"]: DayTotal(row["rows"], row["amount"] or Decimal(0), int(row["loaded"] or 0))
        for row in _lake_days(job, known, since, until).collect()
    }
    return compare(source, lake, [since + timedelta(days=n) for n in range(count)])


def _lake_days(job: Job, known: Certification, since: date, until: date) -> DataFrame:
    """Distinct (order, event) of each day as the source gave them to certified runs, and their newest amounts.

    Of rows loaded up to the watermark, as the source is asked: a backfill, a run of an earlier day or a stamp of the
    future brought later loads, too.
    """
    stored = read(job.spark, job.settings.table_uri(ORDERS), known.version)
    # What a replay brought is in quarantine as it came.
    is_replayed = F.col(POSITION).contains("/")
    certified = stored.where(verdicts.rows_of(known.runs.values())).where(~is_replayed)
    columns = ("order_id", "event_ts", "loaded_at", "amount")
    given = certified.select(*columns).unionByName(_refused(job, ORDERS, "snowflake", known).select(*columns))
    watermark = F.lit(known.watermark.isoformat() if known.watermark else None).cast("timestamp")
    given = given.where(F.col("loaded_at").isNull() | (F.col("loaded_at") <= watermark))
    newest = Window.partitionBy("order_id", "event_ts").orderBy(
        F.desc_nulls_last("loaded_at"), F.desc_nulls_last("amount")
    )
    in_range = (F.col("event_ts") >= F.lit(str(since)).cast("timestamp")) & (
        F.col("event_ts") < F.lit(str(until)).cast("timestamp")
    )
    rows = given.where(F.col("order_id").isNotNull() & in_range).withColumn(
        "_place", F.row_number().over(newest)
    )
    return (
        rows.where("_place = 1")
        .groupBy(F.to_date("event_ts").alias("day"))
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.sum("amount").cast("decimal(38,2)").alias("amount"),
            F.sum((F.unix_seconds("loaded_at") - _2000).cast("decimal(20,0)")).alias("loaded"),
        )
    )


def _refused(job: Job, table: str, source: str, known: Certification) -> DataFrame:
    """Rows of a table that certified runs refused, as they came, in the contract's types where these can be read."""
    states = refused.rows(job.spark, job.settings).where(
        (F.col("table_name") == table) & F.col("run_id").isin(*known.run_ids)
    )
    raw = unpacked(
        states.select(
            F.col("received").alias("payload"),
            F.col("position").alias(POSITION),
            F.col("run_id").alias("_run_id"),
            F.col("source").alias("_source"),
            F.col("landed_at").alias("_landed_at"),
            "ingest_date",
        ),
        source,
        job.settings.sources.kafka.max_value_bytes,
    )
    return rules.split(raw, contracts.load(table))


def _ids(job: Job) -> Iterator[Finding]:
    """Ids of each source against those of certified Silver, changed up to the watermark."""
    for table, source in BY_ID.items():
        name = table.split(".")[1]
        silver = certification(job, table)
        bronze = certification(job, f"bronze.{name}")
        if silver.version is None or bronze.watermark is None:
            job.outcome.notes.append(f"{table}: nothing is certified, so nothing is compared")
            continue
        if bronze.run_ids - silver.merged.get(f"bronze.{name}", frozenset()):
            job.outcome.notes.append(f"{table}: certified runs wait for bronze_to_silver: compare after it")
            continue
        ids = import_module(f"lakehouse.sources.{source}").known_ids(job.settings, name)
        given = job.spark.createDataFrame(
            pa.table(
                {
                    # Half a surrogate pair as a refused row has it.
                    "id": pa.array([_spelt(each) for each, _, _ in ids], pa.string()),
                    "is_in_bin": pa.array([is_in_bin for _, is_in_bin, _ in ids], pa.bool_()),
                    "modified_at": pa.array([time for _, _, time in ids], pa.timestamp("us", tz="UTC")),
                }
            )
        )
        held = read(job.spark, job.settings.table_uri(table), silver.version)
        changed, _ = DELETES[source]
        known = _refused(job, f"bronze.{name}", source, bronze).select(
            "id", F.col(changed).alias("changed_at")
        )
        compared = _compared(given, held, known, bronze.watermark).persist()
        try:
            finding = _found(job, table, source, compared)
            if finding.gone and job.arguments.mark_gone:
                gone = compared.where("is_gone").select("id")
                job.outcome.notes.append(_mark_gone(job, name, source, gone, bronze))
                finding = replace(finding, gone=0, proposal=finding.closing_missing)
            yield finding
        finally:
            compared.unpersist()


def _compared(given: DataFrame, held: DataFrame, known: DataFrame, watermark: datetime) -> DataFrame:
    """Every id of either side, and whether it is live at the source and in the lake, and what is wrong with it.

    ``is_missing``: the lake does not know that it is live, or that it was deleted. ``is_outdated``: the lake agrees on
    that and holds a state from before the last change. ``is_gone``: the source does not know the id.
    ``known``: id and ``changed_at`` of states that were received and refused.
    """
    # A file behind a double can hold an id more than once.
    source = given.groupBy("id").agg(F.max(F.struct("modified_at", "is_in_bin")).alias("_given"))
    lake = held.select("id", "is_deleted", F.col("modified_at").alias("_held_at"))
    received = known.groupBy("id").agg(F.max("changed_at").alias("_refused_at"))
    joined = source.join(lake, on="id", how="full").join(received, on="id", how="left")
    sides = joined.select(
        "id",
        F.col("_given.modified_at").alias("modified_at"),
        F.coalesce(~F.col("_given.is_in_bin"), F.lit(False)).alias("is_given"),
        F.coalesce(~F.col("is_deleted"), F.lit(False)).alias("is_live"),
        F.col("_given").isNotNull().alias("_is_known"),
        F.col("_held_at"),
        F.col("_refused_at"),
    )
    # What changed after the watermark is the next run's.
    is_due = F.col("modified_at") <= F.lit(watermark.isoformat()).cast("timestamp")
    is_received = F.coalesce(F.col("_refused_at") >= F.col("modified_at"), F.lit(False))
    is_other = F.col("is_given") != F.col("is_live")
    is_newer = F.col("modified_at") > F.col("_held_at")
    found = {"is_missing": is_other, "is_outdated": ~is_other & is_newer}
    return sides.withColumns(
        {
            **{name: F.coalesce(is_due & ~is_received & what, F.lit(False)) for name, what in found.items()},
            "is_gone": F.col("is_live") & ~F.col("_is_known"),
        }
    )


def _found(job: Job, table: str, source: str, compared: DataFrame) -> Finding:
    is_behind = F.col("is_missing") | F.col("is_outdated")
    row = compared.agg(
        *[
            F.count_if(side).alias(side)
            for side in ("is_given", "is_live", "is_missing", "is_outdated", "is_gone")
        ],
        F.collect_set(F.when(is_behind, F.to_date("modified_at"))).alias("days"),
    ).head()
    assert row is not None  # an aggregation without grouping has one row
    proposals = list(dict.fromkeys(each for _, each in _proposals(source, sorted(row["days"]))))
    proposals += [MARK_GONE] if row["is_gone"] else []
    return Finding(
        table,
        run_time(job.run_id).date(),
        row["is_given"],
        row["is_live"],
        missing=row["is_missing"],
        outdated=row["is_outdated"],
        gone=row["is_gone"],
        proposal="; ".join(proposals) or None,
    )


def _mark_gone(job: Job, name: str, source: str, gone: DataFrame, known: Certification) -> str:
    """Bring rows that the source purged into Bronze once more, as deleted at the time of this run: a run of its own."""
    table = f"bronze.{name}"
    contract = contracts.load(table)
    changed, deleted = DELETES[source]
    own = own_run.own_job(
        job, f"gone_{source}_to_bronze", own_run.derived_run_id(job.run_id, f"{table}/gone")
    )
    own.outcome.repeated_by(f"{MARK_GONE} --run-id {job.run_id}")
    stored = read(job.spark, job.settings.table_uri(table), known.version).where(
        verdicts.rows_of(known.runs.values())
    )
    last = _gone_states(stored, gone, changed, run_time(job.run_id))
    said = {deleted: F.lit("true")}
    values = [
        said.get(column.name, _as_text(column.name, column.type)).alias(column.source_field)
        for column in contract.columns
        if column.source_field is not None
    ]
    rows = last.orderBy("id").select(*values)
    manifest = read_manifest(job.settings, source, name, own.run_id)
    if manifest is None:
        writer = LandingWriter(job.settings, source, name, own.run_id, kind="backfill")
        count = writer.write_rows(row.asDict() for row in rows.toLocalIterator())
        manifest = writer.commit(
            window_from=None,
            window_to=None,
            notes=[f"{table}: {count} records that the source has no more, marked as deleted"],
        )
    with own_run.told(own):
        own_run.load(own, [manifest], Load.require_contract)
        own_run.certify(own, [manifest])
    record(own.beside("emit_lineage_and_metrics"))
    return f"{manifest.notes[0]} by run {own.run_id}"


def _spelt(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _gone_states(stored: DataFrame, gone: DataFrame, changed: str, at: datetime) -> DataFrame:
    """The last state of each record that is gone, changed at a time; a run of an earlier day does not date it back."""
    newest = Window.partitionBy("id").orderBy(
        F.desc_nulls_last(changed), F.desc_nulls_last("_landed_at"), "_payload_hash"
    )
    return (
        stored.join(gone, on="id", how="left_semi")
        .withColumn("_place", F.row_number().over(newest))
        .where("_place = 1")
        .withColumn(changed, F.greatest(changed, F.lit(at.isoformat()).cast("timestamp")))
    )


def _as_text(name: str, kind: str) -> Column:
    column = F.col(name)
    is_time = kind.startswith("timestamp")
    return F.date_format(column, "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX") if is_time else column.cast("string")


def _write(job: Job, found: Sequence[Finding]) -> None:
    now = datetime.now(UTC)
    rows = [
        {
            "run_id": job.run_id,
            "table_name": each.table,
            "day": each.day,
            "source_rows": each.source_rows,
            "lake_rows": each.lake_rows,
            "source_amount": each.source_amount,
            "lake_amount": each.lake_amount,
            "missing": each.missing,
            "outdated": each.outdated,
            "gone": each.gone,
            "agrees": each.proposal is None,
            "proposal": each.proposal,
            "recorded_at": now,
        }
        for each in found
    ]
    replace_where(
        local_frame(job.spark, rows, schema(contracts.load(TABLE))),
        job.settings.table_uri(TABLE),
        f"run_id = '{job.run_id}'",
        f"{job.run_id}/{job.name}/{TABLE}",
    )
