"""Restore Silver: made anew from certified Bronze by the transforms and contracts as they are now.

The story: with --reload the chosen Bronze runs are first loaded again from their landing and judged again; then every
row of every certified run goes through ``transform`` and ``resolve`` against an empty table. Bronze that does not
hold what its verdicts say is refused. What differs from the certified version is shown by key; applied, the rows
replace the table in one commit, a promotion record says what it contains, and the Silver gate judges it. Where that
fails, the certified version stays the one that counts, and the next promotion restores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import ModuleType

from pyspark.sql import DataFrame
from pyspark.storagelevel import StorageLevel

from lakehouse import contracts
from lakehouse.contracts.spark import schema
from lakehouse.delta.read import head, read
from lakehouse.delta.write import overwrite
from lakehouse.errors import LedgerImbalance
from lakehouse.flows import gate
from lakehouse.flows.apply_contracts import apply_contracts
from lakehouse.flows.ingest import certification
from lakehouse.flows.promote import (
    TABLES,
    PromotedInput,
    Promotion,
    ledger_of,
    read_promotion,
    winners,
    write_promotion,
)
from lakehouse.flows.recovery import reload
from lakehouse.flows.recovery.base import (
    JOB,
    Change,
    Recovery,
    contract_of,
    difference_or_none,
    named,
    refuse,
    require_table,
)
from lakehouse.observe.ledger import Ledger
from lakehouse.observe.outcome import LedgerCounts, TableOutcome, VerdictReference
from lakehouse.quality import verdicts
from lakehouse.quality.difference import Difference
from lakehouse.quality.verdicts import Certification, CertifiedRun, VerdictInput
from lakehouse.session import local_frame

_BY_NAME: dict[str, ModuleType] = {module.TABLE: module for module in TABLES}
_HINT = (
    "put the rows back first (restore-silver --reload loads runs again from their landing), or discard the runs that "
    "are to go (recover.py discard)"
)


@dataclass(frozen=True)
class Rebuilt:
    """A Silver table as certified Bronze gives it now: ``rows``, kept until ``release``, and what differs.

    ``difference`` is None where the certified version cannot be read.
    """

    module: ModuleType
    rows: DataFrame
    ledger: Ledger
    inputs: dict[str, PromotedInput]
    gone: dict[str, frozenset[str]]
    before: int | None
    difference: Difference | None

    @property
    def name(self) -> str:
        return str(self.module.TABLE)

    def release(self) -> None:
        self.rows.unpersist()


def restore_silver(recovery: Recovery) -> None:
    """The action restore-silver, of one table or of all."""
    asked = recovery.request.table
    if asked is not None:
        require_table(
            asked, _BY_NAME, "Gold is made anew by rebuild-gold, Bronze by --reload of Silver's inputs"
        )
    modules = [module for module in TABLES if asked in (None, module.TABLE)]
    landed: Mapping[str, Sequence[reload.Landed]] = {}
    if recovery.request.reload:
        sources = list(dict.fromkeys(name for module in modules for name in module.INPUTS))
        landed = reload.look(recovery, sources)
        if recovery.applies:
            reload.write(recovery, landed)
            landed = {}
    try:
        restore(recovery, modules, landed=landed)
    finally:
        for each in (one for found in landed.values() for one in found):
            each.release()
    if recovery.applies:
        recovery.say("The next silver_to_gold publishes it; the daily run does so by itself.")


def restore(
    recovery: Recovery,
    modules: Sequence[ModuleType],
    *,
    without: Mapping[str, Set[str]] | None = None,
    landed: Mapping[str, Sequence[reload.Landed]] | None = None,
) -> None:
    """Show what tables would become; applied, write and judge them. ``without``: Bronze runs to be left out."""
    found: list[Rebuilt] = []
    to_judge: list[str] = []
    try:
        for module in modules:
            if recovery.applies and _is_done(recovery, module.TABLE):
                to_judge.append(module.TABLE)
                continue
            found.append(_rebuilt(recovery, module, without or {}, landed or {}))
            _describe(recovery, found[-1])
        if recovery.applies:
            for each in found:
                if _is_needed(recovery, each):
                    _write(recovery, each)
                    to_judge.append(each.name)
                else:
                    recovery.say(f"{each.name}: already is what certified Bronze gives; not written")
    finally:
        for each in found:
            each.release()
    for name in to_judge:
        _judge(recovery, name)


def dependents(recovery: Recovery, table: str, runs: Set[str]) -> list[ModuleType]:
    """Silver tables that contain any of these runs of a Bronze table."""
    modules = [module for module in TABLES if table in module.INPUTS]
    return [
        module
        for module in modules
        if certification(recovery.job, module.TABLE).merged.get(table, frozenset()) & runs
    ]


def _rebuilt(
    recovery: Recovery,
    module: ModuleType,
    without: Mapping[str, Set[str]],
    landed: Mapping[str, Sequence[reload.Landed]],
) -> Rebuilt:
    job, name = recovery.job, str(module.TABLE)
    uri = job.settings.table_uri(name)
    known = certification(job, name)
    frames: list[DataFrame] = []
    inputs: dict[str, PromotedInput] = {}
    gone: dict[str, frozenset[str]] = {}
    problems: list[str] = []
    read_rows = 0
    for source in module.INPUTS:
        live = head(job.spark, job.settings.table_uri(source))
        bronze = certification(job, source)
        fresh = {each.run_id: each for each in landed.get(source, ())}
        kept = {
            run_id: run
            for run_id, run in bronze.runs.items()
            if run_id not in fresh and run_id not in without.get(source, ())
        }
        version = live.version if bronze.version is None else bronze.version
        stored = read(job.spark, job.settings.table_uri(source), version)
        frame = stored.where(verdicts.rows_of(kept.values()))
        count = frame.count()
        problems += _missing(recovery, bronze, kept, frame, count)
        for each in fresh.values():
            frame, count = frame.unionByName(each.rows), count + each.inserted
        contained = {*kept, *fresh}
        merged = known.merged.get(source, frozenset())
        gone[source] = merged - contained
        lost = gone[source] - discarded(bronze) - without.get(source, frozenset())
        if lost:
            problems.append(f"{name} contains runs that {source} does not certify any more: {named(lost)}")
        frames.append(frame)
        read_rows += count
        inputs[source] = PromotedInput(
            table_id=live.table_id, version=version, run_ids=tuple(sorted(contained))
        )
    refuse(problems, _HINT)

    fields = schema(contracts.load(name))
    source_rows = module.transform(*frames)
    nothing = local_frame(job.spark, [], fields).select(*source_rows.columns)
    resolved = module.resolve(source_rows, nothing).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        ledger = ledger_of(name, resolved, read_rows)
        rows = winners(name, resolved).persist(StorageLevel.MEMORY_AND_DISK)

        def before() -> DataFrame:
            if known.version is None:
                return local_frame(job.spark, [], fields)
            return read(job.spark, uri, known.version)

        where = f"{name}: the certified version {known.version}"
        found = difference_or_none(recovery, name, rows, before, where)
    finally:
        resolved.unpersist()
    return Rebuilt(module, rows, ledger, inputs, gone, known.version, found)


def discarded(bronze: Certification) -> frozenset[str]:
    """Runs of a Bronze table that somebody discarded."""
    return frozenset(
        run_id
        for run_id, verdict in bronze.latest.items()
        if verdict.action == "discard" and run_id not in bronze.run_ids
    )


def short_runs(recovery: Recovery, bronze: Certification) -> frozenset[str]:
    """Certified runs, but for ranges of the stream, of which the table's newest version has other numbers of rows."""
    judged = _judged(recovery, bronze)
    stored = _stored(read(recovery.job.spark, recovery.settings.table_uri(bronze.table)), bronze.runs)
    return frozenset(
        run_id
        for run_id, run in bronze.runs.items()
        if not verdicts.is_streamed(run.state) and stored.get(run_id, 0) != judged.get(run_id)
    )


def _judged(recovery: Recovery, bronze: Certification) -> dict[str, int]:
    """Rows that the last passing verdict of each run counted."""
    judged: dict[str, int] = {}
    for verdict in verdicts.read_all(recovery.settings, bronze.table):
        if verdict.passing and verdict.rows is not None and verdict.table_id == bronze.table_id:
            judged |= {run.run_id: verdict.rows for run in verdict.certified_runs}
    return judged


def _stored(frame: DataFrame, runs: Mapping[str, CertifiedRun]) -> dict[str, int]:
    rows = frame.where(verdicts.rows_of(runs.values())).groupBy("_run_id").count().collect()
    return {row["_run_id"]: row["count"] for row in rows}


def _missing(
    recovery: Recovery,
    bronze: Certification,
    runs: Mapping[str, CertifiedRun],
    frame: DataFrame,
    count: int,
) -> list[str]:
    """Certified runs that hold other numbers of rows than were judged."""
    judged = _judged(recovery, bronze)
    if any(run_id not in judged for run_id in runs) or count == sum(judged[run_id] for run_id in runs):
        return []
    stored = _stored(frame, runs)
    words = [
        f"run {run_id} has {stored.get(run_id, 0)} rows of {judged[run_id]} that were certified"
        for run_id, run in sorted(runs.items())
        if not verdicts.is_streamed(run.state) and stored.get(run_id, 0) != judged[run_id]
    ]
    return [
        f"{bronze.table}: {each}" for each in words or [f"{count} rows, fewer or more than were certified"]
    ]


def _describe(recovery: Recovery, rebuilt: Rebuilt) -> None:
    version = "nothing" if rebuilt.before is None else f"the certified version {rebuilt.before}"
    runs = ", ".join(f"{len(item.run_ids)} runs of {source}" for source, item in rebuilt.inputs.items())
    told = rebuilt.difference or f"{rebuilt.ledger.inserted} rows in place of what cannot be read"
    recovery.say(
        f"{rebuilt.name}: made anew from {runs}; against {version}: {told}",
        *_samples(recovery, rebuilt.difference, "  "),
    )
    for source, gone in rebuilt.gone.items():
        if gone:
            recovery.say(f"  without what was discarded of {source}: {named(gone)}")
    live = head(recovery.job.spark, recovery.settings.table_uri(rebuilt.name))
    if rebuilt.before is not None and live.version != rebuilt.before:
        uri = recovery.settings.table_uri(rebuilt.name)
        what = f"version {live.version}, which is there now and not certified"
        now = difference_or_none(
            recovery, rebuilt.name, rebuilt.rows, lambda: read(recovery.job.spark, uri), what
        )
        if now is not None:
            recovery.say(f"  against {what}: {now}", *_samples(recovery, now, "    "))


def _samples(recovery: Recovery, found: Difference | None, indent: str) -> list[str]:
    return [f"{indent}{sample}" for sample in found.samples] if found and recovery.names_rows else []


def _is_needed(recovery: Recovery, rebuilt: Rebuilt) -> bool:
    live = head(recovery.job.spark, recovery.settings.table_uri(rebuilt.name))
    is_same = rebuilt.difference is not None and rebuilt.difference.is_none
    return live.version != rebuilt.before or any(rebuilt.gone.values()) or not is_same


def _write(recovery: Recovery, rebuilt: Rebuilt) -> None:
    """Take what is gone out of what Silver claims to contain, replace the rows, say what they contain."""
    job, name = recovery.job, rebuilt.name
    found = rebuilt.difference
    recovery.plan(
        Change(
            table=name,
            target="certified Bronze",
            before=rebuilt.before,
        ).by(found)
    )
    uri = job.settings.table_uri(name)
    apply_contracts(job.spark, job.settings, [contracts.load(name)])
    # First: a run that is claimed and not contained would never be merged again; the other way round it is merged
    # twice, which changes nothing.
    _disclaim(recovery, name, rebuilt)
    commit = overwrite(rebuilt.rows, uri, f"{job.run_id}/{JOB}/{name}")
    written = 0 if commit is None else commit.metric("numOutputRows")
    if written != rebuilt.ledger.inserted:
        raise LedgerImbalance(
            f"{name}: wrote {written} rows, expected {rebuilt.ledger.inserted}",
            hint="the head is not certified and will be restored by the next promotion; repeat the recovery",
        )
    live = head(job.spark, uri)
    write_promotion(
        job.settings,
        Promotion(
            table=name,
            run_id=job.run_id,
            table_id=live.table_id,
            version=live.version,
            inputs=rebuilt.inputs,
            rebuilt_rows=rebuilt.ledger.inserted,
        ),
    )
    job.outcome.tables.append(
        TableOutcome(
            table=name,
            ledger=LedgerCounts(**asdict(rebuilt.ledger)),
            version=live.version,
            table_id=live.table_id,
        )
    )


def _disclaim(recovery: Recovery, name: str, rebuilt: Rebuilt) -> None:
    runs = sorted({run for gone in rebuilt.gone.values() for run in gone})
    if not runs or rebuilt.before is None or recovery.left(name, "discard") is not None:
        return
    live = head(recovery.job.spark, recovery.settings.table_uri(name))
    verdict = recovery.verdict(contract_of(recovery.settings, name), "discard", live, rebuilt.before)
    recovery.leave(
        verdict.model_copy(
            update={
                "certified_runs": tuple(CertifiedRun(run_id=run) for run in runs),
                "inputs": {
                    source: VerdictInput(
                        table_id=rebuilt.inputs[source].table_id,
                        version=rebuilt.inputs[source].version,
                        run_ids=tuple(sorted(gone)),
                    )
                    for source, gone in rebuilt.gone.items()
                    if gone
                },
                "rows": gate.certified_rows(recovery.settings, name, live.table_id),
            }
        )
    )


def _is_done(recovery: Recovery, name: str) -> bool:
    """Whether an earlier try has written this table: its promotion is the head."""
    promotion = read_promotion(recovery.settings, name, recovery.job.run_id)
    if promotion is None:
        return False
    live = head(recovery.job.spark, recovery.settings.table_uri(name))
    return (promotion.table_id, promotion.version) == (live.table_id, live.version)


def _judge(recovery: Recovery, name: str) -> None:
    """The Silver gate, once. Raises GateFailed."""
    job = recovery.job
    known = certification(job, name)
    live = head(job.spark, job.settings.table_uri(name))
    if job.run_id not in known.passed or known.version != live.version:
        found = gate.judge(job.spark, job.settings, "silver", job.run_id, [name], datetime.now(UTC))
        for verdict in found:
            uri = verdicts.verdict_uri(job.settings, verdict)
            job.outcome.verdicts.append(VerdictReference(table=name, outcome=verdict.outcome, uri=uri))
        gate.require_passed("silver", found)
    assert recovery.intent is not None
    (change,) = [each for each in recovery.intent.planned if each.table == name]
    recovery.record(change, live.version)
    recovery.say(f"{name}: version {live.version} is certified")
