"""Verdicts: what a gate said about a table, kept as JSON, and what a table's verdicts together certify.

A verdict is an object at ``gold/quality/<layer>.<table>/<time>-<id>.json``, created once and never changed.
``certification`` folds a table's verdicts, in the order of their time, into the one answer that everything
downstream asks for: which version may be read, which runs in it count, and from where the next run goes on.
Nothing else (commit metadata, table history) is consulted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from lakehouse import store
from lakehouse.errors import NotCertified, TransientError
from lakehouse.session import local_frame
from lakehouse.settings import Settings
from lakehouse.submit import RUN_GE_CHECKS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Outcome = Literal["passed", "warned", "failed"]
Action = Literal["judge", "recertify", "discard", "optimize", "erase"]
Severity = Literal["critical", "warning"]


class _Frozen(BaseModel):
    # Verdicts are history: a release must be able to read what a newer one wrote.
    model_config = ConfigDict(frozen=True, extra="ignore")


class CertifiedRun(_Frozen):
    """A run that a verdict speaks of; its window and ``state`` come from its landing manifest."""

    run_id: str
    window_from: AwareDatetime | None = None
    window_to: AwareDatetime | None = None
    state: dict[str, Any] = Field(default_factory=dict)


class VerdictInput(_Frozen):
    """One Bronze table as a Silver version contains it."""

    table_id: str
    version: int
    run_ids: tuple[str, ...]


class RuleResult(_Frozen):
    """One rule's answer. ``sample`` holds failing rows as text, personal columns masked."""

    name: str
    severity: Severity
    passed: bool
    observed: str
    expected: str
    message: str = ""
    sample: tuple[dict[str, str], ...] = ()
    hint: str = ""


class Verdict(_Frozen):
    """What a gate, or a person through a recovery command, said about one version of one table.

    ``run_id`` is the run that judged. ``certified_runs`` are the runs spoken of: Bronze, the run judged; Silver, the
    Bronze runs now contained. ``table_id`` and ``version`` are None only where there was no table to judge; ``rows``
    are those that were judged, None where none were counted.

    ``action``: *judge* is the gate; *recertify* is a person who takes a refused run in after all; *discard* takes
    ``certified_runs`` (and, in Silver, the ``inputs`` named) out again. Whatever the action, a passing verdict
    certifies its version. Of what a person did, ``by`` and ``why`` say so, and ``accepted`` names the critical rules
    that do not hold and were taken as they are.

    *optimize* is housekeeping, which made ``version`` of the certified version ``optimized_from`` by rewriting files:
    the same rows in other files. It judges nothing and repeats what was said of the version before. Gold, which has no
    gate, has verdicts of this kind alone.

    *erase* says that ``version`` is what was certified less a person's data, and what of each of ``certified_runs``
    is left (``rows``).
    """

    verdict_id: str
    table: str
    layer: Literal["bronze", "silver", "gold"]
    run_id: str
    table_id: str | None
    version: int | None
    outcome: Outcome
    action: Action = "judge"
    optimized_from: int | None = None
    certified_runs: tuple[CertifiedRun, ...] = ()
    inputs: dict[str, VerdictInput] = Field(default_factory=dict)
    contract_version: str
    contract_hash: str
    rules_hash: str
    rows: int | None = None
    rules: tuple[RuleResult, ...]
    created_at: AwareDatetime
    by: str = ""
    why: str = ""
    accepted: tuple[str, ...] = ()

    @property
    def passing(self) -> bool:
        return self.outcome != "failed"

    @property
    def judges(self) -> bool:
        """Whether somebody judged: housekeeping and an erasure only repeat what was said, which is no news of a run."""
        return self.action not in ("optimize", "erase")

    @property
    def failures(self) -> tuple[RuleResult, ...]:
        """Critical rules that did not hold."""
        return tuple(rule for rule in self.rules if not rule.passed and rule.severity == "critical")


def outcome_of(rules: Iterable[RuleResult]) -> Outcome:
    """Failed where a critical rule does not hold, warned where only warnings do not."""
    broken = {rule.severity for rule in rules if not rule.passed}
    return "failed" if "critical" in broken else "warned" if broken else "passed"


def verdicts_uri(settings: Settings, table: str) -> str:
    """Folder of a table's verdicts."""
    return f"{settings.lake_uri}/gold/quality/{table}"


def verdict_uri(settings: Settings, verdict: Verdict) -> str:
    """Location of one verdict: a function of its content, so that it can be found again."""
    stamp = verdict.created_at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"{verdicts_uri(settings, verdict.table)}/{stamp}-{verdict.verdict_id[:8]}.json"


def write(settings: Settings, verdict: Verdict) -> str:
    """Create the verdict's object and return its URI. Raises TransientError where its name is taken."""
    uri = verdict_uri(settings, verdict)
    if not store.put_if_absent(uri, verdict.model_dump_json(indent=1).encode()):
        raise TransientError(
            f"{verdict.table}: received another verdict at {uri}, expected that name to be free",
            hint="judge again; nothing was written",
        )
    return uri


def read(settings: Settings, locations: Sequence[str]) -> list[Verdict]:
    """Verdicts by their locations, ordered by time."""
    return _ordered(store.parsed_each(Verdict, list(locations)))


def uris(settings: Settings, table: str) -> list[str]:
    """Locations of a table's verdicts, ordered by time."""
    return [uri for uri in store.keys(f"{verdicts_uri(settings, table)}/") if uri.endswith(".json")]


def read_all(settings: Settings, table: str) -> list[Verdict]:
    """Every verdict of a table, ordered by time."""
    return read(settings, uris(settings, table))


class Certification(_Frozen):
    """What the verdicts of one table certify. ``version`` is None where nothing is.

    ``run_ids``: runs whose rows count. ``passed``: runs that left a passing verdict (in Silver these are promoting
    runs, while ``run_ids`` are the Bronze runs contained). ``watermark``: the time up to which the windows of
    ``run_ids`` leave no gap, so that the window of a run that was discarded is extracted again. ``states``: their
    non-empty states in the order in which they were first certified. ``merged``: Silver only, Bronze table to the
    Bronze runs contained. ``runs``: ``run_ids`` with what their manifests said, see ``rows_of``.
    """

    table: str
    table_id: str | None
    version: int | None
    run_ids: frozenset[str]
    passed: frozenset[str]
    watermark: datetime | None
    states: tuple[dict[str, Any], ...]
    merged: dict[str, frozenset[str]]
    runs: dict[str, CertifiedRun]
    latest: dict[str, Verdict]

    def require(self, run_id: str) -> None:
        """Raise NotCertified unless a passing verdict of this run counts."""
        if run_id in self.passed:
            return
        raise NotCertified(
            f"{self.table}: run {run_id} is not certified: {self._found(run_id)}", hint=self._hint(run_id)
        )

    def _found(self, run_id: str) -> str:
        verdict = self.latest.get(run_id)
        if verdict is None:
            return "received no verdict of this run, expected a passing one"
        when = f"at {verdict.created_at:%Y-%m-%d %H:%M:%S} UTC"
        if verdict.action == "discard":
            return f"it was discarded {when}"
        if not verdict.passing:
            broken = ", ".join(f"{rule.name} (observed {rule.observed})" for rule in verdict.failures)
            return f"received a failed verdict {when}: {broken}"
        return f"its verdict {when} speaks of a table that has been recreated since (id {verdict.table_id})"

    def _hint(self, run_id: str) -> str:
        layer, name = self.table.split(".")
        if run_id not in self.latest:
            return f"run dq_check_{layer} --run-id {run_id} first"
        return (
            f"see `{RUN_GE_CHECKS} --layer {layer} --table {name} --run-id {run_id}`, then correct the "
            "source and start a new run, which extracts the same window again"
        )


# Rows that the streaming job wrote. They carry its run id, not that of the daily run that certifies them.
STREAM_SOURCE = "kafka_stream"


def is_streamed(state: Mapping[str, Any]) -> bool:
    """Whether the state of a run's manifest names a range of the stream's rows in place of rows of its own."""
    return state.get("mode") == "stream"


def rows_of(runs: Iterable[CertifiedRun]) -> str:
    """The rows of certified runs in their Bronze table, as a Spark SQL predicate; FALSE for no run.

    A run's rows carry its id. Where the stream wrote them, the run's manifest names topic and offsets (``from``
    included, ``until`` not) instead; adjacent ranges are joined.
    """
    own: set[str] = set()
    ranges: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for run in runs:
        if not is_streamed(run.state):
            own.add(run.run_id)
            continue
        for partition, until in run.state["until"].items():
            start = int(run.state["from"][partition])
            if start < int(until):
                where = (str(run.state["topic"]), int(partition))
                ranges.setdefault(where, []).append((start, int(until)))
    parts = [f"_run_id IN ({', '.join(map(_literal, sorted(own)))})"] if own else []
    parts += [
        f"(_source = '{STREAM_SOURCE}' AND topic = {_literal(topic)} AND `partition` = {partition} "
        f"AND `offset` >= {start} AND `offset` < {until})"
        for (topic, partition), found in sorted(ranges.items())
        for start, until in _joined(found)
    ]
    return " OR ".join(parts) or "FALSE"


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open ranges in order, those that touch made one."""
    joined: list[tuple[int, int]] = []
    for start, until in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(until, joined[-1][1]))
        else:
            joined.append((start, until))
    return joined


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def load_into_ops(spark: SparkSession, settings: Settings, locations: Sequence[str]) -> None:
    """Add verdicts to ``ops.dq_verdicts``, in one commit; those that are there already are left alone."""
    from lakehouse import contracts
    from lakehouse.contracts.spark import schema
    from lakehouse.quality.insert import insert_new

    table = "ops.dq_verdicts"
    verdicts = read(settings, locations)
    if verdicts:
        fields = schema(contracts.load(table))
        rows = [_ops_row(settings, verdict) for verdict in verdicts]
        frame = local_frame(spark, rows, fields)
        insert_new(frame, settings.table_uri(table), ("verdict_id",), f"{verdicts[-1].run_id}/verdicts")


def _ops_row(settings: Settings, verdict: Verdict) -> dict[str, Any]:
    ends = [run.window_to for run in verdict.certified_runs if run.window_to is not None]
    return {
        "verdict_id": verdict.verdict_id,
        "table_name": verdict.table,
        "layer": verdict.layer,
        "run_id": verdict.run_id,
        "table_id": verdict.table_id or "",
        "version": -1 if verdict.version is None else verdict.version,
        "outcome": verdict.outcome,
        "certified_run_ids": [run.run_id for run in verdict.certified_runs] if verdict.passing else [],
        "window_to": max(ends, default=None) if verdict.passing else None,
        "rules": rules_text(verdict),
        "contract_version": verdict.contract_version,
        "contract_hash": f"{verdict.contract_hash}/{verdict.rules_hash}",
        "created_at": verdict.created_at,
        "uri": verdict_uri(settings, verdict),
    }


def rules_text(verdict: Verdict) -> str:
    """The rules of a verdict as ops.dq_verdicts has them."""
    return json.dumps([rule.model_dump() for rule in verdict.rules], ensure_ascii=False)


def certification(table: str, verdicts: Sequence[Verdict], table_id: str | None) -> Certification:
    """Fold a table's verdicts; those about another table id than the live one (None: no table) do not count.

    The order of ``verdicts`` does not matter. A failed verdict takes nothing back: what passed once stays
    certified until it is discarded.
    """
    runs: dict[str, CertifiedRun] = {}
    merged: dict[str, set[str]] = {}
    passed: set[str] = set()
    latest: dict[str, Verdict] = {}
    version: int | None = None
    for verdict in _ordered(verdicts):
        if verdict.action == "optimize":
            # Only of what is certified just then: where a gate certified another version meanwhile, that one counts.
            if verdict.table_id == table_id and verdict.optimized_from == version:
                version = verdict.version
            continue
        spoken_of = {run.run_id for run in verdict.certified_runs}
        if verdict.judges:
            latest.update(
                dict.fromkeys({verdict.run_id} | (spoken_of if verdict.layer == "bronze" else set()), verdict)
            )
        if not verdict.passing or table_id is None or verdict.table_id != table_id:
            continue
        version = verdict.version
        if verdict.action == "discard":
            for run_id in spoken_of:
                runs.pop(run_id, None)
            for name, source in verdict.inputs.items():
                merged.get(name, set()).difference_update(source.run_ids)
            passed -= spoken_of
            continue
        runs.update({run.run_id: run for run in verdict.certified_runs})
        for name, source in verdict.inputs.items():
            merged.setdefault(name, set()).update(source.run_ids)
        passed |= {verdict.run_id} if verdict.layer != "bronze" else spoken_of
    return Certification(
        table=table,
        table_id=table_id,
        version=version,
        run_ids=frozenset(runs),
        passed=frozenset(passed),
        watermark=covered(runs.values()),
        states=tuple(run.state for run in runs.values() if run.state),
        merged={name: frozenset(run_ids) for name, run_ids in merged.items()},
        runs=runs,
        latest=latest,
    )


def certified_since(verdicts: Iterable[Verdict], run_id: str) -> datetime | None:
    """Since when a Bronze run's rows count, without a discard in between; None where they do not."""
    since: datetime | None = None
    for verdict in _ordered(verdicts):
        if verdict.passing and verdict.judges and any(run.run_id == run_id for run in verdict.certified_runs):
            since = None if verdict.action == "discard" else since or verdict.created_at
    return since


def covered(runs: Iterable[CertifiedRun]) -> datetime | None:
    """The end of what windows cover from the beginning on; a window without a start begins there."""
    beginning = datetime.min.replace(tzinfo=UTC)
    windows = [(run.window_from or beginning, run.window_to) for run in runs if run.window_to is not None]
    end: datetime | None = None
    for start, until in sorted(windows):
        if start > (end or beginning):
            break
        end = until if end is None else max(end, until)
    return end


def optimized(verdicts: Iterable[Verdict], table_id: str, version: int) -> int:
    """The version that has the rows of a version in other files, as housekeeping made it; else the version itself."""
    for verdict in _ordered(verdicts):
        is_next = verdict.action == "optimize" and verdict.optimized_from == version
        if is_next and verdict.table_id == table_id and verdict.version is not None:
            version = verdict.version
    return version


def _ordered(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: (verdict.created_at, verdict.verdict_id))
