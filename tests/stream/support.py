"""A topic under a stream: what is produced, the stream's runs, and where every event ended."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from lakehouse import store
from lakehouse.cli import Job
from lakehouse.delta.read import read
from lakehouse.flows import stream
from lakehouse.observe.outcome import Outcome
from lakehouse.observe.stream import read_progress
from lakehouse.quality import dlq
from lakehouse.quality.verdicts import STREAM_SOURCE
from lakehouse.runs import new_run_id
from lakehouse.settings import Settings
from local.aws.athena_worker import storage_options
from local.kafka import client_options
from local.supervisor import ServiceSpec, Supervisor
from tests.sources.support import Setup
from tests.support import REPO, make_tables

Header = tuple[str, bytes | None]
#: The logs of empty tables: name, key in the log, body.
_EMPTY: dict[str, dict[str, bytes]] = {}


def an_event(n: int, **changes: Any) -> dict[str, Any]:
    """A good event; a change to None removes the field."""
    event = {
        "order_id": f"O-{n}",
        "event_ts": f"2026-01-{n % 28 + 1:02d}T10:00:00Z",
        "customer_id": "C-1",
        "status": "PLACED",
        "amount": f"{n}.50",
        "currency": "EUR",
    } | changes
    return {name: value for name, value in event.items() if value is not None}


def encoded(n: int, **changes: Any) -> bytes:
    return json.dumps(an_event(n, **changes)).encode()


@dataclass(frozen=True)
class Broker:
    """The broker of this test run, which keeps its port and its records over a restart."""

    supervisor: Supervisor
    spec: ServiceSpec

    @property
    def bootstrap(self) -> str:
        return self.spec.exports["LOCAL_KAFKA_BOOTSTRAP"]

    def start(self) -> None:
        self.supervisor.start(self.spec, REPO)
        self.supervisor.wait_ready(self.spec)

    def stop(self) -> None:
        self.supervisor.stop(self.spec.name)


def a_job(settings: Settings, at: datetime | None = None, **arguments: Any) -> Job:
    now = datetime.now(UTC)
    run_id = new_run_id(at or now)
    outcome = Outcome(
        job="kafka_orders_to_bronze",
        run_id=run_id,
        processing="STREAMING" if arguments.get("stream") else "BATCH",
        started_at=now,
    )
    return Job("kafka_orders_to_bronze", settings, run_id, outcome, argparse.Namespace(**arguments))


@dataclass
class Topic:
    """A topic of three partitions, a lake, and the settings that lead to both."""

    setup: Setup
    spark: SparkSession
    bootstrap: str
    name: str

    @property
    def settings(self) -> Settings:
        return self.setup.settings

    def with_options(self, **values: Any) -> Topic:
        return Topic(self.setup.with_source("kafka", **values), self.spark, self.bootstrap, self.name)

    def make_tables(self, *more: str) -> None:
        """The stream's two tables and others, empty."""
        make_tables(self.spark, self.settings, (stream.BRONZE, dlq.TABLE, *more))

    def produce(
        self, values: Iterable[bytes | None], *, key: bytes | None = b"k", headers: list[Header] | None = None
    ) -> int:
        """Spread values over the partitions in turn; returns how many."""
        # librdkafka drops what is larger than its own limit.
        producer = Producer(client_options(self.bootstrap) | {"message.max.bytes": 3_000_000})
        count = 0
        for count, value in enumerate(values, start=1):
            producer.produce(self.name, value, key=key, headers=headers, partition=count % 3)
            producer.poll(0)
        assert producer.flush(20) == 0
        return count

    def job(self, at: datetime | None = None, **arguments: Any) -> Job:
        job = a_job(self.settings, at, **arguments)
        job.__dict__["spark"] = self.spark
        return job

    def catch_up(self) -> Job:
        """Run the stream until it has read what is there."""
        job = self.job(stream=True, available_now=True)
        stream.to_bronze(job)
        return job

    def run_beside(self, meanwhile: Callable[[threading.Event], None]) -> Job:
        """Run the stream while something happens to it; when that is over, it is asked to stop.

        What happens is given an event that is set when the stream has ended.

        The stream has the main thread, which signals reach. Raises what either of the two raised, the stream first.
        """
        failures: list[BaseException] = []

        def happen() -> None:
            try:
                meanwhile(over)
            except BaseException as failure:
                failures.append(failure)
            finally:
                if not over.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)

        over = threading.Event()
        thread = threading.Thread(target=happen, daemon=True)
        job = self.job(stream=True, available_now=False)
        # Between the stream's end and the helper's last word, a signal must not end the tests.
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            thread.start()
            stream.to_bronze(job)
        finally:
            over.set()
            thread.join(60)
            signal.signal(signal.SIGTERM, before)
        for failure in failures:
            raise failure
        return job

    def wait_for_rows(self, rows: int, seconds: float = 120) -> None:
        """Until the stream that runs now has told of so many; while this process is paused, no time passes."""
        for _ in range(int(seconds / 0.1)):
            progress = read_progress(self.settings)
            if progress is not None and progress.total_rows >= rows:
                return
            time.sleep(0.1)
        raise AssertionError(f"the stream is at {progress}, expected {rows} rows")

    def table(self, name: str) -> DataFrame:
        return read(self.spark, self.settings.table_uri(name))

    def where(self) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
        """(partition, offset) of the rows in Bronze and in the DLQ, each as often as it is there."""
        found = []
        for name in (stream.BRONZE, dlq.TABLE):
            # Without Spark, which takes seconds for what this needs milliseconds.
            table = DeltaTable(self.settings.table_uri(name), storage_options=storage_options())
            rows = table.to_pyarrow_table(columns=["partition", "offset", "_source"]).to_pylist()
            found.append(
                Counter((row["partition"], row["offset"]) for row in rows if row["_source"] == STREAM_SOURCE)
            )
        return found[0], found[1]

    def require_exactly(self, good: int, bad: int) -> None:
        """Every event is in one of the tables, once."""
        bronze, refused = self.where()
        assert (bronze.total(), refused.total()) == (good, bad)
        assert max((bronze + refused).values(), default=1) == 1

    def lose_checkpoint(self) -> None:
        bucket, _ = store.split(self.settings.lake_uri)
        for uri in list(store.keys(f"{self.settings.lake_uri}/checkpoints/")):
            store.client().delete_object(Bucket=bucket, Key=store.split(uri)[1])
