"""A rule's own SQL reads and does nothing else, whatever is written."""

from __future__ import annotations

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from dq_runner.model import TableName
from dq_runner.rules import custom_sql
from tests.services.dq_runner import rows as local

HOSTILE = TableName("D b", 'S"x', "T; DROP TABLE y --'{rows}")
WITHIN = "T.\"D\" >= '2026-11-28'::DATE"

READS = [
    "SELECT * FROM {rows} WHERE a > 1",
    "WITH x AS (SELECT * FROM {table}) SELECT * FROM x",
    "SELECT id FROM {table} AS t GROUP BY id HAVING COUNT(*) > 1",
    "SELECT a.* FROM {rows} AS a LEFT JOIN {table} AS b ON a.id = b.id WHERE b.id IS NULL",
    "SELECT 1 UNION ALL SELECT 2",
    "SELECT * FROM {rows} AS r, LATERAL FLATTEN(input => r.tags) AS f WHERE f.value IS NULL",
    "SELECT * FROM {rows} WHERE 'x; DROP TABLE y' = a -- DELETE\n",
    "SELECT /* ; DELETE FROM x */ 1 FROM {table};",
    "SELECT a:b.c::STRING FROM {rows} QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) = 1",
    "SELECT IFF(a, b, c), ZEROIFNULL(a), TO_NUMBER(a), DIV0(a, b), HASH(a) FROM {rows}",
    "SELECT a, LISTAGG(b, ',') FROM {rows} GROUP BY a",
]
ACTS = [
    "",
    "SELECT 1; DROP TABLE x",
    "SELECT 1 -- done\n; SELECT 2",
    "DROP TABLE x",
    "DELETE FROM x",
    "INSERT INTO x SELECT 1",
    "MERGE INTO x USING y ON a = b WHEN MATCHED THEN DELETE",
    "CREATE TABLE x AS SELECT 1",
    "TRUNCATE TABLE x",
    "WITH x AS (DELETE FROM y RETURNING *) SELECT * FROM x",
    "SELECT 1 INTO x",
    "SELECT * FROM t FOR UPDATE",
    "CALL p()",
    "EXECUTE IMMEDIATE 'DROP TABLE x'",
    "EXPLAIN SELECT 1",
    "SHOW TABLES",
    "USE ROLE x",
    "ALTER SESSION SET x = 1",
    "COPY INTO x FROM y",
    "SELECT * FROM TABLE(p())",
    "SELECT * FROM TABLE(RESULT_SCAN(LAST_QUERY_ID()))",
    "SELECT SYSTEM$ABORT_SESSION(1)",
    "SELECT 1 FROM t ORDER BY SYSTEM$WAIT(5)",
    "SELECT s.seq.NEXTVAL FROM t",
    "SELECT seq.nextval",
    "SELECT * FROM @stage",
    "SELECT * FROM DIRECTORY(@stage)",
    "SELECT my_function(a) FROM t",
    "SELECT db.s.f(a) FROM t",
    "SELECT SNOWFLAKE.CORTEX.COMPLETE('m', 'x')",
    "SELECT $1 FROM t",
    "SELECT :x",
    "SELECT ?",
    "SELECT '{table}' FROM {rows}",
    "SELECT {table}.x FROM {table}",
    "SELECT 1 /* not closed",
    "SELECT 'not closed",
    "(((",
    "VALUES (1)",
    "(" * 3_000,
]


@pytest.mark.parametrize("text", READS)
def test_one_select_runs_as_one_select_on_the_table(text: str) -> None:
    found = custom_sql.on(text, HOSTILE, WITHIN)
    (root,) = sqlglot.parse(found.sql, read="snowflake")
    assert isinstance(root, exp.Query)
    named = {(node.catalog, node.db, node.name) for node in root.find_all(exp.Table) if node.db}
    wanted = {(HOSTILE.database, HOSTILE.schema, HOSTILE.name)} if "{" in text else set()
    assert named == wanted
    assert ("2026-11-28" in found.sql) == ("{rows}" in text)
    assert "DELETE" not in found.sql


@pytest.mark.parametrize("text", ACTS, ids=lambda text: text[:40])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"SELECT|only reads|valid SQL|FROM or JOIN|levels"):
        custom_sql.parsed(text)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([*READS, *ACTS[:-1], *"();'\"\\{}@$", "--", "/*", "*/", "$$", "\n"]), max_size=4)
    | st.lists(st.text(max_size=20), max_size=2)
)
def test_what_is_taken_is_one_query_to_the_parser_again(parts: list[str]) -> None:
    try:
        found = custom_sql.on(" ".join(parts), HOSTILE, WITHIN)
    except ValueError:
        return
    again = sqlglot.parse(f"SELECT COUNT(*) FROM (\n{found.sql}\n) AS Q", read="snowflake")
    assert len(again) == 1
    assert isinstance(again[0], exp.Select)
    assert not list(again[0].find_all(exp.Command, exp.Insert, exp.Update, exp.Delete, exp.Drop, exp.Create))


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("SELECT COUNT(*) FROM {rows}", True),
        ("SELECT COUNT(*) - COUNT(DISTINCT a) FROM {rows}", True),
        ("SELECT a FROM {rows}", False),
        ("SELECT COUNT(*) FROM {rows} GROUP BY a", False),
        ("SELECT COUNT(*) OVER (PARTITION BY a) FROM {rows}", False),
        ("SELECT (SELECT MAX(b) FROM {table}) FROM {rows}", False),
        ("SELECT MAX(a), MIN(a) FROM {rows} HAVING COUNT(*) > 100", False),
        ("SELECT (SELECT COUNT(*) FROM {rows}) - (SELECT COUNT(*) FROM {table})", True),
        ("SELECT 'none' WHERE NOT EXISTS (SELECT 1 FROM {rows})", False),
    ],
)
def test_a_statement_of_one_aggregate_counts(text: str, counts: bool) -> None:
    assert custom_sql.on(text, HOSTILE, "TRUE").counts is counts


@pytest.mark.parametrize(
    "text", ["SELECT COUNT(*), MAX(a) FROM {rows}", "SELECT 1, (SELECT COUNT(*) FROM {rows})"]
)
def test_a_statement_that_has_one_row_whatever_there_is_lists_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="one aggregate, which counts rows, or rows that are listed"):
        custom_sql.parsed(text)


TABLE = local.table("T", {"STATUS": "TEXT", "lower": "TEXT", 'q"t': "INTEGER"})


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("status = 'PAID'", "T.\"STATUS\" = 'PAID'"),
        ('"lower" IS NULL OR LOWER = 1', 'T."lower" IS NULL OR T."lower" = 1'),
        ('"q""t" > 0 -- comment', 'T."q""t" > 0'),
        ("status LIKE '%\\\\%' AND TRUE", "T.\"STATUS\" LIKE '%\\\\%' AND TRUE"),
    ],
)
def test_a_condition_is_of_the_tables_own_columns(text: str, made: str) -> None:
    assert custom_sql.on_table(text, TABLE) == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 = 1) UNION SELECT (1",
        "1 = 1; DROP TABLE x",
        "a = (SELECT 1)",
        "COUNT(*) > 1",
        "ROW_NUMBER() OVER (ORDER BY a) = 1",
        "f(a)",
        "1 = 1) GROUP BY (a",
        "SYSTEM$WAIT(1)",
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"condition|only reads|valid SQL"):
        custom_sql.condition(text)


def test_a_condition_on_a_column_that_is_not_there_names_it() -> None:
    with pytest.raises(ValueError, match=r"received the column STATE, expected one of DB\.PUBLIC\.T"):
        custom_sql.on_table("STATE = 1", TABLE)
