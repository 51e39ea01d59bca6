"""The state of a refused row is a fold of its events; its payload is all that a replay needs."""

from __future__ import annotations

import itertools
import json
import random
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from lakehouse import contracts
from lakehouse.contracts.spark import schema
from lakehouse.errors import UsageError
from lakehouse.flows.landed import read_landed, unpacked
from lakehouse.flows.replay import judged
from lakehouse.landing import LandingWriter
from lakehouse.quality import refused, rules
from lakehouse.quality.fixes import read_fix
from lakehouse.quality.quarantine import first_event_id
from lakehouse.runs import new_run_id
from lakehouse.session import local_frame
from tests.quality.quarantine_support import (
    EVENTS,
    ORDERS,
    SHIPMENTS,
    Lake,
    a_shipment,
    an_event,
    an_order,
)
from tests.quality.support import NOON


def event_type() -> StructType:
    return schema(contracts.load("ops.quarantine"))


def log(spark: SparkSession, *events: tuple[str, int | None, int]) -> DataFrame:
    """Events of one row: status, step, and an hour that no clock would have given."""
    fields = event_type()
    rows = []
    for n, (status, step, hours) in enumerate(events):
        at = NOON + timedelta(hours=hours)
        values = dict.fromkeys(fields.names) | {
            "event_id": f"{n}",
            "table_name": "bronze.fx_rates",
            "status": status,
            "run_id": "run",
            "payload": f"payload {n}",
            "reasons": [f"rule_{n}: x"],
            "contract_version": "1.0.0",
            "position": "1",
            "source": "fx",
            "occurred_at": at,
            "ingest_date": at.date(),
            "step": step,
        }
        rows.append(tuple(values[name] for name in fields.names))
    is_first = F.col("step").isNull()
    first = first_event_id(F.col("table_name"), F.col("run_id"), F.col("position"))
    return local_frame(spark, rows, fields).withColumn(
        "event_id", F.when(is_first, first).otherwise(F.col("event_id"))
    )


HISTORIES = {
    "as it came": ([("open", None, 0)], "open", 0),
    "fixed": ([("open", None, 9), ("fixed", 1, 0)], "fixed", 1),
    "fixed, refused again": ([("open", None, 9), ("fixed", 1, 5), ("open", 2, 0)], "open", 2),
    "fixed twice": ([("open", None, 0), ("fixed", 1, 9), ("fixed", 2, 1)], "fixed", 2),
    "replayed": ([("open", None, 9), ("fixed", 1, 5), ("replayed", 2, 0)], "replayed", 1),
    "replayed, whatever else": (
        [("open", None, 0), ("replayed", 1, 0), ("discarded", 2, 3), ("fixed", 3, 4)],
        "replayed",
        3,
    ),
    "discarded, whatever else": ([("open", None, 0), ("discarded", 1, 0), ("fixed", 2, 4)], "discarded", 2),
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=list(HISTORIES))
def test_the_state_depends_on_steps_and_on_no_order(spark: SparkSession, history: Any) -> None:
    events, status, newest = history
    whole = log(spark, *events)
    orders = list(itertools.permutations(whole.collect()))
    for rows in random.Random(7).sample(orders, min(3, len(orders))):
        (state,) = refused.states(local_frame(spark, list(rows), event_type())).collect()
        assert state["status"] == status
        assert (state["received"], state["payload"]) == ("payload 0", f"payload {newest}")
        assert state["reasons"] == [f"rule_{newest}: x"]
        assert state["ingest_date"] == (NOON + timedelta(hours=events[0][2])).date()
    (balance,) = refused.balances(whole)
    assert balance.holds
    assert getattr(balance, status) == balance.quarantined == 1


def test_a_row_without_a_first_event_does_not_balance(spark: SparkSession) -> None:
    (balance,) = refused.balances(log(spark, ("fixed", 1, 0)))
    assert (balance.holds, balance.quarantined, balance.fixed) == (False, 0, 1)


AWKWARD = (
    "",
    " padded ",
    "null",
    'quo"te',
    "back\\slash",
    "line\nbreak\ttab\u0001",
    "\u2028\U0001f600é",
    "{}",
    "-0.0",
    "1e5",
)


def test_a_payload_gives_the_fields_that_the_landing_gave(world: Lake) -> None:
    """Of every source, awkward values included; the first row of each is good, all others are refused and judged."""
    run = new_run_id(NOON)
    writer = LandingWriter(world.settings, "snowflake", "snowflake_orders", run)
    import pyarrow as pa

    table = {
        "ORDER_ID": [f"O-{n}" for n in range(len(AWKWARD))],
        "EVENT_TS": pa.array([datetime(1890, 1, 1, 0, 0, 0, 1)] * len(AWKWARD), pa.timestamp("us")),  # noqa: DTZ001
        "STATUS": list(AWKWARD),
        "AMOUNT": pa.array([Decimal("-0.10"), *[None] * (len(AWKWARD) - 1)], pa.decimal128(18, 2)),
        "CURRENCY": [None] * len(AWKWARD),
        "LOADED_AT": pa.array([datetime(9999, 12, 31)] * len(AWKWARD), pa.timestamp("us")),  # noqa: DTZ001
        "it's new": [1.5, *[float("nan")] * (len(AWKWARD) - 1)],
    }
    writer.write_arrow(pa.table(table))
    manifests = {ORDERS: writer.commit(window_from=None, window_to=None)}
    writer = LandingWriter(world.settings, "vendor", "vendor_shipments", run)
    writer.write_rows(
        a_shipment(n, status=text, weight_kg=1.10, extra={"a": [1, None]}, cost=10**30 + n)
        for n, text in enumerate(AWKWARD)
    )
    manifests[SHIPMENTS] = writer.commit(window_from=None, window_to=None)
    landed = {name: read_landed(world.spark, world.settings, each) for name, each in manifests.items()}
    values = [an_event(n, status=text) for n, text in enumerate(AWKWARD)]
    values += [
        b"\xff",
        None,
        b"",
        b"{",
        b"[]",
        b'{"a":1,"a":2}',
        b'{"amount":1.10,"x":{"y":null}}',
        b"\xef\xbb\xbf{}",
    ]
    landed[EVENTS] = world.judged(values, run, "kafka", b"\xff\x00")

    for name, rows in landed.items():
        source = name.split(".")[1].split("_")[0]
        again = unpacked(rows.select("payload", F.col("fields").alias("before")), source, 1_048_576)
        # A map's entries have no order.
        before, after = (F.array_sort(F.map_entries(name)) for name in ("before", "fields"))
        differ = again.where(~before.eqNullSafe(after))
        assert differ.select("before", "fields").collect() == [], name


def test_a_row_that_nobody_fixed_is_refused_for_the_same_reasons(world: Lake) -> None:
    runs = [
        world.orders(
            *[an_order(n, STATUS=text) for n, text in enumerate(AWKWARD)],
            an_order(20, CURRENCY=None),
            an_order(21, AMOUNT=Decimal("-0.01"), STATUS="x" * 65),
        ),
        world.shipments(
            *[a_shipment(n, file="e.csv", shipped_local="2026-03-29 12:30:00") for n in range(100, 103)],
            *[
                a_shipment(n, file="e.csv", cost=text, shipped_local="2026-03-29 02:30:00")
                for n, text in enumerate(AWKWARD)
            ],
            {"_position": "e.csv:9", "file": "e.csv", "_malformed": "2 cells, expected 10; surplus: 'x'"},
        ),
        world.events(an_event(1, status="\u2028"), b"\xff", None, b"{}", an_event(2, amount="1e400")),
        world.streamed(an_event(1, event_ts="0000-01-01T00:00:00Z"), b"'", None, key=None, offset=7_000),
    ]
    seen = 0
    for run in runs:
        for table in {row["table_name"] for row in world.rows(run_id=run)}:
            rows = refused.Selection(table=table, run_id=run).of(refused.rows(world.spark, world.settings))
            for row in judged(world.settings, rows, table, "received").collect():
                seen += 1
                assert row[rules.REASONS] == row["state"]["reasons"]
    assert seen == len(AWKWARD) + 2 + len(AWKWARD) + 1 + 5 + 3


WRONG: dict[str, tuple[str, list[str]]] = {
    "no mapping": ("- a\n", ["the file: received a list"]),
    "not YAML": ("a: [\n", ["no YAML"]),
    "a key twice": ("table: bronze.fx_rates\ntable: bronze.fx_rates\nwhy: x\n", ["given twice"]),
    "a tag": ("why: !!python/object/apply:os.system [id]\n", ["no YAML"]),
    "everything at once": (
        json.dumps(
            {
                "table": "silver.orders",
                "extra": 1,
                "runs": "x",
                "rows": [
                    {"position": "1", "set": {"A": "1"}, "value": "{}"},
                    {"run_id": "r", "position": "2", "set": ["x"], "why": "?"},
                    {"run_id": "r", "position": "2", "set": {"A": {"b": "c"}, "_malformed": "x"}},
                    "x",
                ],
                "expressions": {"status_known": "x", "rate_positive": {"ccy": ["y"]}},
            }
        ),
        [
            "table: received silver.orders", "extra: received an unknown key", "why: received nothing",
            "runs: received 'x'", "rows[1].run_id: received nothing", "rows[1]: received set and value",
            "rows[2].set: received a list", "rows[2].why: received an unknown key",
            "rows[3]: received run r position 2 again", "rows[3].set.A: received a mapping",
            "rows[3].set._malformed", "rows[4]: received 'x'", "expressions.status_known: received 'x'",
            "expressions.rate_positive.ccy: received a list",
        ],
    ),
    "an unknown reason": (
        "table: bronze.fx_rates\nwhy: x\nexpressions: {nothing: {ccy: upper(ccy)}}\n",
        ["expressions.nothing: received an unknown reason"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG.values(), ids=list(WRONG))
def test_a_wrong_fix_file_is_refused_with_all_that_is_wrong(tmp_path: Path, case: Any) -> None:
    text, words = case
    path = tmp_path / "fix.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_fix(str(path))
    assert [word for word in words if word not in caught.value.message] == []
    assert "nothing was written" in caught.value.hint


def test_every_scalar_of_a_fix_file_is_text_as_written(tmp_path: Path) -> None:
    path = tmp_path / "fix.yaml"
    path.write_text(
        "table: bronze.fx_rates\nwhy: 2026-01-01\nrows:\n"
        "- {run_id: r, position: 0007, set: {a: 12.50, b: yes, c: 2026-01-01, d: null, e: 0x1F, f: '', g: 1_000}}\n"
    )
    fix = read_fix(str(path))
    assert (fix.why, fix.rows[0].position) == ("2026-01-01", "0007")
    assert fix.rows[0].set == {
        "a": "12.50",
        "b": "yes",
        "c": "2026-01-01",
        "d": None,
        "e": "0x1F",
        "f": "",
        "g": "1_000",
    }
    with pytest.raises(UsageError, match="cannot be read"):
        read_fix(str(tmp_path / "nothing.yaml"))
