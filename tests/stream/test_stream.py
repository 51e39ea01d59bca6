"""Exactly once: produced = Bronze + DLQ, to the row, whatever happens to the stream in between."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
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
from lakehouse.sources.marks import Marks, read_marks
from local.kafka import API_SECRET, client_options, create_topic
from local.kill_stream import Driver, Place, kill_in_a_loop
from tests.sources.support import Setup
from tests.stream.support import Broker, Topic, a_job, encoded
from tests.support import Aws

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
def crash_before(table: str, nth: int = 1) -> Iterator[None]:
    """End the stream just before its nth write of a table (the DLQ is written first, then Bronze)."""
    writes = 0
    real = stream.append_once

    def append(frame: Any, uri: str, *rest: Any) -> None:
        nonlocal writes
        writes += uri.endswith(table.replace(".", "/"))
        if writes == nth:
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


def test_two_thousand_events_are_all_there_once_and_stay_so(
    topic: Topic, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = topic.with_options(stream={"max_offsets_per_trigger": 900})
    topic.produce(mixed(2000, 60))
    monkeypatch.setattr(stream, "_LINEAGE_EVERY", timedelta(0))

    job = topic.catch_up()

    require_metrics(aws, topic.name)
    require_running_event(topic, job.run_id)

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

    topic.catch_up()
    topic.require_exactly(1940, 60)
    topic.produce(mixed(10, 2))
    topic.catch_up()
    topic.require_exactly(1948, 62)

    for uri in store.keys(f"{topic.settings.lake_uri}/"):
        assert API_SECRET.encode() not in (store.get(uri) or b""), uri
    assert API_SECRET not in str(topic.spark.sparkContext.getConf().getAll())
    assert API_SECRET not in str(dict(topic.spark.conf.getAll))
    # What Spark's UI and event log show of a query.
    executions = topic.spark._jsparkSession.sharedState().statusStore().executionsList()
    assert executions.size() > 0
    for index in range(executions.size()):
        execution = executions.apply(index)
        for text in (
            execution.physicalPlanDescription(),
            execution.details(),
            execution.description(),
            execution.modifiedConfigs().toString(),
        ):
            assert API_SECRET not in text


def require_metrics(aws: Aws, topic: str) -> None:
    """Three batches of 2,000 events, 60 of them bad; the first two left some 1,100 and 200 in the topic."""
    cloudwatch = aws.client("cloudwatch")

    def values(name: str, **dimensions: str) -> dict[str, float]:
        named = {"Environment": "local", "Topic": topic} | dimensions
        statistics = ["SampleCount", "Sum", "Minimum", "Maximum"]
        found = cloudwatch.get_metric_statistics(
            Namespace="Lakehouse",
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in named.items()],
            StartTime=datetime.now(UTC) - timedelta(hours=1),
            EndTime=datetime.now(UTC) + timedelta(minutes=1),
            Period=86_400,
            Statistics=statistics,
        )["Datapoints"]
        assert found, f"no metric {name} of {named}"
        return {
            "SampleCount": sum(point["SampleCount"] for point in found),
            "Sum": sum(point["Sum"] for point in found),
            "Minimum": min(point["Minimum"] for point in found),
            "Maximum": max(point["Maximum"] for point in found),
        }

    rows, rate, seconds, share = (
        values(name) for name in ("StreamRows", "StreamRowsPerSecond", "StreamBatchSeconds", "StreamDlqShare")
    )
    assert (rows["SampleCount"], rows["Sum"], rows["Maximum"]) == (3, 2000, 900)
    assert rate["SampleCount"] == seconds["SampleCount"] == share["SampleCount"] == 3
    assert seconds["Minimum"] > 0
    assert rate["Minimum"] >= 200 / seconds["Maximum"] * 0.99
    assert rate["Maximum"] <= 900 / seconds["Minimum"] * 1.01
    assert 0 < share["Minimum"] <= 60 / 2000 <= share["Maximum"] < 1
    lags = [values("StreamLag", Partition=str(partition)) for partition in range(3)]
    assert [lag["SampleCount"] for lag in lags] == [3, 3, 3]
    assert [lag["Minimum"] for lag in lags] == [0, 0, 0]
    # Spark cuts a batch by the share of each partition, rounded.
    assert 1300 <= sum(lag["Sum"] for lag in lags) <= 1310


def require_running_event(topic: Topic, run_id: str) -> None:
    """The last RUNNING event of a job that does not end: its counts so far."""
    uris = store.keys(f"{topic.settings.lake_uri}/ops/_lineage/{run_id}/")
    (event,) = [json.loads(store.get(uri) or b"") for uri in uris if uri.endswith("-running.json")]
    assert event["eventType"] == "RUNNING"
    assert event["job"]["facets"]["jobType"]["processingType"] == "STREAMING"
    (output,) = event["outputs"]
    assert output["name"] == "bronze/kafka_orders"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 1940


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(False, id="same-checkpoint"),
        pytest.param(True, id="lost-checkpoint", marks=pytest.mark.proof),
    ],
)
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


def test_killed_while_the_first_offsets_were_written_it_starts_again(topic: Topic) -> None:
    topic.produce(mixed(30, 3))
    store.put(
        f"{topic.settings.kafka_checkpoint_uri}/offsets/.0.6f7e2c58-41d0-4a8e-9c06-0d3b5a1e7f42.tmp", b"v1\n"
    )

    topic.catch_up()

    topic.require_exactly(27, 3)


def test_a_checkpoint_that_spark_cannot_read_is_named_with_the_command(topic: Topic) -> None:
    """Spark says so with a plan of the query, and of some objects it does not say which."""
    topic.produce(mixed(30, 3))
    topic.catch_up()
    checkpoint = topic.settings.kafka_checkpoint_uri
    assert stream.broken_checkpoint(checkpoint) is None
    for what in ("commits/0", "metadata", "offsets/0"):
        at, whole = f"{checkpoint}/{what}", store.get(f"{checkpoint}/{what}") or b""
        store.put(at, b"garbage")
        assert stream.broken_checkpoint(checkpoint) == f"{at} is not what Spark wrote"
        if what != "offsets/0":
            store.put(at, whole)
    topic.produce(mixed(30, 3))

    with pytest.raises(StreamRefused) as refused:
        topic.catch_up()

    assert at in refused.value.message
    assert "Plan" not in refused.value.message
    assert refused.value.hint == f"scripts/emr_submit.sh recover recover-checkpoint --topic {topic.name}"
    topic.require_exactly(27, 3)
    topic.lose_checkpoint()
    topic.catch_up()
    topic.require_exactly(54, 6)


def test_a_crash_before_the_marks_loses_and_doubles_nothing(topic: Topic) -> None:
    """Twice with a lost checkpoint: another query, whose batches are cut anew and numbered from zero."""
    topic.produce(mixed(90, 30))
    with crash_before_marks(), pytest.raises(Crash):
        topic.catch_up()
    topic.require_exactly(60, 30)

    topic.lose_checkpoint()
    # The marks move within what the tables hold; the rows further on must not be forgotten.
    with crash_before(dlq.TABLE, nth=2), pytest.raises(Crash):
        topic.with_options(stream={"max_offsets_per_trigger": 30}).catch_up()
    marks = read_marks(topic.settings)
    assert marks is not None
    assert marks.records == 30
    topic.require_exactly(60, 30)

    topic.lose_checkpoint()
    topic.produce(mixed(30, 6))
    topic.catch_up()

    topic.require_exactly(84, 36)
    marks = read_marks(topic.settings)
    assert marks is not None
    assert marks.records == 120


@pytest.mark.proof
def test_without_transactions_the_same_crash_doubles(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the tests above show is the transactions' doing."""

    def append(frame: Any, uri: str, *_: Any) -> None:
        frame.write.format("delta").mode("append").save(uri)

    monkeypatch.setattr(stream, "append_once", append)
    # Nor may rows be looked for that the interrupted batch left.
    monkeypatch.setattr(stream._Stream, "_beyond_marks", lambda *_: {stream.BRONZE: {}, dlq.TABLE: {}})
    topic.produce(mixed(90, 30))
    with crash_before(stream.BRONZE), pytest.raises(Crash):
        topic.catch_up()
    topic.catch_up()

    bronze, refused = topic.where()
    assert (bronze.total(), refused.total()) == (60, 60)


@pytest.mark.proof
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


def test_a_topic_made_anew_under_a_running_stream_stops_it_before_it_writes(topic: Topic) -> None:
    topic = topic.with_options(stream={"trigger_seconds": 3})
    topic.produce(mixed(30, 3))

    def make_anew(over: threading.Event) -> None:
        topic.wait_for_rows(30)
        recreate(topic)
        # Every partition reaches beyond the offsets that were read: only the topic's id tells.
        topic.produce(mixed(90, 9))
        over.wait(60)

    with pytest.raises(SourceError, match="does not continue"):
        topic.run_beside(make_anew)

    topic.require_exactly(27, 3)


def test_a_broker_may_restart_under_a_running_stream(topic: Topic, broker: Broker) -> None:
    topic = topic.with_options(stream={"trigger_seconds": 1, "max_offsets_per_trigger": 60})
    topic.produce(mixed(120, 30))

    def restart(_: threading.Event) -> None:
        topic.wait_for_rows(60)
        broker.stop()
        time.sleep(2)
        broker.start()
        topic.produce(mixed(120, 30))
        topic.wait_for_rows(240)

    topic.run_beside(restart)

    topic.require_exactly(180, 60)


def test_new_partitions_are_read_from_their_beginning(topic: Topic) -> None:
    """One batch here has only good events, the next only bad ones."""
    topic.produce([encoded(n) for n in range(30)])
    topic.catch_up()
    admin = AdminClient(client_options(topic.bootstrap))
    admin.create_partitions([NewPartitions(topic.name, 4)])[topic.name].result(10)
    producer = Producer(client_options(topic.bootstrap))
    for value in (None, b"{"):
        producer.produce(topic.name, value, partition=3)
    assert producer.flush(10) == 0
    topic.catch_up()

    topic.require_exactly(30, 2)
    assert topic.table(dlq.TABLE).where(F.col("value").isNull()).count() == 1
    marks = read_marks(topic.settings)
    assert marks is not None
    assert (marks.begin["3"], marks.until["3"]) == (0, 2)


def test_a_checkpoint_older_than_the_tables_is_refused(topic: Topic) -> None:
    """An earlier one that somebody put back, or one that lost its offsets."""
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
    for uri in store.keys(f"{topic.settings.kafka_checkpoint_uri}/offsets/"):
        store.delete(uri)
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
    apply_contracts(topic.spark, topic.settings, [contracts.load(dlq.TABLE)])

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
    """Until the restart the stream goes on as it was."""
    topic = topic.with_options(stream={"trigger_seconds": 1})
    topic.produce([encoded(0, channel="web")])
    wider = with_column(contracts.load(stream.BRONZE))

    def widen(_: threading.Event) -> None:
        topic.wait_for_rows(1)
        apply_contracts(topic.spark, topic.settings, [wider])
        topic.produce([encoded(1, channel="web")])
        topic.wait_for_rows(2)

    topic.run_beside(widen)
    real = contracts.load
    monkeypatch.setattr(contracts, "load", lambda name: wider if name == stream.BRONZE else real(name))
    topic.produce([encoded(2, channel="web"), encoded(3), encoded(4, status="GONE")])

    topic.catch_up()

    topic.require_exactly(4, 1)
    rows = topic.table(stream.BRONZE).select("order_id", "channel").orderBy("order_id").collect()
    assert [tuple(row) for row in rows] == [("O-0", None), ("O-1", None), ("O-2", "web"), ("O-3", None)]
    assert topic.table(dlq.TABLE).select("contract_version").collect()[0][0] == "1.1.0"


def test_in_mode_batch_there_is_no_stream(setup: Setup) -> None:
    with pytest.raises(ConfigError, match="mode"):
        stream.to_bronze(a_job(setup.settings, stream=True, available_now=True))


def test_available_now_is_of_the_stream_alone(setup: Setup) -> None:
    with pytest.raises(UsageError, match="--stream"):
        stream.to_bronze(a_job(setup.settings, stream=False, available_now=True))


@pytest.mark.proof
def test_killed_again_and_again_and_stopped_at_last(topic: Topic, aws: Aws, tmp_path: Path) -> None:
    """spark-submit as EMR starts it: kill -9 at random moments while events come, then a cancellation's SIGTERM."""
    place = Place(
        topic.settings.model_dump(mode="json", exclude={"dq_thresholds"}), topic.bootstrap, aws.env, tmp_path
    )

    def stop_and_catch_up(driver: Driver, checkpoint: str, end_events: Callable[[], object]) -> None:
        before = read_marks(topic.settings)
        until(lambda: has_moved(topic, before), driver)
        time.sleep(0.7)  # into the next batch
        driver.signal(signal.SIGTERM)
        assert driver.wait(90) == 0, driver.output()[-3000:]
        progress, marks = read_progress(topic.settings), read_marks(topic.settings)
        assert progress is not None
        assert marks is not None
        outcome = outcomes.read(topic.settings, progress.run_id, "kafka_orders_to_bronze")
        assert outcome is not None
        assert (outcome.status, outcome.processing) == ("succeeded", "STREAMING")
        # The batch under way was finished, or had not begun to write: nothing is beyond the marks.
        ends = [max_offsets(topic, name) for name in (stream.BRONZE, dlq.TABLE)]
        found = {p: max(end.get(p, 0) for end in ends) for p in marks.until}
        assert found == marks.until
        events = store.keys(f"{topic.settings.lake_uri}/ops/_lineage/{progress.run_id}/")
        kinds = {
            json.loads(store.get(uri) or b"")["job"]["facets"]["jobType"]["processingType"] for uri in events
        }
        assert kinds == {"STREAMING"}
        assert API_SECRET not in driver.output()
        assert "batch" in driver.output()
        end_events()
        topic.with_options(stream={"checkpoint_uri": checkpoint}).catch_up()

    result = kill_in_a_loop(place, kills=2, seed=3, rate=40, say=print, end=stop_and_catch_up)

    assert result.is_exact, "\n".join(result.lines())
    assert result.produced > 0
    for output in tmp_path.glob("start-*/std*"):
        assert API_SECRET not in output.read_text(errors="replace")


def has_moved(topic: Topic, before: Marks | None) -> bool:
    """Whether a batch has ended since."""
    marks = read_marks(topic.settings)
    return marks is not None and (before is None or marks.records > before.records)


def until(true: Callable[[], bool], driver: Driver, seconds: float = 120) -> None:
    for _ in range(int(seconds / 0.05)):
        assert driver.poll() is None, driver.output()[-3000:]
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s:\n{driver.output()[-3000:]}")


def max_offsets(topic: Topic, name: str) -> dict[str, int]:
    """Next offset by partition, as a table has it."""
    rows = topic.table(name).groupBy("partition").agg(F.max("offset")).collect()
    return {str(row[0]): row[1] + 1 for row in rows}


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
