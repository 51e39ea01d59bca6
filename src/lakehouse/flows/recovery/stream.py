"""Recover a streaming checkpoint that is lost, broken or older than the tables: it is put aside.

A stream with a new checkpoint begins where its marks say that both tables hold every event, and leaves out what an
interrupted batch left beyond them (docs/streaming.md): nothing is lost or doubled. What is left of the checkpoint is
moved to ``checkpoints/lost/<run id>/``; an object leaves its place only when all have a whole copy.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from lakehouse import store
from lakehouse.errors import RecoveryRefused, TransientError, UsageError
from lakehouse.flows.recovery.base import Change, Recovery
from lakehouse.observe.stream import read_progress
from lakehouse.sources.marks import read_marks, streams_uri
from lakehouse.submit import by_hand

# A live stream says so about once a minute.
_ALIVE = timedelta(minutes=3)


def recover_checkpoint(recovery: Recovery) -> None:
    """The action recover-checkpoint. Raises RecoveryRefused while a stream is alive."""
    settings = recovery.settings
    topic = settings.sources.kafka.topic
    if recovery.request.topic != topic:
        raise UsageError(
            f"received --topic {recovery.request.topic or '(none)'}, expected {topic} (sources.kafka.topic)"
        )
    _require_dead(recovery)
    source = f"{settings.kafka_checkpoint_uri}/"
    target = f"{settings.lake_uri}/checkpoints/lost/{recovery.job.run_id}/{topic}/"
    there = store.sizes(source)
    recovery.say(f"{source}: {len(there)} objects go to {target}")
    marks = read_marks(settings)
    if marks is None:
        recovery.say(
            "  there are no marks: a new stream begins at the certified offsets, or at the topic's beginning"
        )
    else:
        ends = ", ".join(f"{partition}: {offset}" for partition, offset in marks.until.items())
        recovery.say(f"  the next stream begins at the marks of {marks.at:%Y-%m-%d %H:%M:%S} UTC ({ends})")
    if not recovery.applies:
        return
    change = recovery.plan(Change(table=topic, target=f"{len(there)} objects of the checkpoint"))
    for uri in there:
        store.copy(uri, target + uri.removeprefix(source))
    copies = store.sizes(target)
    missing = [uri for uri, size in there.items() if copies.get(target + uri.removeprefix(source)) != size]
    if missing:
        raise TransientError(
            f"{len(missing)} of {len(there)} objects have no whole copy, the first is {missing[0]}; none was removed",
            hint="repeat the recovery with the same --run-id",
        )
    for uri in there:
        store.delete(uri)
    recovery.record(change, None)
    recovery.say(
        "Start the stream: the DAG streaming_ingest does so by itself unless it was stopped there "
        '(then trigger it with {"action": "ensure"}); by hand: '
        f"{by_hand('kafka_orders_to_bronze')} --stream --available-now"
    )


def _require_dead(recovery: Recovery) -> None:
    progress = read_progress(recovery.settings)
    if progress is None:
        return
    silent = datetime.now(UTC) - progress.alive_at
    if silent < _ALIVE:
        owner = json.loads(store.get(f"{streams_uri(recovery.settings)}/owner.json") or b"{}").get("owner")
        raise RecoveryRefused(
            f"the stream of run {progress.run_id} (owner {owner}) said {silent.seconds} seconds ago that it is alive; "
            "nothing was written",
            hint='stop it first (DAG streaming_ingest, {"action": "stop"}), and wait until it has been silent for '
            f"{_ALIVE.seconds // 60} minutes; or trigger that DAG with "
            '{"action": "recover_checkpoint"}, which does all of it',
        )
