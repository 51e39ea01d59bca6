"""One broker for all tests of the stream; a topic, a lake and the stream's two tables for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from local import kafka as broker_process
from local.kafka import API_KEY, API_SECRET, create_topic
from local.supervisor import Supervisor, base_environment
from tests.sources.conftest import setup  # noqa: F401  # a fixture
from tests.sources.support import Setup
from tests.stream.support import Broker, Topic
from tests.support import free_port

_numbers = itertools.count()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    state = tmp_path_factory.mktemp("kafka")
    ports = {"kafka": free_port(), "kafka_controller": free_port()}
    broker = Broker(Supervisor(state), broker_process.spec(state, ports, base_environment()))
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def topic(setup: Setup, spark: SparkSession, broker: Broker) -> Topic:  # noqa: F811
    bootstrap = broker.bootstrap
    name = f"stream-{next(_numbers)}"
    assert create_topic(bootstrap, name, 3)
    setup = setup.with_source("kafka", topic=name, mode="stream")
    setup.put_secret(
        "kafka",
        {"bootstrap_servers": bootstrap, "api_key": API_KEY, "api_secret": API_SECRET, "group_id": "g"},
    )
    topic = Topic(setup, spark, bootstrap, name)
    topic.make_tables()
    return topic
