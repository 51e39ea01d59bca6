"""The sample queries: their file, and what the local Athena answers about a lake whose rows are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from local.query import ask
from local.sample_queries import MalformedFile, Query, load, parse
from local.stack import Stack
from tests.athena_queries.answers import ANSWERS, answer

QUERIES = load()
SECTIONS = [
    "exploration",
    "business intelligence",
    "quality validation",
    "performance monitoring",
    "KPIs",
]
# Same name, another meaning, or an approximation of its own: Trino and DuckDB differ without a word.
DIFFERENT = (exp.DateDiff, exp.ApproxDistinct, exp.ApproxQuantile, exp.RegexpExtract, exp.JSONExtractScalar)


@pytest.mark.parametrize("name", list(QUERIES))
def test_a_query_answers_what_the_rows_say(lakehouse: Stack, name: str) -> None:
    columns, rows = answer(name)
    got = ask(lakehouse, QUERIES[name].sql)
    assert got.columns == columns
    assert got.rows == rows
    assert rows, "an answer without rows shows nothing"


def test_there_are_21_in_five_sections_each_with_an_answer() -> None:
    assert len(QUERIES) == 21
    assert list(dict.fromkeys(query.section for query in QUERIES.values())) == SECTIONS
    assert list(ANSWERS) == list(QUERIES)


@pytest.mark.parametrize("query", QUERIES.values(), ids=list(QUERIES))
def test_a_query_is_one_that_athena_and_duckdb_understand_alike(query: Query) -> None:
    tree = sqlglot.parse_one(query.sql, read="athena")
    assert query.answers.count("?") or query.answers.endswith("."), (
        "the line after the name says what it answers"
    )
    assert "order" in tree.args or query.name == "kpi_overview", "several rows need an order"
    assert not list(tree.find_all(*DIFFERENT))
    for division in tree.find_all(exp.Div):
        assert (
            "double" in division.sql("athena").lower()
            or "e0" in division.sql("athena").lower()
            or ("unixtime" in division.sql("athena").lower())
        ), f"{division.sql('athena')}: integers and decimals divide differently"
    common = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if table.name and table.name not in common:
            assert table.db.startswith("lakehouse_"), f"{table.name} is not fully qualified"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: a\n-- What?\nSELECT 1\n", "needs a comment line"),
        ("-- name: a\nSELECT 1;\n", "needs a comment line"),
        ("-- name: a\n-- What?\nSELECT 1\n-- name: b\n-- What?\nSELECT 2;\n", "no semicolon"),
        ("-- name: a\n-- What?\nSELECT 1;\n-- name: a\n-- What?\nSELECT 2;\n", "two queries a"),
        ("SELECT 1;\n", "without `-- name:`"),
    ],
    ids=["unfinished", "no-answer", "no-semicolon", "twice", "nameless"],
)
def test_a_file_out_of_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(MalformedFile, match=message):
        parse(text)


def test_the_runbooks_queries_without_a_parameter_are_among_them() -> None:
    """What the runbook asks of a table, one of the queries asks too."""
    runbook = (Path(__file__).parents[2] / "RUNBOOK_AWS_2025.md").read_text()
    asked = {
        table.name
        for line in runbook.splitlines()
        if line.startswith('make query SQL="')
        for table in sqlglot.parse_one(
            line.removeprefix('make query SQL="').rstrip('"').replace('\\"', '"'), read="athena"
        ).find_all(exp.Table)
    }
    answered = {
        table.name
        for query in QUERIES.values()
        for table in sqlglot.parse_one(query.sql, read="athena").find_all(exp.Table)
    }
    assert asked
    assert asked <= answered
