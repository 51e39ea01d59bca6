"""Run a DAG once by `airflow dags test`, with a line per task on the terminal and the tasks' logs in files.

`dags test` is Airflow itself (its parser, templates, operators, retries, callbacks and database) without the services:
it runs one task after another. On two cores that is as fast as the services (docs/adr/0011).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from local import airflow, bootstrap
from local.stack import Stack, running
from local.supervisor import ServiceError

DAILY = "daily_batch_pipeline"
#: Seconds an interrupted run gets to cancel its job and end by itself.
GRACE = 8.0
_STARTING = re.compile(r"\[DAG TEST\] starting task_id=(\S+)")
_RUNNING = re.compile(r"\[DAG TEST\] running task <TaskInstance: \S+ (\S+) \[")
#: Airflow's talk with its own in-process API, and the second copy of every line of a task's log.
_NOISE = re.compile(
    r"\[debug    \]|HTTP Request: |^\[\d{4}-\d\d-\d\d \d\d:|configprovider\.py|credentials\.py"
)
_EXCEPTION = re.compile(r"^(?:airflow\.exceptions\.)?Airflow\w*Exception: (.*)")


@dataclass(frozen=True)
class Failure:
    """Why a task failed, as its job said it or, where it could not, as Airflow saw it."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False


@dataclass(frozen=True)
class TaskResult:
    """What became of one task. `state` is Airflow's; a task that never ran is `upstream_failed` or None."""

    task_id: str
    state: str | None
    seconds: float | None
    tries: int
    log: Path
    failure: Failure | None = None
    outcome: dict[str, Any] | None = None
    job_run: dict[str, Any] | None = None

    @property
    def ran(self) -> bool:
        return self.tries > 0


@dataclass(frozen=True)
class RunResult:
    """What became of a DAG run; tasks in the order in which they ran."""

    dag_id: str
    dag_run_id: str | None
    state: str
    seconds: float
    logs: Path
    tasks: list[TaskResult] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return self.state == "success"

    @property
    def run_id(self) -> str | None:
        """The run id that the jobs of this DAG run share."""
        return next((task.job_run["run_id"] for task in self.tasks if task.job_run), None)

    @property
    def failed(self) -> list[TaskResult]:
        return [task for task in self.tasks if task.state == "failed"]


def run(
    stack: Stack, dag_id: str = DAILY, conf: dict[str, Any] | None = None, out: TextIO = sys.stdout
) -> RunResult:
    """Run the DAG once, now. Returns whatever happened; raises ServiceError only where Airflow itself did not run."""
    airflow.prepare(stack)
    bootstrap.ship(stack)
    begun = time.monotonic()
    logs = airflow.home(stack.state) / "logs" / "runs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{dag_id}"
    logs.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        airflow.dags_test(dag_id, *(["--conf", json.dumps(conf)] if conf else [])),
        env=airflow.environment(stack),
        cwd=airflow.home(stack.state),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for this process, which ends the run in order
    )
    watch = _Watch(stack, dag_id, logs, out)
    try:
        watch.follow(process)
        process.wait()
    except BaseException:
        _end(process, stack, dag_id, watch.dag_run_id)
        raise
    finally:
        watch.close()
    seconds = time.monotonic() - begun
    if watch.dag_run_id is None:
        tail = "\n".join(f"  | {line}" for line in _tail(logs / "airflow.log", 15))
        raise ServiceError(
            f"Airflow did not run {dag_id} (exit code {process.returncode}). Its output:\n{tail}"
        )
    tasks, state = results(stack, dag_id, watch.dag_run_id, logs)
    for task in tasks:
        if not task.ran:
            print(f"  {task.task_id:<28}not run", file=out, flush=True)
    return RunResult(dag_id, watch.dag_run_id, state, seconds, logs, tasks)


def results(stack: Stack, dag_id: str, dag_run_id: str, logs: Path) -> tuple[list[TaskResult], str]:
    """The tasks of a run, and its state, from Airflow's database."""
    with closing(_connect(stack)) as db:
        (state,) = db.execute(
            "select state from dag_run where dag_id = ? and run_id = ?", (dag_id, dag_run_id)
        ).fetchone()
        rows = db.execute(
            "select task_id, state, try_number, start_date, end_date from task_instance "
            "where dag_id = ? and run_id = ? order by start_date is null, start_date",
            (dag_id, dag_run_id),
        ).fetchall()
        notes: dict[str, dict[str, Any]] = {}
        for task_id, key, value in db.execute(
            "select task_id, key, value from xcom where dag_id = ? and run_id = ? "
            "and key in ('failure', 'outcome', 'job_run')",
            (dag_id, dag_run_id),
        ):
            notes.setdefault(task_id, {})[key] = _xcom(value)
    tasks = []
    for task_id, task_state, tries, start, end in rows:
        note, log = notes.get(task_id, {}), logs / f"{task_id}.log"
        tasks.append(
            TaskResult(
                task_id=task_id,
                state=task_state,
                seconds=_seconds(start, end),
                tries=tries,
                log=log,
                failure=_failure(note.get("failure"), log) if task_state == "failed" else None,
                outcome=note.get("outcome"),
                job_run=note.get("job_run"),
            )
        )
    return tasks, state


class _Watch:
    """Reads Airflow's output: progress to the terminal, each task's lines to its file."""

    def __init__(self, stack: Stack, dag_id: str, logs: Path, out: TextIO) -> None:
        self.stack, self.dag_id, self.logs, self.out = stack, dag_id, logs, out
        self.dag_run_id: str | None = None
        self.task_id: str | None = None
        self.begun = time.monotonic()
        self.file = open(logs / "airflow.log", "a", encoding="utf-8")  # noqa: SIM115
        self.live = out.isatty()
        self.stop = threading.Event()
        self.clock = threading.Thread(target=self._tick, daemon=True)

    def follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        if self.live:
            self.clock.start()
        for line in process.stdout:
            if match := _STARTING.search(line):
                self._switch(match.group(1))
            elif match := _RUNNING.search(line):
                self.dag_run_id = match.group(1)
            if not _NOISE.search(line):
                self.file.write(line)
                self.file.flush()
        self._switch(None)

    def close(self) -> None:
        self.stop.set()
        if self.clock.is_alive():
            self.clock.join()
        self.file.close()

    def _switch(self, task_id: str | None) -> None:
        """Another task begins: print how the one before ended, and start a line for this one."""
        if self.task_id is not None:
            self._ended(self.task_id)
        self.file.close()
        name = f"{task_id}.log" if task_id else "airflow.log"
        self.file = open(self.logs / name, "a", encoding="utf-8")  # noqa: SIM115
        self.task_id, self.begun = task_id, time.monotonic()
        if task_id is not None:
            self.out.write(f"  {task_id:<28}")
            self.out.flush()

    def _ended(self, task_id: str) -> None:
        seconds = time.monotonic() - self.begun
        word, more = "?", ""
        with suppress(sqlite3.Error, TypeError):
            tasks, _ = results(self.stack, self.dag_id, self.dag_run_id or "", self.logs)
            task = next(task for task in tasks if task.task_id == task_id)
            word = {"success": "ok", "failed": "FAILED", "up_for_retry": "failed, is tried again"}.get(
                task.state or "", task.state or "?"
            )
            if task.failure:
                more = f"  {task.failure.code}: {task.failure.message}"
        if self.live:
            self.out.write(f"\r  {task_id:<28}")
        self.out.write(f"{seconds:6.1f} s  {word}{_shorten(more)}\n")
        self.out.flush()

    def _tick(self) -> None:
        """On a terminal, the seconds that the running task has taken so far."""
        while not self.stop.wait(1):
            if (task_id := self.task_id) is not None:
                self.out.write(f"\r  {task_id:<28}{time.monotonic() - self.begun:6.0f} s")
                self.out.flush()


def _end(process: subprocess.Popen[str], stack: Stack, dag_id: str, dag_run_id: str | None) -> None:
    """End an interrupted run and leave no job behind: the running task cancels its own when told to end."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if dag_run_id is None:
        return
    for job_run in _live_jobs(stack, f"{dag_id}:{dag_run_id}:"):
        stack.client("emr-serverless").cancel_job_run(
            applicationId=stack.exports["EMR_APPLICATION_ID"], jobRunId=job_run
        )
    # A run that is `running` for ever would keep the scheduler of the UI from starting another.
    with closing(sqlite3.connect(airflow.database(stack.state), timeout=10)) as db, db:
        db.execute(
            "update dag_run set state = 'failed', end_date = ? where dag_id = ? and run_id = ? and state = 'running'",
            (f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}", dag_id, dag_run_id),
        )


def _live_jobs(stack: Stack, prefix: str) -> Iterator[str]:
    pages = (
        stack.client("emr-serverless")
        .get_paginator("list_job_runs")
        .paginate(
            applicationId=stack.exports["EMR_APPLICATION_ID"],
            states=["SUBMITTED", "QUEUED", "PENDING", "SCHEDULED", "RUNNING"],
        )
    )
    for page in pages:
        yield from (run["id"] for run in page["jobRuns"] if run.get("name", "").startswith(prefix))


def _connect(stack: Stack) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{airflow.database(stack.state)}?mode=ro", uri=True, timeout=10)


def _xcom(value: Any) -> Any:
    """A stored XCom: JSON, in some versions inside a JSON string."""
    decoded = json.loads(value) if isinstance(value, str | bytes) else value
    return json.loads(decoded) if isinstance(decoded, str) and decoded[:1] in "{[" else decoded


def _failure(note: dict[str, Any] | None, log: Path) -> Failure:
    if note:
        return Failure(note["code"], note["message"], note.get("hint") or "", bool(note.get("retryable")))
    said = [match.group(1) for line in _tail(log, 400) if (match := _EXCEPTION.match(line.strip()))]
    return Failure("TASK_FAILED", said[-1] if said else f"see {log}")


def _seconds(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _tail(path: Path, lines: int) -> list[str]:
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return []


def _shorten(text: str, width: int = 110) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= width else text[: width - 1] + "…"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.airflow_run", description=__doc__.splitlines()[0])
    parser.add_argument("dag_id", nargs="?", default=DAILY)
    parser.add_argument(
        "--conf", type=json.loads, help='parameters of the run as JSON, e.g. \'{"run_id": "…"}\''
    )
    args = parser.parse_args(argv)
    try:
        result = run(running(), args.dag_id, args.conf)
    except ServiceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the running job has been cancelled", file=sys.stderr)
        return 130
    for task in result.failed:
        if task.failure:
            print(f"\n{task.task_id}: {task.failure.code}: {task.failure.message}")
            if task.failure.hint:
                print(f"What to do: {task.failure.hint}")
            print(f"Log: {task.log}")
    print(f"\n{result.dag_id} {result.state} after {result.seconds:.0f} s; logs in {result.logs}")
    return 0 if result.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
