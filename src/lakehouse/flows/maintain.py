"""Maintain: rewrite small or unordered files, delete files that no reader needs, and say of each table what was done.

The story, table by table: decide from the log's statistics whether a rewrite pays; rewrite; certify the version that
this makes, for readers trust only what a verdict names, and these are the same rows; then delete what the contract's
retention has run out for, unless something certified still needs it. Every step is recorded, so that a run which was
killed goes on where it was. What is open (a promotion, a publication, today's partition of the stream) is left alone.
"""

from __future__ import annotations

import argparse
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict
from pyspark.errors import AnalysisException

from lakehouse import contracts, store
from lakehouse.catalog import LAYERS
from lakehouse.cli import Job
from lakehouse.contracts import Contract, ddl, quote
from lakehouse.contracts.spark import schema
from lakehouse.delta import damage
from lakehouse.delta.files import data_files
from lakehouse.delta.layout import Decision, FileFact, Partition, Sizes, decide
from lakehouse.delta.log import LogHead, log_head
from lakehouse.delta.read import Commit, commit_info, has_same_files, superseded_at
from lakehouse.delta.write import optimize, replace_where, vacuum
from lakehouse.errors import CommitConflict, ConfigError, TableUnreadable, UsageError
from lakehouse.flows import leftovers, publish
from lakehouse.flows.promote import Promotion
from lakehouse.flows.publish import INPUTS, OUTPUTS, Intent, latest_marker
from lakehouse.quality import dlq, verdicts
from lakehouse.quality.verdicts import Verdict
from lakehouse.runs import run_time
from lakehouse.session import local_frame
from lakehouse.settings import Settings
from lakehouse.submit import by_hand

log = logging.getLogger("lakehouse.flows.maintain")

Operation = Literal["optimize", "zorder", "vacuum", "expire"]

TABLE = "ops.maintenance_log"
#: What is maintained beside tables: objects that crashed tries and former streams left behind.
FOLDERS = ("landing", "checkpoints")
# Written all day long: the partition of the day has small files until the day is over.
_STREAMED = (dlq.BRONZE, dlq.TABLE)
_TAG = "housekeeping/"
_SIDE_BY_SIDE = 3
# Runs whose records are loaded: those of a run that was killed and never repeated are loaded by a later one.
_RECENT_RUNS = 5
_RETENTION_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"
_LOST_RACE = "another writer was faster: "


class Entry(BaseModel):
    """One operation on one table: what was done, or why nothing was. Columns of ops.maintenance_log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table_name: str
    operation: Operation
    files_before: int | None = None
    files_after: int | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    files_deleted: int | None = None
    version: int | None = None
    seconds: float | None = None
    skipped_reason: str | None = None
    recorded_at: AwareDatetime

    @property
    def lost_race(self) -> bool:
        return (self.skipped_reason or "").startswith(_LOST_RACE)

    def __str__(self) -> str:
        if self.skipped_reason is not None:
            return f"{self.table_name}: {self.operation} skipped: {self.skipped_reason}"
        if self.files_deleted is not None:
            done = f"{self.files_deleted} files deleted, {self.bytes_before} bytes became {self.bytes_after}"
        else:
            done = f"{self.files_before} files became {self.files_after}, version {self.version}"
        return f"{self.table_name}: {self.operation}: {done}, {self.seconds or 0:.1f} s"


class _Record(BaseModel):
    """What a run has done to one table, at ``ops/_maintenance/<run id>/<table>.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Limits:
    """When and with which sizes it is decided. ``today``: days of the stream from this one on are left alone."""

    at: datetime
    today: date
    sizes: Sizes


@dataclass(frozen=True)
class _Standing:
    """What readers are told of a table before it is touched.

    ``refusal``: why its files may not be rewritten now. ``certified``: the version that counts, where the newest has
    the rows of it; a rewrite then needs a verdict (``base`` is the one to repeat, None in Gold).
    """

    refusal: str | None = None
    certified: int | None = None
    base: Verdict | None = None


def options(parser: argparse.ArgumentParser) -> None:
    """The job's own arguments."""
    parser.add_argument(
        "--table",
        action="append",
        help="a dotted table, a layer, landing or checkpoints; may be repeated (default: everything)",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--optimize-only", action="store_true", help="delete nothing")
    only.add_argument("--vacuum-only", action="store_true", help="rewrite nothing")
    parser.add_argument(
        "--force",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="rewrite even where statistics say it does not pay",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def maintain(job: Job) -> None:
    """The job delta_optimize_vacuum.

    Raises, once all else is done, TableUnreadable with the tables that cannot be read, CommitConflict where another
    writer was faster.
    """
    job.outcome.repeated_by(_command(job))
    _require_safety_check(job)
    tables, folders = targets(job.arguments.table)
    limits = Limits(datetime.now(UTC), run_time(job.run_id).date(), Sizes())
    unfinished = publish.pending(job.settings)
    unreadable: list[TableUnreadable] = []

    def one(name: str) -> list[Entry]:
        contract = contracts.load(name)
        try:
            return maintain_table(job.beside(), contract, limits, unfinished)
        except damage.ENGINE as error:
            told = damage.recognised(error)
            if not isinstance(told, TableUnreadable):
                raise
            unreadable.append(told)
            return [_skipped(contract, "optimize", told.message)]

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        found = list(pool.map(one, tables))
    entries = [entry for each in found for entry in each]
    if not job.arguments.optimize_only:
        entries += [_expire(job, folder, limits) for folder in folders]
    job.outcome.notes.extend(str(entry) for entry in entries)
    for entry in entries:
        log.info("%s", entry)
    if job.arguments.dry_run:
        return
    load(job, tables)
    if unreadable:
        raise TableUnreadable(
            "; ".join(each.message for each in unreadable) + "; the others are done",
            hint="; ".join(dict.fromkeys(each.hint for each in unreadable)),
        )
    lost = [entry for entry in entries if entry.lost_race]
    if lost:
        raise CommitConflict(
            f"{len(lost)} of {len(entries)} operations were not done: " + "; ".join(map(str, lost)),
            hint="run again, with the same --run-id only these are repeated; all others are done",
        )


def _command(job: Job) -> str:
    given = job.arguments
    flags = [name for name in ("optimize_only", "vacuum_only", "force", "dry_run") if getattr(given, name)]
    words = [f"--table {each}" for each in given.table or ()] + [
        f"--{each.replace('_', '-')}" for each in flags
    ]
    return " ".join([by_hand("delta_optimize_vacuum"), *words, f"--run-id {job.run_id}"])


def targets(wanted: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tables and folders of ``--table``; everything for None. Raises UsageError for names that are none."""
    names = contracts.names()
    tables: dict[str, None] = {}
    folders: dict[str, None] = {}
    for each in wanted if wanted else (*LAYERS, *FOLDERS):
        found = [name for name in names if each in (name, name.split(".")[0])]
        if each in FOLDERS:
            folders[each] = None
        elif found:
            tables.update(dict.fromkeys(found))
        else:
            known = ", ".join((*LAYERS, *FOLDERS, *names))
            raise UsageError(f"received --table {each}, expected one of {known}")
    return tuple(tables), tuple(folders)


def maintain_table(job: Job, contract: Contract, limits: Limits, unfinished: Intent | None) -> list[Entry]:
    """Everything that is to be done to one table in this run; what a killed try of it recorded is not repeated."""
    arguments = job.arguments
    entries = [entry for entry in _recorded(job, contract.name) if entry.skipped_reason is None]

    def do(operation: Operation, work: Callable[[], Entry]) -> None:
        if operation in {entry.operation for entry in entries}:
            return
        began = time.monotonic()
        try:
            entry = work()
        except CommitConflict as error:
            entry = _skipped(contract, operation, _LOST_RACE + error.message)
        if entry.skipped_reason is None:
            entry = entry.model_copy(update={"seconds": round(time.monotonic() - began, 3)})
        entries.append(entry)
        if not arguments.dry_run:
            _record(job, contract.name, entries)

    live = log_head(job.spark, job.settings.table_uri(contract.name))
    if live is None:
        return [_skipped(contract, "optimize", "there is no such table yet")]
    if not arguments.vacuum_only:
        rewriting = _Rewriting(job, contract, live, limits, unfinished)
        if rewriting.late is not None:
            entries.append(rewriting.late)
        do("optimize", lambda: rewriting.rewrite("compact"))
        if contract.zorder_by:
            do("zorder", lambda: rewriting.rewrite("zorder"))
        live = rewriting.live
    if not arguments.optimize_only:
        do("vacuum", lambda: _vacuum(job, contract, live, limits, unfinished))
    return entries


# Rewriting ---------------------------------------------------------------------------------------------------------


class _Rewriting:
    """The rewriting of one table: decided once, then done and certified step by step.

    ``live``: the newest version; ``late``: what a killed try of this run had done without recording it.
    """

    def __init__(
        self, job: Job, contract: Contract, live: LogHead, limits: Limits, unfinished: Intent | None
    ) -> None:
        self.live = live
        self._job, self._contract, self._sizes = job, contract, limits.sizes
        standing = _standing(job, contract, live, unfinished)
        self._standing, self.late = _certify_late(job, contract, live, standing)
        self._decisions = decide(
            _files(job, contract),
            contract.zorder_by,
            sizes=limits.sizes,
            is_left_alone=lambda partition: _is_open_day(contract, partition, limits.today),
            force=job.arguments.force,
        )

    def rewrite(self, action: Literal["compact", "zorder"]) -> Entry:
        """Rewrite the partitions for which that was decided, and certify what it makes."""
        contract, decisions = self._contract, self._decisions
        operation: Operation = "optimize" if action == "compact" else "zorder"
        if self._standing.refusal is not None:
            return _skipped(contract, operation, self._standing.refusal)
        chosen = [each for each in decisions if each.action == action]
        if not chosen:
            return _skipped(contract, operation, _why_not(decisions))
        if self._job.arguments.dry_run:
            words = f"it would rewrite {len(chosen)} of {len(decisions)} partitions ({chosen[0].reason})"
            return _skipped(contract, operation, f"dry run: {words}")
        files = _files(self._job, contract)
        commit = optimize(
            self._job.spark,
            self._job.settings.table_uri(contract.name),
            " OR ".join(_predicate(each.partition) for each in chosen if each.partition) or None,
            contract.zorder_by if action == "zorder" else (),
            f"{_TAG}{self._job.run_id}/{contract.name}/{operation}",
            self._sizes,
            small_only=not self._job.arguments.force,
        )
        if commit is None:
            return _skipped(contract, operation, "there is nothing to put together")
        self._certify(commit)
        return _rewritten(contract, operation, files, commit)

    def _certify(self, commit: Commit) -> None:
        is_next = commit.version == self.live.version + 1
        self.live = replace(self.live, version=commit.version)
        if is_next and self._standing.certified is not None:
            table_id = self.live.table_id
            self._standing = _certify(self._job, self._contract, table_id, self._standing, commit.version)
        else:
            # Not of what was certified, or not of that alone: the next gate judges it.
            self._standing = replace(self._standing, certified=None)


def _why_not(decisions: Sequence[Decision]) -> str:
    """The commonest reason to leave partitions alone."""
    reasons = [each.reason for each in decisions if each.action == "leave"]
    if not decisions:
        return "the table has no files"
    if not reasons:
        return "every partition is rewritten in another way"
    first = max(dict.fromkeys(reasons), key=reasons.count)
    return f"it does not pay: {first}" + (f" ({len(reasons)} partitions)" if len(decisions) > 1 else "")


def _predicate(partition: Partition) -> str:
    parts = [
        f"{quote(column)} IS NULL" if value is None else f"{quote(column)} = {ddl.text(value)}"
        for column, value in partition
    ]
    return f"({' AND '.join(parts)})"


def _is_open_day(contract: Contract, partition: Partition, today: date) -> bool:
    day = dict(partition).get("ingest_date")
    return contract.name in _STREAMED and day is not None and day >= today.isoformat()


def _files(job: Job, contract: Contract) -> tuple[FileFact, ...]:
    uri = job.settings.table_uri(contract.name)
    return data_files(job.spark, uri, contract.partition_by, contract.zorder_by)


def _rewritten(contract: Contract, operation: Operation, files: Sequence[FileFact], commit: Commit) -> Entry:
    size = sum(file.bytes for file in files)
    return Entry(
        table_name=contract.name,
        operation=operation,
        files_before=len(files),
        files_after=len(files) - commit.metric("numRemovedFiles") + commit.metric("numAddedFiles"),
        bytes_before=size,
        bytes_after=size - commit.metric("numRemovedBytes") + commit.metric("numAddedBytes"),
        version=commit.version,
        recorded_at=datetime.now(UTC),
    )


# What readers trust ------------------------------------------------------------------------------------------------


def _standing(job: Job, contract: Contract, live: LogHead, unfinished: Intent | None) -> _Standing:
    if contract.layer == "ops":
        return _Standing()
    if unfinished is not None and contract.name in (*INPUTS, *OUTPUTS):
        return _Standing(refusal=_unfinished(unfinished))
    known = verdicts.read_all(job.settings, contract.name)
    if contract.layer == "gold":
        return _standing_of_gold(job.settings, contract, live, known)
    certified = verdicts.certification(contract.name, known, live.table_id)
    base = next(
        (
            each
            for each in reversed(known)
            if each.passing and (each.table_id, each.version) == (live.table_id, certified.version)
        ),
        None,
    )
    standing = _Standing(certified=certified.version, base=base)
    if contract.layer == "silver":
        promotion = _newest_promotion(job.settings, contract.name)
        if (
            promotion is not None
            and promotion.version == live.version
            and promotion.table_id == live.table_id
            and promotion.run_id not in certified.latest
        ):
            return replace(
                standing,
                refusal=f"run {promotion.run_id} promoted version {live.version}, and no gate has judged it yet",
            )
    return standing


def _standing_of_gold(
    settings: Settings, contract: Contract, live: LogHead, known: Sequence[Verdict]
) -> _Standing:
    marker = latest_marker(settings)
    published = None if marker is None else marker.outputs.get(contract.name)
    if marker is None or published is None or published.table_id != live.table_id:
        return _Standing(refusal="nothing is published in it yet")
    return _Standing(certified=verdicts.optimized(known, live.table_id, published.version))


def _certify_late(
    job: Job, contract: Contract, live: LogHead, standing: _Standing
) -> tuple[_Standing, Entry | None]:
    """The standing where the newest version has the certified rows; with the verdict that a killed run still owed.

    A Bronze table may be rewritten without: who reads it takes the certified version, and the next gate certifies the
    newest. In Silver and Gold the newest version has to be what counts.
    """
    if standing.refusal is not None or contract.layer == "ops" or standing.certified == live.version:
        return standing, None
    uri = job.settings.table_uri(contract.name)
    info = commit_info(uri, live.version)
    tag = str(info.get("userMetadata") or "")
    if info.get("operation") == "OPTIMIZE" and tag.startswith(_TAG) and standing.certified is not None:
        if _has_rows_of(job, contract, standing.certified, live.version - 1):
            if job.arguments.dry_run:
                return replace(standing, certified=live.version), None
            later = _certify(job, contract, live.table_id, standing, live.version)
            job.outcome.notes.append(
                f"{contract.name}: certified version {live.version}, which an interrupted housekeeping had made"
            )
            return later, _of_this_run(job, contract, tag, live.version, info)
    elif standing.certified is not None and _has_rows_of(job, contract, standing.certified, live.version):
        return standing, None
    words = "nothing" if standing.certified is None else f"version {standing.certified}"
    if contract.layer == "bronze":
        return replace(standing, certified=None), None
    refusal = (
        f"{words} is certified and version {live.version} the newest: a run is under way, or was refused"
    )
    return replace(standing, refusal=refusal), None


def _has_rows_of(job: Job, contract: Contract, certified: int, version: int) -> bool:
    """Whether a version has the files of the certified one. Gold's marker names one version and no other."""
    if version == certified:
        return True
    uri = job.settings.table_uri(contract.name)
    if contract.layer == "gold" or version < certified or superseded_at(uri, certified) is None:
        return False
    try:
        return has_same_files(job.spark, uri, certified, version)
    except AnalysisException:
        # Delta reads no version that is older than the retention, even where its files are still there.
        return False


def _of_this_run(
    job: Job, contract: Contract, tag: str, version: int, info: Mapping[str, object]
) -> Entry | None:
    """What a killed try of this very run had done."""
    match = re.fullmatch(f"{_TAG}{re.escape(job.run_id)}/{re.escape(contract.name)}/(optimize|zorder)", tag)
    if match is None:
        return None
    metrics = info.get("operationMetrics")
    commit = Commit(
        version, {str(k): str(v) for k, v in metrics.items()} if isinstance(metrics, dict) else {}
    )
    files = _files(job, contract)
    done = _rewritten(contract, "zorder" if match[1] == "zorder" else "optimize", files, commit)
    # The files are those after the rewrite.
    return done.model_copy(
        update={
            "files_before": len(files) + len(files) - (done.files_after or 0),
            "files_after": len(files),
            "bytes_before": 2 * (done.bytes_before or 0) - (done.bytes_after or 0),
            "bytes_after": done.bytes_before,
        }
    )


def _certify(job: Job, contract: Contract, table_id: str, standing: _Standing, version: int) -> _Standing:
    """Leave the verdict that a rewritten version has the rows of the certified one; the standing with it."""
    base = standing.base
    now = datetime.now(UTC)
    said = {} if base is None or base.action == "discard" else {
        "certified_runs": base.certified_runs,
        "inputs": base.inputs,
    }  # fmt: skip
    verdict = Verdict.model_validate(
        {
            "verdict_id": uuid.uuid4().hex,
            "table": contract.name,
            "layer": contract.layer,
            "run_id": job.run_id,
            "table_id": table_id,
            "version": version,
            "outcome": "passed",
            "action": "optimize",
            "optimized_from": standing.certified,
            "contract_version": base.contract_version if base else contract.version,
            "contract_hash": base.contract_hash if base else contract.content_hash,
            "rules_hash": base.rules_hash if base else contract.rules_hash,
            "rows": base.rows if base else None,
            "rules": (),
            # After what it follows, whatever this machine's clock says.
            "created_at": now if base is None else max(now, base.created_at + timedelta(microseconds=1)),
            **said,
        }
    )
    verdicts.write(job.settings, verdict)
    return replace(standing, certified=version, base=verdict if base else None)


def _newest_promotion(settings: Settings, name: str) -> Promotion | None:
    uris = list(store.keys(f"{settings.lake_uri}/ops/_promotions/{name}/"))
    body = store.get(uris[-1]) if uris else None
    return None if body is None else Promotion.model_validate_json(body)


def _unfinished(unfinished: Intent) -> str:
    return f"publication {unfinished.publish_id} is not complete; the next silver_to_gold completes it"


# Deleting ----------------------------------------------------------------------------------------------------------


def _vacuum(job: Job, contract: Contract, live: LogHead, limits: Limits, unfinished: Intent | None) -> Entry:
    """Delete data files that the retention has run out for."""
    days = contract.retention.deleted_files_days
    before = limits.at - timedelta(days=days)
    reason = _needed(job, contract, live, before, unfinished)
    if reason is not None:
        return _skipped(contract, "vacuum", reason)
    used = {file.path for file in _files(job, contract)}
    stored = _stored(job.settings, contract.name)
    # A file was taken out of use after it was written: what is younger cannot be due.
    due = [path for path, item in stored.items() if path not in used and item.modified < before]
    if not due:
        return _skipped(contract, "vacuum", f"no file has been out of use for {days} days")
    if job.arguments.dry_run:
        return _skipped(contract, "vacuum", f"dry run: it would look at {len(due)} files that are out of use")
    vacuum(job.spark, job.settings.table_uri(contract.name))
    left = _stored(job.settings, contract.name)
    return Entry(
        table_name=contract.name,
        operation="vacuum",
        files_before=len(stored),
        files_after=len(left),
        bytes_before=sum(item.bytes for item in stored.values()),
        bytes_after=sum(item.bytes for item in left.values()),
        files_deleted=len(stored.keys() - left.keys()),
        version=live.version,
        recorded_at=datetime.now(UTC),
    )


def _needed(
    job: Job, contract: Contract, live: LogHead, before: datetime, unfinished: Intent | None
) -> str | None:
    """Why files that are out of use may not go: somebody will still read them."""
    name = "delta.deletedFileRetentionDuration"
    wanted, found = ddl.properties(contract)[name], live.properties.get(name)
    if found != wanted:
        return (
            f"the table keeps deleted files for {found!r}, its contract says {wanted!r}: run apply_contracts"
        )
    if unfinished is not None and contract.name in (*INPUTS, *OUTPUTS):
        return _unfinished(unfinished)
    if contract.layer in ("bronze", "silver"):
        known = verdicts.read_all(job.settings, contract.name)
        version = verdicts.certification(contract.name, known, live.table_id).version
        if version is not None and version < live.version:
            until = superseded_at(job.settings.table_uri(contract.name), version)
            if until is None or until < before:
                since = "longer than the log goes back" if until is None else f"{until:%Y-%m-%d %H:%M} UTC"
                return (
                    f"the certified version {version} is not the newest since {since}, and its files are needed: "
                    "run the daily pipeline, whose gate certifies a newer one"
                )
    return None


def _stored(settings: Settings, name: str) -> dict[str, store.StoredObject]:
    """Every data file that lies in a table's folder, used or not, by its path in it."""
    base = f"{settings.table_uri(name)}/"
    found = ((item.uri.removeprefix(base), item) for item in store.objects(base))
    return {path: item for path, item in found if not path.startswith("_delta_log/")}


def _expire(job: Job, folder: str, limits: Limits) -> Entry:
    """Delete what crashed tries and former streams left outside of the tables."""
    for entry in _recorded(job, folder):
        if entry.skipped_reason is None:
            return entry
    began = time.monotonic()
    find = leftovers.of_landing if folder == "landing" else leftovers.of_checkpoints
    found = find(job.settings, limits.at)
    entry = Entry(table_name=folder, operation="expire", recorded_at=datetime.now(UTC))
    size = sum(item.bytes for item in found)
    if not found:
        entry = entry.model_copy(update={"skipped_reason": "nothing is left over"})
    elif job.arguments.dry_run:
        words = f"dry run: it would delete {len(found)} objects, {size} bytes, e.g. {found[0].uri}"
        entry = entry.model_copy(update={"skipped_reason": words})
    else:
        for item in found:
            store.delete(item.uri)
        entry = entry.model_copy(
            update={
                "files_deleted": len(found),
                "bytes_before": size,
                "bytes_after": 0,
                "seconds": round(time.monotonic() - began, 3),
            }
        )
    if not job.arguments.dry_run:
        _record(job, folder, [entry])
    return entry


# Records -----------------------------------------------------------------------------------------------------------


def load(job: Job, tables: Iterable[str]) -> None:
    """What runs recorded into ops.maintenance_log, and their verdicts into ops.dq_verdicts. Idempotent."""
    base = f"{job.settings.lake_uri}/ops/_maintenance/"
    uris = list(store.keys(base))
    runs = sorted({uri.removeprefix(base).split("/")[0] for uri in uris})[-_RECENT_RUNS:]
    recent = [uri for uri in uris if uri.removeprefix(base).split("/")[0] in {*runs, job.run_id}]
    records = [_Record.model_validate_json(body) for body in store.get_many(recent)]
    fields = schema(contracts.load(TABLE))
    rows = [{"run_id": record.run_id, **entry.model_dump()} for record in records for entry in record.entries]
    frame = local_frame(job.spark, rows, fields)
    which = ", ".join(ddl.text(run) for run in sorted({record.run_id for record in records}))
    replace_where(
        frame, job.settings.table_uri(TABLE), f"run_id IN ({which})", f"{_TAG}{job.run_id}/{TABLE}/load"
    )
    left = [
        uri
        for name in tables
        if not name.startswith("ops.")
        for uri in verdicts.uris(job.settings, name)[-_RECENT_RUNS:]
    ]
    verdicts.load_into_ops(job.spark, job.settings, left)


def _skipped(contract: Contract, operation: Operation, reason: str) -> Entry:
    return Entry(
        table_name=contract.name,
        operation=operation,
        skipped_reason=reason,
        recorded_at=datetime.now(UTC),
    )


def _record_uri(job: Job, name: str) -> str:
    return f"{job.settings.lake_uri}/ops/_maintenance/{job.run_id}/{name}.json"


def _recorded(job: Job, name: str) -> tuple[Entry, ...]:
    body = store.get(_record_uri(job, name))
    return () if body is None else _Record.model_validate_json(body).entries


def _record(job: Job, name: str, entries: Iterable[Entry]) -> None:
    record = _Record(run_id=job.run_id, entries=tuple(entries))
    store.put(_record_uri(job, name), record.model_dump_json(indent=1).encode())


def _require_safety_check(job: Job) -> None:
    if (job.spark.conf.get(_RETENTION_CHECK, "true") or "").lower() != "true":
        raise ConfigError(
            f"{_RETENTION_CHECK}: received false, expected true: VACUUM could delete what is still being read",
            hint="submit the job with the properties of emr_configs/delta-core.conf",
        )
