"""What tables a run finds, and which of them it takes for active, against the local Snowflake."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from dq_runner import discovery
from dq_runner.discovery import Found, discover, fallen_silent, family
from dq_runner.model import TableName
from dq_runner.runner import Asked
from dq_runner.session import Session
from lakehouse.errors import UsageError
from tests.services.dq_runner.conftest import AT, PLATFORM, Runs, Snow, configured, rows_of

ROW = "('a', 1, '2026-11-28')"


def names(found: Found) -> list[str]:
    return [table.name.name for table in found.tables]


def test_patterns_say_which_tables_are_meant(snow: Snow, connected: Session, tmp_path: Path) -> None:
    for name in ("ORDERS_EU", "ORDERS_US", "TMP_ORDERS", '"orders_lower"', "ITEMS"):
        snow.table(name, ROW)
    config = configured(
        tmp_path, PLATFORM.replace('tables: ["*"]', 'tables: ["ORDERS*"]') + "exclude: {tables: ['*_US']}\n"
    )
    assert names(discover(connected, config, AT)) == ["ORDERS_EU", "orders_lower"]


HOSTILE = (
    "semi;colon",
    "with space",
    'quo"te',
    "apo'strophe",
    "do.t",
    "SELECT",
    "Ünïcode — 表",
    "percent%s",
    "--comment",
    "brace{x}",
)


def test_hostile_names_are_names(snow: Snow, checked: Runs) -> None:
    """Of tables and of columns, each in the case and with the characters that it has."""
    for name in HOSTILE:
        quoted = '"' + name.replace('"', '""') + '"'
        snow.table(quoted, "('a', '2026-11-28')", columns=f"{quoted} VARCHAR, LOADED_AT TIMESTAMP_NTZ")
    report = checked()
    assert {(row.table, row.rows) for row in report.tables} == {(name, 1) for name in HOSTILE}
    assert not [row for row in report.results if row.status == "error"]


def test_views_and_transient_tables_are_looked_at_by_choice(
    snow: Snow, connected: Session, tmp_path: Path
) -> None:
    snow.table("PLAIN", ROW)
    snow.do(
        "CREATE VIEW SALES.PUBLIC.SEEN AS SELECT * FROM SALES.PUBLIC.PLAIN",
        "CREATE TRANSIENT TABLE SALES.PUBLIC.PASSING (ID VARCHAR, LOADED_AT TIMESTAMP_NTZ)",
        "INSERT INTO SALES.PUBLIC.PASSING VALUES ('a', '2026-11-28')",
    )
    assert names(discover(connected, configured(tmp_path), AT)) == ["PASSING", "PLAIN"]
    every = configured(tmp_path, PLATFORM + "views: true\n")
    found = discover(connected, every, AT)
    assert {table.name.name: table.kind for table in found.tables} == {
        "PASSING": "transient",
        "PLAIN": "table",
        "SEEN": "view",
    }
    assert names(discover(connected, configured(tmp_path, PLATFORM + "transient: false\n"), AT)) == ["PLAIN"]


def test_a_table_without_rows_of_late_is_quiet(snow: Snow, connected: Session, tmp_path: Path) -> None:
    snow.table("LATE", "('a', 1, '2026-10-30 06:00:01')")
    snow.table("TOO_LATE", "('a', 1, '2026-10-30 05:59:59')")
    snow.table("EMPTY")
    snow.table("UNDATED", "('a', 1, NULL)")
    snow.table("FROM_THE_FUTURE", "('a', 1, '2099-01-01')", "('b', 1, '2026-01-01')")
    found = discover(connected, configured(tmp_path), AT)
    assert names(found) == ["LATE"]
    quiet = sorted(table.name.name for table in found.quiet)
    assert quiet == ["EMPTY", "FROM_THE_FUTURE", "ORDERS", "TOO_LATE", "UNDATED"]


@pytest.mark.parametrize("kind", ["DATE", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"])
def test_a_date_column_is_of_any_type_of_date(
    snow: Snow, connected: Session, tmp_path: Path, kind: str
) -> None:
    snow.table("DATED", "('2026-11-28')", columns=f"LOADED_AT {kind}")
    snow.table("OLD", "('2026-01-28')", columns=f"LOADED_AT {kind}")
    assert names(discover(connected, configured(tmp_path), AT)) == ["DATED"]


def test_which_column_is_the_date_can_be_overridden(snow: Snow, connected: Session, tmp_path: Path) -> None:
    columns = "ID VARCHAR, LOADED_AT TIMESTAMP_NTZ, BOOKED DATE"
    for name in ("USUAL", "OTHER", "WITHOUT", "WRONG"):
        snow.table(name, "('a', '2026-11-28', '2026-11-27')", columns=columns)
    overrides = "\n".join(
        [
            "  overrides:",
            "    - {table: SALES.PUBLIC.OTHER, column: booked}",
            "    - {table: SALES.PUBLIC.WITHOUT, column: null}",
            "    - {table: SALES.PUBLIC.WRONG, column: ID}",
        ]
    )
    platform = PLATFORM.replace(
        'date_column: {names: [LOADED_AT, "*_AT"]}',
        f'date_column:\n  names: [LOADED_AT, "*_AT"]\n{overrides}',
    )
    found = discover(connected, configured(tmp_path, platform), AT)
    dates = {table.name.name: table.date_column.name if table.date_column else None for table in found.tables}
    assert dates == {"USUAL": "LOADED_AT", "OTHER": "BOOKED", "WITHOUT": None}
    [wrong] = found.findings
    assert (wrong.table.name, wrong.status) == ("WRONG", "error")
    assert "a column of type TEXT" in wrong.message


def test_a_table_without_a_date_is_skipped_with_the_reason_or_read_whole(snow: Snow, checked: Runs) -> None:
    snow.table("CODES", "('a')", "('a')", columns="ID VARCHAR")
    [skipped] = rows_of(checked(), "CODES")
    assert skipped.status == "skipped"
    assert "window.whole" in skipped.message
    report = checked(PLATFORM + "window: {whole: [SALES.PUBLIC.CODES]}\n")
    assert [(row.table, row.rows, row.window_from) for row in report.tables] == [("CODES", 2, None)]


def test_information_schema_is_read_once_and_activity_asked_in_chunks(
    snow: Snow, connected: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_CHUNK", 2)
    for name in ("A", "B"):
        snow.table(name)
    found = discover(connected, configured(tmp_path), AT)
    assert len(found.quiet) == 3
    statements = [query["sql"].split()[1] for query in snow.asked("a-run")]
    assert statements == ["DATABASES", "t.TABLE_SCHEMA,", "0", "0"]
    assert (connected.count.queries, connected.count.scans) == (4, 2)


def test_a_table_that_cannot_be_asked_hides_no_other(snow: Snow, checked: Runs) -> None:
    """All of its chunk is then taken for active, and each is asked by its own scan."""
    for name in ("GOOD", "SECRET"):
        snow.table(name, ROW)
    snow.table("OLD", "('a', 1, '2026-01-01')")
    everything = ("SALES", "PUBLIC")
    snow.admin.grant(
        ("REFERENCES", *everything),
        ("SELECT", *everything, "GOOD"),
        ("SELECT", *everything, "OLD"),
        ("SELECT", *everything, "ORDERS"),
        revoked=[("SELECT", *everything)],
    )
    report = checked()
    assert {row.table for row in report.tables} == {"GOOD", "SECRET"}
    [error] = rows_of(report, "SECRET")
    assert (error.kind, error.status) == ("checked", "error")
    assert "3001" in error.message
    assert "grant the role SELECT" in error.message
    assert rows_of(report, "GOOD", "passed")
    assert report.run.status == "incomplete"
    assert any("OLD" in remark for remark in report.run.remarks)


def test_a_database_that_cannot_be_read_is_reported(snow: Snow, checked: Runs) -> None:
    snow.admin.fault(match="INFORMATION_SCHEMA", code="002003", times=1)
    report = checked()
    [error] = report.results
    assert (error.database, error.table, error.status) == ("SALES", "TABLES", "error")
    assert report.run.status == "incomplete"


def test_a_name_that_nobody_knows_is_refused(snow: Snow, connected: Session, tmp_path: Path) -> None:
    snow.table("GOODS", ROW)
    with pytest.raises(UsageError, match="GODS") as refused:
        discover(connected, configured(tmp_path), AT, ["GODS"])
    assert "SALES.PUBLIC.GOODS" in refused.value.hint


def test_a_quiet_table_is_checked_where_somebody_asks_for_it(snow: Snow, checked: Runs) -> None:
    snow.table("OLD", "('a', 1, '2026-01-01')")
    rules = (
        "tables: [{table: SALES.PUBLIC.OLD, rules: [{kind: freshness, max_hours: 24, severity: critical}]}]"
    )
    assert [row.rule for row in rows_of(checked(rules=rules), "OLD", "failed")] == ["freshness()"]
    assert [row.table for row in checked(asked=Asked(tables=("OLD",))).tables] == ["OLD"]


def test_what_was_active_and_is_no_longer_is_a_finding(
    snow: Snow, connected: Session, tmp_path: Path
) -> None:
    snow.table("SILENT", "('a', 1, '2026-01-01')")
    snow.table("NEVER_ACTIVE", "('a', 1, '2026-01-01')")
    snow.table("GOES_ON", ROW)
    config = configured(tmp_path, PLATFORM + "exclude: {tables: [NO_LONGER_MEANT]}\n")
    found = discover(connected, config, AT)
    before = {
        TableName("SALES", "PUBLIC", name): day
        for name, day in {
            "SILENT": date(2026, 10, 20),
            "DROPPED": None,
            "GOES_ON": date(2026, 11, 28),
            "NO_LONGER_MEANT": date(2026, 11, 28),
        }.items()
    }
    findings = {result.table.name: result for result in fallen_silent(config, found, before)}
    assert set(findings) == {"SILENT", "DROPPED"}
    assert {result.rule.kind for result in findings.values()} == {"active"}
    assert findings["SILENT"].message == "the last day with rows was 2026-10-20"
    assert "no rows in 30 days" in findings["SILENT"].observed
    assert "no such table" in findings["DROPPED"].observed
    assert all(result.alarms for result in findings.values())


def test_a_table_of_a_database_that_cannot_be_read_is_not_called_gone(tmp_path: Path) -> None:
    config = configured(tmp_path)
    found = Found(unread={"SALES"})
    assert fallen_silent(config, found, {TableName("SALES", "PUBLIC", "T"): date(2026, 11, 1)}) == []


@pytest.mark.parametrize(
    ("type_", "scale", "expected"),
    [
        ("NUMBER", 0, "integer"),
        ("NUMBER", 2, "decimal"),
        ("FLOAT", None, "float"),
        ("TEXT", None, "text"),
        ("TIMESTAMP_TZ", None, "timestamp"),
        ("VARIANT", None, "other"),
        ("GEOGRAPHY", None, "other"),
    ],
)
def test_types_are_of_families(type_: str, scale: int | None, expected: str) -> None:
    assert family(type_, scale) == expected


@pytest.mark.parametrize(
    ("schemas", "narrowed"),
    [
        ("[PUBLIC]", ["PUBLIC"]),
        ("[SALES.public, '\"odd''s.name\"']", ["PUBLIC", "ODD''S.NAME"]),
        ("[PUBLIC, 'STAGE_*']", None),
        ("[Größe]", None),
    ],
)
def test_only_schemas_that_are_named_are_asked_for(
    tmp_path: Path, schemas: str, narrowed: list[str] | None
) -> None:
    config = configured(tmp_path, PLATFORM.replace("[PUBLIC]", schemas))
    condition = discovery._of_schemas(config)
    if narrowed is None:
        assert condition == ""
    else:
        assert all(f"'{name}'" in condition for name in narrowed), condition
