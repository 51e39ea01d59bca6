"""The alarm: one message to SNS for the critical failures of a run that nobody has been told of.

Sent after the report was published, and marked after it was sent (``reports/notices/<date>/<run id>.json``): another
try of the run does not send it again, and where the first died between the two, it is sent twice rather than never.
A run that has nothing to tell is marked, too: its failures were told by others, or nobody wants to hear of them. The
message has counts and names, and no values of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from dq_runner.aws import told
from dq_runner.before import notice_uri
from dq_runner.publish import Published
from dq_runner.report import Report, ResultRow
from lakehouse import store
from lakehouse.masks import masked

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

#: SNS takes a subject of fewer than 100 printable ASCII characters (API reference, Publish).
SUBJECT = 99
#: SNS takes 256 KB a message; what is longer than a page is in the report.
LINES = 20
LINE = 700
NAME = 200
_LIMITS = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "max_attempts": 4})


def notify(published: Published, topic: str | None, dashboard: str | None = None) -> bool:
    """Tell a topic of a run's new critical failures, or that it could check nothing. Returns whether it was sent.

    Nothing is sent where there is nothing to tell, no topic, or where another try of the run has told already. Raises
    AwsUnavailable and AwsRefused where SNS or the mark fail: the report stands, and the call may be repeated.
    """
    mark = notice_uri(published.uri)
    with _told(mark):
        if store.get(mark) is not None:
            return False
    sends = topic is not None and bool(published.alarms or published.report.checked_nothing)
    if topic is not None and sends:
        _send(topic, *_words(published, dashboard))
    with _told(mark):
        run_id, alarms = published.report.run.run_id, len(published.alarms)
        store.put(mark, json.dumps({"run_id": run_id, "alarms": alarms, "sent": sends}).encode())
    return sends


def _told(mark: str) -> AbstractContextManager[None]:
    return told(f"the mark {mark}", hint="let the runner's role use s3:GetObject and s3:PutObject on it")


def _words(published: Published, dashboard: str | None) -> tuple[str, list[str]]:
    """Subject and lines."""
    report = published.report
    subject, lines = _nothing(report) if report.checked_nothing else _alarms(published)
    where = [f"Report: {published.uri}", *([f"Dashboard: {dashboard}"] if dashboard else [])]
    return subject, [*lines, "", *where]


def notify_not_ended(reason: str, run_id: str, at: datetime, topic: str | None) -> bool:
    """Tell a topic that a run did not come to its end: without a report, or after it, before others were told of it.

    ``reason`` is for people and has no secrets and no values of rows. Raises as ``notify``. There is nowhere to mark
    that it was sent: each try tells.
    """
    if topic is None:
        return False
    lines = [f"Run {run_id} of {at:%Y-%m-%d %H:%M} UTC did not come to its end.", "", reason]
    _send(topic, "Data quality: the run did not come to its end", lines)
    return True


def _nothing(report: Report) -> tuple[str, list[str]]:
    reasons = sorted({row.message for row in report.results if row.status == "error"})
    lines = [
        f"Run {report.run.run_id} could check nothing: {_counted(report.summary.counts.error, 'error')}.",
        "",
    ]
    return "Data quality: the run could check nothing", [*lines, *reasons[:LINES]]


def _alarms(published: Published) -> tuple[str, list[str]]:
    alarms, report = published.alarms, published.report
    tables = len({row.table_name for row in alarms})
    title = f"{_counted(len(alarms), 'new critical failure')} in {_counted(tables, 'table')}"
    shown = [_line(row) for row in alarms[:LINES]]
    rest = [f"and {len(alarms) - LINES:,} more"] if len(alarms) > LINES else []
    return f"Data quality: {title}", [f"{title}.", "", *shown, *rest, "", _summary(report)]


def _line(row: ResultRow) -> str:
    """What failed, by counts. Where a rule counts no rows, its words have none in them (volume, freshness)."""
    found = f"{row.failed_rows:,} of {row.rows or 0:,} rows" if row.failed_rows is not None else row.observed
    since = "" if row.new else " (it failed before, muted or as a warning)"
    return f"{row.table_name[:NAME]}  {row.rule[:NAME]}: {found[:NAME]}{since}"


def _summary(report: Report) -> str:
    counts, run = report.summary.counts, report.run
    return (
        f"Run {run.run_id} of {run.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC looked at "
        f"{_counted(report.summary.tables, 'table')}: {counts.passed} passed, {counts.failed} failed "
        f"({counts.critical} critical, {counts.muted} muted), {counts.error} errors, {counts.skipped} skipped, "
        f"{counts.no_history} without history."
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def _send(topic: str, subject: str, lines: Sequence[str]) -> None:
    with told(f"the topic {topic}", hint="let the runner's role use sns:Publish on it, and the topic's key"):
        _client(topic).publish(
            TopicArn=topic, Subject=_subject(subject), Message="\n".join(_printable(lines))
        )


def _client(topic: str) -> SNSClient:
    """A client of the topic's Region: arn:aws:sns:<Region>:<account>:<name>."""
    return boto3.client("sns", region_name=topic.split(":")[3], config=_LIMITS)


def _subject(text: str) -> str:
    return _printable([text])[0].encode("ascii", "replace").decode()[:SUBJECT]


def _printable(lines: Iterable[str]) -> list[str]:
    """One line each, without secrets and without what a terminal or a mail would obey: people choose names."""
    return [
        "".join(letter if letter.isprintable() else " " for letter in masked(line))[:LINE] for line in lines
    ]
