"""What all DAGs agree on: owner, retries, pools."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from common import notices

OWNER = "data-platform"
#: Slots for jobs that only read sources and append their own Bronze table.
INGEST_POOL = "emr_ingest"
#: One slot per layer whose tables several DAGs write: orders the writers (the log store keeps them apart anyway).
BRONZE_POOL = "bronze_writer"
SILVER_POOL = "silver_writer"
GOLD_POOL = "gold_writer"


def schedule(cron: str) -> str | None:
    """When a DAG runs by itself: ``cron`` in UTC; never where LAKEHOUSE_SCHEDULES is ``off``, as on a laptop.

    There a person triggers, and a trigger in the UI unpauses the DAG: its schedule would then run the last day as well.
    """
    return None if os.environ.get("LAKEHOUSE_SCHEDULES") == "off" else cron


def default_args() -> dict[str, Any]:
    """Arguments of every task. Only transient failures get as far as a retry: see common/emr.py."""
    return {
        "owner": OWNER,
        "retries": 2,
        "retry_delay": timedelta(seconds=float(os.environ.get("LAKEHOUSE_RETRY_SECONDS", "300"))),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
        "depends_on_past": False,
        "on_failure_callback": [notices.task_failed],
    }
