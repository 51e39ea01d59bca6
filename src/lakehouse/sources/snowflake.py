"""Snowflake orders to landing files, by Arrow batches.

Windows are on LOADED_AT, the time of loading: events arrive late, loads do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from snowflake.connector import errors as sf
from snowflake.connector.constants import FIELD_ID_TO_NAME
from snowflake.connector.vendored.requests.exceptions import RequestException

from lakehouse.errors import (
    ConfigError,
    ContractViolation,
    SourceError,
    SourceUnavailable,
    Violation,
)
from lakehouse.landing import LandingWriter, Manifest, read_manifest
from lakehouse.names import column_names
from lakehouse.runs import run_time
from lakehouse.settings import Settings
from lakehouse.snowflake import Login, connection, meaning, read_login
from lakehouse.sources.watermark import Watermark, backfilled, overlap, window_end

SOURCE, TABLE = "snowflake", "snowflake_orders"
LOADED_AT = "LOADED_AT"
EVENT_TS = "EVENT_TS"
_ROWS_PER_PART = 250_000
# What a landing holds of Snowflake's types; numbers are decimals of the column's scale, all else is text.
_UTC = pa.timestamp("us", tz="UTC")
_TYPES = {
    "REAL": pa.float64(),
    "TEXT": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP_NTZ": pa.timestamp("us"),
    "TIMESTAMP_LTZ": _UTC,
    "TIMESTAMP_TZ": _UTC,
    "BOOLEAN": pa.bool_(),
}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*){2}")


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Land rows loaded since the watermark, less an overlap, up to the newest load time at the start.

    Every column the table has is landed, so that the load sees extra and missing ones. Rows without a load time
    belong to no window: they are landed each time. Raises CredentialsError, SourceUnavailable, SourceError.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    table = _table(settings)
    watermark = watermarks.get(TABLE, Watermark())
    since = watermark.since(overlap(settings, SOURCE))
    read_at = datetime.now(UTC)
    login = _login(settings)
    writer = LandingWriter(settings, SOURCE, TABLE, run_id)
    with _translated(settings, table), _cursor(settings, login) as cursor:
        columns = _columns(cursor, table)
        newest = _newest(cursor, table)
        for part in _parts(_select(cursor, table, columns, _window(since, newest))):
            writer.write_arrow(part)
    manifest = writer.commit(
        window_from=since,
        window_to=window_end(newest, watermark, min(run_time(run_id), read_at)),
        fields=column_names(columns),
        notes=_notes(login, columns),
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Land rows whose event lies in [since, until), whenever they were loaded. Raises as ``extract`` does."""
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    table = _table(settings)
    login = _login(settings)
    writer = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill")
    with _translated(settings, table), _cursor(settings, login) as cursor:
        columns = _columns(cursor, table)
        condition = f"{EVENT_TS} >= {_literal(since)} AND {EVENT_TS} < {_literal(until)}"
        for part in _parts(_select(cursor, table, columns, condition)):
            writer.write_arrow(part)
    manifest = writer.commit(
        window_from=since,
        window_to=None,
        fields=column_names(columns),
        notes=[backfilled(since, until), *_notes(login, columns)],
    )
    return (manifest,)


@dataclass(frozen=True)
class DayTotal:
    """Orders whose event lies in a day: distinct (order, event), and sums over the newest state of each.

    ``loaded``: the seconds from 2000 to their load times, so that a state that was loaded again makes another sum, also
    where its amount is what it was.
    """

    rows: int
    amount: Decimal
    loaded: int = 0


def days(settings: Settings, since: date, until: date, loaded_until: datetime) -> dict[date, DayTotal]:
    """What the source has of each day in [since, until), of rows loaded up to a time; days without rows are left out.

    Raises CredentialsError, SourceUnavailable, SourceError.
    """
    table = _table(settings)
    # Whole hundredths: exact, whatever server and driver make of a sum of decimals.
    query = f"""
        SELECT DAY, COUNT(*), SUM((AMOUNT * 100)::BIGINT),
               SUM(DATEDIFF(SECOND, '2000-01-01'::TIMESTAMP_NTZ, LOADED)) FROM (
            SELECT {EVENT_TS}::DATE AS DAY, AMOUNT, {_as_landed(LOADED_AT)} AS LOADED
            FROM {table}
            WHERE {EVENT_TS} >= '{since}'::DATE AND {EVENT_TS} < '{until}'::DATE AND ORDER_ID IS NOT NULL
              AND ({_up_to(loaded_until)} OR {LOADED_AT} IS NULL)
            QUALIFY ROW_NUMBER() OVER (
                PARTITION BY ORDER_ID, {_as_landed(EVENT_TS)}
                ORDER BY {_as_landed(LOADED_AT)} DESC NULLS LAST, AMOUNT DESC NULLS LAST
            ) = 1
        ) GROUP BY DAY"""
    login = _login(settings)
    with _translated(settings, table), _cursor(settings, login) as cursor:
        cursor.execute(query)
        return {
            day: DayTotal(rows, Decimal(int(hundredths or 0)).scaleb(-2), int(seconds or 0))
            for day, rows, hundredths, seconds in cursor.fetchall()
        }


def _table(settings: Settings) -> str:
    table = settings.sources.snowflake.table
    if not _IDENTIFIER.fullmatch(table):
        raise ConfigError(
            f"sources.snowflake.table: received {table!r}, expected DATABASE.SCHEMA.TABLE without quotes"
        )
    return table


@contextmanager
def _cursor(settings: Settings, login: Login) -> Iterator[Any]:
    options = settings.sources.snowflake
    with (
        connection(
            login,
            host=options.host,
            port=options.port,
            protocol=options.protocol,
            timeout_seconds=options.network_timeout_seconds,
        ) as opened,
        opened.cursor() as cursor,
    ):
        yield cursor


def _login(settings: Settings) -> Login:
    return read_login(settings.sources.snowflake.secret, also=("database", "schema"))


def _columns(cursor: Any, table: str) -> list[str]:
    """The table's columns as Snowflake calls them."""
    cursor.execute(f"SELECT * FROM {table} LIMIT 0")  # nosec B608  # _table() takes plain names only
    kinds = {column.name: FIELD_ID_TO_NAME[column.type_code] for column in cursor.description}
    if not kinds.get(LOADED_AT, "").startswith("TIMESTAMP"):
        received = f"a column of type {kinds[LOADED_AT]}" if LOADED_AT in kinds else "no such column"
        raise ContractViolation(
            f"{table} cannot be read by window",
            violations=(
                Violation(
                    f"{table}.{LOADED_AT}", received, "the time at which a row was loaded, a timestamp"
                ),
            ),
            hint="restore the column in Snowflake",
        )
    return list(kinds)


def _notes(login: Login, columns: Sequence[str]) -> list[str]:
    renamed = [
        f"snowflake: the column {json.dumps(name)} is landed as {json.dumps(landed)}"
        for name, landed in zip(columns, column_names(columns), strict=True)
        if name != landed
    ]
    return [*([login.note] if login.note else []), *renamed]


def _newest(cursor: Any, table: str) -> datetime | None:
    """The microsecond in which the newest load time lies, in UTC."""
    cursor.execute(f"SELECT MAX({LOADED_AT}) FROM {table}")  # nosec B608  # the same
    answer = cursor.fetch_arrow_all(force_return_table=True, force_microsecond_precision=True)
    newest: datetime | None = answer.column(0)[0].as_py()
    if newest is None:
        return None
    return newest.replace(tzinfo=UTC) if newest.tzinfo is None else newest.astimezone(UTC)


def _window(since: datetime | None, newest: datetime | None) -> str:
    condition = "FALSE" if newest is None else _up_to(newest)
    if newest and since:
        condition += f" AND {LOADED_AT} >= {_literal(since)}"
    return f"({condition}) OR {LOADED_AT} IS NULL"


def _up_to(newest: datetime) -> str:
    """Loaded no later than a microsecond of ours, all of it: Snowflake's times are nanoseconds by default."""
    return f"{LOADED_AT} < DATEADD('MICROSECOND', 1, {_literal(newest)})"


def _as_landed(column: str) -> str:
    """A time as a landing holds it: its microsecond."""
    return f"DATE_TRUNC('MICROSECOND', {column})"


def _select(cursor: Any, table: str, columns: Sequence[str], condition: str) -> Iterator[pa.Table]:
    """The rows, each batch with the same types.

    No parameters are bound: the connector would take a ``%`` in a column's name for one.
    """
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    cursor.execute(f"SELECT {names} FROM {table} WHERE {condition}")  # nosec B608  # the same
    described = list(zip(columns, cursor.description, strict=True))
    # Microseconds always: nanoseconds, the driver's choice, end in 2262.
    rows = 0
    for batch in cursor.fetch_arrow_batches(force_microsecond_precision=True):
        rows += batch.num_rows
        yield pa.table(
            {
                name: as_described(values, kind)
                for values, (name, kind) in zip(batch.columns, described, strict=True)
            }
        )

    if rows != cursor.rowcount:
        raise SourceUnavailable(
            f"Snowflake {table}: received {rows} rows of {cursor.rowcount}, expected the whole result",
            hint="run the task again; nothing was landed",
        )


def as_described(values: pa.ChunkedArray, column: Any) -> pa.ChunkedArray:
    """A column of a batch in the one type that its description stands for.

    Snowflake sends each chunk of a result in the narrowest integers that hold it. What has no plain type here (times
    of day, nested and binary values) becomes text: JSON, or digits as Snowflake shows them. Raises SourceError where
    a value is none of what was described.
    """
    kind = FIELD_ID_TO_NAME[column.type_code]
    target = pa.decimal128(38, column.scale or 0) if kind == "FIXED" else _TYPES.get(kind)
    try:
        if target is not None:
            return values.cast(target)
        if kind == "TIME":
            return values.cast(pa.string())
        return pa.chunked_array([[_text(value) for value in values.to_pylist()]], pa.string())
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise SourceError(
            f"Snowflake column {column.name}: received {values.type}, expected {kind} as described ({error})",
            hint="this is no fault of the data: report it with the connector's version",
        ) from None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex().upper()
    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)


def _literal(time: datetime) -> str:
    wall = time.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return f"'{wall}'::TIMESTAMP_NTZ(6)"


def _parts(batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Join small batches to parts of a good size; at most one part and one batch are in memory."""
    held: list[pa.Table] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS_PER_PART:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if rows:
        yield pa.concat_tables(held)


@contextmanager
def _translated(settings: Settings, table: str) -> Iterator[None]:
    try:
        yield
    except sf.Error as error:
        raise meaning(error, table, settings.sources.snowflake.secret) from None
    except RequestException as error:
        # A chunk of the result, which the connector has asked for many times.
        raise SourceUnavailable(
            f"Snowflake {table}: received {type(error).__name__}, expected the rows of a result",
            hint="run the task again later; nothing was landed",
        ) from None
