"""SQL in fix files: what computes a value from the row's fields passes, whatever else is named and refused."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.quality.expressions import FUNCTIONS, MAX_CHARACTERS, refusal
from lakehouse.session import local_frame

FIELDS = ("AMOUNT", "STATUS", "current_date", "two words")

GOOD = {
    "abs(cast(AMOUNT AS decimal(18,2)))": "1.50",
    "CASE WHEN STATUS = 'paid' THEN upper(STATUS) ELSE STATUS END": "PAID",
    "CASE STATUS WHEN 'paid' THEN 'PAID' END": "PAID",
    "regexp_replace(AMOUNT, '^-', '')": "1.50",
    "AMOUNT::decimal(18,2) * -1": "1.50",
    "-AMOUNT": "1.5",
    "try_cast(STATUS AS int)": None,
    "coalesce(nullif(trim(STATUS), 'paid'), 'PLACED')": "PLACED",
    "STATUS || '/' || AMOUNT": "paid/-1.50",
    "substring(STATUS FROM 1 FOR 2)": "pa",
    "if(STATUS IN ('paid', 'sent') AND AMOUNT IS NOT NULL, 'a', 'b')": "a",
    "if(AMOUNT::decimal(18,2) BETWEEN -2 AND -1, 'a', 'b')": "a",
    "if(STATUS LIKE 'p%' OR STATUS RLIKE 'x', 'a', 'b')": "a",
    "position('i' IN STATUS)": "3",
    "date_format(to_timestamp('2026-01-02 ' || '03:04:05' || substr(STATUS, 9)), 'yyyy')": "2026",
    "lpad(STATUS, 6, '0')": "00paid",
    "`two words`": "both",
    "current_date": "a field of that name",
    "NULL": None,
    "'PAID' -- agreed": "PAID",
}

HOSTILE = {
    "(SELECT max(x) FROM secrets)": "ScalarSubquery",
    "CASE WHEN STATUS = 'x' THEN (SELECT 1) END": "ScalarSubquery",
    "EXISTS (SELECT 1)": "Exists",
    "STATUS IN (SELECT name FROM secrets)": "InSubquery",
    "java_method('java.lang.System', 'getenv', 'HOME')": "java_method",
    "reflect('java.lang.Runtime', 'getRuntime')": "reflect",
    "try_reflect('java.lang.Runtime', 'getRuntime')": "try_reflect",
    "input_file_name()": "input_file_name",
    "input_file_block_start()": "input_file_block_start",
    "secret('scope', 'key')": "secret",
    "aes_decrypt(STATUS, 'k')": "aes_decrypt",
    "rand()": "rand",
    "uuid()": "uuid",
    "now()": "now",
    "current_timestamp": "the name current_timestamp",
    "current_timestamp()": "current_timestamp",
    "current_user()": "current_user",
    "session_user": "the name session_user",
    "localtimestamp": "the name localtimestamp",
    "unix_timestamp()": "unix_timestamp",
    "version()": "version",
    "spark_partition_id()": "spark_partition_id",
    "monotonically_increasing_id()": "monotonically_increasing_id",
    "raise_error('x')": "raise_error",
    "assert_true(false)": "assert_true",
    "TIMESTAMP 'now'": "the literal",
    "DATE 'today'": "the literal",
    "cast('now' AS timestamp)": "constant text",
    "cast('n' || 'ow' AS date)": "constant text",
    "to_date('today')": "constant text",
    "to_timestamp(concat('n', 'ow'))": "constant text",
    "try_to_timestamp('now')": "constant text",
    "date_add('tomorrow', 1)": "constant text",
    "transform(array(1), x -> x)": "the function transform",
    "aggregate(array(1), 0, (a, x) -> a + x)": "the function aggregate",
    "x -> x": "LambdaFunction",
    "row_number() OVER (ORDER BY AMOUNT)": "WindowExpression",
    "max(AMOUNT)": "the function max",
    "count(*)": "the function count",
    "explode(array(1))": "the function explode",
    "abs(DISTINCT AMOUNT)": "the function abs",
    "abs(AMOUNT) FILTER (WHERE true)": "FILTER",
    "*": "UnresolvedStar",
    "other": "the name other",
    "t.AMOUNT": "the name t.AMOUNT",
    "AMOUNT.x": "the name AMOUNT.x",
    "amount": "the name amount",
    "__state": "the name __state",
    "spark_catalog.default.abs(AMOUNT)": "the function spark_catalog.default.abs",
    "system.builtin.abs(AMOUNT)": "the function system.builtin.abs",
    "AMOUNT AS other": "Alias",
    "AMOUNT, STATUS": "no SQL expression",
    "AMOUNT; DROP TABLE bronze.snowflake_orders": "no SQL expression",
    "DROP TABLE bronze.snowflake_orders": "no SQL expression",
    "abs(AMOUNT": "no SQL expression",
    "": "no SQL expression",
    ":parameter": "NamedParameter",
    "?": "PosParameter",
    "IDENTIFIER('AMOUNT')": "ExpressionWithUnresolvedIdentifier",
    "AMOUNT[0]": "UnresolvedExtractValue",
    "struct(AMOUNT)": "CreateNamedStruct",
    "AMOUNT COLLATE UTF8_LCASE": "Collate",
    "lpad(STATUS, 2000000000, 'x')": "lpad to a length",
    "rpad(STATUS, cast(AMOUNT AS int), 'x')": "rpad to a length",
    "repeat(STATUS, 2000000000)": "the function repeat",
    "sequence(1, 2000000000)": "the function sequence",
    "from_json(STATUS, 'x int')": "the function from_json",
    "abs()": "WRONG_NUM_ARGS",
    "abs(STATUS, 1)": "WRONG_NUM_ARGS",
    "(" * 499 + "1" + ")" * 499: "499 opening parentheses",
    "1" + "+1" * MAX_CHARACTERS: f"{2 * MAX_CHARACTERS + 1} characters",
}


def test_values_come_from_the_row_alone(spark: SparkSession) -> None:
    row = local_frame(
        spark,
        [("-1.50", "paid", "a field of that name", "both")],
        "AMOUNT string, STATUS string, `current_date` string, `two words` string",
    )
    assert {sql: refusal(spark, sql, FIELDS) for sql in GOOD if refusal(spark, sql, FIELDS)} == {}
    values = row.select(*[F.expr(sql).cast("string") for sql in GOOD]).head()
    assert values is not None
    assert dict(zip(GOOD, values, strict=True)) == GOOD


@pytest.mark.parametrize("sql", HOSTILE, ids=[sql[:40] or "nothing" for sql in HOSTILE])
def test_what_leaves_its_lane_is_named_and_refused(spark: SparkSession, sql: str) -> None:
    found = refusal(spark, sql, FIELDS)
    assert found is not None
    received, expected = found
    assert HOSTILE[sql] in received
    assert expected.startswith(("only the row's fields", "an SQL expression", "at most"))
    assert "\n" not in received + expected


def test_no_function_on_the_list_reads_anything_but_its_arguments(spark: SparkSession) -> None:
    """Spark itself knows every name, and none of them as non-deterministic, generating or aggregating."""
    registry = spark._jsparkSession.sessionState().functionRegistry()
    jvm = spark._jvm
    assert jvm is not None
    for name in FUNCTIONS:
        if name in ("if", "extract", "between"):  # syntax, too
            continue
        identifier = jvm.org.apache.spark.sql.catalyst.FunctionIdentifier(name)
        found = registry.lookupFunction(identifier)
        assert found.isDefined(), name
        group = found.get().getGroup()
        assert group not in ("misc_funcs", "agg_funcs", "window_funcs", "generator_funcs", "lambda_funcs"), (
            name,
            group,
        )
