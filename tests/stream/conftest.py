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
from tests.stream.support import Topic
from tests.support import REPO, free_port

_numbers = itertools.count()


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("kafka")
    spec = broker_process.spec(
        state, {"kafka": free_port(), "kafka_controller": free_port()}, base_environment()
    )
    supervisor = Supervisor(state)
    supervisor.start(spec, REPO)
    try:
        supervisor.wait_ready(spec)
        yield spec.exports["LOCAL_KAFKA_BOOTSTRAP"]
    finally:
        supervisor.stop(spec.name)


@pytest.fixture
def topic(setup: Setup, spark: SparkSession, bootstrap: str) -> Topic:  # noqa: F811
    name = f"stream-{next(_numbers)}"
    assert create_topic(bootstrap, name, 3)
    setup = setup.with_source("kafka", topic=name, mode="stream")
    setup.put_secret(
        "kafka",
        {"bootstrap_servers": bootstrap, "api_key": API_KEY, "api_secret": API_SECRET, "group_id": "g"},
    )
    topic = Topic(setup, spark, bootstrap, name)
    topic.apply_contracts()
    return topic
