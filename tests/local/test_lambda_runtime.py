"""The local Lambda answers as the service does, and gives a function nothing that Lambda would not."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import lambda_runtime
from local.lambda_runtime import Function

CODE = """
import os, sys, time

def main(event, context):
    do = event["do"]
    if do == "answer":
        return {"left": context.get_remaining_time_in_millis(), "id": context.aws_request_id, "pid": os.getpid()}
    if do == "fail":
        raise LookupError("nothing of that name")
    if do == "import":
        return importable(event["name"])
    if do == "home":
        os.makedirs(os.path.expanduser("~/.cache"))
    if do == "exit":
        os._exit(3)
    if do == "large":
        return "x" * 7_000_000
    time.sleep(60)

def importable(name):
    try:
        return __import__(name).__file__
    except ImportError:
        return None
"""


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    state = tmp_path_factory.mktemp("lambda")
    task = state / "task"
    task.mkdir()
    (task / "code_of_ours.py").write_text(CODE)
    with lambda_runtime.running(task, "code_of_ours.main", state, {}) as one:
        yield one


def test_an_event_is_answered_by_one_warm_process(function: Function) -> None:
    first = function.invoke({"do": "answer"}, timeout=30, request_id="r-1")
    assert first.error == ""
    assert first.payload["id"] == "r-1"
    assert 20_000 < first.payload["left"] <= 30_000
    assert function.init_seconds is not None
    assert function.invoke({"do": "answer"}).payload["pid"] == first.payload["pid"]


def test_an_error_is_what_lambda_gives_its_caller(function: Function) -> None:
    answer = function.invoke({"do": "fail"})
    assert answer.error == "LookupError"
    assert answer.payload["errorMessage"] == "nothing of that name"
    assert answer.payload["stackTrace"]
    assert "[ERROR] LookupError: nothing of that name" in function.log.read_text()


def test_a_process_that_ends_is_told_and_the_next_event_has_another(function: Function) -> None:
    answer = function.invoke({"do": "exit"}, timeout=20)
    assert answer.error == "Runtime.ExitError"
    assert "exit status 3" in answer.payload["errorMessage"]
    assert function.invoke({"do": "answer"}).error == ""


def test_at_the_end_of_its_time_the_process_is_killed(function: Function) -> None:
    before = function.invoke({"do": "answer"}).payload["pid"]
    answer = function.invoke({"do": "sleep"}, timeout=0.5)
    assert (answer.error, answer.seconds < 5) == ("Sandbox.Timedout", True)
    assert answer.payload["errorMessage"].endswith("Task timed out after 0.50 seconds")
    assert function.invoke({"do": "answer"}).payload["pid"] != before


def test_an_answer_that_is_too_large_is_refused(function: Function) -> None:
    assert function.invoke({"do": "large"}).error == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize("name", ["boto3", "json", "six"])
def test_what_lambdas_image_has_can_be_imported(function: Function, name: str) -> None:
    assert function.invoke({"do": "import", "name": name}).payload


@pytest.mark.parametrize("name", ["lakehouse", "dq_runner", "pytest", "pydantic", "snowflake", "yaml"])
def test_nothing_of_this_clone_or_its_environment_can_be_imported(function: Function, name: str) -> None:
    assert function.invoke({"do": "import", "name": name}).payload is None


def test_there_is_no_home_to_write_to(function: Function) -> None:
    assert function.invoke({"do": "home"}).error == "NotADirectoryError"


def test_a_handler_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found")
    with lambda_runtime.running(tmp_path, "broken.main", tmp_path / "state", {}) as function:
        answer = function.invoke({}, timeout=20)
    assert answer.error == "Runtime.ImportModuleError"
    assert "nowhere_to_be_found" in answer.payload["errorMessage"]


def test_a_web_page_gets_no_event(function: Function) -> None:
    address = function.address
    connection = http.client.HTTPConnection(address)
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        connection.request("GET", "/2018-06-01/runtime/invocation/next", headers=headers)
        response = connection.getresponse()
        assert (response.status, response.read()) == (403, b"")
    connection.request(
        "POST", "/2018-06-01/runtime/init/error", json.dumps({}), {"Sec-Fetch-Site": "cross-site"}
    )
    assert connection.getresponse().status == 403
