"""A lake of its own with the order stream on it: what `make stream-demo` and `make bench-stream` share."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local import airflow, stack
from local.demo import say
from local.stack import REPO, Stack
from local.supervisor import ServiceError

if TYPE_CHECKING:
    from common.stream import Stream

BRONZE, DLQ = "bronze/kafka_orders", "ops/kafka_orders_dlq"
TERMINAL = ("SUCCESS", "FAILED", "CANCELLED")


@dataclass(frozen=True)
class Counts:
    """Rows of Bronze and of the DLQ, and how many records of the topic they are together."""

    bronze: int
    dlq: int
    records: int
    reasons: list[tuple[str, int]]


def fresh(name: str) -> Stack:
    """An empty lake `.local/lakes/<name>` whose topic is read by the stream, its stack up, its tables made."""
    state = REPO / ".local" / "lakes" / name
    stack.make_current(state, say)
    if state.exists():
        stack.down(state, say)
        shutil.rmtree(state)
    running = stack.up(state, say, kafka_mode="stream")
    # The supervisor's code reads its settings where Airflow's workers have them.
    os.environ.update(airflow.environment(running) | {"LAKEHOUSE_STATE_DIR": str(state)})
    sys.path.insert(0, str(REPO / "dags"))
    logging.getLogger("common").setLevel(logging.WARNING)  # what the supervisor says at last is printed
    apply_contracts(running)
    return running


def stream_of(running: Stack) -> Stream:
    """The stream as the supervisor sees it."""
    from common.stream import Stream

    return Stream(running.client("emr-serverless"), running.client("s3"))


def produce(*arguments: str) -> subprocess.Popen[str]:
    """The producer, under way; the last line of its output says what it sent."""
    command = [sys.executable, str(REPO / "scripts" / "produce_test_orders.py"), *arguments]
    return subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True)


def produced(producer: subprocess.Popen[str]) -> dict[str, Any]:
    """What the producer says that it sent. Raises ServiceError where it failed; it has said why."""
    output, _ = producer.communicate()
    if producer.returncode:
        raise ServiceError(f"scripts/produce_test_orders.py ended with exit code {producer.returncode}")
    said: dict[str, Any] = json.loads(output.splitlines()[-1])
    return said


def watch(stream: Stream, run_id: str, seconds: float) -> Iterator[dict[str, Any] | None]:
    """The stream's progress, again and again, until its run has ended; None while this run has written none.

    Raises ServiceError after `seconds`.
    """
    end = time.monotonic() + seconds
    while True:
        job_run = stream.emr.get_job_run(applicationId=stream.application, jobRunId=run_id)["jobRun"]
        progress = stream.progress()
        mine = progress is not None and progress.at >= job_run["createdAt"].replace(microsecond=0)
        yield dict(progress.said) if progress is not None and mine else None
        if job_run["state"] in TERMINAL:
            return
        if time.monotonic() > end:
            raise ServiceError(
                f"the stream is not where it should be after {seconds:.0f} s: {logs(stream, run_id)}"
            )
        time.sleep(0.25)


def state_of(stream: Stream, run_id: str) -> tuple[str, str]:
    """State and details of a job run."""
    job_run = stream.emr.get_job_run(applicationId=stream.application, jobRunId=run_id)["jobRun"]
    return str(job_run["state"]), str(job_run.get("stateDetails") or "")


def ended_by_itself(stream: Stream) -> bool:
    """Whether the job that wrote the last progress left word that it ended well: a killed one cannot."""
    progress = stream.progress()
    if progress is None:
        return False
    key = f"runs/{progress.said['run_id']}/kafka_orders_to_bronze/outcome.json"
    try:
        outcome = json.loads(stream.s3.get_object(Bucket=stream.lake, Key=key)["Body"].read())
    except stream.s3.exceptions.NoSuchKey:
        return False
    return bool(outcome["status"] == "succeeded")


def logs(stream: Stream, run_id: str) -> str:
    """Where the driver's output is while it runs."""
    return str(Path(os.environ["LAKEHOUSE_STATE_DIR"]) / "emr" / "jobs" / run_id / "attempt-1")


def count(running: Stack) -> Counts:
    """Read both tables without Spark."""
    from deltalake import DeltaTable, QueryBuilder

    from local.aws.athena_worker import storage_options

    lake = f"s3://{running.exports['LAKE_BUCKET']}"
    tables = QueryBuilder()
    for name, path in (("bronze", BRONZE), ("dlq", DLQ)):
        tables.register(name, DeltaTable(f"{lake}/{path}", storage_options=storage_options()))

    def ask(sql: str) -> list[dict[str, Any]]:
        answer = tables.execute(sql)
        found: Any = answer.read_all() if hasattr(answer, "read_all") else answer
        return list(_rows(found))

    position = 'topic, "partition", "offset"'
    (totals,) = ask(
        "SELECT (SELECT count(*) FROM bronze) AS bronze, (SELECT count(*) FROM dlq) AS dlq, "
        f"(SELECT count(*) FROM (SELECT {position} FROM bronze UNION SELECT {position} FROM dlq)) AS records"
    )
    reasons = ask(
        "SELECT split_part(reason, ':', 1) AS what, count(*) AS events FROM "
        "(SELECT unnest(reasons) AS reason FROM dlq) GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    return Counts(
        int(totals["bronze"]), int(totals["dlq"]), int(totals["records"]),
        [(str(row["what"]), int(row["events"])) for row in reasons],
    )  # fmt: skip


def prove(counts: Counts, sent: dict[str, Any]) -> list[str]:
    """What does not add up; empty where every event that was sent is in exactly one table, once."""
    problems = []
    rows = counts.bronze + counts.dlq
    if rows != sent["produced"]:
        problems.append(f"produced {sent['produced']:,}, Bronze + DLQ {rows:,}")
    if counts.records != rows:
        problems.append(f"{rows - counts.records:,} rows are of a record that is there already")
    if counts.dlq != sent["flawed"]:
        problems.append(f"sent {sent['flawed']:,} broken events, the DLQ has {counts.dlq:,}")
    return problems


def _rows(found: Any) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    table = found if isinstance(found, pa.Table) else pa.table(found)
    yield from table.to_pylist()


def submit(running: Stack, job: str, entry_point: str, arguments: Sequence[str]) -> dict[str, str]:
    """Start a batch job on the running stack, as a DAG does; returns GetJobRun's parameters."""
    from common.stream import job_run_request

    request = job_run_request() | {"name": job, "mode": "BATCH", "executionTimeoutMinutes": 60}
    del request["retryPolicy"]
    request["jobDriver"]["sparkSubmit"] |= {
        "entryPoint": f"s3://{running.exports['CODE_BUCKET']}/{entry_point}",
        "entryPointArguments": ["--config", running.exports["LAKEHOUSE_CONFIG"], *arguments],
    }
    started = running.client("emr-serverless").start_job_run(clientToken=f"{job}-{time.time_ns()}", **request)
    return {"applicationId": started["applicationId"], "jobRunId": started["jobRunId"]}


def apply_contracts(running: Stack) -> None:
    """The job apply_contracts on a running stack. Raises ServiceError where it does not succeed."""
    here = submit(running, "apply_contracts", "jobs/apply_contracts.py", ())
    emr = running.client("emr-serverless")
    wait(lambda: emr.get_job_run(**here)["jobRun"]["state"] in TERMINAL, 300)
    job_run = emr.get_job_run(**here)["jobRun"]
    if job_run["state"] != "SUCCESS":
        raise ServiceError(f"apply_contracts ended {job_run['state']}: {job_run.get('stateDetails')}")


def wait(true: Callable[[], bool], seconds: float) -> None:
    """Raises ServiceError where it does not come true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise ServiceError(f"not done after {seconds:.0f} s; see `python -m local status`")
        time.sleep(0.25)
