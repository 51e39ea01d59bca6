"""Whether a run id is that of a run: one that was mistyped would be judged, and refused, for every table.

A run is known by what it left: the outcome of a job, a landing, a promotion. What a job says that was given an id
nobody knows counts for nothing, or the second time it would be known.
"""

from __future__ import annotations

from difflib import get_close_matches

from lakehouse import contracts, store
from lakehouse.errors import UnknownRun
from lakehouse.flows.ingest import SOURCES
from lakehouse.landing import read_manifest
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import Outcome
from lakehouse.quality import verdicts
from lakehouse.runs import run_time
from lakehouse.settings import Settings
from lakehouse.submit import RECOVER, by_hand

_SHOWN = 3


def require_known(settings: Settings, run_id: str) -> None:
    """Raise UnknownRun unless a run of this id has left anything."""
    run_time(run_id)
    if not any(look(settings, run_id) for look in (_told, _landed, _promoted, _judged)):
        raise UnknownRun(
            f"received the run id {run_id}, under which no run has left anything; nothing was written",
            hint=_hint(settings, run_id),
        )


def require_ingested(settings: Settings, run_id: str) -> None:
    """Raise UnknownRun unless an ingest of this run has begun: there is nothing that a Bronze gate could judge."""
    require_known(settings, run_id)
    if _landed(settings, run_id) or any(each.job.endswith("_to_bronze") for each in _told(settings, run_id)):
        return
    raise UnknownRun(
        f"received the run id {run_id}, under which nothing was ingested; nothing was written",
        hint=_parts(settings, run_id) or f"ingest first, e.g. {by_hand('fx_to_bronze')} --run-id {run_id}",
    )


def require_promoted(settings: Settings, run_id: str) -> None:
    """Raise UnknownRun unless a promotion of this run has begun: there is nothing that a Silver gate could judge."""
    require_known(settings, run_id)
    if _promoted(settings, run_id) or any(each.job == "bronze_to_silver" for each in _told(settings, run_id)):
        return
    raise UnknownRun(
        f"received the run id {run_id}, which has promoted nothing; nothing was written",
        hint=_parts(settings, run_id) or f"promote first: {by_hand('bronze_to_silver')} --run-id {run_id}",
    )


def _told(settings: Settings, run_id: str) -> list[Outcome]:
    """Outcomes of the run's jobs, without those that were refused for the id."""
    found = outcomes.read_run(settings, run_id)
    return [each for each in found if each.error is None or each.error.code != UnknownRun.code]


def _landed(settings: Settings, run_id: str) -> bool:
    pairs = ((source, table) for source, tables in SOURCES.items() for table in tables)
    return any(read_manifest(settings, source, table, run_id) is not None for source, table in pairs)


def _promoted(settings: Settings, run_id: str) -> bool:
    uris = [promotion_uri(settings, name, run_id) for name in contracts.names("silver")]
    return bool(store.get_many(uris))


def _judged(settings: Settings, run_id: str) -> bool:
    """Whether a verdict is of this run. All verdicts are read: what comes here is unknown otherwise."""
    gated = [*contracts.names("bronze"), *contracts.names("silver")]
    return any(each.run_id == run_id for name in gated for each in verdicts.read_all(settings, name))


def promotion_uri(settings: Settings, table: str, run_id: str) -> str:
    """Where a run says what it made of a Silver table."""
    return f"{settings.lake_uri}/ops/_promotions/{table}/{run_id}.json"


def _parts(settings: Settings, run_id: str) -> str:
    """Of a run that was made of others (a backfill's chunks) how to find those."""
    repeats = [each.repeat for each in _told(settings, run_id) if each.repeat]
    return f"its parts are runs of their own, which `{RECOVER} status` names" if repeats else ""


def _hint(settings: Settings, run_id: str) -> str:
    """Runs that may have been meant: those of the day whose ids are nearest."""
    base = f"{settings.lake_uri}/runs/"
    of_day = {uri.removeprefix(base).split("/")[0] for uri in store.keys(f"{base}{run_id[:8]}")} - {run_id}
    near = get_close_matches(run_id, sorted(of_day), n=_SHOWN, cutoff=0.6)
    meant = f"nearest are {', '.join(near)}; " if near else ""
    return f"{meant}copy the id from `{RECOVER} status`, or from the line that the job printed"
