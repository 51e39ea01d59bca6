"""The story of a run: what there is to check, what holds, what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from dq_runner import lineage, metrics
from dq_runner.anomalies import anomaly_results
from dq_runner.aws import told
from dq_runner.before import read_before
from dq_runner.config import Config
from dq_runner.discovery import ACTIVE, Found, discover, fallen_silent, is_meant, recent_rows
from dq_runner.execute import Budget, Checked, Job, execute
from dq_runner.history import Series, day_of, past
from dq_runner.model import Measures, Result, Table, TableName, Window
from dq_runner.notify import notify
from dq_runner.patterns import matches_table
from dq_runner.publish import Published, history_uri, publish, published
from dq_runner.report import Report
from dq_runner.reported import Ran, report
from dq_runner.rules.mutes import ended, muted
from dq_runner.rules.of_table import idle, unmatched
from dq_runner.session import Place, Sessions, read_place
from dq_runner.words import counted
from lakehouse.errors import UsageError

_READ = "let the runner read and list reports/ in the bucket (s3:GetObject, s3:ListBucket), and use its key"


@dataclass(frozen=True)
class Asked:
    """What a run is asked to look at, beyond the settings: everything, of yesterday, by default.

    ``day``: the day (UTC) whose rows are looked at; ``whole``: all rows of every table; ``tables``: patterns.
    """

    day: date | None = None
    whole: bool = False
    tables: tuple[str, ...] = ()

    def window(self, at: datetime) -> Window:
        """The rows of the day, or of the day before ``at`` (UTC). Raises UsageError for a day that is yet to come."""
        if self.whole:
            return Window()
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self.day is None:
            return Window(midnight - timedelta(days=1), midnight)
        start = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        if start > midnight:
            raise UsageError(
                f"received the day {self.day}, expected {midnight:%Y-%m-%d} (UTC) or an earlier one"
            )
        return Window(start, start + timedelta(days=1))

    def unpublished(self, at: datetime) -> str:
        """Why a report of this is not published; empty where it is."""
        if self.tables:
            return "a part of the tables would pass for the whole"
        if self.day is not None and self.day != at.astimezone(UTC).date() - timedelta(days=1):
            return "reports are of the day before their run: another one would stand in place of the latest"
        return ""


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
    than limits.seconds. What is ``unpublished`` is returned and nothing more.

    Raises CredentialsError, NoWarehouse, SourceUnavailable where nothing could be checked; what S3 says where earlier
    reports cannot be read or this one not be written.
    """
    task = _Task(config, settings, at, run_id, asked, seconds)
    if not task.is_published:
        return _checked(task, _series(task), tell)[0]
    # Another try of the same run: what the first one found stands, and whom it could not tell is told.
    done = published(task.bucket, run_id, at) or publish(*_checked(task, _series(task), tell), task.bucket)
    _tell(task, done)
    return done.report


def _tell(task: _Task, done: Published) -> None:
    """The report stands: what raises here is tried again by the next try of the run."""
    config = task.config
    if config.metrics.on and done.first:
        metrics.send(done.report, config.metrics.namespace)
    if config.lineage.on:
        lineage.write(done.report, task.bucket, config.lineage.namespace)
    notify(done, task.topic, config.notifications.dashboard_url)


@dataclass(frozen=True)
class _Task:
    """What a run was told, in one."""

    config: Config
    settings: Settings
    at: datetime
    run_id: str
    asked: Asked
    seconds: float | None

    @property
    def is_published(self) -> bool:
        return self.settings.bucket is not None and not self.asked.unpublished(self.at)

    @property
    def bucket(self) -> str:
        return self.settings.bucket or ""

    @property
    def topic(self) -> str | None:
        return self.settings.topic_arn or self.config.notifications.topic_arn

    def told(self, results: Sequence[Result]) -> list[Result]:
        """The results with the mutes that hold today."""
        return muted(results, self.config.mutes, self.today)

    @property
    def today(self) -> date:
        return self.at.astimezone(UTC).date()


def _checked(task: _Task, series: Series, tell: Callable[[Checked], None]) -> tuple[Report, list[Measures]]:
    config, begun = task.config, time.monotonic()
    limit = min(each for each in (task.seconds, config.limits.seconds, 86_400) if each is not None)
    sessions = Sessions(
        task.settings.place,
        task.run_id,
        config.limits.statement_seconds,
        lambda: begun + limit - time.monotonic(),
    )
    budget = _budget(config, sessions, begun, limit)

    before = _before(task, series)
    with sessions.open() as session:
        found = discover(session, config, task.at, task.asked.tables, whole=task.asked.whole)

    def done(one: Checked) -> None:
        own = [*_activity(task, found, before, one), *one.results, *_anomalies(task, one, series)]
        one.results = task.told(own)
        tell(one)

    every = execute(sessions, found, _job(task, found, budget), done)
    found.quiet += [one.table for one in every if one.quiet]
    checked = [one for one in every if not one.quiet]
    for one in _not_looked_at(task, found, before, {each.table.name for each in checked}):
        checked.append(one)
        tell(one)
    meant = [table.name for table in found.known.values() if is_meant(table, config)]
    entries = [] if task.asked.tables else task.told(unmatched(config, meant))
    results = [result for one in checked for result in one.results] + entries
    idle_lines = [] if task.asked.tables else idle(config, found.known, results, task.today)
    ran = Ran(
        task.run_id,
        task.at,
        time.monotonic() - begun,
        str(sessions.login.options.get("warehouse", "")),
        str(sessions.login.options.get("account", "")),
        sessions.total,
        (
            *series.notes,
            *ended(results, config.mutes, task.today),
            *idle_lines,
            *([sessions.login.note] if sessions.login.note else []),
        ),
        _remarks(config, found),
    )
    measures = [one.measures for one in checked if one.measures is not None]
    return report(ran, checked, entries, budget), measures


def _job(task: _Task, found: Found, budget: Budget) -> Job:
    recent = recent_rows(task.config, task.at)
    return Job(
        task.config, found.known, frozenset(found.unsure), task.at, task.asked.window(task.at), recent, budget
    )


def _activity(
    task: _Task, found: Found, before: Mapping[TableName, date | None], checked: Checked
) -> list[Result]:
    """Whether a table that was looked at is active. That it is, is said each time: else nobody would know that one
    which had fallen silent has rows again.
    """
    name = checked.table.name
    if any(table.name == name for table in found.quiet):
        return fallen_silent(task.config, found, {name: before[name]} if name in before else {})
    if checked.quiet or not (
        name in found.active or (checked.measures is not None and checked.measures.rows)
    ):
        return []
    expected = f"rows in {task.config.active_days} days"
    return [Result(name, ACTIVE, "passed", observed="rows come in", expected=expected)]


def _not_looked_at(
    task: _Task, found: Found, before: Mapping[TableName, date | None], checked: Collection[TableName]
) -> list[Checked]:
    """The tables of which there is something to say, and no more than that."""
    silent = fallen_silent(task.config, found, before, task.asked.tables)
    return [
        Checked(
            found.known.get(result.table, Table(result.table, "table", ())), Window(), task.told([result])
        )
        for result in [*found.findings, *silent]
        if result.table not in checked
    ]


def _before(task: _Task, series: Series) -> dict[TableName, date | None]:
    """Tables that were active, with their last day with rows; None where that is longer ago than history goes."""
    silent: dict[TableName, date | None] = {}
    if task.settings.bucket is not None:
        with told(f"earlier reports in {task.bucket}", hint=_READ):
            uri = history_uri(task.bucket, task.run_id, task.today)
            before = read_before(task.bucket, uri, task.today)
        silent = {TableName(*key[:3]): None for key in before.failing if key[3] == ACTIVE.title}
    return silent | last_rows(series)


def _series(task: _Task) -> Series:
    """What earlier runs measured; nothing without a bucket."""
    bucket, window = task.settings.bucket, task.asked.window(task.at)
    if bucket is None:
        return Series(notes=("no S3_DQ_REPORTS_BUCKET: there is no history, and nothing is published",))
    with told(f"earlier reports in {bucket}", hint=_READ):
        return past(bucket, day_of(window, task.at), task.config.anomalies.weeks)


def last_rows(series: Series) -> dict[TableName, date]:
    """The last day on which each table had rows."""
    found: dict[TableName, date] = {}
    for (name, _), days in series.days.items():
        for day, measured in days.items():
            if measured.rows:
                found[name] = max(day, found.get(name, day))
    return found


def _anomalies(task: _Task, checked: Checked, series: Series) -> list[Result]:
    wanted = task.config.anomalies
    if not wanted.on or checked.measures is None or checked.quiet:
        return []
    return anomaly_results(
        checked.table,
        checked.measures,
        series,
        task.at,
        _incidents(task.config, checked.table.name),
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


def _budget(config: Config, sessions: Sessions, begun: float, seconds: float) -> Budget:
    limits = config.limits
    return Budget(begun + seconds, seconds, limits.credits, limits.credits_per_hour, lambda: sessions.total)


def _remarks(config: Config, found: Found) -> tuple[str, ...]:
    price = counted(config.limits.credits_per_hour, "credit")
    estimate = (
        f"credits are an estimate: the seconds of all statements at {price} an hour, as if none ran beside another; "
        "the bill is at most that, and the minute that a warehouse costs when it resumes"
    )
    return tuple(filter(None, (estimate, _quiet_tables(config, found))))


def _quiet_tables(config: Config, found: Found) -> str:
    checked = {table.name for table in found.tables} - found.unsure
    quiet = sorted(table.name for table in found.quiet if table.name not in checked)
    if not quiet:
        return ""
    some = ", ".join(map(str, quiet[:10])) + (f" and {len(quiet) - 10} more" if len(quiet) > 10 else "")
    days = counted(config.active_days, "day")
    return f"not checked, because they have had no rows in {days}: {some}"
