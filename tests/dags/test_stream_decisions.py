"""What a supervisor of the order stream does, case by case: no AWS, no Airflow."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.stream_decisions import (
    ACTIONS,
    Asked,
    Cancel,
    Done,
    LiftMark,
    Limits,
    Mark,
    MoveCheckpoint,
    Progress,
    PutMark,
    Refuse,
    Run,
    Seen,
    Start,
    Wait,
    client_token,
    decide,
    problems,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FOR_GOOD = "Job failed, please check complete logs. ExitCode: 10. Last few exceptions: topic made anew"
MARK = Mark("streaming_ingest manual__1", "release", "2026-11-20T11:00:00Z")
STREAM = "app/stream"


def run(id: str, state: str, minutes_ago: float = 60, details: str = "") -> Run:
    return Run(id, state, NOW - timedelta(minutes=minutes_ago), details)


def step(asked: Asked, *runs: Run, mark: Mark | None = None) -> object:
    return decide(asked, Seen(runs, mark), STREAM)


SCHEDULED = Asked(who="scheduled__1")
BY_HAND = Asked(who="manual__2", by_hand=True)
STOP = replace(BY_HAND, action="stop")
RECOVER = replace(BY_HAND, action="recover_checkpoint")
OLD, YOUNG = run("old", "RUNNING", 90), run("young", "SUBMITTED", 1)
GOING, DEAD = run("going", "CANCELLING"), run("dead", "FAILED", details="ExitCode: 137")
HOPELESS = run("hopeless", "FAILED", details=FOR_GOOD)
CANCELLED = run("cancelled", "CANCELLED")
OWN_MARK = replace(MARK, by=RECOVER.who)


@pytest.mark.parametrize(
    ("asked", "runs", "mark", "expected"),
    [
        pytest.param(SCHEDULED, [], None, Start(client_token(STREAM, None)), id="nothing there: start"),
        pytest.param(SCHEDULED, [OLD], None, Done, id="one alive: adopt"),
        pytest.param(SCHEDULED, [DEAD, OLD], None, Done, id="a dead one beside a live one is history"),
        pytest.param(SCHEDULED, [DEAD], None, Start(client_token(STREAM, DEAD), DEAD), id="died: replace"),
        pytest.param(SCHEDULED, [CANCELLED], None, Start(client_token(STREAM, CANCELLED)), id="cancelled: start"),
        pytest.param(SCHEDULED, [HOPELESS], None, Refuse, id="failed for good: wait for a person"),
        pytest.param(
            BY_HAND, [HOPELESS], None, Start(client_token(STREAM, HOPELESS), HOPELESS), id="a person tries again"
        ),
        pytest.param(SCHEDULED, [GOING], None, Wait((GOING,)), id="being cancelled: wait"),
        pytest.param(SCHEDULED, [OLD, GOING], None, Done, id="one alive, another going"),
        pytest.param(SCHEDULED, [], MARK, Done, id="stopped: stay down"),
        pytest.param(SCHEDULED, [HOPELESS], MARK, Done, id="stopped after a failure: stay down"),
        pytest.param(SCHEDULED, [GOING], MARK, Wait((GOING,)), id="stopped, still going"),
        pytest.param(BY_HAND, [], MARK, LiftMark(MARK), id="ensure by hand lifts the stop"),
        pytest.param(replace(BY_HAND, action="restart"), [], MARK, LiftMark(MARK), id="restart lifts the stop"),
        pytest.param(STOP, [OLD], None, PutMark("no reason given"), id="stop: first the mark"),
        pytest.param(replace(STOP, reason="why"), [], None, PutMark("why"), id="stop keeps the reason"),
        pytest.param(STOP, [GOING], MARK, Wait((GOING,)), id="stop waits for the end"),
        pytest.param(STOP, [CANCELLED], MARK, Done, id="stopped"),
        pytest.param(
            replace(BY_HAND, action="restart", replace=frozenset({"cancelled"})),
            [CANCELLED], None, Start(client_token(STREAM, CANCELLED)), id="restart: then start",
        ),
        pytest.param(
            replace(BY_HAND, action="restart", replace=frozenset({"old"})), [YOUNG, CANCELLED], None, Done,
            id="restart: somebody else has started it",
        ),
        pytest.param(RECOVER, [OLD], None, PutMark("the checkpoint is being moved aside"), id="recover: the mark"),
        pytest.param(RECOVER, [], MARK, PutMark("the checkpoint is being moved aside"), id="recover a stopped one"),
        pytest.param(RECOVER, [GOING], OWN_MARK, Wait((GOING,)), id="recover waits for the end"),
        pytest.param(RECOVER, [CANCELLED], OWN_MARK, MoveCheckpoint(), id="recover moves when all is quiet"),
        pytest.param(replace(RECOVER, moved=True), [CANCELLED], OWN_MARK, LiftMark(OWN_MARK), id="recover lifts"),
        pytest.param(
            replace(RECOVER, moved=True), [CANCELLED], None, Start(client_token(STREAM, CANCELLED)),
            id="recover starts",
        ),
        pytest.param(replace(BY_HAND, started=frozenset({"dead"})), [DEAD], None, Refuse, id="no second try at once"),
        pytest.param(Asked("explode"), [], None, Refuse, id="an unknown action"),
    ],
)  # fmt: skip
def test_cases(asked: Asked, runs: list[Run], mark: Mark | None, expected: object) -> None:
    found = step(asked, *runs, mark=mark)
    assert isinstance(found, expected) if isinstance(expected, type) else found == expected


@pytest.mark.parametrize(
    ("asked", "runs", "mark", "cancelled"),
    [
        pytest.param(SCHEDULED, [YOUNG, OLD], None, ["young"], id="two alive: the oldest stays"),
        pytest.param(SCHEDULED, [OLD], MARK, ["old"], id="alive although stopped"),
        pytest.param(STOP, [YOUNG, OLD], MARK, ["old", "young"], id="stop ends all"),
        pytest.param(
            replace(BY_HAND, action="restart", replace=frozenset({"old"})), [OLD], None, ["old"], id="restart"
        ),
        pytest.param(RECOVER, [OLD], OWN_MARK, ["old"], id="recover"),
    ],
)
def test_who_is_cancelled(asked: Asked, runs: list[Run], mark: Mark | None, cancelled: list[str]) -> None:
    found = step(asked, *runs, mark=mark)
    assert isinstance(found, Cancel)
    assert [one.id for one in found.runs] == cancelled
    assert found.alert == (asked is SCHEDULED and mark is None), "a second run is news, a stop is none"


def test_a_hopeless_failure_says_what_to_do() -> None:
    found = step(SCHEDULED, HOPELESS)
    assert isinstance(found, Refuse)
    assert "topic made anew" in found.text
    assert "action ensure" in found.hint


def test_a_stop_is_told_with_who_and_why() -> None:
    found = step(SCHEDULED, mark=MARK)
    assert isinstance(found, Done)
    for word in ("manual__1", "release", "2026-11-20T11:00:00Z", "ensure"):
        assert word in found.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"by": "me"}', b"null", b"\xff"])
def test_a_mark_that_cannot_be_read_still_stops(body: bytes) -> None:
    found = step(SCHEDULED, mark=Mark.parse(body))
    assert isinstance(found, Done)
    assert "cannot be read" in found.text


runs_ = st.lists(
    st.builds(
        run,
        st.sampled_from("abcdef"),
        st.sampled_from(["SUBMITTED", "QUEUED", "RUNNING", "CANCELLING", "SUCCESS", "FAILED", "CANCELLED"]),
        st.floats(0, 10_000),
        st.sampled_from(["", FOR_GOOD, "ExitCode: 1"]),
    ),
    unique_by=lambda one: one.id,
    max_size=6,
)
asked_ = st.builds(
    Asked,
    action=st.sampled_from(ACTIONS),
    by_hand=st.booleans(),
    who=st.sampled_from(["me", MARK.by]),
    replace=st.frozensets(st.sampled_from("abcdef")),
    started=st.frozensets(st.sampled_from("abcdef")),
    moved=st.booleans(),
)


@given(asked_, runs_, st.sampled_from([None, MARK]))
def test_nothing_starts_beside_a_run_or_under_a_mark(
    asked: Asked, runs: list[Run], mark: Mark | None
) -> None:
    seen = Seen(tuple(runs), mark)
    found = decide(asked, seen, STREAM)
    if isinstance(found, Start | MoveCheckpoint):
        assert not seen.live
        assert not seen.ending
    if isinstance(found, Start):
        assert mark is None
    if isinstance(found, MoveCheckpoint):
        assert mark is not None, "another supervisor could start a run in the middle of it"


@given(asked_, runs_, st.sampled_from([None, MARK]))
def test_it_comes_to_an_end_with_one_run_or_none(asked: Asked, runs: list[Run], mark: Mark | None) -> None:
    """The decisions, played: every step has the effect it asks for, and after a few nothing is left to do."""
    seen = Seen(tuple(runs), mark)
    for turn in range(12):
        found = decide(asked, seen, STREAM)
        match found:
            case Done() | Refuse():
                break
            case Cancel(targets):
                ids = {one.id for one in targets}
                now = tuple(replace(r, state="CANCELLING") if r.id in ids else r for r in seen.runs)
                seen = replace(seen, runs=now)
            case Wait():
                now = tuple(
                    replace(r, state="CANCELLED") if r.state == "CANCELLING" else r for r in seen.runs
                )
                seen = replace(seen, runs=now)
            case PutMark(reason):
                seen = replace(seen, mark=Mark(asked.who, reason, "now"))
            case LiftMark():
                seen = replace(seen, mark=None)
            case MoveCheckpoint():
                asked = replace(asked, moved=True)
            case Start():
                new = Run(f"new{turn}", "SUBMITTED", NOW + timedelta(seconds=turn))
                seen = replace(seen, runs=(*seen.runs, new))
                asked = replace(asked, started=asked.started | {new.id})
    assert isinstance(found, Done | Refuse)
    down = asked.action == "stop" or seen.mark is not None
    assert len(seen.live) == (0 if down or isinstance(found, Refuse) else 1)


def test_the_token_is_the_same_for_all_who_see_the_same_and_never_comes_again() -> None:
    history = [run(f"r{n}", "FAILED", 100 - n) for n in range(20)]
    tokens = []
    for length in range(len(history) + 1):
        seen = history[:length]
        found = {decide(BY_HAND, Seen(tuple(order)), STREAM) for order in (seen, seen[::-1])}
        assert len(found) == 1, "the order of the list does not matter"
        tokens.append(found.pop().token)
    assert len(set(tokens)) == len(tokens)
    assert client_token("other/stream", None) != tokens[0]
    assert all(len(token) == 64 for token in tokens)


LIMITS = Limits(timedelta(minutes=15), 1000)


def progress(minutes_ago: float, lag: object = 0, **more: object) -> Progress:
    said = {"at": (NOW - timedelta(minutes=minutes_ago)).isoformat(), "lag": lag, "batch_id": 7} | more
    return Progress.parse(json.dumps(said).encode())


@pytest.mark.parametrize(
    ("said", "runs", "codes"),
    [
        pytest.param(progress(1), [OLD], [], id="fresh"),
        pytest.param(progress(16), [OLD], ["STREAM_STALE"], id="stale"),
        pytest.param(progress(16, alive_at=NOW.isoformat()), [OLD], [], id="nothing to read for long"),
        pytest.param(progress(16, 1, alive_at=NOW.isoformat()), [OLD], ["STREAM_STALE"], id="it hangs"),
        pytest.param(progress(1, {"0": 600, "1": 401}), [OLD], ["STREAM_LAGS"], id="lag by partition"),
        pytest.param(progress(16), [YOUNG, CANCELLED], [], id="a new run after a stop has its time"),
        pytest.param(
            progress(16), [YOUNG, DEAD], ["STREAM_STALE"], id="a run that replaces a dead one has not"
        ),
        pytest.param(progress(1, 1001), [OLD], ["STREAM_LAGS"], id="behind"),
        pytest.param(progress(1, 1000), [OLD], [], id="at the limit"),
        pytest.param(progress(99, 1001), [OLD], ["STREAM_STALE", "STREAM_LAGS"], id="stale and behind"),
        pytest.param(None, [YOUNG], [], id="the first run has just begun"),
        pytest.param(None, [OLD], ["STREAM_STALE"], id="the first run has finished nothing"),
        pytest.param(None, [], ["STREAM_DOWN"], id="never ran"),
        pytest.param(progress(1), [DEAD], [], id="dead for a minute"),
        pytest.param(progress(30), [DEAD], ["STREAM_STALE"], id="dead for long"),
    ],
)
def test_freshness_and_lag(said: Progress | None, runs: list[Run], codes: list[str]) -> None:
    found = problems(said, runs, NOW, LIMITS)
    assert [one.code for one in found] == codes
    assert all(one.hint for one in found)


def test_a_lag_is_told_by_partition() -> None:
    said = progress(1, 2030, until={"0": 10, "1": 5, "10": 0}, latest={"0": 2010, "1": 15, "10": 20})
    (found,) = problems(said, [OLD], NOW, LIMITS)
    assert "2,030 records behind the topic (limit 1,000)" in found.text
    assert "0: 2,000, 1: 10, 10: 20" in found.text


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"at": 5, "lag": 1}', b'{"at": "yesterday", "lag": 1}']
)
def test_a_progress_that_makes_no_sense_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own is one too
        Progress.parse(body)


def test_terminal_exit_codes_are_those_of_the_operator() -> None:
    from common.emr import LIVE
    from common.exit_codes import TERMINAL

    for code, state in itertools.product([0, 1, 2, 10, 11, 20, 137], ["FAILED", "SUCCESS"]):
        expected = state == "FAILED" and code in TERMINAL
        assert run("x", state, details=f"Job failed. ExitCode: {code}. more").died_for_good == expected
    assert set(LIVE) == {state for state in (*LIVE, "CANCELLING", "FAILED") if run("x", state).live}
