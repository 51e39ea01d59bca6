"""scripts/emr_submit.sh: a job submitted by a person is the job that the DAGs submit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common import roles
from lakehouse.submit import SCRIPTS
from local.runbook_check import command_problems
from scripts import emr_submit
from tests.support import REPO

NAMES = {
    "AWS_REGION": "eu-central-1",
    "LAKE_BUCKET": "lake",
    "CODE_BUCKET": "code",
    "LAKEHOUSE_CONFIG": "s3://code/config/prod.yaml",
    "EMR_APPLICATION_ID": "00app",
    "EMR_EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/jobs",
    **dict.fromkeys(roles.SETTINGS, ""),
    "EMR_LOG_URI": "s3://lake/logs/emr/",
    "EMR_PYTHON_ARCHIVE": "s3://code/env/environment.tar.gz",
}
RUN = "20261120T060000Z-00000000-0000-0000-0000-000000000001"


def shell(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [str(REPO / "scripts" / "emr_submit.sh"), *arguments],
        env=known | {"LAKEHOUSE_STATE_DIR": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_job_that_is_none_is_named(tmp_path: Path) -> None:
    done = shell(tmp_path, "bronze_to_sliver")
    assert done.returncode == 2
    assert (
        "received the job 'bronze_to_sliver', expected a file of jobs/ or one of delta_optimize_vacuum"
        in done.stderr
    )


@pytest.mark.parametrize("script", ["table", "cost", "lineage", "report", "release"])
def test_a_script_that_needs_no_spark_is_not_submitted(tmp_path: Path, script: str) -> None:
    done = shell(tmp_path, script)
    assert done.returncode == 2
    assert f"run scripts/{script}.py here" in done.stderr


def test_everything_that_is_not_set_is_said_at_once(tmp_path: Path) -> None:
    done = shell(tmp_path, "bronze_to_silver", LAKE_BUCKET="lake")
    assert done.returncode == 2
    for name in {*emr_submit.NEEDED, "EMR_TRANSFORM_ROLE_ARN"} - {"LAKE_BUCKET"}:
        assert f"{name} is not set: " in done.stderr
    assert "make local-up" in done.stderr


def test_where_it_goes_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens there: it is the first line that counts, and that the Region is known by either name.
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    region = {"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-central-1"}
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    done = shell(tmp_path, "recover", "status", **{**NAMES, **nowhere, **region, **keys})
    first, *rest = done.stderr.splitlines()
    assert first == "target: EMR application 00app in http://127.0.0.1:9"
    assert "AWS refused" in rest[0]
    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert emr_submit._target(None) == "target: EMR application 00app in eu-central-1"
    assert emr_submit._target(tmp_path) == f"target: the local stack in {tmp_path}"


@pytest.mark.parametrize("job", ["dq_check_bronze", "recover"])
def test_the_submission_is_that_of_the_dags(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from common import spark

    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)
    request = emr_submit._request(job, f"jobs/{job}.py", ["--run-id", RUN], RUN)
    submit = request["jobDriver"]["sparkSubmit"]
    assert submit["entryPoint"] == f"s3://code/jobs/{job}.py"
    assert submit["sparkSubmitParameters"] == spark.submit_parameters(
        spark.JAR_SETS.get(job, ()), job=job, run_id=RUN
    )
    assert "driverEnv.LAKEHOUSE_CONFIG=s3://code/config/prod.yaml" in submit["sparkSubmitParameters"]
    assert request["configurationOverrides"]["applicationConfiguration"] == spark.application_configuration()
    assert request["name"] == f"by-hand:{RUN}:{job}"


def test_a_run_id_goes_before_what_a_script_takes() -> None:
    arguments = ["restore-silver", "--table", "silver.orders"]
    run_id = emr_submit._run_id(arguments)
    assert arguments == ["--run-id", run_id, "restore-silver", "--table", "silver.orders"]
    given = ["--run-id", RUN, "status"]
    assert emr_submit._run_id(given) == RUN
    assert len(given) == 3
    assert emr_submit._run_id(joined := ["status", f"--run-id={RUN}"]) == RUN
    assert len(joined) == 2


#: What each script that is submitted is told by a person.
TOLD = {
    "delta_optimize_vacuum": ["--table", "silver.orders", "--dry-run"],
    "quarantine": ["list", "--table", "silver.orders"],
    "recover": ["restore-silver", "--table", "silver.orders"],
    "register_glue_tables": ["--db", "all"],
    "run_ge_checks": ["--layer", "gold", "--table", "dim_fx"],
}


class FakeEmr:
    """Takes a submission and says how it ended."""

    def __init__(self, state: str, details: str) -> None:
        self.state, self.details = state, details
        self.taken: list[dict[str, Any]] = []

    def start_job_run(self, **request: Any) -> dict[str, str]:
        self.taken.append(request)
        return {"jobRunId": "job"}

    def get_job_run(self, **_: Any) -> dict[str, Any]:
        return {"jobRun": {"state": self.state, "stateDetails": self.details}}

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: [])


def submitted(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], state: str = "SUCCESS", details: str = ""
) -> tuple[int, dict[str, Any]]:
    """The exit code of a submission, and what EMR was sent; no job leaves an outcome or a log."""
    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)
    emr = FakeEmr(state, details)
    monkeypatch.setattr(emr_submit.boto3, "client", lambda *_, **__: emr)
    monkeypatch.setattr(emr_submit, "_read", lambda _: None)
    code = emr_submit.main(arguments)
    [request] = emr.taken
    return code, request


@pytest.mark.parametrize("job", [*SCRIPTS, *sorted(path.stem for path in (REPO / "jobs").glob("*.py"))])
def test_what_is_sent_is_what_the_job_takes(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    days = ["--from", "2026-01-01", "--to", "2026-01-02"]
    own = {"backfill": ["--source", "fx", *days], "dq_recheck": ["--table", "silver.orders"]}
    assert TOLD.keys() == SCRIPTS.keys()
    _, request = submitted(monkeypatch, [job, *(TOLD | own).get(job, [])])
    submit = request["jobDriver"]["sparkSubmit"]
    program = submit["entryPoint"].removeprefix("s3://code/")
    assert command_problems([program, *submit["entryPointArguments"]]) == []
    assert ("--run-id" in submit["entryPointArguments"]) == SCRIPTS.get(job, True)


@pytest.mark.parametrize(
    ("arguments", "role"), [(["bronze_to_silver"], "transform"), (["recover", "erase", "--status"], "erase")]
)
def test_it_runs_as_the_role_of_the_job(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], role: str
) -> None:
    monkeypatch.setitem(NAMES, "EMR_EXECUTION_ROLE_ARN", "")
    monkeypatch.setitem(NAMES, roles.setting(role), f"arn:aws:iam::123456789012:role/{role}")
    assert submitted(monkeypatch, arguments)[1]["executionRoleArn"].endswith(f"/{role}")


def test_who_submits_a_recovery_that_writes_is_said_beside_the_name_they_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    who = "arn:aws:sts::123456789012:assumed-role/OnCall/anna"
    monkeypatch.setattr(FakeEmr, "get_caller_identity", lambda _: {"Arn": who}, raising=False)
    told = [
        "recover",
        "discard",
        "--table",
        "bronze.fx_rates",
        "--run",
        RUN,
        "--apply",
        "--by",
        "ben",
        "--why",
        "x",
    ]
    sent = submitted(monkeypatch, told)[1]["jobDriver"]["sparkSubmit"]["entryPointArguments"]
    assert sent[-2:] == ["--submitted-by", who]
    assert command_problems(["scripts/recover.py", *sent]) == []
    told.remove("--apply")
    sent = submitted(monkeypatch, told)[1]["jobDriver"]["sparkSubmit"]["entryPointArguments"]
    assert "--submitted-by" not in sent


def test_a_backfill_has_the_time_that_its_dag_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ["--source", "fx", "--from", "2026-01-01", "--to", "2026-01-02"]
    assert submitted(monkeypatch, ["backfill", *told])[1]["executionTimeoutMinutes"] == 720
    assert submitted(monkeypatch, ["reconcile"])[1]["executionTimeoutMinutes"] == 180


@pytest.mark.parametrize("code", [2, 10, 11, 20])
@pytest.mark.parametrize("job", ["recover", "quarantine"])
def test_where_no_outcome_is_left_emr_says_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, job: str, code: int
) -> None:
    details = f"Job failed, please check complete logs. ExitCode: {code}. Last few exceptions: …"
    assert submitted(monkeypatch, [job, *TOLD[job]], "FAILED", details)[0] == code
    for other in ("ExitCode: -9.", "ExitCode: 137.", "ExitCode: 1.", ""):
        assert submitted(monkeypatch, [job, *TOLD[job]], "FAILED", other)[0] == 1


@pytest.mark.parametrize(
    ("state", "code", "error_class", "exit_code"),
    [
        ("SUCCESS", None, None, 0),
        ("FAILED", None, None, 1),
        ("FAILED", "GATE_FAILED", "terminal", 11),
        ("FAILED", "NOT_CERTIFIED", "terminal", 10),
        ("FAILED", "CONFIG", "terminal", 2),
        ("FAILED", "COMMIT_CONFLICT", "transient", 20),
    ],
)
def test_the_exit_code_is_that_of_the_job(
    state: str, code: str | None, error_class: str | None, exit_code: int
) -> None:
    outcome = {"error": {"code": code, "error_class": error_class} if code else None}
    assert emr_submit._exit_code(state, outcome, "ExitCode: 1.") == exit_code
