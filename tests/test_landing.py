"""Names of a landing: what a source calls its fields never meets what we call ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.landing import MALFORMED_FIELD, POSITION, SURPLUS_FIELD, column_names, field_name

OURS = (POSITION, MALFORMED_FIELD, SURPLUS_FIELD)
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
        ("_position", "__position"),
        ("_POSITION", "__POSITION"),
        ("__position", "___position"),
        ("_poſition", "__poſition"),  # Java's equalsIgnoreCase knows it for an s
        ("_malformed", "__malformed"),
        ("_Surplus", "__Surplus"),
        ("my_position", "my_position"),
        ("file", "_file"),
        ("_LINE", "__LINE"),
    ],
)
def test_a_name_that_would_meet_ours_gets_one_more_underscore(name: str, landed: str) -> None:
    assert field_name(name, own=("file", "line")) == landed


@given(NAMES, NAMES)
def test_no_field_meets_ours_or_another(one: str, other: str) -> None:
    own = ("file", "line")
    assert field_name(one, own).casefold() not in {*OURS, *own}
    assert (field_name(one, own) == field_name(other, own)) == (one == other)


@given(st.lists(NAMES, unique=True, max_size=8))
def test_columns_differ_by_more_than_case(names: list[str]) -> None:
    landed = column_names(names)
    folded = [name.casefold() for name in landed]
    assert len(set(folded)) == len(names)
    assert not set(folded) & set(OURS)
    capitals = {name for name in names if name == name.upper()}
    assert all(new == field_name(name) for name, new in zip(names, landed, strict=True) if name in capitals)


def test_a_name_in_capitals_stays_whatever_comes_before_it() -> None:
    assert column_names(["amount", "Amount", "AMOUNT", "AMOUNT_2"]) == [
        "amount_3",
        "Amount_4",
        "AMOUNT",
        "AMOUNT_2",
    ]
