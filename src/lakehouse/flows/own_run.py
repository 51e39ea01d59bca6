"""Runs beside the daily one (a replay, a chunk of a backfill): what they landed is loaded and judged at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from openlineage.client.event_v2 import RunState

from lakehouse.cli import Job
from lakehouse.flows import gate
from lakehouse.flows.ingest import Load, certification
from lakehouse.landing import Manifest
from lakehouse.observe import lineage
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Outcome, VerdictReference
from lakehouse.quality import verdicts


def own_job(job: Job, name: str, run_id: str) -> Job:
    """A job of another run, done within this one and by its session. ``name`` ends as those of all ingests do."""
    outcome = Outcome(job=name, run_id=run_id, started_at=datetime.now(UTC), parent=job.outcome.parent)
    own = Job(name, job.settings, run_id, outcome, job.arguments)
    own.__dict__["spark"] = job.spark
    return own


@contextmanager
def told(job: Job) -> Iterator[None]:
    """Lineage of a run within another: its START, and how it ended. The job around it tells of itself alone."""
    lineage.emit(job.settings, job.outcome, RunState.START)
    try:
        yield
    except Exception:
        job.outcome.finished_at = datetime.now(UTC)
        lineage.emit(job.settings, job.outcome, RunState.FAIL)
        raise
    lineage.emit(job.settings, job.outcome, RunState.COMPLETE)


def derived_run_id(run_id: str, what: str) -> str:
    """The id of a part of a run: of its time, and always the same for the same part."""
    stamp, _, own = run_id.partition("-")
    return f"{stamp}-{uuid.uuid5(uuid.UUID(own), what)}"


def load(job: Job, manifests: Sequence[Manifest], require: Callable[[Load], None]) -> None:
    """Load the landings of a run into Bronze; ``require`` refuses, before the first of them is written."""
    loads: list[Load] = []
    try:
        for manifest in manifests:
            loads.append(Load(job, manifest, certification(job, f"bronze.{manifest.table}")))
            require(loads[-1])
        job.outcome.tables.extend(each.write() for each in loads)
    finally:
        for each in loads:
            each.release()
    for manifest in manifests:
        job.outcome.notes.extend(manifest.notes)


def certify(job: Job, manifests: Sequence[Manifest]) -> None:
    """Leave the outcome that the gate asks for, and let it judge this run's tables. Raises GateFailed."""
    job.outcome.status = "succeeded"
    job.outcome.finished_at = datetime.now(UTC)
    job.outcome.seconds = round((job.outcome.finished_at - job.outcome.started_at).total_seconds(), 3)
    outcomes.write(job.settings, job.outcome)
    tables = [f"bronze.{manifest.table}" for manifest in manifests]
    found = gate.judge(job.spark, job.settings, "bronze", job.run_id, tables, datetime.now(UTC))
    for verdict in found:
        job.outcome.verdicts.append(
            VerdictReference(
                table=verdict.table,
                outcome=verdict.outcome,
                uri=verdicts.verdict_uri(job.settings, verdict),
            )
        )
    gate.require_passed("bronze", found)
