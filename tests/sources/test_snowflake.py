"""Snowflake orders by the real connector against the double, and what its errors mean."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
import uvicorn
from snowflake.connector import errors as sf

from lakehouse import store as objects
from lakehouse.errors import (
    ConfigError,
    ContractViolation,
    CredentialsError,
    LakehouseError,
    SourceError,
    SourceUnavailable,
)
from lakehouse.landing import Manifest
from lakehouse.sources import snowflake as source
from lakehouse.sources.watermark import Watermark
from local.saas import credentials
from local.snowflake import server as double_server
from local.snowflake.admin import Admin
from tests.sources.support import NOW, Setup, a_run
from tests.support import free_port

COLUMNS = (
    "ORDER_ID",
    "EVENT_TS",
    "CUSTOMER_ID",
    "STATUS",
    "AMOUNT",
    "CURRENCY",
    "SHIPPED_AT",
    "DELIVERED_AT",
    "LOADED_AT",
)


def at(minutes_ago: float) -> str:
    return (NOW - timedelta(minutes=minutes_ago)).strftime("%Y-%m-%d %H:%M:%S.%f")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    number = free_port()
    application = double_server.application(tmp_path_factory.mktemp("snowflake"))
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=number, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield number
    server.should_exit = True
    thread.join()


class Double:
    """Snowflake with an ORDERS table, and the settings that lead there."""

    def __init__(self, setup: Setup, port: int) -> None:
        self.setup = setup.with_source("snowflake", port=port)
        self.setup.put_secret("snowflake", credentials.SNOWFLAKE)
        self.admin = Admin("127.0.0.1", port)
        self.admin.reset()
        self.port = port

    def sql(self, *statements: str) -> None:
        options = {key: credentials.SNOWFLAKE[key] for key in ("account", "password", "database", "schema")}
        with snowflake.connector.connect(
            **options,
            user=credentials.SNOWFLAKE["username"],
            host="127.0.0.1",
            port=self.port,
            protocol="http",
        ) as connection:
            for statement in statements:
                connection.cursor().execute(statement)

    def insert(self, *rows: dict[str, Any]) -> None:
        values = []
        for row in rows:
            full = {"EVENT_TS": at(100), "STATUS": "PAID", "AMOUNT": "1.00", "CURRENCY": "EUR"} | row
            cells = ("NULL" if full.get(name) is None else f"'{full[name]}'" for name in COLUMNS)
            values.append(f"({', '.join(cells)})")
        self.sql(f"INSERT INTO ORDERS ({', '.join(COLUMNS)}) VALUES {', '.join(values)}")

    def extract(self, since: datetime | None = None, run_id: str | None = None) -> Manifest:
        (manifest,) = source.extract(
            self.setup.settings, run_id or a_run(), {"snowflake_orders": Watermark(since)}
        )
        return manifest

    def ids(self, manifest: Manifest) -> set[str]:
        return {row["ORDER_ID"] for row in self.setup.rows(manifest)}


@pytest.fixture
def double(setup: Setup, port: int) -> Double:
    return Double(setup, port)


def test_rows_land_typed_and_exact(double: Double) -> None:
    double.insert(
        {
            "ORDER_ID": "a",
            "EVENT_TS": "0001-01-01 00:00:00.000001",
            "AMOUNT": "9999999999999999.99",
            "SHIPPED_AT": "9999-12-31 23:59:59.999999",
            "LOADED_AT": at(5),
        }
    )

    manifest = double.extract()

    (row,) = double.setup.rows(manifest)
    assert row.pop("_position")
    assert row == {
        "ORDER_ID": "a",
        "EVENT_TS": datetime(1, 1, 1, microsecond=1),  # noqa: DTZ001
        "CUSTOMER_ID": None,
        "STATUS": "PAID",
        "AMOUNT": Decimal("9999999999999999.99"),
        "CURRENCY": "EUR",
        "SHIPPED_AT": datetime(9999, 12, 31, 23, 59, 59, 999_999),  # noqa: DTZ001
        "DELIVERED_AT": None,
        "LOADED_AT": NOW.replace(tzinfo=None) - timedelta(minutes=5),
    }
    (uri,) = manifest.uris(double.setup.settings, "parquet")
    schema = pq.read_schema(io.BytesIO(objects.get(uri) or b""))
    assert schema.field("EVENT_TS").type == pa.timestamp("us")
    assert pa.types.is_decimal(schema.field("AMOUNT").type)
    assert manifest.window_to == NOW - timedelta(minutes=5)
    assert tuple(manifest.fields) == COLUMNS


def test_a_window_is_cut_on_load_time(double: Double) -> None:
    double.insert(
        {"ORDER_ID": "old", "LOADED_AT": at(181), "EVENT_TS": at(1)},
        {"ORDER_ID": "edge", "LOADED_AT": at(180)},
        {"ORDER_ID": "late", "LOADED_AT": at(5), "EVENT_TS": "2001-01-01"},
    )

    manifest = double.extract(since=NOW - timedelta(hours=2))

    assert double.ids(manifest) == {"edge", "late"}
    assert manifest.window_from == NOW - timedelta(hours=3)


def test_rows_loaded_while_it_reads_belong_to_the_next_window(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.insert({"ORDER_ID": "seen", "LOADED_AT": at(5)})
    newest = source._newest

    def then_a_load(cursor: Any, table: str) -> datetime | None:
        found = newest(cursor, table)
        double.insert({"ORDER_ID": "after", "LOADED_AT": at(1)})
        return found

    monkeypatch.setattr(source, "_newest", then_a_load)

    manifest = double.extract()

    assert double.ids(manifest) == {"seen"}
    assert manifest.window_to == NOW - timedelta(minutes=5)


def test_a_load_time_in_the_future_is_not_followed(double: Double) -> None:
    double.insert({"ORDER_ID": "future", "LOADED_AT": "9999-12-31 23:59:59.999999"})

    first = double.extract()
    second = double.extract(since=first.window_to)

    assert first.window_to == NOW
    assert double.ids(second) == {"future"}


def test_rows_without_a_load_time_are_in_every_window(double: Double) -> None:
    double.insert({"ORDER_ID": "none"}, {"ORDER_ID": "new", "LOADED_AT": at(5)})

    assert double.ids(double.extract(since=NOW - timedelta(minutes=5))) == {"none", "new"}


def test_an_empty_table_lands_its_columns(double: Double) -> None:
    since = NOW - timedelta(days=1)

    manifest = double.extract(since=since)

    assert (manifest.rows, manifest.window_to) == (0, since)
    assert manifest.fields == dict.fromkeys(COLUMNS, 0)


def test_more_columns_land_and_missing_ones_show(double: Double) -> None:
    double.insert({"ORDER_ID": "a", "LOADED_AT": at(5)})
    double.sql(
        'ALTER TABLE ORDERS ADD COLUMN "note ""x""" VARCHAR', "ALTER TABLE ORDERS DROP COLUMN CURRENCY"
    )

    manifest = double.extract()

    assert set(manifest.fields) == set(COLUMNS) - {"CURRENCY"} | {'note "x"'}
    assert manifest.rows == 1


def test_without_load_time_there_is_no_window(double: Double) -> None:
    double.sql("ALTER TABLE ORDERS DROP COLUMN LOADED_AT")

    with pytest.raises(ContractViolation, match="LOADED_AT"):
        double.extract()


def test_large_results_land_in_parts(double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 30_000
    texts: dict[str, list[str]] = {
        "ORDER_ID": [f"o{n}" for n in range(rows)],
        "EVENT_TS": ["2026-01-01 00:00:00"] * rows,
        "AMOUNT": [f"{n}.10" for n in range(rows)],
    }
    pq.write_table(pa.table(texts), tmp_path / "orders.parquet")
    double.admin.load(
        tmp_path / "orders.parquet",
        sha256="1" * 64,
        name="orders.csv",
        rows=rows,
        columns=[*texts, "CUSTOMER_ID", "STATUS", "CURRENCY"][: len(texts)],
        loaded_at=at(5),
    )
    monkeypatch.setattr(source, "_ROWS_PER_PART", 8_000)

    manifest = double.extract()

    assert manifest.rows == rows
    assert len({row["_position"] for row in double.setup.rows(manifest)}) == rows


def test_batches_are_joined_to_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_ROWS_PER_PART", 10)
    batches = [pa.table({"a": list(range(rows))}) for rows in (4, 4, 4, 25, 1)]

    assert [part.num_rows for part in source._parts(iter(batches))] == [12, 25, 1]
    assert list(source._parts(iter([]))) == []


def test_a_landed_run_does_not_connect(double: Double) -> None:
    run_id = a_run()
    first = double.extract(run_id=run_id)
    double.setup = double.setup.with_source("snowflake", port=9)

    assert double.extract(run_id=run_id) == first


def test_wrong_credentials_are_terminal(double: Double) -> None:
    double.setup.put_secret("snowflake", credentials.SNOWFLAKE | {"password": "wrong-value"})

    with pytest.raises(CredentialsError) as refused:
        double.extract()

    assert "wrong-value" not in f"{refused.value} {refused.value.hint}"


def test_nobody_there_is_transient(double: Double) -> None:
    double.setup = double.setup.with_source("snowflake", port=9, network_timeout_seconds=1)

    with pytest.raises(SourceUnavailable):
        double.extract()


def test_a_table_that_is_not_there_is_terminal(double: Double) -> None:
    double.setup = double.setup.with_source("snowflake", table="SALES.PUBLIC.NOPE")

    with pytest.raises(SourceError, match="NOPE"):
        double.extract()


@pytest.mark.parametrize("name", ["ORDERS", "A.B.C; DROP TABLE X", 'A.B."C"', "A.B.C D", "A..C", ""])
def test_table_names_are_identifiers(double: Double, name: str) -> None:
    double.setup = double.setup.with_source("snowflake", table=name)

    with pytest.raises(ConfigError, match="table"):
        double.extract()


def test_bad_weather_passes_within_the_connectors_own_patience(double: Double) -> None:
    double.insert({"ORDER_ID": "a", "LOADED_AT": at(5)})
    double.admin.fault(match="query-request", status=503, skip=1)

    assert double.extract().rows == 1


def test_weather_that_stays_bad_is_transient(double: Double) -> None:
    double.setup = double.setup.with_source("snowflake", network_timeout_seconds=1)
    double.admin.fault(match="query-request", status=503, times=0)

    with pytest.raises(SourceUnavailable):
        double.extract()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            sf.DatabaseError("Incorrect username or password", errno=390100, sqlstate="08001"),
            CredentialsError,
        ),
        (sf.DatabaseError("User is locked", errno=390102, sqlstate="08001"), CredentialsError),
        (sf.DatabaseError("JWT token is invalid", errno=390144, sqlstate="08001"), CredentialsError),
        (sf.DatabaseError("Role is not granted", errno=390186, sqlstate="08001"), CredentialsError),
        (sf.DatabaseError("IP is not allowed", errno=390422, sqlstate="08001"), CredentialsError),
        (sf.ProgrammingError("Insufficient privileges", errno=3001, sqlstate="42501"), CredentialsError),
        (sf.ProgrammingError("User is empty", errno=251005), CredentialsError),
        (sf.ForbiddenError(), CredentialsError),
        (sf.HttpError(msg="404 Not Found: wrong account", errno=290404), CredentialsError),
        (sf.OperationalError("no route", errno=250001, sqlstate="08001"), SourceUnavailable),
        (sf.OperationalError("Connection is closed", errno=250002), SourceUnavailable),
        (sf.ProgrammingError("Session no longer exists", errno=390112), SourceUnavailable),
        (sf.ServiceUnavailableError(), SourceUnavailable),
        (sf.TooManyRequests(), SourceUnavailable),
        (sf.InterfaceError("timed out", errno=290000), SourceUnavailable),
        (sf.ProgrammingError("Object does not exist", errno=2003, sqlstate="42S02"), SourceError),
        (sf.ProgrammingError("No active warehouse", errno=606, sqlstate="57P03"), SourceError),
        (sf.ProgrammingError("syntax", errno=1003, sqlstate="42000"), SourceError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else f"{type(value).__name__} {value.errno}",
)
def test_what_the_connectors_errors_mean(error: sf.Error, kind: type[LakehouseError]) -> None:
    assert type(source.meaning(error, "SALES.PUBLIC.ORDERS", "secret/name")) is kind
