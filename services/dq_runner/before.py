"""The run before: what failed in it, and what somebody was told of.

A failure is *new* where its rule did not fail when it was last tried. A rule without an answer in a run (an error,
no time left, a table that was not looked at) is remembered in that run's report as ``open`` where it had failed
before: one report tells all, and a failure is not new again once its table can be read again.

The run before is the one that was published last before this one, not the one that began last: of two that overlap,
the later to end knows what the other has told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from dq_runner.report import HISTORY, Key, Open, Report, ResultRow
from lakehouse import store

#: A rule that failed and has given no answer for so long is forgotten: it was removed, or its table was.
FORGOTTEN = timedelta(days=30)
_ANSWERS = ("passed", "failed")


@dataclass(frozen=True)
class Before:
    """``failing``: rules that failed when they were last tried. ``alarmed``: those that somebody was told of.

    ``notes``: reports that could not be read, in whose place an older one counts.
    """

    failing: Mapping[Key, Open] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def alarmed(self) -> frozenset[Key]:
        return frozenset(key for key, each in self.failing.items() if each.alarmed)


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
    def open(self) -> Open:
        return Open(
            database=self.database,
            schema_=self.schema_,
            table=self.table,
            rule=self.rule,
            failed_at=self.timestamp,
            alarmed=self.severity == "critical" and self.muted is None,
        )


class _Earlier(BaseModel):
    results: tuple[_Row, ...]
    open: tuple[Open, ...] = ()


def read_before(bucket: str, uri: str, day: date) -> Before:
    """What the run before the one whose report is (or will be) at ``uri`` left. ``day``: of that run's start, UTC.

    Looks back for a month at least. An object that is no report is left out with a note. Raises what S3 says.
    """
    notes: list[str] = []
    for each in _published_before(bucket, uri, day):
        body = store.get(each)
        try:
            if body is not None:
                return Before(_failing(_Earlier.model_validate_json(body)), tuple(notes))
        except ValidationError:
            notes.append(
                f"{each} is no report ({len(body or b'')} bytes): what is new is said by an older one"
            )
    return Before(notes=tuple(notes))


def _published_before(bucket: str, uri: str, day: date) -> Iterator[str]:
    """Reports of this month and the one before, the last published first; those behind ``uri`` if it is there."""
    months = [f"{day.replace(day=1) - timedelta(days=1):%Y-%m}", f"{day:%Y-%m}"]
    found = [each for month in months for each in store.objects(f"s3://{bucket}/{HISTORY}/{month}")]
    order = sorted(found, key=lambda each: (each.modified, each.uri), reverse=True)
    uris = [each.uri for each in order]
    yield from uris[uris.index(uri) + 1 :] if uri in uris else uris


def _failing(earlier: _Earlier) -> dict[Key, Open]:
    failed = [row.open for row in earlier.results if row.status == "failed"]
    return {each.key: each for each in (*earlier.open, *failed)}


def with_new(report: Report, before: Before) -> Report:
    """The report with what is new by the run before, and what is still open of it."""
    rows = tuple(
        row.model_copy(update={"new": row.status == "failed" and row.key not in before.failing})
        for row in report.results
    )
    answered = {row.key for row in rows if row.status in _ANSWERS}
    since = report.run.started_at - FORGOTTEN
    left = [
        each for key, each in sorted(before.failing.items()) if key not in answered and each.failed_at > since
    ]
    return report.model_copy(
        update={
            "run": report.run.model_copy(update={"notes": (*report.run.notes, *before.notes)}),
            "summary": report.summary.model_copy(update={"new_failures": sum(row.new for row in rows)}),
            "results": rows,
            "open": tuple(left),
        }
    )
