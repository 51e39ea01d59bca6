"""Snowflake orders by the real connector against the double, and what its errors mean."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from snowflake.connector import errors as sf
from snowflake.connector.constants import FIELD_NAME_TO_ID
from snowflake.connector.cursor import ResultMetadata, SnowflakeCursor
from snowflake.connector.vendored import requests

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
from local.snowflake.admin import Admin
from tests.sources.support import NOW, Setup, a_run
from tests.support import snowflake_double

PLACES = {name: value for name, value in credentials.SNOWFLAKE.items() if name != "password"}
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
    with snowflake_double(tmp_path_factory.mktemp("snowflake")) as number:
        yield number


class Double:
    """Snowflake with an ORDERS table, and the settings that lead there."""

    def __init__(self, setup: Setup, port: int) -> None:
        self.setup = setup.with_source("snowflake", port=port)
        self.setup.put_secret("snowflake", PLACES | {"token": credentials.SNOWFLAKE_TOKEN})
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

    def days(self, loaded_until: datetime) -> dict[date, source.DayTotal]:
        return source.days(
            self.setup.settings, NOW.date() - timedelta(days=9), NOW.date() + timedelta(days=1), loaded_until
        )

    def as_nanoseconds(self, column: str) -> None:
        """fakesnow's times are microseconds: what Snowflake makes of TIMESTAMP_NTZ is DuckDB's to be told."""
        fakesnow_server = importlib.import_module("fakesnow.server")
        fakesnow_server.shared_fs.duck_conn.cursor().execute(
            f"ALTER TABLE SALES.PUBLIC.ORDERS ALTER COLUMN {column} TYPE TIMESTAMP_NS"
        )

    def ids(self, manifest: Manifest) -> set[str]:
        return {row["ORDER_ID"] for row in self.setup.rows(manifest)}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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


STAMP = NOW.replace(tzinfo=None) - timedelta(days=1)


def test_a_load_stamped_with_nanoseconds_is_read_on_its_day(double: Double) -> None:
    """Every row of a load has one stamp: the newest would otherwise exclude itself, and the load with it."""
    double.insert(*[{"ORDER_ID": f"o{n}", "LOADED_AT": f"{STAMP}.123456789"} for n in range(5)])

    first = double.extract()

    assert first.rows == 5
    assert first.window_to == NOW - timedelta(days=1) + timedelta(microseconds=123_456)

    later = f"{STAMP + timedelta(hours=3)}.987654999"
    double.insert(*[{"ORDER_ID": f"p{n}", "LOADED_AT": later} for n in range(7)])
    # Of the microsecond that was the newest, some rows come later than the run that read it.
    double.insert({"ORDER_ID": "same", "LOADED_AT": f"{STAMP}.123456999"})
    double.setup = double.setup.with_source("snowflake", overlap_minutes=0)
    second = double.extract(since=first.window_to)

    assert double.ids(second) == {*[f"o{n}" for n in range(5)], *[f"p{n}" for n in range(7)], "same"}
    (day,) = double.days(first.window_to or NOW).values()
    assert day.rows == 6
    (day,) = double.days(second.window_to or NOW).values()
    assert day.rows == 13


def test_a_state_that_was_loaded_again_makes_another_total(double: Double) -> None:
    double.insert(
        {"ORDER_ID": "a", "STATUS": "PLACED", "LOADED_AT": at(50)}, {"ORDER_ID": "b", "LOADED_AT": at(50)}
    )
    (before,) = double.days(NOW).values()
    double.insert({"ORDER_ID": "a", "STATUS": "PAID", "LOADED_AT": at(40)})

    (after,) = double.days(NOW).values()

    assert (after.rows, after.amount) == (before.rows, before.amount)
    assert after.loaded - before.loaded == 600
    assert (
        before.loaded == 2 * (NOW - timedelta(minutes=50) - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()
    )


def test_events_within_a_microsecond_are_one_for_us(double: Double) -> None:
    double.sql(
        "ALTER TABLE ORDERS DROP COLUMN EVENT_TS", "ALTER TABLE ORDERS ADD COLUMN EVENT_TS TIMESTAMP_NTZ"
    )
    double.as_nanoseconds("EVENT_TS")
    stamps = (
        "2026-11-19 23:59:59.999999100",
        "2026-11-19 23:59:59.999999400",
        "2026-11-20 00:00:00.000000001",
    )
    double.insert(*[{"ORDER_ID": "a", "EVENT_TS": stamp, "LOADED_AT": at(5)} for stamp in stamps])

    days = double.days(NOW)
    (manifest,) = source.backfill(
        double.setup.settings, a_run(), NOW.replace(hour=0) - timedelta(days=1), NOW.replace(hour=0)
    )

    assert {str(day): total.rows for day, total in days.items()} == {"2026-11-19": 1, "2026-11-20": 1}
    assert {row["EVENT_TS"].isoformat() for row in double.setup.rows(manifest)} == {
        "2026-11-19T23:59:59.999999"
    }


def test_a_load_time_at_the_end_of_time_is_read(double: Double) -> None:
    double.sql(
        "ALTER TABLE ORDERS DROP COLUMN LOADED_AT", "ALTER TABLE ORDERS ADD COLUMN LOADED_AT TIMESTAMP_NTZ"
    )
    double.insert({"ORDER_ID": "last", "LOADED_AT": "9999-12-31 23:59:59.999999"})

    assert double.ids(double.extract()) == {"last"}


def test_a_load_time_in_the_future_is_not_followed(double: Double) -> None:
    double.insert({"ORDER_ID": "future", "LOADED_AT": "2261-12-31 23:59:59.999999"})

    first = double.extract()
    second = double.extract(since=first.window_to)

    assert first.window_to == NOW
    assert double.ids(second) == {"future"}

    # Nor by a run that is dated ahead of the stamp: loads until then would be stepped over.
    began = datetime.now(UTC)
    ahead = double.extract(run_id=a_run(datetime(2262, 1, 1, tzinfo=UTC)))
    assert ahead.window_to is not None
    assert began <= ahead.window_to <= datetime.now(UTC)


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


@pytest.mark.parametrize("kind", [None, "VARCHAR", "DATE", "NUMBER(38,0)"])
def test_without_load_time_there_is_no_window(double: Double, kind: str | None) -> None:
    double.sql("ALTER TABLE ORDERS DROP COLUMN LOADED_AT")
    if kind:
        double.sql(f"ALTER TABLE ORDERS ADD COLUMN LOADED_AT {kind}")

    with pytest.raises(ContractViolation, match="LOADED_AT"):
        double.extract()


def test_columns_of_any_name_land_and_are_noted_where_theirs_is_ours(double: Double) -> None:
    names = ("DISCOUNT %", "%(since)s", "_POSITION", "_malformed", "lower", "a.b", "it's", 'say "x"', " ")
    double.insert({"ORDER_ID": "a", "LOADED_AT": at(5)})
    double.sql(*[f"ALTER TABLE ORDERS ADD COLUMN {quoted(name)} VARCHAR DEFAULT 'x'" for name in names])

    manifest = double.extract()

    landed = {
        **{name: name for name in names},
        "_POSITION": "source:_POSITION",
        "_malformed": "source:_malformed",
    }
    assert set(manifest.fields) == {*COLUMNS, *landed.values()}
    (row,) = double.setup.rows(manifest)
    assert {row[name] for name in landed.values()} == {"x"}
    assert row["_position"] == "00000:000000001"
    assert manifest.notes == (
        'snowflake: the column "_POSITION" is landed as "source:_POSITION"',
        'snowflake: the column "_malformed" is landed as "source:_malformed"',
    )


def test_each_column_has_one_type_in_every_part(
    double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snowflake sends each chunk in the narrowest integers that hold it: the description's type is what lands."""
    rows = 3_000
    texts = {
        "ORDER_ID": [f"o{n}" for n in range(rows)],
        "EVENT_TS": ["2026-01-01 00:00:00"] * rows,
        "AMOUNT": [f"{n * n}.10" for n in range(rows)],
        "N": [str(n * n * n) for n in range(rows)],
    }
    pq.write_table(pa.table(texts), tmp_path / "orders.parquet")
    double.admin.load(
        tmp_path / "orders.parquet",
        sha256="2" * 64,
        name="o.csv",
        rows=rows,
        columns=list(texts),
        loaded_at=at(5),
    )
    double.sql("ALTER TABLE ORDERS ALTER COLUMN N TYPE NUMBER(38,0)")
    monkeypatch.setattr(source, "_ROWS_PER_PART", 1)

    manifest = double.extract()

    parts = [
        pq.read_schema(io.BytesIO(objects.get(uri) or b""))
        for uri in manifest.uris(double.setup.settings, "parquet")
    ]
    assert len(parts) == 3
    assert all(part == parts[0] for part in parts)
    assert (parts[0].field("N").type, parts[0].field("AMOUNT").type) == (
        pa.decimal128(38, 0),
        pa.decimal128(38, 2),
    )
    found = {row["ORDER_ID"]: (row["N"], row["AMOUNT"]) for row in double.setup.rows(manifest)}
    assert found == {f"o{n}": (Decimal(n**3), Decimal(f"{n * n}.10")) for n in range(rows)}


def test_what_has_no_plain_type_lands_as_text() -> None:
    def text(kind: str, values: pa.Array) -> list[Any]:
        column = ResultMetadata("C", FIELD_NAME_TO_ID[kind], None, None, None, None, True)
        return list(source.as_described(pa.chunked_array([values]), column).to_pylist())

    assert text("TIME", pa.array([1, None], pa.time64("us"))) == ["00:00:00.000001", None]
    assert text("TIME", pa.array([1], pa.time64("ns"))) == ["00:00:00.000000001"]
    assert text("BINARY", pa.array([b"\xff\x00"])) == ["FF00"]
    assert text("VARIANT", pa.array(['{"a": 1}'])) == ['{"a": 1}']
    assert text("OBJECT", pa.array([{"a": Decimal("1.5"), "b": [None]}])) == ['{"a": "1.5", "b": [null]}']
    assert text("FIXED", pa.array([], pa.int8())) == []
    with pytest.raises(SourceError, match="C: received double, expected FIXED"):
        text("FIXED", pa.array([float("nan")]))


def test_a_result_that_lacks_rows_is_asked_for_again(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    double.insert({"ORDER_ID": "a", "LOADED_AT": at(5)}, {"ORDER_ID": "b", "LOADED_AT": at(5)})
    monkeypatch.setattr(SnowflakeCursor, "fetch_arrow_batches", lambda *_, **__: iter(()))

    with pytest.raises(SourceUnavailable, match="0 rows of 2"):
        double.extract()
    assert not double.setup.landed_keys()


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


def test_a_password_still_signs_in_and_is_noted(double: Double) -> None:
    double.setup.put_secret("snowflake", credentials.SNOWFLAKE)

    (note,) = double.extract().notes

    assert "by password, which Snowflake is withdrawing" in note


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


def test_a_query_that_takes_too_long_says_which_setting_ends_it(double: Double) -> None:
    double.insert({"ORDER_ID": "a", "LOADED_AT": at(5)})
    double.setup = double.setup.with_source("snowflake", network_timeout_seconds=2)
    double.admin.fault(match="SELECT MAX", kind="slow", delay_s=20)

    with pytest.raises(SourceUnavailable) as ended:
        double.extract()

    assert "sources.snowflake.network_timeout_seconds" in ended.value.hint


def test_a_chunk_that_cannot_be_fetched_is_transient(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> Iterator[pa.Table]:
        raise requests.ConnectionError("no route")

    double.insert({"ORDER_ID": "a", "LOADED_AT": at(5)})
    monkeypatch.setattr(SnowflakeCursor, "fetch_arrow_batches", lost)

    with pytest.raises(SourceUnavailable, match="ConnectionError"):
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
