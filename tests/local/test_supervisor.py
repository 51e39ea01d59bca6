"""The supervisor: detached processes, pids that may be recycled, and failures that say what to do."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local import stack as stacks
from local.__main__ import main
from local.supervisor import ServiceError, ServiceSpec, Supervisor, base_environment
from tests.support import REPO

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    yield supervisor
    for name in supervisor.known():
        supervisor.stop(name, grace=0.1)


def spec(code: str, ready: Callable[[], bool] = lambda: True, name: str = "svc") -> ServiceSpec:
    return ServiceSpec(name, [sys.executable, "-c", code], base_environment(), ready)


def test_a_service_runs_in_a_session_of_its_own_with_its_log(supervisor: Supervisor) -> None:
    started = supervisor.start(spec(f"print('here I am', flush=True); {SLEEP}"), REPO)
    assert os.getsid(started.pid) == started.pid
    supervisor.wait_ready(spec(SLEEP, lambda: "here I am" in started.log.read_text()), timeout=120)
    running = supervisor.running("svc")
    assert running is not None
    assert running.pid == started.pid
    assert running.uptime < 30
    assert supervisor.stop("svc") is True
    assert supervisor.running("svc") is None
    assert supervisor.stop("svc") is False


def test_a_recycled_pid_is_not_taken_for_the_service_nor_killed(supervisor: Supervisor) -> None:
    other = supervisor.start(spec(SLEEP, name="other"), REPO)
    supervisor.start(spec(SLEEP), REPO)
    supervisor.stop("svc")
    record = {"pid": other.pid, "started": other.started - 1000, "argv": []}
    (supervisor.state / "run" / "svc.json").write_text(json.dumps(record))
    assert supervisor.running("svc") is None
    assert supervisor.stop("svc") is False
    assert psutil.pid_exists(other.pid)
    assert supervisor.running("other") is not None


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]"])
def test_a_damaged_pid_file_means_that_nothing_runs(supervisor: Supervisor, content: str) -> None:
    (supervisor.state / "run").mkdir()
    (supervisor.state / "run" / "svc.json").write_text(content)
    assert supervisor.running("svc") is None


def test_stopping_takes_the_children_and_does_not_wait_for_the_deaf(supervisor: Supervisor) -> None:
    child = (
        "import subprocess, sys, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); print(p.pid, flush=True); time.sleep(600)"
    )
    started = supervisor.start(spec(child), REPO)
    end = time.monotonic() + 20
    while len(lines := started.log.read_text().splitlines()) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    begun = time.monotonic()
    assert supervisor.stop("svc", grace=0.5) is True
    assert time.monotonic() - begun < 10
    for pid in (started.pid, int(lines[1])):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_service_that_dies_shows_the_end_of_its_log(supervisor: Supervisor) -> None:
    dying = spec("raise SystemExit('port 4566 is on fire')", ready=lambda: False)
    supervisor.start(dying, REPO)
    with pytest.raises(ServiceError) as error:
        supervisor.wait_ready(dying, timeout=120)
    assert "ended while starting" in str(error.value)
    assert "port 4566 is on fire" in str(error.value)
    assert "python -m local up" in str(error.value)


def test_a_service_that_never_gets_ready_is_reported(supervisor: Supervisor) -> None:
    slow = spec(
        f"print('thinking', flush=True); {SLEEP}",
        ready=lambda: "thinking" not in supervisor.log("svc").read_text() and False,
    )
    supervisor.start(slow, REPO)
    with pytest.raises(ServiceError, match="is not healthy after 1 s"):
        supervisor.wait_ready(slow, timeout=1)


# -- the whole, with the AWS alone ---------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LAKEHOUSE_STATE_DIR", str(tmp_path))
    yield tmp_path
    main(["down"])


def test_up_twice_is_up_once_and_env_says_where(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "aws"]) == 0
    capsys.readouterr()
    first = stacks.Stack.load(state)
    pid = json.loads((state / "stack.json").read_text())["services"]["aws"]["pid"]
    assert main(["up", "aws"]) == 0
    again = capsys.readouterr().out
    assert "starting" not in again
    assert json.loads((state / "stack.json").read_text())["services"]["aws"]["pid"] == pid
    assert main(["env"]) == 0
    env = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert env["AWS_ENDPOINT_URL"] == first.aws_endpoint
    assert env["LAKEHOUSE_CONFIG"] == "s3://lakehouse-local-code/config/local.yaml"
    assert {"LAKE_BUCKET", "CODE_BUCKET", "EMR_APPLICATION_ID", "EMR_EXECUTION_ROLE_ARN"} <= env.keys()

    # what the pipeline expects to find
    keys = {o["Key"] for o in first.client("s3").list_objects_v2(Bucket="lakehouse-local-code")["Contents"]}
    assert {
        "lib/lakehouse.zip",
        "config/local.yaml",
        "jobs/bronze_to_silver.py",
        "emr_configs/delta-core.conf",
    } <= keys
    databases = {d["Name"] for d in first.client("glue").get_databases()["DatabaseList"]}
    assert {"lakehouse_bronze", "lakehouse_silver", "lakehouse_gold", "lakehouse_ops"} <= databases
    secrets = {s["Name"] for s in first.client("secretsmanager").list_secrets()["SecretList"]}
    assert {f"lakehouse/{n}/credentials" for n in ("salesforce", "hubspot", "snowflake", "kafka")} <= secrets

    # the machine takes the process away: status says so, up brings it back with the same data and on the same port
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert main(["status"]) == 3
    assert "down" in capsys.readouterr().out
    assert main(["up", "aws"]) == 0
    second = stacks.Stack.load(state)
    assert second.exports == first.exports
    assert first.exports["KAFKA_MODE"] == "batch"

    # a lake that has been switched to the stream stays with it
    assert main(["up", "aws", "--kafka-mode", "stream"]) == 0
    assert main(["up", "aws"]) == 0
    assert stacks.Stack.load(state).exports == first.exports | {"KAFKA_MODE": "stream"}


def test_the_library_zip_is_the_same_for_the_same_sources() -> None:
    import io
    import zipfile

    from local import bootstrap

    first = bootstrap.library_zip()
    assert first == bootstrap.library_zip()
    names = zipfile.ZipFile(io.BytesIO(first)).namelist()
    assert "lakehouse/cli.py" in names
    assert "schema_definitions/silver/orders.yaml" in names
    assert not [n for n in names if "__pycache__" in n]


def test_without_a_stack_the_commands_say_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_STATE_DIR", str(tmp_path / "none"))
    assert main(["env"]) == 1
    assert "python -m local up" in capsys.readouterr().err
    assert main(["down"]) == 0
