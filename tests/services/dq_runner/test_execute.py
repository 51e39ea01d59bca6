"""Bad weather while tables are checked, against the local Snowflake: what fails is reported, and stops nothing else."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from dq_runner import execute as execution
from dq_runner import session
from dq_runner.report import Report
from dq_runner.session import NoWarehouse
from lakehouse import snowflake as library
from lakehouse.errors import CredentialsError, SourceUnavailable
from tests.services.dq_runner.conftest import PLATFORM, Runs, Snow, rows_of

ROW = "('a', 1, '2026-11-28')"
ONE_WORKER = PLATFORM + "limits: {workers: 1}\n"


@pytest.fixture(autouse=True)
def _little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "GRACE_SECONDS", 1)


def of_checks(report: Report) -> dict[str, str]:
    """By table: passed, or the code and status of what it was told instead."""
    return {
        row.table: row.message if row.kind == "checked" else "passed"
        for row in sorted(report.results, key=lambda one: one.kind == "checked")
    }


def test_tables_that_hang_are_dropped_or_break_the_connection_stop_no_other(
    snow: Snow, checked: Runs
) -> None:
    for name in ("A_GOOD", "B_HANGS", "C_BREAKS", "D_DROPPED", "E_SUSPENDED_ONCE", "Z_GOOD"):
        snow.table(name, ROW)
    scan = r"COUNT\(\*\)[\s\S]*"
    snow.admin.fault(match=scan + "B_HANGS", kind="slow", delay_s=60, times=0)
    snow.admin.fault(match=scan + "C_BREAKS", kind="drop", times=0)

    def drop(one: Any) -> None:
        if one.table.name.name == "A_GOOD":
            snow.do("DROP TABLE SALES.PUBLIC.D_DROPPED")

    platform = PLATFORM + "limits: {workers: 1, statement_seconds: 3}\n"
    report = checked(platform, tell=drop)
    said = of_checks(report)
    assert said["A_GOOD"] == said["Z_GOOD"] == said["E_SUSPENDED_ONCE"] == "passed"
    assert "630 (57014)" in said["B_HANGS"]
    assert "limits.statement_seconds" in said["B_HANGS"]
    assert "2003 (42S02)" in said["D_DROPPED"]
    assert "dropped or renamed meanwhile" in said["D_DROPPED"]
    assert "expected an answer" in said["C_BREAKS"]
    assert (report.run.status, report.summary.counts.error) == ("incomplete", 3)
    [hung] = rows_of(report, "B_HANGS", "error")
    assert hung.query_id in {query["query_id"] for query in snow.asked("a-run") if query["error"] == "000630"}


def test_a_rule_whose_own_query_fails_fails_no_other(snow: Snow, checked: Runs) -> None:
    snow.table("GOODS", ROW)
    rules = """
tables:
  - table: SALES.PUBLIC.GOODS
    rules:
      - {kind: custom_sql, name: broken, sql: "SELECT NO_SUCH_COLUMN FROM {table}"}
      - {kind: not_null, columns: [AMOUNT]}
"""
    report = checked(rules=rules)
    [broken] = rows_of(report, "GOODS", "error")
    assert broken.rule == "broken"
    assert "904" in broken.message
    assert "not_null(AMOUNT)" in {row.rule for row in rows_of(report, "GOODS", "passed")}
    assert report.run.status == "incomplete"


def test_a_rule_that_the_scan_cannot_answer_fails_no_other(snow: Snow, checked: Runs) -> None:
    """Its condition fails for a value; of the scan of all rules nothing would come back."""
    snow.table("GOODS", "('12', 1, '2026-11-28')", "('x', -1, '2026-11-28')", "('x', NULL, '2026-11-27')")
    rules = """
tables:
  - table: SALES.PUBLIC.GOODS
    rules:
      - {kind: not_null, columns: [AMOUNT], where: TO_NUMBER(ID) > 0, name: of numbers}
      - {kind: not_null, columns: [AMOUNT], where: TO_NUMBER(ID) > 0, window: whole, name: of all numbers}
      - {kind: not_null, columns: [AMOUNT], window: whole, severity: critical}
      - {kind: unique, columns: [ID, AMOUNT]}
"""
    report = checked(rules=rules)
    assert {row.rule: row.failed_rows for row in rows_of(report, "GOODS") if row.status != "error"} == {
        "active": None,
        "not_null(AMOUNT)": 1,
        "range(AMOUNT)": 1,
        "unique(ID, AMOUNT)": 0,
        "not_null(ID)": 0,
        "unique(ID)": 0,
        "not_in_future(LOADED_AT)": 0,
    }
    broken = rows_of(report, "GOODS", "error")
    assert {row.rule for row in broken} == {"of numbers", "of all numbers"}
    assert all("100035" in row.message or "100038" in row.message for row in broken)
    assert all("TO_NUMBER" in row.sql and "range" not in row.sql for row in broken)
    [goods] = [table for table in report.tables if table.table == "GOODS"]
    assert goods.rows == 2
    assert report.run.status == "failed"


def test_a_fault_of_ours_is_of_one_table(snow: Snow, checked: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BAD", "GOOD"):
        snow.table(name, ROW)
    real = execution.rules_for

    def rules_for(table: Any, *given: Any) -> Any:
        if table.name.name == "BAD":
            raise ZeroDivisionError("value 'jane@example.com' is none")
        return real(table, *given)

    monkeypatch.setattr(execution, "rules_for", rules_for)
    said = of_checks(checked())
    assert said["BAD"].startswith("ZeroDivisionError")
    assert "jane" not in said["BAD"]
    assert said["GOOD"] == "passed"


def test_workers_have_a_connection_each_and_work_side_by_side(snow: Snow, checked: Runs) -> None:
    for name in ("A", "B"):
        snow.table(name, ROW)
    snow.admin.fault(match=r'COUNT\(\*\)[\s\S]*"[AB]"', kind="slow", delay_s=1, times=0)
    checked(PLATFORM + "limits: {workers: 2}\n")
    scans = [query for query in snow.asked("a-run") if "COUNT(*)" in query["sql"]]
    assert len(scans) == 2
    ends = [datetime.fromisoformat(query["at"]).timestamp() for query in scans]
    starts = [end - query["seconds"] for end, query in zip(ends, scans, strict=True)]
    assert max(starts) < min(ends)


def test_the_query_tag_says_whose_and_which_and_the_statement_its_end(
    snow: Snow, checked: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    snow.table("GOODS", ROW)
    checked(run_id="20261129T060000Z-x")
    tags = [query["tag"] for query in snow.asked("20261129T060000Z-x")]
    assert {
        "application": "dq-platform",
        "run_id": "20261129T060000Z-x",
        "table": "SALES.PUBLIC.GOODS",
    } in tags


def test_credits_that_are_used_up_end_a_run(snow: Snow, checked: Runs) -> None:
    for name in ("A", "B", "C"):
        snow.table(name, ROW)
    # The first scan takes a second: at 3,600 credits an hour that is more than a credit.
    snow.admin.fault(match=r'COUNT\(\*\)[\s\S]*"A"', kind="slow", delay_s=1.1)
    limits = "limits: {workers: 1, credits: 1, credits_per_hour: 3600}\n"
    report = checked(PLATFORM + limits)
    skipped = {row.table for row in report.results if row.status == "skipped"}
    assert "C" in skipped
    [reason] = {row.message for row in report.results if row.status == "skipped"}
    assert reason == "not tried: the run's budget of 1 credit was used up"
    assert report.run.status == "incomplete"
    assert report.run.credits > Decimal(1)
    assert any("estimate" in note for note in report.run.remarks)


def test_time_that_is_used_up_ends_a_run_with_what_was_checked(snow: Snow, checked: Runs) -> None:
    for name in ("A", "B", "C", "D"):
        snow.table(name, ROW)
    snow.admin.fault(match=r'COUNT\(\*\)[\s\S]*"[BCD]"', kind="slow", delay_s=60, times=0)
    begun = time.monotonic()
    report = checked(ONE_WORKER, seconds=4.0)
    assert time.monotonic() - begun < 30
    said = of_checks(report)
    assert said["A"] == "passed"
    assert "passed" not in (said["B"], said["C"])
    assert said["D"] == "not tried: the run's time of 4 s was used up"
    assert report.run.status == "incomplete"


def test_a_worker_that_hangs_beyond_every_timeout_holds_nobody_up(
    snow: Snow, checked: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    snow.table("A", ROW)
    ended = threading.Event()

    def check(*_: Any) -> Any:
        ended.wait(30)
        return execution.Checked(None, None, [])

    monkeypatch.setattr(execution, "_check", check)
    begun = time.monotonic()
    said = of_checks(checked(seconds=3.0))
    ended.set()
    assert time.monotonic() - begun < 30
    assert said["A"] == "not tried: the run's time of 3 s was used up"


def test_the_network_goes_in_the_midst_of_a_run(snow: Snow, checked: Runs) -> None:
    for name in ("A", "B", "C"):
        snow.table(name, ROW)
    snow.admin.fault(match=r'COUNT\(\*\)[\s\S]*"B"', kind="drop", times=0)
    snow.admin.fault(match="POST /session/v1/login-request", kind="drop", skip=2, times=0)
    platform = PLATFORM + "limits: {workers: 1, statement_seconds: 3}\n"
    said = of_checks(checked(platform, network_timeout_seconds=3))
    assert said["A"] == "passed"
    assert "Snowflake SALES.PUBLIC.B" in said["B"]
    assert "Snowflake sign-in" in said["C"]
    assert "run the checks again later" in said["C"]


def test_a_worker_that_cannot_sign_in_leaves_the_tables_to_the_others(snow: Snow, checked: Runs) -> None:
    names = ["A", "B", "C", "D"]
    for name in names:
        snow.table(name, ROW)
    snow.admin.fault(match=r"COUNT\(\*\)", kind="slow", delay_s=0.5, times=0)
    # The first sign-in finds the tables, the second is of a worker.
    snow.admin.fault(match="POST /session/v1/login-request", kind="drop", skip=2, times=0)
    said = of_checks(checked(PLATFORM + "limits: {workers: 2}\n", network_timeout_seconds=1))
    assert said == dict.fromkeys(names, "passed")


def test_wrong_credentials_are_tried_once_and_told_in_one_message(
    snow: Snow, checked: Runs, signed_in: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in["token"] = "another"
    tries = []
    connect = library.connector.connect
    monkeypatch.setattr(library.connector, "connect", lambda **given: tries.append(1) or connect(**given))
    begun = time.monotonic()
    with pytest.raises(CredentialsError) as refused:
        checked()
    assert len(tries) == 1
    assert time.monotonic() - begun < 30
    assert "another" not in refused.value.told("dq")
    assert refused.value.told("dq").count("\n") == 1


def test_a_role_that_was_not_granted_is_no_weather(
    snow: Snow, checked: Runs, signed_in: dict[str, str]
) -> None:
    signed_in["role"] = "ACCOUNTADMIN"
    with pytest.raises(CredentialsError):
        checked()


def test_without_a_warehouse_nothing_is_checked(snow: Snow, checked: Runs, signed_in: dict[str, str]) -> None:
    signed_in["warehouse"] = "ANOTHER_WH"
    with pytest.raises(NoWarehouse, match="606") as refused:
        checked()
    assert "USAGE on the warehouse" in refused.value.hint


def test_a_warehouse_that_is_suspended_in_the_midst_fails_the_rest_at_once(snow: Snow, checked: Runs) -> None:
    for name in ("A", "B", "C"):
        snow.table(name, ROW)
    snow.admin.fault(match=r'COUNT\(\*\)[\s\S]*"B"', code="090073", times=0)
    report = checked(ONE_WORKER)
    said = of_checks(report)
    assert said["A"] == "passed"
    assert "90073" in said["B"]
    assert "90073" in said["C"]
    assert not [
        query for query in snow.asked("a-run") if '"C"' in query["sql"] and "COUNT(*)" in query["sql"]
    ]


def test_snowflake_that_is_not_there_is_weather(snow: Snow, checked: Runs) -> None:
    snow.admin.fault(match="POST /session/", kind="drop", times=0)
    with pytest.raises(SourceUnavailable):
        checked(network_timeout_seconds=1)
