"""CloudWatch metrics of a run: what alarms and boards are made of. That they cannot be sent never fails a run.

In the namespace of the settings, without dimensions, but for ``Results``, which has ``Status``. ``Seconds`` are of the
run, ``Credits`` are estimated.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.config import Config

from dq_runner.report import ORDER, Report
from lakehouse.bounded import problem_of
from lakehouse.store import region

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

log = logging.getLogger("dq_runner.metrics")

# An endpoint that hangs must not hold up the run.
_SECONDS = 12.0
_LIMITS = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})


def metrics_of(report: Report) -> list[MetricDatumTypeDef]:
    """The metrics as PutMetricData takes them, of the moment at which the run ended."""
    run, counts = report.run, report.summary.counts
    numbers = {
        "Tables": report.summary.tables,
        "CriticalFailures": counts.critical,
        "NewFailures": report.summary.new_failures,
        "MutedFailures": counts.muted,
        "Queries": run.queries,
    }
    return [
        *[_metric(report, "Results", getattr(counts, status), "Count", status) for status in ORDER],
        *[_metric(report, name, number, "Count") for name, number in numbers.items()],
        _metric(report, "Seconds", run.seconds, "Seconds"),
        _metric(report, "Credits", float(run.credits), "None"),
    ]


def _metric(
    report: Report, name: str, value: float, unit: Literal["Count", "Seconds", "None"], status: str = ""
) -> MetricDatumTypeDef:
    datum: MetricDatumTypeDef = {
        "MetricName": name,
        "Value": value,
        "Unit": unit,
        "Timestamp": report.run.finished_at,
    }
    return datum | {"Dimensions": [{"Name": "Status", "Value": status}]} if status else datum


def send(report: Report, namespace: str) -> str | None:
    """Send a run's metrics; returns None, or why they were not sent. Raises nothing.

    To be called once a run: CloudWatch adds up what it is told twice.
    """
    problem = problem_of(lambda: _put(report, namespace), _SECONDS)
    if problem is None:
        return None
    reason = f"metrics were not sent: {problem}"
    log.warning(reason)
    return reason


def _put(report: Report, namespace: str) -> None:
    cloudwatch = boto3.client("cloudwatch", region_name=region(), config=_LIMITS)
    cloudwatch.put_metric_data(Namespace=namespace, MetricData=metrics_of(report))
