"""Where the logs of a run's jobs lie: by what EMR Serverless says of the job runs that Airflow submitted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lakehouse.observe import job_logs
from tests.observe.support import START, an_outcome
from tests.quality.support import make_settings


class Emr:
    """Job runs of two pages: two tries of one task, one of another run."""

    def get_paginator(self, name: str) -> Emr:
        assert name == "list_job_runs"
        return self

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        assert asked["createdAtAfter"] < START
        runs = [
            {"id": "second", "name": "name", "createdAt": START + timedelta(minutes=9)},
            {"id": "first", "name": "name", "createdAt": START},
            {"id": "other", "name": "another run's", "createdAt": START + timedelta(hours=1)},
        ]
        return [{"jobRuns": runs[:1]}, {"jobRuns": runs[1:]}]

    def get_job_run(self, **asked: str) -> dict[str, Any]:
        assert asked == {"applicationId": "app", "jobRunId": "second"}
        monitoring = {"s3MonitoringConfiguration": {"logUri": "s3://logs/emr/"}}
        return {"jobRun": {"configurationOverrides": {"monitoringConfiguration": monitoring}}}


def test_the_log_of_the_last_try_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs.boto3, "client", lambda *_, **__: Emr())
    settings = make_settings("s3://lake").model_copy(update={"emr_application_id": "app"})

    found = job_logs.locations(settings, [an_outcome(), an_outcome("by_hand", parent=None)])

    assert found == {"bronze_to_silver": "s3://logs/emr/applications/app/jobs/second/SPARK_DRIVER/"}
    assert job_logs.locations(settings, [an_outcome("by_hand", parent=None)]) == {}
    assert job_logs.locations(make_settings("s3://lake"), [an_outcome()]) == {}
