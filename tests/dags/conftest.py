"""DAG tests: the DAGs folder on the path, a prepared Airflow, and an EMR Serverless whose jobs are plain scripts.

Airflow reads its configuration when it is first imported, so the environment is set before that, here.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
DAGS = REPO / "dags"
_home = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ |= {
    "AIRFLOW_HOME": _home.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home.name}/airflow.db",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
}
sys.path.insert(0, str(DAGS))

# In place of Java: the local EMR asks it once for the options of a driver, and runs the entry point with it. No JVM is
# needed to see what Airflow makes of a job that succeeds, fails, dies or is still alive.
JAVA = """#!/bin/sh
main=org.apache.spark.deploy.SparkSubmit
case " $* " in *" org.apache.spark.launcher.Main "*) echo $main; exit;; esac
while [ "$1" != $main ]; do shift; done
shift
while case "$1" in -*) true;; *) false;; esac; do shift 2; done
exec {python} "$@"
"""
# How a job writes an object: to load boto3 takes six times as long as all else that such a job does.
PUT = """
import os, urllib.request
def put(key, body=b""):
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/x/s3/aws4_request"}
    uri = f"{os.environ['AWS_ENDPOINT_URL']}/BUCKET/{key}"
    request = urllib.request.Request(uri, body, signed, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
"""
# A job does what its script in the code bucket says; `say` writes the outcome as the jobs' shell does.
JOB = """
import argparse, datetime, json, os, signal, sys, time
parser = argparse.ArgumentParser()
for name in ("config", "run-id", "airflow-dag-id", "airflow-run-id", "airflow-task-id", "airflow-try",
             "airflow-job-name", "db"):
    parser.add_argument("--" + name)
args = parser.parse_args()
job = os.path.basename(sys.argv[0]).removesuffix(".py")
now = lambda: datetime.datetime.now(datetime.UTC).isoformat()

def say(error=None, started_at=now(), **more):
    outcome = {{"job": job, "run_id": args.run_id, "status": "failed" if error else "succeeded",
               "started_at": started_at, "error": error,
               "tables": [{{"table": "silver.orders", "version": 3,
                          "ledger": {{"read": 1200, "inserted": 1199, "quarantined": 1}}}}],
               "verdicts": [], "notes": []}} | more
    put(f"runs/{{args.run_id}}/{{job}}/outcome.json", json.dumps(outcome).encode())

def fail(error_class, code):
    say({{"error_class": error_class, "code": code, "message": "what happened", "hint": "what to do"}})
    sys.exit({{"terminal": 10, "transient": 20}}[error_class])

{body}
"""


@dataclass
class Emr:
    """The local EMR Serverless with jobs written by a test."""

    stack: Any
    code: str
    lake: str
    _scripts: dict[str, str] = field(default_factory=dict)

    def job(self, name: str, body: str = "say()", folder: str = "jobs") -> None:
        text = PUT.replace("BUCKET", self.lake) + JOB.format(body=body)
        self.stack.client("s3").put_object(Bucket=self.code, Key=f"{folder}/{name}.py", Body=text.encode())

    def runs(self, name_part: str = "") -> list[dict[str, Any]]:
        pages = (
            self.stack.client("emr-serverless")
            .get_paginator("list_job_runs")
            .paginate(applicationId=self.application)
        )
        return [run for page in pages for run in page["jobRuns"] if name_part in run["name"]]

    @property
    def application(self) -> str:
        return str(self.stack.exports["EMR_APPLICATION_ID"])

    def put_outcome(self, run_id: str, job: str, body: bytes) -> None:
        self.stack.client("s3").put_object(
            Bucket=self.lake, Key=f"runs/{run_id}/{job}/outcome.json", Body=body
        )


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    """Airflow says what it does at INFO; a job that ran in this process before may have asked for less."""
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="session")
def emr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emr]:
    """The real service of local/aws, a process of its own, with drivers that need no Spark."""
    from local import stack as stacks
    from local.supervisor import Supervisor

    java = tmp_path_factory.mktemp("jdk") / "bin" / "java"
    java.parent.mkdir()
    java.write_text(JAVA.format(python=sys.executable))
    java.chmod(0o755)
    state = tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_HOME", str(java.parent.parent))
        stack = stacks.up(state, lambda _: None, only=["aws"])
    try:
        yield Emr(stack, stack.exports["CODE_BUCKET"], stack.exports["LAKE_BUCKET"])
    finally:
        Supervisor(state).stop("aws")
