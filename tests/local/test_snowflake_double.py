"""The Snowflake double through the real connector."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from snowflake.connector import errors

from local.saas import credentials
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
        with pytest.raises(errors.DatabaseError, match="planned failure"):
            cursor.execute("SELECT 1")
        double.admin.fault(match="query-request", status=503, times=2)
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]  # the connector repeats it


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
