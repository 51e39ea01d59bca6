"""Rerun a job of an earlier run under that run's id: what was done is recognised, and only the rest is done.

An ingest that has landed asks no source again. The job leaves its own outcome, as always; this only says what the last
one was, and runs it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lakehouse import cli
from lakehouse.cli import Job
from lakehouse.errors import GateFailed, TerminalError, TransientError, UsageError
from lakehouse.flows import gate, known, stream
from lakehouse.flows.apply_contracts import apply
from lakehouse.flows.emit import emit
from lakehouse.flows.ingest import SOURCES, ingest
from lakehouse.flows.promote import promote
from lakehouse.flows.publish import publish
from lakehouse.flows.recovery.base import Change, Recovery
from lakehouse.landing import read_manifest
from lakehouse.observe import outcome as outcomes


@dataclass(frozen=True)
class Story:
    """A job as its entry point runs it."""

    run: Callable[[Job], None]
    options: Callable[[argparse.ArgumentParser], None] | None = None


def _ingests() -> dict[str, Story]:
    return {
        f"{source}_to_bronze": Story(partial(ingest, source=source))
        for source in SOURCES
        if source != "kafka"
    }


STORIES: dict[str, Story] = {
    "apply_contracts": Story(apply),
    **_ingests(),
    "kafka_orders_to_bronze": Story(stream.to_bronze, stream.options),
    "dq_check_bronze": Story(gate.check_bronze, gate.options),
    "bronze_to_silver": Story(promote),
    "dq_check_silver": Story(gate.check_silver, gate.options),
    "silver_to_gold": Story(publish),
    "emit_lineage_and_metrics": Story(emit),
}


def rerun(recovery: Recovery) -> None:
    """The action rerun. Raises what says how the job failed again."""
    request = recovery.request
    name = request.job
    if name not in STORIES:
        raise UsageError(f"received --job {name}, expected one of {', '.join(STORIES)}")
    if len(request.runs) != 1:
        raise UsageError(f"received {len(request.runs)} runs, expected one --run")
    run_id = request.runs[0]
    known.require_known(recovery.settings, run_id)
    _describe(recovery, name, run_id)
    if not recovery.applies:
        return
    change = recovery.plan(Change(table=name, target=f"run {run_id}"))
    _run(recovery, name, run_id)
    recovery.record(change, None)
    recovery.say(f"{name}: run {run_id} succeeded")


def _describe(recovery: Recovery, name: str, run_id: str) -> None:
    last = outcomes.read(recovery.settings, run_id, name)
    if last is None:
        recovery.say(f"{name}: run {run_id} left no outcome: it was killed, or never began")
    else:
        why = f": {last.error.code}: {last.error.message}" if last.error else ""
        recovery.say(f"{name}: run {run_id} {last.status} at {last.finished_at or last.started_at}{why}")
    source = name.split("_")[0]
    for table in SOURCES.get(source, ()) if name.endswith("_to_bronze") else ():
        manifest = read_manifest(recovery.settings, source, table, run_id)
        words = (
            "has not landed: the source is asked for the window from the watermark as it is now"
            if manifest is None
            else f"has landed {manifest.words}: the source is not asked again"
        )
        recovery.say(f"  {table} {words}")


def _run(recovery: Recovery, name: str, run_id: str) -> None:
    """The job in this process, with an outcome, lineage and exit code of its own."""
    story = STORIES[name]
    parser = cli.parser(name, name)
    if story.options is not None:
        story.options(parser)
    arguments = parser.parse_args(["--config", recovery.job.arguments.config, "--run-id", run_id])

    def with_our_spark(job: Job) -> None:
        job.__dict__["spark"] = recovery.job.spark.newSession()
        story.run(job)

    code = cli.run(name, with_our_spark, arguments)
    if code == 0:
        return
    outcome = outcomes.read(recovery.settings, run_id, name)
    error = outcome.error if outcome else None
    message = (
        f"{name}: run {run_id} failed again: {error.code}: {error.message}" if error else f"{name} failed"
    )
    kind = GateFailed if error and error.code == GateFailed.code else TerminalError
    if error and error.error_class == "transient":
        raise TransientError(message, hint=error.hint)
    raise kind(message, hint=error.hint if error else "")
