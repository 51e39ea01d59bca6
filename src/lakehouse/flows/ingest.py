"""Ingest: a source's window → landing → Bronze, with every row accounted for.

The story: take up the watermark (what is certified), land the window once, split good rows from bad with all
their reasons, leave out what certified Bronze already holds, write quarantine, then Bronze. Each write replaces
the run's own rows, so the job can be killed and repeated at any point, and loads again where a backfill beside it was
certified meanwhile. Of a stream the run only records which of the
rows already written are its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import import_module
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window
from pyspark.storagelevel import StorageLevel

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.contracts import Contract
from lakehouse.delta.read import head, read
from lakehouse.delta.write import replace_run
from lakehouse.errors import LedgerImbalance
from lakehouse.flows.landed import read_landed
from lakehouse.landing import POSITION, Manifest
from lakehouse.observe.ledger import Ledger
from lakehouse.observe.outcome import LedgerCounts, TableOutcome
from lakehouse.quality import dlq, quarantine, rules, verdicts
from lakehouse.quality.difference import Difference, difference
from lakehouse.quality.repeats import STATES, is_repeat, with_states
from lakehouse.quality.verdicts import Certification, CertifiedRun
from lakehouse.settings import Settings
from lakehouse.sources import kafka
from lakehouse.sources.watermark import Watermark

log = logging.getLogger("lakehouse.flows.ingest")

# Tables of one source that are loaded side by side, to fill the gaps in which one plans or waits for S3.
_SIDE_BY_SIDE = 2
# How often a run loads where others are certified meanwhile; after that, the gate tells whether rows are twice.
_LOADS = 3

Extract = Callable[[Settings, str, Mapping[str, Watermark]], tuple[Manifest, ...]]

# Which Bronze tables each source feeds; lakehouse.sources.<name> extracts it.
SOURCES: dict[str, tuple[str, ...]] = {
    "hubspot": ("hubspot_contacts",),
    "salesforce": ("salesforce_accounts", "salesforce_leads"),
    "snowflake": ("snowflake_orders",),
    "vendor": ("vendor_shipments",),
    "fx": ("fx_rates",),
    "kafka": ("kafka_orders",),
}


def ingest(job: Job, source: str) -> None:
    """Land and load every table of a source."""
    watermarks: dict[str, Watermark] = {}
    for table in SOURCES[source]:
        known = certification(job, f"bronze.{table}")
        watermarks[table] = Watermark(time=known.watermark, states=known.states)
    # Each source brings a client of its own, and some take half a second to import.
    extract: Extract = import_module(f"lakehouse.sources.{source}").extract
    manifests = extract(job.settings, job.run_id, watermarks)
    streamed = [manifest for manifest in manifests if verdicts.is_streamed(manifest.state)]
    job.outcome.tables.extend(_streamed(job, manifest) for manifest in streamed)
    if streamed:
        return

    for _ in range(_LOADS):
        judged = _verdicts(job.settings, source)
        tables, notes = _loaded(job, manifests)
        if _verdicts(job.settings, source) == judged:
            break
        log.info("a run beside this one was certified while this one wrote: loading again, beside its rows")
    job.outcome.tables.extend(tables)
    job.outcome.notes.extend(notes)


def _verdicts(settings: Settings, source: str) -> list[str]:
    return [uri for table in SOURCES[source] for uri in verdicts.uris(settings, f"bronze.{table}")]


def _loaded(job: Job, manifests: Sequence[Manifest]) -> tuple[list[TableOutcome], list[str]]:
    """Load what was landed into its tables; what was written, and what is worth saying."""

    def load_of(manifest: Manifest) -> Load:
        # While the source was read, a run beside this one may have been certified: what it holds is a repeat here.
        own = job.beside()
        return Load(own, manifest, certification(own, f"bronze.{manifest.table}"))

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        # Refusals of all tables are found before the first of them is written.
        loads = list(pool.map(load_of, manifests))
        try:
            for load in loads:
                load.require_contract()
            tables = list(pool.map(Load.write, loads))
        finally:
            for load in loads:
                load.release()
    return tables, [note for load in loads for note in (*load.manifest.notes, *load.surprises())]


def certification(job: Job, table: str) -> Certification:
    """What the verdicts of a table certify, for the table as it lives now."""
    live = head(job.spark, job.settings.table_uri(table))
    return verdicts.certification(table, verdicts.read_all(job.settings, table), live.table_id)


def _streamed(job: Job, manifest: Manifest) -> TableOutcome:
    """What the stream has written of a manifest's range: counted, for it is loaded already."""
    name = f"bronze.{manifest.table}"
    uri = job.settings.table_uri(name)
    live = head(job.spark, uri)
    own = F.expr(verdicts.rows_of([verdicts.CertifiedRun(run_id=manifest.run_id, state=manifest.state)]))
    refused = read(job.spark, job.settings.table_uri(dlq.TABLE)).where(own).persist()
    try:
        inserted = read(job.spark, uri, live.version).where(own).count()
        quarantined = refused.count()
        ledger = Ledger(
            read=inserted + quarantined if manifest.rows is None else manifest.rows,
            inserted=inserted,
            quarantined=quarantined,
        ).require_balance(name)
        broken = dlq.count_by_rule(refused) if ledger.quarantined else {}
    finally:
        refused.unpersist()
    log.info("%s: %s", name, json.dumps(asdict(ledger)))
    return TableOutcome(
        table=name,
        ledger=LedgerCounts(**asdict(ledger)),
        version=live.version,
        table_id=live.table_id,
        landed=_landed(manifest),
        rules=broken,
    )


def _landed(manifest: Manifest) -> str:
    return f"{manifest.source}/{manifest.table}/{manifest.run_id}"


class Load:
    """One manifest on its way into one Bronze table: classified once, counted once, written."""

    def __init__(self, job: Job, manifest: Manifest, certified: Certification) -> None:
        self.manifest = manifest
        self.contract = contracts.load(f"bronze.{manifest.table}").with_overrides(job.settings.dq_thresholds)
        self._job = job
        self._uri = job.settings.table_uri(self.contract.name)
        split = rules.split(read_landed(job.spark, job.settings, manifest), self.contract)
        runs = [run for run_id, run in certified.runs.items() if run_id != job.run_id]
        self._held = _held(job, self.contract, certified, runs)
        self._rows, self._counts = self._judged(_classified(split, self.contract, self._held))
        # A replay brings back nothing but what was refused: there a row that breaks a rule is no repeat.
        if runs and manifest.kind != "replay" and self._counts["class:quarantined"]:
            # What an earlier try of this run has put into quarantine is its own, whoever refused the row meanwhile.
            refused = quarantine.received(
                job.spark, job.settings, self.contract.name, [run.run_id for run in runs], job.run_id
            )
            classified = self._rows
            self._rows, self._counts = self._judged(_without_known_refusals(classified, refused))
            classified.unpersist()

    def _judged(self, rows: DataFrame) -> tuple[DataFrame, dict[str, Any]]:
        """The rows, kept, and one count of all that is asked of them."""
        rows = rows.persist(StorageLevel.MEMORY_AND_DISK)
        counts = [F.count_if(F.col("_class") == label).alias(f"class:{label}") for label in _CLASSES]
        with kafka.loss_said(self._job.settings):
            found = rows.agg(*counts, *rules.batch_metrics(rows, self.contract)).head()
        assert found is not None  # an aggregation without grouping has one row
        return rows, found.asDict()

    @property
    def read_rows(self) -> int:
        """Rows read: as many as were landed; of a range that stays in the source, as many as came."""
        return int(self._counts["rows"]) if self.manifest.rows is None else self.manifest.rows

    @property
    def refused(self) -> int:
        """Rows that break a rule."""
        assert self._counts is not None
        return int(self._counts["class:quarantined"])

    @property
    def counts(self) -> dict[str, int]:
        """Rows by class: inserted, duplicate, quarantined."""
        return {label: int(self._counts[f"class:{label}"]) for label in _CLASSES}

    @property
    def inserted(self) -> DataFrame:
        """The rows that the table gets, in the contract's columns."""
        business = [F.col(column.name) for column in self.contract.columns]
        return self._rows.where(F.col("_class") == "inserted").select(*business)

    def difference(self) -> Difference:
        """What the table would get, beside what certified runs hold; of several rows of a key the last one counts."""
        key = self.contract.key
        new = _last(self.inserted, key)
        old = (
            new.limit(0)
            if self._held is None
            else self._held.join(new.select(*key), on=[*key], how="left_semi")
        )
        return difference(new, _last(old, key), self.contract)

    def require_contract(self) -> None:
        """Raise ContractViolation, naming every difference, where the batch as a whole breaks its contract."""
        rules.require_contract(self.contract, self.manifest, self._counts)

    def write(self) -> TableOutcome:
        """Quarantine first, then Bronze: a row is never in neither."""
        job, name, stats = self._job, self.contract.name, self._counts
        rejected = self._rows.where(F.col("_class") == "quarantined")
        quarantine.replace_open(
            job.spark, job.settings, rejected, self.contract, self.manifest, stats["class:quarantined"]
        )
        commit = replace_run(
            self.inserted,
            self._uri,
            job.run_id,
            self.manifest.landed_at.date(),
            f"{job.run_id}/{job.name}/{name}",
        )
        written = 0 if commit is None else commit.metric("numOutputRows") - commit.metric("numCopiedRows")
        live = head(job.spark, self._uri)
        if written != stats["class:inserted"]:
            raise LedgerImbalance(
                f"{name}: wrote {written} rows, expected {stats['class:inserted']}", hint="rerun the task"
            )
        ledger = Ledger(
            read=self.read_rows,
            inserted=written,
            quarantined=stats["class:quarantined"],
            duplicates=stats["class:duplicate"],
        ).require_balance(name)
        log.info("%s: %s", name, json.dumps(asdict(ledger)))
        return TableOutcome(
            table=name,
            ledger=LedgerCounts(**asdict(ledger)),
            version=live.version if commit is None else commit.version,
            table_id=live.table_id,
            landed=_landed(self.manifest),
            rules={
                key.removeprefix("rule:"): count
                for key, count in stats.items()
                if key.startswith("rule:") and count
            },
        )

    def surprises(self) -> list[str]:
        """Fields that the contract does not know: kept in landing, not in the table, and said."""
        unknown = ", ".join(rules.unknown_fields(self.contract, self.manifest))
        return (
            [f"{self.contract.name}: the source also gave {unknown}; landed, not loaded"] if unknown else []
        )

    def release(self) -> None:
        self._rows.unpersist()


_CLASSES = ("inserted", "duplicate", "quarantined")


def _held(
    job: Job, contract: Contract, certified: Certification, runs: Sequence[CertifiedRun]
) -> DataFrame | None:
    """The rows that certified runs other than this one hold."""
    if not runs:
        return None
    table = read(job.spark, job.settings.table_uri(contract.name), certified.version)
    return table.where(verdicts.rows_of(runs))


def _last(rows: DataFrame, key: Sequence[str]) -> DataFrame:
    """Of each key the row that was landed last."""
    order = Window.partitionBy(*key).orderBy(F.desc("_landed_at"), F.desc(POSITION))
    return rows.withColumn("_nth", F.row_number().over(order)).where("_nth = 1").drop("_nth")


def _classified(split: DataFrame, contract: Contract, held: DataFrame | None) -> DataFrame:
    """Label each row: quarantined, duplicate (of this batch, or of what certified Bronze holds) or inserted."""
    is_good = F.size("_reasons") == 0
    first = F.row_number().over(Window.partitionBy(is_good, *contract.key, "_payload_hash").orderBy(POSITION))
    rows = split.withColumn("_is_first", first == 1)
    is_known: Column = F.lit(False)
    if held is not None:
        rows, is_known = with_states(rows, is_good, contract.state, held), is_repeat()
    label = (
        F.when(~is_good, "quarantined")
        .when(~F.col("_is_first") | is_known, "duplicate")
        .otherwise("inserted")
    )
    return rows.withColumn("_class", label).drop("_is_first", *STATES)


def _without_known_refusals(classified: DataFrame, refused: DataFrame) -> DataFrame:
    """Refused rows that an earlier certified run has in quarantine, as received, are duplicates of those.

    An overlap brings them back every day; counted again, one of them would be a large share of a quiet day.
    """
    marked = refused.withColumn("_is_refused", F.lit(True))
    rows = classified.withColumn("_received", quarantine.as_received(F.col(rules.PAYLOAD)))
    rows = rows.join(F.broadcast(marked), on="_received", how="left").drop("_received")
    is_known = (F.col("_class") == "quarantined") & F.coalesce("_is_refused", F.lit(False))
    return rows.withColumns(
        {
            "_class": F.when(is_known, "duplicate").otherwise(F.col("_class")),
            # The rule was broken, and counted, by the row's first arrival.
            rules.BROKEN: F.when(is_known, F.array().cast("array<string>")).otherwise(F.col(rules.BROKEN)),
        }
    ).drop("_is_refused")
