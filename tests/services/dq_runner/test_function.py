"""The zip of the runner, as Lambda runs it: against the local Snowflake and AWS, with nothing else on its path."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dq_runner.report import LATEST, Report
from local import lambda_runtime
from local.lambda_runtime import Function
from local.saas import credentials
from tests.services.dq_runner.conftest import Snow
from tests.support import Aws

HANDLER = "run_automatic_dq_checks.main"
#: As EventBridge sends it.
SCHEDULED = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2026-11-29T06:00:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:events:eu-central-1:123456789012:rule/dq-platform-daily-schedule"],
    "detail": {},
}
PLATFORM = """
include: {databases: [SALES], schemas: [PUBLIC], tables: [GOODS, OTHERS]}
date_column: {names: [LOADED_AT]}
limits: {workers: 2}
anomalies: {on: false}
"""
RULES = """
tables:
  - table: SALES.PUBLIC.GOODS
    rules:
      - {kind: not_null, columns: [ID], severity: critical}
      - {kind: range, columns: [AMOUNT], min: 0, severity: critical}
"""
Starts = Callable[..., Function]
_numbers = itertools.count()


@pytest.fixture
def reports(aws: Aws) -> str:
    """A bucket for reports, empty."""
    bucket = f"function-reports-{next(_numbers)}"
    aws.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]}
    )
    return bucket


@pytest.fixture
def signs_in(aws: Aws) -> str:
    """A secret of the user who only reads, by token; its name."""
    name = f"snowflake/function-{next(_numbers)}"
    reader = credentials.SNOWFLAKE_DQ
    secret = {
        "account": "local",
        "user": reader["username"],
        "role": reader["role"],
        "warehouse": reader["warehouse"],
        "token": credentials.SNOWFLAKE_DQ_TOKEN,
    }
    aws.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(secret))
    return name


@pytest.fixture
def mail(aws: Aws) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A topic, and what has been published to it since it was asked last."""
    sns, sqs = aws.client("sns"), aws.client("sqs")
    topic = sns.create_topic(Name="function-alerts")["TopicArn"]
    queue = sqs.create_queue(QueueName="function-alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def came() -> list[str]:
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for one in found:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
        return [json.loads(one["Body"])["Message"] for one in found]

    yield topic, came
    sns.delete_topic(TopicArn=topic)
    sqs.delete_queue(QueueUrl=queue)


@pytest.fixture
def starts(
    runner_task: Path,
    snow: Snow,
    aws: Aws,
    reports: str,
    signs_in: str,
    mail: tuple[str, Callable[[], list[str]]],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Starts]:
    """Start the function with rules of the test's own; ``changed`` is of its environment."""
    with ExitStack() as stack:

        def start(**changed: str) -> Function:
            task = with_rules(runner_task, tmp_path / "task")
            environment = aws.env | {
                "S3_DQ_REPORTS_BUCKET": reports,
                "SNOWFLAKE_SECRET_NAME": signs_in,
                "ALERT_TOPIC_ARN": mail[0],
                "SNOWFLAKE_HOST": "127.0.0.1",
                "SNOWFLAKE_PORT": str(snow.port),
                "SNOWFLAKE_PROTOCOL": "http",
                "SNOWFLAKE_NETWORK_TIMEOUT_SECONDS": "10",
            }
            # One folder for all: what is compiled once is compiled for the next test.
            state = tmp_path_factory.getbasetemp() / "function"
            running = lambda_runtime.running(task, HANDLER, state, environment | changed)
            return stack.enter_context(running)

        yield start


def with_rules(runner_task: Path, task: Path) -> Path:
    """The unpacked zip with other rules: its handler and config/ copied, the rest linked."""
    task.mkdir()
    for entry in runner_task.iterdir():
        if entry.name not in ("config", "run_automatic_dq_checks.py"):
            (task / entry.name).symlink_to(entry)
    (task / "run_automatic_dq_checks.py").write_bytes(
        (runner_task / "run_automatic_dq_checks.py").read_bytes()
    )
    (task / "config" / "dq_rules").mkdir(parents=True)
    (task / "config" / "dq_platform.yaml").write_text(PLATFORM)
    (task / "config" / "dq_rules" / "goods.yaml").write_text(RULES)
    return task


def goods(snow: Snow) -> None:
    """Two rows of yesterday, of which one has no id and one is below zero."""
    snow.table("GOODS", "('a', -1, '2026-11-28 10:00:00')", "(NULL, 2, '2026-11-28 11:00:00')")
    snow.table("OTHERS", "('a', 1, '2026-11-28 10:00:00')")


def latest(aws: Aws, bucket: str) -> Report:
    return Report.model_validate_json(aws.client("s3").get_object(Bucket=bucket, Key=LATEST)["Body"].read())


def keys(aws: Aws, bucket: str, prefix: str) -> list[str]:
    found = aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return [one["Key"] for one in found]


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_scheduled_event_makes_the_report_of_yesterday_and_its_repetition_no_other(
    starts: Starts, snow: Snow, aws: Aws, reports: str, mail: Any, runner_task: Path
) -> None:
    goods(snow)
    before = files(runner_task)
    function = starts()
    first = function.invoke(SCHEDULED)
    assert first.error == "", function.log.read_text()
    assert first.payload["status"] == "failed"
    assert (first.payload["tables"], first.payload["critical"]) == (2, 2)
    found = latest(aws, reports)
    assert found.run.run_id == first.payload["run_id"] == f"20261129T060000Z-{SCHEDULED['id']}"
    assert {row.rule: row.failed_rows for row in found.results if row.status == "failed"} == {
        "not_null(ID)": 1,
        "range(AMOUNT)": 1,
    }
    for folder in ("history", "lineage", "notices"):
        assert keys(aws, reports, f"reports/{folder}/") == [
            f"reports/{folder}/2026-11-29/{found.run.run_id}.json"
        ]
    assert len(keys(aws, reports, "reports/measures/")) == len(keys(aws, reports, "reports/lineage/")) == 1
    sent = aws.client("cloudwatch").list_metrics(Namespace="Lakehouse/DataQuality")["Metrics"]
    assert sent
    assert len(mail[1]()) == 1
    asked = len(snow.asked())
    # Lambda delivers an event at least once.
    again = function.invoke(SCHEDULED)
    assert (again.error, again.payload["run_id"]) == ("", found.run.run_id)
    assert latest(aws, reports) == found
    assert mail[1]() == []
    assert len(snow.asked()) == asked
    # /var/task cannot be written, and no secret is told.
    assert files(runner_task) == before
    assert credentials.SNOWFLAKE_DQ_TOKEN not in function.log.read_text() + json.dumps(first.payload)


def test_the_time_that_is_left_is_honoured(starts: Starts, snow: Snow, aws: Aws, reports: str) -> None:
    goods(snow)
    # Its scan hangs for longer than the function has; the report needs the last 45 seconds.
    snow.admin.fault(match='(?s)"AMOUNT".*"GOODS"', kind="slow", delay_s=120, times=0)
    answer = starts().invoke(SCHEDULED, timeout=51)
    assert answer.error == ""
    assert answer.payload["status"] == "incomplete"
    found = latest(aws, reports)
    assert found.run.status == "incomplete"
    of_goods = [row for row in found.results if row.table == "GOODS"]
    assert {"error", "skipped"} & {row.status for row in of_goods}
    assert {row.status for row in of_goods if row.origin == "declared"} <= {"error", "skipped"}


def test_what_no_other_try_can_mend_is_told_and_not_tried_again(
    starts: Starts, snow: Snow, aws: Aws, reports: str, mail: Any, signs_in: str
) -> None:
    secret = {"account": "local", "user": "DQ_PLATFORM", "warehouse": "W", "token": "a-token-of-nobody"}
    aws.client("secretsmanager").put_secret_value(SecretId=signs_in, SecretString=json.dumps(secret))
    function = starts()
    answer = function.invoke(SCHEDULED)
    assert answer.error == "", function.log.read_text()
    assert (answer.payload["status"], answer.payload["code"]) == ("not_checked", "CREDENTIALS")
    assert "a-token-of-nobody" not in function.log.read_text() + json.dumps(answer.payload)
    assert keys(aws, reports, "reports/") == []
    (told,) = mail[1]()
    assert "CREDENTIALS" in told


def test_what_may_pass_is_an_error_of_the_function_so_that_lambda_tries_again(
    starts: Starts, snow: Snow, aws: Aws, reports: str
) -> None:
    function = starts(SNOWFLAKE_PORT="9", SNOWFLAKE_NETWORK_TIMEOUT_SECONDS="1")
    answer = function.invoke(SCHEDULED)
    assert answer.error == "SourceUnavailable"
    assert answer.payload["errorMessage"]
    assert keys(aws, reports, "reports/") == []
