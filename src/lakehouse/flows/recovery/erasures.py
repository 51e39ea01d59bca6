"""What is kept of erasures: ``ops/_erasures/<run id>.json``, without the person. Read by all that looks back in time.

An erasure is *done* when no newest version holds the person, and *complete* when the files of older versions are gone:
VACUUM deletes them once the retention of their table has run out, and nothing may delete them before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts, store
from lakehouse.contracts import ddl, quote
from lakehouse.delta.read import read
from lakehouse.errors import RecoveryRefused
from lakehouse.settings import Settings

# A run is of its own day, however late it comes.
_LATE = timedelta(days=7)
# The weekly housekeeping comes within this.
_HOUSEKEEPING = timedelta(days=7)
_SLACK = timedelta(days=2)
# Beside tables and landing: what told of the person and was written anew.
_TOLD = ("gold/quality", "ops/_lineage", "reports/status", "runs")


class Erasure(BaseModel):
    """One erasure. ``runs``: of each Bronze table, the rows that each run lost; ``tables``: all that were rewritten.

    ``ids``: hashes of the person's ids (``hashed``); ``columns``: of each Bronze table that was looked at, the column
    with the id. By these one who comes back is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    subject_hash: str
    begun_at: AwareDatetime
    runs: dict[str, dict[str, int]]
    tables: tuple[str, ...]
    ids: tuple[str, ...]
    columns: dict[str, str]
    done_at: AwareDatetime | None = None

    @property
    def due_at(self) -> datetime | None:
        """When retention has run out for every file that still holds the person."""
        if self.done_at is None:
            return None
        return self.done_at + timedelta(days=max(map(_retention, self.tables), default=0))

    def gone_at(self, kept_days: int) -> datetime | None:
        """When the bucket's last old version of such a file is gone, at the latest: it is deleted by the housekeeping
        that follows, and kept as long as the bucket's lifecycle says. S3 counts whole days and takes its time."""
        return (
            None if self.due_at is None else self.due_at + _HOUSEKEEPING + timedelta(days=kept_days) + _SLACK
        )

    def is_theirs(self, column: str) -> str:
        """The SQL condition that a column has one of the person's ids."""
        return is_one_of(column, self.run_id, self.ids)


def _retention(table: str) -> int:
    return contracts.load(table).retention.deleted_files_days


def hashed(run_id: str, ids: Iterable[str]) -> tuple[str, ...]:
    """Ids as they may be written down: another hash in every erasure."""
    return tuple(sorted(hashlib.sha256(f"{run_id}/{each}".encode()).hexdigest() for each in ids))


def is_one_of(column: str, run_id: str, hashes: Iterable[str]) -> str:
    """The SQL condition that a column has one of the hashed ids. It holds none: plans and commits are kept in logs."""
    found = f"sha2(concat({ddl.text(f'{run_id}/')}, trim({quote(column)})), 256)"
    return f"{found} IN ({', '.join(map(ddl.text, hashes))})"


def returned(spark: SparkSession, settings: Settings) -> dict[tuple[str, str], int]:
    """How many rows Bronze has of erased persons, by run id of the erasure and table: a source still had them.

    Each table is looked at once, from the day of its first erasure on.
    """
    by_table: dict[str, list[Erasure]] = {}
    for each in erasures(settings):
        if each.done_at is not None:
            for table in each.columns:
                by_table.setdefault(table, []).append(each)
    found: dict[tuple[str, str], int] = {}
    for table, done in by_table.items():
        frame = read(spark, settings.table_uri(table))
        since = min(each.begun_at for each in done).date() - _LATE
        counts = [F.count_if(F.expr(each.is_theirs(each.columns[table]))).alias(each.run_id) for each in done]
        (row,) = frame.where(F.col("ingest_date") >= F.lit(since)).agg(*counts).collect()
        found |= {(each.run_id, table): row[each.run_id] for each in done if row[each.run_id]}
    return found


def write_erasure(settings: Settings, erasure: Erasure) -> None:
    """Keep an erasure; a later state of it replaces the former."""
    store.put(_uri(settings, erasure.run_id), erasure.model_dump_json(indent=1).encode())


def read_erasure(settings: Settings, run_id: str) -> Erasure | None:
    """The erasure of a run, or None."""
    body = store.get(_uri(settings, run_id))
    return None if body is None else Erasure.model_validate_json(body)


def erasures(settings: Settings) -> list[Erasure]:
    """All erasures, in the order of their runs."""
    bodies = store.get_many(list(store.keys(f"{settings.lake_uri}/ops/_erasures/")))
    return [Erasure.model_validate_json(body) for body in bodies]


def require_not_erased_since(settings: Settings, tables: Iterable[str], run_id: str, at: datetime) -> None:
    """Raise RecoveryRefused where going back to what a run made of tables would bring an erased person back."""
    later = [each for each in erasures(settings) if each.run_id != run_id and (each.done_at or at) >= at]
    for table in tables:
        concerned = [each for each in later if table in each.tables]
        if not concerned:
            continue
        raise RecoveryRefused(
            f"{table}: a person was erased by {concerned[-1].run_id}, after what was asked for "
            f"({at:%Y-%m-%d %H:%M:%S} UTC); nothing was written",
            hint="restore-silver and rebuild-gold make tables anew from Bronze, which no longer holds the person",
        )


def versions_left(settings: Settings, erasure: Erasure) -> tuple[int, datetime | None]:
    """How many old versions of objects from before an erasure the bucket still has, and when the last was superseded.

    Looked for where the erasure wrote: not each of them held the person.
    """
    assert erasure.done_at is not None
    prefixes = [f"{settings.table_uri(table)}/" for table in erasure.tables]
    prefixes += [f"{settings.lake_uri}/{name}/" for name in ("landing", *_TOLD)]
    found = [at for prefix in prefixes for at in store.superseded_since(prefix, erasure.done_at)]
    return len(found), max(found, default=None)


def _uri(settings: Settings, run_id: str) -> str:
    return f"{settings.lake_uri}/ops/_erasures/{run_id}.json"
