"""The order topic's bounded ranges, against a real broker."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from lakehouse.errors import CredentialsError, SourceError, SourceUnavailable
from lakehouse.landing import Manifest
from lakehouse.sources import kafka
from lakehouse.sources.watermark import Watermark
from local.kafka import API_KEY, API_SECRET, client_options, create_topic
from tests.sources.support import NOW, Setup, a_run

_topics = (f"orders-{n}" for n in itertools.count())


class Topic:
    """A topic of three partitions, and the settings that lead there."""

    def __init__(self, setup: Setup, bootstrap: str) -> None:
        self.name, self.bootstrap = next(_topics), bootstrap
        assert create_topic(bootstrap, self.name, 3)
        self.setup = setup.with_source("kafka", topic=self.name)
        self.put_secret()
        self.admin = AdminClient(client_options(bootstrap))  # has to outlive its answers

    def put_secret(self, **changes: str) -> None:
        secret = {
            "bootstrap_servers": self.bootstrap,
            "api_key": API_KEY,
            "api_secret": API_SECRET,
            "group_id": "g",
        }
        self.setup.put_secret("kafka", secret | changes)

    def produce(self, **counts: int) -> None:
        """``p0=3``: three records into partition 0."""
        producer = Producer(client_options(self.bootstrap))
        failures: list[object] = []

        def delivered(error: object, _: object) -> None:
            if error is not None:
                failures.append(error)

        for partition, count in counts.items():
            for n in range(count):
                producer.produce(
                    self.name, json.dumps({"n": n}), partition=int(partition[1:]), on_delivery=delivered
                )
        assert producer.flush(10) == 0
        assert failures == []

    def extract(self, *before: Manifest, run_id: str | None = None) -> Manifest:
        watermark = Watermark(None, tuple(manifest.state for manifest in before))
        (manifest,) = kafka.extract(self.setup.settings, run_id or a_run(), {"kafka_orders": watermark})
        return manifest


@pytest.fixture
def topic(setup: Setup, bootstrap: str) -> Topic:
    return Topic(setup, bootstrap)


def test_the_first_range_begins_at_the_beginning(topic: Topic) -> None:
    topic.produce(p0=3, p1=2)

    manifest = topic.extract()

    assert manifest.state == {
        "topic": topic.name,
        "topic_id": manifest.state["topic_id"],
        "from": {"0": 0, "1": 0, "2": 0},
        "until": {"0": 3, "1": 2, "2": 0},
    }
    # How many records there are shows when they are read.
    assert (manifest.rows, manifest.files, manifest.window_to) == (None, (), NOW)


def test_the_next_range_goes_on_from_the_certified_one(topic: Topic) -> None:
    topic.produce(p0=3, p1=2)
    first = topic.extract()
    topic.produce(p0=1, p2=4)

    second = topic.extract(first)

    assert second.state["from"] == {"0": 3, "1": 2, "2": 0}
    assert second.state["until"] == {"0": 4, "1": 2, "2": 4}


def test_a_range_that_was_not_certified_is_read_again(topic: Topic) -> None:
    topic.produce(p0=3)
    topic.extract()
    topic.produce(p0=1)

    assert topic.extract().state["from"]["0"] == 0


def test_the_furthest_certified_offset_counts_in_any_order(topic: Topic) -> None:
    topic.produce(p0=2)
    first = topic.extract()
    topic.produce(p0=2)
    second = topic.extract(first)

    assert topic.extract(second, first).state["from"]["0"] == 4


def test_an_empty_topic_and_an_empty_range(topic: Topic) -> None:
    first = topic.extract()

    assert not kafka.holds_offsets(first)
    assert not kafka.holds_offsets(topic.extract(first))


def test_a_landed_run_asks_nothing(topic: Topic) -> None:
    run_id = a_run()
    topic.produce(p0=2)
    first = topic.extract(run_id=run_id)
    topic.produce(p0=2)
    topic.put_secret(bootstrap_servers="127.0.0.1:9")

    assert topic.extract(run_id=run_id) == first


def test_new_partitions_are_read_from_their_beginning(topic: Topic) -> None:
    from confluent_kafka.admin import NewPartitions

    first = topic.extract()
    topic.admin.create_partitions([NewPartitions(topic.name, 4)])[topic.name].result(60)
    end = time.monotonic() + 60
    # The broker tells of them a moment after it has made them.
    while len(topic.admin.list_topics(topic.name, 60).topics[topic.name].partitions) < 4:
        assert time.monotonic() < end
        time.sleep(0.05)
    topic.produce(p3=2)

    second = topic.extract(first)

    assert (second.state["from"]["3"], second.state["until"]["3"]) == (0, 2)


def test_records_that_expired_unread_are_an_error(topic: Topic) -> None:
    topic.produce(p0=5, p1=1)
    first = topic.extract()
    topic.produce(p0=5)
    topic.admin.delete_records([TopicPartition(topic.name, 0, 7)])[TopicPartition(topic.name, 0, 7)].result(
        10
    )

    for lost_before in ({}, {0: 6}):
        topic.setup = topic.setup.with_source("kafka", lost_before=lost_before)
        with pytest.raises(SourceError, match=rf"{topic.name}\[0\].*2 expired unread"):
            topic.extract(first)

    # Whoever owns up to the loss goes on behind it, and leaves out no record that is there.
    topic.setup = topic.setup.with_source("kafka", lost_before={0: 9, 1: 1})
    after = topic.extract(first)
    assert after.state["from"] == {"0": 7, "1": 1, "2": 0}
    assert after.notes == (
        f"{topic.name}[0]: offsets 5 to 6 expired unread, as sources.kafka.lost_before says",
    )


def test_records_of_a_new_partition_that_expired_unread_are_an_error(topic: Topic) -> None:
    first = topic.extract()
    topic.produce(p2=3)
    topic.admin.delete_records([TopicPartition(topic.name, 2, 2)])[TopicPartition(topic.name, 2, 2)].result(
        10
    )
    state = first.state | {"until": {"0": 0, "1": 0}}  # before the topic got its third partition

    with pytest.raises(SourceError, match=rf"{topic.name}\[2\].*2 expired unread"):
        topic.extract(first.model_copy(update={"state": state}))


def test_records_that_expired_after_they_were_read_are_none(topic: Topic) -> None:
    topic.produce(p0=5)
    first = topic.extract()
    topic.admin.delete_records([TopicPartition(topic.name, 0, 4)])[TopicPartition(topic.name, 0, 4)].result(
        10
    )

    assert not kafka.holds_offsets(topic.extract(first))
    assert topic.extract().state["from"]["0"] == 4


def test_a_topic_made_anew_is_an_error(topic: Topic) -> None:
    topic.produce(p0=5, p1=5)
    first = topic.extract()
    topic.admin.delete_topics([topic.name])[topic.name].result(60)
    while not create_topic(topic.bootstrap, topic.name, 1):
        pass

    with pytest.raises(SourceError) as refused:
        topic.extract(first)

    assert first.state["topic_id"] in str(refused.value)
    assert "another name" in refused.value.hint


def test_offsets_that_the_topic_does_not_have_are_an_error(topic: Topic) -> None:
    """A topic made anew by tools that keep its id, or a broker restored from a backup."""
    topic.produce(p0=5)
    first = topic.extract()
    until = {"0": 6, "7": 1}

    with pytest.raises(SourceError) as refused:
        topic.extract(first.model_copy(update={"state": first.state | {"until": until}}))

    assert [violation.where for violation in refused.value.violations] == [
        f"{topic.name}[0]",
        f"{topic.name}[7]",
    ]


def test_a_certified_offset_beyond_an_open_transaction_is_waited_for(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier releases read events before they were committed: such an offset is no sign of a topic made anew."""
    found = kafka.Topic("id", {0: (0, 40), 1: (0, 7)}, {0: 60, 1: 7})
    monkeypatch.setattr(kafka, "look", lambda settings: found)
    name = setup.settings.sources.kafka.topic
    until = {"0": 50, "1": 5}
    state = {"topic": name, "topic_id": "id", "from": {"0": 0, "1": 0}, "until": until}

    (manifest,) = kafka.extract(setup.settings, a_run(), {"kafka_orders": Watermark(None, (state,))})

    assert (manifest.state["from"], manifest.state["until"]) == ({"0": 50, "1": 5}, {"0": 50, "1": 7})
    assert len(manifest.notes) == 1
    until["0"] = 61
    with pytest.raises(SourceError, match="made anew"):
        kafka.extract(setup.settings, a_run(), {"kafka_orders": Watermark(None, (state,))})


def test_a_missing_topic_is_an_error(topic: Topic) -> None:
    topic.setup = topic.setup.with_source("kafka", topic="no-such-topic")

    with pytest.raises(SourceError, match="no topic no-such-topic"):
        topic.extract()


@pytest.mark.parametrize("wrong", [{"api_secret": "wrong-value"}, {"api_key": "wrong-value"}])
def test_wrong_credentials_are_terminal(topic: Topic, wrong: dict[str, str]) -> None:
    topic.put_secret(**wrong)

    with pytest.raises(CredentialsError) as refused:
        topic.extract()

    assert topic.setup.secret("kafka") in refused.value.hint
    assert "wrong-value" not in f"{refused.value} {refused.value.hint}"


def test_nobody_there_is_transient(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_TIMEOUT", 1.0)
    topic.put_secret(bootstrap_servers="127.0.0.1:9")

    with pytest.raises(SourceUnavailable):
        topic.extract()


def test_with_the_stream_there_is_no_batch(topic: Topic) -> None:
    topic.produce(p0=3)
    topic.setup = topic.setup.with_source("kafka", mode="stream")

    with pytest.raises(SourceUnavailable, match="no marks of a stream"):
        topic.extract()


def test_spark_is_told_exactly_the_range(topic: Topic) -> None:
    topic.put_secret(api_secret='quote " and \\ back')
    manifest = Manifest.model_validate(
        {
            "source": "kafka",
            "table": "kafka_orders",
            "run_id": a_run(),
            "window_from": None,
            "window_to": NOW,
            "landed_at": NOW,
            "files": (),
            "rows": 3,
            "fields": {},
            "state": {"topic": "t", "from": {"0": 5, "10": 0}, "until": {"0": 7, "10": 1}},
        }
    )

    options = kafka.connector_options(topic.setup.settings, manifest)

    assert json.loads(options["assign"]) == {"t": [0, 10]}
    assert json.loads(options["startingOffsets"]) == {"t": {"0": 5, "10": 0}}
    assert json.loads(options["endingOffsets"]) == {"t": {"0": 7, "10": 1}}
    assert options["failOnDataLoss"] == "true"
    assert options["kafka.bootstrap.servers"] == topic.bootstrap
    assert options["kafka.sasl.jaas.config"].endswith(r'password="quote \" and \\ back";')


class Restarting:
    """A consumer whose broker answers with an error some times, then as it should."""

    def __init__(self, code: int, times: int) -> None:
        self._code, self._left = code, times

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        if self._left:
            self._left -= 1
            raise KafkaException(KafkaError(self._code))
        return (0, 5)


def test_a_leader_that_is_being_elected_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_PAUSE", 0.0)
    consumer = Restarting(KafkaError.NOT_LEADER_FOR_PARTITION, 3)
    assert kafka._limits(consumer, "t", [0, 1]) == {0: (0, 5), 1: (0, 5)}


def test_a_refusal_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_PAUSE", 60.0)
    with pytest.raises(KafkaException):
        kafka._limits(Restarting(KafkaError.TOPIC_AUTHORIZATION_FAILED, 1), "t", [0])


def test_a_leader_that_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_PAUSE", 0.0)
    monkeypatch.setattr(kafka, "_TIMEOUT", 0.05)
    with pytest.raises(KafkaException):
        kafka._limits(Restarting(KafkaError.LEADER_NOT_AVAILABLE, 10**9), "t", [0])
