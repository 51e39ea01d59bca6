"""A run from discovery to its report, against the local Snowflake."""

from __future__ import annotations

from decimal import Decimal

from tests.services.dq_runner.conftest import AT, Runs, Snow, rows_of

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


def test_a_statement_is_in_the_report_where_somebody_has_to_look_into_it(snow: Snow, checked: Runs) -> None:
    snow.table("GOODS", "(NULL, 1, '2026-11-28 10:00:00')")
    rows = rows_of(checked(rules=RULES), "GOODS")
    assert {row.rule for row in rows if row.sql} == {"not_null(ID)"}
    assert all(row.query_id for row in rows if row.kind != "active")
