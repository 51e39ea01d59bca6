"""CloudWatch metrics, sent in batches. A pipeline never fails because its metrics did; it says so instead."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lakehouse.observe.outcome import Outcome
from lakehouse.settings import Settings

log = logging.getLogger("lakehouse.metrics")

# PutMetricData takes up to 1,000 metrics a call (CloudWatch API reference).
_BATCH = 1000
_LEDGER = ("read", "inserted", "updated", "quarantined", "duplicates", "superseded", "conflicts")


@dataclass(frozen=True)
class Metric:
    """One value with its dimensions."""

    name: str
    value: float
    unit: Literal["Count", "Count/Second", "Seconds", "None"]
    dimensions: tuple[tuple[str, str], ...]
    at: datetime


def metrics_of(outcomes: Iterable[Outcome], environment: str) -> list[Metric]:
    """Rows per table and ledger column, seconds and failures per job, gate failures per table."""
    result: list[Metric] = []
    for outcome in outcomes:
        at = outcome.finished_at or outcome.started_at
        job = (("Environment", environment), ("Job", outcome.job))
        result.append(Metric("Seconds", outcome.seconds or 0.0, "Seconds", job, at))
        result.append(Metric("Failures", float(outcome.status == "failed"), "Count", job, at))
        for table in outcome.tables:
            if table.ledger is None:
                continue
            dimensions = (("Environment", environment), ("Table", table.table))
            result.extend(
                Metric(
                    f"Rows{name.capitalize()}", float(getattr(table.ledger, name)), "Count", dimensions, at
                )
                for name in _LEDGER
            )
        for verdict in outcome.verdicts:
            dimensions = (("Environment", environment), ("Table", verdict.table))
            result.append(Metric("GateFailures", float(verdict.outcome == "failed"), "Count", dimensions, at))
    return result


def send(settings: Settings, metrics: Sequence[Metric]) -> str | None:
    """Send metrics; returns None, or why they were not sent."""
    if not settings.metrics.enabled or not metrics:
        return None
    # Short and few: a metrics endpoint that hangs must not hold up the run.
    cloudwatch = boto3.client(
        "cloudwatch",
        region_name=settings.region,
        config=Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2}),
    )
    try:
        for start in range(0, len(metrics), _BATCH):
            cloudwatch.put_metric_data(
                Namespace=settings.metrics.namespace,
                MetricData=[
                    {
                        "MetricName": metric.name,
                        "Value": metric.value,
                        "Unit": metric.unit,
                        "Timestamp": metric.at,
                        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
                    }
                    for metric in metrics[start : start + _BATCH]
                ],
            )
    except (BotoCoreError, ClientError) as error:
        reason = f"metrics were not sent: {type(error).__name__}: {error}"
        log.warning(reason)
        return reason
    return None
