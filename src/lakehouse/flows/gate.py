"""Gate: judge what is not yet certified, and stop everything after it where a critical rule does not hold.

The story: find what there is to judge (Bronze: this run's rows, as its ingest reported them; Silver: the head, as
this run promoted it), measure it in one pass, let Great Expectations decide, write a verdict for every table, load
them into ops.dq_verdicts, and only then fail, with every broken rule of every table in one message.
"""

from __future__ import annotations

import argparse
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.cli import Job
from lakehouse.contracts import Contract, RowRule, SetRule, quote
from lakehouse.delta.log import log_head
from lakehouse.delta.read import TableHead, read
from lakehouse.errors import GateFailed, UsageError
from lakehouse.flows.known import require_ingested, require_promoted
from lakehouse.flows.promote import Promotion, read_promotion
from lakehouse.landing import Manifest, landing_uri, read_manifest
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Outcome, TableOutcome, VerdictReference
from lakehouse.quality import dlq, gx, metrics, quarantine, rules, verdicts
from lakehouse.quality.metrics import RunFacts
from lakehouse.quality.repeats import is_repeat, with_states
from lakehouse.quality.verdicts import CertifiedRun, RuleResult, Verdict, VerdictInput
from lakehouse.runs import run_time
from lakehouse.settings import Settings

log = logging.getLogger("lakehouse.flows.gate")

GateLayer = Literal["bronze", "silver"]

INGESTED = "ingested"
PROMOTED = "promoted"
LOADED_ALONE = "loaded_alone"
# Clocks of machines differ; a run too many costs a look at its rows.
_CLOCKS = timedelta(minutes=5)
# Tables measured side by side: enough to fill the gaps in which one of them waits for S3.
_SIDE_BY_SIDE = 3
# Verdicts of each table that are looked at for loading: one lost to a crash is loaded by the next gate.
_RECENT = 10
_SAMPLED_RULES = 5
# Rules about what a daily window of a source brings: they say nothing of runs of another kind.
_NOT_OF: dict[str, tuple[str, ...]] = {
    "window": (),
    "replay": ("rejected", "duplicates", "volume", "freshness"),
    "backfill": ("duplicates", "volume", "freshness"),
}


@dataclass(frozen=True)
class Judged:
    """What a gate found about one table, before it becomes a verdict."""

    contract: Contract
    head: TableHead | None
    certified_runs: tuple[CertifiedRun, ...]
    inputs: dict[str, VerdictInput]
    rows: int | None
    results: tuple[RuleResult, ...]


def options(parser: argparse.ArgumentParser) -> None:
    """The gates' own argument."""
    parser.add_argument(
        "--table", action="append", help="a table of the layer, dotted or bare (default: all)"
    )


def check_bronze(job: Job) -> None:
    """The job dq_check_bronze."""
    check(job, "bronze")


def check_silver(job: Job) -> None:
    """The job dq_check_silver."""
    check(job, "silver")


def check(job: Job, layer: GateLayer) -> None:
    """Judge a layer as a job: verdicts go into its outcome even where the gate then fails.

    Raises UnknownRun, before anything is judged, where the run has brought nothing that could be.
    """
    require = require_ingested if layer == "bronze" else require_promoted
    require(job.settings, job.run_id)
    tables: list[str] | None = getattr(job.arguments, "table", None) or None
    found = judge(job.spark, job.settings, layer, job.run_id, tables, datetime.now(UTC))
    for verdict in found:
        job.outcome.verdicts.append(
            VerdictReference(
                table=verdict.table, outcome=verdict.outcome, uri=verdicts.verdict_uri(job.settings, verdict)
            )
        )
        job.outcome.notes.extend(_notes(verdict))
    require_passed(layer, found)


def gate(
    spark: SparkSession,
    settings: Settings,
    layer: GateLayer,
    run_id: str,
    tables: Sequence[str] | None,
    created_at: datetime,
) -> list[Verdict]:
    """Judge and return the verdicts. Raises GateFailed, after all of them are written, where one failed."""
    found = judge(spark, settings, layer, run_id, tables, created_at)
    require_passed(layer, found)
    return found


def judge(
    spark: SparkSession,
    settings: Settings,
    layer: GateLayer,
    run_id: str,
    tables: Sequence[str] | None,
    created_at: datetime,
) -> list[Verdict]:
    """Judge tables of a layer (dotted or bare names; None: all), write their verdicts, load them into ops."""
    names = _names(layer, tables)
    reported = outcomes.read_run(settings, run_id) if layer == "bronze" else []

    def one(name: str) -> Verdict:
        found = (
            _bronze(spark, settings, name, run_id, reported)
            if layer == "bronze"
            else _silver(spark, settings, name, run_id)
        )
        verdict = verdict_of(found, run_id, created_at)
        log.info("%s: %s", name, verdict.outcome)
        return verdict

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        warm = pool.submit(gx.prepare)
        found = list(pool.map(one, names))
        warm.result()
    leave(spark, settings, found)
    return found


def leave(spark: SparkSession, settings: Settings, found: Sequence[Verdict]) -> None:
    """Write verdicts and load them into ops, with those that a crash kept from it."""
    uris = [verdicts.write(settings, verdict) for verdict in found]
    for name in dict.fromkeys(verdict.table for verdict in found):
        uris.extend(verdicts.uris(settings, name)[-_RECENT:])
    verdicts.load_into_ops(spark, settings, sorted(set(uris)))


def require_passed(layer: str, found: Sequence[Verdict]) -> None:
    """Raise GateFailed, naming every broken critical rule, unless all verdicts pass."""
    failed = [verdict for verdict in found if not verdict.passing]
    if not failed:
        return
    lines = [f"the {layer} gate refused {len(failed)} of {len(found)} tables; nothing after it may run"]
    hints: dict[str, None] = {}
    for verdict in failed:
        for rule in verdict.failures:
            lines.extend(describe(verdict.table, rule))
            hints[rule.hint] = None
    raise GateFailed("\n".join(lines), hint="; ".join(hint for hint in hints if hint))


def describe(table: str, rule: RuleResult) -> list[str]:
    """A broken rule in words, with its sample rows."""
    words = [f"  - {table}: {rule.name}: observed {rule.observed}, expected {rule.expected}. {rule.message}"]
    words.extend(
        "      " + ", ".join(f"{name}={value}" for name, value in sample.items()) for sample in rule.sample
    )
    return words


def facts_of(table: TableOutcome) -> RunFacts:
    """What an ingest reported of a table, as the rules need it."""
    ledger = table.ledger or outcomes.LedgerCounts(read=0)
    return RunFacts(
        read=ledger.read,
        inserted=ledger.inserted,
        quarantined=ledger.quarantined,
        duplicates=ledger.duplicates,
        rules=table.rules,
    )


def _bronze(
    spark: SparkSession, settings: Settings, name: str, run_id: str, reported: Iterable[Outcome]
) -> Judged:
    """One run's rows of a Bronze table."""
    contract = contracts.load(name).with_overrides(settings.dq_thresholds)
    live = _head(spark, settings, name)
    table = name.split(".")[1]
    # A Bronze table starts with the name of its source.
    source = table.split("_")[0]
    manifest = read_manifest(settings, source, table, run_id)
    kind = manifest.kind if manifest else "window"
    contract = replace(
        contract, set_rules=tuple(rule for rule in contract.set_rules if rule.kind not in _NOT_OF[kind])
    )
    run = CertifiedRun(
        run_id=run_id,
        window_from=manifest.window_from if manifest else None,
        window_to=manifest.window_to if manifest else None,
        state=manifest.state if manifest else {},
    )
    judged = Judged(contract, live, (run,), {}, None, ())
    report, missing = _report(name, reported, live, manifest)
    if missing or report is None or manifest is None or live is None:
        hint = f"run the ingest job of {source} for this run ({run_id}), then this gate again"
        return replace(judged, results=(_refusal(INGESTED, missing, "a succeeded ingest of this run", hint),))

    stored = read(spark, settings.table_uri(name), live.version)
    frame = stored.where(verdicts.rows_of([run]))
    is_streamed = verdicts.is_streamed(manifest.state)
    if not is_streamed:
        frame = frame.where(F.col("ingest_date") == manifest.landed_at.date())
    counts = metrics.measure(frame, contract, _reference(spark, settings))
    facts = facts_of(report)
    # Of a stream every record is stored.
    batch = _as_stored(frame) if is_streamed else _landed(spark, settings, contract, manifest)
    repeated = {
        rule.name: metrics.surplus(batch(), rule.columns)
        for rule in contract.set_rules
        if rule.kind == "duplicates"
        and metrics.repeated_bound(rule, facts, counts) > (rule.max_share or 0.0) * facts.read
    }
    measures = metrics.bronze(contract, replace(facts, repeated=repeated), counts, run_time(run_id))
    results = gx.decide(contract, measures)
    held = () if is_streamed else _held_by_others(settings, contract, live, stored, frame, run, reported)

    def sample(rule: RuleResult) -> tuple[dict[str, str], ...]:
        known = {each.name: each for each in contract.rules}.get(rule.name)
        if isinstance(known, SetRule) and known.kind == "duplicates":
            return _repeats(batch(), contract, known)
        found: tuple[dict[str, str], ...] = ()
        if isinstance(known, RowRule) or (known is not None and known.kind == "rejected"):
            which = rule.name if isinstance(known, RowRule) else None
            found = (
                dlq.samples(read(spark, settings.table_uri(dlq.TABLE)).where(verdicts.rows_of([run])), which)
                if is_streamed
                else quarantine.samples(spark, settings, name, run_id, which)
            )
        return found or _stored_sample(frame, contract, rule.name)

    hint = (
        f"the stream keeps writing; refused events are in {dlq.TABLE}; correct the source and start a new run, "
        "which judges the same events again together with those that came since"
        if is_streamed
        else "its rows are still fixed (or open) in quarantine: correct the fix, then replay them again"
        if kind == "replay"
        else "correct the source, then start the backfill again"
        if kind == "backfill"
        else f"the rows are in landing ({landing_uri(settings, source, table, run_id)}) and, where refused, in "
        "ops.quarantine; correct the source and start a new run, which extracts the same window again"
    )
    return replace(judged, rows=counts.rows, results=(*_with_samples(results, sample, hint), *held))


def _held_by_others(
    settings: Settings,
    contract: Contract,
    live: TableHead,
    stored: DataFrame,
    own: DataFrame,
    run: CertifiedRun,
    reported: Iterable[Outcome],
) -> tuple[RuleResult, ...]:
    """A refusal where runs certified since this one began to load (backfills, replays) hold rows of it as well."""
    began = min(
        (
            outcome.started_at
            for outcome in reported
            if any(table.table == contract.name for table in outcome.tables)
        ),
        default=None,
    )
    known = verdicts.read_all(settings, contract.name)
    judged_since = {
        each.run_id
        for verdict in known
        if began is not None and verdict.created_at > began - _CLOCKS
        for each in verdict.certified_runs
    } - {run.run_id}
    if not judged_since:
        return ()
    certified = verdicts.certification(contract.name, known, live.table_id).runs
    later = {run_id: certified[run_id] for run_id in judged_since & certified.keys()}
    if not later:
        return ()
    identity = [*contract.key, "_payload_hash"]
    others = stored.where(verdicts.rows_of(later.values())).select(
        *identity, F.col("_run_id").alias("_held_by")
    )
    held = stored.where(verdicts.rows_of(each for each in certified.values() if each.run_id != run.run_id))
    # A state that came back is one that others hold, too, and no repeat of it.
    repeats = with_states(own, F.lit(True), contract.state, held).where(is_repeat())
    doubled = {
        row["_held_by"]: row["count"]
        for row in repeats.join(others, on=identity).groupBy("_held_by").count().collect()
    }
    if not doubled:
        return ()
    hint = f"repeat the ingest of this run ({run.run_id}): it reads no source and finds the rows that are held already"
    observed = ", ".join(
        f"{count} rows that run {run_id} holds too" for run_id, count in sorted(doubled.items())
    )
    return (_refusal(LOADED_ALONE, observed, "no row that a run certified meanwhile holds", hint),)


def _silver(spark: SparkSession, settings: Settings, name: str, run_id: str) -> Judged:
    """A whole Silver table, as this run promoted it."""
    contract = contracts.load(name).with_overrides(settings.dq_thresholds)
    live = _head(spark, settings, name)
    promotion = read_promotion(settings, name, run_id)
    missing = _unpromoted(live, promotion)
    if missing or promotion is None or live is None:
        hint = f"run bronze_to_silver for this run ({run_id}), then this gate again"
        return Judged(
            contract, live, (), {}, None, (_refusal(PROMOTED, missing, "what this run promoted", hint),)
        )
    contained = sorted({run for source in promotion.inputs.values() for run in source.run_ids})
    inputs = {
        source: VerdictInput(table_id=item.table_id, version=item.version, run_ids=item.run_ids)
        for source, item in promotion.inputs.items()
    }
    rows, results = judge_head(
        spark, settings, contract, live, run_time(run_id), rebuilt_rows=promotion.rebuilt_rows
    )
    return Judged(
        contract,
        live,
        tuple(CertifiedRun(run_id=run) for run in contained),
        inputs,
        rows,
        results,
    )


def judge_head(
    spark: SparkSession,
    settings: Settings,
    contract: Contract,
    live: TableHead,
    at: datetime,
    *,
    rebuilt_rows: int | None = None,
) -> tuple[int, tuple[RuleResult, ...]]:
    """The rows of a whole table as it is, and how each rule finds them at a time.

    A table may not have fewer rows than were certified; one that was made anew not fewer than ``rebuilt_rows``.
    """
    name = contract.name
    frame = read(spark, settings.table_uri(name), live.version)
    reference = _reference(spark, settings)
    counts = metrics.measure(frame, contract, reference)
    at_least = certified_rows(settings, name, live.table_id) if rebuilt_rows is None else rebuilt_rows
    measures = metrics.silver(contract, counts, at, at_least)

    def sample(rule: RuleResult) -> tuple[dict[str, str], ...]:
        return _stored_sample(frame, contract, rule.name, reference)

    hint = (
        "readers keep the certified version, and the next bronze_to_silver restores it; correct the source, or "
        "discard the Bronze run that brought the rows, and start a new run"
    )
    return counts.rows, _with_samples(gx.decide(contract, measures), sample, hint)


def preview(
    spark: SparkSession, settings: Settings, layer: GateLayer, name: str, run_id: str
) -> tuple[RuleResult, ...]:
    """What the gate would find about a table in a run. Nothing is written."""
    return examine(spark, settings, layer, name, run_id).results


def examine(spark: SparkSession, settings: Settings, layer: GateLayer, name: str, run_id: str) -> Judged:
    """What the gate would find about a table in a run, with all that its verdict would say. Nothing is written."""
    if layer == "silver":
        return _silver(spark, settings, name, run_id)
    return _bronze(spark, settings, name, run_id, outcomes.read_run(settings, run_id))


def certified_rows(settings: Settings, name: str, table_id: str) -> int | None:
    """Rows of the last certified version of a table, where a verdict tells."""
    for verdict in reversed(verdicts.read_all(settings, name)):
        if verdict.passing and verdict.table_id == table_id:
            return verdict.rows
    return None


def verdict_of(found: Judged, run_id: str, created_at: datetime) -> Verdict:
    """The verdict that says what was found."""
    contract = found.contract
    return Verdict(
        verdict_id=uuid.uuid4().hex,
        table=contract.name,
        layer="bronze" if contract.layer == "bronze" else "silver",
        run_id=run_id,
        table_id=found.head.table_id if found.head else None,
        version=found.head.version if found.head else None,
        outcome=verdicts.outcome_of(found.results),
        certified_runs=found.certified_runs,
        inputs=found.inputs,
        contract_version=contract.version,
        contract_hash=contract.content_hash,
        rules_hash=contract.rules_hash,
        rows=found.rows,
        rules=found.results,
        created_at=created_at,
    )


def _names(layer: str, tables: Sequence[str] | None) -> tuple[str, ...]:
    known = contracts.names("bronze" if layer == "bronze" else "silver")
    if tables is None:
        return known
    wanted = [table if "." in table else f"{layer}.{table}" for table in tables]
    for name in wanted:
        if name not in known:
            raise UsageError(f"received the table {name}, expected one of {', '.join(known)}")
    return tuple(dict.fromkeys(wanted))


def _head(spark: SparkSession, settings: Settings, name: str) -> TableHead | None:
    found = log_head(spark, settings.table_uri(name))
    return None if found is None else TableHead(found.table_id, found.version)


def _reference(spark: SparkSession, settings: Settings) -> Callable[[str], DataFrame]:
    return lambda name: read(spark, settings.table_uri(name))


def _report(
    name: str, reported: Iterable[Outcome], live: TableHead | None, manifest: Manifest | None
) -> tuple[TableOutcome | None, str]:
    """What the ingest reported of a table; else why that cannot be judged."""
    if live is None:
        return None, "no such table"
    for outcome in reported:
        for table in outcome.tables:
            if table.table == name and outcome.job.endswith("_to_bronze"):
                if outcome.status != "succeeded":
                    problem = outcome.error.code if outcome.error else outcome.status
                    return None, f"the ingest {outcome.job} {outcome.status} ({problem})"
                if table.table_id != live.table_id:
                    return None, "a table that was made anew after the ingest"
                return table, "" if manifest is not None else "no landing manifest of this run"
    return None, "no outcome of an ingest of this run"


def _unpromoted(live: TableHead | None, promotion: Promotion | None) -> str:
    """Why a Silver table is not what the run promoted, or nothing."""
    if live is None:
        return "no such table"
    if promotion is None:
        return "no promotion by this run"
    if promotion.table_id != live.table_id:
        return "a table that was made anew after the promotion"
    if promotion.version != live.version:
        return f"version {live.version}, while this run promoted version {promotion.version}"
    return ""


def _refusal(rule: str, observed: str, expected: str, hint: str) -> RuleResult:
    return RuleResult(
        name=rule,
        severity="critical",
        passed=False,
        observed=observed,
        expected=expected,
        message="Only what a run is known to have written can be judged",
        hint=hint,
    )


def _with_samples(
    results: tuple[RuleResult, ...], sample: Callable[[RuleResult], tuple[dict[str, str], ...]], hint: str
) -> tuple[RuleResult, ...]:
    """The results, critical failures with sample rows and the next step."""
    failures = [rule.name for rule in results if not rule.passed and rule.severity == "critical"]
    shown = set(failures[:_SAMPLED_RULES])
    return tuple(
        rule.model_copy(update={"hint": hint, "sample": sample(rule) if rule.name in shown else ()})
        if rule.name in failures
        else rule
        for rule in results
    )


def _stored_sample(
    frame: DataFrame,
    contract: Contract,
    name: str,
    reference: Callable[[str], DataFrame] | None = None,
) -> tuple[dict[str, str], ...]:
    """Stored rows that break a rule, masked; none for rules about numbers of rows."""
    if name == metrics.ROWS_REVERIFIED:
        broken = F.lit(False)
        for rule in contract.row_rules:
            if rule.on_failure == "quarantine" and not rule.judges_raw_value:
                broken = broken | F.expr(rule.violation)
        return rules.samples(frame, contract, broken)
    found = {rule.name: rule for rule in contract.rules}.get(name)
    if isinstance(found, RowRule) and not found.judges_raw_value:
        return rules.samples(frame, contract, F.expr(found.violation))
    if isinstance(found, SetRule) and found.kind == "unique":
        return _repeats(frame, contract, found)
    if isinstance(found, SetRule) and found.kind == "referential" and reference is not None:
        return rules.samples(metrics.orphans(frame, found, reference), contract, F.lit(True))
    return ()


def _repeats(frame: DataFrame, contract: Contract, rule: SetRule) -> tuple[dict[str, str], ...]:
    groups = metrics.repeated(frame, rule.columns).orderBy(F.desc("rows"), *map(quote, rule.columns)).limit(3)
    shown = [
        rules.show(rules.as_text(column), column.is_personal).alias(column.name)
        for column in map(contract.column, rule.columns)
    ]
    found = groups.select(*shown, F.col("rows").cast("string").alias("rows")).collect()
    return tuple({str(name): str(value) for name, value in row.asDict().items()} for row in found)


def _landed(
    spark: SparkSession, settings: Settings, contract: Contract, manifest: Manifest
) -> Callable[[], DataFrame]:
    """The good rows of a batch as it landed: Bronze keeps only one of those with the same key and payload."""

    def load() -> DataFrame:
        from lakehouse.flows.landed import read_landed

        split = rules.split(read_landed(spark, settings, manifest), contract)
        return split.where(F.size(rules.BROKEN) == 0)

    return load


def _as_stored(frame: DataFrame) -> Callable[[], DataFrame]:
    return lambda: frame


def _notes(verdict: Verdict) -> list[str]:
    """Warnings, for the outcome."""
    return [
        f"{verdict.table}: {rule.name}: observed {rule.observed}, expected {rule.expected}"
        for rule in verdict.rules
        if not rule.passed and rule.severity == "warning"
    ]
