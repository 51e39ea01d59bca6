"""Snowflake orders to landing files, by Arrow batches.

Windows are on LOADED_AT, the time of loading: events arrive late, loads do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from snowflake import connector
from snowflake.connector import errors as sf

from lakehouse.errors import (
    ConfigError,
    ContractViolation,
    CredentialsError,
    LakehouseError,
    SourceError,
    SourceUnavailable,
    Violation,
)
from lakehouse.landing import LandingWriter, Manifest, read_manifest
from lakehouse.runs import run_time
from lakehouse.secrets import read_secret
from lakehouse.settings import Settings
from lakehouse.sources.retry import short
from lakehouse.sources.watermark import Watermark, backfilled, overlap, window_end

SOURCE, TABLE = "snowflake", "snowflake_orders"
LOADED_AT = "LOADED_AT"
EVENT_TS = "EVENT_TS"
_SECRET_FIELDS = ("account", "username", "password", "warehouse", "database", "schema")
_ROWS_PER_PART = 250_000
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
    writer = LandingWriter(settings, SOURCE, TABLE, run_id)
    with _translated(settings, table), _connection(settings) as connection, connection.cursor() as cursor:
        columns = _columns(cursor, table)
        newest = _newest(cursor, table)
        for part in _parts(_window(cursor, table, columns, since, newest)):
            writer.write_arrow(part)
    manifest = writer.commit(
        window_from=since,
        window_to=window_end(newest, watermark, run_time(run_id)),
        fields=columns,
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Land rows whose event lies in [since, until), whenever they were loaded. Raises as ``extract`` does."""
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    table = _table(settings)
    writer = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill")
    with _translated(settings, table), _connection(settings) as connection, connection.cursor() as cursor:
        columns = _columns(cursor, table)
        condition = f"{EVENT_TS} >= %(since)s::TIMESTAMP_NTZ(6) AND {EVENT_TS} < %(until)s::TIMESTAMP_NTZ(6)"
        bounds = {"since": _literal(since), "until": _literal(until)}
        for part in _parts(_select(cursor, table, columns, condition, bounds)):
            writer.write_arrow(part)
    return (
        writer.commit(window_from=since, window_to=None, fields=columns, notes=[backfilled(since, until)]),
    )


@dataclass(frozen=True)
class DayTotal:
    """Orders whose event lies in a day: distinct (order, event), and the sum of their newest amounts."""

    rows: int
    amount: Decimal


def days(settings: Settings, since: date, until: date, loaded_until: datetime) -> dict[date, DayTotal]:
    """What the source has of each day in [since, until), of rows loaded up to a time; days without rows are left out.

    Raises CredentialsError, SourceUnavailable, SourceError.
    """
    table = _table(settings)
    # Whole hundredths: exact, whatever server and driver make of a sum of decimals.
    query = f"""
        SELECT DAY, COUNT(*), SUM((AMOUNT * 100)::BIGINT) FROM (
            SELECT {EVENT_TS}::DATE AS DAY, AMOUNT
            FROM {table}
            WHERE {EVENT_TS} >= %(since)s::DATE AND {EVENT_TS} < %(until)s::DATE AND ORDER_ID IS NOT NULL
              AND ({LOADED_AT} <= %(loaded)s::TIMESTAMP_NTZ(6) OR {LOADED_AT} IS NULL)
            QUALIFY ROW_NUMBER() OVER (
                PARTITION BY ORDER_ID, {EVENT_TS} ORDER BY {LOADED_AT} DESC NULLS LAST, AMOUNT DESC NULLS LAST
            ) = 1
        ) GROUP BY DAY"""
    bounds = {"since": str(since), "until": str(until), "loaded": _literal(loaded_until)}
    with _translated(settings, table), _connection(settings) as connection, connection.cursor() as cursor:
        cursor.execute(query, bounds)
        return {
            day: DayTotal(rows, Decimal(int(hundredths or 0)).scaleb(-2))
            for day, rows, hundredths in cursor.fetchall()
        }


def _table(settings: Settings) -> str:
    table = settings.sources.snowflake.table
    if not _IDENTIFIER.fullmatch(table):
        raise ConfigError(
            f"sources.snowflake.table: received {table!r}, expected DATABASE.SCHEMA.TABLE without quotes"
        )
    return table


@contextmanager
def _connection(settings: Settings) -> Iterator[Any]:
    options = settings.sources.snowflake
    secret = read_secret(options.secret, _SECRET_FIELDS)
    target: dict[str, Any] = {"protocol": options.protocol}
    if options.host:
        target["host"] = options.host
    if options.port:
        target["port"] = options.port
    connection = connector.connect(
        account=secret["account"],
        user=secret["username"],
        password=secret["password"],
        warehouse=secret["warehouse"],
        database=secret["database"],
        schema=secret["schema"],
        login_timeout=options.network_timeout_seconds,
        network_timeout=options.network_timeout_seconds,
        arrow_number_to_decimal=True,
        application="lakehouse",
        session_parameters={
            "TIMEZONE": "UTC",
            "CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False,
            "QUERY_TAG": "lakehouse",
        },
        **target,
    )
    try:
        yield connection
    finally:
        connection.close()


def _columns(cursor: Any, table: str) -> list[str]:
    cursor.execute(f"SELECT * FROM {table} LIMIT 0")  # nosec B608  # _table() takes plain names only
    columns = [column.name for column in cursor.description]
    if LOADED_AT not in columns:
        raise ContractViolation(
            f"{table} cannot be read by window",
            violations=(
                Violation(f"{table}.{LOADED_AT}", "no such column", "the time at which a row was loaded"),
            ),
            hint="restore the column in Snowflake",
        )
    return columns


def _newest(cursor: Any, table: str) -> datetime | None:
    """The newest load time, in UTC."""
    cursor.execute(f"SELECT MAX({LOADED_AT}) FROM {table}")  # nosec B608  # the same
    answer = cursor.fetch_arrow_all(force_return_table=True, force_microsecond_precision=True)
    newest: datetime | None = answer.column(0)[0].as_py()
    if newest is None:
        return None
    return newest.replace(tzinfo=UTC) if newest.tzinfo is None else newest.astimezone(UTC)


def _window(
    cursor: Any, table: str, columns: list[str], since: datetime | None, newest: datetime | None
) -> Iterator[pa.Table]:
    bounds = {"until": _literal(newest)} if newest else {}
    condition = f"{LOADED_AT} <= %(until)s::TIMESTAMP_NTZ(6)" if newest else "FALSE"
    if newest and since:
        bounds["since"] = _literal(since)
        condition += f" AND {LOADED_AT} >= %(since)s::TIMESTAMP_NTZ(6)"
    yield from _select(cursor, table, columns, f"({condition}) OR {LOADED_AT} IS NULL", bounds)


def _select(
    cursor: Any, table: str, columns: list[str], condition: str, bounds: Mapping[str, str]
) -> Iterator[pa.Table]:
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    cursor.execute(f"SELECT {names} FROM {table} WHERE {condition}", dict(bounds))  # nosec B608  # the same
    # Microseconds always: nanoseconds, the driver's choice, end in 2262.
    yield from cursor.fetch_arrow_batches(force_microsecond_precision=True)


def _literal(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


def _parts(batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Join small batches to parts of a good size; at most one part and one batch are in memory."""
    held: list[pa.Table] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS_PER_PART:
            yield pa.concat_tables(held, promote_options="permissive")
            held, rows = [], 0
    if rows:
        yield pa.concat_tables(held, promote_options="permissive")


# Server codes of logins and sessions are 390000 to 394999; all but these speak of credentials and rights.
_SESSION_ENDED = {390112, 390113, 390114, 390115, 390145}
_RIGHTS = {3001, 251005, 251006, 290403, 290404}
_UNREACHABLE = {250001, 250002, 250003, 250005, 250007, 251011, 251012, 252010, 290000}
_HTTP_WEATHER = (
    sf.OperationalError,
    sf.InternalServerError,
    sf.ServiceUnavailableError,
    sf.GatewayTimeoutError,
    sf.RequestTimeoutError,
    sf.BadGatewayError,
    sf.TooManyRequests,
    sf.OtherHTTPRetryableError,
    sf.RequestExceedMaxRetryError,
    sf.HttpError,
    sf.InterfaceError,
)


@contextmanager
def _translated(settings: Settings, table: str) -> Iterator[None]:
    try:
        yield
    except sf.Error as error:
        raise meaning(error, table, settings.sources.snowflake.secret) from None


def meaning(error: sf.Error, table: str, secret: str) -> LakehouseError:
    """What an error of the connector means for us. The connector has already repeated what is worth repeating."""
    text = f"Snowflake {table}: received {type(error).__name__} {error.errno} ({error.sqlstate})"
    is_login = 390_000 <= error.errno < 395_000 and error.errno not in _SESSION_ENDED
    if is_login or error.errno in _RIGHTS or isinstance(error, sf.ForbiddenError):
        return CredentialsError(
            f"{text}, expected to be let in",
            hint=f"check account, user and password in the secret {secret}, the user's role and network policy",
        )
    if error.errno in _SESSION_ENDED | _UNREACHABLE or isinstance(error, _HTTP_WEATHER):
        return SourceUnavailable(
            f"{text}, expected an answer", hint="run the task again later; nothing was landed"
        )
    detail = short(error.raw_msg or "", 300)
    return SourceError(
        f"{text}: {detail}", hint="check sources.snowflake.table, the warehouse and the role's grants"
    )
