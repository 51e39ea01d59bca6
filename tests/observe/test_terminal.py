"""What sources send is shown on a terminal, never obeyed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.observe.terminal import harmless, say


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    assert harmless(text).isprintable()
    assert harmless(harmless(text)) == harmless(text)


def test_letters_stay_and_lines_stay(capsys: pytest.CaptureFixture[str]) -> None:
    say("key ü漢 'x\x1b]0;title\x07\x9b2J'\n  \u202egnp.exe\r")
    assert capsys.readouterr().out == "key ü漢 'x\\x1b]0;title\\x07\\x9b2J'\n  \\u202egnp.exe\\r\n"
