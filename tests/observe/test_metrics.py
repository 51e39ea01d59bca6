"""What CloudWatch is told, in calls that it takes, and that a job does not care whether it listens."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import cli
from lakehouse.errors import GateFailed
from lakehouse.observe import metrics, outcome
from lakehouse.observe.metrics import Metric
from lakehouse.observe.outcome import LedgerCounts, TableOutcome, VerdictReference
from tests.observe.support import RUN, a_server, an_outcome, config_file
from tests.quality.support import make_settings
from tests.support import Aws

AT = datetime(2026, 1, 2, tzinfo=UTC)


def values(found: list[Metric]) -> dict[tuple[str, str], float]:
    return {(metric.name, metric.dimensions[-1][1]): metric.value for metric in found}


def test_what_an_outcome_tells() -> None:
    ledger = LedgerCounts(read=20, inserted=7, updated=2, quarantined=5, duplicates=6)
    verdicts = [VerdictReference(table="silver.orders", outcome="failed", uri="s3://lake/v.json")]
    tables = [TableOutcome(table="silver.orders", ledger=ledger), TableOutcome(table="silver.fx_rates")]
    told = an_outcome("a_job", "failed", tables=tables, verdicts=verdicts)
    found = values(metrics.metrics_of([told], "prod"))
    assert found["Seconds", "a_job"] == 12
    assert found["Failures", "a_job"] == found["GateFailures", "silver.orders"] == 1
    rows = {
        name: found[f"Rows{name}", "silver.orders"]
        for name in ("Read", "Written", "Quarantined", "Duplicates")
    }
    assert rows == {"Read": 20, "Written": 9, "Quarantined": 5, "Duplicates": 6}
    assert ("RowsRead", "silver.fx_rates") not in found


def test_age_and_cost() -> None:
    [age] = metrics.freshness({"gold.dim_fx": 60.0}, "prod", AT)
    [usd] = metrics.cost({"a_job": Decimal("0.012345")}, "prod", AT)
    assert (age.name, age.unit, age.value) == ("Freshness", "Seconds", 60)
    assert (usd.name, usd.value, usd.dimensions) == (
        "Cost",
        0.012345,
        (("Environment", "prod"), ("Job", "a_job")),
    )


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 2500), length=st.integers(1, 250), dimensions=st.integers(1, 10))
def test_every_call_is_one_that_cloudwatch_takes(count: int, length: int, dimensions: int) -> None:
    named = tuple((f"D{index}", "x" * length) for index in range(dimensions))
    given = [Metric("M", float(number), "Count", named, AT) for number in range(count)]
    calls = list(metrics.batches(given))
    assert [datum["Value"] for call in calls for datum in call] == [metric.value for metric in given]
    assert all(0 < len(call) <= 1000 for call in calls)
    assert all(len(str(call)) < 1_000_000 for call in calls)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_left_out(value: float) -> None:
    assert list(metrics.batches([Metric("M", value, "None", (), AT)])) == []


def test_they_arrive(aws: Aws, lake: str) -> None:
    here = make_settings(lake, metrics={"namespace": lake})
    assert metrics.send(here, metrics.metrics_of([an_outcome()], "local")) is None
    listed = aws.client("cloudwatch").list_metrics(Namespace=lake)["Metrics"]
    assert {"RowsRead", "RowsWritten", "Seconds", "Failures"} <= {each["MetricName"] for each in listed}


@pytest.mark.parametrize("behaviour", ["hangs", "drips", "breaks"])
def test_an_endpoint_that_misbehaves_is_said_and_holds_up_nobody(
    behaviour: Any, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = metrics.metrics_of([an_outcome()], "local")
    with a_server(behaviour) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", url)
        begun = time.monotonic()
        problem = metrics.send(make_settings(lake), told)
        took = time.monotonic() - begun
    assert problem is not None
    assert problem.startswith("metrics were not sent: ")
    assert took < 20


def failing(job: cli.Job) -> None:
    job.outcome.verdicts.append(
        VerdictReference(table="silver.orders", outcome="failed", uri="s3://lake/no.json")
    )
    raise GateFailed("no")


def run(folder: Path, lake: str, story: Any) -> tuple[int, outcome.Outcome]:
    here = make_settings(lake, metrics={"namespace": lake}, openlineage={"transport": "none"})
    arguments: argparse.Namespace = cli.parser("a_gate", "").parse_args(
        ["--config", config_file(folder, here), "--run-id", RUN]
    )
    code = cli.run("a_gate", story, arguments)
    found = outcome.read(here, RUN, "a_gate")
    assert found is not None
    return code, found


def test_a_gate_that_fails_tells_it_itself_for_nothing_runs_after_it(
    aws: Aws, lake: str, tmp_path: Path
) -> None:
    assert run(tmp_path, lake, failing)[0] == 11
    listed = aws.client("cloudwatch").list_metrics(Namespace=lake)["Metrics"]
    assert {"GateFailures", "Failures"} <= {each["MetricName"] for each in listed}


def test_a_failure_stays_what_it_is_where_metrics_hang(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_server("hangs") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", url)
        code, found = run(tmp_path, lake, failing)
    assert code == 11
    assert found.error is not None
    assert found.error.code == "GATE_FAILED"
    assert [note for note in found.notes if note.startswith("metrics were not sent")]
