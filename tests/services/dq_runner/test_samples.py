"""Values of rows leave Snowflake where they are asked for, and nowhere else."""

from __future__ import annotations

from tests.services.dq_runner.conftest import PLATFORM, Runs, Snow, rows_of

RULES = """
tables:
  - table: SALES.PUBLIC.GOODS
    rules:
      - {kind: unique, columns: [ID]}
      - {kind: range, columns: [AMOUNT], min: 0}
      - {kind: few_values, columns: [ID], max: 1}
"""
GOODS = [
    "('secret-1', 1, '2026-11-28')",
    "('secret-1', -1, '2026-11-28')",
    "('secret-2', -1, '2026-11-28')",
    "('secret-3', -1, '2026-11-20')",
]


def test_no_value_of_a_row_is_in_a_report_that_was_not_asked_for_it(snow: Snow, checked: Runs) -> None:
    snow.table("GOODS", *GOODS)
    report = checked(rules=RULES)
    assert len(rows_of(report, "GOODS", "failed")) == 3
    assert b"secret-" not in report.to_json()


def test_keys_of_failing_rows_are_in_one_that_was(snow: Snow, checked: Runs) -> None:
    snow.table("GOODS", *GOODS)
    without = checked(rules=RULES)
    report = checked(PLATFORM + "samples: 5\n", rules=RULES)
    assert report.run.queries == without.run.queries + 2
    found = {row.rule: row.samples for row in rows_of(report, "GOODS", "failed")}
    assert found == {
        "unique(ID)": ({"ID": "secret-1"},),
        "range(AMOUNT)": ({"ID": "secret-1"}, {"ID": "secret-2"}),
        "few_values(ID)": (),
    }


def test_keys_that_cannot_be_had_cost_no_verdict(snow: Snow, checked: Runs) -> None:
    snow.table("GOODS", *GOODS)
    snow.admin.fault(match="LIMIT 5", code="000604", times=0)
    report = checked(PLATFORM + "samples: 5\n", rules=RULES)
    failed = rows_of(report, "GOODS", "failed")
    assert len(failed) == 3
    assert all(row.samples == () for row in failed)
    assert any(row.message.startswith("no keys of failing rows") for row in failed)
