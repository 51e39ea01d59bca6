"""`make demo`: the whole day on this machine, and what a person wants to see of it.

Sample data (or DATA_DIR) → the doubles of the sources → daily_batch_pipeline by real Airflow, each task a real
spark-submit → three questions to the Gold tables through Athena.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from local import airflow_run, data_files, report, sources_seed, stack
from local.airflow_run import RunResult
from local.data_files import DataError
from local.query import QueryFailed
from local.stack import REPO, Stack
from local.supervisor import ServiceError

SAMPLE = REPO / "data_fixed"


class Clock:
    """Where the time went, step by step. ``steps``: how many there will be, told in front of each."""

    def __init__(self, steps: int = 0) -> None:
        self.steps: list[tuple[str, float]] = []
        self._count = steps

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        number = f"[{len(self.steps) + 1} of {self._count}] " if self._count else ""
        print(f"\n{number}{name}", flush=True)
        begun = time.monotonic()
        yield
        self.steps.append((name, time.monotonic() - begun))

    def lines(self) -> list[str]:
        total = sum(seconds for _, seconds in self.steps)
        return [f"  {name:<44}{seconds:6.0f} s" for name, seconds in self.steps] + [
            f"  {'in all':<44}{total:6.0f} s"
        ]


def say(line: str) -> None:
    print(f"  {line}", flush=True)


def sample_data(out: Path, *arguments: str) -> None:
    """Generate sample data where it is not there yet."""
    if (out / "manifest.json").exists():
        say(f"{_short(out)} is there already")
        return
    # Until today, so that what the freshness rules look at is fresh.
    until = datetime.now(UTC).date().isoformat()
    command = [sys.executable, "-m", "local.sample_data", "--out", str(out), "--until", until, *arguments]
    subprocess.run(command, cwd=REPO, check=True)


def state_for(data_dir: Path | None) -> Path:
    """Sources go on where they were certified, so each data folder has a lake of its own."""
    if "LAKEHOUSE_STATE_DIR" in os.environ:
        return stack.state_dir()
    if data_dir is None:
        return REPO / ".local"
    # Java, Spark and SQLite read more into some characters of a path than a name.
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", data_dir.resolve().name)[:60]
    name = f"{plain}-{hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:8]}"
    return REPO / ".local" / "lakes" / name


def run_day(running: Stack) -> RunResult:
    """The daily DAG, once, with a line per task."""
    return airflow_run.run(running)


def demo(data_dir: Path | None) -> int:
    clock = Clock()
    state = state_for(data_dir)
    with clock.step("Sample data" if data_dir is None else f"Your data in {data_dir}"):
        if data_dir is None:
            sample_data(SAMPLE)
        elif not data_dir.is_dir():
            print(f"DATA_DIR: received {data_dir}, expected a folder (docs/sample-data.md)", file=sys.stderr)
            return 2
        # Refused before anything else is touched: another lake's stack may be running.
        data = data_files.read(data_dir or SAMPLE)
        sources_seed.require_rates(data, lambda: sources_seed.has_rates(state))
    with clock.step("Local stack: AWS, Snowflake, Kafka, HubSpot, Salesforce, ECB"):
        stack.make_current(state, say)
        running = stack.up(state, say)
    with clock.step("Load the sources"):
        print(sources_seed.load(data, running), flush=True)
    with clock.step("daily_batch_pipeline (Airflow 3.0.6, Spark 4.1.1, Delta 4.2.0)"):
        result = run_day(running)
    outcomes = report.outcomes(running, result.run_id)
    print(report.ledger(outcomes))
    print(report.verdicts(running, outcomes))
    print(report.notes(outcomes))
    if result.succeeded:
        with clock.step("Three questions to Gold, through Athena"):
            print(report.answers(running))
    print("\nWhere the time went")
    print("\n".join(clock.lines()))
    print(report.look_around(running, result))
    if not result.succeeded:
        print(report.failure(result))
        return 1
    return 0


def _short(path: Path) -> str:
    return str(path.relative_to(REPO)) if path.is_relative_to(REPO) else str(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--poisoned", action="store_true", help="the same day with bad data")
    arguments = parser.parse_args()
    data_dir = Path(os.environ["DATA_DIR"]).expanduser() if os.environ.get("DATA_DIR") else None
    try:
        if arguments.poisoned:
            from local.poisoned import poisoned

            return poisoned()
        return demo(data_dir)
    except (ServiceError, DataError, QueryFailed) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make local-down` stops the stack", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
