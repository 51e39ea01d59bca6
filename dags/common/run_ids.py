"""Names that a DAG run's tasks and tries derive alike, so that a retry meets what the try before it left behind."""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import UTC, datetime
from typing import Any

#: The fixed namespace of run ids: the same DAG run has the same id in every environment and release.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "lakehouse/run-id")
PATTERN = re.compile(r"^\d{8}T\d{6}Z-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
#: What EMR Serverless accepts as the name of a job run.
MAX_NAME = 256


def lakehouse_run_id(dag_id: str, dag_run_id: str, at: datetime) -> str:
    """The run id of a DAG run: its time in UTC, then a UUID made from the DAG's and the run's id."""
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid5(NAMESPACE, f'{dag_id}/{dag_run_id}')}"


def of_dag_run(dag_run: Any, override: str | None = None) -> str:
    """The run id every task and try of this DAG run uses.

    Its time is the logical date, or run_after for asset-triggered runs, which have none. `override` repeats an
    earlier run under its own id.
    """
    if override:
        if not PATTERN.match(override):
            raise ValueError(f"run_id {override!r} is not of the form YYYYMMDDTHHMMSSZ-<uuid>.")
        return override
    return lakehouse_run_id(dag_run.dag_id, dag_run.run_id, dag_run.logical_date or dag_run.run_after)


def job_name(dag_id: str, dag_run_id: str, task_id: str, map_index: int = -1) -> str:
    """The name of a task's job run, the same for every try: how a new try finds the live job of an earlier one."""
    name = f"{dag_id}:{dag_run_id}:{task_id}" + (f":{map_index}" if map_index >= 0 else "")
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: MAX_NAME - 17]}~{digest}"


def client_token(name: str, try_number: int, instance_id: object) -> str:
    """EMR's idempotency token of one try: a submission repeated by the SDK starts no second job.

    The task instance's own id is in it because try numbers begin again where the metadata database is rebuilt,
    and EMR would then answer with a job of long ago.
    """
    return hashlib.sha256(f"{name}/{try_number}/{instance_id}".encode()).hexdigest()
