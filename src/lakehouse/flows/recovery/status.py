"""Status: what needs attention, each with the command to type next. Writes nothing.

Looked at are the objects of all tables, the runs of the last days, verdicts and heads, publications, replays and
recoveries that were begun, and quarantine. A table that cannot be read is a finding, and the others are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.delta import damage
from lakehouse.delta.log import is_dropped, log_head, way_back
from lakehouse.delta.read import has_same_files, is_empty
from lakehouse.errors import (
    GateFailed,
    LandingConflict,
    NotCertified,
    SourceDiffers,
    StateUnreadable,
    StreamRefused,
    TableUnreadable,
    UnknownRun,
    WatchAlarm,
)
from lakehouse.flows import gate, publish, replay
from lakehouse.flows.ingest import SOURCES
from lakehouse.flows.recovery import base
from lakehouse.flows.recovery.rerun import STORIES
from lakehouse.landing import Manifest, read_manifest
from lakehouse.observe import outcome as records
from lakehouse.observe.outcome import Outcome
from lakehouse.quality import refused, verdicts
from lakehouse.quality.verdicts import Certification, Verdict
from lakehouse.submit import QUARANTINE, RECOVER, by_hand

_DAYS = 7
# Jobs beside the daily run.
_BESIDE = ("backfill", "reconcile", "dq_watchdog", "delta_optimize_vacuum")
# Failures that found something: their hint is the command that puts it right.
_FOUND = (SourceDiffers.code, WatchAlarm.code)
# Failures that a rerun meets again until their hint was followed.
_FIRST = (LandingConflict.code, StreamRefused.code, TableUnreadable.code)
_STREAM = 'airflow dags trigger streaming_ingest --conf \'{"action": "ensure"}\''


@dataclass(frozen=True)
class Finding:
    """One thing that needs attention. ``command`` is a dry run wherever there is one.

    ``blocks`` is False where nothing stops for it: refused rows wait as long as it takes.
    """

    what: str
    command: str
    blocks: bool = True


def status(job: Job) -> list[Finding]:
    """Everything that needs attention, what is nearest to the sources first."""
    broken = damage.look({name: job.settings.table_uri(name) for name in contracts.names()}, files=True)
    found = [
        Finding(f"{name} cannot be read: {damage.words(objects)}", damage.way_out(name))
        for name, objects in broken.items()
    ]
    told = set(broken)

    def asked(look: Callable[[], Iterable[Finding]]) -> list[Finding]:
        """What a look finds; a table that it cannot read, unless that is told already."""
        try:
            return list(look())
        except StateUnreadable as error:
            return [Finding(error.message, error.hint)]
        except (TableUnreadable, *damage.ENGINE) as error:
            unreadable = damage.recognised(error)
            if not isinstance(unreadable, TableUnreadable):
                raise
            new = set(unreadable.tables) - told
            told.update(new)
            return [Finding(unreadable.message, unreadable.hint)] if new or not unreadable.tables else []

    problems: list[StateUnreadable] = []
    outcomes = _recent(job, problems)
    found += [Finding(problem.message, problem.hint) for problem in problems]
    known: dict[str, Certification] = {}
    for name in _gated():
        found += asked(partial(_certified, job, name, known))
    found += asked(partial(_dropped, job))
    found += [*_failed(outcomes), *_failed_beside(outcomes), *_unjudged(outcomes, known)]
    for each in known.values():
        found += asked(partial(_refused, job, each))
    found += asked(partial(_uncertified, job, known))
    found += _stale(known)
    for look in (_gold, _begun, _quarantine):
        found += asked(partial(look, job))
    return found


def _gated() -> list[str]:
    return [*contracts.names("bronze"), *contracts.names("silver")]


def _certified(job: Job, name: str, known: dict[str, Certification]) -> list[Finding]:
    """Put what is certified of a table into ``known``; nothing else is found."""
    live = log_head(job.spark, job.settings.table_uri(name))
    if live is None:
        return []
    found = verdicts.certification(name, verdicts.read_all(job.settings, name), live.table_id)
    damage.require_version(name, found.version, live.version)
    known[name] = found
    return []


def _dropped(job: Job) -> Iterator[Finding]:
    """Tables that were deleted and can be brought back, which comes before anything else."""
    for name in contracts.names():
        uri = job.settings.table_uri(name)
        if log_head(job.spark, uri) is None and is_dropped(job.spark, uri):
            yield Finding(f"{name}: its objects were deleted", way_back(uri))


def _recent(job: Job, problems: list[StateUnreadable]) -> list[Outcome]:
    """Outcomes of the runs of the last days, by run; those that are none are put into ``problems``."""
    found = records.read_all(job.settings, datetime.now(UTC) - timedelta(days=_DAYS), problems)
    return sorted(found, key=lambda outcome: (outcome.run_id, outcome.job))


def _failed(outcomes: list[Outcome]) -> Iterator[Finding]:
    """Jobs that failed and have not succeeded since, in that run or a later one; what gates say comes below."""
    succeeded: dict[str, str] = {}
    for outcome in outcomes:
        if outcome.status == "succeeded":
            succeeded[outcome.job] = max(outcome.run_id, succeeded.get(outcome.job, ""))
    for outcome in outcomes:
        if outcome.status != "failed" or _is_gate(outcome) or outcome.job not in STORIES:
            continue
        error = outcome.error
        if error is not None and error.code == UnknownRun.code:
            continue  # there is no such run: who gave its id was told
        if outcome.run_id >= succeeded.get(outcome.job, ""):
            again = f"{RECOVER} rerun --job {outcome.job} --run {outcome.run_id}"
            if outcome.processing == "STREAMING":
                again = _STREAM
            is_first = error is not None and error.code in _FIRST and error.hint
            yield Finding(_failure(outcome), f"{error.hint}   then: {again}" if error and is_first else again)


def _failed_beside(outcomes: list[Outcome]) -> Iterator[Finding]:
    """Jobs beside the daily run whose newest run of the same command failed."""
    newest: dict[tuple[str, str | None], Outcome] = {}
    for outcome in outcomes:
        if outcome.job in _BESIDE and outcome.status != "running":
            newest[outcome.job, outcome.anew] = outcome
    for outcome in newest.values():
        if outcome.status == "failed" and not _is_gate(outcome):
            again = outcome.repeat or (
                f"{by_hand(outcome.job)} --run-id {outcome.run_id}   with the arguments that it was given"
            )
            error = outcome.error
            is_found = error is not None and error.code in _FOUND and error.hint
            yield Finding(_failure(outcome), f"{error.hint}   then: {again}" if error and is_found else again)


def _is_gate(outcome: Outcome) -> bool:
    return outcome.error is not None and outcome.error.code == GateFailed.code


def _failure(outcome: Outcome) -> str:
    error = outcome.error
    why = f" ({error.code}: {error.message.splitlines()[0]})" if error and error.message else ""
    return f"{outcome.job} of run {outcome.run_id} failed{why}"


def _unjudged(outcomes: list[Outcome], known: dict[str, Certification]) -> Iterator[Finding]:
    """Ingests that no gate has judged, unless a later run has brought their window since.

    One beside the daily run is repeated, for its gate looks at its tables alone; a daily run that was interrupted goes
    on with the ingest that it lacks, for its gate would refuse the tables of that one.
    """
    for outcome in outcomes:
        is_loaded = outcome.job.endswith("_to_bronze") and outcome.status == "succeeded"
        if not is_loaded or outcome.job == replay.JOB:  # a replay that has not ended is told below
            continue
        for table in outcome.tables:
            if table.table not in known or outcome.run_id in known[table.table].latest:
                continue
            if outcome.repeat is None and _is_covered(outcome, known[table.table]):
                continue
            yield Finding(
                f"{table.table}: run {outcome.run_id} was loaded and never judged",
                outcome.repeat or _go_on(outcome, outcomes, table.table),
            )


def _is_covered(outcome: Outcome, known: Certification) -> bool:
    """Whether a daily run that was certified later has read the same window, or from the same offsets and files."""
    since = outcome.finished_at or outcome.started_at
    later = [each for each in known.latest.values() if each.action == "judge" and each.created_at > since]
    return any(
        run.window_to is not None or run.state
        for each in later
        if each.passing and each.table_id == known.table_id
        for run in each.certified_runs
    )


def _go_on(outcome: Outcome, outcomes: list[Outcome], table: str) -> str:
    """The next step of a run that was interrupted between its ingests and their gate."""
    of_run = [each for each in outcomes if each.run_id == outcome.run_id]
    done = {each.job for each in of_run if each.status == "succeeded"}
    is_daily = any(each.parent is not None or each.job == "apply_contracts" for each in of_run)
    if not is_daily:
        return f"{by_hand('dq_check_bronze')} --run-id {outcome.run_id} --table {table}"
    jobs = [name for name in STORIES if name.endswith("_to_bronze")]
    lacking = [name for name in jobs if name not in done]
    return f"{RECOVER} rerun --job {(lacking or ['dq_check_bronze'])[0]} --run {outcome.run_id}"


def _refused(job: Job, known: Certification) -> Iterator[Finding]:
    """Runs whose last verdict failed, unless a later run has brought their window or their range since."""
    layer = known.table.split(".")[0]
    last = [each for each in known.latest.values() if each.table_id == known.table_id]
    for run_id, verdict in sorted(known.latest.items()):
        if verdict.passing or verdict.action != "judge" or run_id in known.passed | known.run_ids:
            continue
        later = [each for each in last if each.passing and each.created_at > verdict.created_at]
        manifest = _landing(job, known.table, run_id) if layer == "bronze" else None
        kind = "window" if manifest is None else manifest.kind
        if kind == "window" and any(each.action == "judge" for each in later):
            continue
        if manifest is not None and kind == "backfill" and _is_brought(job, manifest, later):
            continue
        broken = {rule.name for rule in verdict.failures}
        if broken & {gate.INGESTED, gate.PROMOTED, gate.LOADED_ALONE}:
            yield Finding(_refusal(known.table, run_id, verdict), _structural(known.table, run_id, broken))
            continue
        again = _again(job, manifest) if manifest is not None and kind == "backfill" else None
        yield Finding(
            _refusal(known.table, run_id, verdict),
            f"{RECOVER} recertify --table {known.table} --run {run_id}"
            + (f"   or: {RECOVER} discard --table {known.table} --run {run_id}" if layer == "bronze" else "")
            + (f"   or, the source corrected: {again}" if again else ""),
        )


def _refusal(table: str, run_id: str, verdict: Verdict) -> str:
    rules = ", ".join(rule.name for rule in verdict.failures)
    return f"{table}: run {run_id} was refused at {verdict.created_at:%Y-%m-%d %H:%M:%S} UTC ({rules})"


def _structural(table: str, run_id: str, broken: Iterable[str]) -> str:
    """What helps where nothing is known to have been written, or rows are twice: nobody can accept that."""
    layer, name = table.split(".")
    if gate.INGESTED in broken:
        return f"{RECOVER} discard --table {table} --run {run_id}"
    source = next((source for source, tables in SOURCES.items() if name in tables), "")
    job = "kafka_orders_to_bronze" if source == "kafka" else f"{source}_to_bronze"
    first = "bronze_to_silver" if layer == "silver" else job
    return f"{RECOVER} rerun --job {first} --run {run_id}   then: {RECOVER} rerun --job dq_check_{layer} --run {run_id}"


def _is_brought(job: Job, manifest: Manifest, later: Iterable[Verdict]) -> bool:
    """Whether a later backfill of the same range passed: a daily run never brings it."""
    runs = [
        run
        for verdict in later
        for run in verdict.certified_runs
        if run.window_to is None and run.window_from is not None and run.window_from == manifest.window_from
    ]
    landed = [_landing(job, f"bronze.{manifest.table}", run.run_id) for run in runs]
    return any(
        each is not None and each.kind == "backfill" and each.notes[:1] == manifest.notes[:1]
        for each in landed
    )


def _again(job: Job, manifest: Manifest) -> str:
    """The command that reads the range of a backfill again; words where it left none."""
    for outcome in records.read_run(job.settings, manifest.run_id):
        if outcome.anew is not None:
            return outcome.anew
    return "the job backfill as it was given   " + "; ".join(manifest.notes)


def _landing(job: Job, table: str, run_id: str) -> Manifest | None:
    name = table.split(".")[1]
    return read_manifest(job.settings, name.split("_")[0], name, run_id)


def _uncertified(job: Job, known: dict[str, Certification]) -> Iterator[Finding]:
    for name, each in known.items():
        live = log_head(job.spark, job.settings.table_uri(name))
        if not name.startswith("silver.") or live is None or live.version in (0, each.version):
            continue
        uri = job.settings.table_uri(name)
        if (
            is_empty(job.spark, uri)
            if each.version is None
            else has_same_files(job.spark, uri, each.version, live.version)
        ):
            continue
        certified = "nothing" if each.version is None else f"version {each.version}"
        yield Finding(
            f"{name}: version {live.version} is not certified ({certified} is); the next promotion restores that",
            f"{RECOVER} restore-silver --table {name}",
        )


def _stale(known: dict[str, Certification]) -> Iterator[Finding]:
    """Silver that contains runs which Bronze does not certify any more."""
    for name, each in known.items():
        for source, runs in each.merged.items():
            gone = runs - known[source].run_ids if source in known else frozenset()
            if gone:
                yield Finding(
                    f"{name}: contains runs that {source} does not certify any more: {base.named(gone)}",
                    f"{RECOVER} restore-silver --table {name}",
                )


def _gold(job: Job) -> Iterator[Finding]:
    pending = publish.pending(job.settings)
    if pending is not None:
        yield Finding(
            f"publication {pending.publish_id} of run {pending.run_id} was cut off",
            f"{RECOVER} complete-publication",
        )
        return
    marker = publish.latest_marker(job.settings)
    if marker is None:
        return
    for table, version in publish.optimized(job.settings, marker.outputs).items():
        uri = job.settings.table_uri(table)
        live = log_head(job.spark, uri)
        if live is None and is_dropped(job.spark, uri):
            continue  # said already, with the way back
        now = None if live is None else publish.TableVersion(table_id=live.table_id, version=live.version)
        if now != version:
            words = "is gone" if now is None else f"is at version {now.version}"
            yield Finding(
                f"{table}: {words}; publication {marker.publish_id} made version {version.version}",
                f"{RECOVER} rebuild-gold   or: {RECOVER} rollback --table {table} --to-version {version.version}",
            )


def _begun(job: Job) -> Iterator[Finding]:
    for intent in replay.unfinished(job.settings):
        yield Finding(
            f"replay {intent.run_id}, begun {intent.begun_at:%Y-%m-%d %H:%M:%S} UTC by {intent.request.by}, "
            "has not ended",
            f'{QUARANTINE} replay --apply --by "$USER"',
        )
    for recovery in base.unfinished(job.settings):
        if recovery.run_id != job.run_id:
            yield Finding(
                f"recovery {recovery.run_id} ({recovery.request.action}), begun "
                f"{recovery.begun_at:%Y-%m-%d %H:%M:%S} UTC by {recovery.request.by}, has not ended",
                base.command(recovery),
            )


def _quarantine(job: Job) -> Iterator[Finding]:
    try:
        states = refused.rows(job.spark, job.settings)
    except NotCertified:
        return  # no such table yet
    live = states.where(F.col("status").isin(*refused.LIVE))
    for row in live.groupBy("table_name", "status").count().orderBy("table_name", "status").collect():
        yield Finding(
            f"{row['table_name']}: {row['count']} refused rows are {row['status']}",
            f"{QUARANTINE} list --table {row['table_name']}",
            blocks=False,
        )


def print_status(recovery: base.Recovery) -> None:
    """The action status."""
    found = status(recovery.job)
    blocking = [each for each in found if each.blocks]
    waiting = [each for each in found if not each.blocks]
    if waiting:
        recovery.say("In quarantine, where refused rows wait and nothing stops for them:")
    for each in [*waiting, *blocking]:
        recovery.say(each.what, f"    {each.command}")
    recovery.say(f"{_things(len(blocking))} your attention." if blocking else "Nothing needs your attention.")


def _things(count: int) -> str:
    return "1 thing needs" if count == 1 else f"{count} things need"
