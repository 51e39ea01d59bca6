"""Roll back: a Silver table to a version that a verdict certified, or all of Gold to a publication.

Bronze has no need of it: a run that should not count is discarded. Of Silver the runs merged since are taken out of
what it claims to contain by the verdict that certifies the restored version, so that the next promotion merges them
again. The tables of Gold go back together, or readers would join two publications.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

from pyspark.sql import DataFrame

from lakehouse.delta.read import head, read
from lakehouse.errors import RecoveryRefused, UsageError
from lakehouse.flows import publish
from lakehouse.flows.ingest import certification
from lakehouse.flows.promote import TABLES, restore_version
from lakehouse.flows.publish import OUTPUTS, Marker
from lakehouse.flows.recovery import gold
from lakehouse.flows.recovery.base import (
    JOB,
    Change,
    Recovery,
    contract_of,
    difference_or_none,
    named,
    refuse,
    require_table,
)
from lakehouse.flows.recovery.erasures import require_not_erased_since
from lakehouse.flows.recovery.silver import discarded
from lakehouse.quality import verdicts
from lakehouse.quality.difference import Difference
from lakehouse.quality.verdicts import CertifiedRun, Verdict, VerdictInput
from lakehouse.runs import run_time
from lakehouse.submit import RECOVER

_SILVER = {module.TABLE: module for module in TABLES}


def rollback(recovery: Recovery) -> None:
    """The action rollback, of a Silver table or of Gold."""
    request = recovery.request
    if (request.version is None) == (request.time is None):
        raise UsageError("expected one of --to-version and --to-time")
    name = require_table(
        request.table,
        (*_SILVER, *OUTPUTS),
        "a Bronze run that should not count is discarded (recover.py discard)",
    )
    if name in _SILVER:
        _silver(recovery, name)
        if recovery.applies and request.with_dependents and name in publish.INPUTS:
            gold.republish(recovery)
    elif request.with_dependents:
        raise UsageError("received --with-dependents, expected it of a Silver table: nothing depends on Gold")
    else:
        _gold(recovery, name)


def _silver(recovery: Recovery, name: str) -> None:
    job = recovery.job
    if recovery.applies and (mine := recovery.left(name, "discard")) is not None:
        assert recovery.intent is not None
        recovery.record(recovery.intent.planned[0], mine.version)
        return
    known = certification(job, name)
    found = verdicts.read_all(job.settings, name)
    target = _certified_target(recovery, name, known.table_id, found)
    assert target.version is not None
    require_not_erased_since(job.settings, [name], target.run_id, target.created_at)
    until = [each for each in found if each.created_at <= target.created_at]
    then = verdicts.certification(name, until, known.table_id)
    since: dict[str, frozenset[str]] = {}
    problems: list[str] = []
    for source in _SILVER[name].INPUTS:
        bronze = certification(job, source)
        before, after = then.merged.get(source, frozenset()), known.merged.get(source, frozenset())
        since[source] = after - before
        if gone := (before & discarded(bronze)):
            problems.append(
                f"version {target.version} contains runs of {source} that were discarded since: {named(gone)}"
            )
        if lost := (since[source] - bronze.run_ids - discarded(bronze)):
            problems.append(f"{source} no longer certifies runs that would leave {name}: {named(lost)}")
    refuse(problems, f"`{RECOVER} restore-silver --table {name}` makes it anew from what is certified")

    difference_ = _difference(recovery, name, target.version)
    recovery.say(
        f"{name}: version {target.version}, certified {target.created_at:%Y-%m-%d %H:%M:%S} UTC by run "
        f"{target.run_id}; against what is there now: {difference_ or 'not known'}",
        *[f"  {sample}" for sample in (difference_.samples if difference_ else ())],
    )
    for source, runs in since.items():
        if runs:
            recovery.say(
                f"  the next promotion merges these runs of {source} again: {named(runs)}",
                f"  to keep one out: {RECOVER} discard --table {source} --run RUN-ID",
            )
    if not recovery.request.with_dependents:
        recovery.say("  Gold shows what it shows until the next silver_to_gold, or add --with-dependents.")
    elif name in publish.INPUTS:
        recovery.say("  Gold is then published from Silver as it is.")
    if not recovery.applies:
        return
    change = recovery.plan(
        Change(
            table=name,
            target=f"version {target.version}",
            before=known.version,
        ).by(difference_)
    )
    live = restore_version(job, name, target.version, f"{job.run_id}/{JOB}/{name}")
    verdict = recovery.verdict(contract_of(job.settings, name), "discard", live, live.version)
    inputs = {
        source: VerdictInput(
            table_id=item.table_id, version=item.version, run_ids=tuple(sorted(since[source]))
        )
        for source, item in _last_inputs(found).items()
        if since.get(source)
    }
    recovery.leave(
        verdict.model_copy(
            update={
                "certified_runs": tuple(
                    CertifiedRun(run_id=run)
                    for run in sorted({run for runs in since.values() for run in runs})
                ),
                "inputs": inputs,
                "rows": target.rows,
                "rules": target.rules,
            }
        )
    )
    recovery.record(change, live.version)
    recovery.say(f"{name}: version {live.version} has the rows of version {target.version} and is certified")


def _certified_target(recovery: Recovery, name: str, table_id: str | None, found: list[Verdict]) -> Verdict:
    """The first verdict that certified the version asked for, or the one that counted at the time.

    Later verdicts about a version may say that it contains less (a run was discarded, and Silver not made anew yet);
    what its rows are of was said by the first.
    """
    certified = [
        each for each in found if each.passing and each.table_id == table_id and each.version is not None
    ]
    request = recovery.request
    wanted = [
        each
        for each in certified
        if each.version == request.version or (request.time is not None and each.created_at <= request.time)
    ]
    if wanted:
        return next(each for each in certified if each.version == wanted[-1].version)
    known = [f"{each.version} ({each.created_at:%Y-%m-%d %H:%M:%S})" for each in certified[-10:]]
    raise RecoveryRefused(
        f"{name}: no verdict certified {_asked(recovery)}; nothing was written",
        hint=f"certified versions (UTC): {', '.join(known) or 'none'}",
    )


def _last_inputs(found: list[Verdict]) -> dict[str, VerdictInput]:
    """The newest word about each input."""
    inputs: dict[str, VerdictInput] = {}
    for each in found:
        inputs |= each.inputs
    return inputs


def _gold(recovery: Recovery, name: str) -> None:
    job = recovery.job
    marker_name = f"{job.run_id}.rollback"
    known = publish.markers(job.settings)
    if recovery.applies and any(each == marker_name for each, _ in known):
        _record_gold(recovery)
        return
    if (pending := publish.pending(job.settings)) is not None:
        refuse(
            [f"publication {pending.publish_id} has not come to an end"],
            f"first: {RECOVER} complete-publication",
        )
    marker, target = _publication(recovery, name, known)
    publisher = marker.split(".")[0]
    require_not_erased_since(job.settings, OUTPUTS, publisher, run_time(publisher))
    live = {table: publish.version_of(job, table) for table in OUTPUTS}
    anew = [table for table in OUTPUTS if live[table].table_id != target.outputs[table].table_id]
    refuse(
        [f"{table} has been made anew since publication {target.publish_id}" for table in anew],
        f"`{RECOVER} rebuild-gold` publishes certified Silver",
    )
    found = {table: _difference(recovery, table, target.outputs[table].version) for table in OUTPUTS}
    recovery.say(f"Gold goes back to publication {target.publish_id}, all tables of it:")
    for table, each in found.items():
        recovery.say(
            f"{table}: version {target.outputs[table].version}, against what is there now: {each or 'not known'}",
            *[f"  {sample}" for sample in (each.samples if each else ())],
        )
    recovery.say("  The next silver_to_gold publishes Silver as it is then: put right there what was wrong.")
    if not recovery.applies:
        return
    for table, each in found.items():
        recovery.plan(
            Change(
                table=table,
                target=f"publication {target.publish_id}",
                before=live[table].version,
            ).by(each)
        )
    outputs = {}
    for table in OUTPUTS:
        restore_version(job, table, target.outputs[table].version, f"{job.run_id}/{JOB}/{table}")
        outputs[table] = publish.version_of(job, table)
    publish.write_marker(job.settings, target.model_copy(update={"outputs": outputs}), marker_name)
    _record_gold(recovery)
    recovery.say(f"Gold shows publication {target.publish_id} again")


def _publication(recovery: Recovery, name: str, known: list[tuple[str, Marker]]) -> tuple[str, Marker]:
    """The newest publication that made the version, or that there was at the time, asked for."""
    request = recovery.request
    wanted = [
        (marker_name, marker)
        for marker_name, marker in known
        if marker.outputs[name].version == request.version
        or (request.time is not None and run_time(marker_name.split(".")[0]) <= request.time)
    ]
    if wanted:
        return wanted[-1]
    versions = [f"{marker.outputs[name].version} ({marker.publish_id})" for _, marker in known[-10:]]
    raise RecoveryRefused(
        f"{name}: no publication made {_asked(recovery)}; nothing was written",
        hint=f"published versions: {', '.join(versions) or 'none'}",
    )


def _record_gold(recovery: Recovery) -> None:
    assert recovery.intent is not None
    for change in recovery.intent.planned:
        recovery.record(change, publish.version_of(recovery.job, change.table).version)


def _asked(recovery: Recovery) -> str:
    request = recovery.request
    return (
        f"version {request.version}" if request.time is None else f"anything up to {request.time.isoformat()}"
    )


def _difference(recovery: Recovery, name: str, version: int) -> Difference | None:
    """What rolling back would change; None, and said, where what is there now cannot be read.

    Raises RecoveryRefused where the version's files are gone or broken.
    """
    problem = gold.problem(recovery, name, version)
    if problem is not None:
        anew = f"{RECOVER} restore-silver --table {name}" if name in _SILVER else f"{RECOVER} rebuild-gold"
        raise RecoveryRefused(
            f"{name}: version {version} cannot be read any more ({problem}); nothing was written",
            hint=f"another version that was certified, or made anew: {anew}",
        )
    there = partial(read, recovery.job.spark, recovery.settings.table_uri(name))
    target = _version(recovery, name, version)
    return difference_or_none(recovery, name, target, there, f"{name}: what is there now")


def _version(recovery: Recovery, name: str, version: int) -> DataFrame:
    uri = recovery.settings.table_uri(name)
    live = head(recovery.job.spark, uri)
    if version > live.version:
        raise UsageError(f"received version {version} of {name}, which has versions up to {live.version}")
    frame = read(recovery.job.spark, uri, version)
    missing = [field for field in read(recovery.job.spark, uri).columns if field not in frame.columns]
    # Columns that the table got since have no values there.
    return frame.selectExpr("*", *[f"NULL AS `{column}`" for column in missing])


def parse_time(text: str) -> datetime:
    """A time as a person types it; UTC unless it names a zone. Raises UsageError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"received the time {text!r}, expected ISO 8601, e.g. 2026-11-20T06:00 (UTC)"
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
