"""CloudWatch metrics, sent in batches. A pipeline never fails because its metrics did; it says so instead.

Dimensions: Environment, and Job or Table. Rows are of one run; Freshness is the age of what is certified, in seconds;
Cost is in USD. A job that failed sends its own, for then nothing after it runs; those of the others are sent together
at the end of the run.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import boto3
from botocore.config import Config

from lakehouse.bounded import problem_of
from lakehouse.observe.outcome import Outcome
from lakehouse.settings import Settings

log = logging.getLogger("lakehouse.metrics")

# PutMetricData takes up to 1,000 metrics and 1 MB a call (CloudWatch API reference). Measured as JSON; a form, as some
# versions of the SDK send, is up to three times as long.
_BATCH = 1000
_BATCH_BYTES = 300_000
# A metrics endpoint that hangs must not hold up the run.
_SECONDS = 12.0
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
            rows = {name: getattr(table.ledger, name) for name in _LEDGER}
            rows["written"] = table.ledger.inserted + table.ledger.updated
            result.extend(
                Metric(f"Rows{name.capitalize()}", float(count), "Count", dimensions, at)
                for name, count in rows.items()
            )
        for verdict in outcome.verdicts:
            dimensions = (("Environment", environment), ("Table", verdict.table))
            result.append(Metric("GateFailures", float(verdict.outcome == "failed"), "Count", dimensions, at))
    return result


def freshness(ages: Mapping[str, float], environment: str, at: datetime) -> list[Metric]:
    """Seconds since each table was last certified or published."""
    return [
        Metric("Freshness", age, "Seconds", (("Environment", environment), ("Table", table)), at)
        for table, age in sorted(ages.items())
    ]


def cost(costs: Mapping[str, Decimal], environment: str, at: datetime) -> list[Metric]:
    """USD of each job."""
    return [
        Metric("Cost", float(usd), "None", (("Environment", environment), ("Job", job)), at)
        for job, usd in sorted(costs.items())
    ]


def batches(metrics: Sequence[Metric]) -> Iterator[list[dict[str, Any]]]:
    """The metrics as PutMetricData takes them, in calls that it accepts. Values that are no number are left out."""
    batch: list[dict[str, Any]] = []
    size = 0
    for metric in metrics:
        if not math.isfinite(metric.value):
            continue
        datum = {
            "MetricName": metric.name,
            "Value": metric.value,
            "Unit": metric.unit,
            "Timestamp": metric.at,
            "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
        }
        bytes_of = len(json.dumps(datum, default=str))
        if batch and (len(batch) == _BATCH or size + bytes_of > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(datum)
        size += bytes_of
    if batch:
        yield batch


def send(settings: Settings, metrics: Sequence[Metric]) -> str | None:
    """Send metrics; returns None, or why they were not (all) sent. Raises nothing."""
    if not settings.metrics.enabled or not metrics:
        return None
    problem = problem_of(lambda: _put(settings, metrics), _SECONDS)
    if problem is None:
        return None
    reason = f"metrics were not sent: {problem}"
    log.warning(reason)
    return reason


def _put(settings: Settings, metrics: Sequence[Metric]) -> None:
    cloudwatch = boto3.client(
        "cloudwatch",
        region_name=settings.region,
        config=Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2}),
    )
    for batch in batches(metrics):
        cloudwatch.put_metric_data(Namespace=settings.metrics.namespace, MetricData=batch)  # type: ignore[arg-type]
