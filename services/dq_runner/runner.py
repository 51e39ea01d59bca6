"""The story of a run: what there is to check, what holds, what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from dq_runner.anomalies import anomaly_results
from dq_runner.aws import told
from dq_runner.config import Config
from dq_runner.discovery import Found, discover, fallen_silent, recent_rows
from dq_runner.execute import Budget, Checked, Job, execute
from dq_runner.history import Series, day_of, past
from dq_runner.model import Measures, Result, TableName, Window
from dq_runner.notify import notify
from dq_runner.patterns import matches_table
from dq_runner.publish import Published, publish, published
from dq_runner.report import Report
from dq_runner.reported import Ran, report
from dq_runner.rules.mutes import muted
from dq_runner.rules.of_table import unmatched
from dq_runner.session import Place, Sessions, read_place


@dataclass(frozen=True)
class Asked:
    """What a run is asked to look at, beyond the settings: everything, of yesterday, by default.

    ``day``: the day (UTC) whose rows are looked at; ``whole``: all rows of every table; ``tables``: patterns.
    """

    day: date | None = None
    whole: bool = False
    tables: tuple[str, ...] = ()

    def window(self, at: datetime) -> Window:
        """The rows of the day, or of the day before ``at`` (UTC)."""
        if self.whole:
            return Window()
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self.day is None:
            return Window(midnight - timedelta(days=1), midnight)
        start = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return Window(start, start + timedelta(days=1))


@dataclass(frozen=True)
class Settings:
    """The environment of a run. ``bucket``: of the reports, None: none is published; ``topic_arn``: who is told."""

    place: Place
    bucket: str | None = None
    topic_arn: str | None = None


def read_settings(env: Mapping[str, str]) -> Settings:
    """By SNOWFLAKE_SECRET_NAME, S3_DQ_REPORTS_BUCKET and ALERT_TOPIC_ARN; see ``session.read_place`` for doubles.

    Raises ConfigError.
    """
    return Settings(
        read_place(env), env.get("S3_DQ_REPORTS_BUCKET") or None, env.get("ALERT_TOPIC_ARN") or None
    )


def run(
    config: Config,
    settings: Settings,
    *,
    at: datetime,
    run_id: str,
    asked: Asked = Asked(),  # frozen
    seconds: float | None = None,
    tell: Callable[[Checked], None] = lambda _: None,
) -> Report:
    """Check what is asked for and publish the report; ``tell`` hears of each table as it is done.

    ``at``: the moment of the run, from which windows and ages are taken; ``seconds``: what there is, where that is less
    than limits.seconds. A part of the tables (``asked.tables``) is not published: it would pass for the whole.

    Raises CredentialsError, NoWarehouse, SourceUnavailable where nothing could be checked; what S3 says where earlier
    reports cannot be read or this one not be written.
    """
    if settings.bucket is not None and not asked.tables:
        # Another try of the same run: what the first one found stands, and whom it could not tell is told.
        earlier = published(settings.bucket, run_id, at)
        if earlier is not None:
            _tell_people(config, settings, earlier)
            return earlier.report
    series = _series(config, settings, asked, at)
    made, measures = _check(config, settings, series, at, run_id, asked, seconds, tell)
    if settings.bucket is None or asked.tables:
        return made
    done = publish(made, measures, settings.bucket)
    _tell_people(config, settings, done)
    return done.report


def _check(
    config: Config,
    settings: Settings,
    series: Series,
    at: datetime,
    run_id: str,
    asked: Asked,
    seconds: float | None,
    tell: Callable[[Checked], None],
) -> tuple[Report, list[Measures]]:
    begun = time.monotonic()
    least = min(each for each in (seconds, config.limits.seconds, 86_400) if each is not None)
    sessions = Sessions(
        settings.place, run_id, config.limits.statement_seconds, lambda: begun + least - time.monotonic()
    )
    budget = _budget(config, sessions, begun, least)
    with sessions.open() as session:
        found = discover(session, config, at, asked.tables, whole=asked.whole)
    job = Job(
        config, found.known, frozenset(found.unsure), at, asked.window(at), recent_rows(config, at), budget
    )
    checked = execute(sessions, found, job, tell)
    found.quiet += [one.table for one in checked if one.quiet]
    for one in checked:
        one.results += _anomalies(config, one, series, at)
    results = [result for one in checked for result in one.results] + found.findings
    results += fallen_silent(config, found, last_rows(series), asked.tables)
    results += [] if asked.tables else unmatched(config, found.known)
    results = muted(results, config.mutes, at.astimezone(UTC).date())
    ran = Ran(
        run_id,
        at,
        time.monotonic() - begun,
        str(sessions.login.options.get("warehouse", "")),
        sessions.total,
        (*series.notes, *_notes(config, sessions, found)),
    )
    measures = [one.measures for one in checked if one.measures is not None and not one.quiet]
    return report(ran, checked, results, budget), measures


def _series(config: Config, settings: Settings, asked: Asked, at: datetime) -> Series:
    """What earlier runs measured; nothing without a bucket."""
    if settings.bucket is None:
        return Series(notes=("no S3_DQ_REPORTS_BUCKET: there is no history, and nothing is published",))
    with told(
        f"earlier reports in {settings.bucket}", hint="let the runner read and list reports/ in the bucket"
    ):
        return past(settings.bucket, day_of(asked.window(at), at), config.anomalies.weeks)


def last_rows(series: Series) -> dict[TableName, date]:
    """The last day on which each table had rows."""
    found: dict[TableName, date] = {}
    for (name, _), days in series.days.items():
        for day, measured in days.items():
            if measured.rows:
                found[name] = max(day, found.get(name, day))
    return found


def _anomalies(config: Config, checked: Checked, series: Series, at: datetime) -> list[Result]:
    wanted = config.anomalies
    if not wanted.on or checked.measures is None or checked.quiet:
        return []
    return anomaly_results(
        checked.table,
        checked.measures,
        series,
        at,
        _incidents(config, checked.table.name),
        threshold=float(wanted.threshold),
        floor=float(wanted.floor),
        least=wanted.least,
        severity=wanted.severity,
    )


def _incidents(config: Config, table: TableName) -> set[date]:
    return {
        incident.first + timedelta(days=number)
        for incident in config.anomalies.incidents
        if matches_table(incident.table, table)
        for number in range((incident.last - incident.first).days + 1)
    }


def _tell_people(config: Config, settings: Settings, done: Published) -> None:
    """The report stands: what fails here is tried again by the next try of the run."""
    assert settings.bucket is not None
    topic = settings.topic_arn or config.notifications.topic_arn
    notify(done, settings.bucket, topic, config.notifications.dashboard_url)


def _budget(config: Config, sessions: Sessions, begun: float, seconds: float) -> Budget:
    limits = config.limits
    return Budget(begun + seconds, seconds, limits.credits, limits.credits_per_hour, lambda: sessions.total)


def _notes(config: Config, sessions: Sessions, found: Found) -> tuple[str, ...]:
    return tuple(
        note
        for note in (
            sessions.login.note,
            f"credits are an estimate: seconds of statements × {config.limits.credits_per_hour} credits an hour, as if "
            "none ran beside another; the bill is at most that, but for the minute that a warehouse that resumes costs",
            _quiet_note(config, [table.name for table in found.quiet]),
        )
        if note
    )


def _quiet_note(config: Config, quiet: Sequence[TableName]) -> str:
    if not quiet:
        return ""
    some = ", ".join(map(str, sorted(quiet)[:10])) + (" …" if len(quiet) > 10 else "")
    return f"{len(quiet)} tables without rows in {config.active_days} days are not checked: {some}"
