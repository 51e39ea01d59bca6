"""The order stream on EMR Serverless: its job runs, its mark, its progress, and the loop that acts on decisions.

The clients are given, so that whoever has an Airflow or a shell with the settings of one drives the stream alike.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.exceptions import AirflowException, AirflowFailException
from botocore.exceptions import ClientError

from common import settings, spark, stream_decisions
from common.emr import poll_seconds
from common.stream_decisions import (
    Asked,
    Cancel,
    Done,
    LiftMark,
    Limits,
    Mark,
    MoveCheckpoint,
    Progress,
    PutMark,
    Refuse,
    Run,
    Seen,
    Start,
    Wait,
)

log = logging.getLogger(__name__)
NAME = "lakehouse-stream:kafka_orders"
JOB = "kafka_orders_to_bronze"
JAR_SETS = ("kafka",)
STATE = "ops/_streams/kafka_orders"
MARK = f"{STATE}/stopped.json"
PROGRESS = f"{STATE}/progress.json"
CHECKPOINT = "checkpoints/kafka_orders/"
LOST = "checkpoints/lost"
#: Seconds from SIGTERM to SIGKILL: a batch ends in less. EMR takes 15 to 1800 and defaults to 120 for streaming.
SHUTDOWN_GRACE_SECONDS = 300
#: How long runs that are being cancelled are waited for.
PATIENCE = timedelta(seconds=SHUTDOWN_GRACE_SECONDS + 240)
#: EMR starts a failed streaming driver again by itself, this often an hour (1 to 10, its default is 5).
MAX_FAILED_ATTEMPTS_PER_HOUR = 5
Alert = Callable[[str, str], None]


def job_run_request(arguments: Sequence[str] = ()) -> dict[str, Any]:
    """StartJobRun's parameters but for the token.

    They name no DAG run and no try: EMR refuses a known token that comes with other parameters.
    """
    code = settings.require("CODE_BUCKET")
    return {
        "applicationId": settings.require("EMR_APPLICATION_ID"),
        "executionRoleArn": settings.execution_role(JOB, ["--stream"]),
        "name": NAME,
        "mode": "STREAMING",
        "retryPolicy": {"maxFailedAttemptsPerHour": MAX_FAILED_ATTEMPTS_PER_HOUR},
        "executionTimeoutMinutes": 0,
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": f"s3://{code}/jobs/{JOB}.py",
                "entryPointArguments": [
                    "--config", settings.require("LAKEHOUSE_CONFIG"), "--stream", *arguments,
                ],
                "sparkSubmitParameters": spark.submit_parameters(JAR_SETS, job=JOB),
            }
        },
        "configurationOverrides": {
            "applicationConfiguration": spark.application_configuration(),
            "monitoringConfiguration": spark.monitoring_configuration(settings.log_uri()),
        },
    }  # fmt: skip


def mode() -> str:
    """KAFKA_MODE of this deployment: batch unless set."""
    found = settings.find("KAFKA_MODE") or "batch"
    if found not in ("batch", "stream"):
        raise AirflowFailException(f"Setting KAFKA_MODE is {found!r}, expected batch or stream.")
    return found


def limits() -> Limits:
    """STREAM_MAX_AGE_MINUTES (15) and STREAM_MAX_LAG (100,000 records)."""
    return Limits(
        timedelta(minutes=_number("STREAM_MAX_AGE_MINUTES", 15)), _number("STREAM_MAX_LAG", 100_000)
    )


def _number(name: str, default: int) -> int:
    text = settings.find(name) or str(default)
    if not text.isdecimal():
        raise AirflowFailException(f"Setting {name} is {text!r}, expected a whole number.")
    return int(text)


class Stream:
    """The stream's job runs in its EMR application, and its objects in the lake."""

    def __init__(self, emr: Any, s3: Any) -> None:
        self.emr, self.s3 = emr, s3
        self.application = settings.require("EMR_APPLICATION_ID")
        self.lake = settings.require("LAKE_BUCKET")

    @property
    def identity(self) -> str:
        return f"{self.application}/{NAME}"

    def see(self) -> Seen:
        body = self._get(MARK)
        return Seen(tuple(self.runs()), None if body is None else Mark.parse(body))

    def runs(self) -> Iterator[Run]:
        """Every job run of the stream's name. ListJobRuns filters by mode and not by name."""
        request = {"applicationId": self.application, "mode": "STREAMING", "maxResults": 50}
        while True:
            page = self.emr.list_job_runs(**request)
            for run in page["jobRuns"]:
                if run.get("name") == NAME:
                    yield Run(run["id"], run["state"], run["createdAt"], run.get("stateDetails") or "")
            if not page.get("nextToken"):
                return
            request["nextToken"] = page["nextToken"]

    def progress(self) -> Progress | None:
        """Raises ValueError where the object is there and makes no sense."""
        body = self._get(PROGRESS)
        return None if body is None else Progress.parse(body)

    def start(self, token: str, arguments: Sequence[str] = ()) -> str:
        """The id of the job run: of a new one, or of the one that somebody started with this token."""
        return str(self.emr.start_job_run(clientToken=token, **job_run_request(arguments))["jobRunId"])

    def cancel(self, run: Run) -> None:
        """Ask for a graceful end; a run that has ended meanwhile is no error."""
        try:
            self.emr.cancel_job_run(
                applicationId=self.application,
                jobRunId=run.id,
                shutdownGracePeriodInSeconds=SHUTDOWN_GRACE_SECONDS,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("ValidationException", "ConflictException"):
                raise
            log.info("Job run %s could not be cancelled, it may have ended: %s", run.id, error)

    def put_mark(self, mark: Mark) -> None:
        body = json.dumps({"by": mark.by, "reason": mark.reason, "at": mark.at}, ensure_ascii=False)
        self.s3.put_object(Bucket=self.lake, Key=MARK, Body=body.encode(), ContentType="application/json")

    def lift_mark(self) -> None:
        self.s3.delete_object(Bucket=self.lake, Key=MARK)

    def move_checkpoint(self, at: datetime) -> str:
        """Copy the checkpoint to checkpoints/lost/<at>/, then empty its place; says what was done.

        An object leaves its place only when all have a whole copy. What an interrupted move left is moved by the
        next one to a place of its own: no copy is ever written over.
        """
        target = f"{LOST}/{at:%Y%m%dT%H%M%S.%fZ}/{CHECKPOINT.removeprefix('checkpoints/')}"
        there = dict(self._objects(CHECKPOINT))
        for key in there:
            copy = target + key.removeprefix(CHECKPOINT)
            self.s3.copy_object(Bucket=self.lake, Key=copy, CopySource={"Bucket": self.lake, "Key": key})
        copies = dict(self._objects(target))
        missing = [
            key for key, size in there.items() if copies.get(target + key.removeprefix(CHECKPOINT)) != size
        ]
        if missing:
            raise AirflowException(
                f"The checkpoint stays where it is: {len(missing)} of {len(there)} objects have no whole copy in "
                f"s3://{self.lake}/{target}, the first is {missing[0]}."
            )
        for key in there:
            self.s3.delete_object(Bucket=self.lake, Key=key)
        return f"{len(there)} objects of s3://{self.lake}/{CHECKPOINT} are now in s3://{self.lake}/{target}"

    def log_location(self, run_id: str) -> str:
        return f"{settings.log_uri()}applications/{self.application}/jobs/{run_id}/SPARK_DRIVER/"

    def _objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.lake, Prefix=prefix)
        for page in pages:
            yield from ((item["Key"], item["Size"]) for item in page.get("Contents", ()))

    def _get(self, key: str) -> bytes | None:
        try:
            return bytes(self.s3.get_object(Bucket=self.lake, Key=key)["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise


def supervise(stream: Stream, asked: Asked, alert: Alert) -> str:
    """Take step after step until the stream is as asked; says how it is then.

    Raises AirflowFailException where somebody has to do something first, AirflowException where runs do not end.
    """
    deadline = time.monotonic() + PATIENCE.total_seconds()
    seen = stream.see()
    if asked.action == "restart":
        asked = replace(asked, replace=frozenset(run.id for run in seen.live))
    refused: set[str] = set()
    while True:
        step = stream_decisions.decide(asked, seen, stream.identity)
        match step:
            case Done(text):
                return text
            case Refuse():
                raise failure(step)
            case Start(token, died):
                asked = _start(stream, asked, token, died, refused, alert)
            case Cancel(runs, why, loud):
                for run in runs:
                    log.info("Cancelling job run %s (%s): %s", run.id, run.state, why)
                    stream.cancel(run)
                if loud:
                    ids = ", ".join(run.id for run in runs)
                    alert("more than one run of the stream", f"Cancelled: {ids}. {why}.")
                time.sleep(poll_seconds())
            case Wait(runs):
                ids = ", ".join(run.id for run in runs)
                if time.monotonic() > deadline:
                    raise AirflowException(
                        f"Job run {ids} has not ended within {PATIENCE} of being cancelled."
                    )
                log.info("Waiting for job run %s, which is being cancelled.", ids)
                time.sleep(poll_seconds())
            case PutMark(reason):
                mark = Mark(asked.who, reason, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
                stream.put_mark(mark)
                log.info("s3://%s/%s says: %s", stream.lake, MARK, mark)
            case LiftMark(mark):
                stream.lift_mark()
                log.info("The stream may run again; it was %s.", mark)
            case MoveCheckpoint():
                log.info("%s", stream.move_checkpoint(datetime.now(UTC)))
                asked = replace(asked, moved=True)
        seen = stream.see()


def _start(
    stream: Stream, asked: Asked, token: str, died: Run | None, refused: set[str], alert: Alert
) -> Asked:
    try:
        run_id = stream.start(token)
    except ClientError as error:
        # Another release of this code started a run with the same token: it is there to be adopted.
        if error.response["Error"]["Code"] != "ConflictException" or token in refused:
            raise
        refused.add(token)
        log.info("Somebody else has started the stream meanwhile: %s", error)
        return asked
    log.info("Job run %s; its logs: %s", run_id, stream.log_location(run_id))
    if died is not None:
        log.warning("It replaces job run %s, which failed: %s", died.id, died.details)
        alert(
            "the stream died and was started again",
            f"Job run {died.id} failed: {died.details or 'no reason given'}\n"
            f"Its logs: {stream.log_location(died.id)}\nJob run {run_id} replaces it.",
        )
    return replace(asked, started=asked.started | {run_id})


def check(stream: Stream, now: datetime) -> str:
    """Says how fresh the stream is; raises AirflowFailException where it is late or far behind."""
    try:
        progress = stream.progress()
    except ValueError as error:
        raise failure(
            Refuse(
                "STREAM_PROGRESS",
                f"s3://{stream.lake}/{PROGRESS} cannot be read: {error}",
                "the stream writes it anew after its next batch; compare the releases of DAGs and jobs",
            )
        ) from error
    found = stream_decisions.problems(progress, list(stream.runs()), now, limits())
    if found:
        raise failure(*found)
    return f"The stream is fresh: {progress or 'its first run has just begun'}."


def failure(*refusals: Refuse) -> AirflowFailException:
    """In the words of the other tasks: CODE: what happened — what to do."""
    return AirflowFailException("\n".join(f"{one.code}: {one.text} — {one.hint}" for one in refusals))
