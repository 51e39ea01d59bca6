"""The order topic. Nothing is landed but the range of offsets that belongs to a run.

Kafka is its own landing: Bronze keeps raw keys, values and offsets. In mode batch the manifest fixes, once a run, from
where to where each partition is read; Spark's Kafka reader then reads exactly that, now or in a rerun. In mode stream a
job of its own has read them, and the manifest fixes how far it had come.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from lakehouse.errors import (
    CredentialsError,
    LakehouseError,
    SourceError,
    SourceUnavailable,
    Violation,
)
from lakehouse.landing import LandingWriter, Manifest, read_manifest
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


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Decide the range of this run: from the certified offsets, or the beginning, to the end as it is now.

    ``state``: ``{"topic", "topic_id", "from": {partition: offset}, "until": {partition: offset}}``; ``rows``: the
    sum of until minus from. In mode stream ``until`` is what the streaming job has written, and ``rows`` what it read.

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
    topic_id, limits = look(settings)
    require_same_topic(options.topic, topic_id, _certified_ids(watermark, options.topic))
    starts = _starts(options.topic, limits, certified_offsets(watermark, options.topic))
    until = {partition: high for partition, (_, high) in limits.items()}
    manifest = LandingWriter(settings, SOURCE, TABLE, run_id).commit(
        window_from=watermark.time,
        window_to=window_end(run_time(run_id), watermark, run_time(run_id)),
        state={"topic": options.topic, "topic_id": topic_id, "from": _keyed(starts), "until": _keyed(until)},
        rows=sum(until[partition] - start for partition, start in starts.items()),
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Decide the range of records that the broker received in [since, until); it moves no certified offset.

    Raises SourceError in mode stream, whose tables hold every record by transactions of their own; CredentialsError,
    SourceUnavailable.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    topic = settings.sources.kafka.topic
    if settings.sources.kafka.mode == "stream":
        raise SourceError(
            f"Kafka topic {topic}: received a backfill in mode stream, expected mode batch",
            hint=f"the stream leaves out no record: see `{QUARANTINE} list` for what it refused",
        )
    topic_id, limits = look(settings)
    starts, ends = (offsets_at(settings, time, limits) for time in (since, until))
    manifest = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill").commit(
        window_from=since,
        window_to=None,
        state={
            "topic": topic,
            "topic_id": topic_id,
            "from": _keyed(starts),
            "until": _keyed(ends),
            "is_backfill": True,
        },
        rows=sum(ends[partition] - start for partition, start in starts.items()),
        notes=[backfilled(since, until)],
    )
    return (manifest,)


def connector_options(settings: Settings, manifest: Manifest) -> dict[str, str]:
    """Options of Spark's Kafka reader for the manifest's range. They hold credentials: never make them confs."""
    topic = manifest.state["topic"]
    return _login(settings) | {
        "assign": json.dumps({topic: sorted(int(partition) for partition in manifest.state["until"])}),
        "startingOffsets": json.dumps({topic: manifest.state["from"]}),
        "endingOffsets": json.dumps({topic: manifest.state["until"]}),
        "failOnDataLoss": "true",
    }


def stream_options(settings: Settings, starts: Mapping[int, int]) -> dict[str, str]:
    """Options of Spark's Kafka reader for the stream. They hold credentials: never make them confs.

    ``starts`` counts only where the checkpoint is new. Partitions that the topic gets later are read from their
    beginning.
    """
    options = settings.sources.kafka
    return _login(settings) | {
        "subscribe": options.topic,
        "startingOffsets": json.dumps({options.topic: _keyed(starts)}),
        "maxOffsetsPerTrigger": str(options.stream.max_offsets_per_trigger),
        "includeHeaders": "true",
        "failOnDataLoss": "true",
    }


def _login(settings: Settings) -> dict[str, str]:
    secret = read_secret(settings.sources.kafka.secret, _SECRET_FIELDS)
    return {
        "kafka.bootstrap.servers": secret["bootstrap_servers"],
        "kafka.security.protocol": settings.sources.kafka.security_protocol,
        "kafka.sasl.mechanism": "PLAIN",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f"username={_quoted(secret['api_key'])} password={_quoted(secret['api_secret'])};",
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
    topic: str,
    topic_id: str,
    limits: Mapping[int, tuple[int, int]],
    watermark: Watermark,
    marks: Marks | None,
) -> dict[int, int]:
    """Where a stream with a new checkpoint begins: what it has written and what is certified is not read again.

    Raises SourceError where the topic is another one of the same name, or records expired before they were read.
    """
    known = certified_offsets(watermark, topic)
    for partition, offset in (marks.until if marks else {}).items():
        known[int(partition)] = max(offset, known.get(int(partition), 0))
    require_same_topic(
        topic, topic_id, _certified_ids(watermark, topic) | ({marks.topic_id} if marks else set())
    )
    return _starts(topic, limits, known)


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
    if told or starts == marks.begin:
        rows = marks.records - max(told, default=0)
    else:  # a run in mode batch has read a part
        rows = sum(until[partition] - start for partition, start in starts.items())
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
        rows=rows,
    )


def _starts(
    topic: str, limits: Mapping[int, tuple[int, int]], certified: Mapping[int, int]
) -> dict[int, int]:
    violations = []
    for partition, offset in sorted(certified.items()):
        where = f"{topic}[{partition}]"
        if partition not in limits:
            violations.append(
                Violation(where, "no such partition", f"offset {offset}, read and certified before")
            )
            continue
        low, high = limits[partition]
        if low > offset:
            violations.append(
                Violation(
                    where, f"records from offset {low}", f"from {offset}: {low - offset} expired unread"
                )
            )
        elif high < offset:
            violations.append(
                Violation(where, f"an end at offset {high}", f"at least {offset}: the topic was made anew")
            )
    if violations:
        raise made_anew(topic, *violations)
    return {partition: certified.get(partition, low) for partition, (low, _) in limits.items()}


def made_anew(topic: str, *violations: Violation) -> SourceError:
    """The refusal to read a topic that does not continue the offsets known of it."""
    return SourceError(
        f"Kafka topic {topic} does not continue where the last certified run ended",
        violations=violations,
        hint="expired records: have the producer send them again, and keep records longer; a topic made anew: give it "
        "another name (sources.kafka.topic), because its offsets repeat those already in Bronze",
    )


def look(settings: Settings) -> tuple[str, dict[int, tuple[int, int]]]:
    """The topic's id, which tells one made anew from its predecessor, and low and high watermark by partition."""
    name = settings.sources.kafka.topic
    with _consumer(settings) as (consumer, client, heard):
        topic = _metadata(consumer, name, heard)
        if topic.error is not None:
            raise KafkaException(topic.error)
        limits = _limits(consumer, name, sorted(topic.partitions))
        admin = AdminClient(client)  # has to outlive its answers
        answers = admin.describe_topics(TopicCollection([name]), request_timeout=_TIMEOUT)
        return str(answers[name].result().topic_id), limits


def offsets_at(settings: Settings, at: datetime, limits: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """By partition: offset of the first record that the broker received at or after a time, else the end."""
    name = settings.sources.kafka.topic
    milliseconds = int(at.timestamp() * 1000)
    with _consumer(settings) as (consumer, _, heard):
        _metadata(consumer, name, heard)
        asked = [TopicPartition(name, partition, milliseconds) for partition in limits]
        found = consumer.offsets_for_times(asked, timeout=_TIMEOUT)
    for each in found:
        if each.error is not None:
            raise meaning([each.error], name, settings.sources.kafka.secret)
    return {each.partition: each.offset if each.offset >= 0 else limits[each.partition][1] for each in found}


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
    """Low and high watermark by partition; a broker that restarts has no leader for some seconds."""
    deadline = time.monotonic() + _TIMEOUT
    limits: dict[int, tuple[int, int]] = {}
    for partition in partitions:
        where = TopicPartition(topic, partition)
        while True:
            try:
                limits[partition] = consumer.get_watermark_offsets(where, timeout=_TIMEOUT, cached=False)
                break
            except KafkaException as error:
                if error.args[0].code() not in _MOVING or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
    return limits


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
    if any(error.code() in _REFUSED for error in known):
        return CredentialsError(
            f"Kafka: received {text}, expected to be let in", hint=f"check the secret {secret}"
        )
    if any(error.code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC} for error in known):
        return SourceError(
            f"Kafka: there is no topic {topic}", hint="create it, or correct sources.kafka.topic"
        )
    return SourceUnavailable(f"Kafka: received {text}, expected an answer", hint="run the task again later")


def _keyed(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in sorted(offsets.items())}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
