"""Gold: complete a publication that was cut off, or publish anew from certified Silver.

A rebuild keeps the quotes of orders that are frozen, and takes them from the last complete publication, never from
tables that somebody may have changed since. Where that publication is what is wrong, roll back to an earlier one
first.
"""

from __future__ import annotations

from lakehouse import contracts
from lakehouse.delta.read import head, read
from lakehouse.errors import NotCertified
from lakehouse.flows import publish
from lakehouse.flows.ingest import certification
from lakehouse.flows.publish import INPUTS, OUTPUTS, Intent, TableVersion, Turn
from lakehouse.flows.recovery.base import Change, Recovery, refuse
from lakehouse.quality.difference import Difference, difference
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
    now = own_turn(recovery)
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
    """Gold as it was last published; as it is, where a table was made anew since or nothing was published."""
    marker = publish.latest_marker(recovery.settings)
    live = {table: publish.version_of(recovery.job, table) for table in OUTPUTS}
    if marker is None or any(marker.outputs[table].table_id != live[table].table_id for table in OUTPUTS):
        return live
    return marker.outputs


def _differences(recovery: Recovery, intent: Intent) -> dict[str, Difference]:
    found: dict[str, Difference] = {}
    for table, rows in publish.tables_of(recovery.job, intent).items():
        now = read(recovery.job.spark, recovery.settings.table_uri(table))
        found[table] = difference(rows, now, contracts.load(table))
        recovery.say(f"{table}: {found[table]}", *[f"  {sample}" for sample in found[table].samples])
    return found


def _publish(recovery: Recovery, intent: Intent, found: dict[str, Difference]) -> None:
    for table in OUTPUTS:
        each = found.get(table)
        recovery.plan(
            Change(
                table=table,
                target=f"publication {intent.publish_id}",
                before=intent.previous[table].version,
                added=each.added if each else None,
                removed=each.removed if each else None,
                changed=each.changed if each else None,
            )
        )
    publish.complete(recovery.job, intent)
    _record(recovery)
    recovery.say(f"Gold shows publication {intent.publish_id}")


def _record(recovery: Recovery) -> None:
    assert recovery.intent is not None
    for change in (each for each in recovery.intent.planned if each.table in OUTPUTS):
        live = head(recovery.job.spark, recovery.settings.table_uri(change.table))
        recovery.record(change, live.version)
