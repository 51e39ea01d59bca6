"""A whole local stack with a small day of data, and jobs that run in this process through their own shell."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local import days
from local.days import run_id
from tests.support import REPO

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class World(days.World):
    """The world, and its tables as lists that compare."""

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


@pytest.fixture(scope="package")
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
