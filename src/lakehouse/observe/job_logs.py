"""Where the logs of a run's jobs lie, by what EMR Serverless knows of their job runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import boto3

from lakehouse.observe.cost import SHORT
from lakehouse.observe.outcome import Outcome
from lakehouse.settings import Settings

# A job is submitted before it starts; the application may have to start first.
_BEFORE = timedelta(hours=1)


def locations(settings: Settings, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The folder of the driver's log by job, of its last try; without those that Airflow did not submit."""
    names = {each.parent.job_name: each.job for each in outcomes if each.parent and each.parent.job_name}
    if settings.emr_application_id is None or not names:
        return {}
    application = settings.emr_application_id
    emr = boto3.client("emr-serverless", region_name=settings.region, config=SHORT)
    pages = emr.get_paginator("list_job_runs").paginate(
        applicationId=application, createdAtAfter=min(each.started_at for each in outcomes) - _BEFORE
    )
    newest = {}
    for run in sorted((run for page in pages for run in page["jobRuns"]), key=lambda run: run["createdAt"]):
        if run.get("name") in names:
            newest[names[run["name"]]] = run["id"]
    found = {}
    for job, run_id in newest.items():
        told = emr.get_job_run(applicationId=application, jobRunId=run_id)["jobRun"]
        monitoring = told.get("configurationOverrides", {}).get("monitoringConfiguration", {})
        uri = monitoring.get("s3MonitoringConfiguration", {}).get("logUri")
        if uri is not None:
            found[job] = f"{uri.rstrip('/')}/applications/{application}/jobs/{run_id}/SPARK_DRIVER/"
    return found
