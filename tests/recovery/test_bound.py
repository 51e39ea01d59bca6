"""Which runs have to be discarded together, by their windows, offsets and files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.flows.recovery.bound import Facts, bound
from lakehouse.landing import Kind
from lakehouse.quality.verdicts import CertifiedRun, covered
from lakehouse.sources.watermark import Watermark

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Table:
    """Certified runs, one a day, in the order in which they are added."""

    def __init__(self, overlap: timedelta = HOUR) -> None:
        self.overlap = overlap
        self.runs: dict[str, CertifiedRun] = {}
        self.facts: dict[str, Facts] = {}

    def add(
        self,
        name: str,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        state: Mapping[str, Any] | None = None,
        kind: Kind = "window",
        rows: int = 1,
        repeats: int | None = 1,
    ) -> None:
        at = NOON + timedelta(days=len(self.runs))
        self.runs[name] = CertifiedRun(
            run_id=name, window_from=since, window_to=until, state=dict(state or {})
        )
        self.facts[name] = Facts(kind, rows, repeats, at)

    def window(self, name: str, until: datetime, **facts: Any) -> None:
        """A run as an ingest lands it: from the watermark, less the overlap."""
        since = Watermark(time=covered(self.runs.values())).since(self.overlap)
        self.add(name, since, until, **facts)

    def bound(self, *chosen: str) -> set[str]:
        judged_at = {run_id: facts.certified_at for run_id, facts in self.facts.items()}
        return set(bound(self.runs, judged_at, self.facts.__getitem__, chosen, self.overlap))


def test_a_window_goes_alone_where_it_leaves_a_gap() -> None:
    table = Table()
    for n, name in enumerate("abcd"):
        table.window(name, NOON + n * 24 * HOUR)
    assert [table.bound(name) for name in "abcd"] == [set()] * 4


def test_windows_that_overlap_go_together() -> None:
    table = Table()
    for name, minutes in {"a": 0, "b": 20, "c": 40, "d": 600}.items():
        table.window(name, NOON + timedelta(minutes=minutes))
    # b ends 20 minutes after a: the window of c begins before that of b ends, and so does that of d without c.
    assert table.bound("b") == {"c", "d"}
    assert table.bound("c") == {"d"}
    assert table.bound("d") == set()
    assert table.bound("b", "c", "d") == set()


def test_a_run_that_brought_nothing_binds_nobody() -> None:
    table = Table()
    for name in "abc":
        table.window(name, NOON, rows=0 if name == "b" else 1)
    assert table.bound("b") == set()


def test_a_backfill_binds_those_that_may_have_left_out_its_rows() -> None:
    table = Table()
    table.window("a", NOON)
    table.add("fill", NOON - 5 * HOUR, None, kind="backfill")
    table.window("new", NOON + 24 * HOUR, repeats=0)
    table.window("again", NOON + 48 * HOUR, repeats=3)
    table.window("unknown", NOON + 72 * HOUR, repeats=None)
    assert table.bound("fill") == {"again", "unknown"}
    assert table.bound("new") == set()


def test_what_was_marked_as_gone_no_source_gives() -> None:
    table = Table()
    table.window("a", NOON)
    table.add("gone", None, None, kind="backfill")
    table.window("b", NOON + 24 * HOUR)
    assert table.bound("gone") == set()


@pytest.mark.parametrize(("is_backfill", "expected"), [(False, {"next"}), (True, set())])
def test_nobody_goes_on_from_the_offsets_of_a_backfill(is_backfill: bool, expected: set[str]) -> None:
    def state(until: int, **more: Any) -> dict[str, Any]:
        return {"topic": "orders", "from": {"0": 0}, "until": {"0": until}} | more

    table = Table(timedelta(0))
    more = {"is_backfill": True} if is_backfill else {}
    table.add(
        "early",
        NOON,
        None if is_backfill else NOON,
        state=state(5, **more),
        kind="backfill" if more else "window",
    )
    table.add("next", NOON, NOON + HOUR, state=state(9), repeats=0)
    assert table.bound("early") == expected
    # Nor does a backfill go on from a daily run.
    table.add("fill", NOON, None, state=state(20, is_backfill=True), kind="backfill")
    assert table.bound("next") == set()


def test_of_a_file_only_what_it_is_now_can_be_read() -> None:
    table = Table(timedelta(0))
    table.add("a", None, NOON, state={"files": {"c1": "day.csv", "c2": "other.csv"}})
    table.add("b", NOON, NOON + HOUR, state={"files": {"c3": "day.csv"}})
    table.add("c", NOON, NOON + 2 * HOUR, state={"files": {"c4": "new.csv"}})
    assert table.bound("a") == {"b"}
    assert table.bound("b") == set()


@given(
    steps=st.lists(st.integers(1, 150), min_size=2, max_size=8),
    chosen=st.sets(st.integers(0, 7), min_size=1, max_size=3),
)
def test_the_next_window_begins_where_every_run_that_goes_did(steps: list[int], chosen: set[int]) -> None:
    table, at = Table(), NOON
    for n, minutes in enumerate(steps):
        at += timedelta(minutes=minutes)
        table.window(str(n), at)
    names = {str(n) for n in chosen if n < len(steps)}
    gone = names | table.bound(*names)
    kept = [run for name, run in table.runs.items() if name not in gone]
    since = Watermark(time=covered(kept)).since(table.overlap)
    if since is not None:
        starts = [table.runs[name].window_from for name in gone]
        assert all(start is not None and since <= start for start in starts)
