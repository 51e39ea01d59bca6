"""What jobs cost: resources that EMR Serverless billed, every try counted, × the prices in settings."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from lakehouse.settings import Prices, Settings

log = logging.getLogger("lakehouse.observe.cost")


@dataclass(frozen=True)
class Usage:
    """Billed resources, in vCPU hours and GB hours."""

    vcpu_hours: Decimal
    memory_gb_hours: Decimal
    storage_gb_hours: Decimal

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.vcpu_hours + other.vcpu_hours,
            self.memory_gb_hours + other.memory_gb_hours,
            self.storage_gb_hours + other.storage_gb_hours,
        )

    def cost_usd(self, prices: Prices) -> Decimal:
        """In USD, at six decimals."""
        cost = (
            self.vcpu_hours * prices.vcpu_hour
            + self.memory_gb_hours * prices.memory_gb_hour
            + self.storage_gb_hours * prices.storage_gb_hour
        )
        return cost.quantize(Decimal("0.000001"))


_NOTHING = Usage(Decimal(0), Decimal(0), Decimal(0))


def billed(settings: Settings, names: Collection[str], since: datetime) -> dict[str, Usage]:
    """Usage by name of job run, its tries since a time added up; a name is missing where EMR does not (yet) say."""
    if settings.emr_application_id is None or not names:
        return {}
    emr = boto3.client("emr-serverless", region_name=settings.region)
    usage: dict[str, Usage] = {}
    try:
        pages = emr.get_paginator("list_job_runs").paginate(
            applicationId=settings.emr_application_id, createdAtAfter=since
        )
        for each in (run for page in pages for run in page["jobRuns"] if run.get("name") in names):
            run = emr.get_job_run(applicationId=settings.emr_application_id, jobRunId=each["id"])["jobRun"]
            if used := run.get("billedResourceUtilization"):
                found = (
                    Decimal(str(used.get(name, 0))) for name in ("vCPUHour", "memoryGBHour", "storageGBHour")
                )
                usage[run["name"]] = usage.get(run["name"], _NOTHING) + Usage(*found)
    except (BotoCoreError, ClientError) as error:
        log.warning("EMR does not say what this run's jobs used: %s", error)
    return usage
