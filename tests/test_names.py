"""Names of a landing: what a source calls its fields never meets what we call ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.names import OWN, column_names, landed_name

PARTS = (
    "_",
    "position",
    "malformed",
    "surplus",
    "file",
    "line",
    "A",
    "a",
    "ſ",
    "_2",
    "%",
    ".",
    '"',
    " ",
    "É",
)
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join)


@pytest.mark.parametrize(
    ("name", "landed"),
    [
        ("AMOUNT", "AMOUNT"),
        ("DISCOUNT %", "DISCOUNT %"),
        ("position", "position"),
        ("__position", "__position"),
        ("_position", "source:_position"),
        ("_POSITION", "source:_POSITION"),
        ("_poſition", "source:_poſition"),  # Java's equalsIgnoreCase knows it for an s
        ("_Landed_At", "source:_Landed_At"),
        ("source:_position", "source:source:_position"),
        ("SOURCE:x", "source:SOURCE:x"),
        ("my_position", "my_position"),
        ("File", "source:File"),
    ],
)
def test_a_name_that_would_meet_ours_is_told_from_it(name: str, landed: str) -> None:
    assert landed_name(name, own=("file", "line")) == landed


@given(NAMES, NAMES)
def test_no_field_meets_ours_or_another(one: str, other: str) -> None:
    own = ("file", "line")
    assert landed_name(one, own).casefold() not in {*OWN, *own}
    assert (landed_name(one, own) == landed_name(other, own)) == (one == other)


@given(st.lists(NAMES, unique=True, max_size=8))
def test_columns_differ_by_more_than_case(names: list[str]) -> None:
    landed = column_names(names)
    folded = [name.casefold() for name in landed]
    assert len(set(folded)) == len(names)
    assert not set(folded) & OWN
    capitals = {name for name in names if name == name.upper()}
    assert all(new == landed_name(name) for name, new in zip(names, landed, strict=True) if name in capitals)


def test_a_name_in_capitals_stays_whatever_comes_before_it() -> None:
    assert column_names(["amount", "Amount", "AMOUNT", "AMOUNT_2"]) == [
        "amount_3",
        "Amount_4",
        "AMOUNT",
        "AMOUNT_2",
    ]
