"""Recertify and discard: what a person decides about a run that a gate judged, by a verdict and never by hand.

A refused run that is recertified counts like any other: the next promotion takes it in. A run that is discarded
counts no longer: its rows stay in Bronze, unread, and the next run of its source extracts its window again. This is
how a watermark is set back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from lakehouse import contracts
from lakehouse.delta.read import head, read
from lakehouse.errors import GateFailed, RecoveryRefused, UnknownRun, UsageError
from lakehouse.flows import gate
from lakehouse.flows.ingest import certification
from lakehouse.flows.known import require_promoted
from lakehouse.flows.promote import TABLES
from lakehouse.flows.recovery import bound, silver
from lakehouse.flows.recovery.base import (
    Change,
    Recovery,
    contract_of,
    named,
    refuse,
    require_table,
)
from lakehouse.landing import Manifest, read_manifest
from lakehouse.observe import outcome as outcomes
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import Certification, CertifiedRun, RuleResult, outcome_of
from lakehouse.runs import counted
from lakehouse.sources.watermark import overlap
from lakehouse.submit import RECOVER

# No person can say what a run wrote or promoted where nothing tells that it did, nor that rows are there once.
_STRUCTURAL = (gate.INGESTED, gate.PROMOTED, gate.LOADED_ALONE)


def recertify(recovery: Recovery) -> None:
    """The action recertify: judge a refused run again; a person takes it as it is where only accepted rules break."""
    job, request = recovery.job, recovery.request
    name = require_table(
        request.table, contracts.names("bronze") + contracts.names("silver"), "these have gates"
    )
    run_id = _one_run(recovery)
    layer: gate.GateLayer = "bronze" if name.startswith("bronze.") else "silver"
    known = certification(job, name)
    if recovery.applies and (mine := recovery.left(name, "recertify")) is not None:
        recovery.record(_planned(recovery, name), mine.version)
        return
    if run_id in known.passed:
        recovery.say(f"{name}: run {run_id} is certified already; there is nothing to do.")
        return
    if layer == "bronze":
        _known_run(recovery, known, run_id)
    elif run_id not in known.latest:
        require_promoted(job.settings, run_id)
    found = gate.examine(job.spark, job.settings, layer, name, run_id)
    broken = [rule for rule in found.results if not rule.passed and rule.severity == "critical"]
    _require_acceptable(name, broken, request.accept)
    accepted = tuple(rule.name for rule in broken)
    recovery.say(
        f"{name}: run {run_id}, {found.rows} rows: "
        + (
            f"taken in although these do not hold: {', '.join(accepted)}"
            if accepted
            else "every critical rule holds now"
        )
    )
    for rule in broken:
        recovery.say(*gate.describe(name, rule))
    if not recovery.applies:
        return
    recovery.plan(
        Change(
            table=name,
            target=f"run {run_id}",
            before=known.version,
            added=found.rows if layer == "bronze" else None,
        )
    )
    base = gate.verdict_of(found, run_id, datetime.now(UTC))
    eased = [rule.model_copy(update={"severity": "warning"}) for rule in broken]
    rest = [rule for rule in found.results if rule not in broken]
    verdict = recovery.leave(
        base.model_copy(
            update={
                "verdict_id": recovery.verdict_id(name, "recertify"),
                "action": "recertify",
                "outcome": outcome_of([*rest, *eased]),
                "by": request.by,
                "why": request.why,
                "accepted": accepted,
            }
        )
    )
    recovery.record(_planned(recovery, name), verdict.version)
    after = "bronze_to_silver" if layer == "bronze" else "silver_to_gold"
    recovery.say(
        f"{name}: run {run_id} is certified ({verdict.outcome}). The next {after} takes it in; to go on with "
        f"the run itself: {RECOVER} rerun --job {after} --run {run_id}"
    )


def discard(recovery: Recovery) -> None:
    """The action discard: Bronze runs count no longer; with dependents, Silver is made anew without them."""
    job, request = recovery.job, recovery.request
    name = require_table(
        request.table, contracts.names("bronze"), "Silver is put right by restore-silver or rollback"
    )
    if not request.runs:
        raise UsageError("received no --run, expected the run ids to discard")
    known, runs = certification(job, name), set(request.runs)
    if not (recovery.applies and recovery.left(name, "discard") is not None):
        manifests = {run_id: _known_run(recovery, known, run_id) for run_id in runs}
        _require_discardable(recovery, known, manifests)
        _describe(recovery, known, runs, manifests)
        if recovery.applies:
            _discard(recovery, known, runs)
    else:
        recovery.record(_planned(recovery, name), certification(job, name).version)
    # Those of the plan, too: an earlier try may have taken the runs out of what they claim to contain.
    modules = silver.dependents(recovery, name, runs)
    if recovery.applies:
        assert recovery.intent is not None
        planned = {change.table for change in recovery.intent.planned}
        modules = [module for module in TABLES if module in modules or module.TABLE in planned]
    if not modules:
        return
    tables = named(module.TABLE for module in modules)
    if not request.with_dependents:
        raise RecoveryRefused(
            f"{tables} contains rows of {named(runs)}; nothing was written",
            hint="add --with-dependents: Silver is then made anew without them",
        )
    silver.restore(recovery, modules, without={name: runs})
    if recovery.applies:
        recovery.say(f"Gold shows rows of {tables} as they were until the next silver_to_gold.")


def _discard(recovery: Recovery, known: Certification, runs: set[str]) -> None:
    job, name = recovery.job, known.table
    live = _live(recovery, name)
    modules = silver.dependents(recovery, name, runs)
    if modules and not recovery.request.with_dependents:
        return  # refused by the caller
    removed = _rows(recovery, known.table, [run for run_id, run in known.runs.items() if run_id in runs])
    change = recovery.plan(
        Change(table=name, target=f"run {named(runs)}", before=known.version, removed=removed)
    )
    version = live.version if known.version is None else known.version
    verdict = recovery.verdict(contract_of(job.settings, name), "discard", live, version)
    found = tuple(CertifiedRun(run_id=run_id) for run_id in sorted(runs))
    recovery.leave(verdict.model_copy(update={"certified_runs": found}))
    recovery.record(change, version)
    recovery.say(f"{name}: {counted(len(runs))} discarded")


def _one_run(recovery: Recovery) -> str:
    runs = recovery.request.runs
    if len(runs) != 1:
        raise UsageError(f"received {len(runs)} runs, expected one --run")
    return runs[0]


def _require_acceptable(name: str, broken: Iterable[RuleResult], accepted: Iterable[str]) -> None:
    """Raise unless every broken rule is accepted, and may be."""
    names = {rule.name: rule for rule in broken}
    unknown = set(accepted) - set(names)
    if unknown:
        raise UsageError(
            f"received --accept {named(unknown)}, expected critical rules that do not hold: {named(names) or 'none'}"
        )
    structural = [rule for rule in names.values() if rule.name in _STRUCTURAL]
    if structural:
        rule = structural[0]
        raise RecoveryRefused(
            f"{name}: {rule.name}: observed {rule.observed}, expected {rule.expected}: nobody can accept what "
            "is not known to be there",
            hint=rule.hint,
        )
    left = [rule for rule in names.values() if rule.name not in set(accepted)]
    if left:
        lines = [f"{name}: these rules do not hold; nothing was written"]
        lines += [line for rule in left for line in gate.describe(name, rule)]
        arguments = " ".join(f"--accept {rule.name}" for rule in left)
        raise GateFailed(
            "\n".join(lines), hint=f"correct the source; or, to take the run as it is, add {arguments}"
        )


def _known_run(recovery: Recovery, known: Certification, run_id: str) -> Manifest | None:
    """The landing of a run that the table knows. Raises UnknownRun for any other."""
    manifest = _landing(recovery, known.table, run_id)
    if manifest is None and run_id not in known.latest:
        judged = [each for each in known.latest if each not in known.run_ids]
        raise UnknownRun(
            f"received --run {run_id}, which {known.table} does not know; nothing was written",
            hint=f"copy it from `{RECOVER} status`; refused or discarded: {named(judged) or 'none'}; "
            f"certified: {named(sorted(known.run_ids, reverse=True))}",
        )
    return manifest


def _require_discardable(
    recovery: Recovery, known: Certification, manifests: Mapping[str, Manifest | None]
) -> None:
    """Raise RecoveryRefused where rows would not come again, with the command by which they do."""
    facts = _facts(recovery, known)
    judged_at = {run_id: verdict.created_at for run_id, verdict in known.latest.items()}
    next_overlap = overlap(recovery.settings, _source(known.table))
    more = bound.bound(known.runs, judged_at, facts, manifests, next_overlap)
    problems = [
        f"{known.table}: run {run_id} is a replay of refused rows: no source gives them once more"
        for run_id in (*manifests, *more)
        if run_id in known.run_ids and facts(run_id).kind == "replay"
    ]
    refuse(problems, "correct the rows at their source, and backfill their days")
    if not more:
        return
    together = [*manifests, *more]
    is_merged = recovery.request.with_dependents or silver.dependents(recovery, known.table, set(together))
    flag = " --with-dependents" if is_merged else ""
    named_runs = " ".join(f"--run {run_id}" for run_id in together)
    refuse(
        [f"{known.table}: run {run_id} {reason}: it has to go with it" for run_id, reason in more.items()],
        "discard them together; the next run reads all of it again: "
        f"{RECOVER} discard --table {known.table} {named_runs}{flag}",
    )


def _facts(recovery: Recovery, known: Certification) -> Callable[[str], bound.Facts]:
    """What verdicts, landing and outcomes tell of the certified runs of a table."""
    found = verdicts.read_all(recovery.settings, known.table)
    counting = [each for each in found if each.table_id == known.table_id]
    rows = {
        run.run_id: verdict.rows for verdict in counting if verdict.passing for run in verdict.certified_runs
    }

    @cache
    def facts(run_id: str) -> bound.Facts:
        manifest = _landing(recovery, known.table, run_id)
        ledgers = [
            table.ledger
            for outcome in outcomes.read_run(recovery.settings, run_id)
            for table in outcome.tables
            if table.table == known.table and outcome.job.endswith("_to_bronze")
        ]
        return bound.Facts(
            kind="window" if manifest is None else manifest.kind,
            rows=rows.get(run_id),
            repeats=ledgers[-1].duplicates if ledgers and ledgers[-1] is not None else None,
            certified_at=verdicts.certified_since(counting, run_id) or known.latest[run_id].created_at,
        )

    return facts


def _describe(
    recovery: Recovery, known: Certification, runs: set[str], manifests: Mapping[str, Manifest | None]
) -> None:
    for run_id in sorted(runs):
        manifest = manifests[run_id]
        state = (
            "certified" if run_id in known.run_ids else "refused" if run_id in known.latest else "not judged"
        )
        landed = "no landing" if manifest is None else f"{manifest.words} landed"
        recovery.say(f"{known.table}: run {run_id} ({state}, {landed}) is not read any more")
    live = _live(recovery, known.table)
    found = verdicts.read_all(recovery.settings, known.table)
    imagined = recovery.verdict(
        contract_of(recovery.settings, known.table), "discard", live, live.version
    ).model_copy(update={"certified_runs": tuple(CertifiedRun(run_id=run) for run in runs)})
    after = verdicts.certification(known.table, [*found, imagined], live.table_id)
    if after.watermark != known.watermark:
        start = "its beginning" if after.watermark is None else f"{after.watermark:%Y-%m-%d %H:%M:%S} UTC"
        recovery.say(f"  the next run extracts again from {start} (less the source's overlap)")
    elif any(run_id in known.run_ids and known.runs[run_id].state for run_id in runs):
        recovery.say("  the next run takes its files or offsets again")
    else:
        recovery.say("  the watermark stays: it never counted for it")
    for manifest in manifests.values():
        if manifest is not None and manifest.kind == "backfill" and manifest.run_id in known.run_ids:
            recovery.say(
                f"  no daily run reads all of run {manifest.run_id} again ({'; '.join(manifest.notes)}): once it is "
                "discarded, repeat that"
            )


def _landing(recovery: Recovery, table: str, run_id: str) -> Manifest | None:
    return read_manifest(recovery.settings, _source(table), table.split(".")[1], run_id)


def _source(table: str) -> str:
    """A Bronze table starts with the name of its source."""
    return table.split(".")[1].split("_")[0]


def _rows(recovery: Recovery, table: str, runs: Iterable[CertifiedRun]) -> int:
    frame = read(recovery.job.spark, recovery.settings.table_uri(table))
    return frame.where(verdicts.rows_of(runs)).count()


def _planned(recovery: Recovery, table: str) -> Change:
    assert recovery.intent is not None
    (change,) = [each for each in recovery.intent.planned if each.table == table]
    return change


def _live(recovery: Recovery, table: str) -> Any:
    return head(recovery.job.spark, recovery.settings.table_uri(table))
