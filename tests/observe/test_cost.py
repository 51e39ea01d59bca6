"""Cost: billed resources and scanned bytes, shared among tables, printed, and watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.flows import watch
from lakehouse.observe import cost
from lakehouse.observe.cost import Scanned
from lakehouse.settings import BudgetSettings, load_settings
from scripts import cost as script
from tests.observe.support import RUN, a_server, config_file
from tests.quality.support import make_settings
from tests.support import REPO, Aws, new_delta

PRICES = make_settings("s3://lake").prices
PRICED = PRICES.model_copy(update={"athena_tb_scanned": Decimal(5)})


def test_athena_is_billed_by_the_terabyte() -> None:
    asked = Scanned(queries=1, seconds=1, bytes=2 * 10**11, billed_bytes=2 * 10**11)
    assert asked.cost_usd(PRICED) == Decimal("1.000000")
    assert asked.cost_usd(PRICES) is None


class Athena:
    """Two pages of queries, the newest first: one that scanned nothing, one that failed, one of over ten megabytes."""

    def __init__(self, now: datetime) -> None:
        self._at = {str(index): now - timedelta(hours=index) for index in range(100)}

    def get_paginator(self, _: str) -> Athena:
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        ids = list(self._at)
        return [{"QueryExecutionIds": ids[:50]}, {"QueryExecutionIds": ids[50:]}]

    def batch_get_query_execution(self, QueryExecutionIds: list[str]) -> dict[str, Any]:
        return {
            "QueryExecutions": [
                {
                    "Status": {
                        "SubmissionDateTime": self._at[each],
                        "State": "FAILED" if each == "1" else "SUCCEEDED",
                    },
                    "Statistics": {
                        "DataScannedInBytes": {"0": 0, "2": 10_000_001}.get(each, 100),
                        "TotalExecutionTimeInMillis": 500,
                    },
                }
                for each in QueryExecutionIds
            ]
        }


def test_queries_of_the_time_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 1, 2, 6, tzinfo=UTC)
    monkeypatch.setattr(cost.boto3, "client", lambda *_, **__: Athena(now))
    found = cost.scanned(make_settings("s3://lake"), now - timedelta(days=1), now + timedelta(seconds=1))
    assert found == Scanned(
        queries=24, seconds=12.0, bytes=10_002_201, billed_bytes=22 * 10_000_000 + 11_000_000
    )
    assert cost.scanned(make_settings("s3://lake"), now + timedelta(days=1), now + timedelta(days=2)) is None


def test_an_athena_that_breaks_costs_nothing_but_a_line(
    aws: Aws, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    with a_server("breaks") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ATHENA", url)
        assert cost.scanned(make_settings(lake), now - timedelta(days=1), now) is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 50))))
def test_tables_share_all_that_their_job_cost(read: list[tuple[str, str, int]]) -> None:
    costs = {("run", "a"): Decimal("1.25"), ("run", "b"): Decimal("0.75")}
    shared = cost.by_table(costs, [("run", *row) for row in read])
    expected = sum((costs["run", job] for job in {job for job, _, _ in read}), Decimal(0))
    assert abs(sum(shared.values(), Decimal(0)) - expected) < Decimal("1e-20")
    assert all(usd >= 0 for usd in shared.values())


@pytest.mark.parametrize(("spent", "budget", "alarms"), [("5", "5", 0), ("5.01", "5", 1), ("5", None, 0)])
def test_more_than_the_budget_is_critical(spent: str, budget: str | None, alarms: int) -> None:
    found = watch.of_cost(Decimal(spent), None if budget is None else Decimal(budget))
    assert [each.severity for each in found] == ["critical"] * alarms
    assert all("5.01 USD in 24 hours, expected at most 5.00 USD" in str(each) for each in found)


@pytest.mark.parametrize("environment", ["local", "dev", "prod"])
def test_prices_say_where_and_when_and_the_budget_is_set(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (REPO / "config" / f"{environment}.yaml").read_text()
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)  # a local one is for local alone
    for name in {part.partition("}")[0] for part in text.split("${")[1:]}:
        value = "1" if name.endswith("PORT") else "batch" if name == "KAFKA_MODE" else "https://lake-1"
        monkeypatch.setenv(name, "lake-1" if name == "LAKE_BUCKET" else value)
    settings = load_settings(str(REPO / "config" / f"{environment}.yaml"))
    assert settings.prices.region
    assert datetime.fromisoformat(settings.prices.as_of)
    assert settings.prices.athena_tb_scanned
    assert settings.budget.daily_usd
    assert BudgetSettings().daily_usd is None


def test_make_cost(aws: Aws, lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_file(tmp_path, make_settings(lake))
    assert script.main(["--config", config]) == 0
    empty = capsys.readouterr()
    assert "no run has been recorded yet" in empty.out
    assert empty.err.startswith(f"cost: lake {lake}"), "each command says which lake it reads"
    options = {"allow_http": "true"}
    runs = [
        {
            "run_id": RUN,
            "job": job,
            "seconds": 2.0,
            "cost_usd": usd,
            "vcpu_hours": usd,
            "memory_gb_hours": usd,
        }
        for job, usd in (("bronze_to_silver", Decimal("0.750000")), ("a_gate", None))
    ]
    read = [
        {"run_id": RUN, "job": "bronze_to_silver", "table_name": name, "read": count, "generated": 0}
        for name, count in (("silver.orders", 2), ("silver.fx_rates", 1))
    ]
    new_delta(f"{lake}/ops/job_runs", pa.Table.from_pylist(runs), options)
    new_delta(f"{lake}/ops/row_ledger", pa.Table.from_pylist(read), options)
    assert script.main(["--config", config]) == 0
    out = capsys.readouterr().out
    assert f"{RUN}  0.750000 USD (1 of 2 jobs billed)" in out
    assert "not billed" in out
    assert " ".join(out.split()).count("silver.orders 0.500000 USD") == 1
