"""The run before: what failed in it, and what somebody was told of.

A failure is *new* where its rule did not fail when it was last tried. A rule without an answer in a run (an error,
no time left, a table that was not looked at) is remembered in that run's report as ``open`` where it had failed
before: one report tells all, and a failure is not new again once its table can be read again.

The run before is the one that was published last before this one, not the one that began last: of two that overlap,
the later to end knows what the other has told. What a run found was told where its notice is marked as settled; where
its tries all died before that, its failures are told by the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from dq_runner.report import HISTORY, Key, Open, Report, ResultRow
from lakehouse import store

NOTICES = "reports/notices"
#: A rule that failed and has given no answer for so long is forgotten: it was removed, or its table was.
FORGOTTEN = timedelta(days=30)
#: Runs without a settled notice, one after the other, behind which nobody looks: their failures are told again.
UNSETTLED = 5
_ANSWERS = ("passed", "failed")


@dataclass(frozen=True)
class Before:
    """``failing``: rules that failed when they were last tried.

    ``notes``: reports that could not be read, in whose place an older one counts.
    """

    failing: Mapping[Key, Open] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> frozenset[Key]:
        """Critical failures that somebody was told of."""
        return frozenset(key for key, each in self.failing.items() if each.told)


class _Row(BaseModel):
    """What counts of an earlier report's row; a later version of the runner may have written more into it."""

    timestamp: AwareDatetime
    database: str
    schema_: str
    table: str
    rule: str
    status: str
    severity: str
    muted: Any = None

    model_config = ResultRow.model_config

    @property
    def key(self) -> Key:
        return self.database, self.schema_, self.table, self.rule

    @property
    def alarms(self) -> bool:
        return self.status == "failed" and self.severity == "critical" and self.muted is None

    def open(self, *, told: bool) -> Open:
        return Open(
            database=self.database,
            schema_=self.schema_,
            table=self.table,
            rule=self.rule,
            failed_at=self.timestamp,
            told=told,
        )


class _Earlier(BaseModel):
    results: tuple[_Row, ...]
    open: tuple[Open, ...] = ()


def notice_uri(report_uri: str) -> str:
    """Where it is marked that what a run found was told."""
    return report_uri.replace(f"/{HISTORY}/", f"/{NOTICES}/", 1)


def read_before(bucket: str, uri: str, day: date) -> Before:
    """What the run before the one whose report is (or will be) at ``uri`` left. ``day``: of that run's start, UTC.

    Looks back for a month at least. An object that is no report is left out with a note. Raises what S3 says.
    """
    notes: list[str] = []
    earlier = _reports(_published_before(bucket, uri, day), notes)
    return Before(_failing(earlier, UNSETTLED), tuple(notes))


def _published_before(bucket: str, uri: str, day: date) -> list[str]:
    """Reports of this month and the one before, the last published first; those behind ``uri`` if it is there."""
    months = [f"{day.replace(day=1) - timedelta(days=1):%Y-%m}", f"{day:%Y-%m}"]
    found = [each for month in months for each in store.objects(f"s3://{bucket}/{HISTORY}/{month}")]
    uris = [each.uri for each in sorted(found, key=lambda each: (each.modified, each.uri), reverse=True)]
    return uris[uris.index(uri) + 1 :] if uri in uris else uris


def _reports(uris: Iterable[str], notes: list[str]) -> Iterator[tuple[str, _Earlier]]:
    """Each is read when it is asked for."""
    for uri in uris:
        body = store.get(uri)
        try:
            if body is not None:
                yield uri, _Earlier.model_validate_json(body)
        except ValidationError:
            notes.append(
                f"{uri} is no report ({len(body or b'')} bytes): what is new is said by an older one"
            )


def _failing(reports: Iterator[tuple[str, _Earlier]], unsettled: int) -> dict[Key, Open]:
    """What failed by the first of the reports, and whether somebody was told: by it, or by the ones before it."""
    uri, newest = next(reports, ("", None))
    if newest is None:
        return {}
    failed = [row for row in newest.results if row.status == "failed"]
    told = {row.key for row in failed if row.alarms}
    if told and store.get(notice_uri(uri)) is None:
        older = _failing(reports, unsettled - 1) if unsettled else {}
        told &= {key for key, each in older.items() if each.told}
    found = [*newest.open, *(row.open(told=row.key in told) for row in failed)]
    return {each.key: each for each in found}


def with_new(report: Report, before: Before) -> Report:
    """The report with what is new by the run before, and what is still open of it."""
    rows = tuple(
        row.model_copy(update={"new": row.status == "failed" and row.key not in before.failing})
        for row in report.results
    )
    run, summary = report.run, report.summary
    return report.model_copy(
        update={
            "run": run.model_copy(update={"notes": (*run.notes, *before.notes)}),
            "summary": summary.model_copy(update={"new_failures": sum(row.new for row in rows)}),
            "results": rows,
            "open": _open(report, before),
        }
    )


def _open(report: Report, before: Before) -> tuple[Open, ...]:
    answered = {row.key for row in report.results if row.status in _ANSWERS}
    since = report.run.started_at - FORGOTTEN
    return tuple(
        each for key, each in sorted(before.failing.items()) if key not in answered and each.failed_at > since
    )
