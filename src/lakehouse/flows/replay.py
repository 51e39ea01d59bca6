"""Replay: refused rows, corrected or as received, back through the same contract into the same tables.

The story: judge the chosen rows by the contract as it is now; those that still break it get an ``open`` event with
their new reasons; land the others as a run of their own, load them by the code of every ingest, have the Bronze gate
judge that run, and only then say that they are ``replayed``. The next promotion takes the run in like any other.

Bronze shows where a replayed row came from: ``_run_id`` is the replay, ``_position`` is ``<run that refused it>/<its
position there>``, ``_landed_at`` and ``_source`` are those of the row, so that in no total order an old row beats a
newer one. A replay moves no watermark.

Killed anywhere, a replay is finished by running it again under its run id: ``unfinished`` names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.contracts import Contract
from lakehouse.errors import ContractViolation, TerminalError, UsageError
from lakehouse.flows import own_run
from lakehouse.flows.emit import record
from lakehouse.flows.ingest import SOURCES, Load
from lakehouse.flows.landed import read_landed, unpacked
from lakehouse.landing import POSITION, LandingWriter, Manifest, read_manifest
from lakehouse.observe import outcome as outcomes
from lakehouse.quality import refused, rules
from lakehouse.quality.quarantine import OPEN
from lakehouse.quality.refused import FIXED, IDENTITY, REPLAYED, Selection
from lakehouse.runs import counted
from lakehouse.settings import Settings

# The gate knows an ingest by the end of its name.
JOB = "replay_to_bronze"
# Neither run ids nor the positions of any source begin with one.
_BETWEEN = "/"
_TIME = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"


@dataclass(frozen=True)
class Request:
    """Which rows to replay, who asks for it and why: fixed ones and, ``as_received``, open ones as they came."""

    by: str
    why: str = ""
    table: str | None = None
    reason: str | None = None
    run_id: str | None = None
    day: date | None = None
    as_received: bool = False

    @property
    def selection(self) -> Selection:
        statuses = (OPEN, FIXED) if self.as_received else (FIXED,)
        return Selection(self.table, self.reason, self.run_id, self.day, statuses)


class Intent(BaseModel):
    """A replay that was begun: what it was asked, and whether it has come to an end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    request: Request
    begun_at: datetime
    status: Literal["begun", "done", "refused"] = "begun"


@dataclass(frozen=True)
class Judged:
    """How the current contract finds the chosen rows of a table."""

    table: str
    passing: int
    failing: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Replayed:
    """What a replay did to one table. ``inserted`` and ``duplicates`` are its ledger; together they are replayed."""

    table: str
    inserted: int
    duplicates: int


def source_of(table: str) -> str:
    """The source of a Bronze table, which its name begins with."""
    return table.split(".")[1].split("_")[0]


def judged(settings: Settings, found: DataFrame, table: str, payload: str) -> DataFrame:
    """How the current contract finds rows of one table by one of their columns.

    ``state`` holds all columns of ``found``; ``payload``, ``fields`` and ``_reasons`` are what was judged and found.
    """
    contract = _contract(settings, table)
    rows = found.select(F.struct("*").alias("state"), F.col(payload).alias("payload"))
    raw = unpacked(rows, source_of(table), settings.sources.kafka.max_value_bytes).withColumns(
        {
            POSITION: F.concat_ws(_BETWEEN, "state.run_id", "state.position"),
            "_run_id": F.col("state.run_id"),
            "_source": F.lit(source_of(table)),
            "_landed_at": F.col("state.landed_at"),
            "ingest_date": F.col("state.ingest_date"),
        }
    )
    split = rules.split(raw, contract, keep=("state", rules.FIELDS))
    return split.select("state", "payload", rules.FIELDS, rules.REASONS)


def chosen(settings: Settings, states: DataFrame, request: Request, table: str) -> DataFrame:
    """The rows of a table that a request means, ``judged``: fixed ones as fixed, open ones as received."""
    found = request.selection.of(states.where(F.col("table_name") == table))
    to_replay = F.when(F.col("status") == FIXED, F.col("payload")).otherwise(F.col("received"))
    return judged(settings, found.withColumn("to_replay", to_replay), table, "to_replay")


def preview(spark: SparkSession, settings: Settings, request: Request) -> tuple[Judged, ...]:
    """What a replay would find. Nothing is written."""
    states = refused.rows(spark, settings)
    results = []
    for table in _tables(states, request):
        rows = chosen(settings, states, request, table).select(rules.REASONS).persist()
        try:
            row = rows.agg(
                F.count_if(F.size(rules.REASONS) == 0).alias("passing"), F.count(F.lit(1)).alias("rows")
            ).head()
            assert row is not None  # an aggregation without grouping has one row
            results.append(Judged(table, row["passing"], row["rows"] - row["passing"], _by_rule(rows)))
        finally:
            rows.unpersist()
    return tuple(results)


def unfinished(settings: Settings) -> tuple[Intent, ...]:
    """Replays that were begun and have not come to an end: killed, or still running."""
    found = store.get_many(list(store.keys(f"{_intents_uri(settings)}/")))
    intents = [Intent.model_validate_json(body) for body in found]
    return tuple(intent for intent in intents if intent.status == "begun")


def replay(job: Job, request: Request) -> tuple[Replayed, ...]:
    """Replay rows as the run ``job.run_id``; under the id of a replay that was begun before, finish that one.

    Raises GateFailed where the gate refuses the run, ContractViolation where the contract changed after it had landed:
    the rows stay as they were, and a new replay takes them.
    """
    intent = _begin(job, request)
    try:
        results = _replay(job, intent.request)
    except TerminalError:
        _end(job, intent, "refused")
        raise
    _end(job, intent, "done")
    return results


def _replay(job: Job, request: Request) -> tuple[Replayed, ...]:
    manifests = _land_all(job, request)
    if not manifests:
        return ()
    own_run.load(job, manifests, _require_good)
    own_run.certify(job, manifests)
    for manifest in manifests:
        _say_replayed(job, request, manifest)
    record(job.beside("emit_lineage_and_metrics"))
    return tuple(
        Replayed(each.table, each.ledger.inserted, each.ledger.duplicates)
        for each in job.outcome.tables
        if each.ledger is not None
    )


def _begin(job: Job, request: Request) -> Intent:
    """Say what is to be done before anything is; where it was said before, that stands."""
    if any(outcome.job != JOB for outcome in outcomes.read_run(job.settings, job.run_id)):
        raise UsageError(
            f"received the run id {job.run_id}, which is another run's", hint="leave --run-id out"
        )
    uri = f"{_intents_uri(job.settings)}/{job.run_id}.json"
    intent = Intent(run_id=job.run_id, request=request, begun_at=datetime.now(UTC))
    if store.put_if_absent(uri, intent.model_dump_json(indent=1).encode()):
        return intent
    known = Intent.model_validate_json(store.get(uri) or b"")
    if known.status != "begun":
        raise UsageError(
            f"received the run id {job.run_id}, a replay that has ended ({known.status})",
            hint="leave --run-id out",
        )
    return known


def _end(job: Job, intent: Intent, status: Literal["done", "refused"]) -> None:
    ended = intent.model_copy(update={"status": status})
    store.put(f"{_intents_uri(job.settings)}/{job.run_id}.json", ended.model_dump_json(indent=1).encode())


def _intents_uri(settings: Settings) -> str:
    return f"{settings.lake_uri}/ops/_replays"


def _land_all(job: Job, request: Request) -> tuple[Manifest, ...]:
    """The landings of this run: what an earlier try landed stays as it is."""
    found = {table: _manifest(job, table) for table in _bronze_tables()}
    states = refused.rows(job.spark, job.settings)
    wanted = _tables(states, request)
    for table in wanted:
        if found[table] is None:
            found[table] = _land(job, request, states, table)
    return tuple(manifest for manifest in found.values() if manifest is not None)


def _manifest(job: Job, table: str) -> Manifest | None:
    return read_manifest(job.settings, source_of(table), table.split(".")[1], job.run_id)


def _land(job: Job, request: Request, states: DataFrame, table: str) -> Manifest | None:
    """Land the rows that pass, open those that do not once more; None where none passes."""
    contract = _contract(job.settings, table)
    rows = chosen(job.settings, states, request, table).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        is_good = F.size(rules.REASONS) == 0
        _open_again(job, request, rows.where(~is_good), contract)
        good = rows.where(is_good).select(
            F.concat_ws(_BETWEEN, "state.run_id", "state.position").alias(POSITION),
            # The stream's own rows are known by the source that it gives them.
            F.lit(source_of(table)).alias("_source"),
            F.date_format("state.landed_at", _TIME).alias("_landed_at"),
            "payload",
        )
        writer = LandingWriter(job.settings, source_of(table), table.split(".")[1], job.run_id, kind="replay")
        lines = (row.asDict() for row in good.orderBy(POSITION).toLocalIterator())
        if not writer.write_rows(lines):
            return None
        runs = sorted(row[0] for row in rows.where(is_good).select("state.run_id").distinct().collect())
        note = (
            f"{table}: replays refused rows of {counted(len(runs))}, for {request.by}: {', '.join(runs[:10])}"
        )
        return writer.commit(window_from=None, window_to=None, notes=[note])
    finally:
        rows.unpersist()


def _open_again(job: Job, request: Request, rows: DataFrame, contract: Contract) -> None:
    """Rows that break the contract as it is: open, with what is wrong with them now; nothing where nothing is new."""
    is_new = (F.col("state.status") != OPEN) | (F.col("state.reasons") != F.col(rules.REASONS))
    found = rows.where(is_new).select("state.*", F.col("payload").alias("judged"), rules.REASONS)
    if found.isEmpty():
        return
    new = refused.later(
        found,
        OPEN,
        (F.lit(job.run_id),),
        payload=F.col("judged"),
        reasons=F.col(rules.REASONS),
        contract_version=F.lit(contract.version),
        actor=request.by,
        note=request.why or "replayed, and refused again",
        at=datetime.now(UTC),
        replay_run_id=job.run_id,
    )
    refused.append(job.settings, new, f"{job.run_id}/{JOB}/{contract.name}/open")


def _require_good(load: Load) -> None:
    load.require_contract()
    if load.refused:
        raise ContractViolation(
            f"{load.contract.name}: {load.refused} landed rows of replay {load.manifest.run_id} break the contract, "
            "which was changed since they were judged; nothing was written",
            hint="replay again: a new replay judges them by the contract as it is now",
        )


def _say_replayed(job: Job, request: Request, manifest: Manifest) -> None:
    """The last event of every row that this run landed, whether Bronze got it or held it already."""
    table = f"bronze.{manifest.table}"
    origin = F.split(POSITION, _BETWEEN, 2)
    landed = read_landed(job.spark, job.settings, manifest).select(
        origin[0].alias("run_id"), origin[1].alias("position"), F.col("payload").alias("landed")
    )
    states = refused.rows(job.spark, job.settings).where(F.col("table_name") == table)
    found = states.where(F.col("status") != REPLAYED).join(landed, on=list(IDENTITY[1:]))
    new = refused.later(
        found,
        REPLAYED,
        (),
        payload=F.col("landed"),
        reasons=F.col("reasons"),
        contract_version=F.lit(_contract(job.settings, table).version),
        actor=request.by,
        note=request.why,
        at=datetime.now(UTC),
        replay_run_id=job.run_id,
    )
    refused.append(job.settings, new, f"{job.run_id}/{JOB}/{table}/replayed")


def _contract(settings: Settings, table: str) -> Contract:
    return contracts.load(table).with_overrides(settings.dq_thresholds)


def _bronze_tables() -> tuple[str, ...]:
    return tuple(f"bronze.{table}" for tables in SOURCES.values() for table in tables)


def _tables(states: DataFrame, request: Request) -> tuple[str, ...]:
    """Tables of which a request means any row."""
    found = request.selection.of(states).select("table_name").distinct().collect()
    return tuple(sorted(row["table_name"] for row in found))


def _by_rule(rows: DataFrame) -> dict[str, int]:
    """How many rows break each rule."""
    names: Counter[str] = Counter()
    named = F.transform(rules.REASONS, lambda reason: F.substring_index(reason, ": ", 1))
    counted = rows.select(F.explode(F.array_distinct(named)).alias("rule")).groupBy("rule").count()
    names.update({row["rule"]: row["count"] for row in counted.collect()})
    return dict(names.most_common())
