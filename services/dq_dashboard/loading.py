"""What the page reads, from S3 to findings: the runner's report with the one of the day before, the gates' verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

from dq_dashboard import reading
from dq_dashboard.findings import Finding, in_order
from dq_dashboard.reading import Earlier, Past, Reading, Verdict
from dq_dashboard.score import count, health
from dq_dashboard.storage import Storage, Stored, side_by_side
from dq_runner.report import HISTORY, LATEST, Counts
from lakehouse.errors import StateUnreadable

#: How much of a report is read: some 16,000 results, as many as a page can show within its time.
HEAD_BYTES = 8 << 20
#: Run and summary are in front of everything that grows.
TOP_BYTES = 64 << 10
#: How far back the page looks.
HISTORY_DAYS = 35
TREND_DAYS = 14
QUALITY = "gold/quality/"
#: Verdicts of housekeeping that may stand between two of a gate.
_STEPS_BACK = 20


@dataclass(frozen=True)
class Runner:
    """The runner's report of a day, and ``key`` of its object. ``runs`` are the objects of the history, the newest
    last; ``note`` says why this one is shown where another was asked for."""

    key: str
    reading: Reading
    findings: tuple[Finding, ...]
    runs: tuple[Stored, ...]
    note: str = ""


@dataclass(frozen=True)
class Lake:
    """The lakehouse's last verdicts. ``newest``: when the last gate judged; ``unreadable``: verdicts that are none."""

    findings: tuple[Finding, ...]
    newest: datetime | None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """Health of one source at one time."""

    source: str
    at: datetime
    run_id: str
    health: int | None
    counts: Counts


# --- the runner ------------------------------------------------------------------------------------------------------


def runs_since(storage: Storage, bucket: str, now: datetime) -> tuple[Stored, ...]:
    """Reports of the history, the newest last."""
    first = now.date() - timedelta(days=HISTORY_DAYS)
    found = storage.keys(bucket, f"{HISTORY}/", after=f"{HISTORY}/{first}")
    return tuple(one for one in found if one.key.endswith(".json") and day_of(one) is not None)


def day_of(run: Stored) -> date | None:
    """The day of a run, by the name of its object; None where the name is none of a run."""
    try:
        return date.fromisoformat(run.key.split("/")[2])
    except (ValueError, IndexError):
        return None


def run_id_of(run: Stored) -> str:
    return run.key.rpartition("/")[2].removesuffix(".json")


def last_of_days(runs: Iterable[Stored]) -> dict[date, Stored]:
    """The last run of each day."""
    return {day: run for run in runs if (day := day_of(run)) is not None}


def read_report(storage: Storage, bucket: str, key: str) -> Reading | None:
    """A report as far as the page reads it; None where it is not there. Raises LakehouseError."""
    found = _read(storage, bucket, key, HEAD_BYTES)
    if found is not None and found.partial and not found.findings:
        return _read(storage, bucket, key, 4 * HEAD_BYTES)  # so many tables stand before its results
    return found


def _read(storage: Storage, bucket: str, key: str, size: int) -> Reading | None:
    found = storage.head(bucket, key, size)
    where = f"s3://{bucket}/{key}"
    return None if found is None else reading.report(found.body, whole=found.whole, where=where)


def runner(storage: Storage, bucket: str, day: date | None, now: datetime) -> Runner | None:
    """The report of a day (None: the latest) with what is new in it; None where there is none."""
    runs = runs_since(storage, bucket, now)
    if day is None:
        key, found, note = _latest(storage, bucket, runs)
    else:
        key, note = getattr(last_of_days(runs).get(day), "key", ""), ""
        found = read_report(storage, bucket, key) if key else None
    if found is None:
        return None
    before = _before(storage, bucket, runs, found.run.started_at.date())
    return Runner(key, found, tuple(in_order(_with_new(found.findings, before))), runs, note)


def _latest(storage: Storage, bucket: str, runs: Sequence[Stored]) -> tuple[str, Reading | None, str]:
    """The latest report and its key; where it is none, the newest of the history that is one, and why that."""
    why = f"s3://{bucket}/{LATEST} is not there"
    problem: StateUnreadable | None = None
    for key in (LATEST, *(run.key for run in reversed(runs[-3:]))):
        try:
            found = read_report(storage, bucket, key)
        except StateUnreadable as error:
            problem = problem or error
            continue
        if found is not None:
            return key, found, "" if key == LATEST else f"{problem.message if problem else why}."
    if problem is not None:
        raise problem
    return "", None, ""


def _before(storage: Storage, bucket: str, runs: Sequence[Stored], day: date) -> Earlier | None:
    """The last run of an earlier day; None where there is none, or none that can be read."""
    earlier = [run for then, run in sorted(last_of_days(runs).items()) if then < day]
    return tests_of(storage, bucket, earlier[-1]) if earlier else None


def _with_new(findings: Sequence[Finding], before: Earlier | None) -> list[Finding]:
    """Findings with ``new`` set by an earlier run; as the runner set it where that was not read so far."""
    return list(findings) if before is None or not before.all_broken else compared(findings, before.broken)


def compared(findings: Iterable[Finding], before: Collection[tuple[str, str, str]]) -> list[Finding]:
    """``new``: broken now, in a way that it was not before (table, rule and status), and not muted."""
    return [
        replace(
            one,
            new=one.broken and one.muted is None and (one.table, one.rule, one.status) not in before,
        )
        for one in findings
    ]


# --- the lakehouse ---------------------------------------------------------------------------------------------------


def lake(storage: Storage, bucket: str, day: date | None, now: datetime) -> Lake:
    """The last verdict of each table at the end of a day (None: now), with what is new since the day before it."""
    tables = storage.folders(bucket, QUALITY)
    found = side_by_side([partial(_table, storage, bucket, table, day, now) for table in tables])
    return Lake(
        findings=tuple(in_order([one for part in found for one in part.findings])),
        newest=max((part.newest for part in found if part.newest), default=None),
        unreadable=tuple(text for part in found for text in part.unreadable),
    )


def verdict_keys(storage: Storage, bucket: str, table: str, now: datetime) -> list[str]:
    """A table's verdicts of the last weeks in the order of their time."""
    prefix = f"{QUALITY}{table}/"
    after = f"{prefix}{now - timedelta(days=HISTORY_DAYS):%Y%m%d}"
    found = [one.key for one in storage.keys(bucket, prefix, after) if one.key.endswith(".json")]
    return [key for key in found if reading.time_of(key) is not None]


def _table(storage: Storage, bucket: str, table: str, day: date | None, now: datetime) -> Lake:
    keys = [key for key in verdict_keys(storage, bucket, table, now) if day is None or _day(key) <= day]
    discarded: dict[str, Verdict] = {}
    latest: Verdict | None = None
    before: list[Finding] = []
    unreadable = []
    for key in list(reversed(keys))[:_STEPS_BACK]:
        try:
            found = read_verdict(storage, bucket, key)
        except StateUnreadable as error:
            unreadable.append(error.message)
            continue
        if found is None:
            continue
        if found.action == "discard" and latest is None:
            discarded.update({run.run_id: found for run in found.certified_runs})
        elif found.judges and latest is None:
            latest = found
        elif found.judges and latest is not None and found.created_at.date() < latest.created_at.date():
            before = reading.of_gate(found)
            break
    if latest is None:
        return Lake((), None, tuple(unreadable))
    now_found = reading.of_gate(latest, discarded.get(latest.run_id))
    then = {(one.table, one.rule, one.status) for one in before}
    return Lake(tuple(compared(now_found, then)), latest.created_at, tuple(unreadable))


def _day(key: str) -> date:
    return (reading.time_of(key) or datetime.min.replace(tzinfo=UTC)).date()


def read_verdict(storage: Storage, bucket: str, key: str) -> Verdict | None:
    """None where it is gone meanwhile. Raises LakehouseError."""
    found = storage.head(bucket, key, HEAD_BYTES)
    return None if found is None else reading.verdict(found.body, f"s3://{bucket}/{key}")


# --- over time -------------------------------------------------------------------------------------------------------


def runner_trend(storage: Storage, bucket: str, runs: Sequence[Stored]) -> list[Point]:
    """Health of the last runs, the oldest first; reports that are none are left out."""
    found = side_by_side([partial(_point, storage, bucket, run) for run in runs[-2 * TREND_DAYS :]])
    return [point for point in found if point is not None]


def _point(storage: Storage, bucket: str, run: Stored) -> Point | None:
    found = storage.head(bucket, run.key, TOP_BYTES)
    try:
        top, summary = reading.head(found.body if found else b"", run.key)
    except StateUnreadable:
        return None
    return Point("snowflake", top.started_at, top.run_id, health(summary.counts), summary.counts)


def lake_trend(storage: Storage, bucket: str, now: datetime) -> list[Point]:
    """Health of the lakehouse at the end of each of the last days on which a gate judged, the oldest first."""
    tables = storage.folders(bucket, QUALITY)
    found = side_by_side([partial(_days, storage, bucket, table, now) for table in tables])
    days = sorted({day for table in found for day in table})
    points = []
    for day in days:
        parts = [one for table in found for one in _known_by(table, day)]
        counts = count(parts)
        at = max(one.at for one in parts) if parts else datetime.combine(day, datetime.min.time(), UTC)
        points.append(Point("lakehouse", at, str(day), health(counts), counts))
    return points


def _days(storage: Storage, bucket: str, table: str, now: datetime) -> dict[date, list[Finding]]:
    """What the last gate of each day found in a table."""
    first = now.date() - timedelta(days=TREND_DAYS)
    last = {_day(key): key for key in verdict_keys(storage, bucket, table, now) if _day(key) >= first}
    found: dict[date, list[Finding]] = {}
    for day, key in last.items():
        try:
            verdict = read_verdict(storage, bucket, key)
        except StateUnreadable:
            continue
        if verdict is not None and verdict.judges:
            found[day] = reading.of_gate(verdict)
    return found


def _known_by(table: dict[date, list[Finding]], day: date) -> list[Finding]:
    known = [then for then in table if then <= day]
    return table[max(known)] if known else []


def tests_of(storage: Storage, bucket: str, run: Stored) -> Earlier | None:
    """The tests of a run as far as they are read; None where its report is none."""
    try:
        found = storage.head(bucket, run.key, HEAD_BYTES)
        return reading.earlier(found.body, whole=found.whole, where=run.key) if found else None
    except StateUnreadable:
        return None


def gates_of(storage: Storage, bucket: str, table: str, now: datetime) -> list[Finding]:
    """Every rule of a lakehouse table in the gates of the last days, the oldest first."""
    first = now.date() - timedelta(days=TREND_DAYS)
    keys = [key for key in verdict_keys(storage, bucket, table, now) if _day(key) >= first]
    found = side_by_side([partial(_verdict_or_none, storage, bucket, key) for key in keys])
    return [one for verdict in found if verdict and verdict.judges for one in reading.of_gate(verdict)]


def _verdict_or_none(storage: Storage, bucket: str, key: str) -> Verdict | None:
    try:
        return read_verdict(storage, bucket, key)
    except StateUnreadable:
        return None


def past(one: Finding) -> Past:
    return Past(one.at, one.run_id, one.status, one.value, one.failed_rows, one.observed)
