"""A whole local stack with a small day of data, and jobs that run in this process through their own shell."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import REPO

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakehouse.observe.outcome import Outcome
    from lakehouse.settings import Settings
    from local.stack import Stack

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


def stories() -> dict[str, Callable[[Any], None]]:
    """What each job's entry point runs."""
    from functools import partial

    from lakehouse.flows.apply_contracts import apply
    from lakehouse.flows.emit import emit
    from lakehouse.flows.gate import check_bronze, check_silver
    from lakehouse.flows.ingest import ingest
    from lakehouse.flows.promote import promote
    from lakehouse.flows.publish import publish

    return {
        "apply_contracts": apply,
        **{job: partial(ingest, source=source) for job, source in INGESTION.items()},
        "dq_check_bronze": check_bronze,
        "bronze_to_silver": promote,
        "dq_check_silver": check_silver,
        "silver_to_gold": publish,
        "emit_lineage_and_metrics": emit,
    }


def run_id(day: int, hour: int = 6) -> str:
    """A run at an hour of a day of November 2026."""
    return f"202611{day:02d}T{hour:02d}0000Z-00000000-0000-0000-0000-{day:06d}{hour:06d}"


@dataclass
class World:
    """Sources, a lake, and the means to run jobs between them."""

    spark: SparkSession
    stack: Stack
    settings: Settings
    data: Path
    exit_codes: dict[str, int] = field(default_factory=dict)

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

    def run(self, job: str, run: str) -> int:
        """Run one job as its entry point does; returns its exit code."""
        from lakehouse import cli

        arguments = cli.parser(job, "").parse_args(
            ["--config", str(REPO / "config" / "local.yaml"), "--run-id", run]
        )
        return cli.run(job, stories()[job], arguments)

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

    def rows(self, name: str) -> list[dict[str, Any]]:
        """A table's rows in the order of its key."""
        from lakehouse import contracts
        from tests.tables.rows import collect, ordered

        return ordered(collect(self.table(name)), *contracts.load(name).key)


def with_odd_orders(folder: Path) -> Path:
    """Orders of the first and the last day that there are, and one of an unknown status that was loaded last: the
    next run's overlap brings it again."""
    [path] = folder.glob("snowflake_orders_*.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    last = max(rows, key=lambda row: row["LOADED_AT"])
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(last))
        unshipped = {"SHIPPED_AT": "", "DELIVERED_AT": "", "STATUS": "PLACED"}
        for order_id, event_ts in (
            ("ORD-Y1", "0001-01-01 00:00:00"),
            ("ORD-Y9999", "9999-12-31 23:59:59.999999"),
        ):
            writer.writerow(rows[0] | unshipped | {"ORDER_ID": order_id, "EVENT_TS": event_ts})
        writer.writerow(last | {"ORDER_ID": "ORD-LAST", "STATUS": "LOST"})
    manifest = folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["flaws"]["bronze.snowflake_orders"]["late"] = {"rows": 1, "effect": "quarantined"}
    manifest.write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="session")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The stack after its first, clean day."""
    from lakehouse import store
    from lakehouse.settings import load_settings
    from local import stack

    state = tmp_path_factory.mktemp("stack")
    running = stack.up(state, lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.exports.items():
            patch.setenv(name, value)
        store.client.cache_clear()
        spark._jsc.hadoopConfiguration().set("fs.s3a.endpoint", running.aws_endpoint)
        settings = load_settings(str(REPO / "config" / "local.yaml"))
        world = World(spark, running, settings, tmp_path_factory.mktemp("data"))
        try:
            world.load(with_odd_orders(world.generate("day1")))
            world.day(run_id(1))
            yield world
        finally:
            store.client.cache_clear()
            stack.down(state, lambda line: None)
