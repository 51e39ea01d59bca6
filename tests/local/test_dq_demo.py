"""The tables of `make dq-demo`, what is declared to be wrong with them, and whether the runner finds just that."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from dq_runner.config import read_config
from dq_runner.history import FOLDER, Measured
from dq_runner.report import Report, ResultRow
from dq_runner.runner import Asked, read_settings, run
from local import bootstrap, dq_demo, dq_history
from local.snowflake import dq_tables
from local.snowflake.dq_tables import Flaw, OrderRows, Shop
from local.stack import Stack
from tests.conftest import REPO
from tests.support import Aws, snowflake_double

# A Sunday, after a Saturday; the day under test is the leap day.
DAYS = (date(2026, 11, 29), date(2028, 3, 1))
TODAY = DAYS[0]
AT = datetime(2026, 11, 29, 6, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def made() -> Shop:
    return dq_tables.shop(TODAY)


@pytest.fixture(scope="module")
def sample() -> OrderRows:
    return dq_tables.sample_orders(TODAY)


# The tables ----------------------------------------------------------------------------------------------------


def test_a_day_has_the_same_rows_each_time(made: Shop, sample: OrderRows) -> None:
    assert dq_tables.shop(TODAY).tables == made.tables
    assert dq_tables.sample_orders(TODAY) == sample


@pytest.mark.parametrize("today", DAYS, ids=str)
def test_the_rows_have_as_many_flaws_as_are_declared(today: date) -> None:
    """Counted from the rows themselves, without SQL."""
    shop = dq_tables.shop(today)
    customers, payments = (shop.table(name).by_day[shop.day] for name in ("CUSTOMERS", "PAYMENTS"))
    odd = shop.table(dq_tables.ODD).by_day[shop.day]
    every_id = Counter(row["PAYMENT_ID"] for row in shop.table("PAYMENTS").rows)
    ids = Counter(row["CUSTOMER_ID"] for row in customers if row["CUSTOMER_ID"])
    known = {row["CUSTOMER_ID"] for row in shop.table("CUSTOMERS").rows}
    counted = {
        ("CUSTOMERS", "not_null(CUSTOMER_ID)"): sum(row["CUSTOMER_ID"] is None for row in customers),
        ("CUSTOMERS", "unique(CUSTOMER_ID)"): sum(count - 1 for count in ids.values()),
        ("CUSTOMERS", "regex(EMAIL)"): sum("@" not in row["EMAIL"] for row in customers),
        ("CUSTOMERS", "accepted_values(COUNTRY_CODE)"): sum(row["COUNTRY_CODE"] == "XX" for row in customers),
        ("PAYMENTS", "range(AMOUNT)"): sum(row["AMOUNT"] < 0 for row in payments),
        ("PAYMENTS", "referential(CUSTOMER_ID)"): sum(row["CUSTOMER_ID"] not in known for row in payments),
        ("PAYMENTS", "accepted_values(CURRENCY)"): sum(row["CURRENCY"] == "ZZZ" for row in payments),
        ("PAYMENTS", "not_in_future(PAID_AT)"): sum(row["PAID_AT"].date() > today for row in payments),
        ("PAYMENTS", "unique(PAYMENT_ID)"): sum(every_id[row["PAYMENT_ID"]] > 1 for row in payments),
        ("PAYMENTS", "accepted_values(METHOD)"): sum(row["METHOD"] == "CASH" for row in payments),
        ("PAYMENTS", "refunds have a reason"): sum(
            row["STATUS"] == "REFUNDED" and row["REFUND_REASON"] is None for row in payments
        ),
        (dq_tables.ODD, "regex(e-mail)"): sum("@" not in row["e-mail"] for row in odd),
    }
    assert counted == {(flaw.table, flaw.rule): flaw.rows for flaw in shop.flaws if flaw.rows is not None}


def test_the_sample_s_orders_have_as_many_flaws_as_are_declared(sample: OrderRows) -> None:
    rows = [dict(zip(sample.header, row, strict=True)) for row in sample.rows]
    keys = Counter((row["ORDER_ID"], row["EVENT_TS"]) for row in rows if row["ORDER_ID"] and row["EVENT_TS"])
    counted = {
        "not_null(ORDER_ID)": sum(not row["ORDER_ID"] for row in rows),
        "not_null(EVENT_TS)": sum(not row["EVENT_TS"] for row in rows),
        "unique(ORDER_ID, EVENT_TS)": sum(count - 1 for count in keys.values()),
        "accepted_values(STATUS)": sum(
            row["STATUS"] not in ("PLACED", "PAID", "SHIPPED", "CANCELLED") for row in rows
        ),
        "accepted_values(CURRENCY)": sum(row["CURRENCY"] in ("XXX", "BTC", "ZZZ") for row in rows),
        "range(AMOUNT)": sum(Decimal(row["AMOUNT"]) < 0 for row in rows),
    }
    assert counted == {flaw.rule: flaw.rows for flaw in sample.flaws}
    assert all(counted.values())


# The proof -----------------------------------------------------------------------------------------------------

ROW = {
    "timestamp": AT,
    "database": "SALES",
    "schema": "SHOP",
    "table": "T",
    "column": "A",
    "rule": "range(A)",
    "kind": "range",
    "origin": "declared",
    "status": "failed",
    "severity": "critical",
    "observed": "5 of 10 rows",
    "expected": "at least 0",
    "failed_rows": 5,
}
DECLARED = Flaw("SHOP", "T", "range(A)", 5)


def a_report(*rows: dict[str, Any]) -> Any:
    results = tuple(ResultRow.model_validate(ROW | row) for row in rows)
    return Report.model_construct(results=results)


@pytest.mark.parametrize(
    ("rows", "flaws", "said"),
    [
        pytest.param([{}], [DECLARED], [], id="as declared"),
        pytest.param([{}], [replace(DECLARED, rows=None)], [], id="a rule that counts no rows"),
        pytest.param([], [DECLARED], ["received nothing, expected failed, 5 rows"], id="not found"),
        pytest.param(
            [{"status": "passed", "failed_rows": 0}],
            [DECLARED],
            ["received nothing, expected failed, 5 rows"],
            id="said to hold",
        ),
        pytest.param(
            [{"failed_rows": 4}],
            [DECLARED],
            ["received failed, 4 rows, expected failed, 5 rows"],
            id="other count",
        ),
        pytest.param(
            [{}],
            [],
            ["received failed, 5 rows (5 of 10 rows), expected that it holds"],
            id="nobody declared it",
        ),
        pytest.param(
            [{"status": "error", "failed_rows": None}],
            [DECLARED],
            ["received error, expected failed, 5 rows"],
            id="not checked",
        ),
    ],
)
def test_differences_are_told(rows: list[dict[str, Any]], flaws: list[Flaw], said: list[str]) -> None:
    expected = [f"SHOP.T range(A): {line}" for line in said]
    assert dq_demo.differences(a_report(*rows), flaws) == expected


# The demo's own steps, without its page ------------------------------------------------------------------------


@dataclass
class Demo:
    running: Stack
    environment: dict[str, str]
    bucket: str

    def change(self, *statements: str) -> None:
        with dq_demo.connected(self.running) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@pytest.fixture(scope="module")
def demo(aws: Aws, made: Shop, sample: OrderRows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    from lakehouse import store

    state, bucket = tmp_path_factory.mktemp("dq"), "dq-demo"
    with snowflake_double(state) as port, pytest.MonkeyPatch.context() as patch:
        exports = aws.env | {"LOCAL_SNOWFLAKE_HOST": "127.0.0.1", "LOCAL_SNOWFLAKE_PORT": str(port)}
        running = Stack(state, {"snowflake": port}, exports | {"S3_DQ_REPORTS_BUCKET": bucket})
        environment = bootstrap.dq_environment(running.exports)
        for name, value in environment.items():
            patch.setenv(name, value)
        store.client.cache_clear()
        place = {"LocationConstraint": aws.env["AWS_REGION"]}
        running.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
        secret = json.dumps(bootstrap.secrets(running)[bootstrap.DQ_SECRET])
        running.client("secretsmanager").create_secret(Name=bootstrap.DQ_SECRET, SecretString=secret)
        dq_demo.fill(running, made)
        dq_history.write(bucket, made, sample, AT)
        yield Demo(running, environment, bucket)
        running.client("secretsmanager").delete_secret(
            SecretId=bootstrap.DQ_SECRET, ForceDeleteWithoutRecovery=True
        )
    store.client.cache_clear()


def test_the_runner_finds_every_flaw_and_nothing_else(
    demo: Demo, made: Shop, sample: OrderRows, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_config(dq_demo.CONFIG)
    yesterday = dq_demo.without_orders(config)
    before = dq_demo.check(yesterday, AT - timedelta(days=1), demo.environment)
    assert dq_demo.differences(before, [flaw for flaw in made.flaws if flaw.is_old]) == []
    dq_demo.let_flaws_come(demo.running, made, sample)
    report = dq_demo.check(config, AT, demo.environment)
    assert dq_demo.differences(report, [*made.flaws, *sample.flaws]) == []
    assert (report.run.status, report.summary.counts.muted) == ("failed", 1)
    assert report.summary.new_failures == len(
        [flaw for flaw in (*made.flaws, *sample.flaws) if flaw.status == "failed" and not flaw.is_old]
    )
    told = capsys.readouterr().out
    for table in made.tables:
        assert (f"SHOP.{table.name} " in told) == (table.read is not None)
    assert "BOARD_MINUTES" not in report.to_json().decode()


def test_history_that_is_counted_is_what_a_run_measures(demo: Demo, made: Shop) -> None:
    """The run of the test before wrote what it measured of the day before the flaws came."""
    day = made.day - timedelta(days=1)
    s3 = demo.running.client("s3")
    listed = s3.list_objects_v2(Bucket=demo.bucket, Prefix=f"{FOLDER}/{day}/")["Contents"]
    assert len(listed) == 2
    counted, measured = (
        {line.table: line for line in Measured.model_validate_json(body).tables}
        for body in (
            s3.get_object(Bucket=demo.bucket, Key=found["Key"])["Body"].read()
            for found in sorted(listed, key=lambda found: "seeded" not in found["Key"])
        )
    )
    assert len(measured) >= 8
    assert {name: counted[name] for name in measured} == measured


def test_a_flaw_that_was_mended_and_one_that_nobody_knows_of_are_told(demo: Demo, made: Shop) -> None:
    day = f"LOADED_AT >= '{made.day}'::TIMESTAMP_NTZ"
    demo.change(
        f"UPDATE SALES.SHOP.PAYMENTS SET AMOUNT = 1 WHERE AMOUNT < 0 AND {day}",
        f"UPDATE SALES.SHOP.INVOICES SET TOTAL = -1 WHERE INVOICE_NUMBER LIKE '%-0007' AND {day}",
    )
    tables = ("SALES.SHOP.PAYMENTS", "SALES.SHOP.INVOICES")
    report = run(
        read_config(dq_demo.CONFIG),
        read_settings(demo.environment),
        at=AT,
        run_id="mended",
        asked=Asked(tables=tables),
    )
    wanted = [flaw for flaw in made.flaws if flaw.table == "PAYMENTS"]
    invoices, payments = dq_demo.differences(report, wanted)
    assert re.fullmatch(
        r"SHOP\.INVOICES range\(TOTAL\): received failed, 1 row .*, expected that it holds", invoices
    )
    assert payments == "SHOP.PAYMENTS range(AMOUNT): received nothing, expected failed, 5 rows"


# The command ---------------------------------------------------------------------------------------------------


@pytest.mark.proof
def test_the_demo_stays_until_ctrl_c_and_leaves_nothing_running(tmp_path: Path) -> None:
    """Twice: the second finds the lake of the first."""
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "local.dq_demo"],
            cwd=REPO,
            env={name: value for name, value in os.environ.items() if name != "ONCE"}
            | {"LAKEHOUSE_STATE_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Rules, tables"):
                break
        url = next(line.split()[-1] for line in lines if line.startswith("The page"))
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, "".join(lines)
        assert any(line.startswith("All ") and "and nothing else" in line for line in lines)
        _, alive = psutil.wait_procs(started, 10)
        assert len(started) >= 3
        assert alive == []
