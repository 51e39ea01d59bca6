"""A run id that was mistyped judges, promotes and publishes nothing, and the hint leads to the run that was meant."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from lakehouse import store
from lakehouse.cli import Job
from lakehouse.errors import UnknownRun, UsageError
from lakehouse.flows import backfill, emit, gate, known, promote, publish
from lakehouse.flows.recovery import rerun
from lakehouse.flows.recovery.base import Recovery, Request
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Failure, Outcome
from lakehouse.runs import new_run_id
from lakehouse.settings import Settings
from tests.quality.support import make_settings

NOW = datetime(2026, 1, 4, 9, tzinfo=UTC)


@pytest.fixture
def settings(lake: str) -> Settings:
    return make_settings(lake)


def a_job(settings: Settings, run_id: str, name: str = "dq_check_bronze") -> Job:
    """A job without a session: whoever asks for one has not refused in time."""
    outcome = Outcome(job=name, run_id=run_id, started_at=NOW)
    return Job(name, settings, run_id, outcome, argparse.Namespace())


def left(settings: Settings, run_id: str, job: str, code: str | None = None) -> None:
    error = code and Failure(error_class="terminal", code=code, message="", hint="")
    outcomes.write(
        settings,
        Outcome(
            job=job,
            run_id=run_id,
            started_at=NOW,
            status="failed" if error else "succeeded",
            error=error or None,
        ),
    )


def rerun_a_gate(job: Job) -> None:
    request = Request(action="rerun", job="dq_check_bronze", runs=(job.run_id,))
    rerun.rerun(Recovery(job, request, applies=True, tell=lambda _: None))


STORIES: list[Callable[[Job], None]] = [
    gate.check_bronze,
    gate.check_silver,
    promote.promote,
    publish.publish,
    emit.emit,
    rerun_a_gate,
]


@pytest.mark.parametrize(
    "story", STORIES, ids=lambda story: f"{story.__module__.split('.')[-1]}.{story.__name__}"
)
def test_nothing_is_written_for_a_run_that_is_not_known(
    settings: Settings, story: Callable[[Job], None]
) -> None:
    meant = new_run_id(NOW)
    left(settings, meant, "fx_to_bronze")
    mistyped = meant[:-1] + ("0" if meant[-1] != "0" else "1")
    # What a first try of the same mistake left does not make the run known.
    left(settings, mistyped, "dq_check_bronze", UnknownRun.code)
    before = list(store.keys(f"{settings.lake_uri}/"))

    with pytest.raises(
        UnknownRun, match=f"the run id {mistyped}, under which no run has left anything"
    ) as refused:
        story(a_job(settings, mistyped))

    assert f"nearest are {meant}" in refused.value.hint
    assert refused.value.exit_code == 2
    assert list(store.keys(f"{settings.lake_uri}/")) == before


def test_a_run_that_brought_nothing_to_judge_is_told_what_comes_first(settings: Settings) -> None:
    run = new_run_id(NOW)
    left(settings, run, "apply_contracts")
    with pytest.raises(UnknownRun, match="nothing was ingested") as bronze:
        known.require_ingested(settings, run)
    assert f"_to_bronze --run-id {run}" in bronze.value.hint
    left(settings, run, "fx_to_bronze", "SOURCE_UNAVAILABLE")
    known.require_ingested(settings, run)  # it is judged as a run whose ingest failed
    with pytest.raises(UnknownRun, match="has promoted nothing") as silver:
        known.require_promoted(settings, run)
    assert silver.value.hint.endswith(f"bronze_to_silver --run-id {run}")
    store.put(known.promotion_uri(settings, "silver.orders", run), b"{}")
    known.require_promoted(settings, run)


def test_a_backfill_does_not_take_the_id_of_another_run(settings: Settings) -> None:
    run = new_run_id(NOW)
    left(settings, run, "fx_to_bronze")
    with pytest.raises(UsageError, match=r"that of another run \(fx_to_bronze\)"):
        backfill._require_own_id(a_job(settings, run, "backfill"))
    # Of its chunks it is told that they are runs of their own.
    other = new_run_id(NOW)
    outcome = Outcome(job="backfill", run_id=other, started_at=NOW, status="succeeded")
    outcome.repeated_by("scripts/emr_submit.sh backfill")
    outcomes.write(settings, outcome)
    backfill._require_own_id(a_job(settings, other, "backfill"))
    with pytest.raises(UnknownRun) as refused:
        known.require_ingested(settings, other)
    assert "its parts are runs of their own" in refused.value.hint
