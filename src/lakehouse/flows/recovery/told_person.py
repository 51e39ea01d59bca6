"""A person taken out of what was told of their rows: samples of verdicts, and errors and notes of jobs that quote them.

Samples have personal columns masked, but they name rows by their keys. Status pages and lineage events of these runs
repeat them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from lakehouse import store
from lakehouse.contracts import ddl
from lakehouse.delta.read import read
from lakehouse.delta.write import update_where
from lakehouse.flows.report import page_uri
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Outcome
from lakehouse.observe.transport import lineage_uri
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import RuleResult, Verdict
from lakehouse.settings import Settings

VERDICTS = "ops.dq_verdicts"
RUNS = "ops.job_runs"
_INSTEAD = "erased"
# Of lineage events, what tells of runs and tables and never of a row.
_NO_WORDS = frozenset({"eventTime", "nominalTime", "version", "tags", "parent", "schema", "columnLineage"})


@dataclass(frozen=True)
class Told:
    """What names a person, each as it is without them.

    ``messages``: (run id, job, message) of rows of ops.job_runs, which may be of another try than the outcome;
    ``copies``: status pages and lineage events by location.
    """

    verdicts: tuple[Verdict, ...]
    outcomes: tuple[Outcome, ...]
    messages: tuple[tuple[str, str, str], ...]
    copies: dict[str, bytes]

    @property
    def is_nothing(self) -> bool:
        return not (self.verdicts or self.outcomes or self.messages or self.copies)


def find(spark: SparkSession, settings: Settings, tables: Iterable[str], ids: Set[str]) -> Told:
    """What was told of a person by verdicts of these tables, and by jobs, in whichever try."""
    # Part of a longer word, such as a run id, it is something else.
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(ids)))})(?![\w-])")

    def clean(text: str) -> str:
        return pattern.sub(_INSTEAD, text)

    def rule_without(rule: RuleResult) -> RuleResult:
        words = {name: clean(getattr(rule, name)) for name in ("observed", "expected", "message", "hint")}
        sample = tuple({name: clean(value) for name, value in row.items()} for row in rule.sample)
        return rule.model_copy(update={**words, "sample": sample})

    found = []
    for table in tables:
        for verdict in verdicts.read_all(settings, table):
            rules = tuple(map(rule_without, verdict.rules))
            if rules != verdict.rules:
                found.append(verdict.model_copy(update={"rules": rules}))
    spoken = []
    for outcome in outcomes.read_all(settings):
        error = outcome.error
        if error is not None:
            error = error.model_copy(update={"message": clean(error.message), "hint": clean(error.hint)})
        changed = outcome.model_copy(
            update={"notes": [clean(note) for note in outcome.notes], "error": error}
        )
        if changed != outcome:
            spoken.append(changed)
    messages = []
    # Compared here: a condition would put the person into Spark's plans.
    kept = read(spark, settings.table_uri(RUNS)).where("error_message IS NOT NULL")
    for run_id, job, message in kept.select("run_id", "job", "error_message").collect():
        if clean(message) != message:
            messages.append((run_id, job, clean(message)))
    events = _events(settings, pattern)
    folder = f"{lineage_uri(settings)}/"
    runs = {verdict.run_id for verdict in found} | {outcome.run_id for outcome in spoken}
    runs |= {run_id for run_id, _, _ in messages}
    runs |= {uri.removeprefix(folder).partition("/")[0] for uri in events}
    pages = _pages(settings, sorted(runs), pattern)
    return Told(tuple(found), tuple(spoken), tuple(messages), pages | events)


def empty(spark: SparkSession, settings: Settings, told: Told, tag: str) -> None:
    """Write all that without the person. What leads to status pages comes last, so that a repeated try finds them."""
    for uri, body in told.copies.items():
        store.put(
            uri,
            body,
            content_type="text/html; charset=utf-8" if uri.endswith(".html") else "application/json",
        )
    for verdict in told.verdicts:
        values = {"rules": ddl.text(verdicts.rules_text(verdict))}
        _update(spark, settings, VERDICTS, {"verdict_id": verdict.verdict_id}, values, tag)
        store.put(verdicts.verdict_uri(settings, verdict), verdict.model_dump_json(indent=1).encode())
    for run_id, job, message in told.messages:
        which = {"run_id": run_id, "job": job}
        _update(spark, settings, RUNS, which, {"error_message": ddl.text(message)}, tag)
    for outcome in told.outcomes:
        outcomes.write(settings, outcome)


def _pages(settings: Settings, runs: Sequence[str], pattern: re.Pattern[str]) -> dict[str, bytes]:
    found = {}
    for page in (page_uri(settings, name) for name in (*runs, "latest")):
        text = (store.get(page) or b"").decode()
        changed = pattern.sub(_INSTEAD, text)
        if changed != text:
            found[page] = changed.encode()
    return found


def _events(settings: Settings, pattern: re.Pattern[str]) -> dict[str, bytes]:
    """Every lineage event that names the person: the outcome of a run is of its last try, its events are of all."""
    found = {}
    for uri, body in store.get_each(list(store.keys(f"{lineage_uri(settings)}/"))):
        text = body.decode()
        if not pattern.search(text):
            continue
        event = json.loads(text)
        changed = _without(event, pattern)
        if changed != event:
            found[uri] = json.dumps(changed).encode()
    return found


def _without(value: Any, pattern: re.Pattern[str]) -> Any:
    """JSON with the pattern taken out of its texts; a number, time or version that looks like an id is none."""
    if isinstance(value, dict):
        return {name: each if name in _NO_WORDS else _without(each, pattern) for name, each in value.items()}
    if isinstance(value, list):
        return [_without(each, pattern) for each in value]
    return pattern.sub(_INSTEAD, value) if isinstance(value, str) else value


def _update(
    spark: SparkSession,
    settings: Settings,
    table: str,
    which: Mapping[str, str],
    values: Mapping[str, str],
    tag: str,
) -> None:
    predicate = " AND ".join(f"{name} = {ddl.text(value)}" for name, value in which.items())
    update_where(spark, settings.table_uri(table), predicate, values, f"{tag}/{table}")
