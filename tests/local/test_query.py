"""`make query`: what a person types, against the local Athena."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local import query, stack
from local.stack import Stack
from local.supervisor import Supervisor


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    state = tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_STATE_DIR", str(state))
        try:
            yield stack.up(state, lambda _: None, only=["aws"])
        finally:
            Supervisor(state).stop("aws")


def ask(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["query", *arguments])
    return query.main()


def test_a_select_is_printed_with_its_columns(
    running: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "SELECT 1 AS one, CAST(NULL AS varchar) AS nothing", "--format", "csv") == 0
    assert capsys.readouterr().out == "one,nothing\n1,\n"


def test_a_line_break_in_a_value_breaks_no_line_of_the_table(
    running: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "SELECT concat('Zeile 1', chr(10), 'Zeile 2') AS name") == 0
    assert capsys.readouterr().out.splitlines()[:3] == ["name", "----------------", "Zeile 1\\nZeile 2"]


def test_statements_without_a_header_lose_no_row(
    running: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ask(monkeypatch, "SHOW DATABASES", "--format", "csv") == 0
    found = capsys.readouterr().out.splitlines()[1:]
    glue = running.client("glue")
    assert {*found} == {"default", *(each["Name"] for each in glue.get_databases()["DatabaseList"])}
    glue.create_table(
        DatabaseName="lakehouse_gold",
        TableInput={
            "Name": "t",
            "TableType": "EXTERNAL_TABLE",
            "StorageDescriptor": {
                "Columns": [{"Name": name, "Type": "string"} for name in ("first", "second")]
            },
        },
    )
    assert ask(monkeypatch, "DESCRIBE t", "--format", "csv") == 0
    described = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert described == ["first", "second"]


def test_what_athena_refuses_is_one_line(
    running: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "SELEC 1") == 1
    told = capsys.readouterr().err
    assert told.strip()
    assert "Traceback" not in told


@pytest.mark.parametrize("arguments", [(), ("SELECT 1", "--name", "gold_tables")], ids=["nothing", "both"])
def test_a_statement_or_a_name_is_asked_for(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        ask(monkeypatch, *arguments)
    assert ended.value.code == 2
    assert "expected a statement or --name" in capsys.readouterr().err


def test_a_misspelt_name_is_told_what_comes_near(
    running: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "--name", "cost_by_jobs") == 1
    assert "there is no query cost_by_jobs" in (told := capsys.readouterr().err)
    assert "cost_by_job," in told


def test_the_names_are_listed_by_section(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "--name", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Exploration"
    assert sum(line.startswith("  ") for line in lines) == 21


def test_a_named_query_fails_in_athenas_words_where_its_tables_are_not_there(
    running: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "--name", "orders_by_status") == 1
    assert capsys.readouterr().err == (
        "TABLE_NOT_FOUND: line 2:6: Table 'awsdatacatalog.lakehouse_gold.fact_orders' does not exist\n"
    )
