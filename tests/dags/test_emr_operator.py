"""The operator, in real DAG runs against the local EMR Serverless: what each end of a job means to Airflow."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from common import roles
from tests.quality.support import make_settings

if TYPE_CHECKING:
    from tests.dags.conftest import Emr

Run = Callable[..., "Ran"]


class Ran:
    """A finished DAG run of one task."""

    def __init__(self, dag_run: Any, emr: Emr) -> None:
        self.ti = dag_run.get_task_instance("job")
        self.state, self.tries = self.ti.state, self.ti.try_number
        self.job_runs = emr.runs(f":{dag_run.run_id}:")
        self.dag_run_id = dag_run.run_id

    def xcom(self, key: str) -> Any:
        return self.ti.xcom_pull(task_ids="job", key=key)


@pytest.fixture(scope="module", autouse=True)
def _database() -> None:
    from airflow.utils import db

    db.initdb()


@pytest.fixture(autouse=True)
def _environment(emr: Emr, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in emr.stack.exports.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EMR_LOG_URI", "")
    monkeypatch.setenv("EMR_PYTHON_ARCHIVE", "")
    for name in roles.SETTINGS:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("EMR_POLL_SECONDS", "0.2")
    monkeypatch.setenv("LAKEHOUSE_RETRY_SECONDS", "0.5")
    handler = signal.getsignal(signal.SIGTERM)  # Airflow installs its own for the task
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def dag_of(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A DAG of one task, `job`, that runs the script of the same name."""

    def make(**more: Any) -> Any:
        from airflow.sdk import DAG, Param

        from common import defaults
        from common.emr import LakehouseJobOperator

        args = defaults.default_args() | {"retries": 1, "retry_exponential_backoff": False}
        with DAG(
            request.node.name.split("[")[0], schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC),
            default_args=args, params={"run_id": Param(None, type=["null", "string"])},
        ) as dag:  # fmt: skip
            LakehouseJobOperator(task_id="job", job="job", **more)
        return dag

    return make


@pytest.fixture
def run(emr: Emr, dag_of: Callable[..., Any]) -> Run:
    def run(body: str = "say()", *, conf: dict[str, Any] | None = None, **more: Any) -> Ran:
        emr.job("job", body)
        return Ran(dag_of(**more).test(logical_date=datetime.now(UTC), run_conf=conf), emr)

    return run


def test_success_is_told_table_by_table(run: Run, emr: Emr, caplog: pytest.LogCaptureFixture) -> None:
    ran = run()

    assert (ran.state, ran.tries, len(ran.job_runs)) == ("success", 1, 1)
    assert "silver.orders (version 3): 1,200 read, 1,199 inserted, 1 quarantined" in caplog.text
    assert ran.xcom("outcome")["status"] == "succeeded"
    assert ran.xcom("job_run")["state"] == "SUCCESS"
    assert ran.xcom("job_run")["run_id"] == ran.xcom("outcome")["run_id"]


def test_the_job_is_submitted_whole(run: Run, emr: Emr) -> None:
    from common import spark

    ran = run(arguments=["--db", "gold"])

    job_run = emr.stack.client("emr-serverless").get_job_run(
        applicationId=emr.application, jobRunId=ran.job_runs[0]["id"]
    )["jobRun"]
    assert job_run["name"] == f"{ran.ti.dag_id}:{ran.dag_run_id}:job"
    assert job_run["executionTimeoutMinutes"] == 60
    submit = job_run["jobDriver"]["sparkSubmit"]
    assert submit["entryPoint"] == f"s3://{emr.code}/jobs/job.py"
    arguments = submit["entryPointArguments"]
    assert dict(zip(arguments[::2], arguments[1::2], strict=True)) == {
        "--config": emr.stack.exports["LAKEHOUSE_CONFIG"],
        "--run-id": ran.xcom("job_run")["run_id"],
        "--airflow-dag-id": ran.ti.dag_id,
        "--airflow-run-id": ran.dag_run_id,
        "--airflow-task-id": "job",
        "--airflow-try": "1",
        "--airflow-job-name": ran.job_runs[0]["name"],
        "--db": "gold",
    }
    overrides = job_run["configurationOverrides"]
    assert overrides["applicationConfiguration"] == spark.application_configuration()
    for name, value in (("RUN_ID", ran.xcom("job_run")["run_id"]), ("JOB", "job")):
        assert f"driverEnv.LAKEHOUSE_{name}={value}" in submit["sparkSubmitParameters"]
    log_uri = overrides["monitoringConfiguration"]["s3MonitoringConfiguration"]["logUri"]
    assert ran.xcom("job_run")["logs"].startswith(f"{log_uri}applications/{emr.application}/jobs/")
    assert "{{" not in json.dumps([submit, overrides])


def test_a_terminal_failure_is_not_retried(run: Run, emr: Emr, caplog: pytest.LogCaptureFixture) -> None:
    ran = run("fail('terminal', 'GATE_FAILED')")

    assert (ran.state, ran.tries, len(ran.job_runs)) == ("failed", 1, 1)
    assert "GATE_FAILED: what happened — what to do" in caplog.text
    assert "Trying again cannot help" in caplog.text
    assert ran.xcom("failure") == {
        "code": "GATE_FAILED", "message": "what happened", "hint": "what to do", "retryable": False,
    }  # fmt: skip


def test_a_transient_failure_is_retried_in_the_same_run(run: Run, emr: Emr) -> None:
    ran = run("fail('transient', 'SOURCE_DOWN') if args.airflow_try == '1' else say()")

    assert (ran.state, ran.tries, len(ran.job_runs)) == ("success", 2, 2)
    client = emr.stack.client("emr-serverless")
    submitted = [
        client.get_job_run(applicationId=emr.application, jobRunId=one["id"])["jobRun"]
        for one in ran.job_runs
    ]
    arguments = [one["jobDriver"]["sparkSubmit"]["entryPointArguments"] for one in submitted]
    run_ids = {words[words.index("--run-id") + 1] for words in arguments}
    assert run_ids == {ran.xcom("job_run")["run_id"]}
    assert sorted(words[words.index("--airflow-try") + 1] for words in arguments) == ["1", "2"]
    assert ran.xcom("failure") is None, "the failure of the first try is not the run's"


def test_a_job_that_dies_without_a_word_is_retried(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    ran = run("print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)")

    assert (ran.state, ran.tries, len(ran.job_runs)) == ("failed", 2, 2)
    assert ran.xcom("failure")["code"] == "JOB_DIED"
    assert "| last words" in caplog.text


def test_the_outcome_of_an_earlier_try_is_not_taken_for_this_ones(run: Run) -> None:
    """The first try dies with an older, terminal outcome in its place: it must not be believed."""
    ran = run(
        "if args.airflow_try == '1':\n"
        "    say({'error_class': 'terminal', 'code': 'OLD', 'message': 'm', 'hint': 'h'},\n"
        "        started_at='2026-01-01T00:00:00Z')\n"
        "    sys.exit(1)\n"
        "say()"
    )
    assert (ran.state, ran.tries) == ("success", 2)
    assert ran.xcom("outcome")["status"] == "succeeded"


def test_what_every_try_of_a_task_used_is_added_up(run: Run, emr: Emr) -> None:
    from lakehouse.observe import cost

    ran = run("fail('transient', 'SOURCE_DOWN') if args.airflow_try == '1' else say()")
    settings = make_settings(f"s3://{emr.lake}", emr_application_id=emr.application)
    [one, other] = [
        emr.stack.client("emr-serverless").get_job_run(applicationId=emr.application, jobRunId=each["id"])[
            "jobRun"
        ]
        for each in ran.job_runs
    ]
    name = one["name"]
    used = cost.billed(settings, {name, "another"}, one["createdAt"] - timedelta(hours=1))
    hours = [Decimal(str(each["billedResourceUtilization"]["vCPUHour"])) for each in (one, other)]
    assert {name: usage.vcpu_hours for name, usage in used.items()} == {name: sum(hours)}
    assert used[name].cost_usd(settings.prices) > 0


@pytest.mark.parametrize(("exit_code", "code"), [(2, "USAGE"), (10, "TERMINAL"), (11, "GATE_FAILED")])
def test_an_exit_code_that_means_terminal_counts_without_an_outcome(
    run: Run, exit_code: int, code: str
) -> None:
    ran = run(f"sys.exit({exit_code})")
    assert (ran.state, ran.tries) == ("failed", 1)
    assert ran.xcom("failure")["code"] == code


def test_a_live_job_of_the_same_name_is_adopted(emr: Emr, dag_of: Callable[..., Any]) -> None:
    """A worker died and its job did not: the next try waits for that job and starts no second one."""
    emr.job("job", "time.sleep(12); say()")
    dag, at = dag_of(), datetime.now(UTC)
    from airflow.utils.types import DagRunType

    dag_run_id = DagRunType.MANUAL.generate_run_id(suffix=at.isoformat())
    client = emr.stack.client("emr-serverless")
    alive = client.start_job_run(
        applicationId=emr.application,
        executionRoleArn=emr.stack.exports["EMR_EXECUTION_ROLE_ARN"],
        clientToken=f"orphan-{time.time()}",
        name=f"{dag.dag_id}:{dag_run_id}:job",
        jobDriver={"sparkSubmit": {
            "entryPoint": f"s3://{emr.code}/jobs/job.py", "entryPointArguments": ["--run-id", "20260101T000000Z-x"],
        }},
    )["jobRunId"]  # fmt: skip

    ran = Ran(dag.test(run_after=at, logical_date=at), emr)

    assert ran.dag_run_id == dag_run_id
    assert [one["id"] for one in ran.job_runs] == [alive]
    assert (ran.state, ran.tries, ran.xcom("return_value")) == ("success", 1, alive)


def test_a_job_that_exceeds_its_time_is_cancelled(run: Run) -> None:
    ran = run("time.sleep(60)", execution_timeout=timedelta(seconds=2), retries=0)

    assert ran.state == "failed"
    assert {one["state"] for one in ran.job_runs} <= {"CANCELLING", "CANCELLED"}


def test_a_job_cancelled_by_hand_stays_cancelled(run: Run, emr: Emr) -> None:
    ran = run(
        "import boto3\n"
        "client = boto3.client('emr-serverless', region_name=os.environ['AWS_REGION'])\n"
        f"client.cancel_job_run(applicationId='{emr.application}', jobRunId=os.environ['LAKEHOUSE_EMR_JOB_RUN_ID'])\n"
        "time.sleep(60)"
    )
    assert (ran.state, ran.tries, len(ran.job_runs)) == ("failed", 1, 1)
    assert ran.xcom("failure")["code"] == "CANCELLED"


def test_a_submission_that_emr_refuses_for_good_is_not_retried(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EMR_APPLICATION_ID", "00nosuchapp")
    ran = run()
    assert (ran.state, ran.tries) == ("failed", 1)
    assert "ResourceNotFoundException: " in caplog.text
    assert "00nosuchapp does not exist" in caplog.text
    assert ran.xcom("failure")["code"] == "ResourceNotFoundException"


def test_a_missing_setting_is_named_and_not_retried(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EMR_APPLICATION_ID", "")
    ran = run()
    assert (ran.state, ran.tries, ran.job_runs) == ("failed", 1, [])
    assert "Setting EMR_APPLICATION_ID is missing: the id of the EMR Serverless application" in caplog.text


def test_an_earlier_run_can_be_repeated(run: Run) -> None:
    known = "20260101T060000Z-0bf60b1d-a1d7-5a66-b9f4-a406b8143c98"
    assert run(conf={"run_id": known}).xcom("outcome")["run_id"] == known


def test_a_failure_is_told_by_sns(run: Run, emr: Emr) -> None:
    sqs, sns = emr.stack.client("sqs"), emr.stack.client("sns")
    queue = sqs.create_queue(QueueName=f"notices-{time.time_ns()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    subscription = sns.subscribe(TopicArn=emr.stack.exports["ALERT_TOPIC_ARN"], Protocol="sqs", Endpoint=arn)
    try:
        ran = run("fail('transient', 'SOURCE_DOWN')")
    finally:
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])

    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    notices = [json.loads(one["Body"]) for one in answer["Messages"]]
    assert ran.tries == 2
    assert [one["Subject"] for one in notices] == [f"{ran.ti.dag_id}: job failed"], (
        "one notice, after the last try"
    )
    assert "SOURCE_DOWN: what happened — what to do" in notices[0]["Message"]
    assert ran.dag_run_id in notices[0]["Message"]


def test_a_notice_that_fails_does_not_hide_the_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALERT_TOPIC_ARN", "arn:aws:sns:eu-central-1:123456789012:no-such-topic")
    ran = run("fail('terminal', 'GATE_FAILED')")
    assert ran.state == "failed"
    assert "GATE_FAILED: what happened" in caplog.text
    assert "The failure notice could not be sent" in caplog.text


class Pages:
    """ListJobRuns of an application with many live runs."""

    def __init__(self, names: list[list[str]]) -> None:
        self.pages, self.asked = names, 0

    def list_job_runs(self, nextToken: str = "0", **_: Any) -> dict[str, Any]:
        self.asked += 1
        at = int(nextToken)
        runs = [
            {
                "id": f"{at}-{i}",
                "name": name,
                "state": "QUEUED",
                "createdAt": datetime(2026, 1, at + 1, tzinfo=UTC),
            }
            for i, name in enumerate(self.pages[at])
        ]
        more = {"nextToken": str(at + 1)} if at + 1 < len(self.pages) else {}
        return {"jobRuns": runs} | more


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([["other"] * 50, ["other"] * 50, ["mine"]], "2-0"),
        ([["other"] * 50, ["other"]], None),
        ([["mine"], ["mine"]], "1-0"),
        ([[]], None),
    ],
    ids=["on the third page", "none", "the newest of two", "an idle application"],
)
def test_a_live_job_is_looked_for_on_every_page(
    dag_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, pages: list[list[str]], expected: str | None
) -> None:
    from types import SimpleNamespace

    from common import emr as module

    client = Pages(pages)
    monkeypatch.setattr(module, "_emr", lambda *_: SimpleNamespace(conn=client))
    task = dag_of().get_task("job")
    task.name = "mine"

    assert task._live_job_run() == expected
    assert client.asked == len(pages)
