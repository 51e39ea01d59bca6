"""Status: who is told of what, with a command that helps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse.errors import GateFailed
from lakehouse.flows import backfill, gate, own_run
from lakehouse.flows.recovery import rerun, status
from lakehouse.flows.recovery.base import Intent, Request
from lakehouse.flows.replay import JOB as REPLAY
from lakehouse.landing import LandingWriter
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Failure, Outcome, TableOutcome
from lakehouse.quality import verdicts
from lakehouse.runs import new_run_id
from lakehouse.sources.watermark import backfilled
from tests.quality.quarantine_support import ORDERS, an_order
from tests.quality.support import NOON
from tests.recovery.support import Recoverable

LATELY = datetime.now(UTC) - timedelta(days=2)
WHOLE = "scripts/emr_submit.sh backfill --source snowflake --from 2026-01-01 --to 2026-01-02 --chunk-days 1"


def ended(
    job: str, hours: float = 0, error: str | None = None, again: str | None = None, **more: Any
) -> Outcome:
    outcome = Outcome(job=job, run_id=new_run_id(LATELY + timedelta(hours=hours)), started_at=LATELY, **more)
    outcome.status = "succeeded" if error is None else "failed"
    if error is not None:
        outcome.error = Failure(
            error_class="terminal", code=error, message=f"{error}!", hint="jobs/closing.py"
        )
    if again is not None:
        outcome.repeated_by(again.format(run=outcome.run_id))
    return outcome


def commands(*found: Outcome) -> list[str]:
    return [each.command for each in status._failed_beside(sorted(found, key=lambda each: each.run_id))]


@pytest.mark.parametrize(
    ("job", "error", "again", "expected"),
    [
        ("backfill", "SOURCE", WHOLE + " --run-id {run}", WHOLE + " --run-id {run}"),
        (
            "backfill",
            "SOURCE",
            None,
            "scripts/emr_submit.sh backfill --run-id {run}   with the arguments that it was given",
        ),
        (
            "reconcile",
            "SOURCE_DIFFERS",
            "scripts/emr_submit.sh reconcile --ids",
            "jobs/closing.py   then: scripts/emr_submit.sh reconcile --ids",
        ),
        (
            "dq_watchdog",
            "WATCH_ALARM",
            "scripts/emr_submit.sh dq_watchdog",
            "jobs/closing.py   then: scripts/emr_submit.sh dq_watchdog",
        ),
        (
            "delta_optimize_vacuum",
            "COMMIT_CONFLICT",
            "scripts/emr_submit.sh delta_optimize_vacuum --table silver --run-id {run}",
            "scripts/emr_submit.sh delta_optimize_vacuum --table silver --run-id {run}",
        ),
    ],
    ids=["backfill", "backfill of an older release", "reconcile", "dq_watchdog", "delta_optimize_vacuum"],
)
def test_a_job_beside_the_daily_run_that_failed_is_told_until_it_succeeds(
    job: str, error: str, again: str | None, expected: str
) -> None:
    early, failed = ended(job, 0, error, again), ended(job, 1, error, again)
    assert commands(early, failed) == [expected.format(run=failed.run_id)]
    assert (
        f"{job} of run {failed.run_id} failed ({error}: {error}!)"
        in next(status._failed_beside([failed])).what
    )
    assert commands(early, failed, ended(job, 2, again=again)) == []


def test_a_failure_that_a_rerun_meets_again_is_told_with_what_comes_first() -> None:
    def said(job: str, code: str, **more: Any) -> str:
        (found,) = status._failed([ended(job, error=code, **more)])
        return found.command.replace(found.what.split()[3], "RUN")

    again = "scripts/emr_submit.sh recover rerun --job bronze_to_silver --run RUN"
    assert said("bronze_to_silver", "SOURCE_UNAVAILABLE") == again
    assert said("bronze_to_silver", "TABLE_UNREADABLE") == f"jobs/closing.py   then: {again}"
    # A rerun would be the daily task of that name, and no stream.
    ensure = 'airflow dags trigger streaming_ingest --conf \'{"action": "ensure"}\''
    streaming: dict[str, Any] = {"processing": "STREAMING"}
    assert (
        said("kafka_orders_to_bronze", "STREAM_REFUSED", **streaming) == f"jobs/closing.py   then: {ensure}"
    )
    # Nobody can rerun a run that there is not.
    assert not list(status._failed([ended("dq_check_bronze", error="UNKNOWN_RUN")]))


def test_an_interrupted_run_goes_on_with_the_ingest_that_it_lacks() -> None:
    """Its gate would refuse the tables of that one, and nobody could accept them."""
    run = new_run_id(LATELY)
    tables = [TableOutcome(table=ORDERS)]
    loaded = Outcome(
        job="snowflake_to_bronze", run_id=run, started_at=LATELY, status="succeeded", tables=tables
    )
    contracts_applied = Outcome(job="apply_contracts", run_id=run, started_at=LATELY, status="succeeded")
    nothing = verdicts.certification(ORDERS, [], "t")

    def command(*outcomes: Outcome) -> str:
        (found,) = status._unjudged(list(outcomes), {ORDERS: nothing})
        return found.command

    assert command(contracts_applied, loaded) == (
        f"scripts/emr_submit.sh recover rerun --job hubspot_to_bronze --run {run}"
    )
    jobs = [name for name in rerun.STORIES if name.endswith("_to_bronze")]
    others = [
        Outcome(job=job, run_id=run, started_at=LATELY, status="succeeded")
        for job in jobs
        if job != loaded.job
    ]
    assert command(contracts_applied, loaded, *others).endswith(f"--job dq_check_bronze --run {run}")
    # One ingest by hand is no daily run: its table alone is judged.
    assert command(loaded) == f"scripts/emr_submit.sh dq_check_bronze --run-id {run} --table {ORDERS}"


@pytest.mark.parametrize(
    ("table", "rule", "expected"),
    [
        (ORDERS, gate.INGESTED, "recover discard --table bronze.snowflake_orders --run R"),
        (
            ORDERS,
            gate.LOADED_ALONE,
            "recover rerun --job snowflake_to_bronze --run R   then: scripts/emr_submit.sh recover rerun "
            "--job dq_check_bronze --run R",
        ),
        (
            "silver.orders",
            gate.PROMOTED,
            "recover rerun --job bronze_to_silver --run R   then: scripts/emr_submit.sh recover rerun "
            "--job dq_check_silver --run R",
        ),
    ],
)
def test_what_nobody_can_accept_is_not_offered_for_recertification(
    table: str, rule: str, expected: str
) -> None:
    assert status._structural(table, "R", {rule}) == f"scripts/emr_submit.sh {expected}"


def test_another_backfill_that_succeeded_says_nothing_of_the_one_that_failed() -> None:
    failed = ended("backfill", 0, "SOURCE", WHOLE + " --run-id {run}")
    other = ended(
        "backfill", 1, again="scripts/emr_submit.sh backfill --source fx --from 2026-01-01 --to 2026-01-02"
    )
    assert len(commands(failed, other)) == 1
    # What its gate refused is told with the run.
    assert commands(ended("backfill", 0, "GATE_FAILED")) == []


@pytest.fixture(scope="module")
def lake(spark: SparkSession, reachable: str) -> Recoverable:
    return Recoverable(spark, f"{reachable}/status", "silver.orders", "ops.recovery_log")


def told(lake: Recoverable, about: str) -> list[status.Finding]:
    return [each for each in status.status(lake.job("recover")) if about in each.what]


def test_a_backfill_is_repeated_and_not_taken_for_a_daily_run(lake: Recoverable) -> None:
    since = NOON - timedelta(hours=12)
    lake.ordered(*[an_order(n) for n in range(1, 21)], hours=1, since=None)
    bad = [an_order(n, STATUS="GONE") for n in range(30, 40)]
    with pytest.raises(GateFailed):
        lake.backfilled(*bad, *[an_order(n) for n in range(40, 44)], hours=2, since=since)
    (refused,) = [run for run, each in lake.known(ORDERS).latest.items() if not each.passing]
    outcome = outcomes.read(lake.settings, refused, "backfill_snowflake_to_bronze")
    assert outcome is not None
    outcome.repeated_by(f"{WHOLE} --run-id {new_run_id(NOON)}")
    outcomes.write(lake.settings, outcome)
    # Killed between load and gate.
    chunk = ended("backfill_snowflake_to_bronze", again=WHOLE + " --run-id {run}", tables=outcome.tables)
    daily, replay = ended("snowflake_to_bronze", tables=outcome.tables), ended(REPLAY, tables=outcome.tables)
    for each in (chunk, daily, replay):
        outcomes.write(lake.settings, each)

    lake.ordered(*[an_order(n) for n in range(15, 29)], hours=3, since=NOON)

    found = status.status(lake.job("recover"))
    (finding,) = [each for each in found if f"run {refused} was refused" in each.what]
    assert f"recertify --table {ORDERS} --run {refused}" in finding.command
    assert finding.command.endswith(f"the source corrected: {WHOLE}")
    # The window of the daily run was read again, and certified, since; nothing else reads the range of the chunk.
    unjudged = {each.what.split()[2]: each.command for each in found if "never judged" in each.what}
    assert unjudged == {chunk.run_id: f"{WHOLE} --run-id {chunk.run_id}"}
    assert daily.run_id not in unjudged

    # The same range, once more: now it is brought.
    lake.backfilled(*[an_order(n) for n in range(30, 44)], hours=4, since=since)
    assert not [each for each in status.status(lake.job("recover")) if refused in each.what]


def test_a_backfill_says_how_it_is_repeated(lake: Recoverable, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its run id, which a chunk that was killed goes on with; and the gate of a chunk sees its tables alone."""
    day = datetime(2026, 1, 1, tzinfo=UTC)

    def landed(settings: Any, source: str, chunk: backfill.Chunk) -> Any:
        writer = LandingWriter(settings, source, "snowflake_orders", chunk.run_id, kind="backfill")
        return (writer.commit(window_from=day, window_to=None, notes=[backfilled(day, NOON)]),)

    job = lake.job("backfill")
    for name, value in {"source": "snowflake", "since": day.date(), "until": NOON.date()}.items():
        setattr(job.arguments, name, value)
    job.arguments.chunk_days, job.arguments.dry_run = 1, False
    monkeypatch.setattr(backfill, "_landed", landed)
    monkeypatch.setattr(own_run, "load", lambda *_: None)

    def gate(*_: Any) -> None:
        raise GateFailed("no", hint="no")

    monkeypatch.setattr(own_run.gate, "judge", gate)
    with pytest.raises(GateFailed):
        backfill.backfill(job)
    assert job.outcome.repeat == f"{WHOLE} --run-id {job.run_id}"
    first = next(backfill.chunks(job.run_id, "snowflake", day.date(), NOON.date(), 1))
    chunk = outcomes.read(lake.settings, first.run_id, "backfill_snowflake_to_bronze")
    assert chunk is not None
    assert (chunk.repeat, chunk.anew) == (job.outcome.repeat, WHOLE)


def test_what_watch_and_status_say_of_a_recovery_that_was_begun(lake: Recoverable) -> None:
    from lakehouse.flows import watch
    from lakehouse.flows.recovery import base

    run = new_run_id(LATELY)
    intent = Intent(run_id=run, request=Request(action="discard", table=ORDERS, by="anna"), begun_at=LATELY)
    base._put(lake.settings, intent)
    fresh = intent.model_copy(update={"run_id": new_run_id(LATELY), "begun_at": datetime.now(UTC)})
    base._put(lake.settings, fresh)

    (finding,) = [
        each for each in watch.of_publication(lake.job("w"), datetime.now(UTC)) if each.check == "recovery"
    ]

    assert (finding.table, finding.severity, finding.subject) == (ORDERS, "critical", run)
    assert f"recovery {run} (discard) was begun and is not complete" in finding.observed
    again = (
        f"scripts/emr_submit.sh recover discard --table {ORDERS} --run-id {run} --apply --by anna --why ''"
    )
    assert finding.next_step == again
    assert again in {each.command for each in status._begun(lake.job("recover"))}
    assert len(list(status._begun(lake.job("recover")))) == 2
