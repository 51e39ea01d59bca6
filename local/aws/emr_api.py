"""The calls of EMR Serverless over HTTP, spoken through moto's parser and serializer."""

from __future__ import annotations

import json

from moto.core.responses import ActionResult, BaseResponse, EmptyResult

from local.aws.emr import EmrServerless, Record, ResourceNotFoundException, ValidationException

_service: EmrServerless | None = None


def _view(job: Record) -> Record:
    """A record as GetJobRun and the lists show it."""
    attempt = job["attempts"][-1] if job["attempts"] else None
    view = {
        k: job.get(k)
        for k in (
            "applicationId",
            "name",
            "arn",
            "createdBy",
            "createdAt",
            "updatedAt",
            "state",
            "stateDetails",
            "releaseLabel",
            "tags",
            "totalExecutionDurationSeconds",
            "executionTimeoutMinutes",
            "mode",
            "type",
            "startedAt",
            "endedAt",
            "queuedDurationMilliseconds",
            "totalResourceUtilization",
            "billedResourceUtilization",
        )
        if job.get(k) is not None
    }
    view |= {
        "jobRunId": job["id"],
        "id": job["id"],
        "executionRole": job["request"]["executionRoleArn"],
        "jobDriver": job["request"]["jobDriver"],
        "attempt": attempt["attempt"] if attempt else 1,
        "attemptCreatedAt": attempt["createdAt"] if attempt else job["createdAt"],
        "attemptUpdatedAt": attempt["updatedAt"] if attempt else job["updatedAt"],
        "retryPolicy": {"maxAttempts": 1} | job["retryPolicy"],
    }
    if job["request"].get("configurationOverrides"):
        view["configurationOverrides"] = job["request"]["configurationOverrides"]
    return view


class EmrServerlessResponse(BaseResponse):
    """One request; moto makes an instance for each."""

    def __init__(self) -> None:
        super().__init__("emr-serverless")
        self.automated_parameter_parsing = True

    @property
    def service(self) -> EmrServerless:
        assert _service is not None, "install() comes first"
        return _service

    def create_application(self) -> ActionResult:
        app = self.service.create_application(self.current_account, self.region, self.params)
        return ActionResult({k: app[k] for k in ("applicationId", "name", "arn")})

    def get_application(self) -> ActionResult:
        return ActionResult({"application": self.service.application(self._get_param("applicationId"))})

    def list_applications(self) -> ActionResult:
        apps = [a | {"id": a["applicationId"]} for a in self.service.applications(self._get_param("states"))]
        return self._page(apps, "applications")

    def update_application(self) -> ActionResult:
        return ActionResult(
            {"application": self.service.update_application(self._get_param("applicationId"), self.params)}
        )

    def delete_application(self) -> ActionResult:
        self.service.delete_application(self._get_param("applicationId"))
        return EmptyResult()

    def start_application(self) -> ActionResult:
        self.service.start_application(self._get_param("applicationId"))
        return EmptyResult()

    def stop_application(self) -> ActionResult:
        self.service.stop_application(self._get_param("applicationId"))
        return EmptyResult()

    def start_job_run(self) -> ActionResult:
        params = json.loads(json.dumps(self.params))
        job = self.service.start_job_run(
            self.current_account, self.region, self._get_param("applicationId"), params
        )
        return ActionResult({"applicationId": job["applicationId"], "jobRunId": job["id"], "arn": job["arn"]})

    def _job(self) -> Record:
        return self.service.job(self._get_param("applicationId"), self._get_param("jobRunId"))

    def get_job_run(self) -> ActionResult:
        job = self._job()
        view = _view(job)
        wanted = self._get_param("attempt")
        if wanted is not None:
            attempt = next((a for a in job["attempts"] if a["attempt"] == int(wanted)), None)
            if attempt is None:
                raise ResourceNotFoundException(f"Attempt {wanted} of JobRun {job['id']} does not exist")
            view |= {
                "attempt": attempt["attempt"],
                "attemptCreatedAt": attempt["createdAt"],
                "attemptUpdatedAt": attempt["updatedAt"],
                "state": attempt["state"],
                "stateDetails": attempt["stateDetails"],
            }
        return ActionResult({"jobRun": view})

    def cancel_job_run(self) -> ActionResult:
        app_id, id_ = self._get_param("applicationId"), self._get_param("jobRunId")
        grace = self._get_param("shutdownGracePeriodInSeconds")
        self.service.cancel_job_run(app_id, id_, None if grace is None else float(grace))
        return ActionResult({"applicationId": app_id, "jobRunId": id_})

    def list_job_runs(self) -> ActionResult:
        states, mode = self._get_param("states"), self._get_param("mode")
        after, before = self._get_param("createdAtAfter"), self._get_param("createdAtBefore")
        jobs = [
            _view(job)
            for job in self.service.jobs(self._get_param("applicationId"))
            if (not states or job["state"] in states)
            and (not mode or job["mode"] == mode)
            and (not after or job["createdAt"] > after.timestamp())
            and (not before or job["createdAt"] < before.timestamp())
        ]
        return self._page(jobs, "jobRuns")

    def list_job_run_attempts(self) -> ActionResult:
        job = self._job()
        view = _view(job)
        attempts = [view | a | {"jobCreatedAt": job["createdAt"]} for a in reversed(job["attempts"])]
        return self._page(attempts, "jobRunAttempts")

    def get_dashboard_for_job_run(self) -> ActionResult:
        job = self._job()
        raise ValidationException(
            f"JobRun {job['id']} has no dashboard: the Spark UI is off locally, see its logs"
        )

    def list_tags_for_resource(self) -> ActionResult:
        return ActionResult({"tags": self.service.tagged(self._get_param("resourceArn"))["tags"]})

    def tag_resource(self) -> ActionResult:
        self.service.set_tags(self._get_param("resourceArn"), self._get_param("tags") or {}, [])
        return EmptyResult()

    def untag_resource(self) -> ActionResult:
        self.service.set_tags(self._get_param("resourceArn"), {}, self._get_param("tagKeys") or [])
        return EmptyResult()

    def _page(self, items: list[Record], name: str) -> ActionResult:
        """One page; the token is the number of items already shown."""
        size = int(self._get_param("maxResults") or 50)
        token = self._get_param("nextToken")
        if not 1 <= size <= 50:
            raise ValidationException("maxResults must be between 1 and 50")
        if token is not None and not str(token).isdigit():
            raise ValidationException("nextToken is invalid")
        start = int(token or 0)
        result: Record = {name: items[start : start + size]}
        if start + size < len(items):
            result["nextToken"] = str(start + size)
        return ActionResult(result)


def install(service: EmrServerless) -> None:
    """Serve the real thing under moto's URLs (moto pretends that every job has succeeded, ignores clientToken and
    refuses emr-spark-* labels)."""
    global _service
    _service = service
    from moto.emrserverless import urls

    base = "{0}/applications"
    app, job = r"/(?P<applicationId>[^/]+)", r"/jobruns/(?P<jobRunId>[^/]+)"
    paths = [
        base,
        base + app,
        base + app + "/start",
        base + app + "/stop",
        base + app + "/jobruns",
        base + app + job,
        base + app + job + "/attempts",
        base + app + job + "/dashboard",
        r"{0}/tags/(?P<resourceArn>.+)",
    ]
    urls.url_paths.clear()
    urls.url_paths.update({f"{path}$": EmrServerlessResponse.dispatch for path in paths})
