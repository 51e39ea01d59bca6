"""`make query Q=name`: what is printed of a named query."""

from __future__ import annotations

import json

import pytest

from local import query
from local.stack import Stack


@pytest.fixture(autouse=True)
def _current(lakehouse: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_STATE_DIR", str(lakehouse.state))


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, *arguments: str
) -> list[str]:
    monkeypatch.setattr("sys.argv", ["query", "--name", name, *arguments])
    assert query.main() == 0
    return capsys.readouterr().out.splitlines()


def test_as_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(monkeypatch, capsys, "revenue_by_currency")
    assert lines[0].split() == [
        "currency", "orders", "amount_native", "usd", "lowest_rate", "highest_rate",
    ]  # fmt: skip
    assert lines[2].split()[:4] == ["EUR", "4", "193.33", "217.66"]
    assert lines[-1].startswith("(3 rows, ")


def test_as_csv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(monkeypatch, capsys, "unpriced_orders", "--format", "csv") == [
        "order_date,currency,orders,amount_native,latest_quote",
        "2026-02-03,JPY,1,1000.00,2026-01-27",
    ]


def test_as_json_null_is_null(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (_, _, yen) = json.loads(
        "\n".join(printed(monkeypatch, capsys, "revenue_by_currency", "--format", "json"))
    )
    assert (yen["currency"], yen["orders"], yen["usd"]) == ("JPY", 1, None)
