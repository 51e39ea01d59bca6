"""A run against the local Snowflake and S3: judged by what earlier runs measured, and measured for the next."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from dq_runner import history
from dq_runner.model import ColumnMeasure, Measures, TableName, Window
from dq_runner.report import Report, ResultRow
from dq_runner.runner import Settings, run
from lakehouse import store
from tests.services.dq_runner.conftest import AT, Snow, configured, place
from tests.support import Aws

NAME = TableName("SALES", "PUBLIC", "PAYMENTS")
PLATFORM = """
include: {databases: [SALES], schemas: [PUBLIC], tables: [PAYMENTS]}
date_column: {names: [LOADED_AT]}
conventions: {on: false}
metrics: {namespace: Lakehouse/Past}
anomalies:
  severity: critical
  incidents:
  - {table: SALES.PUBLIC.PAYMENTS, first: 2026-11-21, last: 2026-11-22, reason: the loader stood still}
"""
#: Rows of a day before, all with an id, half of them without a note.
USUAL = 40


def seed(bucket: str) -> None:
    """Eight weeks before the day of AT's run, and the two days that were an incident."""
    for number in range(1, 57):
        day = datetime(2026, 11, 28, tzinfo=UTC) - timedelta(days=number)
        rows = 0 if number in (6, 7) else USUAL
        columns = {"ID": ColumnMeasure(0, rows), "NOTE": ColumnMeasure(rows // 2, min(rows, 2))}
        newest = day + timedelta(hours=23, minutes=50) if rows else None
        measures = Measures(NAME, Window(day, day + timedelta(days=1)), rows, newest, columns)
        history.write(bucket, f"run-{day:%Y%m%d}", day + timedelta(hours=30), [measures])


def load(snow: Snow, day: date, *, notes: bool = True) -> None:
    rows = ", ".join(
        f"('{day}-{number}', {'NULL' if number % 2 or not notes else repr('x')}, '{day} 23:{number:02}:00')"
        for number in range(USUAL)
    )
    snow.do(f"INSERT INTO SALES.PUBLIC.PAYMENTS VALUES {rows}")


def anomalies(report: Report) -> dict[str, ResultRow]:
    return {row.rule: row for row in report.results if row.origin == "history"}


@pytest.fixture
def settings(snow: Snow, signed_in: dict[str, str], reports: str, aws: Aws) -> Settings:
    snow.table("PAYMENTS", columns="ID VARCHAR, NOTE VARCHAR, LOADED_AT TIMESTAMP_NTZ")
    seed(reports)
    return Settings(place(snow), reports, aws.client("sns").create_topic(Name=reports)["TopicArn"])


def test_days_are_judged_measured_and_told_of(
    snow: Snow, settings: Settings, reports: str, aws: Aws, tmp_path: Path
) -> None:
    config = configured(tmp_path, PLATFORM)
    store.put(f"s3://{reports}/reports/measures/2026-11-20/bad.json", b"{")
    load(snow, date(2026, 11, 28))

    first = run(config, settings, at=AT, run_id="run-1")
    found = anomalies(first)
    assert {rule: row.status for rule, row in found.items()} == {
        "volume_anomaly": "passed",
        "freshness_anomaly": "passed",
        "null_share_anomaly(ID)": "passed",
        "null_share_anomaly(NOTE)": "passed",
        "null_share_anomaly(LOADED_AT)": "no_history",
        "distinct_share_anomaly(ID)": "passed",
        "distinct_share_anomaly(NOTE)": "passed",
    }
    assert found["volume_anomaly"].observed == "40 rows"
    assert found["volume_anomaly"].expected.endswith("on a Saturday (7 Saturdays)"), (
        "the incident is left out"
    )
    assert found["volume_anomaly"].query_id
    assert found["volume_anomaly"].sql == "", "of what holds the statement is not repeated"
    assert any("bad.json is left out" in note for note in first.run.notes)
    assert first.run.account == "local"

    second = run(config, settings, at=AT + timedelta(days=1), run_id="run-2")
    broken = [row for row in anomalies(second).values() if row.status == "failed"]
    assert {(row.rule, row.observed, row.new) for row in broken} == {
        ("volume_anomaly", "0 rows", True),
        ("freshness_anomaly", "no row in the window", True),
    }
    series = history.past(reports, date(2026, 11, 30)).of(NAME, 86_400)
    assert (series[date(2026, 11, 28)].rows, series[date(2026, 11, 29)].rows) == (USUAL, 0)
    assert series[date(2026, 11, 28)].columns["NOTE"] == (20, 1)

    notices = [
        json.loads(body) for body in store.get_many(list(store.keys(f"s3://{reports}/reports/notices/")))
    ]
    assert notices == [
        {"run_id": "run-1", "alarms": 0, "sent": False},
        {"run_id": "run-2", "alarms": 2, "sent": True},
    ]
    event = store.get(f"s3://{reports}/reports/lineage/2026-11-30/run-2.json")
    assert event is not None
    [table] = json.loads(event)["inputs"]
    assert (table["namespace"], table["name"]) == ("snowflake://local", str(NAME))
    told = aws.client("cloudwatch").get_metric_statistics(
        Namespace="Lakehouse/Past",
        MetricName="CriticalFailures",
        StartTime=AT,
        EndTime=AT + timedelta(days=2),
        Period=60,
        Statistics=["Sum"],
    )
    assert sorted(point["Sum"] for point in told["Datapoints"]) == [0, 2]


def test_a_column_that_lost_its_values_is_found(
    snow: Snow, settings: Settings, reports: str, tmp_path: Path
) -> None:
    load(snow, date(2026, 11, 28), notes=False)
    found = anomalies(run(configured(tmp_path, PLATFORM), settings, at=AT, run_id="run-1"))
    row = found["null_share_anomaly(NOTE)"]
    assert (row.status, row.observed, row.value) == ("failed", "100% null", 1)
    assert found["distinct_share_anomaly(NOTE)"].status == "skipped", "of no value there is no share"
    assert found["volume_anomaly"].status == "passed"
