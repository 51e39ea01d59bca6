"""`make query`: what a person types, against the local Athena."""

from __future__ import annotations

import csv
import decimal
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import query, stack
from local.query import Answer, as_csv, as_json, as_table
from local.stack import Stack
from local.supervisor import ServiceError, Supervisor


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
    printed = capsys.readouterr()
    assert printed.out == "one,nothing\n1,\n"
    assert ", lake " in printed.err, "beside what a program reads"


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


HOSTILE = Answer(
    ["a", "b"], [["x\ry", "\x1b[31mred"], ["l1\nl2", "\u202egnp.exe"], [None, 'q"x'], ["ü漢", "\x9b2J"]], 0, 0
)


def test_a_table_holds_nothing_that_a_terminal_obeys() -> None:
    assert as_table(HOSTILE).splitlines() == [
        "a       b",
        "------  -------------",
        r"x\ry    \x1b[31mred",
        r"l1\nl2  \u202egnp.exe",
        '        q"x',
        r"ü漢      \x9b2J",
    ]


def test_csv_is_read_back_as_it_was() -> None:
    text = as_csv(HOSTILE)
    assert '"x\ry"' in text
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [HOSTILE.columns, *[[cell or "" for cell in row] for row in HOSTILE.rows]]


def test_another_lake_is_made_the_current_one_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "REPO", tmp_path)
    monkeypatch.delenv("LAKEHOUSE_STATE_DIR", raising=False)
    assert stack.lakes() == "no lake yet: make demo"
    for folder in (".local", ".local/lakes/poisoned", ".local/lakes/stream"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "stack.json").write_text("{}")
    assert stack.lakes().splitlines() == ["* default", "  poisoned", "  stream"]
    assert (
        stack.use("poisoned", lambda _: None) == "lake poisoned is in use now; make local-up starts its stack"
    )
    assert stack.lakes().splitlines() == ["  default", "* poisoned", "  stream"]
    stack.use("default", lambda _: None)
    assert stack.state_dir() == (tmp_path / ".local").resolve()
    with pytest.raises(ServiceError, match="there is no lake nope"):
        stack.use("nope", lambda _: None)
    monkeypatch.setenv("LAKEHOUSE_STATE_DIR", str(tmp_path))
    with pytest.raises(ServiceError, match="unset it first"):
        stack.use("stream", lambda _: None)


def test_the_port_of_airflow_is_left_to_airflow() -> None:
    assert stack.AIRFLOW_PORT in stack.RESERVED_PORTS


def test_numbers_of_json_are_numbers_with_all_their_digits() -> None:
    types = ["bigint", "decimal", "double", "boolean", "varchar", "varchar"]
    rows: list[list[str | None]] = [
        ["9007199254740993", "1234567890123456.78", "1.0E-4", "true", "12", "\x1b\u202eü\n"],
        [None, "0.10", "NaN", "false", None, '"'],
    ]
    text = as_json(Answer(list("abcdef"), rows, 0, 0, types))
    assert text.isprintable() or set(filter(lambda each: not each.isprintable(), text)) == {"\n"}
    first, second = json.loads(text, parse_float=decimal.Decimal)
    assert first == {
        "a": 9007199254740993, "b": decimal.Decimal("1234567890123456.78"), "c": decimal.Decimal("0.0001"),
        "d": True, "e": "12", "f": "\x1b\u202eü\n",
    }  # fmt: skip
    assert second == {"a": None, "b": decimal.Decimal("0.10"), "c": "NaN", "d": False, "e": None, "f": '"'}
    assert as_json(Answer(["a"], [], 0, 0, ["bigint"])) == "[]"
