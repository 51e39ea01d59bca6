"""Exactly once: produced = Bronze + DLQ, to the row, whatever happens to the stream in between."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from pyspark.sql import functions as F

from lakehouse import contracts, store
from lakehouse.contracts import Contract
from lakehouse.errors import ConfigError, SourceError, StreamRefused, UsageError
from lakehouse.flows import stream
from lakehouse.flows.apply_contracts import apply_contracts
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.stream import read_progress
from lakehouse.quality import dlq
from lakehouse.sources.marks import read_marks
from local.kafka import API_SECRET, client_options, create_topic
from tests.stream.support import Topic, encoded
from tests.support import REPO, Aws, spark_properties, write_properties_file

BAD = (None, b"{", b"[" * 5000, b"\xff", encoded(1, status="GONE"), encoded(1, amount=-1))


def mixed(count: int, bad: int, seed: int = 7) -> list[bytes | None]:
    """Good events, ``bad`` of the count hostile, in an order of their own."""
    values: list[bytes | None] = [encoded(n) for n in range(count - bad)]
    values += [BAD[n % len(BAD)] for n in range(bad)]
    random.Random(seed).shuffle(values)
    return values


class Crash(Exception):
    """Stands for a process that ends here."""


@contextmanager
def crash_before(table: str, times: int = 1) -> Iterator[None]:
    """End the stream just before it writes a table (the DLQ is written first, then Bronze)."""
    left = times
    real = stream.append_once

    def append(frame: Any, uri: str, *rest: Any) -> None:
        nonlocal left
        if left and uri.endswith(table.replace(".", "/")):
            left -= 1
            raise Crash
        real(frame, uri, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "append_once", append)
        yield


@contextmanager
def crash_before_marks() -> Iterator[None]:
    """End the stream when both tables have the batch and the marks do not."""
    real = stream.write_marks

    def write(settings: Any, marks: Any) -> None:
        if marks.batch_id is not None:
            raise Crash
        real(settings, marks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "write_marks", write)
        yield


def test_two_thousand_events_are_all_there_once_and_stay_so(topic: Topic) -> None:
    topic = topic.with_options(stream={"max_offsets_per_trigger": 900})
    topic.produce(mixed(2000, 60))

    job = topic.catch_up()

    topic.require_exactly(1940, 60)
    (told,) = job.outcome.tables
    assert told.ledger is not None
    assert (told.ledger.read, told.ledger.inserted, told.ledger.quarantined) == (2000, 1940, 60)
    progress, marks = read_progress(topic.settings), read_marks(topic.settings)
    assert progress is not None
    assert marks is not None
    assert (progress.batch_id, progress.total_rows, progress.total_rejected) == (2, 2000, 60)
    assert progress.until == progress.latest == marks.until == {"0": 666, "1": 667, "2": 667}
    assert set(progress.lag.values()) == {0}
    assert marks.records == 2000
    history = topic.spark.sql(f"DESCRIBE HISTORY delta.`{topic.settings.table_uri(stream.BRONZE)}` LIMIT 1")
    note = json.loads(history.collect()[0]["userMetadata"])
    assert note == {
        "stream": "kafka_orders",
        "topic": topic.name,
        "topic_id": marks.topic_id,
        "from": note["from"],
        "until": marks.until,
        "run_id": job.run_id,
        "batch_id": 2,
    }

    versions = [topic.table(name).count() for name in (stream.BRONZE, dlq.TABLE)]
    topic.catch_up()
    assert [topic.table(name).count() for name in (stream.BRONZE, dlq.TABLE)] == versions
    topic.produce(mixed(10, 2))
    topic.catch_up()
    topic.require_exactly(1948, 62)

    for uri in store.keys(f"{topic.settings.lake_uri}/"):
        assert API_SECRET.encode() not in (store.get(uri) or b""), uri
    assert API_SECRET not in str(topic.spark.sparkContext.getConf().getAll())
    assert API_SECRET not in str(dict(topic.spark.conf.getAll))


@pytest.mark.parametrize("lost", [False, True], ids=["same-checkpoint", "lost-checkpoint"])
def test_a_crash_between_the_writes_loses_and_doubles_nothing(topic: Topic, lost: bool) -> None:
    topic.produce(mixed(90, 30))
    with crash_before(stream.BRONZE), pytest.raises(Crash):
        topic.catch_up()
    assert [each.total() for each in topic.where()] == [0, 30]

    if lost:
        topic.lose_checkpoint()
        # The next batch is cut differently: it holds events that the DLQ has, and events that nobody has seen.
        topic = topic.with_options(stream={"max_offsets_per_trigger": 60})
        topic.produce(mixed(30, 6))
    topic.catch_up()

    topic.require_exactly(84, 36) if lost else topic.require_exactly(60, 30)


def test_a_crash_before_the_marks_loses_and_doubles_nothing(topic: Topic) -> None:
    """Here with a lost checkpoint: another query, whose batches are numbered from zero again."""
    topic.produce(mixed(90, 30))
    with crash_before_marks(), pytest.raises(Crash):
        topic.catch_up()
    topic.require_exactly(60, 30)
    topic.produce(mixed(30, 6))

    topic.lose_checkpoint()
    topic.catch_up()

    topic.require_exactly(84, 36)
    marks = read_marks(topic.settings)
    assert marks is not None
    assert marks.records == 120


def test_without_transactions_the_same_crash_doubles(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the tests above show is the transactions' doing."""

    def append(frame: Any, uri: str, *_: Any) -> None:
        frame.write.format("delta").mode("append").save(uri)

    monkeypatch.setattr(stream, "append_once", append)
    # Nor may rows be looked for that the interrupted batch left.
    monkeypatch.setattr(stream._Stream, "_beyond_marks", lambda *_: {})
    topic.produce(mixed(90, 30))
    with crash_before(stream.BRONZE), pytest.raises(Crash):
        topic.catch_up()
    topic.catch_up()

    bronze, refused = topic.where()
    assert (bronze.total(), refused.total()) == (60, 60)


def test_compaction_goes_on_beside_the_stream(topic: Topic) -> None:
    topic = topic.with_options(stream={"max_offsets_per_trigger": 30})
    topic.spark.conf.set("spark.databricks.delta.autoCompact.minNumFiles", "2")
    try:
        topic.produce(mixed(60, 20))
        topic.catch_up()
    finally:
        topic.spark.conf.unset("spark.databricks.delta.autoCompact.minNumFiles")
    for name in (stream.BRONZE, dlq.TABLE):
        history = topic.spark.sql(f"DESCRIBE HISTORY delta.`{topic.settings.table_uri(name)}`")
        assert history.where("operation = 'OPTIMIZE'").count() > 0
        assert len(topic.table(name).inputFiles()) < 3
    topic.lose_checkpoint()
    topic.produce(mixed(30, 6))
    topic.catch_up()

    topic.require_exactly(64, 26)


def test_a_topic_made_anew_stops_the_stream(topic: Topic) -> None:
    topic.produce(mixed(30, 3))
    topic.catch_up()
    recreate(topic)
    topic.produce(mixed(90, 9))

    with pytest.raises(SourceError, match="does not continue") as refused:
        topic.catch_up()

    assert "another name" in refused.value.hint
    topic.require_exactly(27, 3)


def test_a_topic_made_anew_under_a_running_stream_stops_it_before_it_writes(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.produce(mixed(30, 3))
    real, looks = stream.kafka.look, []

    def look(settings: Any) -> Any:
        looks.append(1)
        topic_id, limits = real(settings)
        return ("another-id" if len(looks) > 1 else topic_id), limits

    monkeypatch.setattr(stream.kafka, "look", look)
    with pytest.raises(SourceError, match="another-id"):
        topic.catch_up()

    topic.require_exactly(0, 0)


def test_events_that_expired_unread_stop_the_stream(topic: Topic) -> None:
    topic.produce(mixed(30, 3))
    topic.catch_up()
    topic.produce(mixed(30, 3))
    admin = AdminClient(client_options(topic.bootstrap))
    admin.delete_records([TopicPartition(topic.name, 0, 15)])[TopicPartition(topic.name, 0, 15)].result(10)

    for _ in ("same checkpoint", "lost checkpoint"):
        with pytest.raises(SourceError, match="expired unread"):
            topic.catch_up()
        topic.lose_checkpoint()
    topic.require_exactly(27, 3)


def test_new_partitions_are_read_from_their_beginning(topic: Topic) -> None:
    topic.produce(mixed(30, 3))
    topic.catch_up()
    admin = AdminClient(client_options(topic.bootstrap))
    admin.create_partitions([NewPartitions(topic.name, 4)])[topic.name].result(10)
    from confluent_kafka import Producer

    producer = Producer(client_options(topic.bootstrap))
    producer.produce(topic.name, encoded(99), partition=3)
    assert producer.flush(10) == 0
    topic.catch_up()

    topic.require_exactly(28, 3)
    marks = read_marks(topic.settings)
    assert marks is not None
    assert (marks.begin["3"], marks.until["3"]) == (0, 1)


def test_a_checkpoint_older_than_the_tables_is_refused(topic: Topic) -> None:
    topic.produce(mixed(30, 3))
    topic.catch_up()
    saved = {uri: store.get(uri) for uri in store.keys(f"{topic.settings.lake_uri}/checkpoints/")}
    topic.produce(mixed(30, 3))
    topic.catch_up()
    topic.lose_checkpoint()
    for uri, body in saved.items():
        store.put(uri, body or b"")
    topic.produce(mixed(30, 3))

    with pytest.raises(StreamRefused, match="older than the tables"):
        topic.catch_up()
    topic.require_exactly(54, 6)

    topic.lose_checkpoint()
    topic.catch_up()
    topic.require_exactly(81, 9)


def test_a_table_made_anew_stops_the_stream(topic: Topic) -> None:
    topic.produce(mixed(30, 3))
    topic.catch_up()
    for uri in list(store.keys(f"{topic.settings.table_uri(dlq.TABLE)}/")):
        bucket, key = store.split(uri)
        store.client().delete_object(Bucket=bucket, Key=key)
    topic.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    topic.apply_contracts()

    with pytest.raises(StreamRefused, match=dlq.TABLE):
        topic.catch_up()


def test_the_newest_stream_is_the_one_that_writes(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    topic.produce(mixed(30, 3))
    older = stream._Stream(topic.job())
    newer = stream._Stream(topic.job())

    with pytest.raises(StreamRefused, match="taken over"):
        older.run(available_now=True)
    topic.require_exactly(0, 0)
    newer.run(available_now=True)
    topic.require_exactly(27, 3)


def test_a_column_added_to_the_contract_is_filled_after_a_restart(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.produce([encoded(1, channel="web")])
    topic.catch_up()
    wider = with_column(contracts.load(stream.BRONZE))
    real = contracts.load
    monkeypatch.setattr(contracts, "load", lambda name: wider if name == stream.BRONZE else real(name))
    apply_contracts(topic.spark, topic.settings, [wider])
    topic.produce([encoded(2, channel="web"), encoded(3), encoded(4, status="GONE")])

    topic.catch_up()

    topic.require_exactly(3, 1)
    rows = topic.table(stream.BRONZE).select("order_id", "channel").orderBy("order_id").collect()
    assert [tuple(row) for row in rows] == [("O-1", None), ("O-2", "web"), ("O-3", None)]
    assert topic.table(dlq.TABLE).select("contract_version").collect()[0][0] == "1.1.0"


def test_in_mode_batch_there_is_no_stream(topic: Topic) -> None:
    topic = topic.with_options(mode="batch")

    with pytest.raises(ConfigError, match="mode"):
        topic.catch_up()


def test_available_now_is_of_the_stream_alone(topic: Topic) -> None:
    with pytest.raises(UsageError, match="--stream"):
        stream.to_bronze(topic.job(stream=False, available_now=True))


def test_kill_and_stop_from_outside(topic: Topic, aws: Aws, tmp_path: Path) -> None:
    """A process of its own: kill -9 while it works, SIGTERM while it works, nothing of the secret in its logs."""
    total = 0
    first = Process(topic, aws, tmp_path / "first")
    total += topic.produce(mixed(300, 30))
    first.wait_for(lambda: topic_progress(topic) >= 60)
    total += topic.produce(mixed(300, 30, seed=8))
    time.sleep(1.5)
    first.end(signal.SIGKILL)

    second = Process(topic, aws, tmp_path / "second")
    total += topic.produce(mixed(300, 30, seed=9))
    second.wait_for(lambda: topic_progress(topic, second) >= 60)
    assert second.end(signal.SIGTERM) == 0
    outcome = outcomes.read(topic.settings, second.run_id, "kafka_orders_to_bronze")
    assert outcome is not None
    assert outcome.status == "succeeded"

    topic.catch_up()
    topic.require_exactly(total - 90, 90)
    logs = first.log.read_text() + second.log.read_text()
    assert "batch 0" in logs
    assert API_SECRET not in logs


def topic_progress(topic: Topic, process: Process | None = None) -> int:
    progress = read_progress(topic.settings)
    if progress is None or (process is not None and progress.run_id != process.run_id):
        return 0
    return progress.total_rows


class Process:
    """The job as a process of its own, with a batch a second."""

    def __init__(self, topic: Topic, aws: Aws, folder: Path) -> None:
        folder.mkdir()
        values = topic.settings.model_dump(mode="json", exclude={"dq_thresholds"})
        values["sources"]["kafka"]["stream"] = {"trigger_seconds": 1, "max_offsets_per_trigger": 60}
        config = folder / "settings.yaml"
        config.write_text(yaml.safe_dump(values))
        properties = write_properties_file(folder / "spark.conf", spark_properties(folder, aws.endpoint))
        self.run_id = topic.job().run_id
        self.log = folder / "log"
        env = os.environ | {
            "PYTHONPATH": f"{REPO / 'src'}:{REPO}",
            "PYSPARK_SUBMIT_ARGS": f"--properties-file {properties} pyspark-shell",
            "SPARK_LOCAL_DIRS": str(folder / "local"),
        }
        command = [sys.executable, str(REPO / "jobs" / "kafka_orders_to_bronze.py"), "--stream"]
        command += ["--config", str(config), "--run-id", self.run_id]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_for(self, reached: Any) -> None:
        deadline = time.monotonic() + 90
        while not reached():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.end(signal.SIGKILL)
                pytest.fail(f"the stream did not get there:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.2)

    def end(self, how: signal.Signals) -> int:
        """Signal the whole group, the JVM included, as the local EMR does."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, how)
        return self._process.wait(timeout=60)


def recreate(topic: Topic) -> None:
    admin = AdminClient(client_options(topic.bootstrap))
    admin.delete_topics([topic.name])[topic.name].result(10)
    while topic.name in admin.list_topics(timeout=10).topics:
        time.sleep(0.1)
    assert create_topic(topic.bootstrap, topic.name, 3)


def with_column(contract: Contract) -> Contract:
    """The next version of the contract, with a nullable column after currency."""
    columns = []
    for column in contract.columns:
        columns.append(column)
        if column.name == "currency":
            columns.append(
                dataclasses.replace(
                    column, name="channel", required=False, description="Channel", source_field="channel"
                )
            )
    return dataclasses.replace(contract, columns=tuple(columns), version="1.1.0", content_hash="next")


def test_a_batch_of_only_good_or_only_bad_events(topic: Topic) -> None:
    topic.produce([encoded(1), encoded(2)])
    topic.catch_up()
    topic.produce([b"{", None])
    topic.catch_up()

    topic.require_exactly(2, 2)
    assert topic.table(dlq.TABLE).where(F.col("value").isNull()).count() == 1
