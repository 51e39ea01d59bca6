"""The Lambda function's handler: which run an event is, what it asks for, and which failures are worth another try."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dq_runner import run_automatic_dq_checks as handler
from dq_runner.aws import AwsUnavailable
from lakehouse import store
from lakehouse.errors import LakehouseError, UsageError
from tests.services.dq_runner.conftest import PLATFORM, SECRET, Snow, configured

NOW = datetime(2026, 11, 30, 9, 12, 13, tzinfo=UTC)
SCHEDULED = {"id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "time": "2026-11-29T06:00:00Z"}
TOPIC = "arn:aws:sns:eu-central-1:123456789012:alerts"


class Context:
    aws_request_id = "8f507cfc-xmpl-4697-b07a-ac58fc914c95"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def test_each_try_of_a_scheduled_event_is_the_same_run_of_the_same_day() -> None:
    later = datetime(2026, 11, 30, 0, 1, tzinfo=UTC)
    tries = [(now, handler.moment(SCHEDULED, now)) for now in (NOW, later)]
    ids = {handler.run_id_of(SCHEDULED, at, f"request-{now}") for now, at in tries}
    assert ids == {"20261129T060000Z-53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa"}
    assert {at for _, at in tries} == {datetime(2026, 11, 29, 6, tzinfo=UTC)}


def test_each_try_of_a_call_by_hand_is_the_same_run() -> None:
    first = handler.run_id_of({}, NOW, Context.aws_request_id)
    assert first == handler.run_id_of({}, NOW.replace(minute=15), Context.aws_request_id)
    assert first != handler.run_id_of({}, NOW, "another-request")


def test_an_event_asks_for_a_day_and_tables() -> None:
    asked = handler.asked({"date": "2026-11-03", "tables": ["ORDERS"]})
    assert (str(asked.day), asked.tables, asked.whole) == ("2026-11-03", ("ORDERS",), False)


def test_everything_that_is_wrong_with_an_event_is_said_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        handler.asked({"date": "03.11.2026", "whole": "yes", "tables": "ORDERS"})
    assert [one.where for one in refused.value.violations] == ["event.date", "event.whole", "event.tables"]


def test_config_lies_beside_the_handler_or_at_the_root_of_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert handler.config_folder() == Path(handler.__file__).resolve().parents[2] / "config"
    configured(tmp_path)
    monkeypatch.setattr(handler, "__file__", str(tmp_path / "run_automatic_dq_checks.py"))
    assert handler.config_folder() == tmp_path / "config"


class Answers(ThreadingHTTPServer):
    """A service of AWS that refuses everything it is asked, and counts it."""

    status, code, asked = 500, "InternalError", 0


class Refusing(BaseHTTPRequestHandler):
    server: Answers

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked += 1
        is_json = "X-Amz-Target" in self.headers
        words = {"__type": self.server.code, "message": "planned"}
        text = json.dumps(words) if is_json else f"<Error><Code>{self.server.code}</Code></Error>"
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_PUT = do_POST = answer

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def refusing() -> Iterator[Answers]:
    with Answers(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


Told = list[str]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: Answers) -> Iterator[Told]:
    """The function's environment, with AWS that refuses; what it tells the topic."""
    heard: Told = []
    configured(tmp_path)
    for name, value in {
        "SNOWFLAKE_SECRET_NAME": SECRET,
        "S3_DQ_REPORTS_BUCKET": "reports",
        "ALERT_TOPIC_ARN": TOPIC,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{refusing.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-key",
        "AWS_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(handler, "config_folder", lambda: tmp_path / "config")
    monkeypatch.setattr(handler, "notify_not_ended", lambda reason, *_: heard.append(reason))
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    store.client.cache_clear()
    yield heard
    store.client.cache_clear()


def outcome(call: Callable[[], dict[str, Any]]) -> str:
    """What Lambda sees: the name of the error that it will try again, or the status of the answer."""
    try:
        return str(call()["status"])
    except LakehouseError as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("SlowDown", 503, "AwsUnavailable"),
        ("InternalError", 500, "AwsUnavailable"),
        ("AccessDenied", 403, "not_checked"),
        ("NoSuchBucket", 404, "not_checked"),
    ],
)
def test_reports_that_cannot_be_read_end_a_run_before_it_costs_anything(
    told: Told, refusing: Answers, code: str, status: int, expected: str
) -> None:
    refusing.code, refusing.status = code, status
    assert outcome(lambda: handler.main(SCHEDULED, Context())) == expected
    assert [code in one for one in told] == ([True] if expected == "not_checked" else [])


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ThrottlingException", 400, "SourceUnavailable"),
        ("InternalServiceError", 500, "SourceUnavailable"),
        ("AccessDeniedException", 400, "not_checked"),
        ("ResourceNotFoundException", 400, "not_checked"),
    ],
)
def test_a_secret_that_cannot_be_read(
    told: Told,
    refusing: Answers,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    status: int,
    expected: str,
) -> None:
    monkeypatch.delenv("S3_DQ_REPORTS_BUCKET")
    refusing.code, refusing.status = code, status
    assert outcome(lambda: handler.main(SCHEDULED, Context())) == expected
    assert [SECRET in one for one in told] == ([True] if expected == "not_checked" else [])
    assert not any("secret-key" in one for one in told)


def test_a_rule_file_with_mistakes_runs_nothing_and_tells_all_of_them(
    told: Told, refusing: Answers, tmp_path: Path
) -> None:
    (tmp_path / "config" / "dq_rules" / "rules.yaml").write_text("tables: [{tabel: A.B.C}]\n")
    (tmp_path / "config" / "dq_platform.yaml").write_text(PLATFORM + "wiews: true\n")
    assert outcome(lambda: handler.main(SCHEDULED, Context())) == "not_checked"
    [words] = told
    assert "tabel" in words
    assert "wiews" in words
    assert refusing.asked == 0


def test_settings_that_are_missing_are_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNOWFLAKE_SECRET_NAME")
    monkeypatch.setenv("SNOWFLAKE_PORT", "many")
    assert outcome(lambda: handler.main(SCHEDULED, Context())) == "not_checked"
    assert "SNOWFLAKE_SECRET_NAME" in told[0]
    assert "SNOWFLAKE_PORT" in told[0]


def test_a_report_that_cannot_be_written_is_an_error_that_is_tried_again(
    snow: Snow,
    told: Told,
    signed_in: dict[str, str],
    refusing: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S3 fails after the checks: the run has no report, and the next try makes one."""
    monkeypatch.setenv("SNOWFLAKE_HOST", "127.0.0.1")
    monkeypatch.setenv("SNOWFLAKE_PORT", str(snow.port))
    monkeypatch.setenv("SNOWFLAKE_PROTOCOL", "http")
    from dq_runner import runner
    from dq_runner.history import Series

    monkeypatch.setattr(runner, "published", lambda *_: None)
    monkeypatch.setattr(runner, "_series", lambda *_: Series())
    monkeypatch.setattr(runner, "_before", lambda *_: {})
    refusing.code, refusing.status = "SlowDown", 503
    with pytest.raises(AwsUnavailable):
        handler.main(SCHEDULED, Context())
    assert snow.asked()
    assert told == []
