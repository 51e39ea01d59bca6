"""Stream: order events → Bronze and the DLQ while they come, each exactly once, until somebody stops it.

The story of a batch: take the records apart and judge them once, by the code of the batch mode; look whether the topic
is still the same and this job still the one that streams; write refused events to the DLQ and good ones to Bronze, each
as Delta's transaction of this query and batch; then move the marks. Killed anywhere, the next start repeats the batch:
with the same checkpoint Delta refuses what it has, with a new one the marks say where to begin and rows found beyond
them are left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from openlineage.client.event_v2 import RunState
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.storagelevel import StorageLevel

from lakehouse import contracts, store
from lakehouse.cli import Job
from lakehouse.delta.damage import ENGINE
from lakehouse.delta.read import head, is_untouched, read
from lakehouse.delta.write import append_once
from lakehouse.errors import ConfigError, SourceUnavailable, StreamRefused, UsageError, Violation
from lakehouse.flows.ingest import certification, ingest
from lakehouse.flows.landed import records
from lakehouse.observe import lineage, metrics
from lakehouse.observe.outcome import LedgerCounts, TableOutcome
from lakehouse.observe.stream import Progress, metrics_of, write_progress
from lakehouse.quality import dlq, rules
from lakehouse.quality.verdicts import STREAM_SOURCE
from lakehouse.sources import kafka
from lakehouse.sources.marks import Marks, read_marks, streams_uri, write_marks
from lakehouse.sources.watermark import Watermark
from lakehouse.submit import RECOVER

log = logging.getLogger("lakehouse.flows.stream")

BRONZE = "bronze.kafka_orders"
_ROWS_PER_FILE = 100_000
# A batch shuffles nothing but a few counts.
_SHUFFLE_PARTITIONS = "2"
# Spark would refuse a checkpoint for ever whose first batch was cut off while its offsets were written: the temporary
# file stays. What the check is for, a checkpoint that lost its offsets, the marks find (_is_done).
_REFUSE_UNFINISHED = "spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart"
_POLL_SECONDS = 0.5
_ALIVE_EVERY = timedelta(minutes=1)
_LINEAGE_EVERY = timedelta(minutes=5)


def broken_checkpoint(uri: str) -> str | None:
    """What is wrong with a checkpoint of Spark's, by the form of its objects; None where nothing is seen.

    ``metadata`` is a JSON object; each offset and commit begins with the version of its format.
    """
    for each in store.keys(f"{uri}/"):
        folder, _, name = each.removeprefix(f"{uri}/").rpartition("/")
        if name.startswith("."):
            continue
        body = store.get(each)
        if folder in ("offsets", "commits") and name.isdecimal() and not (body or b"").startswith(b"v1\n{"):
            return f"{each} is not what Spark wrote"
        if (folder, name) == ("", "metadata") and not _is_json(body):
            return f"{each} is not what Spark wrote"
    return None


def _is_json(body: bytes | None) -> bool:
    try:
        return isinstance(json.loads(body or b""), dict)
    except ValueError:
        return False


class _Stopping(Exception):
    """Somebody asked the stream to stop before this batch had begun."""


def options(parser: argparse.ArgumentParser) -> None:
    """The job's own arguments."""
    parser.add_argument("--stream", action="store_true", help="run as the stream, until stopped")
    parser.add_argument(
        "--available-now", action="store_true", help="with --stream: end when all that is there now is read"
    )


def to_bronze(job: Job) -> None:
    """The job kafka_orders_to_bronze: the stream, or the task of the daily run."""
    if job.arguments.stream:
        stream(job, available_now=job.arguments.available_now)
    elif job.arguments.available_now:
        raise UsageError("received --available-now alone, expected it with --stream")
    else:
        ingest(job, "kafka")


def stream(job: Job, *, available_now: bool) -> None:
    """Run the stream until it is stopped (SIGTERM) or, with ``available_now``, has caught up.

    Raises ConfigError in mode batch, SourceError where the topic does not continue what is known of it, StreamRefused
    where another stream took over or tables and checkpoint contradict the marks.
    """
    options = job.settings.sources.kafka
    if options.mode != "stream":
        raise ConfigError(
            f"sources.kafka.mode: received {options.mode}, expected stream",
            hint="with mode batch the daily run reads the topic; set mode: stream for both before the first start",
        )
    _Stream(job).run(available_now=available_now)


class _Stream:
    """One execution of the streaming job. ``batch`` runs in a thread of Spark's, everything else in the main one."""

    def __init__(self, job: Job) -> None:
        self._job, self._settings = job, job.settings
        self._topic = job.settings.sources.kafka.topic
        self._contract = contracts.load(BRONZE).with_overrides(job.settings.dq_thresholds)
        # A job run that is tried again has the same run id.
        self._owner = f"{job.run_id}/{uuid.uuid4().hex[:8]}"
        self._owner_uri = f"{streams_uri(self._settings)}/owner.json"
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._lock = threading.Lock()

        topic = kafka.look(self._settings)
        certified = certification(job, BRONZE)
        marks = read_marks(self._settings)
        self._starts, losses = kafka.stream_starts(
            self._settings, topic, Watermark(states=certified.states), marks
        )
        job.outcome.notes.extend(losses)
        heads = {name: head(job.spark, self._uri(name)) for name in (BRONZE, dlq.TABLE)}
        self._marks = _continued(
            marks,
            self._topic,
            topic.id,
            self._starts,
            {name: each.table_id for name, each in heads.items()},
            job.run_id,
        )
        # From here on an older stream refuses to write: what it still had under way is in the tables, or will be
        # replayed by this one.
        store.put(self._owner_uri, json.dumps({"owner": self._owner}).encode())
        write_marks(self._settings, self._marks)
        self._held = self._beyond_marks()
        now = datetime.now(UTC)
        latest = _latest(topic)
        self._progress = Progress(
            run_id=job.run_id,
            topic=self._topic,
            at=now,
            alive_at=now,
            until=self._marks.until,
            latest=latest,
            lag=_lag(self._marks.until, latest),
        )
        self._lineage_at = now

    def run(self, *, available_now: bool) -> None:
        """Start the query and stay with it to its end."""
        spark = self._job.spark
        spark.conf.set(_REFUSE_UNFINISHED, "false")
        source = spark.readStream.format("kafka").options(
            **kafka.stream_options(self._settings, self._starts)
        )
        writer = (
            source.load()
            .writeStream.foreachBatch(self.batch)
            .queryName(f"kafka_orders:{self._topic}")
            .option("checkpointLocation", self._settings.kafka_checkpoint_uri)
        )
        seconds = self._settings.sources.kafka.stream.trigger_seconds
        writer = (
            writer.trigger(availableNow=True)
            if available_now
            else writer.trigger(processingTime=f"{seconds} seconds")
        )
        write_progress(self._settings, self._progress)
        with _on_sigterm(spark, self._stop):
            try:
                query = writer.start()
            except ENGINE as error:
                self._require_checkpoint(error)
                raise
            try:
                self._stay(query)
            finally:
                query.stop()
        self._job.outcome.tables.extend(self._outcomes())

    def _stay(self, query: StreamingQuery) -> None:
        try:
            while query.isActive:
                # Between batches; within one, the next call of ``batch`` ends the query.
                if self._stop.is_set() and not query.status["isTriggerActive"]:
                    return
                self._say_alive()
                query.awaitTermination(_POLL_SECONDS)  # type: ignore[arg-type]  # seconds, as a float too
            query.awaitTermination(_POLL_SECONDS)  # type: ignore[arg-type]  # raises what ended it
        except StreamingQueryException as error:
            if isinstance(self._failure, _Stopping):
                return
            if self._failure is not None:
                raise self._failure from error
            if (loss := kafka.lost(self._topic, error)) is not None:
                raise loss from error
            self._require_checkpoint(error)
            raise

    def _require_checkpoint(self, error: Exception) -> None:
        """Raise StreamRefused, naming the object, where the checkpoint is what Spark could not read."""
        broken = broken_checkpoint(self._settings.kafka_checkpoint_uri)
        if broken is not None:
            raise StreamRefused(
                f"{self._topic}: {broken}: the stream cannot go on from this checkpoint; no event is lost",
                hint=f"{RECOVER} recover-checkpoint --topic {self._topic}",
            ) from error

    def batch(self, frame: DataFrame, batch_id: int) -> None:
        """Write one batch. Idempotent."""
        try:
            if self._stop.is_set():
                raise _Stopping
            self._write(frame, batch_id)
        except Exception as error:
            # Spark would hand on no more than its text.
            self._failure = error
            raise

    def _write(self, frame: DataFrame, batch_id: int) -> None:
        began = time.monotonic()
        spark = frame.sparkSession
        spark.conf.set("spark.sql.shuffle.partitions", _SHUFFLE_PARTITIONS)
        query_id = str(spark.sparkContext.getLocalProperty("sql.streaming.queryId"))
        landed_at = datetime.now(UTC)
        rows = self._judged(frame, landed_at).persist(StorageLevel.MEMORY_AND_DISK)
        try:
            is_bad = F.size(rules.BROKEN) > 0
            found = rows.groupBy("partition").agg(
                F.min("offset").alias("first"),
                F.max("offset").alias("last"),
                F.count(F.lit(1)).alias("rows"),
                F.count_if(is_bad).alias("bad"),
            ).collect()  # fmt: skip
            ranges = {str(row["partition"]): (int(row["first"]), int(row["last"]) + 1) for row in found}
            read_rows, bad = sum(row["rows"] for row in found), sum(row["bad"] for row in found)
            if self._is_done(query_id, batch_id, ranges):
                return
            # After the records were read: they came from the topic that is looked at, or this refuses them.
            topic = kafka.look(self._settings)
            kafka.require_same_topic(self._topic, topic.id, {self._marks.topic_id})
            self._require_owner()
            note = self._note(batch_id, ranges)
            good_rows = rows.where(~is_bad).select(*self._contract_columns())
            bad_rows = dlq.refused(rows.where(is_bad), self._contract)
            for name, part, count in ((dlq.TABLE, bad_rows, bad), (BRONZE, good_rows, read_rows - bad)):
                if count:
                    new = self._unseen(spark, name, part, ranges).coalesce(math.ceil(count / _ROWS_PER_FILE))
                    append_once(new, self._uri(name), f"{name}:{query_id}", batch_id, note)
        finally:
            rows.unpersist()
        self._require_owner()
        self._move_marks(query_id, batch_id, self._ends(batch_id), read_rows)
        self._tell(read_rows, bad, time.monotonic() - began, _latest(topic))

    def _ends(self, batch_id: int) -> dict[str, int]:
        """Where a batch ends, as Spark wrote it down before it began: beyond its last event where offsets hold none.

        Spark's offset log: a version, metadata, then the offsets of each source as JSON, one a line.
        """
        uri = f"{self._settings.kafka_checkpoint_uri}/offsets/{batch_id}"
        lines = (store.get(uri) or b"").decode().splitlines()
        if len(lines) != 3:
            raise StreamRefused(
                f"{self._topic}: received {len(lines)} lines at {uri}, expected a version, metadata and offsets",
                hint="recover the checkpoint (docs/recovery.md, recover-checkpoint)",
            )
        return {partition: int(offset) for partition, offset in json.loads(lines[2])[self._topic].items()}

    def _judged(self, frame: DataFrame, landed_at: datetime) -> DataFrame:
        at = F.lit(landed_at.isoformat()).cast("timestamp")
        raw = records(frame, self._settings.sources.kafka.max_value_bytes).withColumns(
            {
                "_run_id": F.lit(self._job.run_id),
                "_source": F.lit(STREAM_SOURCE),
                "_landed_at": at,
                "ingest_date": F.to_date(at),
            }
        )
        return rules.split(raw, self._contract, keep=("headers",)).drop(rules.PAYLOAD)

    def _contract_columns(self) -> list[Any]:
        return [F.col(column.name) for column in self._contract.columns]

    def _uri(self, name: str) -> str:
        return self._settings.table_uri(name)

    def _is_done(self, query_id: str, batch_id: int, ranges: Mapping[str, tuple[int, int]]) -> bool:
        """Whether the marks include this batch. Raises StreamRefused where its number was another batch's.

        Delta would take such a batch for one that it has, and leave it out without a word.
        """
        marks = self._marks
        if marks.query_id != query_id or marks.batch_id is None or batch_id > marks.batch_id:
            return False
        if all(until <= marks.until.get(partition, 0) for partition, (_, until) in ranges.items()):
            return True
        raise StreamRefused(
            f"{self._topic}: received batch {batch_id} with offsets beyond those of batch {marks.batch_id}, expected a "
            "later number: the checkpoint is older than the tables",
            hint=f"`{RECOVER} recover-checkpoint --topic {self._topic}`, then start it again: it begins where the "
            "tables end",
        )

    def _require_owner(self) -> None:
        owner = json.loads(store.get(self._owner_uri) or b"{}").get("owner")
        if owner != self._owner:
            raise StreamRefused(
                f"{self._topic}: received {owner} as the run that streams, expected {self._owner}: "
                "another stream was started and has taken over",
                hint="leave the other one running; never start two",
            )

    def _note(self, batch_id: int, ranges: Mapping[str, tuple[int, int]]) -> str:
        return json.dumps(
            {
                "stream": "kafka_orders",
                "topic": self._topic,
                "topic_id": self._marks.topic_id,
                "from": {partition: first for partition, (first, _) in sorted(ranges.items())},
                "until": {partition: until for partition, (_, until) in sorted(ranges.items())},
                "run_id": self._job.run_id,
                "batch_id": batch_id,
            }
        )

    def _beyond_marks(self) -> dict[str, dict[str, int]]:
        """By table and partition, the end of the rows beyond the marks: those of an interrupted batch.

        Looked for where a table was written since the marks moved; after a clean stop nothing is read.
        """
        now = self._versions()
        changed = [
            name
            for name, version in now.items()
            if version != self._marks.versions.get(name) and not is_untouched(self._uri(name), version)
        ]
        held: dict[str, dict[str, int]] = {name: {} for name in now}
        if not changed:
            return held
        beyond = ~F.col("partition").isin([int(partition) for partition in self._marks.until])
        for partition, until in self._marks.until.items():
            beyond = beyond | ((F.col("partition") == int(partition)) & (F.col("offset") >= until))
        parts = [
            self._streamed(self._job.spark, name)
            .where(beyond)
            .select(F.lit(name).alias("table"), "partition", "offset")
            for name in changed
        ]
        rows = reduce(DataFrame.unionAll, parts)
        ends = rows.groupBy("table", "partition").agg(F.max("offset").alias("last"))
        for row in ends.collect():
            held[row["table"]][str(row["partition"])] = int(row["last"]) + 1
        return held

    def _versions(self) -> dict[str, int]:
        return {name: head(self._job.spark, self._uri(name)).version for name in (BRONZE, dlq.TABLE)}

    def _streamed(self, spark: SparkSession, name: str) -> DataFrame:
        rows = read(spark, self._uri(name))
        return rows.where((F.col("_source") == STREAM_SOURCE) & (F.col("topic") == self._topic))

    def _unseen(
        self, spark: SparkSession, name: str, rows: DataFrame, ranges: Mapping[str, tuple[int, int]]
    ) -> DataFrame:
        """The rows that the table does not hold: after a new checkpoint, a batch can begin below its end."""
        held = self._held[name]
        doubtful = F.lit(False)
        is_doubtful = False
        for partition, (first, until) in ranges.items():
            end = min(until, held.get(partition, 0))
            if first < end:
                is_doubtful = True
                doubtful = doubtful | (
                    (F.col("partition") == int(partition))
                    & (F.col("offset") >= first)
                    & (F.col("offset") < end)
                )
        if not is_doubtful:
            return rows
        key = ["topic", "partition", "offset"]
        return rows.join(self._streamed(spark, name).where(doubtful).select(*key), on=key, how="left_anti")

    def _move_marks(self, query_id: str, batch_id: int, ends: Mapping[str, int], count: int) -> None:
        marks = self._marks
        until = dict(sorted({**marks.until, **ends}.items()))
        self._marks = marks.model_copy(
            update={
                # A partition that the topic got since was read from its beginning.
                "begin": dict.fromkeys(ends, 0) | marks.begin,
                "until": until,
                "records": marks.records + count,
                # Not of a table that still has rows further on: whoever starts next has to look for them again.
                "versions": {
                    name: version
                    for name, version in self._versions().items()
                    if all(end <= until.get(partition, 0) for partition, end in self._held[name].items())
                },
                "query_id": query_id,
                "batch_id": batch_id,
                "run_id": self._job.run_id,
                "at": datetime.now(UTC),
            }
        )
        write_marks(self._settings, self._marks)

    def _tell(self, count: int, rejected: int, seconds: float, latest: dict[str, int]) -> None:
        now = datetime.now(UTC)
        with self._lock:
            before = self._progress
            self._progress = Progress(
                run_id=self._job.run_id,
                topic=self._topic,
                query_id=self._marks.query_id,
                batch_id=self._marks.batch_id,
                at=now,
                alive_at=now,
                rows=count,
                rejected=rejected,
                seconds=round(seconds, 3),
                rows_per_second=round(count / seconds, 1),
                dlq_share=round(rejected / count, 6) if count else 0.0,
                total_rows=before.total_rows + count,
                total_rejected=before.total_rejected + rejected,
                until=self._marks.until,
                latest=latest,
                lag=_lag(self._marks.until, latest),
            )
            write_progress(self._settings, self._progress)
        log.info("batch %s: %d events, %d refused, %.1f s", self._marks.batch_id, count, rejected, seconds)
        self._say(metrics.send(self._settings, metrics_of(self._progress, self._settings.environment)))
        if now - self._lineage_at >= _LINEAGE_EVERY:
            self._lineage_at = now
            running = self._job.outcome.model_copy(update={"tables": self._outcomes()})
            self._say(lineage.emit(self._settings, running, RunState.RUNNING))

    def _say(self, problem: str | None) -> None:
        """Say a problem once, however often it comes."""
        if problem is not None and problem not in self._job.outcome.notes:
            self._job.outcome.notes.append(problem)

    def _say_alive(self) -> None:
        now = datetime.now(UTC)
        with self._lock:
            if now - self._progress.alive_at >= _ALIVE_EVERY:
                latest = self._latest_now()
                lag = _lag(self._progress.until, latest)
                self._progress = self._progress.model_copy(
                    update={"alive_at": now, "latest": latest, "lag": lag}
                )
                write_progress(self._settings, self._progress)

    def _latest_now(self) -> dict[str, int]:
        """The topic's end, also where no batch comes: a transaction that is never ended holds back all behind it."""
        try:
            return _latest(kafka.look(self._settings))
        except SourceUnavailable:
            return self._progress.latest

    def _outcomes(self) -> list[TableOutcome]:
        done = self._progress
        ledger = LedgerCounts(
            read=done.total_rows,
            inserted=done.total_rows - done.total_rejected,
            quarantined=done.total_rejected,
        )
        live = head(self._job.spark, self._uri(BRONZE))
        return [TableOutcome(table=BRONZE, ledger=ledger, version=live.version, table_id=live.table_id)]


def _continued(
    marks: Marks | None,
    topic: str,
    topic_id: str,
    starts: Mapping[int, int],
    tables: dict[str, str],
    run_id: str,
) -> Marks:
    """The marks that this stream goes on from; a new account where there are none, or a run in mode batch went ahead.

    Raises StreamRefused where a table is not the one that the marks speak of.
    """
    begin = {str(partition): offset for partition, offset in sorted(starts.items())}
    if marks is None or any(begin[partition] > until for partition, until in marks.until.items()):
        return Marks(
            topic=topic,
            topic_id=topic_id,
            series=uuid.uuid4().hex,
            begin=begin,
            until=begin,
            records=0,
            tables=tables,
            query_id=None,
            batch_id=None,
            run_id=run_id,
            at=datetime.now(UTC),
        )
    violations = tuple(
        Violation(name, f"id {tables[name]}", f"id {known}")
        for name, known in marks.tables.items()
        if tables[name] != known
    )
    if violations:
        raise StreamRefused(
            f"{topic}: a table was made anew since the stream wrote it; the events it held are not read again",
            violations=violations,
            hint="restore the table; or, to read the topic from its beginning into new tables, remove both with their "
            "versions, the checkpoint and the marks (ops/_streams/kafka_orders/marks), then run apply_contracts and "
            "start again",
        )
    return marks.model_copy(update={"begin": begin | marks.begin, "until": begin | marks.until})


def _latest(topic: kafka.Topic) -> dict[str, int]:
    return {str(partition): end for partition, end in topic.ends.items()}


def _lag(until: Mapping[str, int], latest: Mapping[str, int]) -> dict[str, int]:
    return {partition: max(0, end - until.get(partition, 0)) for partition, end in latest.items()}


class _OnSignal:
    """Java's side of SIGTERM: where the JVM is the parent it gets the signal, and would stop Spark at once."""

    class Java:
        implements = ("sun.misc.SignalHandler",)

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def handle(self, _: Any) -> None:
        self._stop.set()


@contextmanager
def _on_sigterm(spark: SparkSession, stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM, to this process or to its JVM, set a flag in place of ending either."""
    from pyspark.java_gateway import ensure_callback_server_started

    gateway = spark.sparkContext._gateway
    assert gateway is not None
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    jvm: Any = gateway.jvm
    term = jvm.sun.misc.Signal("TERM")
    of_jvm = jvm.sun.misc.Signal.handle(term, _OnSignal(stop))
    of_python = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, of_python)
        jvm.sun.misc.Signal.handle(term, of_jvm)
