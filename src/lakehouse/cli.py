"""The shell around every job: arguments, settings, session, story, ``outcome.json``, exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from openlineage.client.event_v2 import RunState

from lakehouse import contracts
from lakehouse.delta import damage
from lakehouse.delta.broken import Broken
from lakehouse.errors import EXIT_UNEXPECTED, LakehouseError, writable
from lakehouse.masks import masked
from lakehouse.observe import lineage, logs, metrics
from lakehouse.observe.outcome import Failure, Outcome, Parent, write
from lakehouse.runs import new_run_id, run_time
from lakehouse.settings import Settings, load_settings, settings_location

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger("lakehouse.cli")


@dataclass
class Job:
    """One execution of one job. ``spark`` starts with its first use."""

    name: str
    settings: Settings
    run_id: str
    outcome: Outcome
    arguments: argparse.Namespace

    @cached_property
    def spark(self) -> SparkSession:
        from lakehouse.session import spark_session

        session = spark_session(f"{self.name}:{self.run_id}", self.settings.lake_uri)
        _note(
            self.outcome,
            lineage.emit(self.settings, self.outcome, RunState.RUNNING, spark_version=session.version),
        )
        return session

    def beside(self, name: str | None = None) -> Job:
        """This job for a thread of its own, with a session whose settings (a commit's tag is one) no other sees.

        With a ``name``, another job of the same run.
        """
        other = replace(self, name=name or self.name)
        other.__dict__["spark"] = self.spark.newSession()
        return other


def parser(job: str, description: str) -> argparse.ArgumentParser:
    """The arguments that every job takes."""
    result = argparse.ArgumentParser(prog=f"jobs/{job}.py", description=description)
    job_options(result, needs_config="LAKEHOUSE_CONFIG" not in os.environ)
    return result


def job_options(parser: argparse.ArgumentParser, *, needs_config: bool) -> None:
    """Add the arguments that every job takes."""
    parser.add_argument(
        "--config",
        default=os.environ.get("LAKEHOUSE_CONFIG"),
        required=needs_config,
        help="settings file, a path or s3:// URI (default: $LAKEHOUSE_CONFIG)",
    )
    parser.add_argument("--run-id", help="run to belong to, YYYYMMDDTHHMMSSZ-<uuid> (default: a new run)")
    airflow = parser.add_argument_group("given by Airflow, for lineage")
    airflow.add_argument("--airflow-dag-id")
    airflow.add_argument("--airflow-run-id")
    airflow.add_argument("--airflow-task-id")
    airflow.add_argument("--airflow-try", type=int, default=1)
    airflow.add_argument("--airflow-job-name", help="name of the EMR job run, the same for every try")


def main(
    job: str,
    story: Callable[[Job], None],
    description: str,
    *,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run a story as a job and leave the process with its exit code.

    Expected failures are told by one message and a next step, never a stack trace; unexpected ones are logged whole.
    """
    arguments = parser(job, description)
    if options is not None:
        options(arguments)
    sys.exit(run(job, story, arguments.parse_args(argv)))


def run(job: str, story: Callable[[Job], None], arguments: argparse.Namespace) -> int:
    """Run a story; returns the exit code. The outcome is written whatever happens, last."""
    started_at = datetime.now(UTC)
    try:
        run_id = arguments.run_id or new_run_id(started_at)
        run_time(run_id)
        settings = load_settings(arguments.config)
    except LakehouseError as error:
        logs.configure(run_id=arguments.run_id or "", job=job)
        _tell(job, error)
        return error.exit_code
    logs.configure(run_id=run_id, job=job)
    outcome = Outcome(
        job=job,
        run_id=run_id,
        processing="STREAMING" if getattr(arguments, "stream", False) else "BATCH",
        started_at=started_at,
        parent=_parent(arguments),
    )
    context = Job(job, settings, run_id, outcome, arguments)
    exit_code = 0
    _note(outcome, lineage.emit(settings, outcome, RunState.START))
    try:
        story(context)
        outcome.status = "succeeded"
    except Exception as raised:
        failure = damage.recognised(raised, lambda: broken_logs(settings))
        outcome.status = "failed"
        outcome.error, exit_code = _failure(failure)
        if isinstance(failure, LakehouseError):
            _tell(job, failure)
        else:
            log.exception("unexpected failure")
    outcome.finished_at = datetime.now(UTC)
    outcome.seconds = round((outcome.finished_at - started_at).total_seconds(), 3)
    _note(outcome, lineage.emit(settings, outcome, RunState.FAIL if exit_code else RunState.COMPLETE))
    if exit_code:
        _note(outcome, metrics.send(settings, metrics.metrics_of([outcome], settings.environment)))
    uri = write(settings, outcome)
    log.info("%s after %.1f s; outcome: %s", outcome.status, outcome.seconds, uri)
    return exit_code


def recognised(error: Exception, config: str | None) -> Exception:
    """What an error of a script says of tables that cannot be read, where that is what it says."""
    try:
        settings = load_settings(settings_location(config))
    except LakehouseError:
        return error
    return damage.recognised(error, lambda: broken_logs(settings))


def broken_logs(settings: Settings) -> dict[str, list[Broken]]:
    """Tables whose log is broken, for an error that names none."""
    return damage.look({name: settings.table_uri(name) for name in contracts.names()})


def _note(outcome: Outcome, problem: str | None) -> None:
    if problem is not None:
        outcome.notes.append(problem)


def _failure(error: Exception) -> tuple[Failure, int]:
    if isinstance(error, LakehouseError):
        return (
            # Sources quote what they were answered, and gates what they found.
            Failure(
                error_class=error.error_class,
                code=error.code,
                message=masked(error.message),
                hint=masked(error.hint),
            ),
            error.exit_code,
        )
    # AWS itself out of reach or throttling, and anything nobody foresaw: a retry may help and can do no harm,
    # since every write is idempotent.
    code = "AWS" if isinstance(error, BotoCoreError | ClientError) else "UNEXPECTED"
    return (
        Failure(
            error_class="transient",
            code=code,
            message=f"{type(error).__name__}: {masked(writable(str(error)))[:2000]}",
            hint="see the job's stderr log for the stack trace",
        ),
        EXIT_UNEXPECTED,
    )


def _parent(arguments: argparse.Namespace) -> Parent | None:
    if arguments.airflow_dag_id is None:
        return None
    return Parent(
        dag_id=arguments.airflow_dag_id,
        run_id=arguments.airflow_run_id,
        task_id=arguments.airflow_task_id,
        try_number=arguments.airflow_try,
        job_name=arguments.airflow_job_name,
    )


def _tell(job: str, error: LakehouseError) -> None:
    """Say an expected failure: words for a person at a terminal, else a line of the log."""
    words = f"{error.code} ({error.error_class}): {error.message}"
    if error.hint:
        words += f"\nWhat to do: {error.hint}"
    if sys.stderr.isatty():
        print(masked(f"{job}: {words}"), file=sys.stderr)
    else:
        log.error("%s", words)
