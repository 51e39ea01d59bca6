"""Run ids. A run id carries the run's time, the only "now" that a transform may know.

Form: ``YYYYMMDDTHHMMSSZ-<uuid>``. Within a DAG run every task and every try derives the same one
(``dags/common/run_ids.py``); a job started by hand without ``--run-id`` gets a new one.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

from lakehouse.errors import UsageError

_RUN_ID = re.compile(r"^(\d{8}T\d{6}Z)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_STAMP = "%Y%m%dT%H%M%SZ"


def new_run_id(at: datetime) -> str:
    """A fresh run id for a run at the given UTC time."""
    return f"{at.astimezone(UTC).strftime(_STAMP)}-{uuid.uuid4()}"


def run_time(run_id: str) -> datetime:
    """The time a run id carries, in UTC. Raises UsageError where the id has another form."""
    match = _RUN_ID.match(run_id)
    if match is None:
        raise UsageError(
            f"received the run id {run_id!r}, expected YYYYMMDDTHHMMSSZ-<uuid>",
            hint="leave --run-id out to start a new run, or copy one from runs/ in the lake",
        )
    return datetime.strptime(match.group(1), _STAMP).replace(tzinfo=UTC)


def counted(runs: int) -> str:
    """A number of runs in words: "1 run", "2 runs"."""
    return "1 run" if runs == 1 else f"{runs} runs"
