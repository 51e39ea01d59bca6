"""OpenLineage: one event a run, by its schema, with the words of the lakehouse's own events."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from typing import Any

import pytest

from dq_runner import lineage
from dq_runner.report import Report
from lakehouse import store
from lakehouse.observe import lineage as lakehouse_lineage
from tests.observe.support import problems
from tests.services.dq_runner.reports import AT, report, row
from tests.support import REPO


def made(results: list[Any]) -> dict[str, Any]:
    from openlineage.client.serde import Serde

    given = report("20261129T060000Z-1", results)
    run = given.run.model_copy(update={"account": "myorg-dq"})
    found: dict[str, Any] = json.loads(Serde.to_json(lineage.event(_with(given, run), "lakehouse")))
    return found


def _with(given: Report, run: Any) -> Report:
    return given.model_copy(update={"run": run})


def test_the_words_are_the_lakehouse_s() -> None:
    assert lineage.PRODUCER == lakehouse_lineage.PRODUCER
    assert lineage.SEVERITY == lakehouse_lineage._SEVERITY
    assert lineage.RUNS == lakehouse_lineage._NAMESPACE


def test_assertions_are_of_each_table() -> None:
    event = made(
        [
            row("unique(ID)"),
            row("not_null(A, B)", "passed", column="A, B", severity="warning", table="ITEMS"),
            row("row_count", "passed", column="", table="ITEMS"),
            row("range(X)", "error"),
            row("volume_anomaly", "no_history"),
        ]
    )
    items, orders = event["inputs"]
    assert (orders["namespace"], orders["name"]) == ("snowflake://myorg-dq", "SALES.PUBLIC.ORDERS")
    facet = orders["inputFacets"]["dataQualityAssertions"]
    assert facet["_producer"] == "urn:lakehouse"
    [assertion] = facet["assertions"]
    assert {name: value for name, value in assertion.items() if value} == {
        "assertion": "not_null",
        "column": "ID",
        "severity": "error",
        "name": "unique(ID)",
        "expected": "none",
        "actual": "14 rows",
    }
    assert assertion["success"] is False
    found = items["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(each["name"], each.get("column"), each["severity"], each["success"]) for each in found] == [
        ("not_null(A, B)", None, "warn", True),
        ("row_count", None, "error", True),
    ]


@pytest.mark.parametrize("results", [[], [row()], [row("a", "passed", column=""), row("b", "error")]])
def test_events_hold_to_the_official_schemas(results: list[Any]) -> None:
    assert problems(made(results)) == []


def test_the_event_of_a_run() -> None:
    event = made([row()])
    assert event["eventType"] == "COMPLETE", "the run did its work"
    assert event["job"]["namespace"] == "lakehouse"
    assert event["job"]["name"] == "dq-platform-runner"
    assert event["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-11-29T06:00:00.000Z"
    assert event["run"]["facets"]["tags"]["tags"][0]["value"] == "20261129T060000Z-1"
    assert event == made([row()]), "another try makes the same"
    assert made([row("checked", "error")])["eventType"] == "FAIL"


def test_an_event_lies_beside_the_report(lake: str) -> None:
    bucket = lake.removeprefix("s3://")
    assert lineage.write(report("run-1", [row()]), bucket, "lakehouse") is None
    body = store.get(f"{lake}/reports/lineage/2026-11-29/run-1.json")
    assert body is not None
    assert datetime.fromisoformat(json.loads(body)["eventTime"]) > AT


def test_what_fails_is_told_and_raises_nothing(lake: str) -> None:
    problem = lineage.write(report("run-1", [row()]), "no-such-bucket-of-ours", "lakehouse")
    assert problem is not None
    assert problem.startswith("lineage was not written: NoSuchBucket")


def test_a_cold_start_does_not_wait_for_it() -> None:
    code = "import sys, dq_runner.lineage; sys.exit('openlineage' in sys.modules)"
    path = f"{REPO / 'src'}:{REPO / 'services'}"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, timeout=60).returncode == 0


@pytest.mark.parametrize("count", [0, 2])
def test_events_of_any_size(count: int) -> None:
    assert len(made([row(f"r{n}", table=f"T{n}") for n in range(count)])["inputs"]) == count
