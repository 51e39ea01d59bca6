"""What CloudWatch is told of a run, and that nobody waits for it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from dq_runner import metrics
from tests.services.dq_runner.reports import AT, report, row
from tests.support import Aws


def test_what_a_run_tells() -> None:
    given = report("run-1", [row("a"), row("b", severity="warning"), row("c", "passed"), row("d", "error")])
    found = {
        (each["MetricName"], *(one["Value"] for one in each.get("Dimensions", []))): each["Value"]
        for each in metrics.metrics_of(given)
    }
    assert found == {
        ("Results", "failed"): 2,
        ("Results", "error"): 1,
        ("Results", "no_history"): 0,
        ("Results", "skipped"): 0,
        ("Results", "passed"): 1,
        ("Tables",): 1,
        ("CriticalFailures",): 1,
        ("NewFailures",): 0,
        ("MutedFailures",): 0,
        ("Queries",): 3,
        ("Seconds",): 12.5,
        ("Credits",): 0.003472,
    }


def test_cloudwatch_has_what_was_sent(aws: Aws, lake: str) -> None:
    namespace = f"Lakehouse/{lake.removeprefix('s3://')}"
    assert metrics.send(report("run-1", [row()]), namespace) is None
    found = aws.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName="CriticalFailures",
        StartTime=AT - timedelta(hours=1),
        EndTime=AT + timedelta(hours=1),
        Period=60,
        Statistics=["Sum"],
    )
    assert [point["Sum"] for point in found["Datapoints"]] == [1]


def test_what_fails_is_told_and_raises_nothing(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    problem = metrics.send(report("run-1"), "Lakehouse")
    assert problem is not None
    assert problem.startswith("metrics were not sent: EndpointConnectionError")


def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: Any) -> None:
        time.sleep(5)

    monkeypatch.setattr(metrics, "_put", hangs)
    monkeypatch.setattr(metrics, "_SECONDS", 0.1)
    assert metrics.send(report("run-1"), "Lakehouse") == "metrics were not sent: no answer within 0.1 s"
