"""A run's report on S3: in the history once and for ever, then as the latest, unless that is of a newer run.

- The object of the history is created, never replaced (If-None-Match): of two tries of one run the first stays, and
  what it holds is the run's report for both.
- ``dq_results.json`` gets the same bytes (If-Match), unless it is of a newer run. Another try does so where the first
  died in between.

What a run measured is written before its report: a run without report is tried again, and measures again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime

from pydantic import AwareDatetime, BaseModel, ValidationError

from dq_runner import history
from dq_runner.aws import told
from dq_runner.before import read_before, with_new
from dq_runner.model import Measures
from dq_runner.report import HISTORY, LATEST, Report, ResultRow
from lakehouse import store

log = logging.getLogger("dq_runner.publish")


@dataclass(frozen=True)
class Published:
    """What the bucket holds of the run.

    ``first``: this call created it; if not, ``report`` is what an earlier try of the run had found. ``new_failures``
    did not fail before; ``alarms`` are the critical ones that nobody has been told of: new ones, and
    old ones whose mute has expired. ``latest``: dq_results.json is of this run.
    """

    first: bool
    report: Report
    uri: str
    latest: bool
    new_failures: tuple[ResultRow, ...]
    alarms: tuple[ResultRow, ...]


def history_uri(bucket: str, run_id: str, day: date) -> str:
    """``day`` is the UTC date of the run's start."""
    return f"s3://{bucket}/{HISTORY}/{day}/{run_id}.json"


def publish(report: Report, measures: Sequence[Measures], bucket: str) -> Published:
    """Write a run's report and measures. Another try of the same run writes what the first left undone, and no more.

    ``new`` and ``open`` of the report are set here, by the run before. Raises AwsRefused, AwsUnavailable,
    TransientError; then the run is not published, and the same call may be repeated.
    """
    run = report.run
    earlier = published(bucket, run.run_id, run.started_at)
    if earlier is not None:
        return earlier
    uri = history_uri(bucket, run.run_id, _day(run.started_at))
    with _told(bucket):
        history.write(bucket, run.run_id, run.started_at, measures)
        complete = with_new(report, read_before(bucket, uri, _day(run.started_at)))
        body = complete.to_json()
        if store.put_if_absent(uri, body):
            return _finished(bucket, uri, complete, body, first=True)
    stands = published(bucket, run.run_id, run.started_at)
    assert stands is not None  # it exists, and nobody deletes it
    return stands


def published(bucket: str, run_id: str, at: datetime) -> Published | None:
    """What an earlier try of a run has published, made complete; None where the run has still to be done.

    ``at``: the moment of the run. Raises as ``publish``, and StateUnreadable where its report is none.
    """
    uri = history_uri(bucket, run_id, _day(at))
    with _told(bucket):
        body = store.get(uri)
        if body is None:
            return None
        return _finished(bucket, uri, store.parsed(Report, uri, body), body, first=False)


def _finished(bucket: str, uri: str, report: Report, body: bytes, *, first: bool) -> Published:
    latest = _make_latest(bucket, report, body)
    # Asked again: another run may have been published in between, and have told of the same.
    before = read_before(bucket, uri, _day(report.run.started_at))
    new = tuple(row for row in report.results if row.new)
    alarms = tuple(row for row in report.results if row.alarms and row.key not in before.told)
    return Published(first, report, uri, latest, new, alarms)


def _make_latest(bucket: str, report: Report, body: bytes) -> bool:
    """Whether dq_results.json is of this run now. One that cannot be read is replaced."""
    uri, run = f"s3://{bucket}/{LATEST}", report.run
    is_ours = True

    def wanted(there: bytes | None) -> bytes | None:
        nonlocal is_ours
        newest = None if there is None else _head(uri, there)
        is_ours = newest is None or (newest.run.started_at, newest.run.run_id) <= (run.started_at, run.run_id)
        return body if is_ours and there != body else None

    store.replace(uri, wanted)
    return is_ours


class _HeadRun(BaseModel):
    run_id: str
    started_at: AwareDatetime


class _Head(BaseModel):
    run: _HeadRun


def _head(uri: str, body: bytes) -> _Head | None:
    try:
        return _Head.model_validate_json(body)
    except ValidationError:
        log.warning("%s is no report (%d bytes), and is replaced", uri, len(body))
        return None


def _told(bucket: str) -> AbstractContextManager[None]:
    return told(
        f"reports in s3://{bucket}/reports/",
        hint=f"let the runner's role use s3:GetObject and s3:PutObject on {bucket}/reports/* and s3:ListBucket on "
        f"{bucket}, and its key; S3_DQ_REPORTS_BUCKET names the bucket",
    )


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()
