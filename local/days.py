"""Days of a small lake, job by job: in this process through each job's own shell, whole or killed at a step outward.

What the end-to-end tests and `make crash-test` share. Neither pytest nor Airflow is needed.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from local.stack import REPO

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakehouse.observe.outcome import Outcome
    from lakehouse.settings import Settings
    from local.stack import Stack

#: The day on which the first run is made; the sample's history ends before it.
FIRST = date(2026, 11, 1)
CONFIG = str(REPO / "config" / "local.yaml")
# fmt: off
SIZE = (
    "--orders", "400", "--contacts", "80", "--accounts", "40", "--leads", "20",
    "--kafka", "40", "--shipments", "40", "--flaws", "real",
)
# fmt: on
INGESTION = {
    "hubspot_to_bronze": "hubspot",
    "salesforce_to_bronze": "salesforce",
    "snowflake_to_bronze": "snowflake",
    "vendor_to_bronze": "vendor",
    "fx_to_bronze": "fx",
    "kafka_orders_to_bronze": "kafka",
}
AFTER = ("dq_check_bronze", "bronze_to_silver", "dq_check_silver", "silver_to_gold")
Story = Callable[[Any], None]


def stories() -> dict[str, Story]:
    """What each job's entry point runs."""
    from lakehouse.flows.apply_contracts import apply
    from lakehouse.flows.backfill import backfill
    from lakehouse.flows.emit import emit
    from lakehouse.flows.gate import check_bronze, check_silver
    from lakehouse.flows.ingest import ingest
    from lakehouse.flows.maintain import maintain
    from lakehouse.flows.promote import promote
    from lakehouse.flows.publish import publish
    from lakehouse.flows.reconcile import reconcile
    from lakehouse.flows.report import report

    return {
        "apply_contracts": apply,
        "backfill": backfill,
        "reconcile": reconcile,
        **{job: partial(ingest, source=source) for job, source in INGESTION.items()},
        "dq_check_bronze": check_bronze,
        "bronze_to_silver": promote,
        "dq_check_silver": check_silver,
        "silver_to_gold": publish,
        "register_glue_tables": _script("register_glue_tables")["register_tables"],
        "emit_lineage_and_metrics": emit,
        "status_page": report,
        "delta_optimize_vacuum": maintain,
    }


def options() -> dict[str, Callable[[ArgumentParser], None]]:
    """The arguments of jobs that have some of their own."""
    from lakehouse.flows import backfill, maintain, reconcile

    return {
        "backfill": backfill.options,
        "reconcile": reconcile.options,
        "register_glue_tables": _script("register_glue_tables")["options"],
        "delta_optimize_vacuum": maintain.options,
    }


def _script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(REPO / "scripts" / f"{name}.py"))


def run_id(day: int, hour: int = 6, first: date = FIRST) -> str:
    """A run at an hour of a day, counted from 1, the first."""
    at = first + timedelta(days=day - 1)
    return f"{at:%Y%m%d}T{hour:02d}0000Z-00000000-0000-0000-0000-{day:06d}{hour:06d}"


@dataclass
class World:
    """Sources, a lake, and the means to run jobs between them."""

    spark: SparkSession
    stack: Stack
    settings: Settings
    data: Path

    def generate(self, name: str, *arguments: str) -> Path:
        """A folder of sample data."""
        out = self.data / name
        command = [sys.executable, "-m", "local.sample_data", "--out", str(out), *SIZE, *arguments]
        subprocess.run(command, cwd=REPO, check=True, capture_output=True)
        return out

    def load(self, folder: Path) -> None:
        from local import sources_seed

        sources_seed.load(folder, self.stack)

    def withdraw(self, folder: Path) -> None:
        from local import sources_seed

        sources_seed.withdraw(folder, self.stack)

    def run(self, job: str, run: str, *more: str) -> int:
        """Run one job as its entry point does, with arguments of its own; returns its exit code."""
        from lakehouse import cli

        given = ["--config", CONFIG, "--run-id", run, *more]
        if job == "recover":
            code: int = _script(job)["main"](given)
            return code
        parser = cli.parser(job, "")
        if job in (own := options()):
            own[job](parser)
        return cli.run(job, stories()[job], parser.parse_args(given))

    def ingest(self, run: str) -> dict[str, int]:
        return {job: self.run(job, run) for job in INGESTION}

    def day(self, run: str) -> None:
        """A whole day that has to succeed."""
        for job in ("apply_contracts", *INGESTION, *AFTER):
            assert self.run(job, run) == 0, self.outcome(job, run)

    def outcome(self, job: str, run: str) -> Outcome:
        from lakehouse.observe import outcome

        found = outcome.read(self.settings, run, job)
        assert found is not None
        return found

    def table(self, name: str) -> DataFrame:
        from lakehouse.delta.read import read

        return read(self.spark, self.settings.table_uri(name))


class Killed(BaseException):
    """The process is gone: nothing of it, and nothing that catches exceptions, does anything more."""


@dataclass
class Kill:
    """How far a process came: the steps outward that it did, and the one at which it was killed (None: it was not)."""

    steps: int = 0
    where: str | None = None


@contextmanager
def killed_at(event: int) -> Iterator[Kill]:
    """Kill the process at its n-th step outward: before or after a commit, before or after a small object is put.

    Steps count from 0. What was killed is over when the block is left; ``Kill`` says where that was.
    """
    from lakehouse import store
    from lakehouse.delta import write

    kill = Kill()
    lock = Lock()

    def step(where: str) -> None:
        with lock:
            if kill.where is None and kill.steps >= event:
                kill.where = where
            if kill.where is not None:
                raise Killed
            kill.steps += 1

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(uri: str, *arguments: Any, **options: Any) -> Any:
            if "/ops/_lineage/" in uri:  # an event of the job's begin or end: no table hangs on it
                return function(uri, *arguments, **options)
            step(f"before {_path(uri)} is put")
            answer = function(uri, *arguments, **options)
            step(f"after {_path(uri)} is put")
            return answer

        return call

    real = write._tagged

    @contextmanager
    def tagged(spark: Any, uri: str, tag: str) -> Iterator[Any]:
        step(f"before a commit to {_path(uri)}")
        with real(spark, uri, tag) as commit:
            yield commit
        step(f"after a commit to {_path(uri)}")

    with ExitStack() as patches:
        patches.enter_context(patch.object(write, "_tagged", tagged))
        patches.enter_context(patch.object(store, "put", guarded(store.put)))
        patches.enter_context(patch.object(store, "put_if_absent", guarded(store.put_if_absent)))
        with suppress(Killed):
            yield kill


def _path(uri: str) -> str:
    """The key, without the run ids and hashes in the middle of long ones."""
    parts = uri.removeprefix("s3://").split("/")[1:]
    return "/".join(parts if len(parts) < 4 else [*parts[:2], "…", parts[-1]])
