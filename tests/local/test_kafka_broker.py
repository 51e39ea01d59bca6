"""The local broker is a real one: it authenticates, keeps offsets and order, and outlives a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from local import kafka
from local.supervisor import Supervisor, base_environment
from tests.support import REPO, free_port

TIMEOUT = 30.0


@dataclass
class Broker:
    """A broker of this test run, which a test may stop and start."""

    state: Path

    def start(self) -> None:
        """On ports of its own each time: the data must not care."""
        ports = {"kafka": free_port(), "kafka_controller": free_port()}
        spec = kafka.spec(self.state, ports, base_environment())
        self.bootstrap = spec.exports["LOCAL_KAFKA_BOOTSTRAP"]
        supervisor = Supervisor(self.state)
        supervisor.start(spec, REPO)
        supervisor.wait_ready(spec)

    def stop(self) -> None:
        Supervisor(self.state).stop("kafka")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("kafka-state"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def produce(broker: Broker, topic: str, records: list[tuple[bytes, bytes | None]]) -> None:
    errors: list[object] = []
    producer = Producer(kafka.client_options(broker.bootstrap))
    for key, value in records:
        producer.produce(
            topic, key=key, value=value, on_delivery=lambda error, _: error and errors.append(error)
        )
    assert producer.flush(TIMEOUT) == 0
    assert errors == []


def consume(broker: Broker, topic: str, count: int, partitions: int = 1) -> list[Message]:
    consumer = Consumer(
        kafka.client_options(broker.bootstrap) | {"group.id": "test", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found: list[Message] = []
    end = time.monotonic() + TIMEOUT
    while len(found) < count and time.monotonic() < end:
        found += consumer.consume(count - len(found), timeout=1)
    consumer.close()
    assert [message.error() for message in found] == [None] * count
    return found


def test_it_has_the_topic_of_the_orders(broker: Broker) -> None:
    topics = AdminClient(kafka.client_options(broker.bootstrap)).list_topics(timeout=TIMEOUT).topics
    assert len(topics[kafka.TOPIC].partitions) == 3
    assert kafka.create_topic(broker.bootstrap, kafka.TOPIC, 3), "creating it again is no error"


def test_records_come_back_as_they_were_given(broker: Broker) -> None:
    assert kafka.create_topic(broker.bootstrap, "round-trip", 3)
    given = [(f"order-{n}".encode(), None if n % 7 == 0 else f"größe {n}\x00".encode()) for n in range(200)]
    produce(broker, "round-trip", given)
    found = consume(broker, "round-trip", 200, partitions=3)
    assert sorted((m.key(), m.value() or b"") for m in found) == sorted(
        (key, value or b"") for key, value in given
    )
    assert sum(m.value() is None for m in found) == 29
    assert len({(m.partition(), m.offset()) for m in found}) == 200
    assert {m.partition() for m in found} == {0, 1, 2}


def test_a_topic_is_not_made_by_a_typing_error(broker: Broker) -> None:
    metadata = AdminClient(kafka.client_options(broker.bootstrap)).list_topics(
        "orders_event", timeout=TIMEOUT
    )
    assert metadata.topics["orders_event"].error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.parametrize(
    "wrong", [{"sasl.password": "no"}, {"sasl.username": "no"}], ids=["password", "name"]
)
def test_wrong_credentials_are_refused(broker: Broker, wrong: dict[str, str]) -> None:
    heard: list[KafkaError] = []
    client = AdminClient(
        kafka.client_options(broker.bootstrap) | wrong | {"error_cb": heard.append, "log_level": 0}
    )
    end = time.monotonic() + TIMEOUT
    while not heard and time.monotonic() < end:
        client.poll(0.2)
    assert KafkaError._AUTHENTICATION in {error.code() for error in heard}


def test_a_restart_keeps_the_data_and_the_offsets(broker: Broker) -> None:
    assert kafka.create_topic(broker.bootstrap, "kept")
    produce(broker, "kept", [(b"k", str(n).encode()) for n in range(50)])
    before = broker.bootstrap
    broker.stop()
    broker.start()
    assert broker.bootstrap != before
    produce(broker, "kept", [(b"k", b"after")])
    found = consume(broker, "kept", 51)
    assert [(m.offset(), m.value()) for m in found] == [(n, str(n).encode()) for n in range(50)] + [
        (50, b"after")
    ]


def test_records_are_kept_however_old(broker: Broker) -> None:
    """Sample orders carry the time of their event, and Kafka's week of retention would go by that."""
    topic = ConfigResource(ConfigResource.Type.TOPIC, kafka.TOPIC)
    admin = AdminClient(kafka.client_options(broker.bootstrap))
    (answer,) = admin.describe_configs([topic]).values()
    assert answer.result(timeout=TIMEOUT)["retention.ms"].value == "-1"


def test_a_record_of_tomorrow_is_taken(broker: Broker) -> None:
    errors: list[object] = []
    producer = Producer(kafka.client_options(broker.bootstrap))
    producer.produce(
        kafka.TOPIC,
        value=b"{}",
        timestamp=int((time.time() + 86_400) * 1000),
        on_delivery=lambda error, _: errors.append(error),
    )
    assert producer.flush(TIMEOUT) == 0
    assert errors == [None]


def test_the_secret_of_the_stack_is_the_brokers() -> None:
    from local.bootstrap import secrets
    from local.stack import Stack

    stack = Stack(Path(), {}, {"LOCAL_KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    secret = secrets(stack)["lakehouse/kafka/credentials"]
    assert (secret["api_key"], secret["api_secret"]) == (kafka.API_KEY, kafka.API_SECRET)
    assert secret["bootstrap_servers"] == "127.0.0.1:1"
