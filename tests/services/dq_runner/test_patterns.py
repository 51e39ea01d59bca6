"""Patterns of names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq_runner.model import TableName
from dq_runner.patterns import matches, matches_table, parts

NAMES = st.text(min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_a_quoted_name_means_itself_alone(names: list[str]) -> None:
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    found = parts(".".join(quoted))
    assert list(found) == quoted
    assert all(matches(part, name) for part, name in zip(found, names, strict=True))
    assert not any(matches(part, name + "x") for part, name in zip(found, names, strict=True))


@given(NAMES)
def test_a_star_means_every_name(name: str) -> None:
    assert matches("*", name)
    assert matches_table("*.*.*", TableName(name, name, name))


@given(st.text(alphabet="aA*?[.^$\\", min_size=1, max_size=6).filter(lambda text: "." not in text), NAMES)
def test_only_stars_and_question_marks_are_more_than_themselves(pattern: str, name: str) -> None:
    wanted = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern)
    assert matches(pattern, name) == bool(re.fullmatch(wanted, name, re.IGNORECASE | re.DOTALL))


def test_many_stars_take_no_time() -> None:
    assert not matches("*a" * 30 + "*b", "a" * 255)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"a', 'a"b', '""', '"a"b'])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names with dots"):
        parts(text)
