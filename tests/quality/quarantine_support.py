"""A lake with refused rows of every kind of source, landed, judged and written as the jobs do it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.delta.read import read
from lakehouse.delta.write import append_once
from lakehouse.errors import Violation
from lakehouse.flows import fix as fixing
from lakehouse.flows import gate
from lakehouse.flows.emit import emit
from lakehouse.flows.fix import Plan
from lakehouse.flows.ingest import Load, certification
from lakehouse.flows.landed import records
from lakehouse.flows.replay import JOB, Replayed, Request, replay
from lakehouse.landing import LandingWriter, Manifest
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import LedgerCounts, Outcome, TableOutcome
from lakehouse.quality import dlq, quarantine, refused, rules
from lakehouse.quality.fixes import read_fix
from lakehouse.quality.refused import Selection
from lakehouse.quality.verdicts import STREAM_SOURCE, rows_of
from lakehouse.runs import new_run_id, run_time
from lakehouse.session import local_frame
from tests.quality.support import NOON, make_settings
from tests.support import make_tables

ORDERS, SHIPMENTS, EVENTS = "bronze.snowflake_orders", "bronze.vendor_shipments", "bronze.kafka_orders"
OPS = (
    "ops.quarantine",
    "ops.kafka_orders_dlq",
    "ops.dq_verdicts",
    "ops.row_ledger",
    "ops.job_runs",
)
ORDER_FIELDS = {
    "ORDER_ID": pa.string(),
    "EVENT_TS": pa.timestamp("us"),
    "CUSTOMER_ID": pa.string(),
    "STATUS": pa.string(),
    "AMOUNT": pa.decimal128(18, 2),
    "CURRENCY": pa.string(),
    "SHIPPED_AT": pa.timestamp("us"),
    "DELIVERED_AT": pa.timestamp("us"),
    "LOADED_AT": pa.timestamp("us"),
}


def an_order(n: int, **changes: Any) -> dict[str, Any]:
    """A good row of the warehouse."""
    from decimal import Decimal

    row = {
        "ORDER_ID": f"O-{n}",
        "EVENT_TS": datetime(2026, 1, 1, 10, 0, n % 60, 123_456),  # noqa: DTZ001  # a TIMESTAMP_NTZ
        "CUSTOMER_ID": "C-1",
        "STATUS": "PAID",
        "AMOUNT": Decimal(n) + Decimal("0.50"),
        "CURRENCY": "EUR",
        "SHIPPED_AT": None,
        "DELIVERED_AT": None,
        "LOADED_AT": datetime(2026, 1, 1, 11),  # noqa: DTZ001  # a TIMESTAMP_NTZ
    }
    return row | changes


def a_shipment(n: int, **changes: Any) -> dict[str, Any]:
    """A good line of a vendor file."""
    row = {
        "file": "day.csv",
        "line": n,
        "shipment_id": f"S-{n}",
        "order_id": f"O-{n}",
        "carrier": "DHL",
        "tracking_number": f"T {n}",
        "status": "CREATED",
        "shipped_local": "2026-01-01 10:00:00",
        "delivered_local": "",
        "weight_kg": "1.250",
        "cost": "3.10",
        "currency": "EUR",
    }
    row |= changes
    return {"_position": f"{row['file']}:{n:09d}"} | row


def an_event(n: int, **changes: Any) -> bytes:
    """A good event of the topic; a change to None removes the field."""
    event = {
        "order_id": f"K-{n}",
        "event_ts": "2026-01-01T10:00:00Z",
        "customer_id": "C-1",
        "status": "PAID",
        "amount": f"{n}.50",
        "currency": "EUR",
    } | changes
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


class Lake:
    """Bronze of three sources and the tables of ops, with ways to fill them and to look at them."""

    def __init__(self, spark: SparkSession, uri: str, *more: str) -> None:
        # Whether ingests put their lines into the ledger, as the end of the daily run does.
        self.emits = False
        self.spark, self.settings = spark, make_settings(uri)
        names = (ORDERS, SHIPMENTS, EVENTS, *OPS, *more)
        make_tables(spark, self.settings, names)

    def job(self, name: str, run_id: str | None = None, at: datetime = NOON) -> Job:
        run_id = run_id or new_run_id(at)
        outcome = Outcome(job=name, run_id=run_id, started_at=run_time(run_id))
        job = Job(name, self.settings, run_id, outcome, argparse.Namespace())
        job.__dict__["spark"] = self.spark
        return job

    def orders(self, *rows: Mapping[str, Any], hours: int = 0) -> str:
        """Land and load rows of the warehouse; returns the run."""
        job = self.job("snowflake_to_bronze", at=NOON + timedelta(hours=hours))
        writer = LandingWriter(self.settings, "snowflake", "snowflake_orders", job.run_id)
        # The types that the rows need: a VARCHAR column holds anything.
        columns = {
            name: pa.array(
                [row[name] for row in rows],
                pa.string() if any(isinstance(row[name], str) for row in rows) else kind,
            )
            for name, kind in ORDER_FIELDS.items()
        }
        writer.write_arrow(pa.table(columns))
        return self._load(job, writer.commit(window_from=None, window_to=NOON + timedelta(hours=hours)))

    def shipments(self, *rows: Mapping[str, Any], hours: int = 0) -> str:
        """Land and load lines of a vendor file; returns the run."""
        job = self.job("vendor_to_bronze", at=NOON + timedelta(hours=hours))
        writer = LandingWriter(self.settings, "vendor", "vendor_shipments", job.run_id)
        writer.write_rows(rows)
        manifest = writer.commit(
            window_from=None, window_to=NOON, fields=list(a_shipment(1)), state={"files": {}}
        )
        return self._load(job, manifest)

    def _load(self, job: Job, manifest: Manifest) -> str:
        load = Load(job, manifest, certification(job, f"bronze.{manifest.table}"))
        load.require_contract()
        job.outcome.tables.append(load.write())
        load.release()
        return self.done(job)

    def done(self, job: Job) -> str:
        job.outcome.status, job.outcome.finished_at, job.outcome.seconds = "succeeded", datetime.now(UTC), 1.0
        outcomes.write(self.settings, job.outcome)
        if self.emits:
            emit(job.beside("emit_lineage_and_metrics"))
        return job.run_id

    def events(self, *values: bytes | None, key: bytes | None = b"k", hours: int = 0) -> str:
        """Events as a run in mode batch refuses them; good ones are left out. Returns the run."""
        job = self.job("kafka_orders_to_bronze", at=NOON + timedelta(hours=hours))
        manifest = LandingWriter(self.settings, "kafka", "kafka_orders", job.run_id).commit(
            window_from=None, window_to=NOON, rows=len(values)
        )
        contract = contracts.load(EVENTS)
        bad = self._bad(self.judged(values, job.run_id, "kafka", key, at=manifest.landed_at))
        quarantine.replace_open(self.spark, self.settings, bad, contract, manifest, len(values))
        ledger = LedgerCounts(read=len(values), quarantined=len(values))
        job.outcome.tables.append(TableOutcome(table=EVENTS, ledger=ledger))
        return self.done(job)

    def streamed(self, *values: bytes | None, key: bytes | None = b"k", offset: int = 100) -> str:
        """Events as the stream refuses them, headers included. Returns the stream's run."""
        run_id = new_run_id(NOON)
        judged = self.judged(values, run_id, STREAM_SOURCE, key, offset)
        append_once(
            dlq.refused(self._bad(judged), contracts.load(EVENTS)),
            self.settings.table_uri(dlq.TABLE),
            run_id,
            0,
            "",
        )
        return run_id

    def judged(
        self,
        values: Sequence[bytes | None],
        run_id: str,
        source: str,
        key: bytes | None,
        offset: int = 0,
        at: datetime = NOON,
    ) -> DataFrame:
        """Records as Spark's reader gives them, taken apart and judged."""
        rows = [
            ("orders", 0, offset + n, datetime(2026, 1, 1, 12, 0, 0, 7_000), key, value, [("h", b"\x00")])  # noqa: DTZ001  # Spark wants it in the session's zone
            for n, value in enumerate(values)
        ]
        frame = local_frame(
            self.spark,
            rows,
            "topic string, partition int, offset bigint, timestamp timestamp, key binary, value binary, "
            "headers array<struct<key:string,value:binary>>",
        )
        landed_at = F.lit(at.isoformat()).cast("timestamp")
        raw = records(frame, self.settings.sources.kafka.max_value_bytes).withColumns(
            {
                "_run_id": F.lit(run_id),
                "_source": F.lit(source),
                "_landed_at": landed_at,
                "ingest_date": F.to_date(landed_at),
            }
        )
        return rules.split(raw, contracts.load(EVENTS), keep=("headers", rules.FIELDS))

    @staticmethod
    def _bad(judged: DataFrame) -> DataFrame:
        return judged.where(F.size(rules.BROKEN) > 0)

    def certify(self, run_id: str, *tables: str) -> None:
        gate.gate(self.spark, self.settings, "bronze", run_id, tables, datetime.now(UTC))

    def replay(self, as_run: str | None = None, **request: Any) -> tuple[Replayed, ...]:
        """A replay as scripts/quarantine.py runs it, a day later."""
        job = self.job(JOB, as_run, at=NOON + timedelta(days=1))
        return replay(job, Request(by="anna", **request))

    def table(self, name: str) -> DataFrame:
        return read(self.spark, self.settings.table_uri(name))

    def rows(self, **selection: Any) -> list[Row]:
        """Where refused rows stand, in the order of their positions."""
        found = Selection(**selection).of(refused.rows(self.spark, self.settings))
        return found.orderBy("table_name", "run_id", "position").collect()

    def statuses(self, **selection: Any) -> list[str]:
        return [row["status"] for row in self.rows(**selection)]

    def balance(self, *runs: str) -> tuple[int, int, int, int, int]:
        """Quarantined, open, fixed, replayed and discarded rows of runs; they add up or the test fails."""
        log = refused.events(self.spark, self.settings)
        (each,) = refused.balances(log.where(F.col("run_id").isin(*runs)))
        assert each.holds
        return each.quarantined, each.open, each.fixed, each.replayed, each.discarded

    def ledger_differences(self) -> tuple[Violation, ...]:
        """Lines of the ledger that count other refused rows."""
        log = refused.events(self.spark, self.settings)
        return refused.ledger_differences(self.spark, self.settings, log)[1]

    def brought_back(self, table: str, *runs: str) -> list[Row]:
        """Certified rows of a table that runs had refused, by position."""
        certified = certification(self.job("look"), table).runs.values()
        origin = F.split("_position", "/", 2)
        rows = self.table(table).where(rows_of(certified)).where(F.size(origin) == 2)
        return rows.where(origin[0].isin(*runs)).orderBy("_position", "_run_id").collect()

    def fix(self, folder: Path, table: str, **parts: Any) -> Plan:
        """Apply a fix file; returns what it came to."""
        found = read_fix(str(write_fix(folder / "fix.yaml", table, **parts)))
        planned = fixing.plan(self.spark, self.settings, found)
        try:
            fixing.apply(self.settings, planned, by="anna", at=NOON)
        finally:
            planned.release()
        return planned


def write_fix(path: Path, table: str, **parts: Any) -> Path:
    """A fix file."""
    path.write_text(yaml.safe_dump({"table": table, "why": "agreed with the source", **parts}))
    return path
