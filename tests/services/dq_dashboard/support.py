"""Reports, verdicts and a storage without S3 for the tests of the page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from streamlit.testing.v1 import AppTest

from dq_dashboard.storage import Head, Stored
from dq_runner.report import HISTORY, LATEST, ORDER, Counts, Report, ResultRow, Run, Summary, TableRow
from lakehouse.errors import LakehouseError

REPORTS, LAKE = "dq-reports", "lake"
#: Opens the page with these query parameters, and runs it.
Page = Callable[..., AppTest]


def row(number: int = 0, **changes: Any) -> ResultRow:
    """A test that held, of table ``SHOP.SALES.T<number>``."""
    values: dict[str, Any] = {
        "timestamp": datetime(2026, 11, 29, 6, tzinfo=UTC),
        "database": "SHOP",
        "schema": "SALES",
        "table": f"T{number}",
        "column": "AMOUNT",
        "rule": "range(AMOUNT)",
        "kind": "range",
        "origin": "convention",
        "status": "passed",
        "severity": "warning",
        "observed": "0 of 100 rows",
        "expected": "at least 0",
        "rows": 100,
        "failed_rows": 0,
        "share": Decimal(0),
        "value": 0.0,
        "query_id": f"01b{number}",
        "seconds": 0.5,
        "sql": 'SELECT COUNT(CASE WHEN "AMOUNT" < 0 THEN 1 END) FROM "SHOP"."SALES"."T0"',
        "owner": "sales-data@example.com",
        "fix": "Ask the shop's team which import wrote the rows.",
    }
    return ResultRow.model_validate(values | changes)


def failed(number: int = 0, **changes: Any) -> ResultRow:
    values = {"status": "failed", "observed": "7 of 100 rows", "failed_rows": 7, "share": Decimal("0.07")}
    return row(number, **(values | {"value": 0.07} | changes))


def report(rows: Sequence[ResultRow], at: datetime, **run: Any) -> Report:
    """A report of a run that began at a time; rows in the order of the format."""
    ordered = sorted(rows, key=lambda one: ORDER.index(one.status))
    numbers = dict.fromkeys(Counts.model_fields, 0)
    for one in ordered:
        numbers[one.status] += 1
        alarms = one.status == "failed" and one.severity == "critical" and one.muted is None
        numbers["critical"] += alarms
        numbers["muted"] += one.status == "failed" and one.muted is not None
    counts = Counts(**numbers)
    return Report(
        run=Run(
            **{
                "run_id": f"{at:%Y%m%dT%H%M%SZ}-test",
                "started_at": at,
                "finished_at": at + timedelta(minutes=3),
                "status": "failed" if counts.critical else "passed",
                "warehouse": "DQ_WH",
                "queries": 3,
                "scans": 1,
                "seconds": 4.5,
                "credits": Decimal("0.0125"),
            }
            | run
        ),
        summary=Summary(
            tables=len({one.table_name for one in ordered}),
            results=len(ordered),
            counts=counts,
            new_failures=sum(one.new for one in ordered),
        ),
        tables=tuple(_table(name, ordered) for name in sorted({one.table for one in ordered})[:300]),
        results=tuple(ordered),
    )


def _table(name: str, rows: Sequence[ResultRow]) -> TableRow:
    return TableRow.model_validate(
        {
            "database": "SHOP",
            "schema": "SALES",
            "table": name,
            "kind": "table",
            "window_from": None,
            "window_to": None,
            "date_column": "LOADED_AT",
            "rows": 100,
            "counts": Counts(),
            "queries": 1,
            "scans": 1,
            "seconds": 0.5,
            "credits": Decimal("0.001"),
        }
    )


def history_key(of: Report) -> str:
    return f"{HISTORY}/{of.run.started_at:%Y-%m-%d}/{of.run.run_id}.json"


def verdict_object(
    table: str, at: datetime, rules: Iterable[dict[str, Any]] = (), **changes: Any
) -> tuple[str, bytes]:
    """Key and bytes of a verdict as a gate writes it."""
    rules = list(rules)
    identifier = f"{abs(hash((table, at))):032x}"
    content = {
        "verdict_id": identifier,
        "table": table,
        "layer": table.split(".")[0],
        "run_id": f"{at:%Y%m%dT%H%M%SZ}-gate",
        "table_id": "T",
        "version": 1,
        "outcome": "passed" if all(rule["passed"] for rule in rules) else "failed",
        "contract_version": "1.0.0",
        "contract_hash": "c",
        "rules_hash": "r",
        "rows": 50,
        "rules": rules,
        "created_at": at.isoformat(),
    } | changes
    stamp = f"{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"
    return f"gold/quality/{table}/{stamp}-{identifier[:8]}.json", json.dumps(content, indent=1).encode()


def rule(name: str = "amount_not_negative", *, passed: bool = True, **changes: Any) -> dict[str, Any]:
    observed = "0 of 50 rows" if passed else "3 of 50 rows"
    values = {
        "name": name,
        "severity": "critical",
        "passed": passed,
        "observed": observed,
        "expected": "none",
    }
    return values | changes


@dataclass
class Memory:
    """Storage without S3: objects by bucket and key. ``error`` is raised by every call, ``seconds`` each one takes."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    error: LakehouseError | None = None
    broken_buckets: frozenset[str] = frozenset()
    seconds: float = 0.0
    calls: list[tuple[str, str]] = field(default_factory=list)

    def _answer(self, bucket: str, what: str) -> None:
        self.calls.append((bucket, what))
        time.sleep(self.seconds)
        if self.error is not None and (not self.broken_buckets or bucket in self.broken_buckets):
            raise self.error

    def head(self, bucket: str, key: str, size: int) -> Head | None:
        self._answer(bucket, key)
        body = self.objects.get((bucket, key))
        if body is None:
            return None
        return Head(body[:size], len(body))

    def keys(self, bucket: str, prefix: str, after: str = "") -> list[Stored]:
        self._answer(bucket, prefix)
        return [
            Stored(key, f'"{hash(body)}"', len(body))
            for (held, key), body in sorted(self.objects.items())
            if held == bucket and key.startswith(prefix) and key > after
        ]

    def folders(self, bucket: str, prefix: str) -> list[str]:
        found = {one.key[len(prefix) :].split("/")[0] for one in self.keys(bucket, prefix)}
        return sorted(found)

    def add(self, of: Report, *, latest: bool = True) -> None:
        """A report as the runner publishes it."""
        self.objects[REPORTS, history_key(of)] = of.to_json()
        if latest:
            self.objects[REPORTS, LATEST] = of.to_json()

    def judge(self, table: str, at: datetime, rules: Iterable[dict[str, Any]] = (), **changes: Any) -> None:
        key, body = verdict_object(table, at, rules, **changes)
        self.objects[LAKE, key] = body
