"""Backfill: a range of a source's own times, read again, in chunks that are each a run of their own.

The story of a chunk: land the range, load it by the code of every ingest (rows that certified Bronze holds with the
same payload are duplicates, and not written), have the Bronze gate judge it, record it. The next promotion takes it in
like any other run. No watermark moves.

What the range speaks of: Snowflake, the time of the event; HubSpot, Salesforce, that of the last change; Kafka, the
record's timestamp, which its producer gives unless the topic says LogAppendTime; the vendor's files, that at which they
came to the inbox; FX, the quotes' day.

Chunks derive their run ids from that of the job: killed anywhere and started again under the same run id, a backfill
lands nothing twice and goes on with the first chunk that is not certified. Beside a run that has loaded a table and
is not judged yet it steps back: that run does not know its rows, nor it that run's. With ``--dry-run`` the chunks are
landed and compared with certified Bronze by key; the same run id without it takes in what was shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import import_module

from lakehouse import store
from lakehouse.cli import Job
from lakehouse.delta.rows import rows
from lakehouse.errors import CommitConflict, LakehouseError, UsageError
from lakehouse.flows import own_run
from lakehouse.flows.emit import LEDGER, record
from lakehouse.flows.ingest import SOURCES, Load, certification
from lakehouse.landing import Manifest
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Outcome
from lakehouse.runs import run_time
from lakehouse.settings import Settings
from lakehouse.submit import BACKFILL

Extract = Callable[[Settings, str, datetime, datetime], tuple[Manifest, ...]]

# A run that loaded and was never judged was given up after this.
_FORGOTTEN = timedelta(days=1)


@dataclass(frozen=True)
class Chunk:
    """Days [since, until) of a source, and the run that reads them."""

    run_id: str
    since: date
    until: date

    def __str__(self) -> str:
        return f"{self.since} to {self.until - timedelta(days=1)} (run {self.run_id})"


def options(parser: argparse.ArgumentParser) -> None:
    """The job's own arguments."""
    parser.add_argument("--source", required=True, choices=sorted(SOURCES))
    parser.add_argument("--from", dest="since", required=True, type=_day, help="first day, YYYY-MM-DD (UTC)")
    parser.add_argument("--to", dest="until", required=True, type=_day, help="last day, included")
    parser.add_argument("--chunk-days", type=int, default=7, help="days read by one run (default: 7)")
    parser.add_argument(
        "--dry-run",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="land the range and say, by key, what Bronze would get; write no table",
    )


def backfill(job: Job) -> None:
    """The job backfill. Raises CommitConflict where another run is between load and gate, GateFailed for a chunk."""
    given = job.arguments
    found = chunks(job.run_id, given.source, given.since, given.until, given.chunk_days)
    again = (
        f"{command(given.source, given.since, given.until)} --chunk-days {given.chunk_days}"
        f"{' --dry-run' if given.dry_run else ''} --run-id {job.run_id}"
    )
    _require_own_id(job)
    job.outcome.repeated_by(again)
    if given.dry_run:
        for chunk in found:
            job.outcome.notes.extend(_preview(job, given.source, chunk))
        job.outcome.notes.append(
            f"no table was written; --run-id {job.run_id} without --dry-run takes in just this"
        )
        return
    for done, chunk in enumerate(found):
        try:
            job.outcome.notes.append(_chunk(job, given.source, chunk, again))
        except LakehouseError as error:
            error.args = (f"{given.source}, {chunk}: {error.message}", *error.args[1:])
            error.hint += f"; {done} chunks are certified: repeat with --run-id {job.run_id} to go on"
            raise


def _require_own_id(job: Job) -> None:
    """Raise UsageError where the run id is that of a run of another kind: its jobs and ours would be told as one."""
    others = sorted({each.job for each in outcomes.read_run(job.settings, job.run_id)} - {job.name})
    if others:
        raise UsageError(
            f"received the run id {job.run_id}, which is that of another run ({', '.join(others)})",
            hint="leave --run-id out to begin a backfill, or give that of the backfill that is to go on",
        )


def command(source: str, first: date, last: date) -> str:
    """The command that reads a range of a source again, in a new run."""
    return f"{BACKFILL} --source {source} --from {first} --to {last}"


def chunks(run_id: str, source: str, since: date, until: date, days: int) -> Iterator[Chunk]:
    """The days from ``since`` to ``until``, both included, in pieces of at most so many."""
    if since > until or days < 1:
        raise UsageError(
            f"received the days {since} to {until} in chunks of {days}, expected the first day first, and chunks of a "
            "day or more"
        )
    end = until + timedelta(days=1)
    while since < end:
        after = min(since + timedelta(days=days), end)
        yield Chunk(own_run.derived_run_id(run_id, f"{source}/{since}/{after}"), since, after)
        since = after


def _chunk(job: Job, source: str, chunk: Chunk, again: str) -> str:
    """Land, load, judge and record one chunk; says what it came to. ``again`` is the command of the whole backfill."""
    tables = [f"bronze.{table}" for table in SOURCES[source]]
    own = own_run.own_job(job, f"backfill_{source}_to_bronze", chunk.run_id)
    if all(chunk.run_id in certification(job, table).passed for table in tables):
        if not rows(job.settings.table_uri(LEDGER), ["job"], [("run_id", "=", chunk.run_id)]):
            record(own.beside("emit_lineage_and_metrics"))
        return f"{source}, {chunk}: certified already"
    own.outcome.repeated_by(again)
    manifests = _landed(job.settings, source, chunk)
    _require_free(own, tables)
    with own_run.told(own):
        own_run.load(own, manifests, Load.require_contract)
        # A run that began to load when this one did.
        _require_free(own, tables)
        own_run.certify(own, manifests)
    record(own.beside("emit_lineage_and_metrics"))
    counted = [
        f"{each.table}: {each.ledger.read} read, {each.ledger.inserted} new, {each.ledger.duplicates} held already, "
        f"{each.ledger.quarantined} refused"
        for each in own.outcome.tables
        if each.ledger is not None
    ]
    return f"{source}, {chunk}: " + "; ".join(counted)


def _preview(job: Job, source: str, chunk: Chunk) -> Iterator[str]:
    """Land one chunk and say what each table would get, by key."""
    own = own_run.own_job(job, f"backfill_{source}_to_bronze", chunk.run_id)
    for manifest in _landed(job.settings, source, chunk):
        load = Load(own, manifest, certification(job, f"bronze.{manifest.table}"))
        try:
            found = load.difference()
            yield f"{source}, {chunk}: bronze.{manifest.table}: {found}, {load.refused} refused"
            yield from (f"  {line}" for line in found.samples)
        finally:
            load.release()


def _landed(settings: Settings, source: str, chunk: Chunk) -> tuple[Manifest, ...]:
    """What the source gives of a chunk: asked once, whoever asks first."""
    extract: Extract = import_module(f"lakehouse.sources.{source}").backfill
    return extract(settings, chunk.run_id, _midnight(chunk.since), _midnight(chunk.until))


def _require_free(job: Job, tables: list[str]) -> None:
    """Raise CommitConflict where another run has loaded one of the tables and no gate has judged it yet."""
    known = {table: certification(job, table).latest for table in tables}
    for found in _recent(job.settings, run_time(job.run_id)):
        for table in found.tables:
            is_open = table.table in known and found.run_id not in known[table.table]
            if is_open and found.run_id != job.run_id and found.job.endswith("_to_bronze"):
                raise CommitConflict(
                    f"{table.table}: run {found.run_id} ({found.job}) has loaded it and is not judged yet, expected "
                    "no run between load and gate",
                    hint="retry when its dq_check_bronze has run",
                )


def _recent(settings: Settings, at: datetime) -> Iterator[Outcome]:
    """Outcomes of the ingests of the day before a time, of its day and of the day after. Run ids begin with theirs."""
    for day in (at - _FORGOTTEN, at, at + _FORGOTTEN):
        prefix = f"{settings.lake_uri}/runs/{day:%Y%m%d}T"
        uris = [uri for uri in store.keys(prefix) if uri.endswith("_to_bronze/outcome.json")]
        yield from (Outcome.model_validate_json(body) for body in store.get_many(uris))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"received {text!r}, expected a day as YYYY-MM-DD") from None
