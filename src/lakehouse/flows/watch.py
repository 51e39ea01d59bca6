"""Watch: look at the lake from outside of the daily run, and say what needs a person, with the command that helps.

The story: ask the verdicts what is certified and since when, ask SQL whether certified rows still keep the rules, the
ledger balances and the days are of their usual size, look for what was begun and not ended; write every finding to
ops.watch_findings; then fail where one of them is critical, so that somebody is told. Nothing else is written.
A table that cannot be read is a finding that names the object and the command; the checks of the others go on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from statistics import median
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.contracts import Contract
from lakehouse.contracts.spark import schema
from lakehouse.delta import damage
from lakehouse.delta.log import is_dropped, log_head, way_back
from lakehouse.delta.read import TableHead, read
from lakehouse.delta.write import replace_where
from lakehouse.errors import CommitConflict, StateUnreadable, TableUnreadable, UsageError, WatchAlarm
from lakehouse.flows import publish, replay
from lakehouse.flows.emit import bill
from lakehouse.flows.publish import latest_marker, published_at
from lakehouse.flows.recovery import base
from lakehouse.flows.recovery.erasures import returned
from lakehouse.observe import metrics as telling
from lakehouse.observe.stream import Progress, read_progress
from lakehouse.quality import gx, metrics, refused, verdicts
from lakehouse.quality.refused import LEDGER, LIVE
from lakehouse.quality.verdicts import Certification, RuleResult, Severity, Verdict
from lakehouse.runs import run_time
from lakehouse.session import local_frame
from lakehouse.settings import Settings
from lakehouse.submit import QUARANTINE, RECOVER, RUN_GE_CHECKS, by_hand

TABLE = "ops.watch_findings"
_SIDE_BY_SIDE = 3
# A daily table is certified once a day, some hours later on a slow one.
_GRACE = timedelta(hours=2)
# A file that cannot be taken is put right, or taken away, by the next day.
_INBOX_PATIENCE = timedelta(days=1)
# What was begun this long ago and has not ended is no longer under way.
_PATIENCE = timedelta(hours=6)
# Certified runs of Bronze whose rows are looked at again. Silver and Gold are looked at whole.
_BRONZE_WINDOW = timedelta(days=2)
_VOLUME_DAYS = 7
_VOLUME_LEAST_DAYS = 3
_USUAL = (0.5, 2.0)
_STREAM_SILENCE = timedelta(minutes=15)
_STREAM_LAG = 100_000
_NAMES = tuple(name for name in contracts.names() if not name.startswith("ops."))
_DAILY = "airflow dags trigger daily_batch_pipeline"


@dataclass(frozen=True)
class Finding:
    """Something that needs a person. ``subject``: what in the table, e.g. a rule; ``next_step``: a command."""

    check: str
    table: str
    severity: Severity
    observed: str
    expected: str
    next_step: str
    subject: str = ""

    def __str__(self) -> str:
        about = f"{self.table}: {self.check}" + (f" ({self.subject})" if self.subject else "")
        return f"{self.severity}: {about}: {self.observed}, expected {self.expected}. Next: {self.next_step}"


@dataclass(frozen=True)
class _Seen:
    """A table as certified: ``version`` None where nothing is."""

    contract: Contract
    live: TableHead
    version: int | None
    certified: Certification | None
    verdicts: Sequence[Verdict]


def watch(job: Job) -> None:
    """The job dq_watchdog. Raises WatchAlarm, after everything is written, where a finding is critical."""
    job.outcome.repeated_by(by_hand("dq_watchdog"))
    now = datetime.now(UTC)
    _bill(job, now)
    found = findings(job, now)
    found += _guarded(lambda: _written(job, found, now))
    found += _guarded(lambda: _sent(job, now))
    _tell(job, _once(found))


def _bill(job: Job, now: datetime) -> None:
    """Look for bills that came after the jobs' runs had ended; the next watch does where another writer was first.

    A table that cannot be read is told by the checks.
    """
    try:
        bill(job, now)
    except (CommitConflict, *damage.ENGINE) as problem:
        told = damage.recognised(problem)
        if not isinstance(told, CommitConflict | TableUnreadable):
            raise told from problem
        job.outcome.notes.append(f"{told}: the bills of the last days are not all there")


def _sent(job: Job, now: datetime) -> list[Finding]:
    """Say to CloudWatch how old each table is; nothing is found."""
    known = telling.freshness(ages(job.settings, now), job.settings.environment, now)
    problem = telling.send(job.settings, known)
    if problem is not None:
        job.outcome.notes.append(problem)
    return []


def _written(job: Job, found: Sequence[Finding], now: datetime) -> list[Finding]:
    """Write the findings, and note what became of those before; nothing more is found."""
    write(job, found, now)
    job.outcome.notes.append(trend(job, now.date()))
    return []


def _guarded(look: Callable[[], list[Finding]]) -> list[Finding]:
    """What a look finds or, where it met a table that cannot be read, that."""
    try:
        return look()
    except StateUnreadable as error:
        at = error.message.partition(": received")[0]
        return [replace(_unreadable("the lake", error.message, error.hint), subject=at)]
    except (TableUnreadable, *damage.ENGINE) as error:
        told = damage.recognised(error)
        if not isinstance(told, TableUnreadable):
            raise told from error
        return [_unreadable(name, told.message, told.hint) for name in told.tables or ("the lake",)]


def _unreadable(name: str, observed: str, step: str) -> Finding:
    return Finding("readable", name, "critical", observed, "a table that can be read", step)


def _once(found: Iterable[Finding]) -> list[Finding]:
    """Findings without those that say once more of a table, or of an object that is none's, that it cannot be read."""
    unreadable = {(each.table, each.subject): each for each in found if each.check == "readable"}
    return [*unreadable.values(), *(each for each in found if each.check != "readable")]


def _broken(job: Job, names: Iterable[str]) -> list[Finding]:
    """Tables of which objects are missing or not what was written, as far as that is seen without reading rows."""
    found = damage.look({name: job.settings.table_uri(name) for name in names}, files=True)
    return [_unreadable(name, damage.words(objects), damage.way_out(name)) for name, objects in found.items()]


def options(parser: argparse.ArgumentParser) -> None:
    """The argument of the job dq_recheck."""
    parser.add_argument(
        "--table", default="all", help="a dotted table or a layer of Bronze, Silver and Gold (default: all)"
    )


def recheck(job: Job) -> None:
    """The job dq_recheck: every rule against all that is certified. Writes nothing; raises WatchAlarm as ``watch``."""
    wanted, now = job.arguments.table, datetime.now(UTC)
    names = [name for name in _NAMES if wanted in ("all", name, name.split(".")[0])]
    if not names:
        raise UsageError(f"received --table {wanted}, expected all, a layer, or one of {', '.join(_NAMES)}")
    found = _broken(job, names)
    seen, unseen = _all_seen(job, names)
    there = [each for each in seen.values() if each is not None]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        parts = pool.map(lambda each: _guarded(lambda: of_rules(job.beside(), each, now, None)), there)
        found += unseen + [finding for part in parts for finding in part]
    certified = sum(each.version is not None for each in there)
    job.outcome.notes.append(f"{certified} of {len(names)} tables have certified rows, and were looked at")
    _tell(job, _once(found))


def _tell(job: Job, found: Sequence[Finding]) -> None:
    """Note what was found. Raises WatchAlarm where something of it is critical."""
    job.outcome.notes.extend(map(str, found))
    alarms = [finding for finding in found if finding.severity == "critical"]
    if alarms:
        lines = "\n".join(f"  - {finding}" for finding in alarms)
        raise WatchAlarm(
            f"{len(alarms)} critical of {len(found)} findings:\n{lines}", hint=alarms[0].next_step
        )


def findings(job: Job, now: datetime) -> list[Finding]:
    """Everything that is not as it should be; the critical first."""
    seen, found = _all_seen(job, _NAMES)
    found += _broken(job, contracts.names())
    looks: list[Callable[[], list[Finding]]] = [
        lambda: of_ledger(job.beside()),
        lambda: of_volume(_reads(job.beside(), now)),
        lambda: of_quarantine(job.beside(), now),
        lambda: of_erasures(returned(job.beside().spark, job.settings)),
        lambda: of_cost(_spent(job.beside(), now), job.settings.budget.daily_usd),
        *[partial(_rules, job, each, now) for each in seen.values() if each is not None],
    ]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        found += [finding for part in pool.map(_guarded, looks) for finding in part]
    for name, each in seen.items():
        if each is None:
            found.append(of_missing(job, name))
        elif each.contract.layer != "gold":
            found += of_certification(name, each.contract.sla.frequency_days, each.verdicts, now)
            if each.certified is not None:
                found += of_inbox(name, each.certified.states, now)
    found += _guarded(lambda: of_publication(job, now))
    if job.settings.sources.kafka.mode == "stream":
        found += of_stream(read_progress(job.settings), now)
    found = _once(found)
    return sorted(found, key=lambda each: (each.severity != "critical", each.check, each.table, each.subject))


def _rules(job: Job, seen: _Seen, now: datetime) -> list[Finding]:
    return of_rules(job.beside(), seen, now, _BRONZE_WINDOW)


def _all_seen(job: Job, names: Iterable[str]) -> tuple[dict[str, _Seen | None], list[Finding]]:
    """Tables as certified, None for one that is not there; and those whose log cannot be read, which are left out."""

    def look(name: str) -> tuple[str, _Seen | None, list[Finding]]:
        found: list[_Seen | None] = []

        def see() -> list[Finding]:
            found.append(_see(job, name))
            return []

        problems = _guarded(see)
        return name, found[0] if found else None, problems

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        looked = list(pool.map(look, names))
    seen = {name: each for name, each, problems in looked if not problems}
    return seen, [problem for _, _, problems in looked for problem in problems]


def _see(job: Job, name: str) -> _Seen | None:
    live = log_head(job.spark, job.settings.table_uri(name))
    if live is None:
        return None
    contract = contracts.load(name).with_overrides(job.settings.dq_thresholds)
    head = TableHead(live.table_id, live.version)
    if contract.layer == "gold":
        marker = latest_marker(job.settings)
        return _Seen(contract, head, None if marker is None else live.version, None, ())
    known = verdicts.read_all(job.settings, name)
    certified = verdicts.certification(name, known, live.table_id)
    damage.require_version(name, certified.version, live.version)
    return _Seen(contract, head, certified.version, certified, known)


def of_missing(job: Job, name: str) -> Finding:
    """A table that is not there: deleted, or never created."""
    uri = job.settings.table_uri(name)
    if is_dropped(job.spark, uri):
        return Finding("exists", name, "critical", "its objects were deleted", "a table", way_back(uri))
    return Finding("exists", name, "critical", "no table", "a table", "airflow dags trigger catalog_and_dq")


def ages(settings: Settings, now: datetime) -> dict[str, float]:
    """Seconds since each table's last certification; of Gold, since its last publication."""
    found: dict[str, float] = {}
    published = published_at(settings)
    for name in _NAMES:
        if name.startswith("gold."):
            moments = [] if published is None else [published]
        else:
            known = verdicts.read_all(settings, name)
            moments = [each.created_at for each in known if each.passing and each.judges]
        if moments:
            found[name] = max(0.0, (now - max(moments)).total_seconds())
    return found


def of_certification(
    name: str, frequency_days: int | None, known: Sequence[Verdict], now: datetime
) -> list[Finding]:
    """A table that no gate has certified for longer than its contract's frequency."""
    layer, table = name.split(".")
    allowed = timedelta(days=frequency_days or 1) + _GRACE
    # Housekeeping repeats what a gate said; that is no news of the source.
    judged = [each for each in known if each.judges]
    passed = [each for each in judged if each.passing]
    expected = f"a passing verdict of the last {_hours(allowed)}"
    if not passed:
        return [Finding("certification", name, "critical", "it was never certified", expected, _DAILY)]
    age = now - passed[-1].created_at
    if age <= allowed:
        return []
    observed = f"certified {_hours(age)} ago by run {passed[-1].run_id}"
    if judged[-1].passing:
        return [Finding("certification", name, "critical", observed, expected, _DAILY)]
    failed = judged[-1]
    broken = ", ".join(rule.name for rule in failed.failures)
    step = f"{RUN_GE_CHECKS} --layer {layer} --table {table} --run-id {failed.run_id}"
    observed += f"; run {failed.run_id} was refused since ({broken})"
    return [Finding("certification", name, "critical", observed, expected, step)]


def of_inbox(name: str, states: Sequence[Mapping[str, Any]], now: datetime) -> list[Finding]:
    """Files that the last reading of an inbox could not take, and that have lain there for longer than a day."""
    newest = max(states, key=lambda state: str(state.get("read_at", "")), default={})
    return [
        Finding(
            "left_out",
            name,
            "critical",
            f"in the inbox since {since}: {reason}",
            "a file that can be taken, within a day",
            f"ask for a corrected file, or take {file} out of the inbox",
            file,
        )
        for file, (since, reason, *_) in sorted(newest.get("left", {}).items())
        if now - datetime.fromisoformat(since) > _INBOX_PATIENCE
    ]


def of_rules(job: Job, seen: _Seen, now: datetime, window: timedelta | None) -> list[Finding]:
    """Rules of the contract that certified rows do not keep. Of Bronze, rows landed in ``window`` (None: all)."""
    contract, name = seen.contract, seen.contract.name
    if seen.version is None:
        return []
    frame = read(job.spark, job.settings.table_uri(name), seen.version)
    if seen.certified is not None and contract.layer == "bronze":
        if window is not None:
            frame = frame.where(F.col("ingest_date") >= F.lit((now - window).date()))
        frame = frame.where(verdicts.rows_of(seen.certified.runs.values()))

    def judged(by: Contract) -> list[RuleResult]:
        return broken_rules(frame, by, now, lambda other: read(job.spark, job.settings.table_uri(other)))

    unreadable: list[Finding] = []
    try:
        results = judged(contract)
    except damage.ENGINE as error:
        told = damage.recognised(error)
        if not isinstance(told, TableUnreadable) or name in told.tables:
            raise
        # Another table, which this one refers to: its own rules can be judged all the same.
        alone = tuple(rule for rule in contract.set_rules if rule.kind != "referential")
        results = judged(replace(contract, set_rules=alone))
        unreadable = [_unreadable(other, told.message, told.hint) for other in told.tables]
    freshness = {rule.name for rule in contract.set_rules if rule.kind == "freshness"}
    step = f"{RUN_GE_CHECKS} --layer {contract.layer} --table {contract.table}"
    return unreadable + [
        Finding(
            "freshness" if rule.name in freshness else "rule",
            name,
            rule.severity,
            rule.observed,
            rule.expected,
            _DAILY if rule.name in freshness else step,
            rule.name,
        )
        for rule in results
    ]


def broken_rules(
    frame: DataFrame, contract: Contract, now: datetime, reference: Callable[[str], DataFrame]
) -> list[RuleResult]:
    """The rules that rows do not keep, found in one pass. Of Bronze only row rules: sets of rows are of one run."""
    if contract.layer == "bronze":
        contract = replace(contract, set_rules=())
    counts = metrics.measure(frame, contract, reference)
    return [
        rule for rule in gx.decide(contract, metrics.silver(contract, counts, now, None)) if not rule.passed
    ]


def of_ledger(job: Job) -> list[Finding]:
    """Lines of ops.row_ledger that do not balance, and those that count other refused rows than there are."""
    settings = job.settings
    balanced = next(rule for rule in contracts.load(LEDGER).row_rules if rule.name == "balanced")
    lines = read(job.spark, settings.table_uri(LEDGER)).where(balanced.violation)
    found = [
        Finding(
            "ledger",
            row["table_name"],
            "critical",
            f"{row['read']} read and {row['generated']} generated rows do not balance in run {row['run_id']}",
            "every row accounted for",
            f"make table T={row['table_name']}",
            f"{row['run_id']}/{row['job']}",
        )
        for row in lines.collect()
    ]
    _, differences = refused.ledger_differences(job.spark, settings, refused.events(job.spark, settings))
    found += [
        Finding(
            "ledger",
            each.where.split(",")[0],
            "critical",
            each.received,
            each.expected,
            f"{QUARANTINE} list",
            each.where.rpartition(" ")[2],
        )
        for each in differences
    ]
    return found


def _reads(job: Job, now: datetime) -> dict[str, dict[date, int]]:
    """Rows that ingests read, by Bronze table and day of the run."""
    day = F.to_date(F.substring("run_id", 1, 8), "yyyyMMdd")
    lines = (
        read(job.spark, job.settings.table_uri(LEDGER))
        .where("table_name LIKE 'bronze.%'")
        .where(F.col("job") != replay.JOB)
        .groupBy("table_name", day.alias("day"))
        .agg(F.sum("read").alias("rows"))
        .where(F.col("day") > F.lit(now.date() - timedelta(days=_VOLUME_DAYS + 1)))
    )
    found: dict[str, dict[date, int]] = {}
    for row in lines.collect():
        found.setdefault(row["table_name"], {})[row["day"]] = row["rows"]
    return found


def of_volume(reads: Mapping[str, Mapping[date, int]]) -> list[Finding]:
    """Tables whose newest day is far from the median of the days before it."""
    found = []
    for name, days in sorted(reads.items()):
        *before, newest = sorted(days)
        if len(before) < _VOLUME_LEAST_DAYS:
            continue
        usual = median(days[day] for day in before)
        low, high = (round(usual * factor) for factor in _USUAL)
        if not low <= days[newest] <= high:
            found.append(
                Finding(
                    "volume",
                    name,
                    "warning",
                    f"{days[newest]} rows read on {newest}",
                    f"{low} to {high}, as on the {len(before)} days before",
                    f"make table T={name}",
                )
            )
    return found


def of_quarantine(job: Job, now: datetime) -> list[Finding]:
    """Refused rows that await a decision, by table."""
    waiting = refused.rows(job.spark, job.settings).where(F.col("status").isin(*LIVE))
    counted = waiting.groupBy("table_name").agg(
        F.count(F.lit(1)).alias("rows"), F.unix_micros(F.min("landed_at")).alias("oldest")
    )
    found = []
    for row in counted.orderBy("table_name").collect():
        words = f"{row['rows']} refused rows wait"
        if row["oldest"] is not None:
            oldest = datetime.fromtimestamp(row["oldest"] / 1_000_000, UTC)
            words += f", the oldest since {_hours(now - oldest)}"
        step = f"{QUARANTINE} list --table {row['table_name']} --status open"
        found.append(
            Finding("quarantine", row["table_name"], "warning", words, "none: replayed or discarded", step)
        )
    return found


def of_erasures(back: Mapping[tuple[str, str], int]) -> list[Finding]:
    """Persons who were erased and are in Bronze again, by run id of the erasure and table."""
    return [
        Finding(
            "erasure",
            table,
            "critical",
            f"{rows} rows of a person whom {run_id} erased",
            "none: the source was to erase them first",
            f"{RECOVER} erase --status",
            run_id,
        )
        for (run_id, table), rows in sorted(back.items())
    ]


def _spent(job: Job, now: datetime) -> Decimal:
    """USD of the jobs and queries of the last 24 hours, where AWS said what it billed."""
    ended = F.col("finished_at") > F.lit(now - timedelta(days=1))
    runs = read(job.spark, job.settings.table_uri("ops.job_runs")).where(ended)
    row = runs.agg(F.sum("cost_usd").alias("usd")).head()
    return Decimal(0) if row is None or row["usd"] is None else row["usd"]


def of_cost(spent: Decimal, budget: Decimal | None) -> list[Finding]:
    """Jobs that cost more in 24 hours than the budget allows."""
    if budget is None or spent <= budget:
        return []
    observed, expected = f"{spent:.2f} USD in 24 hours", f"at most {budget:.2f} USD (budget.daily_usd)"
    return [Finding("cost", "ops.job_runs", "critical", observed, expected, "make cost")]


def of_publication(job: Job, now: datetime) -> list[Finding]:
    """Publications, replays and recoveries that were begun and not ended, and Gold that is late."""
    settings, found = job.settings, []
    unfinished = publish.pending(settings)
    if unfinished is not None and now - run_time(unfinished.run_id) > _PATIENCE:
        found.append(
            Finding(
                "publication",
                "gold.fact_orders",
                "critical",
                f"publication {unfinished.publish_id} was begun and is not complete",
                f"complete within {_hours(_PATIENCE)}",
                f'airflow dags trigger daily_batch_pipeline --conf \'{{"run_id": "{unfinished.run_id}"}}\'',
                unfinished.publish_id,
            )
        )
    for intent in replay.unfinished(settings):
        if now - intent.begun_at > _PATIENCE:
            found.append(
                Finding(
                    "replay",
                    intent.request.table or "bronze",
                    "critical",
                    f"replay {intent.run_id} was begun and is not complete",
                    f"complete within {_hours(_PATIENCE)}",
                    f'{QUARANTINE} replay --apply --by "$USER"',
                    intent.run_id,
                )
            )
    for recovery in base.unfinished(settings):
        if now - recovery.begun_at > _PATIENCE:
            action = recovery.request.action
            found.append(
                Finding(
                    "recovery",
                    recovery.request.table or base.LOG,
                    "critical",
                    f"recovery {recovery.run_id} ({action}) was begun and is not complete",
                    f"complete within {_hours(_PATIENCE)}",
                    base.command(recovery),
                    recovery.run_id,
                )
            )
    return found + of_gold(settings, now)


def of_gold(settings: Settings, now: datetime) -> list[Finding]:
    """Gold that is older than its contracts promise: published each day before ``timeOfAvailability``."""
    marker = latest_marker(settings)
    published = None if marker is None else run_time(marker.publish_id.partition(".")[0])
    found = []
    for contract in contracts.load_all("gold"):
        due = _due(contract, now)
        if due is not None and (published is None or published < due - timedelta(days=1)):
            observed = (
                "nothing published" if published is None else f"published by the run of {published:%F %R}"
            )
            found.append(
                Finding(
                    "freshness",
                    contract.name,
                    "critical",
                    observed,
                    f"a run of the day before {due:%F %R}",
                    _DAILY,
                )
            )
    return found


def _due(contract: Contract, now: datetime) -> datetime | None:
    """The last moment at which a table had to be up to date."""
    if contract.sla.available_by is None:
        return None
    due = datetime.combine(now.date(), time.fromisoformat(contract.sla.available_by), UTC)
    return due if due <= now else due - timedelta(days=1)


def of_stream(progress: Progress | None, now: datetime) -> list[Finding]:
    """A stream that is silent or far behind its topic."""

    def finding(severity: Severity, observed: str, expected: str, action: str) -> list[Finding]:
        step = f'airflow dags trigger streaming_ingest --conf \'{{"action": "{action}"}}\''
        return [Finding("stream", "bronze.kafka_orders", severity, observed, expected, step)]

    sign = f"a sign of life within {_hours(_STREAM_SILENCE)}"
    if progress is None:
        return finding("critical", "the stream has never begun", sign, "ensure")
    silence, lag = now - progress.alive_at, sum(progress.lag.values())
    if silence > _STREAM_SILENCE:
        return finding("critical", f"the stream is silent since {_hours(silence)}", sign, "ensure")
    if lag > _STREAM_LAG:
        return finding("critical", f"{lag:,} records behind the topic", f"at most {_STREAM_LAG:,}", "restart")
    return []


def write(job: Job, found: Sequence[Finding], now: datetime) -> None:
    """Replace this run's findings."""
    rows = [
        {
            "run_id": job.run_id,
            "check_name": each.check,
            "table_name": each.table,
            "subject": each.subject,
            "severity": each.severity,
            "observed": each.observed,
            "expected": each.expected,
            "next_step": each.next_step,
            "found_at": now,
        }
        for each in found
    ]
    frame = local_frame(job.spark, rows, schema(contracts.load(TABLE)))
    replace_where(
        frame, job.settings.table_uri(TABLE), f"run_id = '{job.run_id}'", f"{job.run_id}/{job.name}"
    )


def trend(job: Job, today: date) -> str:
    """The findings of the last seven days and of the seven before them, in words."""
    stored = read(job.spark, job.settings.table_uri(TABLE))
    age = F.date_diff(F.lit(today), F.to_date("found_at"))
    counted = (
        stored.where(age.between(0, 13))
        .groupBy((age > 6).alias("before"), "severity")
        .agg(F.count(F.lit(1)).alias("n"))
        .collect()
    )
    found = {(row["before"], row["severity"]): row["n"] for row in counted}

    def week(before: bool) -> str:
        critical, warning = (found.get((before, severity), 0) for severity in ("critical", "warning"))
        return f"{critical} critical, {warning} warnings"

    return f"findings of the last 7 days: {week(False)}; of the 7 days before: {week(True)}"


def _hours(duration: timedelta) -> str:
    minutes = int(duration.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
