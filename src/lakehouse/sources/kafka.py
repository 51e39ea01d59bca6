"""The order topic. Nothing is landed but the range of offsets that belongs to a run.

Kafka is its own landing: Bronze keeps raw keys, values and offsets. In mode batch the manifest fixes, once a run, from
where to where each partition is read; Spark's Kafka reader then reads exactly that, now or in a rerun. In mode stream a
job of its own has read them, and the manifest fixes how far it had come.

Offsets are not rows: the ends of transactions take some, aborted events and those that compaction removed leave gaps.
A range says what was looked at, and rows are counted where they are read. Only committed events are read, so a range
ends at the last stable offset: before the first record of a transaction that is still open.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from lakehouse.errors import (
    LakehouseError,
    SourceError,
    SourceUnavailable,
    Violation,
)
from lakehouse.landing import LandingWriter, Manifest, read_manifest
from lakehouse.published import Means, find
from lakehouse.runs import run_time
from lakehouse.secrets import Secret, read_secret
from lakehouse.settings import Settings
from lakehouse.sources.marks import Marks, read_marks
from lakehouse.sources.watermark import Watermark, backfilled, window_end
from lakehouse.submit import QUARANTINE

SOURCE, TABLE = "kafka", "kafka_orders"
_SECRET_FIELDS = ("bootstrap_servers", "api_key", "api_secret", "group_id")
_TIMEOUT = 30.0
_STEP = 2.0
_PAUSE = 0.25
# How Spark's reader says that offsets it was to read are gone, or that they went backwards.
_DATA_LOSS = re.compile(r"KAFKA_DATA_LOSS|data may have been (lost|missed)|OffsetOutOfRange", re.IGNORECASE)
_COMMITTED = "read_committed"
_Answer = TypeVar("_Answer")
# A leader is being elected, or the client does not know yet which.
_MOVING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._TRANSPORT,
}
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}


@dataclass(frozen=True)
class Topic:
    """A topic as the broker describes it.

    ``id`` tells one made anew from its predecessor. By partition: ``limits``, the first offset and the last stable one,
    up to which transactions are decided; ``ends``, the end of the partition, open transactions included.
    """

    id: str
    limits: dict[int, tuple[int, int]]
    ends: dict[int, int]


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Decide the range of this run: from the certified offsets, or the beginning, to the end as it is now.

    ``state``: ``{"topic", "topic_id", "from": {partition: offset}, "until": {partition: offset}}``; ``rows`` is None.
    In mode stream ``until`` is what the streaming job has written, and ``rows`` what it read.

    Raises SourceError where certified offsets do not fit the topic (records expired unread,
    or the topic was made anew), CredentialsError, SourceUnavailable.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    options = settings.sources.kafka
    watermark = watermarks.get(TABLE, Watermark())
    if options.mode == "stream":
        return (_record(settings, run_id, watermark),)
    topic = look(settings)
    require_same_topic(options.topic, topic.id, _certified_ids(watermark, options.topic))
    known = certified_offsets(watermark, options.topic)
    # Where all events were read, committed or not, a certified offset may lie beyond the last stable one.
    held = {partition: (low, topic.ends[partition]) for partition, (low, _) in topic.limits.items()}
    starts = _starts(options.topic, held, known, options.lost_before)
    until = {partition: max(stable, starts[partition]) for partition, (_, stable) in topic.limits.items()}
    manifest = LandingWriter(settings, SOURCE, TABLE, run_id).commit(
        window_from=watermark.time,
        window_to=window_end(run_time(run_id), watermark, run_time(run_id)),
        state={"topic": options.topic, "topic_id": topic.id, "from": _keyed(starts), "until": _keyed(until)},
        notes=[*_losses(options.topic, starts, known), *_waiting(options.topic, topic)],
        in_source=True,
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Decide the range that holds every record with a timestamp in [since, until); it moves no certified offset.

    Producers date their records, in any order: the range begins with the first record that is dated ``since`` or later
    and ends where the topic does. Whoever reads it takes the records with a timestamp in ``state``'s ``timestamps``
    (``record_times``).

    Raises SourceError in mode stream, whose tables hold every record by transactions of their own; CredentialsError,
    SourceUnavailable.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    name = settings.sources.kafka.topic
    if settings.sources.kafka.mode == "stream":
        raise SourceError(
            f"Kafka topic {name}: received a backfill in mode stream, expected mode batch",
            hint=f"the stream leaves out no record: see `{QUARANTINE} list` for what it refused",
        )
    topic = look(settings)
    manifest = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill").commit(
        window_from=since,
        window_to=None,
        state={
            "topic": name,
            "topic_id": topic.id,
            "from": _keyed(offsets_at(settings, since, topic.limits)),
            "until": _keyed({partition: stable for partition, (_, stable) in topic.limits.items()}),
            "timestamps": [since.isoformat(), until.isoformat()],
            "is_backfill": True,
        },
        notes=[backfilled(since, until), *_waiting(name, topic)],
        in_source=True,
    )
    return (manifest,)


def holds_offsets(manifest: Manifest) -> bool:
    """Whether there is anything in a manifest's range to read."""
    until = manifest.state["until"]
    return any(offset < until[partition] for partition, offset in manifest.state["from"].items())


def record_times(manifest: Manifest) -> tuple[datetime, datetime] | None:
    """From when and until when (not included) the records of a manifest's range are dated; None for all of them."""
    given = manifest.state.get("timestamps")
    return None if given is None else (datetime.fromisoformat(given[0]), datetime.fromisoformat(given[1]))


def connector_options(settings: Settings, manifest: Manifest) -> dict[str, str]:
    """Options of Spark's Kafka reader for the manifest's range. They hold credentials: never make them confs."""
    topic = manifest.state["topic"]
    return _reading(settings) | {
        "assign": json.dumps({topic: sorted(int(partition) for partition in manifest.state["until"])}),
        "startingOffsets": json.dumps({topic: manifest.state["from"]}),
        "endingOffsets": json.dumps({topic: manifest.state["until"]}),
    }


def stream_options(settings: Settings, starts: Mapping[int, int]) -> dict[str, str]:
    """Options of Spark's Kafka reader for the stream. They hold credentials: never make them confs.

    ``starts`` counts only where the checkpoint is new. Partitions that the topic gets later are read from their
    beginning.
    """
    options = settings.sources.kafka
    return _reading(settings) | {
        "subscribe": options.topic,
        "startingOffsets": json.dumps({options.topic: _keyed(starts)}),
        "maxOffsetsPerTrigger": str(options.stream.max_offsets_per_trigger),
        "includeHeaders": "true",
    }


def _reading(settings: Settings) -> dict[str, str]:
    """What every reader of the topic needs: a login, committed events only, and no silence about lost ones."""
    secret = read_secret(settings.sources.kafka.secret, _SECRET_FIELDS)
    return {
        "kafka.bootstrap.servers": secret["bootstrap_servers"],
        "kafka.security.protocol": settings.sources.kafka.security_protocol,
        "kafka.sasl.mechanism": "PLAIN",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f"username={_quoted(secret['api_key'])} password={_quoted(secret['api_secret'])};",
        "kafka.isolation.level": _COMMITTED,
        "failOnDataLoss": "true",
    }


def certified_offsets(watermark: Watermark, topic: str) -> dict[int, int]:
    """Next offset of each partition: the furthest that a certified run has read."""
    offsets: dict[int, int] = {}
    for state in watermark.states:
        if state.get("topic") == topic and not state.get("is_backfill"):
            for partition, offset in state["until"].items():
                offsets[int(partition)] = max(int(offset), offsets.get(int(partition), 0))
    return offsets


def stream_starts(
    settings: Settings, topic: Topic, watermark: Watermark, marks: Marks | None
) -> tuple[dict[int, int], list[str]]:
    """Where a stream with a new checkpoint begins, and what it leaves out that expired.

    What it has written and what is certified is not read again. Raises SourceError where the topic is another one of
    the same name, or records expired before they were read.
    """
    options = settings.sources.kafka
    known = certified_offsets(watermark, options.topic)
    for partition, offset in (marks.until if marks else {}).items():
        known[int(partition)] = max(offset, known.get(int(partition), 0))
    ids = _certified_ids(watermark, options.topic) | ({marks.topic_id} if marks else set())
    require_same_topic(options.topic, topic.id, ids)
    starts = _starts(options.topic, topic.limits, known, options.lost_before)
    return starts, _losses(options.topic, starts, known)


def require_same_topic(topic: str, topic_id: str, known_ids: Set[str]) -> None:
    """Raise SourceError where the topic has another id than the one whose offsets are known."""
    others = known_ids - {topic_id}
    if others:
        raise made_anew(topic, Violation(topic, f"id {topic_id}", f"id {', '.join(sorted(others))}"))


def _certified_ids(watermark: Watermark, topic: str) -> set[str]:
    return {str(state["topic_id"]) for state in watermark.states if state["topic"] == topic}


def _record(settings: Settings, run_id: str, watermark: Watermark) -> Manifest:
    """What the stream has written since the last certified run; no record is read."""
    topic = settings.sources.kafka.topic
    marks = read_marks(settings)
    if marks is None:
        raise SourceUnavailable(
            f"Kafka topic {topic}: received no marks of a stream, expected one that has begun",
            hint="start the stream (DAG streaming_ingest, action ensure), then run the task again",
        )
    require_same_topic(topic, marks.topic_id, _certified_ids(watermark, topic))
    certified = certified_offsets(watermark, topic)
    starts = {partition: certified.get(int(partition), marks.begin[partition]) for partition in marks.until}
    until = {partition: max(end, starts[partition]) for partition, end in marks.until.items()}
    told = [int(state["records"]) for state in watermark.states if state.get("series") == marks.series]
    # Where a run in mode batch has read a part, nobody has counted the rest.
    is_counted = bool(told) or starts == marks.begin
    return LandingWriter(settings, SOURCE, TABLE, run_id).commit(
        window_from=watermark.time,
        window_to=window_end(min(marks.at, run_time(run_id)), watermark, run_time(run_id)),
        state={
            "topic": topic,
            "topic_id": marks.topic_id,
            "from": starts,
            "until": until,
            "mode": "stream",
            "series": marks.series,
            "records": marks.records,
        },
        rows=marks.records - max(told, default=0) if is_counted else None,
        in_source=True,
    )


def _starts(
    name: str,
    limits: Mapping[int, tuple[int, int]],
    known: Mapping[int, int],
    lost_before: Mapping[int, int],
) -> dict[int, int]:
    """Where each partition is read on: at the known offset; behind a loss only where the settings own up to it."""
    violations = []
    # A partition that came later is known from its beginning.
    known = {**dict.fromkeys(limits, 0), **known} if known else {}
    for partition, offset in sorted(known.items()):
        where = f"{name}[{partition}]"
        if partition not in limits:
            violations.append(
                Violation(where, "no such partition", f"offset {offset}, read and certified before")
            )
            continue
        low, end = limits[partition]
        if low > max(offset, lost_before.get(partition, 0)):
            violations.append(
                Violation(
                    where, f"records from offset {low}", f"from {offset}: {low - offset} expired unread"
                )
            )
        elif end < offset:
            violations.append(
                Violation(where, f"an end at offset {end}", f"at least {offset}: the topic was made anew")
            )
    if violations:
        raise made_anew(name, *violations)
    return {partition: max(known.get(partition, low), low) for partition, (low, _) in limits.items()}


def _losses(name: str, starts: Mapping[int, int], known: Mapping[int, int]) -> list[str]:
    """What is left out because it expired, and the settings say so."""
    return [
        f"{name}[{partition}]: offsets {known.get(partition, 0)} to {start - 1} expired unread, as "
        "sources.kafka.lost_before says"
        for partition, start in sorted(starts.items())
        if known and start > known.get(partition, 0)
    ]


def made_anew(topic: str, *violations: Violation) -> SourceError:
    """The refusal to read a topic that does not continue the offsets known of it."""
    return SourceError(
        f"Kafka topic {topic} does not continue where the last certified run ended",
        violations=violations,
        hint="expired records: have the producer send them again, keep records longer, and name the first offset that "
        "is left in sources.kafka.lost_before to go on from there; a topic made anew: give it another name "
        "(sources.kafka.topic), because its offsets repeat those already in Bronze",
    )


def _waiting(name: str, topic: Topic) -> list[str]:
    """What a transaction that is still open holds back."""
    return [
        f"{name}[{partition}]: {topic.ends[partition] - stable} offsets from {stable} on wait for a transaction that "
        "is still open; a later run reads what it commits"
        for partition, (_, stable) in sorted(topic.limits.items())
        if topic.ends[partition] > stable
    ]


def look(settings: Settings) -> Topic:
    """The topic as it is now. Raises SourceError where there is none, CredentialsError, SourceUnavailable."""
    name = settings.sources.kafka.topic
    with _consumer(settings) as (consumer, client, heard):
        topic = _metadata(consumer, name, heard)
        if topic.error is not None:
            raise KafkaException(topic.error)
        limits = _limits(consumer, name, sorted(topic.partitions))
        admin = AdminClient(client)  # has to outlive its answers
        ends = _ends(admin, name, limits)
        answers = admin.describe_topics(TopicCollection([name]), request_timeout=_TIMEOUT)
        return Topic(str(answers[name].result().topic_id), limits, ends)


def offsets_at(settings: Settings, at: datetime, limits: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """By partition: offset of the first record whose timestamp is a time or later, else the last stable one."""
    name = settings.sources.kafka.topic
    milliseconds = int(at.timestamp() * 1000)
    with _consumer(settings) as (consumer, _, heard):
        _metadata(consumer, name, heard)
        asked = [TopicPartition(name, partition, milliseconds) for partition in limits]
        found = consumer.offsets_for_times(asked, timeout=_TIMEOUT)
    for each in found:
        if each.error is not None:
            raise meaning([each.error], name, settings.sources.kafka.secret)
    return {
        each.partition: min(each.offset, limits[each.partition][1])
        if each.offset >= 0
        else limits[each.partition][1]
        for each in found
    }


def lost(topic: str, error: BaseException) -> SourceError | None:
    """The refusal where Spark's reader found offsets gone or set back; None for any other error."""
    if not _DATA_LOSS.search(str(error)):
        return None
    return made_anew(topic, Violation(topic, "offsets that are gone or went backwards", "the next ones"))


@contextmanager
def loss_said(settings: Settings) -> Iterator[None]:
    """Say it in our words where what is read in the block has expired meanwhile."""
    try:
        yield
    except Exception as error:
        found = lost(settings.sources.kafka.topic, error)
        if found is None:
            raise
        raise found from error


@contextmanager
def _consumer(settings: Settings) -> Iterator[tuple[Consumer, dict[str, Any], list[KafkaError]]]:
    """A consumer, its client options, and the errors that its callback hears; errors are said in our words."""
    options = settings.sources.kafka
    secret = read_secret(options.secret, _SECRET_FIELDS)
    heard: list[KafkaError] = []
    client = _client_options(settings, secret) | {"error_cb": heard.append}
    consumer = Consumer(
        client
        | {"group.id": secret["group_id"], "enable.auto.commit": False, "allow.auto.create.topics": False}
        | {"isolation.level": _COMMITTED}
    )
    try:
        yield consumer, client, heard
    except KafkaException as error:
        consumer.poll(0)
        raise meaning([error.args[0], *heard], options.topic, options.secret) from None
    finally:
        consumer.close()


def _metadata(consumer: Consumer, topic: str, heard: list[KafkaError]) -> Any:
    """The topic as the brokers describe it; librdkafka would try a refused login until the time is over."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return consumer.list_topics(topic, timeout=_STEP).topics[topic]
        except KafkaException:
            consumer.poll(0)  # callbacks are called here only
            if time.monotonic() > deadline or any(error.code() in _REFUSED for error in heard):
                raise


def _limits(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
    """The first offset and the last stable one by partition."""

    def of(partition: int) -> tuple[int, int]:
        where = TopicPartition(topic, partition)
        return consumer.get_watermark_offsets(where, timeout=_TIMEOUT, cached=False)

    return {partition: _when_led(partial(of, partition)) for partition in partitions}


def _ends(admin: AdminClient, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The end of each partition, whatever transactions are open."""

    def of(partition: int) -> int:
        where = TopicPartition(topic, partition)
        answers = admin.list_offsets(
            {where: OffsetSpec.latest()},  # type: ignore[no-untyped-call]
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=_TIMEOUT,
        )
        return int(answers[where].result().offset)

    return {partition: _when_led(partial(of, partition)) for partition in partitions}


def _when_led(ask: Callable[[], _Answer]) -> _Answer:
    """The answer of a partition's leader; a broker that restarts has none for some seconds."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _MOVING or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _client_options(settings: Settings, secret: Secret) -> dict[str, Any]:
    return {
        "bootstrap.servers": secret["bootstrap_servers"],
        "security.protocol": settings.sources.kafka.security_protocol,
        "sasl.mechanism": "PLAIN",
        "sasl.username": secret["api_key"],
        "sasl.password": secret["api_secret"],
        "log_level": 2,  # errors reach the callback
    }


def meaning(errors: Iterable[KafkaError], topic: str, secret: str) -> LakehouseError:
    """What errors of the client mean for us; a refused login shows only among those that its callback heard."""
    known = list(errors)
    text = "; ".join(dict.fromkeys(f"{error.name()} ({error.str()})" for error in known[:3]))
    if (named := next((each for error in known if (each := find("kafka", error.name()))), None)) is not None:
        is_missing = named.means is Means.REFUSED
        message = f"Kafka: there is no topic {topic} ({text})" if is_missing else f"Kafka: received {text}"
        return named.error(message, secret=secret)
    return SourceUnavailable(f"Kafka: received {text}, expected an answer", hint="run the task again later")


def _keyed(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in sorted(offsets.items())}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
