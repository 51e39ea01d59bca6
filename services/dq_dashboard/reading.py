"""Bytes of a report or a verdict to what the page shows. Pure; nothing in it fails on bad bytes but by StateUnreadable.

A report may be cut off, because the page reads only the head of a huge one or because what wrote it died: what is whole
in it is shown, and how much that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from dq_dashboard.findings import BROKEN, Finding, of_runner
from dq_runner.model import TableName
from dq_runner.patterns import written
from dq_runner.report import SCHEMA, Muted, ResultRow, Run, Summary, TableRow
from lakehouse.errors import StateUnreadable

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Reading:
    """A report as far as it was read. ``total``: results that it has; ``bad``: those in ``findings``' place that are
    not as this page knows them; ``cut``: the object itself ends in the middle."""

    run: Run
    summary: Summary
    tables: tuple[TableRow, ...]
    findings: tuple[Finding, ...]
    total: int
    bad: int
    cut: bool

    @property
    def partial(self) -> bool:
        """Whether there are results that the page has not read."""
        return len(self.findings) + self.bad < self.total


def report(body: bytes, *, whole: bool, where: str) -> Reading:
    """A report, or the head of one. Raises StateUnreadable, which says what is wrong with it."""
    content, ended = _parsed(body, whole, where)
    if not isinstance(content, dict):
        raise _unreadable(where, f"JSON of another form ({type(content).__name__})")
    if content.get("schema") != SCHEMA:
        raise _unreadable(where, f"the schema {str(content.get('schema'))[:40]!r}")
    found = _rows(content.get("results"), ended)
    run, summary = _top(content, where)
    good, bad = _valid(found)
    return Reading(
        run=run,
        summary=summary,
        tables=tuple(_tables(content.get("tables"), ended or "results" in content)),
        findings=tuple(of_runner(row, run.run_id) for row in good),
        total=max(summary.results, len(found)),
        bad=bad,
        cut=whole and not ended,
    )


@dataclass(frozen=True)
class Past:
    """One test in one earlier run."""

    at: datetime
    run_id: str
    status: str
    value: float | None
    failed_rows: int | None
    observed: str


@dataclass(frozen=True)
class Earlier:
    """An earlier run: its tests, by table and rule.

    ``broken``: table, rule and status of what was broken, and of what had failed when it was last tried.
    ``all_broken``: none of these is missing, as it would be of a report that was not read to its end.
    """

    by_rule: Mapping[tuple[str, str], Past]
    broken: frozenset[tuple[str, str, str]]
    all_broken: bool


def earlier(body: bytes, *, whole: bool, where: str) -> Earlier:
    """Of an earlier report only what later ones are compared with: a fifth of the time that all of it takes."""
    content, ended = _parsed(body, whole, where)
    parts = content if isinstance(content, dict) else {}
    run, _ = _top(parts, where)
    found: dict[tuple[str, str], Past] = {}
    for row in _rows(parts.get("results"), ended):
        if (key := _key(row)) is not None:
            found[key] = _past(row, run)
    still = {(*key, "failed") for row in _rows(parts.get("open"), ended) if (key := _key(row)) is not None}
    broken = {(*key, one.status) for key, one in found.items() if one.status in BROKEN}
    everything = ended or any(one.status not in BROKEN for one in found.values())
    return Earlier(found, frozenset(broken | still), everything)


def _key(row: Any) -> tuple[str, str] | None:
    """Table and rule; None where the row is none."""
    try:
        return written(TableName(row["database"], row["schema"], row["table"])), str(row["rule"])
    except (KeyError, TypeError):
        return None


def _past(row: Mapping[str, Any], run: Run) -> Past:
    value, failed_rows = row.get("value"), row.get("failed_rows")
    return Past(
        run.started_at,
        run.run_id,
        status=str(row.get("status")),
        value=value if isinstance(value, int | float) and isfinite(value) else None,
        failed_rows=failed_rows if isinstance(failed_rows, int) else None,
        observed=str(row.get("observed", "")),
    )


def head(body: bytes, where: str) -> tuple[Run, Summary]:
    """The first two parts of a report. Raises StateUnreadable."""
    content, _ = _parsed(body, False, where)
    return _top(content if isinstance(content, dict) else {}, where)


def _top(content: dict[str, Any], where: str) -> tuple[Run, Summary]:
    run = _part(Run, content.get("run"), f"{where}: run")
    return run, _part(Summary, content.get("summary"), f"{where}: summary")


def _parsed(body: bytes, whole: bool, where: str) -> tuple[Any, bool]:
    """The JSON, and whether it came to its end."""
    if not body.strip():
        raise _unreadable(where, f"{len(body)} bytes without content")
    if whole:
        try:
            return from_json(body), True
        except ValueError:
            pass  # cut off, which the next try reads as far as it goes, or no JSON, of which it tells
    try:
        return from_json(body, allow_partial=True), False
    except ValueError as error:
        raise _unreadable(where, f"what is no JSON ({error})") from error


def _rows(results: Any, ended: bool) -> list[Any]:
    """Results that are whole: where the text was cut off, the last one may lack its end."""
    found = results if isinstance(results, list) else []
    return found if ended else found[:-1]


def _tables(tables: Any, ended: bool) -> list[TableRow]:
    found = []
    for one in _rows(tables, ended):
        try:
            found.append(TableRow.model_validate(one))
        except ValidationError:
            continue  # its results say the same, test by test
    return found


def _valid(rows: list[Any]) -> tuple[list[ResultRow], int]:
    good, bad = [], 0
    for row in rows:
        try:
            good.append(ResultRow.model_validate(row))
        except ValidationError:
            bad += 1
    return good, bad


def _part(model: type[M], content: Any, where: str) -> M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise _unreadable(where, f"something else ({place}: {first['msg']})") from error


def _unreadable(where: str, received: str) -> StateUnreadable:
    return StateUnreadable(
        f"{where}: received {received}, expected a report of the form {SCHEMA}",
        hint="Run the checks again (scripts/dq.py run, or invoke dq-platform-runner). If the schema is newer than "
        "this page, deploy the dashboard of the same release.",
    )


class _Part(BaseModel):
    # Verdicts are history: an older page reads what a newer gate wrote.
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Rule(_Part):
    name: str
    severity: Literal["critical", "warning"]
    passed: bool
    observed: str
    expected: str
    message: str = ""
    sample: tuple[dict[str, str], ...] = ()
    hint: str = ""


class _CertifiedRun(_Part):
    run_id: str


class Verdict(_Part):
    """What the page reads of a verdict; src/lakehouse/quality/verdicts.py has all of it, and needs Spark's packages."""

    verdict_id: str
    table: str
    run_id: str
    outcome: Literal["passed", "warned", "failed"]
    action: str = "judge"
    certified_runs: tuple[_CertifiedRun, ...] = ()
    rows: int | None = None
    rules: tuple[_Rule, ...]
    created_at: AwareDatetime
    by: str = ""
    why: str = ""
    accepted: tuple[str, ...] = ()

    @property
    def judges(self) -> bool:
        """Whether rules were asked: the other kinds take runs out or tell of rewritten files."""
        return self.action in ("judge", "recertify")


def verdict(body: bytes, where: str) -> Verdict:
    """Raises StateUnreadable where the bytes are none."""
    try:
        return Verdict.model_validate_json(body)
    except ValidationError as error:
        raise StateUnreadable(
            f"{where}: received {len(body)} bytes that are no verdict ({error.error_count()} mistakes)",
            hint="Put the version that the bucket keeps of it back (RUNBOOK_AWS_2025.md 8.19).",
        ) from error


def of_gate(verdict: Verdict, discard: Verdict | None = None) -> list[Finding]:
    """The rules of a verdict. What a person accepted, or threw out by ``discard``, is muted, with name and reason.

    Both speak of that run alone, so the mute ends with their day.
    """
    return [_of_rule(verdict, rule, _settled(verdict, rule, discard)) for rule in verdict.rules]


def _of_rule(verdict: Verdict, rule: _Rule, settled: Muted | None) -> Finding:
    return Finding(
        source="lakehouse",
        at=verdict.created_at,
        run_id=verdict.run_id,
        table=verdict.table,
        column="",
        rule=rule.name,
        kind=rule.name,
        origin="contract",
        status="passed" if rule.passed else "failed",
        severity=rule.severity,
        observed=rule.observed,
        expected=rule.expected,
        message=rule.message,
        rows=verdict.rows,
        fix=rule.hint,
        muted=settled,
        samples=rule.sample,
    )


def _settled(verdict: Verdict, rule: _Rule, discard: Verdict | None) -> Muted | None:
    if rule.passed:
        return None
    by = discard or (verdict if rule.name in verdict.accepted else None)
    what = "its run was discarded" if discard else "the run was taken in as it is"
    if by is None:
        return None
    return Muted(reason=f"{what}: {by.why}", until=by.created_at.date(), by=by.by)


def time_of(key: str) -> datetime | None:
    """When a verdict was made, by its object's name (``<time>-<id>.json``)."""
    try:
        return datetime.strptime(key.rpartition("/")[2][:23], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
