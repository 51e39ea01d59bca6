"""EMR Serverless: states, tokens, cancellation, retries and errors as AWS has them, and jobs that really run."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from local.jars import SetupIncomplete, java_tool
from tests.local.aws_server import Server, bucket, without_java
from tests.support import REPO, Aws

ROLE = "arn:aws:iam::123456789012:role/job"
FINAL = ("SUCCESS", "FAILED", "CANCELLED")
# a minute of a job's timeout takes this long here
MINUTE = 0.2


@dataclass
class Emr:
    """The service with one application, and jobs given as Python text."""

    aws: Aws
    client: Any
    s3: Any
    application: str
    count: int = 0

    def start(
        self, body: str, *arguments: str, parameters: str = "", token: str | None = None, **more: Any
    ) -> str:
        self.count += 1
        key = f"jobs/job{self.count}.py"
        self.s3.put_object(Bucket="code", Key=key, Body=body.encode())
        driver = {"entryPoint": f"s3://code/{key}", "entryPointArguments": list(arguments)}
        if parameters:
            driver["sparkSubmitParameters"] = parameters
        return str(
            self.client.start_job_run(
                applicationId=self.application,
                executionRoleArn=ROLE,
                clientToken=token or f"token-{self.count}",
                jobDriver={"sparkSubmit": driver},
                **more,
            )["jobRunId"]
        )

    def get(self, run: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get_job_run(applicationId=self.application, jobRunId=run, **more)[
            "jobRun"
        ]
        return found

    def wait(self, run: str, *states: str, seconds: float = 300) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.get(run)
            if found["state"] in (states or FINAL):
                return found
            assert found["state"] not in FINAL, found
            time.sleep(0.05)
        raise AssertionError(f"{run} is {found['state']}")

    def output(self, run: str, name: str = "stdout", prefix: str = "logs/") -> str:
        key = f"{prefix}applications/{self.application}/jobs/{run}/SPARK_DRIVER/{name}.gz"
        return gzip.decompress(self.s3.get_object(Bucket="code", Key=key)["Body"].read()).decode()


LOGS: dict[str, Any] = {
    "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": "s3://code/logs/"}}
}


def application(aws: Aws, s3: Any) -> Emr:
    client = aws.client("emr-serverless")
    made = client.create_application(name="a", releaseLabel="emr-spark-8.2.0", type="SPARK", clientToken="a")
    return Emr(aws, client, s3, made["applicationId"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = without_java(tmp_path_factory.mktemp("jdk")) | {"LAKEHOUSE_EMR_MINUTE_SECONDS": str(MINUTE)}
    server = Server(tmp_path_factory.mktemp("emr"), env)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def emr(server: Server) -> Emr:
    """Drivers are plain Python here: what is tested does not depend on Spark."""
    aws = server.start()
    return application(aws, bucket(aws, "code"))


# -- applications --------------------------------------------------------------------------------------------


def test_an_application_has_the_states_of_aws(emr: Emr) -> None:
    client = emr.client
    made = client.create_application(
        name="b",
        releaseLabel="emr-spark-8.2.0",
        type="SPARK",
        clientToken="b",
        architecture="ARM64",
        maximumCapacity={"cpu": "16 vCPU", "memory": "64 GB"},
        tags={"k": "v"},
    )
    id_ = made["applicationId"]
    found = client.get_application(applicationId=id_)["application"]
    assert (found["state"], found["architecture"], found["type"]) == ("CREATED", "ARM64", "Spark")
    assert client.list_tags_for_resource(resourceArn=made["arn"])["tags"] == {"k": "v"}
    client.start_application(applicationId=id_)
    with pytest.raises(ClientError, match="must be in one of the following statuses") as error:
        client.delete_application(applicationId=id_)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    client.stop_application(applicationId=id_)
    updated = client.update_application(
        applicationId=id_, clientToken="u", maximumCapacity={"cpu": "8 vCPU", "memory": "32 GB"}
    )
    assert updated["application"]["maximumCapacity"]["cpu"] == "8 vCPU"
    client.delete_application(applicationId=id_)
    assert client.get_application(applicationId=id_)["application"]["state"] == "TERMINATED"
    listed = client.list_applications(states=["CREATED", "STARTED"])["applications"]
    assert id_ not in [a["id"] for a in listed]


@pytest.mark.parametrize("label", ["emr-spark-8.2.0", "emr-7.14.0"])
def test_release_labels_of_both_kinds_are_accepted(emr: Emr, label: str) -> None:
    emr.client.create_application(name=label, releaseLabel=label, type="SPARK", clientToken=label)


def test_an_unknown_release_label_is_refused(emr: Emr) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        emr.client.create_application(name="x", releaseLabel="spark-9", type="SPARK", clientToken="x")


def test_what_does_not_exist_is_not_found(emr: Emr) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        emr.client.get_application(applicationId="00nothing")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        emr.client.get_job_run(applicationId=emr.application, jobRunId="00nothing")


# -- job runs ------------------------------------------------------------------------------------------------


def test_a_job_that_ends_well(emr: Emr) -> None:
    run = emr.start(
        "import sys; print('hello', *sys.argv[1:])",
        "a",
        "b c",
        name="greeting",
        tags={"t": "1"},
        configurationOverrides=LOGS,
    )
    done = emr.wait(run)
    assert (done["state"], done["name"], done["attempt"], done["mode"]) == ("SUCCESS", "greeting", 1, "BATCH")
    assert done["executionTimeoutMinutes"] == 720
    assert done["endedAt"] >= done["startedAt"] >= done["createdAt"]
    assert emr.output(run) == "hello a b c\n"
    assert emr.get(run)["billedResourceUtilization"].keys() == {"vCPUHour", "memoryGBHour", "storageGBHour"}
    started = emr.client.get_application(applicationId=emr.application)["application"]
    assert started["state"] == "STARTED", "the first job starts the application"


def test_a_job_that_fails_says_its_exit_code_and_last_words(emr: Emr) -> None:
    run = emr.start("import sys; print('ValueError: no such table', file=sys.stderr); sys.exit(11)")
    done = emr.wait(run)
    assert done["state"] == "FAILED"
    assert done["stateDetails"].startswith(
        "Job failed, please check complete logs in configured logging destination. "
    )
    assert "ExitCode: 11" in done["stateDetails"]
    assert "ValueError: no such table" in done["stateDetails"]


def test_a_missing_entry_point_fails_the_job(emr: Emr) -> None:
    run = emr.client.start_job_run(
        applicationId=emr.application,
        executionRoleArn=ROLE,
        clientToken="missing",
        jobDriver={"sparkSubmit": {"entryPoint": "s3://code/jobs/no-such.py"}},
    )["jobRunId"]
    done = emr.wait(run)
    assert (done["state"], "s3://code/jobs/no-such.py" in done["stateDetails"]) == ("FAILED", True)


def test_confs_files_and_environment_reach_the_driver(emr: Emr) -> None:
    emr.s3.put_object(Bucket="code", Key="lib/a.zip", Body=b"zip")
    emr.s3.put_object(Bucket="code", Key="files/x.csv", Body=b"1,2")
    body = (
        "import os\n"
        "print(open(os.environ['PROPERTIES']).read())\n"
        "print('ENV', os.environ['RUN'], os.environ['AWS_ENDPOINT_URL'], os.environ['PYTHONDONTWRITEBYTECODE'])\n"
    )
    run = emr.start(
        body,
        parameters="--py-files s3://code/lib/a.zip --conf spark.x=from-parameters --conf 'spark.y=a b' "
        "--conf spark.emr-serverless.driverEnv.RUN=r1",
        configurationOverrides=LOGS
        | {
            "applicationConfiguration": [
                {
                    "classification": "spark-defaults",
                    "properties": {
                        "spark.x": "from-overrides",
                        "spark.z": "z",
                        "spark.files": "s3://code/files/x.csv",
                        "spark.jars": "/usr/share/aws/delta/lib/delta-spark.jar",
                    },
                }
            ]
        },
    )
    assert emr.wait(run)["state"] == "SUCCESS", emr.output(run, "stderr")
    text = emr.output(run)
    properties = dict(line.split(" ", 1) for line in text.split("ENV")[0].splitlines() if " " in line)
    assert properties["spark.x"] == "from-parameters"
    assert (properties["spark.y"], properties["spark.z"]) == ("a b", "z")
    assert properties["spark.submit.pyFiles"].endswith("/a.zip")
    assert properties["spark.files"].endswith("/x.csv")
    assert "spark.jars" not in properties, "the image's own jars are on the class path here"
    assert f"ENV r1 {emr.aws.endpoint} 1" in text


def test_an_archive_is_unpacked_where_its_interpreter_is_named_and_finds_pyspark_alone(emr: Emr) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        launcher = tarfile.TarInfo("bin/python")
        launcher.size = 9
        archive.addfile(launcher, io.BytesIO(b"launcher\n"))
    emr.s3.put_object(Bucket="code", Key="python/p.tar.gz", Body=packed.getvalue())
    body = """
import os
python = os.environ["PYSPARK_PYTHON"]
print(python, open(python).read().strip(), *sorted(os.listdir(os.environ["PYTHONPATH"])))
"""
    python = "spark.emr-serverless.driverEnv.PYSPARK_PYTHON=./environment/bin/python"
    archive_of = "spark.archives=s3://code/python/p.tar.gz#environment"
    run = emr.start(body, parameters=f"--conf {archive_of} --conf {python}", configurationOverrides=LOGS)
    assert emr.wait(run)["state"] == "SUCCESS"
    assert emr.output(run).split() == ["./environment/bin/python", "launcher", "py4j", "pyspark"]


@pytest.mark.parametrize(
    "parameters",
    ["--master yarn", "--conf nonsense", "stray", "--jars"],
    ids=["master", "conf", "stray", "no-value"],
)
def test_parameters_that_cannot_be_are_refused(emr: Emr, parameters: str) -> None:
    with pytest.raises(ClientError, match="ValidationException"):
        emr.start("", parameters=parameters)


def test_the_same_token_and_parameters_start_one_job(emr: Emr) -> None:
    request: dict[str, Any] = {
        "applicationId": emr.application,
        "executionRoleArn": ROLE,
        "clientToken": "once",
        "name": "n",
        "jobDriver": {"sparkSubmit": {"entryPoint": "s3://code/jobs/once.py"}},
    }
    emr.s3.put_object(Bucket="code", Key="jobs/once.py", Body=b"")
    first = emr.client.start_job_run(**request)["jobRunId"]
    assert emr.client.start_job_run(**request)["jobRunId"] == first
    with pytest.raises(ClientError, match="ConflictException"):
        emr.client.start_job_run(**(request | {"name": "other"}))
    emr.wait(first)
    assert emr.client.start_job_run(**request)["jobRunId"] == first


GRANDCHILD = """
import subprocess, sys, time, pathlib
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


def gone(pid: int) -> bool:
    for _ in range(1200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if (
            Path(f"/proc/{pid}/stat").exists()
            and Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
        ):
            return True
        time.sleep(0.05)
    return False


def started_child(path: Path) -> int:
    for _ in range(2400):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("the job has not started its child")


def test_cancelling_ends_the_whole_process_group(emr: Emr, tmp_path: Path) -> None:
    run = emr.start(GRANDCHILD, str(tmp_path / "pid"))
    child = started_child(tmp_path / "pid")
    emr.client.cancel_job_run(applicationId=emr.application, jobRunId=run)
    assert emr.wait(run)["state"] == "CANCELLED"
    assert gone(child)
    with pytest.raises(ClientError, match="ValidationException"):
        emr.client.cancel_job_run(applicationId=emr.application, jobRunId=run)


def test_a_job_that_ignores_sigterm_is_killed_after_its_grace(emr: Emr, tmp_path: Path) -> None:
    run = emr.start(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + GRANDCHILD, str(tmp_path / "pid")
    )
    started_child(tmp_path / "pid")
    emr.client.cancel_job_run(applicationId=emr.application, jobRunId=run, shutdownGracePeriodInSeconds=1)
    assert emr.wait(run, "CANCELLING", "CANCELLED")["state"] == "CANCELLING"
    assert emr.wait(run)["state"] == "CANCELLED"


def test_a_job_beyond_its_timeout_is_cancelled(emr: Emr) -> None:
    run = emr.start("import time; time.sleep(600)", executionTimeoutMinutes=5)
    done = emr.wait(run)
    assert (done["state"], "execution timeout of 5 minutes" in done["stateDetails"]) == ("CANCELLED", True)
    with pytest.raises(ClientError, match="at least 5 minutes"):
        emr.start("", executionTimeoutMinutes=4)


def test_a_failed_attempt_is_tried_again(emr: Emr, tmp_path: Path) -> None:
    body = (
        "import pathlib, sys\np = pathlib.Path(sys.argv[1]); n = len(p.read_text()) if p.exists() else 0\n"
        "p.write_text('x' * (n + 1)); sys.exit(20 if n < 2 else 0)"
    )
    run = emr.start(body, str(tmp_path / "n"), retryPolicy={"maxAttempts": 5})
    done = emr.wait(run)
    assert (done["state"], done["attempt"]) == ("SUCCESS", 3)
    attempts = emr.client.list_job_run_attempts(applicationId=emr.application, jobRunId=run)["jobRunAttempts"]
    assert [(a["attempt"], a["state"]) for a in attempts] == [(3, "SUCCESS"), (2, "FAILED"), (1, "FAILED")]
    assert "ExitCode: 20" in emr.get(run, attempt=1)["stateDetails"]


def test_jobs_beyond_the_limit_are_queued_and_run_in_order(emr: Emr, tmp_path: Path) -> None:
    gate, order = tmp_path / "gate", tmp_path / "order"
    hold = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"
    note = "import sys\nopen(sys.argv[1], 'a').write(sys.argv[2])"
    holding = [emr.start(hold, str(gate)) for _ in range(2)]
    for run in holding:
        emr.wait(run, "RUNNING")
    waiting = [emr.start(note, str(order), str(i)) for i in range(3)]
    dropped = emr.start(note, str(order), "never")
    assert {emr.get(run)["state"] for run in [*waiting, dropped]} == {"QUEUED"}
    emr.client.cancel_job_run(applicationId=emr.application, jobRunId=dropped)
    assert emr.get(dropped)["state"] == "CANCELLED"
    gate.touch()
    assert {emr.wait(run)["state"] for run in [*holding, *waiting]} == {"SUCCESS"}
    assert sorted(order.read_text()) == ["0", "1", "2"]
    assert emr.get(waiting[0])["queuedDurationMilliseconds"] > 0


def test_job_runs_are_listed_newest_first_in_pages_and_by_state(emr: Emr) -> None:
    runs = [emr.start("") for _ in range(3)]
    failed = emr.start("raise SystemExit(1)")
    for run in [*runs, failed]:
        emr.wait(run)
    pages = list(
        emr.client.get_paginator("list_job_runs").paginate(
            applicationId=emr.application, states=["SUCCESS"], PaginationConfig={"PageSize": 2}
        )
    )
    listed = [r["id"] for page in pages for r in page["jobRuns"]]
    assert listed[:3] == runs[::-1]
    assert failed not in listed
    assert all(len(page["jobRuns"]) <= 2 for page in pages)


def test_streaming_jobs_have_no_timeout_of_their_own(emr: Emr) -> None:
    run = emr.start("", mode="STREAMING", retryPolicy={"maxFailedAttemptsPerHour": 1})
    done = emr.wait(run)
    assert (done["mode"], done["executionTimeoutMinutes"]) == ("STREAMING", 0)
    assert done["retryPolicy"]["maxFailedAttemptsPerHour"] == 1


def test_there_is_no_dashboard(emr: Emr) -> None:
    run = emr.start("")
    with pytest.raises(ClientError, match="has no dashboard"):
        emr.client.get_dashboard_for_job_run(applicationId=emr.application, jobRunId=run)


# -- the server ends -----------------------------------------------------------------------------------------


def test_a_job_of_a_killed_server_is_reported_failed_and_its_processes_end(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Server(tmp_path / "state", without_java(tmp_path_factory.mktemp("jdk")))
    aws = server.start()
    emr = application(aws, bucket(aws, "code"))
    try:
        done = emr.start("")
        emr.wait(done)
        run = emr.start(GRANDCHILD, str(tmp_path / "pid"))
        child = started_child(tmp_path / "pid")
        server.kill()
        server.start()
        assert emr.get(done)["state"] == "SUCCESS"
        assert emr.get(run)["state"] == "FAILED"
        assert "stopped while the job was running" in emr.get(run)["stateDetails"]
        assert gone(child)
        again = emr.start(GRANDCHILD, str(tmp_path / "pid2"))
        child = started_child(tmp_path / "pid2")
        server.stop()
        assert gone(child)
        server.start()
        assert emr.get(again)["state"] == "FAILED"
    finally:
        server.stop()


# -- Spark ---------------------------------------------------------------------------------------------------


SPARK_JOB = """
import sys
from pyspark.sql import SparkSession
import helper
spark = SparkSession.builder.getOrCreate()
log = spark._jvm.org.apache.logging.log4j.LogManager.getLogger("io.a.library")
log.warn("[CAST_INVALID_INPUT] The value 'Jane Roe' for \\"jane@example.com\\"\\n - name : Jane Roe")
log.error("lost", spark._jvm.java.lang.RuntimeException("of jane@example.com"))
log.info("not told")
total = spark.range(100).selectExpr("sum(id) as n").first()["n"]
print("total", total, helper.NAME, spark.conf.get("spark.x"), spark.sparkContext.master)
if len(sys.argv) > 1:
    raise RuntimeError("as asked")
"""


def test_a_job_is_a_real_spark_submit(aws: Aws) -> None:
    try:
        java_tool()
    except SetupIncomplete as problem:
        pytest.fail(str(problem), pytrace=False)
    emr = application(aws, bucket(aws, "code"))
    library = io.BytesIO()
    with zipfile.ZipFile(library, "w") as archive:
        archive.writestr("helper.py", "NAME = 'from the zip'\n")
    emr.s3.put_object(Bucket="code", Key="lib/helper.zip", Body=library.getvalue())
    parameters = (
        "--py-files s3://code/lib/helper.zip --conf spark.x=1 "
        "--conf spark.emr-serverless.driverEnv.LAKEHOUSE_RUN_ID=r1 "
        "--conf spark.emr-serverless.driverEnv.LAKEHOUSE_JOB=a_job"
    )
    declared = yaml.safe_load((REPO / "emr_configs" / "logging.yaml").read_text())["jvm"]
    overrides = LOGS | {
        "applicationConfiguration": [{"classification": "spark-driver-log4j2", "properties": declared}]
    }
    runs = [
        emr.start(SPARK_JOB, *arguments, parameters=parameters, configurationOverrides=overrides)
        for arguments in ([], ["fail"])
    ]
    good, bad = (emr.wait(run, seconds=300) for run in runs)
    assert good["state"] == "SUCCESS", emr.output(runs[0], "stderr")
    assert "total 4950 from the zip 1 local[2]" in emr.output(runs[0])
    told = [line for line in emr.output(runs[0], "stderr").splitlines() if "io.a.library" in line]
    warned, lost = map(json.loads, told)
    assert (warned["level"], warned["run_id"], warned["job"]) == ("WARN", "r1", "a_job")
    assert datetime.fromisoformat(warned["ts"]).tzinfo is UTC
    assert warned["message"] == "[CAST_INVALID_INPUT] The value '...' for \"...@...\"\n - name : ..."
    assert "RuntimeException: of ...@..." in lost["message"]
    assert "\n\tat " in lost["message"], "the stack trace is in the line"
    assert good["totalExecutionDurationSeconds"] > 0
    assert good["billedResourceUtilization"]["vCPUHour"] > 0
    assert bad["state"] == "FAILED"
    assert "ExitCode: 1" in bad["stateDetails"]
    assert "RuntimeError: as asked" in bad["stateDetails"]
