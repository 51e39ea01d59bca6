"""Promote: certified Bronze runs → Silver, each exactly once.

The story: demand a passing verdict of this run for every Bronze table; where Silver's head is not what was
certified (a refused promotion, a crash), restore the certified version; merge every certified Bronze run that is
not in it; leave a promotion record, from which the gate knows what the new head contains.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import ModuleType

from pydantic import BaseModel, ConfigDict
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.contracts.spark import schema
from lakehouse.delta import damage
from lakehouse.delta.read import TableHead, has_same_files, head, read
from lakehouse.delta.write import empty, merge, restore
from lakehouse.errors import LedgerImbalance, NotCertified
from lakehouse.flows.apply_contracts import apply_contracts
from lakehouse.flows.known import promotion_uri, require_known
from lakehouse.observe.ledger import Ledger
from lakehouse.observe.outcome import InputVersion, LedgerCounts, TableOutcome
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import Certification
from lakehouse.settings import Settings
from lakehouse.tables.order import CONFLICT, DUPLICATE, INSERTED, SUPERSEDED, UPDATED, WRITTEN, as_stored
from lakehouse.tables.silver import (
    fx_rates,
    hubspot_contacts,
    orders,
    salesforce_accounts,
    salesforce_leads,
    vendor_shipments,
)

log = logging.getLogger("lakehouse.flows.promote")

# The longest first.
TABLES: tuple[ModuleType, ...] = (
    orders,
    salesforce_accounts,
    salesforce_leads,
    hubspot_contacts,
    vendor_shipments,
    fx_rates,
)
# Tables promoted side by side: enough to fill the gaps in which one of them plans or waits for S3.
_SIDE_BY_SIDE = 3
# Beyond this many distinct months a literal list no longer pays; the merge then matches on the key alone.
_MAX_LITERALS = 400


class PromotedInput(BaseModel):
    """A Bronze table as promoted: the version read, and all its runs that Silver now contains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table_id: str
    version: int
    run_ids: tuple[str, ...]


class Promotion(BaseModel):
    """What a run made of one Silver table; the gate certifies ``version`` and ``inputs``.

    ``rebuilt_rows``: all rows of a table that was made anew, which may have fewer than before; None after a merge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    run_id: str
    table_id: str
    version: int
    inputs: dict[str, PromotedInput]
    rebuilt_rows: int | None = None


def read_promotion(settings: Settings, table: str, run_id: str) -> Promotion | None:
    """The promotion of a table by a run, or None."""
    uri = promotion_uri(settings, table, run_id)
    body = store.get(uri)
    return None if body is None else store.parsed(Promotion, uri, body)


def write_promotion(settings: Settings, promotion: Promotion) -> None:
    """Say what a run made of a table; a later try replaces it."""
    uri = promotion_uri(settings, promotion.table, promotion.run_id)
    store.put(uri, promotion.model_dump_json(indent=1).encode())


def promote(job: Job) -> None:
    """Bring every Silver table up to date with certified Bronze. Raises NotCertified before the first write.

    Raises UnknownRun for a run that nothing is known of.
    """
    require_known(job.settings, job.run_id)
    bronze = _certified_bronze(job)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        job.outcome.tables.extend(pool.map(lambda table: _promote(job.beside(), table, bronze), TABLES))


def _certified_bronze(job: Job) -> dict[str, tuple[TableHead, Certification]]:
    known: dict[str, tuple[TableHead, Certification]] = {}
    refusals: list[NotCertified] = []
    for name in dict.fromkeys(name for table in TABLES for name in table.INPUTS):
        live = head(job.spark, job.settings.table_uri(name))
        certified = verdicts.certification(name, verdicts.read_all(job.settings, name), live.table_id)
        try:
            certified.require(job.run_id)
        except NotCertified as refusal:
            refusals.append(refusal)
        known[name] = (live, certified)
    if refusals:
        raise NotCertified(
            "Silver was not touched: " + "; ".join(refusal.message for refusal in refusals),
            hint=refusals[0].hint,
        )
    return known


def _promote(job: Job, table: ModuleType, bronze: dict[str, tuple[TableHead, Certification]]) -> TableOutcome:
    name: str = table.TABLE
    uri = job.settings.table_uri(name)
    live = head(job.spark, uri)
    certified = verdicts.certification(name, verdicts.read_all(job.settings, name), live.table_id)
    live = _rewind(job, name, live, certified)

    frames: list[DataFrame] = []
    inputs: dict[str, PromotedInput] = {}
    has_news = False
    for source in table.INPUTS:
        source_head, source_certified = bronze[source]
        assert source_certified.version is not None  # this run's passing verdict names one
        runs = sorted(source_certified.run_ids)
        news = sorted(source_certified.run_ids - certified.merged.get(source, frozenset()))
        has_news = has_news or bool(news)
        rows = read(job.spark, job.settings.table_uri(source), source_certified.version)
        frames.append(rows.where(verdicts.rows_of(source_certified.runs[run] for run in news)))
        inputs[source] = PromotedInput(
            table_id=source_head.table_id, version=source_certified.version, run_ids=tuple(runs)
        )

    ledger, version = _merge(job, table, frames) if has_news else (Ledger(read=0), None)
    promotion = Promotion(
        table=name,
        run_id=job.run_id,
        table_id=live.table_id,
        version=live.version if version is None else version,
        inputs=inputs,
    )
    write_promotion(job.settings, promotion)
    log.info("%s: %s", name, json.dumps(asdict(ledger)))
    return TableOutcome(
        table=name,
        ledger=LedgerCounts(**asdict(ledger)),
        version=promotion.version,
        table_id=promotion.table_id,
        inputs=tuple(
            InputVersion(table=source, table_id=item.table_id, version=item.version, run_ids=item.run_ids)
            for source, item in inputs.items()
        ),
    )


def _rewind(job: Job, name: str, live: TableHead, certified: Certification) -> TableHead:
    """Make the certified version the head where it is not; an uncertified table starts from nothing."""
    uri = job.settings.table_uri(name)
    damage.require_version(name, certified.version, live.version)
    if live.version == certified.version or (
        certified.version is not None and has_same_files(job.spark, uri, certified.version, live.version)
    ):
        return live
    tag = f"{job.run_id}/{job.name}/{name}/rewind"
    if certified.version is None:
        commit = empty(job.spark, uri, tag)
        return live if commit is None else TableHead(live.table_id, commit.version)
    restored = restore_version(job, name, certified.version, tag)
    job.outcome.notes.append(
        f"{name}: version {live.version} was never certified; restored version {certified.version}"
    )
    return restored


def restore_version(job: Job, name: str, version: int, tag: str) -> TableHead:
    """Make an earlier version of a table its newest, under the contract as it is now."""
    uri = job.settings.table_uri(name)
    restore(job.spark, uri, version, tag)
    # RESTORE takes columns and properties back as well.
    apply_contracts(job.spark, job.settings, [contracts.load(name)])
    return head(job.spark, uri)


def _merge(job: Job, table: ModuleType, frames: Sequence[DataFrame]) -> tuple[Ledger, int | None]:
    """Classify every row against the stored ones, then write the winners in one commit."""
    name: str = table.TABLE
    uri = job.settings.table_uri(name)
    source = table.transform(*frames)
    stored = read(job.spark, uri)
    partitions: dict[str, list[str]] = {}
    for column in contracts.load(name).partition_by:
        values = [row[0] for row in source.select(column).distinct().limit(_MAX_LITERALS + 1).collect()]
        if len(values) <= _MAX_LITERALS:
            partitions[column] = values
            stored = stored.where(F.col(column).isin(values))
    stored = stored.join(source.select(*table.SCOPE).distinct(), on=list(table.SCOPE), how="left_semi")
    stored = as_stored(stored.select(*source.columns), table.BUSINESS)
    rows = table.resolve(source, stored).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        ledger = ledger_of(name, rows, sum(frame.count() for frame in frames))
        if ledger.inserted + ledger.updated == 0:
            return ledger, None
        commit = merge(
            winners(name, rows),
            uri,
            table.KEY,
            f"{job.run_id}/{job.name}/{name}",
            partition_values=partitions,
            update=ledger.updated > 0,
        )
    finally:
        rows.unpersist()
    written = (
        (0, 0)
        if commit is None
        else (commit.metric("numTargetRowsInserted"), commit.metric("numTargetRowsUpdated"))
    )
    if commit is None or written != (ledger.inserted, ledger.updated):
        raise LedgerImbalance(
            f"{name}: inserted and updated {written} rows, expected {(ledger.inserted, ledger.updated)}",
            hint="the head is uncertified and will be restored by the next run; rerun bronze_to_silver",
        )
    return ledger, commit.version


def ledger_of(name: str, rows: DataFrame, read_rows: int) -> Ledger:
    """What became of the rows that a table's ``resolve`` was given. Raises LedgerImbalance."""
    counts = {
        (row["_class"], row["_generated"]): row["count"]
        for row in rows.groupBy("_class", "_generated").count().collect()
    }
    by_class = {label: counts.get((label, False), 0) + counts.get((label, True), 0) for label, _ in counts}
    return Ledger(
        read=read_rows,
        generated=sum(count for (_, generated), count in counts.items() if generated),
        inserted=by_class.get(INSERTED, 0),
        updated=by_class.get(UPDATED, 0),
        duplicates=by_class.get(DUPLICATE, 0),
        superseded=by_class.get(SUPERSEDED, 0),
        conflicts=by_class.get(CONFLICT, 0),
    ).require_balance(name)


def winners(name: str, rows: DataFrame) -> DataFrame:
    """The rows of a table's ``resolve`` that are to be written, in the columns of the contract."""
    columns = [F.col(field.name) for field in schema(contracts.load(name))]
    return rows.where(F.col("_class").isin(*WRITTEN)).select(*columns)
