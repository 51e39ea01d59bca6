"""EMR Serverless made real: applications and job runs as AWS documents them, each job a `spark-submit` of this machine.

Records are JSON files (<state>/emr/applications.json, <state>/emr/jobs/<id>/job.json), written before a call is
answered and at every change of state.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import string
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moto.core.exceptions import ServiceException

from local.aws import emr_process
from local.aws.emr_launch import Launcher
from local.aws.emr_process import Attempt, LocaliseError, Objects, Submission

TERMINAL = ("SUCCESS", "FAILED", "CANCELLED")
RELEASE_LABEL = re.compile(r"^(emr-\d+\.\d+\.\d+(-\d{8}|-latest)?|emr-spark-\d+\.\d+\.\d+([-.][a-z0-9]+)*)$")
CLIENT_TOKEN = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
DEFAULT_TIMEOUT_MINUTES = 720
DEFAULT_GRACE_SECONDS = 5.0
CREATED_BY = "arn:aws:iam::{account}:user/local"
APPLICATION_SETTINGS = (
    "initialCapacity",
    "maximumCapacity",
    "autoStartConfiguration",
    "autoStopConfiguration",
    "networkConfiguration",
    "architecture",
    "imageConfiguration",
    "workerTypeSpecifications",
    "runtimeConfiguration",
    "monitoringConfiguration",
    "diskEncryptionConfiguration",
    "interactiveConfiguration",
    "schedulerConfiguration",
    "identityCenterConfiguration",
    "jobLevelCostAllocationConfiguration",
)
JOB_PARAMETERS = (
    "executionRoleArn",
    "executionIamPolicy",
    "jobDriver",
    "configurationOverrides",
    "tags",
    "executionTimeoutMinutes",
    "name",
    "mode",
    "retryPolicy",
)
STOPPED = "The local EMR Serverless stopped while the job was running."
Record = dict[str, Any]


class ValidationException(ServiceException):
    code = "ValidationException"


class ResourceNotFoundException(ServiceException):
    code = "ResourceNotFoundException"


class ConflictException(ServiceException):
    code = "ConflictException"


def _random_id() -> str:
    return "00" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(14))


def write_json(path: Path, value: Any) -> None:
    """Replace a small file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{threading.get_ident()}.part")
    part.write_text(json.dumps(value, indent=1, sort_keys=True))
    os.replace(part, path)


class EmrServerless:
    """The service: records, a first-come-first-served queue, and one thread for each running job."""

    def __init__(
        self,
        root: Path,
        objects: Objects,
        jars: Path,
        stack_env: Callable[[], dict[str, str]],
        endpoint: Callable[[], str],
        concurrency: int = 2,
        minute_seconds: float = 60.0,
    ):
        self.root = root
        self.objects = objects
        self.jars = jars
        self.stack_env = stack_env
        self.endpoint = endpoint
        self.concurrency = concurrency
        self.minute_seconds = minute_seconds
        self._lock = threading.RLock()
        self._applications: dict[str, Record] = {}
        self._jobs: dict[str, Record] = {}
        self._queue: deque[str] = deque()
        self._running: dict[str, Attempt | None] = {}
        self._cancel: dict[str, float] = {}
        self._stopping = False
        self._launcher = Launcher(root / "launch", jars)
        self._load()

    # -- records -------------------------------------------------------------------------------------------

    def _load(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._applications = json.loads((self.root / "applications.json").read_text())
        for path in sorted((self.root / "jobs").glob("*/job.json")):
            job = json.loads(path.read_text())
            self._jobs[job["id"]] = job
            if job["state"] not in TERMINAL:
                self._bury(job)

    def _bury(self, job: Record) -> None:
        """A job that was under way when the server died: end what is left of it and say so."""
        group = job.get("processGroup")
        if group and _is_ours(group, job["id"]):
            emr_process.kill_group(group, 1.0)
        emr_process.clean(self._folder(job))
        self._change(job, "FAILED", STOPPED)

    def _save_applications(self) -> None:
        write_json(self.root / "applications.json", self._applications)

    def _save(self, job: Record) -> None:
        write_json(self.root / "jobs" / job["id"] / "job.json", job)

    def _change(self, job: Record, state: str, details: str | None = None, **more: Any) -> None:
        with self._lock:
            now = time.time()
            job["state"] = state
            if details is not None:
                job["stateDetails"] = details
            job["updatedAt"] = now
            if job["attempts"]:
                attempt = job["attempts"][-1]
                attempt |= {"state": state, "stateDetails": job["stateDetails"], "updatedAt": now}
            if state in TERMINAL:
                job["endedAt"] = now
                if job["attempts"]:
                    job["attempts"][-1]["endedAt"] = now
            job.update(more)
            self._save(job)

    def _folder(self, job: Record) -> Path:
        return self.root / "jobs" / str(job["id"]) / f"attempt-{max(1, len(job['attempts']))}"

    # -- applications --------------------------------------------------------------------------------------

    def create_application(self, account: str, region: str, params: Record) -> Record:
        kind = str(params.get("type") or "").upper()
        label = params.get("releaseLabel") or ""
        if kind not in ("SPARK", "HIVE"):
            raise ValidationException(f"Unsupported engine {params.get('type')}")
        if not RELEASE_LABEL.match(label):
            raise ValidationException(
                f"Type '{kind}' is not supported for release label '{label}' or release label does not exist"
            )
        token = params.get("clientToken") or ""
        with self._lock:
            for known in self._applications.values():
                if token and known["clientToken"] == token and known["state"] != "TERMINATED":
                    if (known.get("name"), known["releaseLabel"]) != (params.get("name"), label):
                        raise ConflictException(
                            "An application with this client token and other parameters exists"
                        )
                    return known
            id_, now = _random_id(), time.time()
            app: Record = {
                "applicationId": id_,
                "name": params.get("name"),
                "releaseLabel": label,
                "type": kind.capitalize(),
                "clientToken": token,
                "state": "CREATED",
                "stateDetails": "",
                "arn": f"arn:aws:emr-serverless:{region}:{account}:/applications/{id_}",
                "createdAt": now,
                "updatedAt": now,
                "tags": params.get("tags") or {},
                "architecture": "X86_64",
                "autoStartConfiguration": {"enabled": True},
                "autoStopConfiguration": {"enabled": True, "idleTimeoutMinutes": 15},
            }
            app |= {k: params[k] for k in APPLICATION_SETTINGS if params.get(k) is not None}
            self._applications[id_] = app
            self._save_applications()
            return app

    def application(self, id_: str) -> Record:
        app = self._applications.get(id_)
        if app is None:
            raise ResourceNotFoundException(f"Application {id_} does not exist")
        return app

    def applications(self, states: list[str] | None) -> list[Record]:
        return [a for a in self._applications.values() if not states or a["state"] in states]

    def _in_state(self, id_: str, states: tuple[str, ...]) -> Record:
        app = self.application(id_)
        if app["state"] not in states:
            raise ValidationException(
                f"Application {id_} must be in one of the following statuses [{', '.join(states)}]. "
                f"Current status: {app['state']}"
            )
        return app

    def _move(self, app: Record, state: str) -> None:
        app |= {"state": state, "updatedAt": time.time()}
        self._save_applications()

    def update_application(self, id_: str, params: Record) -> Record:
        with self._lock:
            app = self._in_state(id_, ("CREATED", "STOPPED"))
            if params.get("releaseLabel"):
                if not RELEASE_LABEL.match(params["releaseLabel"]):
                    raise ValidationException(f"Release label '{params['releaseLabel']}' does not exist")
                app["releaseLabel"] = params["releaseLabel"]
            app |= {k: params[k] for k in APPLICATION_SETTINGS if params.get(k) is not None}
            app["updatedAt"] = time.time()
            self._save_applications()
            return app

    def delete_application(self, id_: str) -> None:
        with self._lock:
            self._move(self._in_state(id_, ("CREATED", "STOPPED")), "TERMINATED")

    def start_application(self, id_: str) -> None:
        with self._lock:
            self._move(self._in_state(id_, ("CREATED", "STOPPED", "STARTED")), "STARTED")

    def stop_application(self, id_: str) -> None:
        with self._lock:
            app = self._in_state(id_, ("STARTED", "STOPPED", "CREATED"))
            active = [
                j["id"]
                for j in self._jobs.values()
                if j["applicationId"] == id_ and j["state"] not in TERMINAL
            ]
            if active:
                raise ValidationException(f"Application {id_} has active job runs: {', '.join(active)}")
            self._move(app, "STOPPED")

    def tagged(self, arn: str) -> Record:
        """The application or job run of an ARN."""
        last = arn.rsplit("/", 1)[-1]
        record = self._jobs.get(last) if "/jobruns/" in arn else self._applications.get(last)
        if record is None or record["arn"] != arn:
            raise ResourceNotFoundException(f"Resource {arn} does not exist")
        return record

    def set_tags(self, arn: str, add: dict[str, str], remove: list[str]) -> None:
        with self._lock:
            record = self.tagged(arn)
            record["tags"] = {k: v for k, v in (record["tags"] | add).items() if k not in remove}
            if "/jobruns/" in arn:
                self._save(record)
            else:
                self._save_applications()

    # -- job runs ------------------------------------------------------------------------------------------

    def start_job_run(self, account: str, region: str, app_id: str, params: Record) -> Record:
        request = {k: params.get(k) for k in JOB_PARAMETERS if params.get(k) is not None}
        token = params.get("clientToken") or ""
        if not CLIENT_TOKEN.match(token):
            raise ValidationException("clientToken must match [A-Za-z0-9._-]{1,64}")
        with self._lock:
            app = self.application(app_id)
            if app["state"] == "TERMINATED":
                raise ValidationException(f"Application {app_id} is terminated. Cannot start job run.")
            for known in self._jobs.values():
                if known["applicationId"] == app_id and known["clientToken"] == token:
                    if known["request"] != request:
                        raise ConflictException(
                            f"Job run {known['id']} was started with this client token and other parameters"
                        )
                    return known
            job = self._new_job(account, region, app, token, request)
            if (
                not (app.get("autoStartConfiguration") or {}).get("enabled", True)
                and app["state"] != "STARTED"
            ):
                raise ValidationException(f"Application {app_id} is not started and does not start by itself")
            if app["state"] != "STARTED":
                self._move(app, "STARTED")
            self._jobs[job["id"]] = job
            self._save(job)
            self._queue.append(job["id"])
            self._dispatch()
            return job

    def _new_job(self, account: str, region: str, app: Record, token: str, request: Record) -> Record:
        mode = request.get("mode") or "BATCH"
        minutes = request.get("executionTimeoutMinutes")
        if not re.match(r"^arn:aws[\w-]*:iam::\d{12}:role/.+", request.get("executionRoleArn") or ""):
            raise ValidationException("executionRoleArn must be the ARN of an IAM role")
        if mode not in ("BATCH", "STREAMING"):
            raise ValidationException(f"Unknown mode {mode}")
        if minutes is None:
            minutes = DEFAULT_TIMEOUT_MINUTES if mode == "BATCH" else 0
        if minutes != 0 and minutes < 5:
            raise ValidationException("RunTimeout must be at least 5 minutes.")
        retry = request.get("retryPolicy") or {}
        if mode == "BATCH" and "maxFailedAttemptsPerHour" in retry:
            raise ValidationException("maxFailedAttemptsPerHour is not supported for BATCH mode")
        if not 1 <= int(retry.get("maxAttempts", 1)) <= (10 if mode == "BATCH" else 10**9):
            raise ValidationException("maxAttempts must be between 1 and 10")
        driver = (request.get("jobDriver") or {}).get("sparkSubmit")
        if not driver or not driver.get("entryPoint"):
            raise ValidationException(
                "jobDriver.sparkSubmit.entryPoint is required; Hive is not available locally"
            )
        try:
            Submission.parse(driver)
        except ValueError as e:
            raise ValidationException(str(e)) from e
        id_, now = _random_id(), time.time()
        return {
            "id": id_,
            "applicationId": app["applicationId"],
            "name": request.get("name"),
            "arn": f"{app['arn'].replace(region, region)}/jobruns/{id_}",
            "createdBy": CREATED_BY.format(account=account),
            "createdAt": now,
            "updatedAt": now,
            "state": "SUBMITTED",
            "stateDetails": "",
            "releaseLabel": app["releaseLabel"],
            "type": app["type"],
            "mode": mode,
            "executionTimeoutMinutes": minutes,
            "retryPolicy": retry,
            "clientToken": token,
            "request": request,
            "tags": request.get("tags") or {},
            "attempts": [],
            "totalExecutionDurationSeconds": 0,
        }

    def job(self, app_id: str, id_: str) -> Record:
        self.application(app_id)
        job = self._jobs.get(id_)
        if job is None or job["applicationId"] != app_id:
            raise ResourceNotFoundException(f"JobRun {id_} does not exist")
        return job

    def jobs(self, app_id: str) -> list[Record]:
        """Newest first, as AWS lists them."""
        self.application(app_id)
        with self._lock:
            mine = [j for j in self._jobs.values() if j["applicationId"] == app_id]
        return sorted(mine, key=lambda j: (j["createdAt"], j["id"]), reverse=True)

    def cancel_job_run(self, app_id: str, id_: str, grace: float | None) -> None:
        with self._lock:
            job = self.job(app_id, id_)
            if job["state"] in TERMINAL:
                raise ValidationException(
                    f"Job run {id_} is in the terminal state {job['state']}; cannot cancel it"
                )
            if job["state"] == "CANCELLING":
                return
            self._cancel[id_] = DEFAULT_GRACE_SECONDS if grace is None else grace
            if id_ in self._queue:
                self._queue.remove(id_)
                self._change(job, "CANCELLED", "Job was cancelled by the user.")
            else:
                self._change(job, "CANCELLING", "Job is being cancelled by the user.")

    # -- running -------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Start what may run, in order of arrival; what must wait is QUEUED."""
        with self._lock:
            while self._queue and len(self._running) < self.concurrency and not self._stopping:
                id_ = self._queue.popleft()
                self._running[id_] = None
                job = self._jobs[id_]
                job["queuedDurationMilliseconds"] = int((time.time() - job["createdAt"]) * 1000)
                self._change(job, "PENDING")
                threading.Thread(target=self._run, args=(job,), name=f"emr-{id_}", daemon=True).start()
            for id_ in self._queue:
                if self._jobs[id_]["state"] == "SUBMITTED":
                    self._change(self._jobs[id_], "QUEUED")

    def _run(self, job: Record) -> None:
        try:
            attempts = int(job["retryPolicy"].get("maxAttempts", 1))
            for number in range(1, attempts + 1):
                self._begin_attempt(job, number)
                try:
                    done = self._attempt(job, last=number == attempts)
                except (LocaliseError, ValueError, OSError) as e:
                    done = True
                    self._change(job, "FAILED", f"Job failed before the driver started: {e}")
                if done:
                    break
        finally:
            with self._lock:
                self._running.pop(job["id"], None)
                self._cancel.pop(job["id"], None)
            self._dispatch()

    def _begin_attempt(self, job: Record, number: int) -> None:
        with self._lock:
            now = time.time()
            job["attempts"].append(
                {
                    "attempt": number,
                    "createdAt": now,
                    "updatedAt": now,
                    "state": "PENDING",
                    "stateDetails": "",
                }
            )
            shutil.rmtree(self._folder(job), ignore_errors=True)
            if job["state"] not in ("CANCELLING",):
                self._change(job, "SCHEDULED")

    def _attempt(self, job: Record, last: bool) -> bool:
        """Run spark-submit once; True where the job is over."""
        folder = self._folder(job)
        submission = self._submission(job)
        env = emr_process.prepare(submission, folder, self.objects, self.jars, self.stack_env())
        env |= {emr_process.JOB_RUN_ID: job["id"], "LAKEHOUSE_EMR_APPLICATION_ID": job["applicationId"]}
        argv, archive = self._launcher.command(submission, folder / "spark.properties")
        code: int | None = None
        try:
            attempt = self._launch(job, folder, argv, env)
            if attempt is not None:
                code = self._wait(job, attempt, submission)
        finally:
            if archive is not None:
                self._launcher.trained(archive, success=code == 0)
        if attempt is not None:
            self._upload_logs(job, folder)
        emr_process.clean(folder)
        with self._lock:
            return self._conclude(job, code, folder, last)

    def _launch(self, job: Record, folder: Path, argv: list[str], env: dict[str, str]) -> Attempt | None:
        with self._lock:
            if job["id"] in self._cancel or self._stopping:
                return None
            attempt = Attempt(folder, argv, env)
            self._running[job["id"]] = attempt
            self._change(
                job,
                "RUNNING",
                "",
                processGroup=attempt.process.pid,
                startedAt=job.get("startedAt", time.time()),
            )
            return attempt

    def _wait(self, job: Record, attempt: Attempt, submission: Submission) -> int | None:
        """The exit code of the driver; None where it was ended by a cancellation or by the timeout."""
        begun = time.monotonic()
        minutes = job["executionTimeoutMinutes"]
        deadline = begun + minutes * self.minute_seconds if minutes else None
        code = attempt.wait(deadline, lambda: job["id"] in self._cancel)
        if code is None and job["id"] not in self._cancel:
            self._change(job, "CANCELLING", f"Job run exceeded its execution timeout of {minutes} minutes.")
        # After a normal end, too: whatever the driver left behind.
        attempt.kill(0.5 if code is not None else self._cancel.get(job["id"], DEFAULT_GRACE_SECONDS))
        with self._lock:
            job["wallSeconds"] = job.get("wallSeconds", 0.0) + time.monotonic() - begun
            used = emr_process.utilisation(submission.confs, job["wallSeconds"])
            job |= {
                "totalExecutionDurationSeconds": round(job["wallSeconds"]),
                "totalResourceUtilization": used,
                "billedResourceUtilization": used,
            }
            job.pop("processGroup", None)
        return code

    def _conclude(self, job: Record, code: int | None, folder: Path, last: bool) -> bool:
        """Set the state after an attempt; False where another attempt follows."""
        if job["state"] in TERMINAL:
            return True
        if self._stopping:
            self._change(job, "FAILED", STOPPED)
        elif job["id"] in self._cancel:
            self._change(job, "CANCELLED", "Job was cancelled by the user.")
        elif code is None:
            self._change(job, "CANCELLED", job["stateDetails"])
        elif code == 0:
            self._change(job, "SUCCESS", "")
        else:
            details = emr_process.failure_details(code, folder)
            if not last:
                now = time.time()
                job["attempts"][-1] |= {
                    "state": "FAILED",
                    "stateDetails": details,
                    "updatedAt": now,
                    "endedAt": now,
                }
                job["state"] = "PENDING"
                self._save(job)
                return False
            self._change(job, "FAILED", details)
        return True

    def _submission(self, job: Record) -> Submission:
        app = self.application(job["applicationId"])
        overrides = job["request"].get("configurationOverrides") or {}
        layers = (app.get("runtimeConfiguration"), overrides.get("applicationConfiguration"))
        submission = Submission.parse(
            job["request"]["jobDriver"]["sparkSubmit"],
            emr_process.image_confs(self.endpoint()),
            *(_properties(layer, "spark-defaults") for layer in layers),
        )
        # Driver and executors are one JVM here: the executors' file has nobody to read it.
        for layer in layers:
            submission.log4j |= _properties(layer, "spark-driver-log4j2")
        return submission

    def _upload_logs(self, job: Record, folder: Path) -> None:
        overrides = job["request"].get("configurationOverrides") or {}
        app = self.application(job["applicationId"])
        monitoring = overrides.get("monitoringConfiguration") or app.get("monitoringConfiguration") or {}
        uri = (monitoring.get("s3MonitoringConfiguration") or {}).get("logUri")
        if uri:
            try:
                emr_process.upload_logs(
                    folder, uri, app["applicationId"], job["id"], len(job["attempts"]), self.objects
                )
            except LocaliseError as e:
                print(f"emr: logs of job run {job['id']} not written to {uri}: {e}", flush=True)

    def shutdown(self) -> None:
        """End every running job; what was queued is reported as failed."""
        with self._lock:
            self._stopping = True
            running = {id_: a for id_, a in self._running.items() if a is not None}
            waiting = [self._jobs[id_] for id_ in self._queue]
            self._queue.clear()
        threads = [threading.Thread(target=a.kill, args=(3.0,)) for a in running.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for job in [self._jobs[id_] for id_ in running] + waiting:
            if job["state"] not in TERMINAL:
                self._change(job, "FAILED", STOPPED)


def _properties(configurations: list[Record] | None, classification: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in configurations or []:
        if item.get("classification") == classification:
            found |= item.get("properties") or {}
    return found


def _is_ours(group: int, job_id: str) -> bool:
    """Whether the process group is still the one of this job (its id may have been given to another process)."""
    try:
        return f"{emr_process.JOB_RUN_ID}={job_id}".encode() in Path(f"/proc/{group}/environ").read_bytes()
    except OSError:
        return False
