"""Mutes that have ended are said: what they muted alarms again, or their line can go."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from dq_runner.model import Mute, Result, Rule, TableName
from dq_runner.rules.mutes import ended

DAY = date(2026, 11, 29)
NAME = TableName("SALES", "PUBLIC", "ORDERS")
RULE = Rule("unique", ("ID",))


def mute(until: date) -> Mute:
    return Mute("unique(ID)", "SALES.PUBLIC.*", "known", until)


def test_a_mute_holds_on_its_last_day() -> None:
    assert ended([], [mute(DAY)], DAY) == ()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("failed", "it fails and is not muted"),
        ("passed", "it does not fail; its line can go"),
        ("error", "its rule was not tested in this run"),
        ("skipped", "its rule was not tested in this run"),
    ],
)
def test_an_ended_mute_is_said(status: str, words: str) -> None:
    result = Result(NAME, RULE, status)  # type: ignore[arg-type]
    [note] = ended([result], [mute(DAY - timedelta(days=1))], DAY)
    assert note == f"the mute of unique(ID) on SALES.PUBLIC.* ended with 2026-11-28: {words}"


def test_of_a_rule_that_was_not_asked_nobody_says_that_it_holds() -> None:
    [note] = ended([], [mute(DAY - timedelta(days=1))], DAY)
    assert note.endswith("its rule was not tested in this run")
