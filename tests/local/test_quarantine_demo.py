"""The parts of `make quarantine-demo` that can be wrong without a lake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lakehouse.quality.fixes import Fix, read_fix, reasons_of, source_fields
from local import quarantine_demo
from local.quarantine_demo import ORDERS_FIX, SHIPMENTS, Stopped, berlin, command


def test_its_fix_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(yaml.safe_dump(ORDERS_FIX))
    fix = read_fix(str(path))
    assert isinstance(fix, Fix)
    for reason, fields in fix.expressions.items():
        assert reason in reasons_of(fix.contract)
        assert set(fields) <= set(source_fields(fix.contract))


def test_a_time_that_was_twice_gets_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "shipments.yaml"
    rows = [
        {
            "run_id": "r",
            "position": str(n),
            "reasons": [f"{reason}: x"],
            "received": {"shipped_local": "2026-10-25 02:30:00"},
            "set": {},
        }
        for n, reason in enumerate(("shipped_at_parses", "status_known"))
    ]
    path.write_text(yaml.safe_dump({"table": SHIPMENTS, "why": None, "rows": rows}))
    assert berlin(path) == 1
    (patch,) = read_fix(str(path)).rows
    assert patch.set == {"shipped_local": "2026-10-25T02:30:00+02:00"}


def test_a_command_that_fails_ends_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quarantine_demo, "REPO", tmp_path)
    with pytest.raises(Stopped, match=r"scripts/quarantine.py list ended with exit code 2"):
        command("list")
