"""A person taken out of refused rows, those of ops.quarantine and of the stream's DLQ alike.

Refused rows stay as numbers, for they were counted; what they held goes, and nobody replays them any more. No value of
the person becomes part of a plan or a commit, for plans and commits are kept in logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.contracts import ddl
from lakehouse.delta.read import Commit, read
from lakehouse.delta.write import update_where
from lakehouse.quality import dlq, quarantine, refused
from lakehouse.session import local_frame
from lakehouse.settings import Settings

# What stands where a refused row was.
_PAYLOAD = '{"erased":true}'
_REASONS = "transform(reasons, reason -> concat(substring_index(reason, ': ', 1), ': erased'))"
_NOTE = "erased"
# Shorter ones stand in rows of others by chance.
LEAST = 6
# The bytes of a record stand in its payload as base64.
_BYTES = [
    f"cast(try_to_binary(get_json_object(payload, '$.{name}'), 'base64') AS string)"
    for name in ("value", "key")
]


@dataclass(frozen=True)
class Row:
    """A refused row's identity."""

    table: str
    run_id: str
    position: str


@dataclass(frozen=True)
class Known:
    """What a person is known by. ``ids`` are those of ``tables``.

    ``fields``: of each table that knows persons, the source field with the id of whom a row is about. ``own``: tables
    of which each row is a person; there a row with another id is of somebody else, whatever it says. ``words``:
    addresses and numbers, looked for in rows of every other table and in rows without a readable id.
    """

    ids: frozenset[str]
    words: frozenset[str]
    tables: frozenset[str]
    fields: Mapping[str, str]
    own: frozenset[str]


def find(spark: SparkSession, settings: Settings, known: Known) -> tuple[Row, ...]:
    """The refused rows that still tell of a person."""
    events = refused.events(spark, settings).where(F.col("payload") != _PAYLOAD)
    told = events.select(
        *refused.IDENTITY,
        _held(known).alias("held"),
        F.lower(F.expr(f"concat_ws(' ', payload, record_key, {', '.join(_BYTES)})")).alias("text"),
    )
    in_table = F.col("table_name").isin(*known.tables)
    by_id = told.where(in_table).join(_frame(spark, "held string", known.ids), on="held", how="left_semi")
    rows = by_id.select(*refused.IDENTITY)
    is_unread = F.col("held").isNull()
    texts = [(is_unread & in_table, known.ids)]
    if long := frozenset(word for word in known.words if len(word) >= LEAST):
        texts.append((is_unread | ~F.col("table_name").isin(*known.own), long))
    for where, words in texts:
        rows = rows.union(telling(spark, told.where(where), words).select(*refused.IDENTITY))
    return tuple(Row(*row) for row in rows.distinct().orderBy(*refused.IDENTITY).collect())


def telling(spark: SparkSession, rows: DataFrame, words: Iterable[str]) -> DataFrame:
    """The rows whose ``text``, in small letters, has one of the words. No plan names a word."""
    patterns = F.broadcast(_frame(spark, "pattern string", map(_pattern, words)))
    return rows.join(patterns, F.expr("text RLIKE pattern"), "left_semi")


def dead_letters(spark: SparkSession, settings: Settings, rows: Iterable[Row]) -> int:
    """How many of these rows lie in the DLQ."""
    return read(spark, settings.table_uri(dlq.TABLE)).where(_letters(rows)).count()


def empty(
    spark: SparkSession, settings: Settings, rows: Iterable[Row], *, by: str, tag: str
) -> Commit | None:
    """Give rows up and take out what their events held. Repeated, it does what is left."""
    which = _where(rows, "table_name", "run_id", "position")
    live = refused.rows(spark, settings).where(which).where(F.col("status").isin(*refused.LIVE))
    given_up = refused.later(
        live.withColumn("record_key", F.lit(None)),
        refused.DISCARDED,
        (),
        payload=F.lit(_PAYLOAD),
        reasons=F.expr(_REASONS),
        contract_version=F.col("contract_version"),
        actor=by,
        note=_NOTE,
        at=datetime.now(UTC),
    )
    refused.append(settings, given_up, f"{tag}/discard")
    values = {
        "payload": ddl.text(_PAYLOAD),
        "record_key": "NULL",
        "reasons": _REASONS,
        "note": ddl.text(_NOTE),
    }
    return update_where(spark, settings.table_uri(quarantine.TABLE), which, values, tag)


def empty_dead_letters(
    spark: SparkSession, settings: Settings, rows: Iterable[Row], tag: str
) -> Commit | None:
    """Take out what the DLQ holds of rows."""
    values = {"key": "NULL", "value": "NULL", "headers": "NULL", "reasons": _REASONS}
    return update_where(spark, settings.table_uri(dlq.TABLE), _letters(rows), values, tag)


def _held(known: Known) -> Column:
    """The id that a row gives of whom it is about; null where none can be read."""
    found = F.lit(None).cast("string")
    for table, field in known.fields.items():
        path = ddl.text(f"$.{field}")
        # A key begins with the id where each row is a person.
        key = ", split_part(record_key, '|', 1)" if table in known.own else ""
        own = F.expr(f"coalesce(get_json_object(payload, {path}), get_json_object({_BYTES[0]}, {path}){key})")
        found = F.when(F.col("table_name") == table, own).otherwise(found)
    return F.nullif(F.trim(found), F.lit(""))


def _pattern(word: str) -> str:
    return rf"(^|[^0-9a-z]){re.escape(word.lower())}($|[^0-9a-z])"


def _frame(spark: SparkSession, fields: str, values: Iterable[str]) -> DataFrame:
    return local_frame(spark, [(value,) for value in sorted(values)], fields)


def _letters(rows: Iterable[Row]) -> str:
    of_stream = [row for row in rows if row.table == dlq.BRONZE]
    return _where(of_stream, ddl.text(dlq.BRONZE), "_run_id", "_position")


def _where(rows: Iterable[Row], table: str, run_id: str, position: str) -> str:
    return (
        " OR ".join(
            f"({table} = {ddl.text(row.table)} AND {run_id} = {ddl.text(row.run_id)} "
            f"AND {position} = {ddl.text(row.position)})"
            for row in rows
        )
        or "FALSE"
    )
