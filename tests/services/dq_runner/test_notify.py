"""The alarm: once for what is new, within what SNS takes, and never a reason to lose a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from dq_runner import notify as notify_module
from dq_runner.aws import AwsRefused, AwsUnavailable
from dq_runner.notify import notify, notify_not_ended
from dq_runner.publish import publish, published
from dq_runner.report import Muted
from lakehouse import store
from tests.services.dq_runner.reports import AT, report, row
from tests.support import Aws


@pytest.fixture
def bucket(lake: str) -> str:
    return lake.removeprefix("s3://")


class Topic:
    """A topic of the local AWS, and a queue that hears it."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._sqs = aws.client("sqs")
        self.arn = aws.client("sns").create_topic(Name=name)["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        queue_arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])
        aws.client("sns").subscribe(
            TopicArn=self.arn, Protocol="sqs", Endpoint=queue_arn["Attributes"]["QueueArn"]
        )

    def heard(self) -> list[dict[str, Any]]:
        found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages", [])
        for each in found:
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=each["ReceiptHandle"])
        return [json.loads(each["Body"]) for each in found]


@pytest.fixture
def topic(aws: Aws, bucket: str) -> Topic:
    return Topic(aws, f"alerts-{bucket}")


def test_a_new_critical_failure_is_told_once(bucket: str, topic: Topic) -> None:
    done = publish(report("run-1", [row("a"), row("b", "passed")]), [], bucket)
    assert notify(done, topic.arn, "https://dq.example.com")

    [message] = topic.heard()
    assert message["Subject"] == "Data quality: 1 new critical failure in 1 table"
    text = message["Message"]
    assert "SALES.PUBLIC.ORDERS  a: 14 of 102,311 rows" in text
    assert "1 passed, 1 failed (1 critical, 0 muted)" in text
    assert done.uri in text
    assert "https://dq.example.com" in text

    again = published(bucket, "run-1", AT)
    assert again is not None
    assert not notify(again, topic.arn), "another try of the run"
    next_day = publish(report("run-2", [row("a")], AT + timedelta(days=1)), [], bucket)
    assert not notify(next_day, topic.arn)
    assert topic.heard() == []


def test_rules_that_count_no_rows_are_told_in_their_words(bucket: str, topic: Topic) -> None:
    silent = row("volume_anomaly", failed_rows=None, observed="0 rows")
    assert notify(publish(report("run-1", [silent]), [], bucket), topic.arn)
    assert "SALES.PUBLIC.ORDERS  volume_anomaly: 0 rows\n" in topic.heard()[0]["Message"]


def test_a_failure_whose_mute_has_ended_is_told_as_that(bucket: str, topic: Topic) -> None:
    mute = Muted(reason="known", until=AT.date())
    assert not notify(publish(report("run-1", [row(muted=mute)]), [], bucket), topic.arn)
    assert notify(publish(report("run-2", [row()], AT + timedelta(days=1)), [], bucket), topic.arn)
    assert "rows (it failed before, muted or as a warning)\n" in topic.heard()[0]["Message"]


@pytest.mark.parametrize("results", [[], [row(status="passed")], [row(severity="warning")]])
def test_nothing_is_told_where_nothing_is_critical(bucket: str, topic: Topic, results: list[Any]) -> None:
    assert not notify(publish(report("run-1", results), [], bucket), topic.arn)
    assert topic.heard() == []


def test_without_a_topic_nobody_is_told(bucket: str) -> None:
    assert not notify(publish(report("run-1", [row()]), [], bucket), None)


def test_a_try_that_died_before_its_mark_tells_twice_rather_than_never(bucket: str, topic: Topic) -> None:
    done = publish(report("run-1", [row()]), [], bucket)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "put", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            notify(done, topic.arn)
    assert notify(done, topic.arn)
    assert not notify(done, topic.arn)
    assert len(topic.heard()) == 2


def test_a_run_that_could_check_nothing_is_told(bucket: str, topic: Topic) -> None:
    results = [row("checked", "error", message="Snowflake refused: the warehouse is suspended")]
    for number in range(2):
        done = publish(report(f"run-{number}", results, AT + timedelta(days=number)), [], bucket)
        assert notify(done, topic.arn)
        assert not notify(done, topic.arn)
    first, _ = topic.heard()
    assert first["Subject"] == "Data quality: the run could check nothing"
    assert "the warehouse is suspended" in first["Message"]


def test_a_run_without_report_is_told(topic: Topic) -> None:
    assert notify_not_ended("SOURCE_UNAVAILABLE: S3 does not answer", "run-1", AT, topic.arn)
    [message] = topic.heard()
    assert message["Message"].startswith("Run run-1 of 2026-11-29 06:00 UTC did not come to its end.")
    assert "S3 does not answer" in message["Message"]
    assert not notify_not_ended("x", "run-1", AT, None)


def test_hostile_names_and_thousands_of_failures_stay_within_what_sns_takes(
    bucket: str, topic: Topic
) -> None:
    name = 'a"; DROP\nTABLE\x1b[31m "größe' * 40
    done = publish(
        report("run-1", [row(f"{name}{number}", table=name) for number in range(3000)]), [], bucket
    )
    assert notify(done, topic.arn)

    [message] = topic.heard()
    assert message["Subject"] == "Data quality: 3,000 new critical failures in 1 table"
    assert len(message["Message"].encode()) < 20_000
    assert "\x1b" not in message["Message"]
    assert "and 2,980 more" in message["Message"]


def test_a_subject_is_one_line_of_ascii() -> None:
    subject = notify_module._subject("größe\n" + "x" * 300)
    assert subject.isascii()
    assert len(subject) < 100
    assert "\n" not in subject


def test_no_values_of_rows_are_told(bucket: str, topic: Topic) -> None:
    secret = row(observed="jane@example.com", samples=({"ID": "jane@example.com"},))
    assert notify(publish(report("run-1", [secret]), [], bucket), topic.arn)
    assert "jane" not in topic.heard()[0]["Message"]


class TestAnswers:
    @pytest.fixture
    def sns(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
        client = boto3.client(
            "sns", region_name="eu-central-1", aws_access_key_id="-", aws_secret_access_key="-"
        )
        monkeypatch.setattr(notify_module, "_client", lambda topic: client)
        with Stubber(client) as stubber:
            yield stubber

    @pytest.mark.parametrize(
        ("code", "status", "kind"),
        [
            ("AuthorizationError", 403, AwsRefused),
            ("NotFound", 404, AwsRefused),
            ("KMSAccessDenied", 400, AwsRefused),
            ("Throttled", 429, AwsUnavailable),
            ("InternalError", 500, AwsUnavailable),
        ],
    )
    def test_a_failure_leaves_the_report_and_can_be_repeated(
        self, bucket: str, sns: Stubber, code: str, status: int, kind: Any
    ) -> None:
        done = publish(report("run-1", [row()]), [], bucket)
        arn = "arn:aws:sns:eu-central-1:123456789012:alerts"
        sns.add_client_error("publish", service_error_code=code, http_status_code=status)
        with pytest.raises(kind, match=f"the topic {arn}: received {code}"):
            notify(done, arn)
        assert published(bucket, "run-1", AT) is not None
        sns.add_response("publish", {"MessageId": "1"})
        assert notify(done, arn)
