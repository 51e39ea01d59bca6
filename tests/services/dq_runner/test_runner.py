"""A run from discovery to its report, against the local Snowflake."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from dq_runner.report import LATEST, Report
from dq_runner.runner import Asked, Settings, run
from lakehouse import store
from lakehouse.errors import UsageError
from tests.services.dq_runner.conftest import AT, PLATFORM, Runs, Snow, configured, place, rows_of

RULES = """
tables:
  - table: SALES.PUBLIC.GOODS
    rules:
      - {kind: not_null, columns: [ID], severity: critical}
      - {kind: range, columns: [AMOUNT], min: 0, severity: critical}
"""


def test_a_run_finds_tables_checks_them_and_counts_what_it_asked(snow: Snow, checked: Runs) -> None:
    snow.table(
        "GOODS",
        "('a', 1, '2026-11-28 10:00:00')",
        "(NULL, -2, '2026-11-28 11:00:00')",
        "('c', -1, '2026-11-27')",
    )
    snow.table("OTHERS", "('a', 1, '2026-11-28 10:00:00')")
    report = checked(rules=RULES)
    assert report.run.status == "failed"
    assert [(row.table, row.rows) for row in report.tables] == [("GOODS", 2), ("OTHERS", 1)]
    failed = {row.rule: row.failed_rows for row in rows_of(report, "GOODS", "failed")}
    assert failed == {"not_null(ID)": 1, "range(AMOUNT)": 1}
    # Databases, one INFORMATION_SCHEMA, one for which tables are active, and one scan a table.
    assert (report.run.queries, report.run.scans) == (5, 3)
    assert [(row.queries, row.scans) for row in report.tables] == [(1, 1), (1, 1)]
    asked = snow.asked("a-run")
    assert len(asked) == report.run.queries
    assert {query["tag"]["table"] for query in asked} >= {"SALES.PUBLIC.GOODS", "SALES.PUBLIC.OTHERS"}
    assert report.run.started_at == AT
    assert Decimal(0) < sum(row.credits for row in report.tables) <= report.run.credits


def test_a_day_that_is_yet_to_come_has_nothing_to_hold(snow: Snow, checked: Runs) -> None:
    with pytest.raises(UsageError, match=r"received the day 2026-11-30, expected 2026-11-29 \(UTC\)"):
        checked(asked=Asked(day=date(2026, 11, 30)))
    assert snow.asked("a-run") == []


def test_rules_of_a_table_that_the_settings_leave_out_are_no_pass(snow: Snow, checked: Runs) -> None:
    snow.table("TMP_GOODS", "('a', 1, '2026-11-28 10:00:00')")
    snow.do("CREATE VIEW SALES.PUBLIC.GOODS AS SELECT * FROM SALES.PUBLIC.TMP_GOODS")
    rules = RULES + "  - {table: SALES.PUBLIC.TMP_GOODS, rules: [{kind: row_count, min: 1}]}\n"
    platform = PLATFORM + 'exclude: {tables: ["TMP_*"]}\n'
    report = checked(platform, rules)
    assert report.run.status == "incomplete"
    said = {(row.table, row.rule): row.message for row in report.results if row.status == "error"}
    assert set(said) == {
        ("GOODS", "not_null(ID)"),
        ("GOODS", "range(AMOUNT)"),
        ("TMP_GOODS", "row_count()"),
    }
    assert all("have config/dq_platform.yaml include the table" in words for words in said.values())
    assert not rows_of(checked(platform + "views: true\n", RULES), "GOODS", "error")


def test_a_statement_is_in_the_report_where_somebody_has_to_look_into_it(snow: Snow, checked: Runs) -> None:
    snow.table("GOODS", "(NULL, 1, '2026-11-28 10:00:00')")
    rows = rows_of(checked(rules=RULES), "GOODS")
    assert {row.rule for row in rows if row.sql} == {"not_null(ID)"}
    assert all(row.query_id for row in rows if row.kind != "active")


def test_a_table_that_falls_silent_stays_a_finding_until_it_has_rows_again(
    snow: Snow, signed_in: dict[str, str], reports: str, tmp_path: Path
) -> None:
    snow.table("FEED", "('a', 1, '2026-10-01 10:00:00')")
    snow.table("DROPPED", "('a', 1, '2026-10-01 10:00:00')")
    config = configured(tmp_path, PLATFORM + "metrics: {on: false}\nlineage: {on: false}\n")
    settings = Settings(place(snow), bucket=reports)

    def day(number: int, month: int = 11) -> dict[str, tuple[str, bool]]:
        at = datetime(2026, month, number, 6, tzinfo=UTC)
        found = run(config, settings, at=at, run_id=f"run-{month}-{number:02}")
        return {row.table: (row.status, row.new) for row in found.results if row.kind == "active"}

    assert day(2, 10) == {"FEED": ("passed", False), "DROPPED": ("passed", False)}
    assert day(30, 10) == {"FEED": ("passed", False), "DROPPED": ("passed", False)}
    snow.do("DROP TABLE SALES.PUBLIC.DROPPED")
    assert day(2) == {"FEED": ("failed", True), "DROPPED": ("failed", True)}
    assert day(3) == {"FEED": ("failed", False), "DROPPED": ("failed", False)}
    # Longer ago than history goes: the report before still knows.
    assert day(2, 12)["FEED"] == ("failed", False)
    snow.do("INSERT INTO SALES.PUBLIC.FEED VALUES ('b', 1, '2026-12-02 10:00:00')")
    assert day(3, 12)["FEED"] == ("passed", False)


def test_a_muted_failure_is_reported_and_breaks_nothing(snow: Snow, checked: Runs, tmp_path: Path) -> None:
    snow.table("GOODS", "('a', -1, '2026-11-28 10:00:00')")
    configured(tmp_path, rules=RULES)
    (tmp_path / "config" / "dq_mutes.yaml").write_text(
        "mutes: [{table: SALES.PUBLIC.GOODS, rule: range(AMOUNT), reason: refunds are known, until: 2026-11-29}]\n"
    )
    today, tomorrow = (
        checked(rules=RULES),
        checked(rules=RULES, at=AT + timedelta(days=1), asked=Asked(whole=True)),
    )
    assert (today.run.status, today.summary.counts.failed, today.summary.counts.muted) == ("passed", 1, 1)
    assert tomorrow.run.status == "failed"


def test_a_day_is_asked_for_or_everything(snow: Snow, checked: Runs) -> None:
    snow.table(
        "GOODS",
        "('a', 1, '2026-11-03 00:00:00')",
        "('b', 1, '2026-11-03 23:59:59')",
        "('c', 1, '2026-11-28')",
    )
    by_day = checked(asked=Asked(day=date(2026, 11, 3)))
    assert [(row.rows, str(row.window_from)) for row in by_day.tables] == [(2, "2026-11-03 00:00:00+00:00")]
    assert [(row.rows, row.window_from) for row in checked(asked=Asked(whole=True)).tables] == [(3, None)]


@pytest.mark.parametrize(
    "asked",
    [Asked(tables=("GOODS",)), Asked(day=date(2026, 11, 3)), Asked(day=date(2026, 11, 29))],
    ids=["a part of the tables", "an earlier day", "today"],
)
def test_what_would_pass_for_the_latest_report_is_not_published(
    asked: Asked, snow: Snow, signed_in: dict[str, str], reports: str, tmp_path: Path
) -> None:
    snow.table("GOODS", "('a', 1, '2026-11-28 10:00:00')")
    settings = Settings(place(snow), bucket=reports)
    assert run(configured(tmp_path), settings, at=AT, run_id="a-part", asked=asked).summary.tables == 1
    assert list(store.keys(f"s3://{reports}/")) == []


def test_two_runners_at_once_leave_one_report(
    snow: Snow, signed_in: dict[str, str], reports: str, tmp_path: Path
) -> None:
    """An event that is delivered twice; and beside it a run of its own, whose report is kept as well."""
    snow.table("GOODS", "(NULL, 1, '2026-11-28 10:00:00')")
    config = configured(tmp_path, PLATFORM + "metrics: {on: false}\nlineage: {on: false}\n", RULES)
    settings = Settings(place(snow), bucket=reports)
    with ThreadPoolExecutor(3) as pool:
        ids = ["run-1", "run-1", "run-2"]
        first, again, other = pool.map(lambda one: run(config, settings, at=AT, run_id=one), ids)
    assert first == again
    assert first.run.run_id != other.run.run_id
    kept = [uri.rpartition("/")[2] for uri in store.keys(f"s3://{reports}/reports/history/")]
    assert kept == ["run-1.json", "run-2.json"]
    latest = Report.model_validate_json(store.get(f"s3://{reports}/{LATEST}") or b"")
    assert latest == other
