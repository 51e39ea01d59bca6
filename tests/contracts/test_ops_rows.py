"""Rows of ops tables are made by name: each has the columns of its contract, in whatever order these are."""

from __future__ import annotations

from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

from lakehouse import contracts
from lakehouse.flows import emit, reconcile, watch
from lakehouse.flows.recovery import base

pytestmark = pytest.mark.usefixtures("spark")

NOW = datetime(2025, 3, 1, tzinfo=UTC)


def written(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[dict[str, Any]]:
    """The rows that a module makes a frame of from now on; nothing is stored."""
    rows: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "local_frame", lambda _spark, made, _fields: rows.extend(made))
    for store in ("replace_where", "insert_new"):
        monkeypatch.setattr(module, store, lambda *_: None, raising=False)
    return rows


def columns(table: str) -> set[str]:
    return set(contracts.load(table).column_names)


def test_outcomes() -> None:
    outcome = Mock(tables=[Mock()])
    assert [set(row) for row in emit.ledger_rows(outcome)] == [columns("ops.row_ledger")]
    assert set(emit.job_row(Mock(), outcome, None)) == columns("ops.job_runs")
    assert set(emit.athena_row(Mock(), Mock(), NOW, NOW)) == columns("ops.job_runs")


def test_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = written(monkeypatch, watch)
    watch.write(Mock(), [Mock()], NOW)
    assert [set(row) for row in rows] == [columns("ops.watch_findings")]


def test_reconciliations(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = written(monkeypatch, reconcile)
    reconcile._write(Mock(), [Mock()])
    assert [set(row) for row in rows] == [columns("ops.reconciliations")]


def test_recoveries(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = written(monkeypatch, base)
    base._log(Mock(done=[Mock()]))
    assert [set(row) for row in rows] == [columns("ops.recovery_log")]
