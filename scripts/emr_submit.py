#!/usr/bin/env python3
"""Submit one job to EMR Serverless with the configuration of the DAGs, wait for its end, and say what came of it.

    scripts/emr_submit.sh snowflake_to_bronze --run-id 20261120T060000Z-…
    scripts/emr_submit.sh recover status

The job is jobs/<job>.py of the code bucket, or one of the scripts that need Spark (lakehouse.submit.SCRIPTS);
everything after its name goes to it. Where it goes is said by the environment variables of the DAGs (AWS_REGION,
LAKE_BUCKET, CODE_BUCKET, LAKEHOUSE_CONFIG, EMR_APPLICATION_ID, the role of the job); on a laptop the running stack
says it. The first line, on stderr, is the target. Ctrl-C cancels the job. The exit code is the job's own class: 0;
2 wrong command, 10 a retry cannot help, 11 a gate refused, 20 try again, 1 nobody knows.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "dags"), str(REPO / "src"), str(REPO)]

from common import roles, settings, spark  # noqa: E402  # the path to what follows is set just above
from common.exit_codes import exit_code  # noqa: E402
from common.stream_decisions import LIVE  # noqa: E402
from lakehouse import errors  # noqa: E402
from lakehouse.runs import new_run_id  # noqa: E402
from lakehouse.submit import SCRIPTS  # noqa: E402

NEEDED = ("LAKE_BUCKET", "CODE_BUCKET", "LAKEHOUSE_CONFIG", "EMR_APPLICATION_ID", "AWS_REGION")
ENDED = ("SUCCESS", "FAILED", "CANCELLED")
# Terminal errors with an exit code of their own.
EXIT_CODES = {
    kind.code: kind.exit_code
    for kind in (
        errors.GateFailed,
        errors.WatchAlarm,
        errors.UsageError,
        errors.UnknownRun,
        errors.ConfigError,
    )
}
KNOWN_EXIT_CODES = (errors.EXIT_USAGE, errors.EXIT_TERMINAL, errors.EXIT_GATE, errors.EXIT_TRANSIENT)
# As long as their DAG gives them; 3 hours to all others.
TIMEOUT_MINUTES = {"backfill": 720}
DEFAULT_TIMEOUT_MINUTES = 180


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    job, arguments = argv[0], list(argv[1:])
    entry_point = _entry_point(job)
    if entry_point is None:
        print(
            f"received the job {job!r}, expected a file of jobs/ or one of {', '.join(SCRIPTS)}",
            file=sys.stderr,
        )
        if (REPO / "scripts" / f"{job}.py").is_file():
            print(f"What to do: run scripts/{job}.py here, it needs no Spark", file=sys.stderr)
        return 2
    stack = None
    if (REPO / "local").is_dir():
        from local.supervisor import ServiceError

        try:
            stack = _use_stack() if "EMR_APPLICATION_ID" not in os.environ else None
        except ServiceError as problem:
            print(f"emr_submit: {problem}", file=sys.stderr)
            return 1
        _ship()
    # boto3 knows the Region by the second name alone.
    os.environ["AWS_REGION"] = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
    # What is optional has its default here: without one Airflow's own database would be asked.
    os.environ.setdefault("EMR_LOG_URI", f"s3://{os.environ.get('LAKE_BUCKET')}/logs/emr/")
    os.environ.setdefault("EMR_PYTHON_ARCHIVE", "")
    for name in (*roles.SETTINGS, "EMR_EXECUTION_ROLE_ARN"):
        os.environ.setdefault(name, "")
    missing = [name for name in NEEDED if not os.environ.get(name)]
    role = roles.setting(roles.of(job, arguments) or "")
    if not (os.environ.get(role) or os.environ["EMR_EXECUTION_ROLE_ARN"]):
        missing.append(role)
    if missing:
        for name in missing:
            print(f"{name} is not set: {settings.KNOWN[name]}", file=sys.stderr)
        print(
            "What to do: export them (scripts/release.py env says them), or `make local-up`", file=sys.stderr
        )
        return 2
    print(_target(stack), file=sys.stderr, flush=True)
    try:
        return _submit(job, entry_point, arguments)
    except (BotoCoreError, ClientError) as error:
        print(f"AWS refused: {' '.join(str(error).split())}", file=sys.stderr)
        print(
            "What to do: check credentials (`aws sts get-caller-identity`), Region and names", file=sys.stderr
        )
        return 1


def _entry_point(job: str) -> str | None:
    if job in SCRIPTS:
        return f"scripts/{job}.py"
    return f"jobs/{job}.py" if (REPO / "jobs" / f"{job}.py").is_file() else None


def _submit(job: str, entry_point: str, arguments: list[str]) -> int:
    emr = _client("emr-serverless")
    application = os.environ["EMR_APPLICATION_ID"]
    run_id = _run_id(arguments) if SCRIPTS.get(job, True) else None
    if "--apply" in arguments and job == "recover":
        arguments += ["--submitted-by", _client("sts").get_caller_identity()["Arn"]]
    _tell_others(emr, application)
    request = _request(job, entry_point, arguments, run_id)
    started = emr.start_job_run(applicationId=application, **request)["jobRunId"]
    print(f"{job}: job run {started}" + (f", run id {run_id}" if run_id else ""), flush=True)
    try:
        state, details = _wait(emr, application, started)
    except KeyboardInterrupt:
        emr.cancel_job_run(applicationId=application, jobRunId=started)
        print("cancelled", file=sys.stderr)
        return 130
    log_uri = f"{settings.log_uri()}applications/{application}/jobs/{started}/SPARK_DRIVER/"
    outcome = _outcome(job, run_id)
    error = outcome["error"] if outcome is not None else None
    code = _exit_code(state, outcome, details)
    # Where it failed, the outcome says the same again.
    for line in [] if error else _log(log_uri + "stdout.gz").splitlines():
        if not line.startswith('{"ts"'):
            print(line)
    if outcome is not None:
        for note in outcome["notes"]:
            if not error or note not in error["message"]:
                print(f"  {note}")
    if error:
        print(f"{job}: {error['code']}: {error['message']}", file=sys.stderr)
        print(f"What to do: {error['hint']}", file=sys.stderr)
    elif code:
        print(details, file=sys.stderr)
        print("\n".join(_log(log_uri + "stderr.gz").splitlines()[-15:]), file=sys.stderr)
    print(f"{job}: {'succeeded' if code == 0 else 'failed'} ({state}); logs: {log_uri}")
    return code


def _run_id(arguments: list[str]) -> str:
    """The run id among the arguments; a new one where there is none, put first: subcommands come after it."""
    for number, argument in enumerate(arguments):
        if argument.startswith("--run-id="):
            return argument.partition("=")[2]
        if argument == "--run-id" and number + 1 < len(arguments):
            return arguments[number + 1]
    run_id = new_run_id(datetime.now(UTC))
    arguments[:0] = ["--run-id", run_id]
    return run_id


def _request(job: str, entry_point: str, arguments: list[str], run_id: str | None) -> dict[str, Any]:
    """StartJobRun as the DAGs make it, but for the name, which says that a person did it."""
    return {
        "name": f"by-hand:{run_id or datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}:{job}",
        "clientToken": uuid.uuid4().hex,
        "executionRoleArn": settings.execution_role(job, arguments),
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": f"s3://{os.environ['CODE_BUCKET']}/{entry_point}",
                "entryPointArguments": arguments,
                "sparkSubmitParameters": spark.submit_parameters(
                    spark.JAR_SETS.get(job, ()), job=job, run_id=run_id or ""
                ),
            }
        },
        "configurationOverrides": {
            "applicationConfiguration": spark.application_configuration(),
            "monitoringConfiguration": spark.monitoring_configuration(settings.log_uri()),
        },
        "executionTimeoutMinutes": TIMEOUT_MINUTES.get(job, DEFAULT_TIMEOUT_MINUTES),
    }


def _tell_others(emr: Any, application: str) -> None:
    """Name what runs already: the log store keeps writers apart, but who waits wants to know for whom."""
    for page in emr.get_paginator("list_job_runs").paginate(applicationId=application, states=sorted(LIVE)):
        for other in page["jobRuns"]:
            print(f"beside it runs {other.get('name') or other['id']} ({other['state']}, {other['id']})")


def _wait(emr: Any, application: str, job_run: str) -> tuple[str, str]:
    """How the job run ended, and what EMR says of it."""
    delay = 1.0 if os.environ.get("AWS_ENDPOINT_URL") else 10.0
    while True:
        found: Mapping[str, Any] = emr.get_job_run(applicationId=application, jobRunId=job_run)["jobRun"]
        if found["state"] in ENDED:
            return str(found["state"]), str(found.get("stateDetails") or "")
        time.sleep(delay)


def _outcome(job: str, run_id: str | None) -> dict[str, Any] | None:
    if run_id is None:
        return None
    body = _read(f"s3://{os.environ['LAKE_BUCKET']}/runs/{run_id}/{job}/outcome.json")
    return None if body is None else dict(json.loads(body))


def _exit_code(state: str, outcome: dict[str, Any] | None, details: str) -> int:
    """The job's own class; where it left no outcome (a tool, a dry run, wrong words) what EMR says of its driver."""
    if state == "SUCCESS":
        return 0
    if outcome is None or not outcome["error"]:
        said = exit_code(details)
        return said if said in KNOWN_EXIT_CODES else errors.EXIT_UNEXPECTED
    if outcome["error"]["error_class"] == "transient":
        return errors.EXIT_TRANSIENT
    return EXIT_CODES.get(outcome["error"]["code"], errors.EXIT_TERMINAL)


def _log(uri: str) -> str:
    body = _read(uri)
    return "" if body is None else gzip.decompress(body).decode("utf-8", "replace")


def _read(uri: str) -> bytes | None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        return bytes(_client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise


def _client(service: str) -> Any:
    return boto3.client(service, region_name=os.environ["AWS_REGION"])  # type: ignore[call-overload]


def _target(stack: Path | None) -> str:
    """Where the job goes: a laptop or an account."""
    if stack is not None:
        return f"target: the local stack in {stack}"
    place = os.environ.get("AWS_ENDPOINT_URL") or os.environ["AWS_REGION"]
    return f"target: EMR application {os.environ['EMR_APPLICATION_ID']} in {place}"


def _use_stack() -> Path | None:
    """Take the running stack's settings; its folder, or None where no stack was ever started here.

    Raises ServiceError where one was, and does not answer.
    """
    from local.stack import running, state_dir

    if not (state_dir() / "stack.json").exists():
        return None
    stack = running()
    os.environ.update(stack.exports)
    return stack.state


def _ship() -> None:
    """Put what is in the tree where the job finds it, if it goes to the local stack; on AWS a release does that."""
    from local import bootstrap
    from local.stack import Stack
    from local.supervisor import ServiceError

    try:
        stack = Stack.load()
    except ServiceError:
        return
    if any(os.environ.get(name) != stack.exports.get(name) for name in ("AWS_ENDPOINT_URL", "CODE_BUCKET")):
        return
    try:
        uploaded = bootstrap.ship(stack)
    except BotoCoreError:
        return  # a stack that is down: the submission says so
    if uploaded:
        print(f"shipped what changed in the tree: {', '.join(uploaded)}", file=sys.stderr)


if __name__ == "__main__":
    # Airflow, which `common` imports, logs every client that is made.
    logging.disable(logging.INFO)
    sys.exit(main(sys.argv[1:]))
