"""Beside the name that somebody gives stands whom AWS took them for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from lakehouse.flows.recovery import base
from lakehouse.flows.recovery.base import Request

ROLE = "arn:aws:sts::123456789012:assumed-role/lakehouse-prod-emr-recover/job"
ANNA = "arn:aws:sts::123456789012:assumed-role/OnCall/anna"


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Any:
    sts = SimpleNamespace(get_caller_identity=lambda: {"Arn": ROLE})
    monkeypatch.setattr(base.boto3, "client", lambda *_, **__: sts)
    return SimpleNamespace(
        sts=sts, settings=SimpleNamespace(region="eu-central-1"), outcome=SimpleNamespace(notes=[])
    )


def test_it_is_that_of_the_process_and_of_who_submitted_it(job: Any) -> None:
    assert base._identity(job, "") == ROLE
    assert base._identity(job, ANNA) == f"{ANNA} as {ROLE}"


def test_nobody_is_kept_from_repairing_because_sts_is_silent(job: Any) -> None:
    def silent() -> None:
        raise ConnectTimeoutError(endpoint_url="https://sts")

    job.sts.get_caller_identity = silent
    assert base._identity(job, ANNA) == f"{ANNA} as unknown: ConnectTimeoutError"
    assert "--by stands alone" in job.outcome.notes[0]


def test_a_repeated_recovery_may_come_from_somebody_else() -> None:
    first = Request(action="discard", by="anna", why="x", identity=ANNA)
    assert first.asked == Request(action="discard", by="ben", why="y", identity=ROLE).asked
