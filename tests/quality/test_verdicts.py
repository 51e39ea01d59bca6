"""Verdicts: written once, and folded into what they certify."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import NotCertified, TransientError
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import CertifiedRun, RuleResult, Verdict, VerdictInput, certification
from tests.quality.support import make_settings

START = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = RuleResult(
    name="amount_not_negative", severity="critical", passed=False, observed="3 of 9 rows", expected="none"
)


def verdict(at: int, run: str = "", **changes: Any) -> Verdict:
    """A passing Bronze verdict of run ``r<at>`` on version ``at``, an hour after the one before."""
    run = run or f"r{at}"
    values: dict[str, Any] = {
        "verdict_id": f"{at:08d}",
        "table": "bronze.x",
        "layer": "bronze",
        "run_id": run,
        "table_id": "T",
        "version": at,
        "outcome": "passed",
        "certified_runs": (CertifiedRun(run_id=run, window_to=START + timedelta(days=at), state={"at": at}),),
        "contract_version": "1.0.0",
        "contract_hash": "c",
        "rules_hash": "r",
        "rules": (),
        "created_at": START + timedelta(hours=at),
    }
    return Verdict(**(values | changes))


def failed(at: int, run: str = "") -> Verdict:
    return verdict(at, run, outcome="failed", rules=(BROKEN,))


def certified(*found: Verdict, table_id: str | None = "T") -> verdicts.Certification:
    return certification("bronze.x", found, table_id)


def test_nothing_certifies_nothing() -> None:
    known = certified()
    assert (known.version, known.run_ids, known.watermark, known.states) == (None, frozenset(), None, ())


def test_passing_and_warned_verdicts_certify_their_runs() -> None:
    known = certified(verdict(1), verdict(2, outcome="warned"), failed(3))
    assert known.run_ids == {"r1", "r2"}
    assert known.version == 2
    assert known.watermark == START + timedelta(days=2)
    assert known.states == ({"at": 1}, {"at": 2})


def test_a_later_failed_verdict_of_a_run_takes_nothing_back() -> None:
    known = certified(verdict(1), verdict(2), failed(3, run="r2"))
    assert known.run_ids == {"r1", "r2"}
    assert known.version == 2
    known.require("r2")


def test_a_run_refused_first_and_passing_later_is_certified() -> None:
    assert certified(failed(1), verdict(2, run="r1")).run_ids == {"r1"}


def test_a_discard_takes_a_run_and_its_window_out_again() -> None:
    gone = verdict(3, run="recovery", action="discard", certified_runs=(CertifiedRun(run_id="r2"),))
    known = certified(verdict(1), verdict(2), gone)
    assert known.run_ids == {"r1"}
    assert known.watermark == START + timedelta(days=1)
    assert known.version == 3
    with pytest.raises(NotCertified, match="discarded"):
        known.require("r2")


def test_a_failed_discard_changes_nothing() -> None:
    attempt = verdict(3, action="discard", outcome="failed", certified_runs=(CertifiedRun(run_id="r1"),))
    assert certified(verdict(1), attempt).run_ids == {"r1"}


def test_recertifying_takes_a_refused_run_in() -> None:
    taken = verdict(
        4,
        run="recovery",
        action="recertify",
        certified_runs=(CertifiedRun(run_id="r2", window_to=START + timedelta(days=2)),),
    )
    known = certified(verdict(1), failed(2), taken)
    assert known.run_ids == {"r1", "r2"}
    known.require("r2")


def test_an_erasure_moves_the_version_and_says_nothing_new_of_runs() -> None:
    before = (verdict(1), failed(2))
    erased = verdict(
        3, run="recovery", action="erase", certified_runs=before[0].certified_runs, version=9, rows=4
    )
    known, then = certified(*before, erased), certified(*before)
    assert known.version == 9
    assert (known.run_ids, known.watermark, known.states, known.latest) == (
        then.run_ids,
        then.watermark,
        then.states,
        then.latest,
    )


def test_verdicts_of_a_table_since_made_anew_do_not_count() -> None:
    known = certified(verdict(1, table_id="old"), verdict(2))
    assert known.run_ids == {"r2"}
    with pytest.raises(NotCertified, match="recreated"):
        known.require("r1")


def test_without_a_table_nothing_is_certified() -> None:
    assert certified(verdict(1), table_id=None).version is None
    assert certified(verdict(1, table_id=None, version=None), table_id=None).run_ids == frozenset()


def test_judging_an_old_run_again_keeps_the_order_of_states_and_the_watermark() -> None:
    again = verdict(3, run="r1", certified_runs=verdict(1).certified_runs)
    known = certified(verdict(1), verdict(2), again)
    assert known.states == ({"at": 1}, {"at": 2})
    assert known.watermark == START + timedelta(days=2)
    assert known.version == 3


def test_silver_tells_what_it_contains() -> None:
    def silver(at: int, run_ids: tuple[str, ...], **changes: Any) -> Verdict:
        inputs = {"bronze.x": VerdictInput(table_id="B", version=at, run_ids=run_ids)}
        runs = tuple(CertifiedRun(run_id=run) for run in run_ids)
        return verdict(
            at, run=f"p{at}", table="silver.x", layer="silver", inputs=inputs, certified_runs=runs, **changes
        )

    known = certification(
        "silver.x", [silver(1, ("a",)), silver(2, ("a", "b")), silver(3, ("c",), outcome="failed")], "T"
    )
    assert known.merged == {"bronze.x": {"a", "b"}}
    assert known.run_ids == {"a", "b"}
    assert known.version == 2
    known.require("p2")
    for run in ("p3", "a"):  # promoting runs certify; a Bronze run contained is not one
        with pytest.raises(NotCertified):
            known.require(run)
    discarded = certification(
        "silver.x", [silver(1, ("a",)), silver(2, ("a", "b")), silver(4, ("b",), action="discard")], "T"
    )
    assert discarded.merged == {"bronze.x": {"a"}}


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("r9", "no verdict of this run"),
        ("r2", r"failed verdict at 2026-01-01 02:00:00 UTC: amount_not_negative"),
    ],
    ids=["unknown", "refused"],
)
def test_a_refusal_names_table_run_verdict_and_next_step(run: str, words: str) -> None:
    with pytest.raises(NotCertified, match=words) as caught:
        certified(verdict(1), failed(2)).require(run)
    assert "bronze.x" in caught.value.message
    assert run in caught.value.message
    assert run in caught.value.hint


_EVENT = st.tuples(
    st.sampled_from(["r1", "r2", "r3"]),
    st.sampled_from(["passed", "warned", "failed"]),
    st.sampled_from(["judge", "recertify", "discard"]),
    st.sampled_from(["T", "old"]),
)


@given(st.lists(_EVENT, max_size=12), st.randoms())
def test_the_fold_depends_on_time_alone(events: list[tuple[str, str, str, str]], random: Any) -> None:
    found = [
        verdict(at, run=run, outcome=outcome, action=action, table_id=table_id)
        for at, (run, outcome, action, table_id) in enumerate(events, 1)
    ]
    shuffled = list(found)
    random.shuffle(shuffled)
    known = certified(*shuffled)
    assert known == certified(*found)

    # The same by the words of the rule: a run counts if the last passing word about it, in this table, takes it in.
    counting = [each for each in found if each.passing and each.table_id == "T"]
    last = {each.run_id: each.action for each in counting}
    assert known.run_ids == {run for run, action in last.items() if action != "discard"}
    assert known.version == max((each.version or 0 for each in counting), default=None)
    assert len(known.states) == len(known.run_ids)


def test_written_verdicts_are_read_back_in_the_order_of_their_time(lake: str) -> None:
    settings = make_settings(lake)
    written = [verdict(3), failed(1), verdict(2, created_at=START + timedelta(hours=2, microseconds=5))]
    uris = [verdicts.write(settings, each) for each in written]
    assert uris[2] == f"{lake}/gold/quality/bronze.x/20260101T020000.000005Z-00000002.json"
    assert verdicts.read_all(settings, "bronze.x") == [written[1], written[2], written[0]]
    assert verdicts.read_all(settings, "bronze.xy") == []


def test_a_verdict_is_never_replaced(lake: str) -> None:
    settings = make_settings(lake)
    verdicts.write(settings, verdict(1))
    with pytest.raises(TransientError):
        verdicts.write(settings, failed(1))
    assert verdicts.read_all(settings, "bronze.x") == [verdict(1)]


def windowed(*windows: tuple[int | None, int]) -> list[Verdict]:
    """Passing verdicts of runs with these windows, in days since the start; None begins at the beginning."""
    return [
        verdict(
            n,
            certified_runs=(
                CertifiedRun(
                    run_id=f"r{n}",
                    window_from=None if start is None else START + timedelta(days=start),
                    window_to=START + timedelta(days=end),
                ),
            ),
        )
        for n, (start, end) in enumerate(windows, 1)
    ]


def discarded(at: int, *runs: str) -> Verdict:
    gone = tuple(CertifiedRun(run_id=run) for run in runs)
    return verdict(at, run="recovery", action="discard", certified_runs=gone)


@pytest.mark.parametrize(
    ("gone", "day"),
    [((), 30), (("r3",), 20), (("r2",), 10), (("r1",), None), (("r2", "r3"), 10), (("r1", "r2", "r3"), None)],
    ids=["none", "the last", "one in the middle", "the first", "two", "all"],
)
def test_the_watermark_goes_back_to_where_a_discarded_window_began(
    gone: tuple[str, ...], day: int | None
) -> None:
    known = certified(*windowed((None, 10), (9, 20), (19, 30)), *([discarded(9, *gone)] if gone else []))
    assert known.watermark == (None if day is None else START + timedelta(days=day))


def test_a_run_that_closes_the_gap_sets_the_watermark_again() -> None:
    first, second, third, again = windowed((None, 10), (10, 20), (20, 30), (10, 31))
    gone = discarded(4, "r2")
    assert certified(first, second, third, gone).watermark == START + timedelta(days=10)
    later = again.model_copy(update={"created_at": START + timedelta(hours=5)})
    assert certified(first, second, third, gone, later).watermark == START + timedelta(days=31)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 3))
def test_windows_that_follow_each_other_reach_to_the_newest_end(steps: list[int], overlap: int) -> None:
    windows: list[tuple[int | None, int]] = []
    end = 0
    for step in steps:
        windows.append((max(end - overlap, 0) if windows else None, end + step))
        end += step
    assert certified(*windowed(*windows)).watermark == START + timedelta(days=end)
