"""Which runs have to be discarded together, so that every row of theirs comes again.

A run leaves out what certified runs hold already. Where one of those is discarded, its rows have to be read again: by
the next run, whose window then begins no later than its own did; of a topic from the offsets before it; of the
vendor's inbox as files that nobody has taken. Later runs that stand in the way of that have to go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse.landing import Kind
from lakehouse.quality.verdicts import CertifiedRun, covered
from lakehouse.sources.watermark import Watermark

_ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Facts:
    """What is known of a certified run beside its window.

    ``rows`` are those certified, ``repeats`` those it left out as held already; None where nothing says so.
    ``certified_at`` is when its rows began to count.
    """

    kind: Kind
    rows: int | None
    repeats: int | None
    certified_at: datetime


def bound(
    runs: Mapping[str, CertifiedRun],
    judged_at: Mapping[str, datetime],
    facts: Callable[[str], Facts],
    chosen: Iterable[str],
    overlap: timedelta,
) -> dict[str, str]:
    """Certified runs that have to go with the chosen ones, each with its reason.

    ``judged_at``: when a gate last saw a run. ``overlap``: of the next window with the one before. ``facts`` are asked
    of few runs, for they are slow to find.
    """
    gone = set(chosen) & runs.keys()
    found: dict[str, str] = {}
    while more := _next(runs, judged_at, facts, gone, overlap):
        found |= more
        gone |= more.keys()
    return found


def _next(
    runs: Mapping[str, CertifiedRun],
    judged_at: Mapping[str, datetime],
    facts: Callable[[str], Facts],
    gone: Set[str],
    overlap: timedelta,
) -> dict[str, str]:
    """Runs that have to go because of those that go already; none where these come again."""
    kept = [run for run_id, run in runs.items() if run_id not in gone]
    since = Watermark(time=covered(kept)).since(overlap) or _ALWAYS
    for run in (runs[run_id] for run_id in sorted(gone)):
        known = facts(run.run_id)
        later = [each for each in kept if judged_at[each.run_id] > known.certified_at]
        found = {each.run_id: f"goes on from {run.run_id}" for each in _going_on(run, kept, later)}
        if not found and known.rows != 0:
            if known.kind == "backfill":
                found = {
                    each.run_id: f"left out what the backfill {run.run_id} had brought"
                    for each in _leaving_out(run, later, facts)
                }
            elif not run.state and since > (run.window_from or _ALWAYS):
                found = {
                    each.run_id: f"covers the window of {run.run_id}, and left out what that had brought"
                    for each in _first(later)
                }
        if found:
            return found
    return {}


def _going_on(
    run: CertifiedRun, others: Iterable[CertifiedRun], later: Iterable[CertifiedRun]
) -> Iterator[CertifiedRun]:
    """Runs that read a topic further, of whose offsets the next run knows only the end, or took the same files."""
    yield from (each for each in others if _reaches_beyond(each.state, run.state))
    yield from (each for each in later if _files(each.state) & _files(run.state))


def _reaches_beyond(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.get("topic") is None or one.get("topic") != other.get("topic"):
        return False
    if one.get("is_backfill") or other.get("is_backfill"):
        return False  # nothing goes on from the offsets of a backfill
    return any(
        int(until) > int(other["until"].get(partition, 0)) for partition, until in one["until"].items()
    )


def _files(state: Mapping[str, Any]) -> Set[str]:
    """Names and checksums: the file counts as taken, or what is left of it is what came under its name since."""
    files: Mapping[str, str] = state.get("files", {})
    return {*files, *files.values()}


def _leaving_out(
    run: CertifiedRun, later: Iterable[CertifiedRun], facts: Callable[[str], Facts]
) -> Iterator[CertifiedRun]:
    """Runs that may have left out rows of a backfill, whose range no daily run reads again."""
    # Files count as new again; what reconcile marked as gone (no window) no source gives.
    if run.window_from is not None and "files" not in run.state:
        yield from (each for each in later if facts(each.run_id).repeats != 0)


def _first(later: Iterable[CertifiedRun]) -> list[CertifiedRun]:
    """The one whose window ends first: without it those after it may leave a gap."""
    windows = [(each.window_to, each.run_id, each) for each in later if each.window_to is not None]
    return [min(windows)[2]] if windows else []
