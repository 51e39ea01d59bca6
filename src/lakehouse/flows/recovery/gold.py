"""Gold: complete a publication that was cut off, or publish anew from certified Silver.

A rebuild keeps the quotes of orders that are frozen, and takes them from the last complete publication, never from
tables that somebody may have changed since. Where that publication is what is wrong, roll back to an earlier one
first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from lakehouse.delta import damage
from lakehouse.delta.read import head, read
from lakehouse.errors import NotCertified, RecoveryRefused, TableUnreadable
from lakehouse.flows import publish
from lakehouse.flows.ingest import certification
from lakehouse.flows.publish import INPUTS, OUTPUTS, Intent, TableVersion, Turn
from lakehouse.flows.recovery.base import Change, Recovery, difference_or_none, refuse
from lakehouse.quality.difference import Difference
from lakehouse.submit import RECOVER


def complete_publication(recovery: Recovery) -> None:
    """The action complete-publication: replay the intent that has no marker."""
    job = recovery.job
    now = publish.turn(job.settings)
    intent = now.intent
    if intent is None and recovery.intent is not None and recovery.intent.planned:
        _record(recovery)  # an earlier try completed it
        return
    if intent is None:
        recovery.say("No publication was cut off; there is nothing to do.")
        return
    recovery.say(f"Publication {intent.publish_id} of run {intent.run_id} was cut off")
    for table in OUTPUTS:
        is_there = publish.committed(job, intent, table) is not None
        recovery.say(f"  {table}: " + ("committed" if is_there else "not committed yet"))
    if recovery.applies:
        publish.declare(job.settings, intent, now)
        _publish(recovery, intent, {})


def own_turn(recovery: Recovery) -> Turn:
    """The turn, which an earlier try of this recovery may have. Raises RecoveryRefused where it is another's."""
    now = publish.turn(recovery.settings)
    pending = now.intent
    if pending is not None and not pending.publish_id.startswith(f"{recovery.job.run_id}."):
        refuse(
            [f"publication {pending.publish_id} has not come to an end"],
            f"first: {RECOVER} complete-publication",
        )
    return now


def rebuild_gold(recovery: Recovery) -> None:
    """The action rebuild-gold: publish certified Silver anew, even where Gold should already show it."""
    job = recovery.job
    given_up = _close_unreadable(recovery)
    now = own_turn(recovery) if recovery.applies or not given_up else Turn("", None)
    markers = publish.markers(job.settings)
    if recovery.applies and any(name.startswith(f"{job.run_id}.") for name, _ in markers):
        _record(recovery)
        return
    intent = now.intent or publish.intent_of(job, _certified(recovery), _previous(recovery), now)
    found = _differences(recovery, intent)
    if recovery.applies:
        publish.declare(job.settings, intent, now)
        _publish(recovery, intent, found)


def republish(recovery: Recovery) -> None:
    """Publish certified Silver as part of another recovery, where anything has been published at all."""
    job = recovery.job
    own = f"{job.run_id}."
    markers = publish.markers(job.settings)
    if not markers:
        return
    if any(name.startswith(own) for name, _ in markers):
        _record(recovery)
        return
    now = own_turn(recovery)
    intent = now.intent or publish.intent_of(job, _certified(recovery), _previous(recovery), now)
    publish.declare(job.settings, intent, now)
    _publish(recovery, intent, {})


def _certified(recovery: Recovery) -> dict[str, TableVersion]:
    """The certified version of each Silver table. Raises NotCertified where there is none."""
    versions: dict[str, TableVersion] = {}
    for table in INPUTS:
        known = certification(recovery.job, table)
        if known.version is None or known.table_id is None:
            raise NotCertified(
                f"{table}: received a table of which nothing is certified, expected a certified version",
                hint=f"{RECOVER} restore-silver --table {table}",
            )
        versions[table] = TableVersion(table_id=known.table_id, version=known.version)
    return versions


def _previous(recovery: Recovery) -> dict[str, TableVersion]:
    """Gold as it was last published; as it is, where a table was made anew since or nothing was published.

    Of a table that cannot be read as that, its newest publication that can. Raises RecoveryRefused where none can.
    """
    known = [marker.outputs for _, marker in reversed(publish.markers(recovery.settings))]
    return {table: _readable(recovery, table, [outputs[table] for outputs in known]) for table in OUTPUTS}


def _readable(recovery: Recovery, table: str, published: Sequence[TableVersion]) -> TableVersion:
    """The first of the versions, or what is there now where none is of this table, that can be read."""
    live = publish.version_of(recovery.job, table)
    tried: list[str] = []
    for version in [each for each in published if each.table_id == live.table_id] or [live]:
        why = problem(recovery, table, version.version)
        if why is None:
            if tried:
                recovery.say(
                    f"{table}: {tried[0]}. Quotes that are frozen are those of version {version.version}."
                )
            return version
        tried.append(why)
    raise RecoveryRefused(
        f"{table}: none of its {len(tried)} published versions can be read, so that quotes that are frozen are lost: "
        f"{tried[0]}",
        hint=f"bring its objects back: `scripts/undelete.sh {table.replace('.', '/')}/`, {damage.way_out(table)}",
    )


def problem(recovery: Recovery, table: str, version: int) -> str | None:
    """Why a version of a table cannot be read, by reading all of it; None where it can."""
    try:
        rows = read(recovery.job.spark, recovery.settings.table_uri(table), version)
        rows.write.format("noop").mode("overwrite").save()
    except damage.ENGINE as error:
        told = damage.recognised(error)
        return told.message if isinstance(told, TableUnreadable) else " ".join(str(error).split())[:200]
    return None


def _close_unreadable(recovery: Recovery) -> bool:
    """End a publication that never can be completed, for what it reads is not there any more; whether there was one."""
    pending = publish.turn(recovery.settings).intent
    if pending is None or pending.publish_id.startswith(f"{recovery.job.run_id}."):
        return False
    versions = [*pending.inputs.items(), *pending.previous.items()]
    problems = [why for name, version in versions if (why := problem(recovery, name, version.version))]
    if not problems:
        return False
    recovery.say(f"Publication {pending.publish_id} can never be completed ({problems[0]}): it is given up.")
    if recovery.applies:
        publish.close(recovery.settings, pending)
    return True


def _differences(recovery: Recovery, intent: Intent) -> dict[str, Difference | None]:
    found: dict[str, Difference | None] = {}
    for table, rows in publish.tables_of(recovery.job, intent).items():
        now = partial(read, recovery.job.spark, recovery.settings.table_uri(table))
        each = difference_or_none(recovery, table, rows, now, f"{table}: what is there now")
        found[table] = each
        if each is not None:
            recovery.say(f"{table}: {each}", *[f"  {sample}" for sample in each.samples])
    return found


def _publish(recovery: Recovery, intent: Intent, found: Mapping[str, Difference | None]) -> None:
    for table in OUTPUTS:
        each = found.get(table)
        recovery.plan(
            Change(
                table=table,
                target=f"publication {intent.publish_id}",
                before=intent.previous[table].version,
            ).by(each)
        )
    publish.complete(recovery.job, intent)
    _record(recovery)
    recovery.say(f"Gold shows publication {intent.publish_id}")


def _record(recovery: Recovery) -> None:
    assert recovery.intent is not None
    for change in (each for each in recovery.intent.planned if each.table in OUTPUTS):
        live = head(recovery.job.spark, recovery.settings.table_uri(change.table))
        recovery.record(change, live.version)
