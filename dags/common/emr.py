"""The operator that runs one lakehouse job on EMR Serverless.

It adds to the provider's operator what a pipeline needs to be rerun safely: a job of an earlier try that is still
alive is adopted and not started twice, the job's own word (outcome.json) decides whether a retry can help, and a
killed task leaves no job behind.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.amazon.aws.hooks.emr import EmrServerlessHook
from airflow.providers.amazon.aws.links.emr import EmrServerlessS3LogsLink
from airflow.providers.amazon.aws.operators.emr import EmrServerlessStartJobOperator
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from common import exit_codes, run_ids, settings, spark

#: States in which a job run will still do work; a new try adopts it.
LIVE = ("SUBMITTED", "QUEUED", "PENDING", "SCHEDULED", "RUNNING")
FINAL = ("SUCCESS", "FAILED", "CANCELLED")
#: AWS errors that come again however often one asks.
TERMINAL_AWS_ERRORS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "InvalidSignatureException",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
        "ValidationException",
    }
)
#: Polls that may fail in a row (network, throttling) before the task gives up; its job runs on and is adopted.
MAX_FAILED_POLLS = 5
LEDGER = (
    "read",
    "generated",
    "inserted",
    "updated",
    "unchanged",
    "quarantined",
    "duplicates",
    "superseded",
    "conflicts",
)
LOG_TAIL_LINES = 40
DEFAULT_TIMEOUT = timedelta(hours=1)
#: EMR Serverless refuses less.
MIN_EMR_TIMEOUT_MINUTES = 5


class LakehouseJobOperator(EmrServerlessStartJobOperator):
    """Run `jobs/<job>.py` on EMR Serverless and report how it ended.

    :param job: the job's name; its outcome is read from s3://LAKE_BUCKET/runs/<run id>/<job>/outcome.json.
    :param arguments: arguments after those every job gets. (templated)
    :param entry_point: path in the code bucket where it is not jobs/<job>.py.
    """

    template_fields: Sequence[str] = (*EmrServerlessStartJobOperator.template_fields, "outcome_uri")
    # The only link whose target exists here; each further one costs the task three calls of Airflow's API.
    operator_extra_links = (EmrServerlessS3LogsLink(),)

    def __init__(
        self,
        *,
        job: str,
        arguments: Sequence[str] = (),
        entry_point: str | None = None,
        execution_timeout: timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.job = job
        self.arguments = tuple(arguments)
        self.jar_sets = spark.JAR_SETS.get(job, ())
        self.outcome_uri = (
            "s3://{{ setting('LAKE_BUCKET') }}/runs/{{ lakehouse_run_id }}/" + job + "/outcome.json"
        )
        delay = poll_seconds()
        super().__init__(
            application_id="{{ setting('EMR_APPLICATION_ID') }}",
            execution_role_arn="{{ execution_role }}",
            name="{{ job_name }}",
            job_driver={
                "sparkSubmit": {
                    "entryPoint": "s3://{{ setting('CODE_BUCKET') }}/" + (entry_point or f"jobs/{job}.py"),
                    "entryPointArguments": [*_COMMON_ARGUMENTS, *arguments],
                    "sparkSubmitParameters": "{{ spark_submit_parameters }}",
                }
            },
            configuration_overrides={
                "applicationConfiguration": _verbatim(spark.application_configuration()),
                "monitoringConfiguration": spark.monitoring_configuration("{{ log_uri }}"),
            },
            config={
                "clientToken": "{{ client_token }}",
                # EMR's own limit, for the case that no worker is left to cancel the job.
                "executionTimeoutMinutes": max(MIN_EMR_TIMEOUT_MINUTES, _minutes(execution_timeout)),
            },
            # The provider submits; waiting is done here, where a failure can be told apart.
            wait_for_completion=False,
            deferrable=False,  # 9.12.0 does not cancel a deferred job when its task is killed
            waiter_delay=math.ceil(delay),
            waiter_max_attempts=math.ceil(execution_timeout.total_seconds() / delay) + 1,
            execution_timeout=execution_timeout,
            aws_conn_id=aws_conn_id,
            **kwargs,
        )
        self.poll_seconds = delay

    @property
    def hook(self) -> EmrServerlessHook:
        return _emr(self.aws_conn_id, self.region_name)

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render with the names of this project beside Airflow's own."""
        ti, dag_run = context["ti"], context["dag_run"]
        name = run_ids.job_name(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        run_id = run_ids.of_dag_run(dag_run, (context.get("params") or {}).get("run_id"))
        names = {
            "setting": settings.require,
            "log_uri": _Lazy(settings.log_uri),
            "execution_role": _Lazy(
                lambda: settings.execution_role(self.job, self._asked(context, jinja_env))
            ),
            "spark_submit_parameters": _Lazy(
                lambda: spark.submit_parameters(self.jar_sets, job=self.job, run_id=run_id)
            ),
            "lakehouse_run_id": run_id,
            "job_name": name,
            "client_token": run_ids.client_token(name, ti.try_number, ti.id),
        }
        super().render_template_fields({**context, **names}, jinja_env)

    def _asked(self, context: Any, jinja_env: Any) -> list[str]:
        """The job's own arguments of this run: its role may depend on them."""
        return [str(one) for one in self.render_template(list(self.arguments), context, jinja_env)]

    def execute(self, context: Any, event: dict[str, Any] | None = None) -> str | None:
        """Adopt or start the job, wait for its end, and turn that into Airflow's success, failure or retry."""
        ti = context["ti"]
        try:
            job_run = self._run(context)
        except KeyboardInterrupt:
            self.on_kill()
            raise
        except (AirflowException, BotoCoreError, ClientError) as error:
            raise self._exception(context, _failed_call(error)) from error
        outcome = self._outcome(job_run)
        ti.xcom_push("job_run", self._summary(job_run))
        if outcome is not None:
            ti.xcom_push("outcome", outcome)
        if job_run["state"] == "SUCCESS" and (outcome is None or outcome.get("status") == "succeeded"):
            self._log_success(outcome)
            return self.job_id
        raise self._exception(context, self._failure(job_run, outcome))

    def on_kill(self) -> None:
        """Cancel the job run; a job that has already ended is no error."""
        if not self.job_id:
            return
        self.log.info("Cancelling job run %s", self.job_id)
        try:
            self.hook.conn.cancel_job_run(applicationId=self.application_id, jobRunId=self.job_id)
        except ClientError as error:
            self.log.info("Job run %s could not be cancelled, it may have ended: %s", self.job_id, error)

    def _run(self, context: Any) -> dict[str, Any]:
        self.job_id = self._live_job_run()
        if self.job_id is None:
            super().execute(context)
        else:
            self.log.info("Job run %s named %s is still alive: it is adopted.", self.job_id, self.name)
            self.persist_links(context)
        self.log.info("Logs of the job: %s", self._log_location())
        return self._wait()

    def _live_job_run(self) -> str | None:
        """The live job run of this task's name. One that is being cancelled is first given time to end."""
        while True:
            found = self._job_runs([*LIVE, "CANCELLING"])
            live = [run for run in found if run["state"] != "CANCELLING"]
            if live:
                if len(live) > 1:
                    others = ", ".join(run["id"] for run in live[1:])
                    self.log.warning(
                        "More than one job run named %s is alive; not adopted: %s", self.name, others
                    )
                return str(live[0]["id"])
            if not found:
                return None
            self.log.info("Waiting for job run %s, which is being cancelled.", found[0]["id"])
            time.sleep(self.poll_seconds)

    def _job_runs(self, states: Sequence[str]) -> list[dict[str, Any]]:
        """Job runs of this task's name in these states, newest first. ListJobRuns cannot filter by name."""
        found = []
        request: dict[str, Any] = {
            "applicationId": self.application_id,
            "states": list(states),
            "maxResults": 50,
        }
        while True:
            page = self.hook.conn.list_job_runs(**request)
            found += [run for run in page["jobRuns"] if run.get("name") == self.name]
            if not page.get("nextToken"):
                return sorted(found, key=lambda run: run["createdAt"], reverse=True)
            request["nextToken"] = page["nextToken"]

    def _wait(self) -> dict[str, Any]:
        """Poll until the job run has ended. Ends by itself only when Airflow's execution timeout does not."""
        state, failed_polls, deadline = (
            None,
            0,
            time.monotonic() + self.execution_timeout.total_seconds() + 60,
        )
        while time.monotonic() < deadline:
            try:
                job_run = self.hook.conn.get_job_run(applicationId=self.application_id, jobRunId=self.job_id)[
                    "jobRun"
                ]
                failed_polls = 0
            except (BotoCoreError, ClientError) as error:
                failed_polls += 1
                if failed_polls >= MAX_FAILED_POLLS:
                    raise
                self.log.warning("The state of job run %s is unknown for now: %s", self.job_id, error)
            else:
                if job_run["state"] != state:
                    state = job_run["state"]
                    self.log.info(
                        "Job run %s is %s %s", self.job_id, state, job_run.get("stateDetails") or ""
                    )
                if state in FINAL:
                    return dict(job_run)
            time.sleep(self.poll_seconds)
        self.on_kill()
        raise AirflowException(f"Job run {self.job_id} did not end within {self.execution_timeout}.")

    def _outcome(self, job_run: dict[str, Any]) -> dict[str, Any] | None:
        """The outcome the job left, if it is this job run's and not that of an earlier try."""
        try:
            outcome = json.loads(self._read(self.outcome_uri))
            started = datetime.fromisoformat(outcome["started_at"])
        except (BotoCoreError, ClientError, ValueError, KeyError, TypeError) as error:
            self.log.info("No outcome at %s: %s", self.outcome_uri, error)
            return None
        started = started if started.tzinfo else started.replace(tzinfo=UTC)
        # EMR may report whole seconds, the job reports microseconds.
        if started < job_run["createdAt"].replace(microsecond=0):
            self.log.info("The outcome at %s is of an earlier try (started %s).", self.outcome_uri, started)
            return None
        return dict(outcome)

    def _failure(self, job_run: dict[str, Any], outcome: dict[str, Any] | None) -> dict[str, Any]:
        """Code, message, hint, and whether a retry can help: in the job's words, or read off how it ended."""
        if error := (outcome or {}).get("error"):
            return {
                "code": error["code"],
                "message": error["message"],
                "hint": error.get("hint") or "",
                "retryable": error["error_class"] != "terminal",
            }
        for line in self._log_tail():
            self.log.error("  | %s", line)
        details = job_run.get("stateDetails") or "EMR Serverless gives no reason"
        message = f"job {self.job} ended {job_run['state']} without an outcome ({details})"
        if job_run["state"] == "CANCELLED":  # whoever cancels a job by hand wants it to stay cancelled
            hint = "clear the task to run the job again"
            return {"code": "CANCELLED", "message": message, "hint": hint, "retryable": False}
        code = exit_codes.TERMINAL.get(exit_codes.exit_code(details) or 0)
        return {
            "code": code or "JOB_DIED",
            "message": message,
            "hint": f"the driver's output is in {self._log_location()}",
            "retryable": code is None,
        }

    def _exception(self, context: Any, failure: dict[str, Any]) -> AirflowException:
        """Log a failure, keep it for the notice and for whoever asks Airflow, and say it in Airflow's own terms."""
        message = f"{failure['code']}: {failure['message']}"
        if failure["hint"]:
            message += f" — {failure['hint']}"
        self.log.error("%s", message)
        if self.job_id:
            self.log.error("Logs of the job: %s", self._log_location())
        context["ti"].xcom_push("failure", failure)
        if failure["retryable"]:
            self.log.error("This may pass: the task is tried again if tries are left.")
        else:
            self.log.error("Trying again cannot help: the task is not retried.")
        kind = AirflowException if failure["retryable"] else AirflowFailException
        # Airflow 3.0 gives callbacks the exception in a worker, not in `dags test`.
        context["exception"] = kind(message)
        return context["exception"]

    def _summary(self, job_run: dict[str, Any]) -> dict[str, Any]:
        """What is worth keeping of a job run, as JSON."""
        used = job_run.get("billedResourceUtilization") or {}
        return {
            "id": self.job_id,
            "run_id": self.outcome_uri.split("/runs/", 1)[1].split("/", 1)[0],
            "state": job_run["state"],
            "details": job_run.get("stateDetails"),
            "seconds": job_run.get("totalExecutionDurationSeconds"),
            "billed": {key: value for key, value in used.items() if isinstance(value, int | float)},
            "logs": self._log_location(),
        }

    def _log_success(self, outcome: dict[str, Any] | None) -> None:
        if outcome is None:
            self.log.warning("Job run %s succeeded but left no outcome at %s.", self.job_id, self.outcome_uri)
            return
        for line in ledger_lines(outcome):
            self.log.info("%s", line)
        for verdict in outcome.get("verdicts") or ():
            self.log.info(
                "verdict %s: %s %s", verdict.get("table"), verdict.get("outcome"), verdict.get("uri") or ""
            )
        for note in outcome.get("notes") or ():
            self.log.info("note: %s", note)

    def _log_location(self) -> str:
        base = self.configuration_overrides["monitoringConfiguration"]["s3MonitoringConfiguration"]["logUri"]
        return f"{base}applications/{self.application_id}/jobs/{self.job_id}/SPARK_DRIVER/"

    def _log_tail(self) -> list[str]:
        """The end of the driver's stderr, for a job that could not say itself what happened."""
        try:
            text = gzip.decompress(self._read_bytes(self._log_location() + "stderr.gz")).decode(
                "utf-8", "replace"
            )
        except (BotoCoreError, ClientError, OSError, EOFError):
            return []
        return text.splitlines()[-LOG_TAIL_LINES:]

    def _read(self, uri: str) -> str:
        return self._read_bytes(uri).decode("utf-8")

    def _read_bytes(self, uri: str) -> bytes:
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        client = _s3(self.aws_conn_id, self.region_name)
        return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())


def _failed_call(error: Exception) -> dict[str, Any]:
    """A failure of asking EMR Serverless, where the job itself has said nothing."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "AWS")
        terminal = code in TERMINAL_AWS_ERRORS
    else:
        code = "EMR"
        terminal = isinstance(error, AirflowFailException | ParamValidationError | NoCredentialsError)
    hint = "compare the Airflow settings with the deployment, then clear the task" if terminal else ""
    return {"code": code, "message": str(error), "hint": hint, "retryable": not terminal}


# One client of each kind a process: making one costs more than all that the operator does with it.


@cache
def _emr(aws_conn_id: str | None, region_name: str | None) -> EmrServerlessHook:
    return EmrServerlessHook(
        aws_conn_id=aws_conn_id, region_name=region_name or settings.require("AWS_REGION")
    )


@cache
def _s3(aws_conn_id: str | None, region_name: str | None) -> Any:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=aws_conn_id, region_name=region_name or settings.require("AWS_REGION")).conn


#: What every job is told; Airflow's names become the parent of the job's OpenLineage events.
_COMMON_ARGUMENTS = (
    "--config",
    "{{ setting('LAKEHOUSE_CONFIG') }}",
    "--run-id",
    "{{ lakehouse_run_id }}",
    "--airflow-dag-id",
    "{{ ti.dag_id }}",
    "--airflow-run-id",
    "{{ ti.run_id }}",
    "--airflow-task-id",
    "{{ ti.task_id }}",
    "--airflow-try",
    "{{ ti.try_number }}",
    "--airflow-job-name",
    "{{ job_name }}",
)


class _Lazy:
    """A template value that is worked out only where a template uses it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __str__(self) -> str:
        return str(self._value())


def _verbatim(value: Any) -> Any:
    """Text that Jinja leaves as it is, at any depth: Log4j's patterns hold what Jinja takes for its own."""
    if isinstance(value, dict):
        return {key: _verbatim(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_verbatim(each) for each in value]
    return f"{{% raw %}}{value}{{% endraw %}}" if "{" in value else value


def _minutes(period: timedelta) -> int:
    return math.ceil(period.total_seconds() / 60)


def poll_seconds() -> float:
    """How often a job run is asked for its state: EMR_POLL_SECONDS, 30 unless set."""
    return float(os.environ.get("EMR_POLL_SECONDS", "30"))


def ledger_lines(outcome: dict[str, Any]) -> list[str]:
    """One line per table of an outcome: what was read and what became of it, zeros left out."""
    lines = []
    for table in outcome.get("tables") or ():
        ledger = table.get("ledger") or {}
        counts = ", ".join(f"{ledger[name]:,} {name}" for name in LEDGER if ledger.get(name))
        version = "" if table.get("version") is None else f" (version {table['version']})"
        lines.append(f"{table.get('table')}{version}: {counts or 'nothing to do'}")
    return lines
