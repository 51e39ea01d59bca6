"""What jobs and queries cost: resources that EMR Serverless billed, every try counted, and bytes that Athena scanned,
× the prices in settings."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lakehouse.settings import Prices, Settings

# Cost is told, and nothing waits for it.
SHORT = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 2})
# Athena bills whole megabytes, and ten at least for a query that scans anything (Athena pricing).
_MEGABYTE = 1_000_000
_LEAST_BYTES = 10 * _MEGABYTE
_PAGES = 40

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
    emr = boto3.client("emr-serverless", region_name=settings.region, config=SHORT)
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


@dataclass(frozen=True)
class Scanned:
    """What the workgroups' queries did in a time: bytes as they were, and as they are billed."""

    queries: int
    seconds: float
    bytes: int
    billed_bytes: int

    def cost_usd(self, prices: Prices) -> Decimal | None:
        """In USD, at six decimals; None where no price is set."""
        if prices.athena_tb_scanned is None:
            return None
        cost = Decimal(self.billed_bytes) / 10**12 * prices.athena_tb_scanned
        return cost.quantize(Decimal("0.000001"))


def scanned(settings: Settings, since: datetime, until: datetime) -> Scanned | None:
    """The workgroups' queries submitted in [since, until); None where there were none, or Athena does not say."""
    athena = boto3.client("athena", region_name=settings.region, config=SHORT)
    found: list[tuple[float, int]] = []
    try:
        for workgroup in settings.athena.workgroups:
            found += _queries(athena, workgroup, since, until)
    except (BotoCoreError, ClientError) as error:
        log.warning("Athena does not say what its queries scanned: %s", error)
        return None
    if not found:
        return None
    return Scanned(
        queries=len(found),
        seconds=round(sum(seconds for seconds, _ in found), 3),
        bytes=sum(size for _, size in found),
        billed_bytes=sum(max(-(-size // _MEGABYTE) * _MEGABYTE, _LEAST_BYTES) for _, size in found if size),
    )


def _queries(athena: Any, workgroup: str, since: datetime, until: datetime) -> Iterator[tuple[float, int]]:
    """Seconds and bytes of a workgroup's queries of [since, until)."""
    pages = athena.get_paginator("list_query_executions").paginate(
        WorkGroup=workgroup, PaginationConfig={"MaxItems": 50 * _PAGES, "PageSize": 50}
    )
    asked = 0
    for page in pages:  # the newest first
        if not (ids := page["QueryExecutionIds"]):
            return
        queries = athena.batch_get_query_execution(QueryExecutionIds=ids)["QueryExecutions"]
        moments = [query["Status"]["SubmissionDateTime"].astimezone(UTC) for query in queries]
        for query, at in zip(queries, moments, strict=True):
            # AWS does not charge for a query that failed.
            if since <= at < until and query["Status"]["State"] != "FAILED":
                told = query.get("Statistics", {})
                yield told.get("TotalExecutionTimeInMillis", 0) / 1000, told.get("DataScannedInBytes", 0)
        if moments and max(moments) < since:
            return
        asked += len(ids)
    if asked >= 50 * _PAGES:
        log.warning("Athena was asked of the %s newest queries of %s only: they cost more", asked, workgroup)


def by_table(
    costs: Mapping[tuple[str, str], Decimal], reads: Iterable[tuple[str, str, str, int]]
) -> dict[tuple[str, str], Decimal]:
    """USD by (run, table): what a job cost, shared among its tables by the rows that it read for each.

    ``costs`` by (run, job); ``reads`` are (run, job, table, rows). A job that read no row shares equally; one that has
    no table is not in it.
    """
    tables: dict[tuple[str, str], dict[str, int]] = {}
    for run, job, table, count in reads:
        tables.setdefault((run, job), {})[table] = count
    shared: dict[tuple[str, str], Decimal] = {}
    for (run, job), usd in costs.items():
        counts = tables.get((run, job), {})
        total = sum(counts.values())
        for table, count in counts.items():
            share = Decimal(count) / total if total else Decimal(1) / len(counts)
            shared[run, table] = shared.get((run, table), Decimal(0)) + usd * share
    return shared
