"""Reload: Bronze runs loaded again from their landing, by the contract as it is now, under their own run ids.

No source is asked. A run's rows are replaced by run id, its ingest's outcome tells the new counts, and the Bronze gate
judges it again. Rows that the contract now takes stay in quarantine until they are replayed (docs/quarantine.md), where
they count as duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pyspark.sql import DataFrame

from lakehouse.cli import Job
from lakehouse.delta.read import head
from lakehouse.errors import UsageError
from lakehouse.flows import gate
from lakehouse.flows.emit import record
from lakehouse.flows.ingest import Load, certification
from lakehouse.flows.recovery.base import JOB, Change, Recovery, contract_of, named, refuse
from lakehouse.landing import Manifest, read_manifest
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Outcome, TableOutcome
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import CertifiedRun
from lakehouse.runs import run_time
from lakehouse.submit import RECOVER


@dataclass(frozen=True)
class Landed:
    """A landed run as the contract finds it now. Kept until ``release``."""

    table: str
    manifest: Manifest
    load: Load

    @property
    def run_id(self) -> str:
        return self.manifest.run_id

    @property
    def rows(self) -> DataFrame:
        """What Bronze would get."""
        return self.load.inserted

    @property
    def inserted(self) -> int:
        return self.load.counts["inserted"]

    def release(self) -> None:
        self.load.release()


def look(
    recovery: Recovery, tables: Sequence[str], chosen: Set[str] = frozenset()
) -> dict[str, list[Landed]]:
    """The runs asked for, or all that were ever certified and not discarded, of the tables. Nothing is written.

    ``chosen``: runs in place of those asked for, that were certified once.

    Raises UsageError for a run that none of the tables has, RecoveryRefused where a landing is not complete.
    """
    found: dict[str, list[Landed]] = {}
    problems: list[str] = []
    asked = set(chosen or recovery.request.runs)
    known: set[str] = set()
    for table in tables:
        runs = _ever_certified(recovery, table) | chosen
        known |= runs
        for run_id in sorted(runs & asked if asked else runs):
            manifest = _manifest(recovery, table, run_id)
            if manifest is None:
                problems.append(f"{table}: run {run_id} has no landing")
            elif verdicts.is_streamed(manifest.state):
                recovery.say(f"{table}: run {run_id} is a range of the stream's rows: not loaded again")
            else:
                job = _job_of(recovery, manifest)
                load = Load(job, manifest, certification(job, table))
                load.require_contract()
                found.setdefault(table, []).append(Landed(table, manifest, load))
    if unknown := asked - known:
        raise UsageError(
            f"received --run {named(unknown)}, expected runs that were certified in {named(tables)}",
            hint=f"`{RECOVER} status` names refused runs; certify those by recertify first",
        )
    for group in found.values():
        # Of a state that came back, the runs tell only in the order in which they read the source.
        group.sort(key=lambda each: (each.manifest.landed_at, each.run_id))
    refuse(
        problems, "a landing that is gone cannot be loaded; leave its run out by naming the others with --run"
    )
    for each in (one for group in found.values() for one in group):
        counts = each.load.counts
        recovery.say(
            f"{each.table}: run {each.run_id} read {each.load.read_rows} rows: {counts['inserted']} would be loaded, "
            f"{counts['quarantined']} refused, {counts['duplicate']} are repeats"
        )
    return found


def write(recovery: Recovery, found: Mapping[str, Sequence[Landed]]) -> None:
    """Load and judge the runs, one after the other: each sees what those before it certified."""
    for table, group in found.items():
        before = certification(recovery.job, table).version
        change = recovery.plan(
            Change(table=table, target=f"landing of {named(each.run_id for each in group)}", before=before)
        )
        for each in group:
            each.release()
            job = _job_of(recovery, each.manifest)
            load = Load(job, each.manifest, certification(job, table))
            refused = sum(
                each.ledger.quarantined for each in job.outcome.tables if each.table == table and each.ledger
            )
            try:
                load.require_contract()
                _tell(job, load.write())
            finally:
                load.release()
            judged = gate.judge(
                recovery.job.spark, recovery.settings, "bronze", each.run_id, [table], datetime.now(UTC)
            )
            if not judged[0].passing:
                _refuse(recovery, table, each.run_id)
            gate.require_passed("bronze", judged)
            # Fewer than before: they are in quarantine still, and the ledger has to go on saying so.
            if load.counts["quarantined"] >= refused:
                record(job.beside("emit_lineage_and_metrics"))
        recovery.record(change, certification(recovery.job, table).version)


def _refuse(recovery: Recovery, table: str, run_id: str) -> None:
    """A run that the gate refuses counts no longer: what was certified of it are other rows than it has now."""
    live = head(recovery.job.spark, recovery.settings.table_uri(table))
    verdict = recovery.verdict(contract_of(recovery.settings, table), "discard", live, live.version)
    update = {
        "verdict_id": recovery.verdict_id(table, f"refused/{run_id}"),
        "certified_runs": (CertifiedRun(run_id=run_id),),
    }
    recovery.leave(verdict.model_copy(update=update))
    recovery.say(f"{table}: run {run_id} was refused and is discarded; recertify takes it in again")


def _ever_certified(recovery: Recovery, table: str) -> set[str]:
    """Runs that passing verdicts take in, those about a table that was made anew since included."""
    live = head(recovery.job.spark, recovery.settings.table_uri(table))
    found = [
        verdict.model_copy(update={"table_id": live.table_id})
        for verdict in verdicts.read_all(recovery.settings, table)
    ]
    return set(verdicts.certification(table, found, live.table_id).run_ids)


def _manifest(recovery: Recovery, table: str, run_id: str) -> Manifest | None:
    name = table.split(".")[1]
    return read_manifest(recovery.settings, name.split("_")[0], name, run_id)


def _job_of(recovery: Recovery, manifest: Manifest) -> Job:
    """The ingest that landed a run, as a job of that run: its outcome as it is, or one of this recovery."""
    table = f"bronze.{manifest.table}"
    for outcome in outcomes.read_run(recovery.settings, manifest.run_id):
        if outcome.job.endswith("_to_bronze") and any(each.table == table for each in outcome.tables):
            break
    else:
        outcome = Outcome(
            job=f"{manifest.source}_to_bronze", run_id=manifest.run_id, started_at=run_time(manifest.run_id)
        )
    job = replace(recovery.job, name=outcome.job, run_id=manifest.run_id, outcome=outcome)
    job.__dict__["spark"] = recovery.job.spark.newSession()
    return job


def _tell(job: Job, table: TableOutcome) -> None:
    """The outcome that the gate asks for, with the new counts of one table."""
    outcome = job.outcome
    outcome.tables = [each for each in outcome.tables if each.table != table.table] + [table]
    outcome.status, outcome.error = "succeeded", None
    outcome.finished_at = outcome.finished_at or datetime.now(UTC)
    outcome.seconds = outcome.seconds or 0.0
    outcome.notes.append(f"{table.table}: loaded again by {JOB}")
    outcomes.write(job.settings, outcome)
