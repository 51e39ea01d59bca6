"""The supervisor of the order stream against the local EMR Serverless: one run, never two, word of what is wrong."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowException, AirflowFailException

from common import roles
from common import stream as module
from common.stream import MARK, NAME, PROGRESS, Stream, supervise
from common.stream_decisions import Asked
from tests.dags.conftest import DAGS, PUT

if TYPE_CHECKING:
    from tests.dags.conftest import Emr

SCHEDULED = Asked(who="scheduled__1")
BY_HAND = Asked(who="manual__1", by_hand=True)
# What the stream does as seen from outside: it works until SIGTERM, then ends by itself.
JOB = """
import os, signal, sys, time
def say(what):
    put(what + os.environ["LAKEHOUSE_EMR_JOB_RUN_ID"])
def end(*_):
    say("ended/")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
say("listens/")
{body}
"""


@pytest.fixture(scope="module", autouse=True)
def _database() -> None:
    from airflow.utils import db

    db.initdb()


@pytest.fixture(autouse=True)
def _environment(emr: Emr, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in emr.stack.exports.items():
        monkeypatch.setenv(name, value)
    for name in (
        "EMR_LOG_URI",
        "EMR_PYTHON_ARCHIVE",
        *roles.SETTINGS,
        "STREAM_MAX_AGE_MINUTES",
        "STREAM_MAX_LAG",
    ):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("KAFKA_MODE", "stream")
    monkeypatch.setenv("EMR_POLL_SECONDS", "0.1")
    handler = signal.getsignal(signal.SIGTERM)  # Airflow installs its own for the task
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def job(emr: Emr) -> Iterator[Callable[[str], None]]:
    """Sets what the stream's job does; nothing of the stream is left when the test is over."""

    def does(body: str = "time.sleep(120)") -> None:
        text = PUT.replace("BUCKET", emr.lake) + JOB.format(body=body)
        key = "jobs/kafka_orders_to_bronze.py"
        emr.stack.client("s3").put_object(Bucket=emr.code, Key=key, Body=text.encode())

    does()
    yield does
    stream = new_stream(emr)
    for run in stream.runs():
        if run.live:
            emr.stack.client("emr-serverless").cancel_job_run(
                applicationId=emr.application, jobRunId=run.id, shutdownGracePeriodInSeconds=0
            )
    until(lambda: not any(run.live or run.state == "CANCELLING" for run in stream.runs()))
    for key in [MARK, PROGRESS, *(key for key, _ in stream._objects("checkpoints/"))]:
        stream.s3.delete_object(Bucket=emr.lake, Key=key)


@pytest.fixture
def stream(emr: Emr, job: Callable[[str], None]) -> Stream:
    return new_stream(emr)


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def ask(stream: Stream, told: list[tuple[str, str]]) -> Callable[[Asked], str]:
    return lambda asked: supervise(stream, asked, lambda *words: told.append(words))


@pytest.fixture
def dag() -> Any:
    """Loaded anew: `dag.test` leaves the parameters of one run in the DAG."""
    from airflow.models.dagbag import DagBag

    bag = DagBag(str(DAGS), include_examples=False)
    assert bag.import_errors == {}
    return bag.dags["streaming_ingest"]


def new_stream(emr: Emr) -> Stream:
    return Stream(emr.stack.client("emr-serverless"), emr.stack.client("s3"))


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def live(stream: Stream) -> list[str]:
    return [run.id for run in stream.see().live]


def running(stream: Stream) -> str:
    """The id of the only live run, once its driver handles signals."""
    until(lambda: [run.state for run in stream.see().live] == ["RUNNING"])
    (run,) = live(stream)
    until(lambda: any(stream._objects(f"listens/{run}")))
    return run


def state_of(stream: Stream, run_id: str) -> str:
    return next(run.state for run in stream.runs() if run.id == run_id)


def ended_by_itself(stream: Stream, run_id: str) -> bool:
    return any(stream._objects(f"ended/{run_id}"))


def put(stream: Stream, key: str, body: bytes) -> None:
    stream.s3.put_object(Bucket=stream.lake, Key=key, Body=body)


def put_progress(stream: Stream, minutes_ago: float, lag: int = 0) -> None:
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    said = {
        "run_id": "r",
        "batch_id": 7,
        "at": at.isoformat(),
        "rows": 10,
        "rejected": 1,
        "seconds": 2.5,
        "lag": lag,
    }
    put(stream, PROGRESS, json.dumps(said).encode())


# The shape of the DAG --------------------------------------------------------------------------------------------


def test_schedule_and_limits(dag: Any) -> None:
    assert dag.timetable.summary == "*/10 * * * *"
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "supervise": {"check_freshness"}, "check_freshness": set(),
    }  # fmt: skip
    assert dag.get_task("check_freshness").trigger_rule == "all_done", (
        "a supervisor that fails must not hide a lag"
    )
    times = [task.execution_timeout for task in dag.tasks]
    assert sum(times, timedelta()) + max(times) <= dag.dagrun_timeout
    assert dag.get_task("supervise").execution_timeout > module.PATIENCE


def test_owner_tags_documentation_and_notices(dag: Any) -> None:
    assert dag.owner == "data-platform"
    assert set(dag.tags) == {"lakehouse", "streaming"}
    assert [task.task_id for task in dag.tasks if not (task.doc_md and task.on_failure_callback)] == []
    assert dag.on_failure_callback
    from common import settings, stream_decisions

    for word in (*stream_decisions.ACTIONS, MARK, PROGRESS, "KAFKA_MODE", "STREAM_MAX_AGE_MINUTES"):
        assert f"`{word}`" in dag.doc_md
    assert {"KAFKA_MODE", "STREAM_MAX_AGE_MINUTES", "STREAM_MAX_LAG"} <= set(settings.KNOWN)
    assert tuple(dag.params.get_param("action").schema["enum"]) == stream_decisions.ACTIONS


def test_an_unknown_action_is_refused_when_it_is_asked_for(dag: Any) -> None:
    from airflow.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dag.params.get_param("action").resolve("explode")


# One run, never two ----------------------------------------------------------------------------------------------


def test_a_run_is_started_as_aws_wants_it(ask: Callable[[Asked], str], stream: Stream, emr: Emr) -> None:
    assert "has been started" in ask(SCHEDULED)

    job_run = stream.emr.get_job_run(applicationId=emr.application, jobRunId=live(stream)[0])["jobRun"]
    assert (job_run["name"], job_run["mode"], job_run["executionTimeoutMinutes"]) == (NAME, "STREAMING", 0)
    assert job_run["retryPolicy"]["maxFailedAttemptsPerHour"] == 5
    submit = job_run["jobDriver"]["sparkSubmit"]
    assert submit["entryPoint"] == f"s3://{emr.code}/jobs/kafka_orders_to_bronze.py"
    assert submit["entryPointArguments"] == ["--config", emr.stack.exports["LAKEHOUSE_CONFIG"], "--stream"]
    assert "spark-sql-kafka" in submit["sparkSubmitParameters"]
    properties = job_run["configurationOverrides"]["applicationConfiguration"][0]["properties"]
    assert properties["spark.sql.session.timeZone"] == "UTC"


def test_a_live_run_is_adopted(ask: Callable[[Asked], str], stream: Stream) -> None:
    ask(SCHEDULED)
    (first,) = live(stream)

    assert f"{first} is alive and adopted" in ask(SCHEDULED)
    assert live(stream) == [first]


def test_two_supervisors_at_once_start_one_run(emr: Emr, ask: Callable[[Asked], str], stream: Stream) -> None:
    """Both have seen that there is no run before either starts one; again and again, each after the other's end."""
    gate = threading.Barrier(2)

    class Eager(Stream):
        def start(self, token: str, arguments: Any = ()) -> str:
            gate.wait(timeout=120)
            return super().start(token, arguments)

    before = {run.id for run in stream.runs()}
    rounds = 6
    for _ in range(rounds):
        with ThreadPoolExecutor(2) as pool:
            both = [Eager(emr.stack.client("emr-serverless"), emr.stack.client("s3")) for _ in range(2)]
            said = list(pool.map(lambda one: supervise(one, SCHEDULED, lambda *_: None), both))
        (only,) = live(stream)
        assert all(f"Job run {only} has been started" in words for words in said)
        stream.emr.cancel_job_run(
            applicationId=emr.application, jobRunId=only, shutdownGracePeriodInSeconds=0
        )
        until(lambda only=only: state_of(stream, only) == "CANCELLED")
    assert len({run.id for run in stream.runs()} - before) == rounds


def test_a_supervisor_of_another_release_starts_no_second_run(
    stream: Stream, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It derives the same token and asks for other parameters: EMR refuses, and the run that is there is adopted."""
    start = Stream.start
    others: list[str] = []

    def late(self: Stream, token: str, arguments: Any = ()) -> str:
        if not others:
            others.append(start(self, token, ["--of-another-release"]))
        return start(self, token, arguments)

    monkeypatch.setattr(Stream, "start", late)
    said = supervise(stream, SCHEDULED, lambda *words: told.append(words))

    assert f"{others[0]} is alive and adopted" in said
    assert live(stream) == others


def test_of_two_live_runs_the_older_stays(
    ask: Callable[[Asked], str], stream: Stream, told: list[tuple[str, str]]
) -> None:
    older = stream.start(f"first-{time.time_ns()}")
    younger = stream.start(f"second-{time.time_ns()}")

    assert f"{older} is alive and adopted" in ask(SCHEDULED)
    until(lambda: state_of(stream, younger) == "CANCELLED")
    assert live(stream) == [older]
    assert [subject for subject, _ in told] == ["more than one run of the stream"]
    assert younger in told[0][1]


def test_a_dead_run_is_replaced_and_told(
    ask: Callable[[Asked], str], stream: Stream, job: Callable[[str], None], told: list[tuple[str, str]]
) -> None:
    job("sys.exit('no broker')")
    ask(SCHEDULED)
    (dead,) = {run.id for run in stream.see().runs[:1]}
    until(lambda: state_of(stream, dead) == "FAILED")
    job("time.sleep(120)")

    assert "has been started" in ask(SCHEDULED)
    assert live(stream) != [dead]
    assert [subject for subject, _ in told] == ["the stream died and was started again"]
    assert dead in told[0][1]
    assert "no broker" in told[0][1]


def test_a_failure_for_good_waits_for_a_person(
    ask: Callable[[Asked], str], stream: Stream, job: Callable[[str], None]
) -> None:
    job("sys.exit(10)")
    ask(SCHEDULED)
    until(lambda: not live(stream))
    job("time.sleep(120)")

    with pytest.raises(AirflowFailException, match=r"STREAM_FAILED_FOR_GOOD: .*ExitCode: 10.*action ensure"):
        ask(SCHEDULED)
    assert live(stream) == []
    assert "has been started" in ask(BY_HAND)


def test_runs_are_looked_for_on_every_page(stream: Stream) -> None:
    class Pages:
        """ListJobRuns of an application with other streams too."""

        asked: list[dict[str, Any]] = []  # noqa: RUF012

        def list_job_runs(self, nextToken: str = "0", **more: Any) -> dict[str, Any]:
            self.asked.append(more)
            at = int(nextToken)
            names = [["other"] * 50, ["other"] * 49 + [NAME], [NAME]][at]
            runs = [
                {"id": f"{at}-{i}", "name": name, "state": "RUNNING", "createdAt": datetime.now(UTC)}
                for i, name in enumerate(names)
            ]
            return {"jobRuns": runs} | ({"nextToken": str(at + 1)} if at < 2 else {})

    stream.emr = Pages()
    assert [run.id for run in stream.runs()] == ["1-49", "2-0"]
    assert [one["mode"] for one in Pages.asked] == ["STREAMING"] * 3


# Actions ---------------------------------------------------------------------------------------------------------


def test_stop_ends_the_run_gracefully_and_keeps_it_down(
    ask: Callable[[Asked], str], stream: Stream, told: list[tuple[str, str]]
) -> None:
    ask(SCHEDULED)
    first = running(stream)

    said = ask(Asked("stop", by_hand=True, who="manual__9", reason="release"))

    assert "manual__9" in said
    assert "release" in said
    assert state_of(stream, first) == "CANCELLED"
    assert ended_by_itself(stream, first), "it was killed"
    assert set(json.loads(stream._get(MARK) or b"")) == {"by", "reason", "at"}
    assert "stays down, stopped by manual__9" in ask(SCHEDULED)
    assert live(stream) == []
    assert "has been started" in ask(BY_HAND)
    assert stream._get(MARK) is None
    assert told == []


def test_a_run_that_somebody_starts_while_the_stream_is_stopped_is_ended(
    ask: Callable[[Asked], str], stream: Stream
) -> None:
    ask(Asked("stop", by_hand=True, who="manual__9"))
    intruder = stream.start(f"intruder-{time.time_ns()}")

    assert "stays down" in ask(SCHEDULED)
    assert state_of(stream, intruder) == "CANCELLED"


def test_restart_ends_one_run_and_starts_another(ask: Callable[[Asked], str], stream: Stream) -> None:
    ask(SCHEDULED)
    first = running(stream)

    said = ask(Asked("restart", by_hand=True, who="manual__2"))

    assert "has been started" in said
    assert ended_by_itself(stream, first)
    (second,) = live(stream)
    assert second != first


def test_recover_checkpoint_moves_it_aside_and_starts_anew(
    ask: Callable[[Asked], str], stream: Stream
) -> None:
    ask(SCHEDULED)
    first = running(stream)
    files = {f"offsets/{n}": f"batch {n}".encode() for n in range(30)} | {"metadata": b"{}"}
    for name, body in files.items():
        put(stream, module.CHECKPOINT + name, body)
    recover = Asked("recover_checkpoint", by_hand=True, who="manual__3")

    assert "has been started" in ask(recover)

    assert state_of(stream, first) == "CANCELLED"
    assert list(stream._objects(module.CHECKPOINT)) == []
    kept = {key: stream._get(key) for key, _ in stream._objects(module.LOST)}
    assert {key.split("/kafka_orders/")[1]: body for key, body in kept.items()} == files
    assert stream._get(MARK) is None

    put(stream, module.CHECKPOINT + "metadata", b"another")
    ask(recover)
    assert {key: stream._get(key) for key in kept} == kept, "what was moved aside is never written over"
    assert len(list(stream._objects(module.LOST))) == len(files) + 1


def test_a_recovery_that_breaks_off_loses_nothing_and_keeps_the_stream_down(
    ask: Callable[[Asked], str], stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("metadata", "offsets/0"):
        put(stream, module.CHECKPOINT + name, name.encode())
    recover = Asked("recover_checkpoint", by_hand=True, who="manual__3")
    copy = stream.s3.copy_object

    def lossy(**call: Any) -> Any:
        return None if call["Key"].endswith("offsets/0") else copy(**call)

    with monkeypatch.context() as patch:
        patch.setattr(stream.s3, "copy_object", lossy)
        with pytest.raises(AirflowException, match="1 of 2 objects have no whole copy"):
            ask(recover)
    assert len(list(stream._objects(module.CHECKPOINT))) == 2
    assert "stays down, stopped by manual__3" in ask(SCHEDULED)

    assert "has been started" in ask(recover), "the same DAG run, cleared, goes on"
    assert list(stream._objects(module.CHECKPOINT)) == []


# Freshness and lag -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes_ago", "lag", "expected"),
    [(1, 0, None), (16, 0, "STREAM_STALE: "), (1, 100_001, "STREAM_LAGS: ")],
    ids=["fresh", "stale", "behind"],
)
def test_check(stream: Stream, minutes_ago: float, lag: int, expected: str | None) -> None:
    put_progress(stream, minutes_ago, lag)
    now = datetime.now(UTC)
    # Whatever runs there were, the last was not started by a person a moment ago.
    stream.runs = lambda: iter(())  # type: ignore[method-assign]
    if expected is None:
        assert "fresh: batch 7 at" in module.check(stream, now)
    else:
        with pytest.raises(AirflowFailException, match=expected):
            module.check(stream, now)


def test_limits_are_settings(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    put_progress(stream, 16, 5)
    stream.runs = lambda: iter(())  # type: ignore[method-assign]
    monkeypatch.setenv("STREAM_MAX_AGE_MINUTES", "20")
    assert "lag 5" in module.check(stream, datetime.now(UTC))
    monkeypatch.setenv("STREAM_MAX_LAG", "4")
    with pytest.raises(AirflowFailException, match="5 records behind the topic"):
        module.check(stream, datetime.now(UTC))
    monkeypatch.setenv("STREAM_MAX_LAG", "few")
    with pytest.raises(AirflowFailException, match="STREAM_MAX_LAG is 'few'"):
        module.check(stream, datetime.now(UTC))


def test_a_progress_that_cannot_be_read_is_said(stream: Stream) -> None:
    put(stream, PROGRESS, b"{")
    with pytest.raises(AirflowFailException, match="STREAM_PROGRESS: "):
        module.check(stream, datetime.now(UTC))


@pytest.mark.parametrize(("said", "expected"), [("", "batch"), ("batch", "batch"), ("stream", "stream")])
def test_the_mode_is_batch_unless_set(monkeypatch: pytest.MonkeyPatch, said: str, expected: str) -> None:
    monkeypatch.setenv("KAFKA_MODE", said)
    assert module.mode() == expected


def test_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_MODE", "both")
    with pytest.raises(AirflowFailException, match="KAFKA_MODE is 'both'"):
        module.mode()


# By Airflow ------------------------------------------------------------------------------------------------------


def states(dag: Any, **conf: str) -> dict[str, str]:
    ran = dag.test(logical_date=datetime.now(UTC), run_conf=conf or None)
    return {ti.task_id: str(ti.state) for ti in ran.get_task_instances()}


def test_in_mode_batch_nothing_happens_and_that_is_said(
    dag: Any, stream: Stream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KAFKA_MODE", "")
    before = len(list(stream.runs()))

    assert set(states(dag).values()) == {"skipped"}

    assert len(list(stream.runs())) == before
    assert "KAFKA_MODE is batch" in caplog.text


def test_a_dag_run_starts_the_stream_and_another_stops_it(
    dag: Any, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    assert states(dag) == {"supervise": "success", "check_freshness": "success"}
    first = running(stream)

    assert states(dag, action="stop", reason="release") == {
        "supervise": "success",
        "check_freshness": "skipped",
    }
    assert ended_by_itself(stream, first)
    mark = json.loads(stream._get(MARK) or b"")
    assert mark["by"].startswith("streaming_ingest manual__")
    assert mark["reason"] == "release"
    assert "The stream is down on purpose" in caplog.text


def test_a_stale_stream_fails_a_task_of_its_own_and_is_told_by_sns(
    dag: Any, stream: Stream, emr: Emr, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_progress(stream, 60, 200_000)
    sqs, sns = emr.stack.client("sqs"), emr.stack.client("sns")
    queue = sqs.create_queue(QueueName=f"stream-{time.time_ns()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    subscription = sns.subscribe(TopicArn=emr.stack.exports["ALERT_TOPIC_ARN"], Protocol="sqs", Endpoint=arn)
    try:
        found = states(dag)
    finally:
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])

    assert found == {"supervise": "success", "check_freshness": "failed"}
    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    (notice,) = [json.loads(one["Body"]) for one in answer["Messages"]]
    assert notice["Subject"] == "streaming_ingest: check_freshness failed"
    assert "STREAM_LAGS: 200,000 records behind the topic" in notice["Message"]
    assert "action restart" in notice["Message"]
