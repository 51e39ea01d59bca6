"""Offsets that hold no event: ends of transactions, aborted events, compaction, expiry. What is read is counted."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from lakehouse.errors import SourceError
from lakehouse.flows.ingest import Load, certification, ingest
from lakehouse.landing import read_manifest
from lakehouse.observe.outcome import LedgerCounts
from lakehouse.observe.stream import read_progress
from lakehouse.sources import kafka
from local.kafka import client_options
from tests.stream.support import Topic, encoded
from tests.stream.test_daily import judge, record


class Transactions:
    """A producer that writes all of a transaction into partition 0."""

    def __init__(self, topic: Topic, name: str) -> None:
        self.topic = topic
        self.producer = Producer(
            client_options(topic.bootstrap) | {"transactional.id": f"{topic.name}-{name}"}
        )
        self.producer.init_transactions(30)

    def send(self, *numbers: int) -> Transactions:
        self.producer.begin_transaction()
        for n in numbers:
            self.producer.produce(self.topic.name, encoded(n), partition=0)
        self.producer.flush(30)
        return self

    def commit(self) -> None:
        self.producer.commit_transaction(30)

    def abort(self) -> None:
        self.producer.abort_transaction(30)


def admin(topic: Topic) -> AdminClient:
    return AdminClient(client_options(topic.bootstrap))


def expire(topic: Topic, before: int) -> None:
    """What retention does to the records of partition 0 before an offset."""
    where = TopicPartition(topic.name, 0, before)
    client = admin(topic)
    client.delete_records([where])[where].result(30)


def numbers(topic: Topic, table: str = "bronze.kafka_orders") -> list[str]:
    return sorted(row[0] for row in topic.table(table).select("order_id").collect())


def counts(ledger: LedgerCounts | None) -> tuple[int, int, int]:
    assert ledger is not None
    return ledger.read, ledger.inserted, ledger.quarantined


def test_batch_reads_what_was_committed(topic: Topic) -> None:
    topic.make_tables("ops.quarantine", "ops.dq_verdicts")
    topic = topic.with_options(mode="batch")
    Transactions(topic, "a").send(1, 2, 3).commit()
    Transactions(topic, "b").send(101, 102).abort()
    still_open = Transactions(topic, "c").send(4)
    topic.produce([encoded(5), encoded(6), encoded(7)])  # one a partition; that of partition 0 has to wait

    run, table = record(topic)

    assert counts(table.ledger) == (5, 5, 0)
    assert numbers(topic) == ["O-1", "O-2", "O-3", "O-5", "O-6"]
    assert judge(topic, run).passing
    (waiting,) = table_notes(topic, run)
    assert waiting.startswith(f"{topic.name}[0]: 2 offsets from 7 on wait")

    # The stream goes on from there. Its marks include offsets that hold no event: nothing is behind for ever.
    still_open.commit()
    stream = topic.with_options(mode="stream")
    stream.catch_up()
    Transactions(topic, "d").send(103).abort()
    stream.catch_up()  # a batch without an event
    run, table = record(stream)
    assert counts(table.ledger) == (2, 2, 0)
    assert numbers(topic) == [f"O-{n}" for n in range(1, 8)]
    assert judge(stream, run).passing
    progress = read_progress(stream.settings)
    assert progress is not None
    assert (progress.until["0"], set(progress.lag.values())) == (
        kafka.look(stream.settings).limits[0][1],
        {0},
    )
    # What expires now was read, or is no event.
    expire(topic, progress.until["0"])
    stream.lose_checkpoint()
    stream.produce([encoded(8)])
    stream.catch_up()
    _, table = record(stream)
    assert counts(table.ledger) == (1, 1, 0)


def table_notes(topic: Topic, run_id: str) -> tuple[str, ...]:
    manifest = read_manifest(topic.settings, "kafka", "kafka_orders", run_id)
    assert manifest is not None
    return manifest.notes


def test_a_compacted_gap_is_no_loss(topic: Topic) -> None:
    topic.make_tables("ops.quarantine", "ops.dq_verdicts")
    batch = topic.with_options(mode="batch")
    compact(topic, first=1, last=6)

    run, table = record(batch)

    assert counts(table.ledger) == (2, 2, 0)
    assert judge(batch, run).passing
    compact(topic, first=8, last=12)
    topic.catch_up()
    run, table = record(topic)
    assert counts(table.ledger) == (2, 2, 0)
    assert judge(topic, run).passing
    assert numbers(topic) == ["O-12", "O-13", "O-6", "O-7"]


def compact(topic: Topic, first: int, last: int) -> None:
    """Send events of one key into partition 0, and wait until compaction has left the last of them and one behind."""
    client = admin(topic)
    configure(client, ResourceType.BROKER, "1", {"log.cleaner.backoff.ms": "100"})
    options = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.0001"}
    configure(client, ResourceType.TOPIC, topic.name, options)
    producer = Producer(client_options(topic.bootstrap))
    for n in range(first, last + 1):
        producer.produce(topic.name, encoded(n), key=b"same", partition=0)
    producer.flush(30)
    time.sleep(0.2)  # The segment is of age: the next record begins another one.
    producer.produce(topic.name, encoded(last + 1), key=f"{last}".encode(), partition=0)
    producer.flush(30)
    end = time.monotonic() + 60
    while keys(topic).count(b"same") > 1:
        assert time.monotonic() < end
        time.sleep(0.2)


def configure(client: AdminClient, kind: ResourceType, name: str, options: dict[str, str]) -> None:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in options.items()
    ]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    client.incremental_alter_configs([resource])[resource].result(30)


def keys(topic: Topic) -> list[bytes | None]:
    """Keys of the records in partition 0."""
    consumer = Consumer(
        client_options(topic.bootstrap)
        | {"group.id": "keys", "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    )
    consumer.assign([TopicPartition(topic.name, 0, 0)])
    found = []
    try:
        while (message := consumer.poll(30)) is not None and message.error() is None:
            found.append(message.key())
    finally:
        consumer.close()
    return found


def test_events_that_expired_unread_are_said_and_end_the_run(topic: Topic) -> None:
    topic.make_tables("ops.quarantine", "ops.dq_verdicts")
    batch = topic.with_options(mode="batch")
    topic.produce([encoded(n) for n in range(12)])
    # Half of what the manifest promises expires before it is read.
    job = batch.job()
    kafka.extract(batch.settings, job.run_id, {})
    expire(topic, 2)
    for before in (2, 4):
        expire(topic, before)
        with pytest.raises(SourceError, match="gone or went backwards"):
            ingest(job, "kafka")
    assert numbers(topic) == []

    run, table = record(batch)  # a first run begins with what there is
    assert counts(table.ledger) == (8, 8, 0)
    assert judge(batch, run).passing

    # The stream, with its checkpoint and without.
    topic.produce([encoded(n) for n in range(12, 15)])
    topic.catch_up()
    topic.produce([encoded(n) for n in range(15, 24)])
    expire(topic, 6)
    for _ in ("same checkpoint", "lost checkpoint"):
        with pytest.raises(SourceError, match="expired unread"):
            topic.catch_up()
        topic.lose_checkpoint()
    owned = topic.with_options(lost_before={0: 6})
    job = owned.catch_up()
    assert job.outcome.notes == [
        f"{topic.name}[0]: offsets 5 to 5 expired unread, as sources.kafka.lost_before says"
    ]
    run, table = record(owned)
    assert counts(table.ledger) == (11, 11, 0)
    assert judge(owned, run).passing


def test_a_backfill_takes_the_events_dated_in_its_days_and_no_others(topic: Topic) -> None:
    topic.make_tables("ops.quarantine", "ops.dq_verdicts")
    topic = topic.with_options(mode="batch")
    day = datetime(2026, 1, 5, tzinfo=UTC)
    producer = Producer(client_options(topic.bootstrap))
    # Producers date their records: three of the day, in no order, among others.
    hours = {1: 30, 2: 5, 3: -3, 4: 23.9999, 5: 48, 6: 0, 7: -48, 8: 24}
    for n, offset in hours.items():
        at = int((day + timedelta(hours=offset)).timestamp() * 1000)
        producer.produce(topic.name, encoded(n), partition=0, timestamp=at)
    producer.flush(30)
    run_id = topic.job().run_id

    (manifest,) = kafka.backfill(topic.settings, run_id, day, day + timedelta(days=1))
    job = topic.job()
    job.run_id = run_id
    load = Load(job, manifest, certification(job, "bronze.kafka_orders"))
    try:
        taken = sorted(row.order_id for row in load.inserted.collect())
        outcome = load.write()
    finally:
        load.release()

    assert taken == ["O-2", "O-4", "O-6"]
    assert counts(outcome.ledger) == (3, 3, 0)
    # A day after the last record, and one before the first.
    for since in (day + timedelta(days=30), day - timedelta(days=30)):
        (manifest,) = kafka.backfill(topic.settings, topic.job().run_id, since, since + timedelta(days=1))
        load = Load(job, manifest, certification(job, "bronze.kafka_orders"))
        assert load.read_rows == 0
        load.release()
