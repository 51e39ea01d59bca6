"""Athena: queries over Delta tables of the catalog, with AWS's states, results and errors."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import time
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws.athena import Worker
from local.aws.athena_worker import storage_options
from tests.local.aws_server import bucket
from tests.support import Aws, new_delta

pa = pytest.importorskip("pyarrow")
DATABASE = "athena_gold"
UTC = dt.UTC
_tokens = itertools.count(1)


@dataclass
class Athena:
    aws: Aws
    client: Any
    glue: Any
    s3: Any

    def start(self, sql: str, **more: Any) -> str:
        request = {"WorkGroup": "tests", "QueryExecutionContext": {"Database": DATABASE}} | more
        return str(self.client.start_query_execution(QueryString=sql, **request)["QueryExecutionId"])

    def wait(self, id_: str) -> dict[str, Any]:
        end = time.monotonic() + 300
        while time.monotonic() < end:
            found: dict[str, Any] = self.client.get_query_execution(QueryExecutionId=id_)["QueryExecution"]
            if found["Status"]["State"] in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return found
            time.sleep(0.02)
        raise AssertionError(found)

    def rows(self, sql: str, **more: Any) -> list[list[str | None]]:
        """The rows without the header that queries have."""
        id_ = self.start(sql, **more)
        done = self.wait(id_)
        assert done["Status"]["State"] == "SUCCEEDED", done["Status"]
        return values(self.client.get_query_results(QueryExecutionId=id_))[1:]

    def reason(self, sql: str) -> str:
        done = self.wait(self.start(sql))
        assert done["Status"]["State"] == "FAILED"
        return str(done["Status"]["StateChangeReason"])

    def table(self, name: str, data: Any, **more: Any) -> str:
        """Write a Delta table and register it as Athena's own documentation says."""
        location = f"s3://athena-lake/{name}"
        new_delta(location, data, storage_options(self.aws.env), **more)
        self.register(name, location, {"path": location})
        return location

    def register(self, name: str, location: str, serde: dict[str, str], **parameters: str) -> None:
        self.glue.create_table(
            DatabaseName=DATABASE,
            TableInput={
                "Name": name,
                "TableType": "EXTERNAL_TABLE",
                "Parameters": {
                    "EXTERNAL": "TRUE",
                    "spark.sql.sources.provider": "delta",
                    "table_type": "delta",
                }
                | parameters,
                "StorageDescriptor": {
                    "Columns": [
                        {"Name": "id", "Type": "bigint", "Comment": "key"},
                        {"Name": "name", "Type": "string"},
                    ],
                    "Location": location,
                    "SerdeInfo": {"Parameters": {"serialization.format": "1"} | serde},
                },
            },
        )


def storage(aws: Aws) -> dict[str, str]:
    return storage_options(aws.env) | {"aws_conditional_put": "etag"}


def values(page: dict[str, Any]) -> list[list[str | None]]:
    return [[cell.get("VarCharValue") for cell in row["Data"]] for row in page["ResultSet"]["Rows"]]


@pytest.fixture(scope="module")
def athena(aws: Aws) -> Athena:
    s3 = bucket(aws, "athena-lake")
    glue, client = aws.client("glue"), aws.client("athena")
    glue.create_database(DatabaseInput={"Name": DATABASE})
    client.create_work_group(
        Name="tests", Configuration={"ResultConfiguration": {"OutputLocation": "s3://athena-lake/results/"}}
    )
    athena = Athena(aws, client, glue, s3)
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    athena.table(
        "orders",
        pa.table(
            {
                "id": pa.array([1, 2, 3], pa.int64()),
                "name": pa.array(["a", None, 'say "x", y'], pa.string()),
                "amount": pa.array(
                    [decimal.Decimal(t) for t in ("1.50", "2.25", "0.01")], pa.decimal128(18, 2)
                ),
                "at": pa.array([moment, moment, None], pa.timestamp("us", "UTC")),
                "paid": pa.array([True, False, None]),
                "day": pa.array([dt.date(2026, 1, 1)] * 3),
                "score": pa.array([1.0, 1e10, 0.1]),
            }
        ),
    )
    return athena


def test_values_are_printed_as_athena_prints_them(athena: Athena) -> None:
    id_ = athena.start("SELECT * FROM orders ORDER BY id")
    done = athena.wait(id_)
    page = athena.client.get_query_results(QueryExecutionId=id_)
    assert values(page) == [
        ["id", "name", "amount", "at", "paid", "day", "score"],
        ["1", "a", "1.50", "2026-01-02 03:04:05.678", "true", "2026-01-01", "1.0"],
        ["2", None, "2.25", "2026-01-02 03:04:05.678", "false", "2026-01-01", "1.0E10"],
        ["3", 'say "x", y', "0.01", None, None, "2026-01-01", "0.1"],
    ]
    info = page["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
    assert [c["Type"] for c in info] == [
        "bigint",
        "varchar",
        "decimal",
        "timestamp",
        "boolean",
        "date",
        "double",
    ]
    assert (info[2]["Precision"], info[2]["Scale"]) == (18, 2)
    assert (done["StatementType"], done["WorkGroup"]) == ("DML", "tests")
    assert done["Statistics"]["DataScannedInBytes"] > 0
    assert done["Statistics"]["EngineExecutionTimeInMillis"] >= 0
    output = done["ResultConfiguration"]["OutputLocation"]
    assert output == f"s3://athena-lake/results/{id_}.csv"
    text = athena.s3.get_object(Bucket="athena-lake", Key=f"results/{id_}.csv")["Body"].read().decode()
    assert text.splitlines()[0] == '"id","name","amount","at","paid","day","score"'
    assert text.splitlines()[2].startswith('"2",,"2.25"')
    assert '"say ""x"", y"' in text.splitlines()[3]


@pytest.mark.parametrize(
    ("sql", "row"),
    [
        ("SELECT count(*), sum(amount), avg(amount) FROM orders", ["3", "3.76", "1.25"]),
        ("SELECT 7 / 2, 7 / 2.0, -7 / 2", ["3", "3.5", "-3"]),
        ("SELECT sum(amount) / count(*) FROM orders", ["1.25"]),
        ("SELECT date_diff('day', TIMESTAMP '2026-01-01 23:00:00', TIMESTAMP '2026-01-02 01:00:00')", ["0"]),
        ("SELECT date_format(at, '%Y-%m-%d'), format_datetime(at, 'yyyy/MM') FROM orders WHERE id = 1",
         ["2026-01-02", "2026/01"]),
        ("SELECT o.name FROM athena_gold.orders o JOIN orders p ON o.id = p.id WHERE p.amount < DECIMAL '1'",
         ['say "x", y']),
        ("WITH orders AS (SELECT 5 AS five) SELECT five FROM orders", ["5"]),
        ("SELECT max(awsdatacatalog.athena_gold.orders.id) FROM awsdatacatalog.athena_gold.orders", ["3"]),
        ("SELECT approx_distinct(id), count_if(paid), max_by(name, amount) FROM orders WHERE id < 3", ["2", "1", None]),
        ("SELECT sum(amount) FILTER (WHERE paid), arbitrary(day) FROM orders", ["1.50", "2026-01-01"]),
        ("SELECT ARRAY[1, 2], CAST(NULL AS varchar), TRY_CAST('x' AS bigint)", ["[1, 2]", None, None]),
        ("SELECT id FROM orders ORDER BY amount DESC OFFSET 1 LIMIT 1", ["1"]),
        ("SELECT try(id / 0), id / nullif(id - id, 0), 1e0 / 0 FROM orders LIMIT 1", [None, None, "Infinity"]),
        ("SELECT CASE WHEN id - id = 0 THEN 0 ELSE 7 / (id - id) END FROM orders LIMIT 1", ["0"]),
    ],
)  # fmt: skip
def test_queries_mean_what_they_mean_on_athena(athena: Athena, sql: str, row: list[str | None]) -> None:
    assert athena.rows(sql) == [row]


def test_columns_without_a_name_are_numbered(athena: Athena) -> None:
    id_ = athena.start("SELECT id, count(*), 1 AS one FROM orders GROUP BY id")
    athena.wait(id_)
    assert values(athena.client.get_query_results(QueryExecutionId=id_))[0] == ["id", "_col1", "one"]


def test_parameters_take_the_place_of_question_marks(athena: Athena) -> None:
    assert athena.rows(
        "SELECT id FROM orders WHERE id = ? AND name = ?", ExecutionParameters=["1", "'a'"]
    ) == [["1"]]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (
            "SELECT * FROM nope",
            "TABLE_NOT_FOUND: line 1:15: Table 'awsdatacatalog.athena_gold.nope' does not exist",
        ),
        ("SELECT *\nFROM zz.orders", "SCHEMA_NOT_FOUND: line 2:6: Schema 'zz' does not exist"),
        ("SELECT id, nope FROM orders", "COLUMN_NOT_FOUND: line 1:12: Column 'nope' cannot be resolved"),
        ("SELECT o.nope FROM orders o", "COLUMN_NOT_FOUND: line 1:8: Column 'o.nope' cannot be resolved"),
        ("SELECT nope(id) FROM orders", "FUNCTION_NOT_FOUND: line 1:8: Function 'nope' not registered"),
        (
            "SELECT CAST(name AS bigint) FROM orders WHERE id = 1",
            "INVALID_CAST_ARGUMENT: Cannot cast 'a' to BIGINT",
        ),
        ("SELECT CAST('' AS double)", "INVALID_CAST_ARGUMENT: Cannot cast '' to DOUBLE"),
        (
            "SELECT CAST('1,5' AS decimal(18, 2))",
            "INVALID_CAST_ARGUMENT: Cannot cast VARCHAR '1,5' to DECIMAL(18, 2). Value is not a number.",
        ),
        (
            "SELECT CAST('2026-02-30' AS date)",
            "INVALID_CAST_ARGUMENT: Value cannot be cast to date: 2026-02-30",
        ),
        (
            "SELECT CAST('no' AS timestamp)",
            "INVALID_CAST_ARGUMENT: Value cannot be cast to timestamp: no",
        ),
        (
            "SELECT name, o.id, count(*) FROM orders o GROUP BY name",
            "EXPRESSION_NOT_AGGREGATE: line 1:14: 'o.id' must be an aggregate expression or appear in GROUP BY clause",
        ),
        # DuckDB would convert the texts of these and answer.
        (
            "SELECT * FROM orders WHERE day='2026-01-01'",
            "TYPE_MISMATCH: line 1:31: Cannot apply operator: date = varchar(10)",
        ),
        (
            "SELECT count(*) FROM orders o JOIN orders p USING (id) WHERE '2' < o.id",
            "TYPE_MISMATCH: line 1:66: Cannot apply operator: varchar(1) < bigint",
        ),
        (
            "WITH x AS (SELECT amount AS paid_usd FROM orders) SELECT * FROM x WHERE paid_usd >= '1.5'",
            "TYPE_MISMATCH: line 1:82: Cannot apply operator: decimal(18, 2) <= varchar(3)",
        ),
        (
            "SELECT * FROM orders WHERE at NOT BETWEEN '2026-01-01' AND '2026-02-01'",
            "TYPE_MISMATCH: line 1:31: Cannot check if timestamp(3) with time zone is BETWEEN varchar(10) and varchar(",
        ),
        (
            "SELECT * FROM orders WHERE id IN (1, '2')",
            "TYPE_MISMATCH: line 1:38: IN value and list items must be the same type or coercible to a common type. "
            "Cannot find common type between bigint and varchar(1)",
        ),
        ("SELECT id / (id - id) FROM orders", "DIVISION_BY_ZERO: Division by zero"),
        ("SELECT amount % 0 FROM orders", "DIVISION_BY_ZERO: Division by zero"),
        (
            "SELECT id FROM orders FOR VERSION AS OF 0",
            "NOT_SUPPORTED: line 1:16: This connector does not support ver",
        ),
        (
            "WITH x AS (SELECT id FROM orders FOR TIMESTAMP AS OF TIMESTAMP '2026-01-01 00:00:00 UTC') SELECT * FROM x",
            "NOT_SUPPORTED: line 1:27: This connector does not support versioned tables",
        ),
        (
            "SHOW PARTITIONS orders",
            "FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask",
        ),
        ("SHOW TABLES LIKE '('", "FAILED: ParseException: "),
    ],
)
def test_a_query_that_fails_says_why_in_athenas_words(athena: Athena, sql: str, reason: str) -> None:
    assert athena.reason(sql).startswith(reason)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELCT 1", "line 1:1: mismatched input 'SELCT'"),
        ("SELECT id FORM orders", "line 1:11: mismatched input 'FORM'"),
        ("SELECT id FROM", "mismatched input '<EOF>'"),
        ("SELECT 1; SELECT 2", "Only one sql statement is allowed"),
        ("DROP TABLE orders", "Queries of this type are not supported: DROP"),
        ("CREATE TABLE x AS SELECT 1 AS one", "Queries of this type are not supported: CREATE"),
        ("INSERT INTO orders VALUES (1)", "Queries of this type are not supported: INSERT"),
        ("DELETE FROM orders", "Queries of this type are not supported: DELETE"),
        (
            "UNLOAD (SELECT 1) TO 's3://x/' WITH (format = 'PARQUET')",
            "Queries of this type are not supported: UNLOAD",
        ),
        ("MSCK REPAIR TABLE `orders`", "Queries of this type are not supported: MSCK"),
        (
            "SHOW TBLPROPERTIES orders",
            "Queries of this type are not supported: SHOW TBLPROPERTIES. The local Athena has",
        ),
        (
            "EXPLAIN ANALYZE SELECT 1",
            "Queries of this type are not supported: EXPLAIN ANALYZE. The local Athena has",
        ),
        ("SELECT '$x', $path FROM orders", "line 1:14: mismatched input '$'. Expecting: <expression>"),
        ("SELECT * FROM `orders`", "line 1:15: backquoted identifiers are not supported; use double quotes"),
        ("", "QueryString"),
    ],
)
def test_what_cannot_run_is_refused_when_submitted(athena: Athena, sql: str, message: str) -> None:
    with pytest.raises(Exception, match=r"InvalidRequestException|Parameter validation") as error:
        athena.start(sql)
    assert message in str(error.value)


def test_a_query_cannot_reach_files_of_the_machine(athena: Athena) -> None:
    assert "disabled" in athena.reason("SELECT * FROM read_csv('/etc/passwd')")


def test_a_table_without_a_path_is_not_readable_as_on_athena(athena: Athena) -> None:
    athena.register("pathless", "s3://athena-lake/orders", {})
    assert "No path property defined" in athena.reason("SELECT * FROM pathless")
    athena.register("empty", "s3://athena-lake/nothing", {"path": "s3://athena-lake/nothing"})
    assert "No transaction log" in athena.reason("SELECT * FROM empty")


def test_show_and_describe_have_no_header(athena: Athena) -> None:
    def lines(sql: str) -> list[str]:
        id_ = athena.start(sql)
        assert athena.wait(id_)["StatementType"] == "DDL"
        return [str(row[0]) for row in values(athena.client.get_query_results(QueryExecutionId=id_))]

    assert "orders" in lines("SHOW TABLES")
    assert lines(f"show tables in {DATABASE} 'ord*'") == ["orders"]
    assert DATABASE in lines("SHOW DATABASES")
    assert lines("DESCRIBE orders")[0].split() == ["id", "bigint", "key"]
    assert lines(f"DESCRIBE `{DATABASE}`.`orders`")[0].split() == ["id", "bigint", "key"]
    quoted = {"QueryExecutionContext": {"Database": f"`{DATABASE}`"}}
    assert athena.wait(athena.start("DESCRIBE `orders`", **quoted))["Status"]["State"] == "SUCCEEDED"
    assert lines("SHOW TABLES LIKE 'ord*'") == ["orders"]
    created = lines("SHOW CREATE TABLE orders")
    assert created[:2] == [f"CREATE EXTERNAL TABLE `{DATABASE}.orders`(", "  `id` bigint COMMENT 'key', "]
    assert "  's3://athena-lake/orders'" in created
    columns = "SELECT column_name FROM information_schema.columns"
    where = f"WHERE table_name = 'orders' AND table_schema = '{DATABASE}'"
    assert athena.rows(f"{columns} {where}") == [["id"], ["name"]]
    assert athena.rows("EXPLAIN SELECT * FROM orders")


def test_results_come_in_pages(athena: Athena) -> None:
    id_ = athena.start("SELECT n FROM UNNEST(sequence(1, 2500)) AS t(n) ORDER BY n")
    assert athena.wait(id_)["Status"]["State"] == "SUCCEEDED"
    pages = list(athena.client.get_paginator("get_query_results").paginate(QueryExecutionId=id_))
    assert [len(p["ResultSet"]["Rows"]) for p in pages] == [1000, 1000, 501]
    assert [row[0] for p in pages for row in values(p)] == ["n", *map(str, range(1, 2501))]


def test_a_request_token_starts_one_query(athena: Athena) -> None:
    token = f"token-{next(_tokens):032d}"
    first = athena.start("SELECT 1", ClientRequestToken=token)
    assert athena.start("SELECT 1", ClientRequestToken=token) == first
    with pytest.raises(ClientError, match="Idempotent parameters do not match"):
        athena.start("SELECT 2", ClientRequestToken=token)


def test_a_query_can_be_stopped(athena: Athena) -> None:
    id_ = athena.start(
        "SELECT count(*) FROM UNNEST(sequence(1, 100000)) a(x) CROSS JOIN UNNEST(sequence(1, 1000000)) b(y) "
        "WHERE (x * y) % 7 = 3"
    )
    athena.client.stop_query_execution(QueryExecutionId=id_)
    assert athena.wait(id_)["Status"]["State"] == "CANCELLED"
    assert athena.rows("SELECT 1") == [["1"]], "the next query has a worker"
    with pytest.raises(ClientError, match="Final query state: CANCELLED"):
        athena.client.get_query_results(QueryExecutionId=id_)


def test_a_query_that_is_stopped_before_its_turn_reaches_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "local.aws.athena.subprocess.Popen", lambda *_, **__: pytest.fail("a process was started")
    )
    assert Worker(dict).run({"folder": "of the query"}, is_wanted=lambda: False) is None


def test_a_new_version_of_a_table_is_seen_at_once(athena: Athena) -> None:
    one = pa.table({"id": pa.array([1], pa.int64())})
    athena.table("growing", one)
    assert athena.rows("SELECT count(*) FROM growing") == [["1"]]
    from deltalake import write_deltalake

    write_deltalake("s3://athena-lake/growing", one, mode="append", storage_options=storage(athena.aws))
    assert athena.rows("SELECT count(*) FROM growing") == [["2"]]


def test_hidden_columns_tell_the_object_of_a_row(athena: Athena) -> None:
    location = athena.table(
        "parted",
        pa.table({"id": pa.array([1, 2, 3], pa.int64()), "p": ["x", "x", "ä b"]}),
        partition_by=["p"],
    )
    rows = athena.rows(
        'SELECT id, "$path", "$file_size" > 0, "$file_modified_time" > TIMESTAMP \'2026-01-01 00:00:00\' FROM parted '
        "ORDER BY id"
    )
    objects = {
        f"s3://athena-lake/{each['Key']}"
        for each in athena.s3.list_objects_v2(Bucket="athena-lake", Prefix="parted/p=")["Contents"]
    }
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert {row[1] for row in rows} == objects, location
    assert rows[0][1] == rows[1][1]
    assert [row[2:] for row in rows] == [["true", "true"]] * 3
    both = "SELECT *, p.* FROM parted p WHERE \"$path\" LIKE '%/parted/%' ORDER BY id LIMIT 1"
    assert athena.rows(both) == [["1", "x", "1", "x"]]
    through = 'WITH f AS (SELECT "$path", count(*) AS n FROM parted GROUP BY 1) SELECT * FROM f ORDER BY n'
    assert [row[1] for row in athena.rows(through)] == ["1", "2"]
    ambiguous = athena.reason('SELECT "$path" FROM parted a JOIN parted b ON a.id = b.id')
    assert ambiguous.startswith("AMBIGUOUS_NAME: line 1:8: Column '$path' is ambiguous")


def test_instants_are_whole_milliseconds(athena: Athena) -> None:
    at = dt.datetime(2026, 1, 1, 23, 59, 59, 999_600, tzinfo=UTC)
    athena.table(
        "instants",
        pa.table({"at": pa.array([at, at - dt.timedelta(microseconds=200)], pa.timestamp("us", "UTC"))}),
    )
    assert athena.rows("SELECT count(DISTINCT at), min(at), CAST(max(at) AS date) FROM instants") == [
        ["2", "2026-01-01 23:59:59.999", "2026-01-02"]
    ]


def test_executions_are_listed_newest_first(athena: Athena) -> None:
    ids = [athena.start(f"SELECT {i}") for i in range(3)]
    for id_ in ids:
        athena.wait(id_)
    listed = athena.client.list_query_executions(WorkGroup="tests", MaxResults=2)
    assert listed["QueryExecutionIds"] == ids[:0:-1]
    found = athena.client.batch_get_query_execution(QueryExecutionIds=[ids[0], "no-such-query"])
    assert [e["Query"] for e in found["QueryExecutions"]] == ["SELECT 0"]
    assert found["UnprocessedQueryExecutionIds"][0]["QueryExecutionId"] == "no-such-query"
    assert athena.client.list_table_metadata(CatalogName="AwsDataCatalog", DatabaseName=DATABASE)[
        "TableMetadataList"
    ]


def test_where_results_go_is_the_workgroups_or_the_requests(athena: Athena) -> None:
    with pytest.raises(ClientError, match="No output location provided"):
        athena.client.start_query_execution(QueryString="SELECT 1")
    id_ = athena.client.start_query_execution(
        QueryString="SELECT 1", ResultConfiguration={"OutputLocation": "s3://athena-lake/mine"}
    )["QueryExecutionId"]
    assert athena.wait(id_)["ResultConfiguration"]["OutputLocation"] == f"s3://athena-lake/mine/{id_}.csv"
    with pytest.raises(ClientError, match="is not found"):
        athena.start("SELECT 1", WorkGroup="no-such-group")
