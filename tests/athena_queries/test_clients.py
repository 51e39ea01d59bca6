"""Standard clients of Athena against the local endpoint, with nothing of ours but the address: AWS_ENDPOINT_URL."""

from __future__ import annotations

import datetime as dt
import re
import time
from decimal import Decimal

import pytest

from local.sample_queries import named
from local.stack import Stack
from tests.athena_queries.answers import answer
from tests.support import REPO

#: Python of the analysts' page, and packages that it needs and the clone does not have.
PAGE = re.findall(r"```python\n(.*?)```", (REPO / "docs" / "analysts.md").read_text(encoding="utf-8"), re.S)
EXTRA = ("awswrangler", "polars")
BY_STATUS = [
    ("CANCELLED", 1, Decimal("30.00")),
    ("PAID", 3, Decimal("128.10")),
    ("PLACED", 2, Decimal("40.00")),
    ("SHIPPED", 2, Decimal("96.66")),
]


@pytest.fixture(autouse=True)
def _environment(lakehouse: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    ):  # fmt: skip
        monkeypatch.setenv(name, lakehouse.exports[name])
    monkeypatch.setenv("AWS_DEFAULT_REGION", lakehouse.exports["AWS_REGION"])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_boto3() -> None:
    import boto3

    athena = boto3.client("athena")
    started = athena.start_query_execution(
        QueryString=named("orders_by_status").sql,
        WorkGroup="lakehouse",
        QueryExecutionContext={"Catalog": "AwsDataCatalog", "Database": "lakehouse_gold"},
    )["QueryExecutionId"]
    end = time.monotonic() + 60
    while True:
        status = athena.get_query_execution(QueryExecutionId=started)["QueryExecution"]["Status"]
        if status["State"] not in ("QUEUED", "RUNNING") or time.monotonic() > end:
            break
        time.sleep(0.05)
    assert status["State"] == "SUCCEEDED", status
    rows = athena.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"]
    columns, expected = answer("orders_by_status")
    assert [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows] == [columns, *expected]


def test_pyathena_has_python_types_and_parameters() -> None:
    from pyathena import connect
    from pyathena.error import OperationalError

    cursor = connect(work_group="lakehouse", schema_name="lakehouse_gold", poll_interval=0.05).cursor()
    assert cursor.execute(named("orders_by_status").sql).fetchall() == BY_STATUS
    row = cursor.execute(
        "SELECT order_date, amount_usd, is_known_customer FROM fact_orders WHERE order_id = %(id)s",
        {"id": "O5"},
    ).fetchone()
    assert row == (dt.date(2026, 2, 3), None, False)
    with pytest.raises(OperationalError, match="COLUMN_NOT_FOUND: line 1:8"):
        cursor.execute("SELECT nope FROM fact_orders")


def test_pyathena_gives_a_frame() -> None:
    from pyathena import connect
    from pyathena.pandas.cursor import PandasCursor

    cursor = connect(
        work_group="lakehouse", schema_name="lakehouse_gold", poll_interval=0.05, cursor_class=PandasCursor
    ).cursor()
    frame = cursor.execute(named("newest_data").sql).as_pandas()
    assert list(frame.columns) == ["table_name", "row_count", "newest"]
    assert str(frame.set_index("table_name").newest["orders"]) == "2026-02-02 11:00:01"
    assert frame.newest.isna().sum() == 1


def test_awswrangler() -> None:
    wr = pytest.importorskip("awswrangler", reason="not pinned here: `make test-athena` brings it")
    frame = wr.athena.read_sql_query(
        named("orders_by_status").sql,
        database="lakehouse_gold",
        workgroup="lakehouse",
        ctas_approach=False,  # the other way creates a table, which needs the right to
    )
    assert [tuple(row) for row in frame.itertuples(index=False)] == BY_STATUS
    assert "fact_orders" in set(wr.catalog.tables(database="lakehouse_gold").Table)
    with pytest.raises(wr.exceptions.QueryFailed, match="COLUMN_NOT_FOUND"):
        wr.athena.read_sql_query(
            "SELECT nope FROM fact_orders",
            database="lakehouse_gold",
            workgroup="lakehouse",
            ctas_approach=False,
        )


@pytest.mark.parametrize("block", PAGE, ids=lambda block: re.findall(r"(?:import|from) (\w+)", block)[-1])
def test_python_of_the_page_runs_as_it_stands(
    block: str, lakehouse: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in EXTRA:
        if f"import {package}" in block:
            pytest.importorskip(package, reason=f"the clone does not install {package}, as the page says")
    for name, value in lakehouse.shell.items():
        monkeypatch.setenv(name, value)
    exec(compile(block, "docs/analysts.md", "exec"), {})
    assert "PLACED" in capsys.readouterr().out
