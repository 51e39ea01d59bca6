"""The Snowflake double through the real connector."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from snowflake.connector import errors
from snowflake.connector.vendored.requests.exceptions import ChunkedEncodingError

from local.saas import credentials
from local.snowflake import keys
from local.snowflake.admin import Admin, AdminError
from local.snowflake.server import healthy
from tests.conftest import REPO, free_port

COLUMNS = ["ORDER_ID", "EVENT_TS", "CUSTOMER_ID", "STATUS", "AMOUNT", "CURRENCY", "LOADED_AT"]
LOAD_TIME = "2026-11-20 05:00:00.000000"
ORDERS = "SALES.PUBLIC.ORDERS"


class Double:
    """The server as a process of its own, so that it can be killed."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = free_port()
        self.start()
        self.admin = Admin("127.0.0.1", self.port)

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "local.snowflake.server",
            "--state",
            str(self.state),
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(command, cwd=REPO)
        deadline = time.monotonic() + 90
        while not healthy(f"http://127.0.0.1:{self.port}"):
            assert self.process.poll() is None, "the server ended while starting"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def connect(self, **changed: str) -> Any:
        secret = credentials.SNOWFLAKE | changed
        return snowflake.connector.connect(
            account=secret["account"],
            user=secret["username"],
            password=secret["password"],
            database=secret["database"],
            schema=secret["schema"],
            host="127.0.0.1",
            port=self.port,
            protocol="http",
            login_timeout=60,
            network_timeout=60,
            session_parameters={"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False},
        )

    def query(self, sql: str) -> list[Any]:
        with self.connect() as connection, connection.cursor() as cursor:
            found: list[Any] = cursor.execute(sql).fetchall()
            return found

    def load(
        self,
        folder: Path,
        name: str,
        rows: list[list[str]],
        columns: list[str] | None = None,
        path: str = "",
    ) -> dict[str, Any]:
        columns = COLUMNS if columns is None else columns
        cells = list(zip(*rows, strict=True)) or [()] * len(columns)
        parquet = folder / f"{name}.parquet"
        pq.write_table(
            pa.table({c: pa.array(v, pa.string()) for c, v in zip(columns, cells, strict=True)}), parquet
        )
        return self.admin.load(
            parquet,
            sha256=name,
            name=f"{name}.csv",
            rows=len(rows),
            columns=columns,
            loaded_at=LOAD_TIME,
            path=path,
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    double = Double(tmp_path_factory.mktemp("snowflake"))
    yield double
    double.end(signal.SIGKILL)


@pytest.fixture
def double(running: Double) -> Double:
    running.admin.reset()
    return running


def an_order(number: int, **changed: str) -> list[str]:
    row = {
        "ORDER_ID": f"ORD-{number}",
        "EVENT_TS": "2026-10-01 10:00:00.123456",
        "CUSTOMER_ID": "001",
        "STATUS": "PAID",
        "AMOUNT": "12.50",
        "CURRENCY": "EUR",
        "LOADED_AT": "2026-10-01 10:05:00",
    }
    return list((row | changed).values())


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def types(double: Double) -> dict[str, str]:
    return {name: kind for name, kind, *_ in double.query(f"DESCRIBE TABLE {ORDERS}")}


def test_an_empty_double_has_the_empty_table(double: Double) -> None:
    assert double.query(f"SELECT COUNT(*) FROM {ORDERS}") == [(0,)]
    assert types(double)["AMOUNT"] == "NUMBER(18,2)"
    assert types(double)["EVENT_TS"].startswith("TIMESTAMP_NTZ")


def test_cells_that_fit_become_typed_values(double: Double, tmp_path: Path) -> None:
    rows = [
        an_order(1, CUSTOMER_ID='Zo\u0308e, "quoted"\nline'),
        an_order(2, AMOUNT="-3", LOADED_AT="", STATUS=""),
    ]
    rows.append(an_order(3, EVENT_TS="2026-10-01T12:00:00Z", AMOUNT="9999999999999999.99"))
    double.load(tmp_path, "f1", rows)
    found = double.query(
        f"SELECT ORDER_ID, EVENT_TS, CUSTOMER_ID, STATUS, AMOUNT, LOADED_AT FROM {ORDERS} ORDER BY 1"
    )
    assert found[0][1:3] == (at("2026-10-01 10:00:00.123456"), 'Zo\u0308e, "quoted"\nline')
    assert found[1][3:] == (None, Decimal("-3.00"), at(LOAD_TIME))
    assert found[2][1] == at("2026-10-01 12:00:00")
    assert found[2][4] == Decimal("9999999999999999.99")


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        pytest.param("AMOUNT", "12,50", id="comma"),
        pytest.param("AMOUNT", "12.505", id="more digits than the type has"),
        pytest.param("AMOUNT", "12345678901234567.00", id="too large"),
        pytest.param("EVENT_TS", "2026-02-30 10:00:00", id="no such day"),
        pytest.param("EVENT_TS", "0000-01-01", id="no such year"),
        pytest.param("EVENT_TS", "2026-10-01T12:00:00+02:00", id="another zone than UTC"),
        pytest.param("EVENT_TS", "2026-10-01 10:00:00.1234567", id="finer than microseconds"),
    ],
)
def test_a_cell_that_does_not_fit_makes_its_column_text(
    double: Double, tmp_path: Path, column: str, cell: str
) -> None:
    double.load(tmp_path, "f1", [an_order(1), an_order(2, **{column: cell})])
    assert types(double)[column].startswith("VARCHAR")
    assert [row[0] for row in double.query(f"SELECT {column} FROM {ORDERS} ORDER BY ORDER_ID")][1] == cell


def test_what_fits_keeps_its_value_beside_a_cell_that_does_not(double: Double, tmp_path: Path) -> None:
    """Each in a form that the pipeline reads as the same value: one bad row makes no good one wrong."""
    cells = ["2024-03-01", "2024-03-02T10:00Z", "2024-03-03 10:00:00.5", "", "03/04/2024"]
    amounts = ["1.00", "+2.", "3", "", "4,00"]
    rows = [
        an_order(number, EVENT_TS=cell, AMOUNT=amount)
        for number, (cell, amount) in enumerate(zip(cells, amounts, strict=True))
    ]
    double.load(tmp_path, "f1", rows)
    found = double.query(f"SELECT EVENT_TS, AMOUNT FROM {ORDERS} ORDER BY ORDER_ID")
    assert found == [
        ("2024-03-01 00:00:00", "1.00"),
        ("2024-03-02 10:00:00", "2.00"),
        ("2024-03-03 10:00:00.5", "3.00"),
        (None, None),
        ("03/04/2024", "4,00"),
    ]


def test_a_later_file_that_does_not_fit_widens_the_table(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "f1", [an_order(1)])
    double.load(tmp_path, "f2", [an_order(2, AMOUNT="n/a")])
    assert double.query(f"SELECT AMOUNT FROM {ORDERS} ORDER BY ORDER_ID") == [("12.50",), ("n/a",)]
    assert types(double)["EVENT_TS"].startswith("TIMESTAMP_NTZ")


def test_a_load_time_that_is_none_becomes_null(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "f1", [an_order(1, LOADED_AT="tomorrow")])
    assert double.query(f"SELECT LOADED_AT FROM {ORDERS}") == [(None,)]
    assert types(double)["LOADED_AT"].startswith("TIMESTAMP")


def test_years_from_1_to_9999_arrive_through_arrow(double: Double, tmp_path: Path) -> None:
    stamps = ["0001-01-01 00:00:00.000001", "1582-10-10 00:00:00", "9999-12-31 23:59:59.999999"]
    double.load(tmp_path, "f1", [an_order(n, EVENT_TS=stamp) for n, stamp in enumerate(stamps)])
    with double.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT EVENT_TS FROM {ORDERS} ORDER BY ORDER_ID")
        table = cursor.fetch_arrow_all(force_microsecond_precision=True)
    assert table.column("EVENT_TS").to_pylist() == [at(stamp) for stamp in stamps]


def test_times_that_are_null_stay_null(double: Double, tmp_path: Path) -> None:
    rows = [[*an_order(n), shipped] for n, shipped in enumerate(["", "2026-10-02 00:00:00", ""])]
    double.load(tmp_path, "f1", rows, [*COLUMNS, "SHIPPED_AT"])
    query = f"SELECT SHIPPED_AT, DELIVERED_AT FROM {ORDERS} ORDER BY ORDER_ID"
    assert double.query(query) == [(None, None), (at("2026-10-02 00:00:00"), None), (None, None)]
    with double.connect() as connection, connection.cursor() as cursor:
        table = cursor.execute(query).fetch_arrow_all(force_microsecond_precision=True)
    assert [column.null_count for column in table.columns] == [2, 3]


def test_the_same_file_adds_nothing_and_copies_in_a_file_stay(double: Double, tmp_path: Path) -> None:
    assert double.load(tmp_path, "f1", [an_order(1), an_order(1)])["rows"] == 2
    assert double.load(tmp_path, "f1", [an_order(1), an_order(1)]) == {"rows": 0, "already_loaded": True}
    assert double.query(f"SELECT COUNT(*) FROM {ORDERS}") == [(2,)]


def test_a_load_is_stamped_with_nanoseconds(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "f1", [an_order(1, LOADED_AT="")])
    bound = "LOADED_AT > '2026-11-20 05:00:00.000000'::TIMESTAMP_NTZ(6)"
    query = f"SELECT LOADED_AT FROM {ORDERS} WHERE {bound}"
    with double.connect() as connection, connection.cursor() as cursor:
        table = cursor.execute(query).fetch_arrow_all()
    assert table.column("LOADED_AT").cast("int64").to_pylist()[0] % 1000 == 789
    double.load(tmp_path, "f2", [an_order(2, LOADED_AT="9999-12-31 23:59:59.999999")])
    found = double.query(f"SELECT LOADED_AT FROM {ORDERS} ORDER BY ORDER_ID")
    assert found == [(at("2026-11-20 05:00:00"),), (at("9999-12-31 23:59:59.999999"),)]


def test_a_result_comes_in_chunks_each_in_the_narrowest_integers(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "f1", [an_order(n, AMOUNT=f"{n}.01") for n in range(40_000)])
    with double.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT ORDER_ID, TRY_TO_NUMBER(REPLACE(ORDER_ID, 'ORD-', '')) AS N, AMOUNT FROM {ORDERS} ORDER BY N"
        )
        batches = list(cursor.fetch_arrow_batches(force_microsecond_precision=True))
        assert cursor.rowcount == 40_000
    assert [batch.schema.field("N").type for batch in batches] == [
        pa.int8(),
        pa.int16(),
        pa.int16(),
        pa.int32(),
    ]
    rows = pa.concat_tables(batches, promote_options="permissive")
    assert rows.column("N").to_pylist() == list(range(40_000))
    assert rows.column("AMOUNT").cast(pa.decimal128(18, 2)).to_pylist()[-1] == Decimal("39999.01")
    assert double.query(f"SELECT COUNT(*), MIN(AMOUNT) FROM {ORDERS} WHERE AMOUNT > 150") == [
        (39_850, Decimal("150.01"))
    ]


def test_an_extra_column_appears(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "f1", [an_order(1)])
    double.load(tmp_path, "f2", [[*an_order(2), "red"]], [*COLUMNS, "COLOUR"])
    assert double.query(f"SELECT COLOUR FROM {ORDERS} ORDER BY ORDER_ID") == [(None,), ("red",)]


def test_columns_that_differ_in_case_alone_are_refused_with_their_names(
    double: Double, tmp_path: Path
) -> None:
    with pytest.raises(AdminError, match="AMOUNT and amount"):
        double.load(tmp_path, "f1", [[*an_order(1), "2"]], [*COLUMNS, "amount"])
    assert double.load(tmp_path, "f1", [an_order(1)])["rows"] == 1


def test_a_missing_column_goes_and_comes_back_with_the_corrected_file(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "day1", [an_order(1)])
    without = [name for name in COLUMNS if name != "AMOUNT"]
    broken = [cell for name, cell in zip(COLUMNS, an_order(2), strict=True) if name != "AMOUNT"]
    double.load(tmp_path, "day2_broken", [broken], without)
    assert "AMOUNT" not in types(double)
    assert double.query(f"SELECT COUNT(*) FROM {ORDERS}") == [(2,)]
    result = double.load(tmp_path, "day2", [an_order(2, AMOUNT="7.00")])
    assert result["withdrawn"] == ["day2_broken.csv"]
    assert double.query(f"SELECT ORDER_ID, AMOUNT FROM {ORDERS} ORDER BY 1") == [
        ("ORD-1", Decimal("12.50")),
        ("ORD-2", Decimal("7.00")),
    ]


def test_a_bad_load_can_be_withdrawn(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "day1", [an_order(1)])
    double.load(tmp_path, "day2", [an_order(2, AMOUNT="n/a"), an_order(3)])
    assert double.admin.withdraw(["day2", "never loaded"]) == 2
    assert double.query(f"SELECT ORDER_ID, AMOUNT FROM {ORDERS}") == [("ORD-1", Decimal("12.50"))]
    assert double.admin.state() == {"orders": 1, "files": ["day1.csv"]}


def test_a_file_that_was_edited_takes_its_own_place(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "v1", [an_order(1), an_order(2)], path="/data/orders.csv")
    double.load(tmp_path, "other", [an_order(3)], path="/data/more.csv")
    answer = double.load(tmp_path, "v2", [an_order(1, AMOUNT="9.00")], path="/data/orders.csv")
    assert answer["edited"] == 2
    rows = double.query(f"SELECT ORDER_ID, AMOUNT FROM {ORDERS} ORDER BY ORDER_ID")
    assert rows == [("ORD-1", Decimal("9.00")), ("ORD-3", Decimal("12.50"))]


def test_sql_changes_the_table_and_stays_when_a_file_is_added(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "f1", [an_order(1)])
    with double.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"UPDATE {ORDERS} SET AMOUNT = 1.00, LOADED_AT = '2026-11-02 00:00:00'::TIMESTAMP_NTZ")
    double.load(tmp_path, "f2", [an_order(2)])
    amounts = double.query(f"SELECT AMOUNT FROM {ORDERS} ORDER BY ORDER_ID")
    assert amounts == [(Decimal("1.00"),), (Decimal("12.50"),)]


def test_100000_rows_load_and_arrive_in_seconds(double: Double, tmp_path: Path) -> None:
    begun = time.monotonic()
    double.load(tmp_path, "big", [an_order(n) for n in range(100_000)])
    with double.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {ORDERS}")
        table = cursor.fetch_arrow_all(force_microsecond_precision=True)
    assert table.num_rows == 100_000
    assert time.monotonic() - begun < 60  # about 2 s on an idle machine


# What fakesnow alone does not do -------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "somebody"}])
def test_wrong_credentials_are_refused_at_once(double: Double, wrong: dict[str, str]) -> None:
    with pytest.raises(errors.DatabaseError) as failure:
        double.connect(**wrong)
    assert failure.value.errno == 390100


def test_accepted_password_can_change(double: Double) -> None:
    double.admin.credentials(password="renewed")
    with pytest.raises(errors.DatabaseError):
        double.connect()
    double.connect(password="renewed").close()


def test_a_statement_that_cannot_run_is_an_error_at_once(double: Double) -> None:
    begun = time.monotonic()
    with double.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(errors.ProgrammingError, match="STREAM"):
            cursor.execute(f"CREATE STREAM changes ON TABLE {ORDERS}")
        with pytest.raises(errors.ProgrammingError, match="does not exist"):
            cursor.execute("SELECT * FROM SALES.PUBLIC.NOTHING")
    assert time.monotonic() - begun < 15


def test_planned_failures(double: Double) -> None:
    double.admin.fault(match="query-request", code="000625")
    with double.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(errors.DatabaseError, match="number of waiters"):
            cursor.execute("SELECT 1")
        double.admin.fault(match="query-request", status=503, times=2)
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]  # the connector repeats it


# What the data-quality runner meets ----------------------------------------------------------------------------


SHOP = (
    "CREATE SCHEMA IF NOT EXISTS SALES.SHOP",
    "CREATE TABLE SALES.SHOP.PAYMENTS (PAYMENT_ID NUMBER(38,0), AMOUNT NUMBER(12,2), PAID_AT TIMESTAMP_NTZ)",
    "INSERT INTO SALES.SHOP.PAYMENTS VALUES (1, 2.50, '2026-10-01'), (2, 3.00, '2026-10-02'), (3, 1, '2026-10-03')",
    "CREATE TRANSIENT TABLE SALES.SHOP.STAGED (A NUMBER(38,0))",
    "CREATE VIEW SALES.SHOP.PAID AS SELECT PAYMENT_ID FROM SALES.SHOP.PAYMENTS",
    """CREATE TABLE SALES.SHOP."it's; ""odd"".näme" ("Order" VARCHAR, "lower" DATE)""",
    "CREATE TABLE SALES.SHOP.SALARIES (A NUMBER(38,0))",
    "CREATE TABLE SALES.SHOP.LOCKED_AWAY (A NUMBER(38,0))",
)


@pytest.fixture(scope="module")
def shop_tables(running: Double) -> None:
    with running.connect() as connection, connection.cursor() as cursor:
        for sql in SHOP:
            cursor.execute(sql)


@pytest.fixture
def shop(shop_tables: None, double: Double) -> Double:
    """A schema with tables that the runner's user may read, but for two."""
    readable = ("PAYMENTS", "STAGED", "PAID", """it's; "odd".näme""")
    double.admin.grant(
        *(("SELECT", "SALES", "SHOP", name) for name in readable),
        ("REFERENCES", "SALES", "SHOP", "LOCKED_AWAY"),
    )
    return double


@pytest.fixture(scope="module")
def shop_connection(shop_tables: None, running: Double) -> Iterator[Any]:
    with running.connect() as connection:
        yield connection


def reader(double: Double, **options: Any) -> Any:
    """The runner's user, by its key pair."""
    parameters = {"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False} | options.pop("session_parameters", {})
    return snowflake.connector.connect(
        **{
            "account": "local",
            "user": "dq_platform",
            "role": "DQ_READER",
            "warehouse": "DQ_WH",
        }
        | (
            options
            if "authenticator" in options
            else {
                "authenticator": "SNOWFLAKE_JWT",
                "private_key": der(keys.private_key(double.state, keys.DQ)),
            }
            | options
        ),
        host="127.0.0.1",
        port=double.port,
        protocol="http",
        login_timeout=20,
        network_timeout=20,
        session_parameters=parameters,
    )


def der(pem: str) -> bytes:
    key = load_pem_private_key(pem.encode(), None)
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def asked(double: Double, sql: str, **options: Any) -> list[Any]:
    with reader(double, **options) as connection, connection.cursor() as cursor:
        found: list[Any] = cursor.execute(sql).fetchall()
        return found


def refusal_of(double: Double, sql: str, **options: Any) -> Any:
    with pytest.raises(errors.Error) as failure:
        asked(double, sql, **options)
    return failure.value


def test_the_runner_signs_in_by_each_of_its_own_credentials(double: Double) -> None:
    by_token = {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": credentials.SNOWFLAKE_DQ_TOKEN}
    by_password = {"authenticator": "snowflake", "password": credentials.SNOWFLAKE_DQ["password"]}
    for proof in ({}, by_token, by_password):
        assert asked(double, "SELECT 1", **proof) == [(1,)]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        pytest.param(
            {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": credentials.SNOWFLAKE_TOKEN},
            394400,
            id="the lakehouse's token",
        ),
        pytest.param(
            {"authenticator": "snowflake", "password": credentials.SNOWFLAKE["password"]},
            390100,
            id="the lakehouse's password",
        ),
        pytest.param({"role": "ACCOUNTADMIN"}, 390189, id="a role that was not granted"),
    ],
)
def test_the_runner_does_not_sign_in_by_what_is_another_user_s(
    double: Double, wrong: dict[str, str], code: int
) -> None:
    assert refusal_of(double, "SELECT 1", **wrong).errno == code


def test_the_runner_does_not_sign_in_by_the_lakehouse_s_key(double: Double) -> None:
    wrong = {"private_key": der(keys.private_key(double.state))}
    assert refusal_of(double, "SELECT 1", **wrong).errno == 390144


def test_only_what_was_granted_is_there(shop: Double) -> None:
    found = asked(
        shop,
        "SELECT TABLE_NAME, TABLE_TYPE, IS_TRANSIENT, ROW_COUNT FROM SALES.INFORMATION_SCHEMA.TABLES "
        "WHERE TABLE_SCHEMA = 'SHOP' ORDER BY TABLE_NAME",
    )
    assert found == [
        ("LOCKED_AWAY", "BASE TABLE", "NO", 0),
        ("PAID", "VIEW", "NO", None),
        ("PAYMENTS", "BASE TABLE", "NO", 3),
        ("STAGED", "BASE TABLE", "YES", 0),
        ("""it's; "odd".näme""", "BASE TABLE", "NO", 0),
    ]
    shown = asked(shop, "SHOW TABLES IN SCHEMA SALES.SHOP")
    assert sorted(row[1] for row in shown) == sorted({name for name, kind, *_ in found if kind != "VIEW"})
    assert ("SALARIES",) in shop.query("SELECT TABLE_NAME FROM SALES.INFORMATION_SCHEMA.TABLES")


@pytest.mark.parametrize(
    ("sql", "code", "words"),
    [
        pytest.param(
            "SELECT * FROM SALES.SHOP.SALARIES", 2003, "SALES.SHOP.SALARIES' does not exist", id="invisible"
        ),
        pytest.param("SELECT * FROM SALES.SHOP.GONE", 2003, "Object 'SALES.SHOP.GONE'", id="not there"),
        pytest.param("SELECT * FROM SALES.NONE.X", 2003, "Schema 'SALES.NONE'", id="no schema"),
        pytest.param(
            "SELECT * FROM NONE.INFORMATION_SCHEMA.TABLES", 2003, "Database 'NONE'", id="no database"
        ),
        pytest.param(
            "SELECT 1 FROM SALES.SHOP.PAID, (SELECT * FROM SALES.SHOP.LOCKED_AWAY)",
            3001,
            "privileges to operate on table 'LOCKED_AWAY'",
            id="seen, not read",
        ),
        pytest.param("DELETE FROM SALES.SHOP.PAYMENTS", 3001, "Insufficient privileges", id="writes"),
        pytest.param("CREATE TABLE SALES.SHOP.MINE (A INT)", 3001, "Insufficient privileges", id="creates"),
    ],
)
def test_what_was_not_granted_is_refused(shop: Double, sql: str, code: int, words: str) -> None:
    refused = refusal_of(shop, sql)
    assert (refused.errno, words in refused.msg) == (code, True)


def test_a_view_is_read_without_a_right_to_its_tables(shop: Double) -> None:
    shop.admin.grant(revoked=[("SELECT", "SALES", "SHOP", "PAYMENTS")])
    assert asked(shop, "SELECT COUNT(*) FROM SALES.SHOP.PAID") == [(3,)]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        pytest.param('SELECT COUNT(*) FROM SALES.SHOP."payments"', 2003, id="table"),
        pytest.param('SELECT "amount" FROM SALES.SHOP.PAYMENTS', 904, id="column"),
        pytest.param(
            """SELECT lower FROM SALES.SHOP."it's; ""odd"".näme\"""", 904, id="column in lower case"
        ),
        pytest.param('SELECT "Nothing" FROM SALES.SHOP.PAYMENTS', 904, id="no such column"),
        pytest.param("SELECT A AS VALUES FROM SALES.SHOP.STAGED", 1003, id="reserved word"),
    ],
)
def test_names_mean_what_they_mean_to_snowflake(shop: Double, sql: str, code: int) -> None:
    assert refusal_of(shop, sql).errno == code


def test_names_that_are_right_are_found(shop: Double) -> None:
    name = """SALES.SHOP."it's; ""odd"".näme\""""
    assert asked(shop, f'SELECT COUNT("Order"), MAX(t."lower") AS newest FROM {name} AS t') == [(0, None)]
    assert asked(
        shop, 'WITH p AS (SELECT payment_id AS "id" FROM sales.shop.paid) SELECT MAX("id") FROM p'
    ) == [(3,)]


@settings(max_examples=12)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30))
@example("""it's; "a".b%s{x}\\\n--""")
def test_every_name_is_a_table_s_and_a_column_s(shop_connection: Any, name: str) -> None:
    column = '"' + name.replace('"', '""') + '"'
    table = "SALES.SHOP." + '"' + f"any {name}".replace('"', '""') + '"'
    with shop_connection.cursor() as cursor:
        cursor.execute(f"CREATE OR REPLACE TABLE {table} ({column} NUMBER(10,2))")
        cursor.execute(f"INSERT INTO {table} VALUES (2.5)")
        assert cursor.execute(f"SELECT T.{column} AS {column} FROM {table} AS T").fetchall() == [
            (Decimal("2.5"),)
        ]
        assert cursor.description[0].name == name
        listed = cursor.execute(
            "SELECT c.TABLE_NAME, c.COLUMN_NAME, t.ROW_COUNT FROM SALES.INFORMATION_SCHEMA.TABLES t "
            "JOIN SALES.INFORMATION_SCHEMA.COLUMNS c ON c.TABLE_NAME = t.TABLE_NAME WHERE t.TABLE_NAME LIKE 'any %'"
        ).fetchall()
        assert listed == [(f"any {name}", name, 1)]
        cursor.execute(f"DROP TABLE {table}")


def test_databases_are_shown_to_whom_they_were_granted(shop: Double) -> None:
    shop.query("CREATE DATABASE IF NOT EXISTS LEDGERS")
    assert {row[1] for row in shop.query("SHOW DATABASES")} >= {"LEDGERS", "SALES"}
    assert [row[1] for row in asked(shop, "SHOW DATABASES")] == ["SALES"]
    assert refusal_of(shop, "SELECT * FROM PUBLIC.THINGS", database="LEDGERS").errno == 90105


def test_a_sign_in_fails_as_planned(shop: Double) -> None:
    shop.admin.fault(match="login-request", status=503)
    assert asked(shop, "SELECT 1") == [(1,)]
    shop.admin.fault(match="login-request", code="390100")
    assert refusal_of(shop, "SELECT 1").errno == 390100


def test_the_columns_have_snowflake_s_types(shop: Double) -> None:
    found = asked(
        shop,
        "SELECT COLUMN_NAME, DATA_TYPE, NUMERIC_SCALE FROM SALES.INFORMATION_SCHEMA.COLUMNS "
        "WHERE TABLE_SCHEMA = 'SHOP' AND TABLE_NAME = 'PAYMENTS' ORDER BY ORDINAL_POSITION",
    )
    assert found == [("PAYMENT_ID", "NUMBER", 0), ("AMOUNT", "NUMBER", 2), ("PAID_AT", "TIMESTAMP_NTZ", None)]
    loaded = asked(
        shop, "SELECT DATA_TYPE FROM SALES.INFORMATION_SCHEMA.COLUMNS WHERE COLUMN_NAME = 'LOADED_AT'"
    )
    assert loaded == [("TIMESTAMP_NTZ",)]


def test_a_table_says_when_it_was_changed(shop: Double) -> None:
    query = (
        "SELECT LAST_ALTERED, ROW_COUNT FROM SALES.INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'PAYMENTS'"
    )
    [(before, _)] = asked(shop, query)
    assert abs((datetime.now(UTC) - before).total_seconds()) < 300
    asked(shop, "SELECT * FROM SALES.SHOP.PAYMENTS")
    assert asked(shop, query) == [(before, 3)]
    shop.query("INSERT INTO SALES.SHOP.PAYMENTS VALUES (4, 1, '2026-10-03')")
    shop.query("DELETE FROM SALES.SHOP.PAYMENTS WHERE PAYMENT_ID = 4")
    [(after, rows)] = asked(shop, query)
    assert (after > before, rows) == (True, 3)


ENDLESS = (
    "SELECT COUNT(*) FROM TABLE(GENERATOR(ROWCOUNT => 10000000)) A, TABLE(GENERATOR(ROWCOUNT => 100000)) B "
    "WHERE RANDOM() = 7"
)


@pytest.mark.parametrize("by", ["session", "statement", "alter session"])
def test_a_statement_that_takes_too_long_is_cancelled(shop: Double, by: str) -> None:
    limit = {"STATEMENT_TIMEOUT_IN_SECONDS": 1}
    session = {"session_parameters": limit} if by == "session" else {}
    begun = time.monotonic()
    with (
        reader(shop, database="SALES", schema="SHOP", **session) as connection,
        connection.cursor() as cursor,
    ):
        if by == "alter session":
            cursor.execute("ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = 1")
        with pytest.raises(errors.ProgrammingError) as failure:
            cursor.execute(ENDLESS, _statement_params=limit if by == "statement" else None)
        assert (failure.value.errno, failure.value.sqlstate) == (630, "57014")
        assert failure.value.sfqid
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]
    assert time.monotonic() - begun < 8


def test_a_client_cancels_its_statement(shop: Double) -> None:
    with (
        reader(shop) as connection,
        connection.cursor() as cursor,
        pytest.raises(errors.ProgrammingError) as failure,
    ):
        cursor.execute(ENDLESS, timeout=1)
    assert failure.value.errno == 604


def test_a_table_that_hangs_hinders_no_other(shop: Double) -> None:
    shop.admin.fault(match="STAGED", kind="slow", delay_s=60, times=0)
    limit = {"session_parameters": {"STATEMENT_TIMEOUT_IN_SECONDS": 2}}
    with ThreadPoolExecutor(2) as pool:
        hung = pool.submit(refusal_of, shop, "SELECT * FROM SALES.SHOP.STAGED", **limit)
        begun = time.monotonic()
        assert asked(shop, "SELECT COUNT(*) FROM SALES.SHOP.PAYMENTS") == [(3,)]
        assert time.monotonic() - begun < 2
        assert hung.result().errno == 630


@pytest.mark.parametrize(
    ("code", "errno", "words"),
    [
        ("002003", 2003, "Object 'SALES.SHOP.PAYMENTS' does not exist or not authorized."),
        ("000606", 606, "No active warehouse selected"),
        ("090073", 90073, "cannot be resumed"),
    ],
)
def test_planned_refusals_hit_the_statements_they_name(
    shop: Double, code: str, errno: int, words: str
) -> None:
    shop.admin.fault(match="PAYMENTS", code=code, times=0)
    refused = refusal_of(shop, "SELECT COUNT(*) FROM SALES.SHOP.PAYMENTS")
    assert (refused.errno, words in refused.msg) == (errno, True)
    assert asked(shop, "SELECT COUNT(*) FROM SALES.SHOP.PAID") == [(3,)]


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"status": 429}, {"kind": "drop"}, {"kind": "slow", "delay_s": 0.2}],
    ids=["503", "throttled", "connection cut", "slow"],
)
def test_what_passes_is_repeated_by_the_connector(shop: Double, fault: dict[str, Any]) -> None:
    shop.admin.fault(match="PAYMENTS", **fault)
    assert asked(shop, "SELECT COUNT(*) FROM SALES.SHOP.PAYMENTS") == [(3,)]


def test_half_an_answer_is_an_error_of_the_connection(shop: Double) -> None:
    shop.admin.fault(match="PAYMENTS", kind="cut")
    with reader(shop) as connection, connection.cursor() as cursor, pytest.raises(ChunkedEncodingError):
        cursor.execute("SELECT COUNT(*) FROM SALES.SHOP.PAYMENTS")


def test_a_warehouse_that_is_not_the_role_s_is_noticed_at_the_first_table(shop: Double) -> None:
    with reader(shop, warehouse="OTHER_WH") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        with pytest.raises(errors.ProgrammingError) as failure:
            cursor.execute("SELECT COUNT(*) FROM SALES.SHOP.PAYMENTS")
        assert failure.value.errno == 606
        cursor.execute("USE WAREHOUSE DQ_WH")
        assert cursor.execute("SELECT COUNT(*) FROM SALES.SHOP.PAYMENTS").fetchall() == [(3,)]


def test_every_query_has_an_id_and_its_tag(shop: Double) -> None:
    with reader(shop, session_parameters={"QUERY_TAG": "dq"}) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM SALES.SHOP.PAYMENTS")
        first = cursor.sfqid
        cursor.execute("SELECT COUNT(*) FROM SALES.SHOP.PAYMENTS", _statement_params={"QUERY_TAG": "other"})
        ids = [first, cursor.sfqid]
    known = {one["query_id"]: one for one in shop.admin.queries()}
    assert [(known[one]["user"], known[one]["tag"]) for one in ids] == [
        ("DQ_PLATFORM", "dq"),
        ("DQ_PLATFORM", "other"),
    ]


# Last, as it ends the process that the others use.
def test_tables_survive_a_kill_and_a_restart(double: Double, tmp_path: Path) -> None:
    double.load(tmp_path, "f1", [an_order(1, AMOUNT="n/a")])
    with double.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE SALES.PUBLIC.OTHER (A NUMBER(10,0))")
        cursor.execute("INSERT INTO SALES.PUBLIC.OTHER VALUES (7)")
    double.end(signal.SIGKILL)
    double.start()
    assert double.query("SELECT A FROM SALES.PUBLIC.OTHER") == [(7,)]
    assert double.query(f"SELECT AMOUNT FROM {ORDERS}") == [("n/a",)]
    assert double.load(tmp_path, "f1", [an_order(1)])["already_loaded"]
    assert double.load(tmp_path, "f2", [an_order(2)])["rows"] == 1
    assert double.query(f"SELECT COUNT(*) FROM {ORDERS}") == [(2,)]
