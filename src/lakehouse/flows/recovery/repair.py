"""Repair: a table of which objects are missing or not what was written, made readable again.

The story: find every broken object (the log first; else the data files, all of which are read once); for each look
whether the bucket keeps a version that is whole, and put that back. What has none is given up, as cheaply as its kind
allows: a checkpoint only repeats what commits say; Silver is made anew from certified Bronze, Gold published anew;
of Bronze and ops the other files are kept, and what the lost ones held comes from landing, verdicts and outcomes where
it can. Without its commits nobody knows what a table holds: the whole of it is put aside and created anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lakehouse import contracts, store
from lakehouse.contracts import Contract
from lakehouse.contracts.spark import schema
from lakehouse.delta.broken import (
    LAST_CHECKPOINT,
    Broken,
    DataFile,
    broken_commits,
    broken_log,
    commit_problem,
    data_files,
    deleted_commits,
    parquet_problem,
    read_log,
)
from lakehouse.delta.log import forget, is_dropped, way_back
from lakehouse.delta.read import head
from lakehouse.delta.salvage import keep_others, unreadable_files
from lakehouse.delta.write import merge
from lakehouse.errors import TransientError
from lakehouse.flows import emit
from lakehouse.flows.apply_contracts import apply_contracts
from lakehouse.flows.ingest import certification
from lakehouse.flows.promote import TABLES
from lakehouse.flows.recovery import gold, reload, silver
from lakehouse.flows.recovery.base import JOB, Change, Recovery, contract_of, refuse, require_table
from lakehouse.observe import outcome as outcomes
from lakehouse.quality import verdicts
from lakehouse.quality.insert import insert_new
from lakehouse.quality.verdicts import Certification, CertifiedRun
from lakehouse.session import local_frame
from lakehouse.store import StoredVersion
from lakehouse.submit import RECOVER

_MODULES = {str(module.TABLE): module for module in TABLES}


@dataclass(frozen=True)
class Mend:
    """What is done about a broken object: ``version`` is put back; else, of a log, it is put aside; else given up."""

    broken: Broken
    version: StoredVersion | None
    rows: int | None = None


def repair(recovery: Recovery) -> None:
    """The action repair, of one table."""
    name = require_table(recovery.request.table, contracts.names(), "these are the tables of the lake")
    uri = recovery.settings.table_uri(name)
    if read_log(uri).newest < 0:
        _require_begun(recovery, name)
        _create_anew(recovery, name)
    found = [*broken_log(uri), *deleted_commits(uri)]
    if found:
        _repair_log(recovery, name, found)
        if not recovery.applies:
            return
        forget(recovery.job.spark)
    if not broken_log(uri):
        _repair_files(recovery, name, lost=_lost_version(recovery, name))


def _require_begun(recovery: Recovery, name: str) -> None:
    """Where there is no table, an earlier try of this recovery may have put it aside; raise RecoveryRefused else."""
    if recovery.intent is not None and recovery.intent.planned:
        return
    uri = recovery.settings.table_uri(name)
    hint = way_back(uri) if is_dropped(recovery.job.spark, uri) else "apply_contracts creates every table"
    refuse([f"{name}: there is no table at {uri}"], hint)


def _lost_version(recovery: Recovery, name: str) -> bool:
    """Whether the log ends before the version that was certified: its commits are gone without a trace."""
    if name.split(".")[0] not in ("bronze", "silver"):
        return False
    known = certification(recovery.job, name)
    live = head(recovery.job.spark, recovery.settings.table_uri(name))
    if known.version is None or known.version <= live.version:
        return False
    recovery.say(
        f"{name}: version {known.version} was certified and its log ends with {live.version}: commits are missing, "
        "and the bucket keeps no version of them"
    )
    return True


# The log -----------------------------------------------------------------------------------------------------------


def _repair_log(recovery: Recovery, name: str, found: Sequence[Broken]) -> None:
    uri = recovery.settings.table_uri(name)
    mends = [Mend(each, _intact(each, None)) for each in found]
    _describe(recovery, name, mends)
    lost = _lost_commits(uri, mends)
    derived = [mend for mend in mends if mend.version is None and _is_derived(mend.broken)]
    if lost:
        recovery.say(
            f"  {len(lost)} commits are lost with all their versions, the first is {lost[0].uri}: what {name} held "
            "cannot be known. It is put aside and created anew, empty.",
            f"  {_afterwards(name)}",
        )
    elif derived:
        recovery.say(
            "  The commits say the same: what has no version is put aside, and written anew by Delta."
        )
    if not recovery.applies:
        return
    recovery.plan(Change(table=name, target=f"{len(found)} objects of the log"))
    _put_back(recovery, mends)
    if lost:
        _create_anew(recovery, name)
    else:
        # The pointer, too: it may name what is put aside.
        aside = [mend.broken.uri for mend in derived]
        _put_aside(recovery, name, [*aside, f"{uri}/_delta_log/{LAST_CHECKPOINT}"] if aside else [])
    forget(recovery.job.spark)
    _record(recovery, name)
    recovery.say(f"{name}: version {head(recovery.job.spark, uri).version} can be read")


def _lost_commits(uri: str, mends: Sequence[Mend]) -> list[Broken]:
    """Commits that are needed once all that has a version is put back, and all that repeats others is put aside."""
    log = read_log(uri)
    whole = {mend.broken.uri for mend in mends if mend.version is not None}
    gone = {mend.broken.uri for mend in mends} - whole
    base = f"{uri}/_delta_log/"
    usable = [v for v, names in log.checkpoints.items() if not gone & {base + name for name in names}]
    usable += [int(name[:20]) for each in whole if ".checkpoint" in (name := each.removeprefix(base))]
    needed = broken_commits(log, max(usable, default=-1))
    return [each for each in needed if each.uri not in whole]


def _is_derived(found: Broken) -> bool:
    """Whether an object of the log repeats what commits say."""
    return ".checkpoint" in found.uri or found.uri.endswith(LAST_CHECKPOINT)


def _afterwards(name: str) -> str:
    """How the rows of a table that was created anew come back."""
    layer = name.split(".")[0]
    if layer == "bronze":
        tables = [module.TABLE for module in TABLES if name in module.INPUTS]
        commands = [f"{RECOVER} restore-silver --table {table} --reload" for table in tables]
        return f"Then: {'; '.join(commands)}: the runs are loaded again from their landing."
    if layer == "silver":
        return f"Then: {RECOVER} restore-silver --table {name}"
    if layer == "gold":
        return f"Then: {RECOVER} rebuild-gold"
    return "What can be told again by verdicts and outcomes is; the rest of its rows is lost."


def _create_anew(recovery: Recovery, name: str) -> None:
    uri = recovery.settings.table_uri(name)
    _put_aside(recovery, name, list(store.keys(f"{uri}/")))
    forget(recovery.job.spark)
    apply_contracts(recovery.job.spark, recovery.settings, [contracts.load(name)], anew=True)
    if name.startswith("ops."):
        _tell_again(recovery, name)


def _put_aside(recovery: Recovery, name: str, uris: Sequence[str]) -> None:
    """Move objects to where nobody reads them. Repeated, what has gone already is passed over."""
    base = f"{recovery.settings.table_uri(name)}/"
    aside = f"{recovery.settings.lake_uri}/ops/_broken/{recovery.job.run_id}/{name}/"
    there = store.sizes(base)
    moved = [uri for uri in uris if uri in there]
    for uri in moved:
        store.copy(uri, aside + uri.removeprefix(base))
    copies = store.sizes(aside)
    missing = [uri for uri in moved if copies.get(aside + uri.removeprefix(base)) != there[uri]]
    if missing:
        raise TransientError(
            f"{len(missing)} of {len(moved)} objects have no whole copy, the first is {missing[0]}; none was removed",
            hint="repeat the recovery with the same --run-id",
        )
    for uri in moved:
        store.delete(uri)
    if moved:
        recovery.say(f"  {len(moved)} objects went to {aside}")


# Data files --------------------------------------------------------------------------------------------------------


def _repair_files(recovery: Recovery, name: str, *, lost: bool) -> None:
    uri = recovery.settings.table_uri(name)
    files = {each.uri: each for each in data_files(uri)}
    found = unreadable_files(recovery.job.spark, uri, files.values())
    if not found and name.startswith("bronze."):
        # An earlier try may have kept the other files, and come no further.
        known = certification(recovery.job, name)
        lost = lost or bool(silver.short_runs(recovery, known) or _taken_out(recovery, known))
    if not found and not lost:
        _end(recovery, name)
        return
    mends = [Mend(each, _intact(each, files[each.uri]), files[each.uri].rows) for each in found]
    if mends:
        _describe(recovery, name, mends)
    given_up = [mend for mend in mends if mend.version is None]
    if recovery.applies and len(given_up) < len(mends):
        recovery.plan(Change(table=name, target=f"{len(mends) - len(given_up)} data files"))
        _put_back(recovery, mends)
        forget(recovery.job.spark)
    if given_up or lost:
        _GIVE_UP[name.split(".")[0]](recovery, name, given_up)
    elif recovery.applies:
        _record(recovery, name)
        recovery.say(f"{name}: every data file can be read")


def _end(recovery: Recovery, name: str) -> None:
    """Nothing is broken: by now, or at all."""
    if recovery.applies and recovery.intent is not None and recovery.intent.planned:
        if not recovery.done:
            _record(recovery, name)
        recovery.say(f"{name}: every object of its log and every data file can be read")
        return
    recovery.say(f"{name}: every object of its log and every data file can be read; there is nothing to do.")


def _give_up_silver(recovery: Recovery, name: str, lost: Sequence[Mend]) -> None:
    recovery.say("  What has no version is given up: the table is made anew from certified Bronze.")
    silver.restore(recovery, [_MODULES[name]])


def _give_up_gold(recovery: Recovery, name: str, lost: Sequence[Mend]) -> None:
    recovery.say("  What has no version is given up: certified Silver is published anew.")
    gold.rebuild_gold(recovery)


def _give_up_bronze(recovery: Recovery, name: str, lost: Sequence[Mend]) -> None:
    """Keep the other files, then load the runs that lost rows again from their landing."""
    if lost:
        recovery.say(f"  {_rows(lost)} rows have no version: the other files are kept.")
    recovery.say("  Certified runs that lost rows are loaded again from their landing.")
    if not recovery.applies:
        return
    if recovery.left(name, "discard") is None:
        _keep(recovery, name, lost)
    known = certification(recovery.job, name)
    if short := silver.short_runs(recovery, known):
        _take_out(recovery, known, short)
    if runs := short | _taken_out(recovery, known):
        reload.write(recovery, reload.look(recovery, [name], runs))
    else:
        _carry_on(recovery, name, known)
        _record(recovery, name)
    streamed = [run_id for run_id, run in known.runs.items() if verdicts.is_streamed(run.state)]
    if streamed:
        recovery.say(
            "  Rows that the stream wrote come from the topic alone: where some were in a lost file, "
            f"`{RECOVER} discard --table {name} --run RUN-ID` and backfill their days."
        )


def _take_out(recovery: Recovery, known: Certification, runs: Iterable[str]) -> None:
    """Runs that lost rows count no longer until they are loaded again: what was certified of them is not there."""
    live = head(recovery.job.spark, recovery.settings.table_uri(known.table))
    contract = contract_of(recovery.settings, known.table)
    verdict = recovery.verdict(contract, "discard", live, live.version)
    found = tuple(CertifiedRun(run_id=run_id) for run_id in sorted(runs))
    recovery.leave(verdict.model_copy(update={"certified_runs": found}))


def _taken_out(recovery: Recovery, known: Certification) -> frozenset[str]:
    """Runs that an earlier try of this recovery took out, and that are not certified again yet."""
    mine = recovery.left(known.table, "discard")
    return (
        frozenset() if mine is None else frozenset(run.run_id for run in mine.certified_runs) - known.run_ids
    )


def _carry_on(recovery: Recovery, name: str, known: Certification) -> None:
    """No certified row was lost: what was certified holds of the version without the lost files."""
    live = head(recovery.job.spark, recovery.settings.table_uri(name))
    if known.version is None or known.version == live.version:
        return
    last = [each for each in verdicts.read_all(recovery.settings, name) if each.passing][-1]
    update = {
        "verdict_id": recovery.verdict_id(name, "repair"),
        "action": "optimize",
        "optimized_from": known.version,
        "run_id": recovery.job.run_id,
        "version": live.version,
        "rules": (),
        "created_at": max(datetime.now(UTC), last.created_at),
    }
    verdicts.write(recovery.settings, last.model_copy(update=update))


def _give_up_ops(recovery: Recovery, name: str, lost: Sequence[Mend]) -> None:
    recovery.say(f"  {_rows(lost)} rows have no version: the other files are kept. {_afterwards(name)}")
    if not recovery.applies:
        return
    _keep(recovery, name, lost)
    _tell_again(recovery, name)
    _record(recovery, name)
    recovery.say(f"{name}: every data file can be read")


_GIVE_UP = {
    "bronze": _give_up_bronze,
    "silver": _give_up_silver,
    "gold": _give_up_gold,
    "ops": _give_up_ops,
}


def _keep(recovery: Recovery, name: str, lost: Sequence[Mend]) -> None:
    contract, uri = contracts.load(name), recovery.settings.table_uri(name)
    recovery.plan(Change(table=name, target=f"without {len(lost)} data files", removed=_rows(lost)))
    keep_others(
        recovery.job.spark,
        uri,
        [mend.broken.uri for mend in lost],
        contract.partition_by,
        f"{recovery.job.run_id}/{JOB}/{name}",
    )


def _tell_again(recovery: Recovery, name: str) -> None:
    """Rows of an ops table that verdicts and outcomes in the lake repeat."""
    spark, settings = recovery.job.spark, recovery.settings
    contract, tag = contracts.load(name), f"{recovery.job.run_id}/{JOB}/{name}/again"
    uri = settings.table_uri(name)
    if name == "ops.dq_verdicts":
        gated = [*contracts.names("bronze"), *contracts.names("silver")]
        verdicts.load_into_ops(
            spark, settings, [each for table in gated for each in verdicts.uris(settings, table)]
        )
    elif name == emit.LEDGER:
        told = [row for each in outcomes.read_all(settings) for row in emit.ledger_rows(each)]
        insert_new(local_frame(spark, _once(told, contract), schema(contract)), uri, contract.key, tag)
    elif name == "ops.job_runs":
        told = [
            emit.job_row(settings, each, None) for each in outcomes.read_all(settings) if each.finished_at
        ]
        merge(local_frame(spark, told, schema(contract)), uri, contract.key, tag, update=False)


def _once(rows: Iterable[Mapping[str, object]], contract: Contract) -> list[Mapping[str, object]]:
    return list({tuple(row[name] for name in contract.key): row for row in rows}.values())


# Versions ----------------------------------------------------------------------------------------------------------


def _intact(found: Broken, file: DataFile | None) -> StoredVersion | None:
    """The newest version of an object that is whole; a pointer is better written anew."""
    if found.uri.endswith(LAST_CHECKPOINT):
        return None
    for version in store.earlier_versions(found.uri):
        body = store.get_version(version)
        if found.uri.endswith(".json"):
            problem = commit_problem(body)
        elif file is not None and len(body) != file.bytes:
            problem = "is another file"
        else:
            problem = parquet_problem(body, None if file is None else file.rows)
        if problem is None:
            return version
    return None


def _put_back(recovery: Recovery, mends: Iterable[Mend]) -> None:
    for mend in mends:
        if mend.version is not None:
            store.put(
                mend.broken.uri, store.get_version(mend.version), content_type="application/octet-stream"
            )


def _describe(recovery: Recovery, name: str, mends: Sequence[Mend]) -> None:
    recovery.say(f"{name}: {len(mends)} objects are broken", *_lines(mends))


def _lines(mends: Sequence[Mend]) -> Iterator[str]:
    for mend in mends:
        rows = "" if mend.rows is None else f" ({mend.rows} rows)"
        way = (
            "no version of it is whole"
            if mend.version is None
            else f"the version of {mend.version.modified:%Y-%m-%d %H:%M:%S} UTC is put back"
        )
        yield f"  {mend.broken}{rows}: {way}"


def _rows(lost: Iterable[Mend]) -> int | None:
    counted = [mend.rows for mend in lost]
    return None if None in counted else sum(each for each in counted if each is not None)


def _record(recovery: Recovery, name: str) -> None:
    assert recovery.intent is not None
    (change,) = [each for each in recovery.intent.planned if each.table == name]
    recovery.record(change, head(recovery.job.spark, recovery.settings.table_uri(name)).version)
