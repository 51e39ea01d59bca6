"""`make crash-test`: every job of a lake's days is killed N times (300) at random points and repeated; the tables are
then compared, row by row, with those of the same days in a lake where nobody killed anything.

A job is repeated under its run id until it succeeds, as a DAG does. Nine kills of ten are made in this process: the
job ends at a step outward drawn by SEED (before or after a commit, before or after a small object is put). Every tenth
is SIGKILL to the process group of a run that was submitted to the local EMR Serverless, some seconds after its driver
began. A draw that the job outlives is no kill and is not counted. Days are added until N kills are done.

Killed are all ingests, both gates, promotion, publication, the registration in Glue, lineage and metrics, backfill,
housekeeping (with --force) and `recover.py restore-silver --apply`. Left out: replays from quarantine
(tests/quality/test_quarantine_replay.py kills those), apply_contracts (schemas are the same every day) and the stream
(`make stream-kill-test`).

Each lake is `.local/lakes/crash-…` and stays; its stack is stopped at the end. The stack of the lake in use is left
alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TextIO

from local import stack, stream_lake
from local.days import AFTER, FIRST, INGESTION, World, killed_at, run_id
from local.stack import REPO, Stack
from local.supervisor import ServiceError

#: Every so many kills, a real process is killed.
REAL_EVERY = 10
#: Up to how many seconds after its start; a job of a small day lives for about as long.
LIFE = 20.0
PATIENCE = 600.0
#: Steps outward that a job is taken to have until one has been seen to end.
STEPS = 8
#: How often a job of a day is killed before it is left to end.
KILLS_OF_A_JOB = (1, 6)
#: Columns that say when something was done or in which version of a table: they may differ.
BY_NATURE = {
    "bronze.kafka_orders": {"broker_ts"},
    "gold.dim_customers": {"_publish_id"},
    "gold.dim_fx": {"_publish_id"},
    "gold.fact_orders": {"_publish_id"},
    "ops.quarantine": {"occurred_at"},
    "ops.row_ledger": {"recorded_at"},
    "ops.publications": {"publish_id", "table_id", "version", "inputs", "published_at"},
}
OPS = ("ops.quarantine", "ops.row_ledger", "ops.publications")
Row = tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A job of a day. ``kills``: whether it may be killed."""

    job: str
    run: str
    arguments: tuple[str, ...] = ()
    kills: bool = True

    @property
    def entry_point(self) -> str:
        here = "jobs" if (REPO / "jobs" / f"{self.job}.py").exists() else "scripts"
        return f"{here}/{self.job}.py"


@dataclass(frozen=True)
class Table:
    """What a lake holds of a table: columns with their types, and every row but for what differs by nature."""

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    rows: Counter[Row]

    def key_of(self, row: Row) -> Row:
        names = [name for name, _ in self.columns]
        return tuple(row[names.index(name)] for name in self.key)


@dataclass
class Played:
    """A lake after its days."""

    kills: int
    days: int
    tables: dict[str, Table]
    jobs: Counter[str] = field(default_factory=Counter)
    real: int = 0


@dataclass
class Comparison:
    """What the two lakes differ in; a line for each difference."""

    lines: list[str] = field(default_factory=list)
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0


def tasks_of(day: int) -> Iterator[Task]:
    """What runs on a day, in order."""
    run = run_id(day)
    yield Task("apply_contracts", run, kills=False)
    for job in (*INGESTION, *AFTER, "register_glue_tables", "emit_lineage_and_metrics"):
        yield Task(job, run)
    # Days that sources have rows of; what it finds is taken in by the next day's promotion.
    until = FIRST + timedelta(days=day - 2)
    source = ("snowflake", "hubspot", "salesforce", "fx")[day % 4]
    since = until - timedelta(days=1)
    days = ("--source", source, "--from", str(since), "--to", str(until), "--chunk-days", "1")
    yield Task("backfill", run_id(day, 9), days)
    applied = ("restore-silver", "--apply", "--by", "crash-test", "--why", "a proof")
    yield Task("recover", run_id(day, 10), applied)
    yield Task("delta_optimize_vacuum", run_id(day, 11), ("--force",))


# A lake and its days ------------------------------------------------------------------------------------------------


@contextmanager
def world_of(name: str, out: TextIO) -> Iterator[World]:
    """An empty lake `.local/lakes/<name>` with its stack up, for this process alone; down at the end."""
    from local import airflow
    from local.laptop import use_stack

    state = REPO / ".local" / "lakes" / name
    if state.exists():
        stack.down(state, lambda _: None)
        shutil.rmtree(state)
    running = stack.up(state, lambda _: None)
    try:
        os.environ |= {"LAKEHOUSE_STATE_DIR": str(state)}
        os.environ.update(airflow.environment(running))
        logging.getLogger("py4j").setLevel(logging.WARNING)
        sys.path[:0] = [str(REPO / "src"), str(REPO / "dags")]
        os.environ["PYTHONPATH"] = os.pathsep.join([str(REPO / "src"), str(REPO)])
        use_stack("crash_test", "kafka")
        with (state / "jobs.log").open("w") as log:
            # What jobs, Spark and its JVM say; a line a kill is for the terminal.
            os.dup2(log.fileno(), 2)
            with redirect_stdout(log):
                from lakehouse.session import spark_session
                from lakehouse.settings import load_settings
                from local.days import CONFIG

                settings = load_settings(CONFIG)
                spark = spark_session("crash-test", settings.lake_uri)
                try:
                    yield World(spark, running, settings, state / "data")
                finally:
                    spark.stop()
    finally:
        print(f"  its jobs' output: {(state / 'jobs.log').relative_to(REPO)}", file=out, flush=True)
        stack.down(state, lambda _: None)


def play(name: str, *, kills: int, days: int, seed: int) -> Played:
    """Days of an empty lake: at least ``days``, and as many as it takes to kill its jobs ``kills`` times."""
    out = sys.stdout
    rng = random.Random(seed)
    known: dict[str, int] = {}
    done = Played(0, 0, {})

    def say(line: str) -> None:
        print(f"  {line}", file=out, flush=True)

    with world_of(name, out) as world:
        while done.days < days or done.kills < kills:
            day = done.days + 1
            begun = time.monotonic()
            world.load(world.generate(f"day{day}", *(("--day", str(day)) if day > 1 else ())))
            for task in tasks_of(day):
                for _ in range(rng.randint(*KILLS_OF_A_JOB) if task.kills else 0):
                    if done.kills < kills and (where := _kill(world, task, rng, known, done.kills + 1)):
                        done.kills += 1
                        done.jobs[task.job] += 1
                        done.real += where.startswith("SIGKILL")
                        say(f"{done.kills:>4} of {kills}: day {day}, {task.job}, {where}")
                _repeat(world, task, known)
            done.days = day
            say(f"day {day} is done after {time.monotonic() - begun:.0f} s")
        done.tables = read_tables(world)
    return done


def _kill(world: World, task: Task, rng: random.Random, known: dict[str, int], number: int) -> str | None:
    """Where the job was killed; None where it ended before."""
    if number % REAL_EVERY == 0:
        return _kill_process(world.stack, task, rng.uniform(0.5, LIFE))
    with killed_at(rng.randrange(known.get(task.job, STEPS))) as kill:
        world.run(task.job, task.run, *task.arguments)
    if kill.where is None:
        known[task.job] = max(kill.steps, 1)
    return kill.where


def _kill_process(running: Stack, task: Task, later: float) -> str | None:
    """Submit the job to the local EMR and kill its process group; returns once EMR knows that it is gone."""
    arguments = ("--run-id", task.run, *task.arguments)
    if task.job == "recover":  # its command comes before options
        arguments = (task.arguments[0], "--run-id", task.run, *task.arguments[1:])
    here = stream_lake.submit(running, task.job, task.entry_point, arguments)
    emr = running.client("emr-serverless")
    record = running.state / "emr" / "jobs" / here["jobRunId"] / "job.json"

    def group() -> int | None:
        """Its process group, while it runs."""
        found: int | None = json.loads(record.read_text()).get("processGroup")
        return found

    def is_over() -> bool:
        return emr.get_job_run(**here)["jobRun"]["state"] in stream_lake.TERMINAL

    stream_lake.wait(lambda: group() is not None or is_over(), PATIENCE)
    time.sleep(later)
    running_group = group()
    if running_group is not None:
        with suppress(ProcessLookupError):
            os.killpg(running_group, signal.SIGKILL)
    stream_lake.wait(is_over, PATIENCE)
    details = emr.get_job_run(**here)["jobRun"].get("stateDetails") or ""
    # As a shell says of a signal; else the job had ended by itself.
    return f"SIGKILL {later:.1f} s after its driver began" if "ExitCode: -9" in details else None


def _repeat(world: World, task: Task, known: dict[str, int]) -> None:
    """The job under its run id, whole. Raises ServiceError where it does not succeed."""
    with killed_at(sys.maxsize) as whole:
        code = world.run(task.job, task.run, *task.arguments)
    known[task.job] = max(known.get(task.job, 1), whole.steps)
    if code:
        failure = world.outcome(task.job, task.run).error
        raise ServiceError(f"{task.job} ({task.run}), repeated, ended with exit code {code}: {failure}")


# Tables -------------------------------------------------------------------------------------------------------------


def read_tables(world: World) -> dict[str, Table]:
    """All of Bronze, Silver and Gold, and the tables of ops that account for rows; read without Spark."""
    from lakehouse import contracts

    names = [name for layer in ("bronze", "silver", "gold") for name in contracts.names(layer)]
    return {name: _read(name, world.settings.table_uri(name)) for name in (*names, *OPS)}


def _read(name: str, uri: str) -> Table:
    from deltalake import DeltaTable

    from lakehouse import contracts
    from local.aws.athena_worker import storage_options

    found = DeltaTable(uri, storage_options=storage_options()).to_pyarrow_table()
    left_out = BY_NATURE.get(name, set())
    names = sorted(set(found.column_names) - left_out)
    columns = tuple((column, str(found.schema.field(column).type)) for column in names)
    values = zip(*(map(repr, found[column].to_pylist()) for column in names), strict=True)
    key = [column for column in contracts.load(name).key if column not in left_out]
    if name == "ops.publications":
        key = ["run_id", "table_name"]
    return Table(columns, tuple(key), Counter(values))


def compare(expected: dict[str, Table], found: dict[str, Table]) -> Comparison:
    """Schema first, then rows by their keys: lost, doubled (there, and not expected so often), changed."""
    result = Comparison()
    for name, left in expected.items():
        right = found[name]
        result.rows += left.rows.total()
        if left.columns != right.columns:
            result.changed += 1
            result.lines.append(f"{name}: columns {right.columns}, expected {left.columns}")
            continue
        missing, extra = left.rows - right.rows, right.rows - left.rows
        keys = Counter(map(right.key_of, extra.elements()))
        for row in sorted(missing.elements()):
            key = left.key_of(row)
            if keys[key]:
                keys[key] -= 1
                other = next(each for each in extra if left.key_of(each) == key)
                said = [
                    f"{column} {b}, expected {a}"
                    for (column, _), a, b in zip(left.columns, row, other, strict=True)
                    if a != b
                ]
                result.changed += 1
                result.lines.append(f"{name} {_named(left, key)}: {'; '.join(said)}")
            else:
                result.lost += 1
                result.lines.append(f"{name} {_named(left, key)}: lost")
        for key in sorted(keys.elements()):
            result.doubled += 1
            result.lines.append(f"{name} {_named(left, key)}: once more than expected")
    return result


def _named(table: Table, key: Row) -> str:
    return ", ".join(f"{column}={value}" for column, value in zip(table.key, key, strict=True))


# The command --------------------------------------------------------------------------------------------------------


def in_a_process(function: Callable[..., Played], *arguments: Any, **options: Any) -> Played:
    """Call it in a process of its own: a JVM keeps the endpoint and the tables of the first lake it sees."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def crash_test(kills: int, seed: int, say: Callable[[str], None]) -> int:
    """Returns 0 where the lakes do not differ, 1 otherwise."""
    begun = time.monotonic()
    say(f"Days whose jobs are killed (seed {seed})")
    killed = in_a_process(play, "crash-killed", kills=kills, days=1, seed=seed)
    say(f"\nThe same {killed.days} days, whole")
    whole = in_a_process(play, "crash-whole", kills=0, days=killed.days, seed=seed)
    result = compare(whole.tables, killed.tables)
    say(f"\nKilled ({killed.real} by SIGKILL, {killed.kills - killed.real} at a step outward)")
    for job, count in killed.jobs.most_common():
        say(f"  {count:>4} {job}")
    for line in result.lines:
        say(f"  {line}")
    changed = f", {result.changed} changed" if result.changed else ""
    say(
        f"\n{result.rows:,} rows of {len(whole.tables)} tables, {(time.monotonic() - begun) / 60:.1f} minutes"
    )
    say(
        f"{killed.kills} kills, {killed.days} days: {result.lost} rows lost, {result.doubled} doubled{changed}"
    )
    return 1 if result.lines else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.crash_test", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    logging.getLogger("common").setLevel(logging.WARNING)
    try:
        return crash_test(arguments.kills, arguments.seed, lambda line: print(line, flush=True))
    except (ServiceError, BrokenProcessPool) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the stacks in .local/lakes/crash-… may still be up", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
