"""What a job run cost: resources that EMR Serverless billed × the prices in settings."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from lakehouse.settings import Prices, Settings


@dataclass(frozen=True)
class Usage:
    """Billed resources of one job run."""

    vcpu_hours: Decimal
    memory_gb_hours: Decimal
    storage_gb_hours: Decimal

    def cost_usd(self, prices: Prices) -> Decimal:
        """In USD, at six decimals."""
        cost = (
            self.vcpu_hours * prices.vcpu_hour
            + self.memory_gb_hours * prices.memory_gb_hour
            + self.storage_gb_hours * prices.storage_gb_hour
        )
        return cost.quantize(Decimal("0.000001"))


def billed(settings: Settings, job_run_id: str | None) -> Usage | None:
    """Usage of a finished job run, or None where EMR does not (yet) say."""
    if job_run_id is None or settings.emr_application_id is None:
        return None
    emr = boto3.client("emr-serverless", region_name=settings.region)
    try:
        run = emr.get_job_run(applicationId=settings.emr_application_id, jobRunId=job_run_id)["jobRun"]
    except (BotoCoreError, ClientError):
        return None
    used = run.get("billedResourceUtilization")
    if not used:
        return None
    return Usage(*(Decimal(str(used.get(name, 0))) for name in ("vCPUHour", "memoryGBHour", "storageGBHour")))
