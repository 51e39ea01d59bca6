"""`make stream-kill-test`: the order stream is killed N times (50) at random moments; at the end every event is there,
once.

The job runs as EMR Serverless runs it: a spark-submit in a process group of its own, real broker, real S3 protocol.
While events come in, each start is ended by SIGKILL, at a moment drawn by SEED: some time after the process began,
after it took over, after a commit of the DLQ or of Bronze, after the marks moved. Most starts go on from the
checkpoint, some find it deleted, some are given a new one. Then the stream catches up, and
every offset of the topic has to be in exactly one table. ``--control`` does the same without the transactions, marks
and look-ups that keep this promise, and has to find rows that are there twice.

A kill costs the start of a JVM and a first batch: 15 to 20 s on two quiet cores, so 200 are an hour.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import runpy
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from local.aws.emr_launch import Launcher
from local.aws.emr_process import Attempt, Submission, driver_environment, image_confs
from local.jars import jars
from local.kafka import client_options
from local.stack import REPO
from local.supervisor import ServiceError, base_environment

#: A batch a second of at most this many events: many batches, and many places in one to be killed at.
BATCH = {"trigger_seconds": 1, "max_offsets_per_trigger": 200}
#: The last start has to read what the others left.
LAST_BATCH = {"trigger_seconds": 1, "max_offsets_per_trigger": 100_000}
RATE = 10.0
FLAW_SHARE = 0.2
PATIENCE = 240.0
POLL = 0.02
#: What a kill waits for, how often it is drawn, and up to how many seconds later it comes.
MOMENTS = {
    "start": (10, 8.0),
    "taken over": (25, 6.0),
    "dlq": (30, 1.0),
    "bronze": (20, 0.7),
    "marks": (15, 1.5),
}
#: What the next start finds of the checkpoint.
CHECKPOINTS = {"same": 70, "deleted": 15, "new": 15}


@dataclass(frozen=True)
class Place:
    """Where the stream under test runs: its settings as written to its config, its broker, the stack's environment."""

    settings: dict[str, Any]
    bootstrap: str
    env: dict[str, str]
    folder: Path

    @property
    def lake(self) -> str:
        return str(self.settings["lake_uri"])

    @property
    def topic(self) -> str:
        return str(self.settings["sources"]["kafka"]["topic"])

    def table(self, name: str) -> str:
        return f"{self.lake}/{name.replace('.', '/')}"


@dataclass
class Result:
    """What was done and what was found. ``landed`` says where in a batch the kills met the stream."""

    seed: int
    landed: Counter[str] = field(default_factory=Counter)
    checkpoints: Counter[str] = field(default_factory=Counter)
    produced: int = 0
    flawed: int = 0
    bronze: int = 0
    dlq: int = 0
    lost: int = 0
    doubled: int = 0
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        return self.landed.total()

    @property
    def is_exact(self) -> bool:
        return not self.lost and not self.doubled and self.dlq == self.flawed

    def lines(self) -> list[str]:
        each = self.seconds / self.kills if self.kills else 0.0
        return [
            f"kills      {self.kills} (seed {self.seed}), {self.seconds / 60:.1f} minutes, {each:.0f} s each",
            *[f"             {n:>4} {where}" for where, n in self.landed.most_common()],
            "checkpoint " + ", ".join(f"{n} {what}" for what, n in self.checkpoints.most_common()),
            f"produced   {self.produced:>7,}, {self.flawed:,} of them broken",
            f"Bronze     {self.bronze:>7,}",
            f"DLQ        {self.dlq:>7,}",
            f"lost       {self.lost:>7,}",
            f"doubled    {self.doubled:>7,}",
        ]


class Driver:
    """One start of the job as the local EMR makes it: spark-submit, with Python below its JVM."""

    def __init__(
        self,
        place: Place,
        number: int,
        checkpoint: str,
        entry: Path,
        *arguments: str,
        batch: dict[str, int] = BATCH,
    ) -> None:
        self.folder = place.folder / f"start-{number}"
        for part in ("tmp", "work"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        config = self.folder / "settings.yaml"
        config.write_text(yaml.safe_dump(_with(place.settings, batch, checkpoint)))
        launcher = Launcher(place.folder, REPO / ".local" / "jars")
        argv = ["--config", str(config), "--stream", *arguments]
        submission = Submission(str(entry), argv, _confs(place, self.folder))
        env = driver_environment(base_environment() | place.env, {}, self.folder)
        env["PYTHONPATH"] = os.pathsep.join([str(REPO / "src"), str(REPO)])
        command, _ = launcher.command(submission, self.folder / "spark.properties")
        # An archive of classes is written by a run that ends well; these do not.
        command = [word for word in command if "ArchiveClassesAtExit" not in word]
        self._attempt = Attempt(self.folder, command, env)

    def poll(self) -> int | None:
        return self._attempt.process.poll()

    def signal(self, what: signal.Signals) -> None:
        """To the whole group, as EMR does."""
        os.killpg(self._attempt.process.pid, what)

    def wait(self, seconds: float) -> int:
        return self._attempt.process.wait(timeout=seconds)

    def kill(self) -> None:
        if self.poll() is None:
            self.signal(signal.SIGKILL)
            self.wait(60)

    def output(self) -> str:
        return "".join((self.folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))


class Lake:
    """What the lake shows of the stream from outside, without Spark."""

    def __init__(self, place: Place) -> None:
        from lakehouse import store

        self._store, self._place = store, place
        self._marks = f"{place.lake}/ops/_streams/kafka_orders/marks/{place.topic}.json"

    def owner(self) -> bytes:
        return self._store.get(f"{self._place.lake}/ops/_streams/kafka_orders/owner.json") or b""

    def marks(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._store.get(self._marks) or b"{}")
        return found

    def version(self, table: str) -> int:
        return max((_number(uri) for uri in self._commits(table)), default=-1)

    def has_version(self, table: str, version: int) -> bool:
        return self._store.get(f"{self._place.table(table)}/_delta_log/{version:020}.json") is not None

    def until(self, table: str, after: int) -> dict[str, int]:
        """Next offsets by the newest commit of the stream later than a version; empty where there is none."""
        for version in range(self.version(table), after, -1):
            body = self._store.get(f"{self._place.table(table)}/_delta_log/{version:020}.json") or b""
            for line in body.splitlines():
                info = json.loads(line).get("commitInfo", {})
                if (note := info.get("userMetadata", "")).startswith("{"):
                    found: dict[str, int] = json.loads(note)["until"]
                    return found
        return {}

    def is_batch_open(self, checkpoint: str) -> bool:
        """Whether Spark has begun a batch that it has not concluded."""
        last = {}
        for part in ("offsets", "commits"):
            names = (uri.rsplit("/", 1)[-1] for uri in self._store.keys(f"{checkpoint}/{part}/"))
            last[part] = max((int(name) for name in names if name.isdecimal()), default=-1)
        return last["offsets"] > last["commits"]

    def delete(self, prefix: str) -> None:
        for uri in list(self._store.keys(f"{prefix}/")):
            bucket, key = self._store.split(uri)
            self._store.client().delete_object(Bucket=bucket, Key=key)

    def positions(self, table: str) -> Counter[tuple[int, int]]:
        """(partition, offset) of every row, as often as it is there."""
        from deltalake import DeltaTable

        from local.aws.athena_worker import storage_options

        rows = DeltaTable(self._place.table(table), storage_options=storage_options())
        found = rows.to_pyarrow_table(columns=["partition", "offset"])
        return Counter(zip(found["partition"].to_pylist(), found["offset"].to_pylist(), strict=True))

    def _commits(self, table: str) -> Iterator[str]:
        uris = self._store.keys(f"{self._place.table(table)}/_delta_log/")
        return (uri for uri in uris if uri.endswith(".json") and _number(uri) >= 0)


class Events(threading.Thread):
    """Sends test events until it is told to stop."""

    def __init__(self, place: Place, seed: int, rate: float) -> None:
        super().__init__(daemon=True)
        self._place, self._seed, self._rate = place, seed, rate
        self._stop_asked = threading.Event()
        self.taken: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        script = runpy.run_path(str(REPO / "scripts" / "produce_test_orders.py"))
        kinds = [kind for kind in script["FLAWS"] if kind != "huge_value"]
        made = script["events"](10_000_000, self._seed, date(2026, 11, 1), FLAW_SHARE, kinds)
        until_asked = itertools.takewhile(lambda _: not self._stop_asked.is_set(), made)
        try:
            options = client_options(self._place.bootstrap)
            self.taken = script["send"](options, self._place.topic, until_asked, self._rate, "-")
        except BaseException as error:
            self.failure = error

    def finish(self) -> Counter[str]:
        """How many events of each flaw the broker has taken ("" for good ones)."""
        self._stop_asked.set()
        self.join(60)
        if self.failure is not None:
            raise self.failure
        return self.taken


def kill_in_a_loop(
    place: Place,
    kills: int,
    seed: int,
    *,
    control: bool = False,
    rate: float = RATE,
    say: Callable[[str], None],
    end: Callable[[Driver, str, Callable[[], object]], None] | None = None,
) -> Result:
    """Kill the stream ``kills`` times, start it once more, and count when it has caught up.

    Tables and topic have to be there, and empty. ``end`` gets the last start, its checkpoint and what stops the events;
    it returns when all is read and the stream has ended. The default is a last start with --available-now.
    Raises ServiceError where a start ends by itself or does not get where it is to be killed.
    """
    rng, lake, result = random.Random(seed), Lake(place), Result(seed)
    entry = (
        REPO / "local" / "kill_stream_control.py" if control else REPO / "jobs" / "kafka_orders_to_bronze.py"
    )
    checkpoint = f"{place.lake}/checkpoints/kill-0"
    events = Events(place, seed, rate)
    events.start()
    begun = time.monotonic()
    for number in range(kills):
        kind = "new" if number == 0 else rng.choices([*CHECKPOINTS], [*CHECKPOINTS.values()])[0]
        result.checkpoints[kind] += 1
        if kind == "deleted":
            lake.delete(checkpoint)
        elif kind == "new":
            checkpoint = f"{place.lake}/checkpoints/kill-{number}"
        moment = rng.choices([*MOMENTS], [each[0] for each in MOMENTS.values()])[0]
        later = rng.uniform(0, MOMENTS[moment][1])
        where = _kill(place, lake, Driver(place, number, checkpoint, entry), moment, later, checkpoint)
        result.landed[where] += 1
        say(f"{number + 1:>4} of {kills}: {kind} checkpoint, {moment} + {later:.2f} s: {where}")
    result.seconds = time.monotonic() - begun
    if end is None:
        events.finish()
        _catch_up(Driver(place, kills, checkpoint, entry, "--available-now", batch=LAST_BATCH))
    else:
        last = Driver(place, kills, checkpoint, entry)
        try:
            end(last, checkpoint, events.finish)
        finally:
            last.kill()
    taken = events.finish()
    result.produced, result.flawed = taken.total(), taken.total() - taken[""]
    _count(place, lake, result)
    return result


def _catch_up(driver: Driver) -> None:
    waited = 0.0
    try:
        while (code := driver.poll()) is None and waited < PATIENCE:
            time.sleep(POLL)
            waited += POLL
    finally:
        driver.kill()
    if code != 0:
        raise ServiceError(
            f"the last start ended with exit code {code}, None after {PATIENCE:.0f} s:\n{driver.output()[-3000:]}"
        )


def _kill(place: Place, lake: Lake, driver: Driver, moment: str, later: float, checkpoint: str) -> str:
    """Wait for the moment, kill, and say where that met the stream."""
    tables = ("ops.kafka_orders_dlq", "bronze.kafka_orders")
    before = {name: lake.version(name) for name in tables}
    owner, marks = lake.owner(), lake.marks()
    reached: dict[str, Callable[[], bool]] = {
        "start": lambda: True,
        "taken over": lambda: lake.owner() != owner,
        "dlq": lambda: lake.has_version(tables[0], before[tables[0]] + 1),
        "bronze": lambda: lake.has_version(tables[1], before[tables[1]] + 1),
        "marks": lambda: lake.marks().get("records", 0) > marks.get("records", 0),
    }
    waited = 0.0
    try:
        while not reached[moment]():
            if driver.poll() is not None or waited > PATIENCE:
                raise ServiceError(f"the stream did not get to {moment!r}:\n{driver.output()[-3000:]}")
            time.sleep(POLL)
            waited += POLL  # by its own count: the time that a laptop sleeps is nobody's fault
        time.sleep(later)
        if driver.poll() is not None:
            raise ServiceError(f"the stream ended by itself:\n{driver.output()[-3000:]}")
    finally:
        driver.kill()
    if lake.owner() == owner:
        return "before it had taken over"
    done = lake.marks().get("until", {})
    ahead = [
        any(offset > done.get(partition, 0) for partition, offset in lake.until(name, before[name]).items())
        for name in tables
    ]
    if ahead == [True, False]:
        return "between the writes of one batch"
    if any(ahead):
        return "after the writes, before the marks"
    has_moved = done != marks.get("until", {})
    if not lake.is_batch_open(f"{checkpoint}/{place.topic}"):
        return "between two batches" if has_moved else "before its first batch"
    return "in a later batch, before its writes" if has_moved else "in its first batch, before its writes"


def _count(place: Place, lake: Lake, result: Result) -> None:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(client_options(place.bootstrap) | {"group.id": "kill-test"})
    try:
        partitions = consumer.list_topics(place.topic, timeout=20).topics[place.topic].partitions
        expected = {
            (partition, offset)
            for partition in partitions
            for offset in range(
                *consumer.get_watermark_offsets(TopicPartition(place.topic, partition), timeout=20)
            )
        }
    finally:
        consumer.close()
    bronze, dlq = lake.positions("bronze.kafka_orders"), lake.positions("ops.kafka_orders_dlq")
    rows = bronze + dlq
    result.bronze, result.dlq = bronze.total(), dlq.total()
    result.lost = len(expected - rows.keys())
    result.doubled = rows.total() - len(rows)
    if len(expected) != result.produced or rows.keys() - expected:
        raise ServiceError(
            f"the producer says that {result.produced:,} events were taken, the topic has {len(expected):,}, the "
            f"tables have {len(rows.keys() - expected):,} that are not there"
        )


def _with(settings: dict[str, Any], batch: dict[str, int], checkpoint: str) -> dict[str, Any]:
    kafka = settings["sources"]["kafka"] | {
        "mode": "stream",
        "stream": batch | {"checkpoint_uri": checkpoint},
    }
    return settings | {"sources": settings["sources"] | {"kafka": kafka}}


def _confs(place: Place, folder: Path) -> dict[str, str]:
    confs: dict[str, str] = {}
    for name in ("spark-defaults.conf", "delta-core.conf"):
        for line in (REPO / "emr_configs" / name).read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                key, value = line.split(None, 1)
                confs[key] = value.strip()
    return (
        confs
        | image_confs(place.env["AWS_ENDPOINT_URL"])
        | {
            "spark.jars": ",".join(str(jar) for jar in jars("kafka")),
            "spark.sql.warehouse.dir": str(folder / "tmp" / "warehouse"),
            "spark.hadoop.hadoop.tmp.dir": str(folder / "tmp" / "hadoop"),
        }
    )


def _number(uri: str) -> int:
    name = uri.rsplit("/", 1)[-1].split(".", 1)[0]
    return int(name) if name.isdecimal() else -1


def place_of(name: str) -> Place:
    """An empty lake `.local/lakes/<name>` with its stack up."""
    from lakehouse.settings import load_settings
    from local import stream_lake

    running = stream_lake.fresh(name)
    settings = load_settings(running.exports["LAKEHOUSE_CONFIG"])
    folder = running.state / "kills"
    folder.mkdir(parents=True)
    values = settings.model_dump(mode="json", exclude={"dq_thresholds"})
    return Place(values, running.exports["LOCAL_KAFKA_BOOTSTRAP"], running.exports, folder)


def main() -> int:
    from local.demo import say

    parser = argparse.ArgumentParser(prog="python -m local.kill_stream", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--control", action="store_true", help="then the same without transactions, with its result"
    )
    parser.add_argument("--control-kills", type=int, default=10)
    arguments = parser.parse_args()
    try:
        result = kill_in_a_loop(place_of("kill-stream"), arguments.kills, arguments.seed, say=say)
        print("\nThe stream\n  " + "\n  ".join(result.lines()))
        is_good = result.is_exact
        if arguments.control:
            other = kill_in_a_loop(
                place_of("kill-control"), arguments.control_kills, arguments.seed, control=True, say=say
            )
            print("\nThe same without transactions\n  " + "\n  ".join(other.lines()))
            if other.is_exact:
                print("\nThe control lost and doubled nothing: the kills prove nothing.", file=sys.stderr)
                is_good = False
    except ServiceError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make local-down` stops the stack", file=sys.stderr)
        return 130
    print(
        f"\nproduced = Bronze + DLQ: {result.produced:,} = {result.bronze:,} + {result.dlq:,}, every record once."
        if result.is_exact
        else "\nEvents were lost or doubled."
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
