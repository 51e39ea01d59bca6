"""When a rewrite pays: arithmetic on the statistics of files, without Spark."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.delta.layout import FileFact, Sizes, decide, depth

SIZES = Sizes(target=1000, small=250, least=4)
KEY = ("k",)


def file(size: int, low: int = 0, high: int = 100, day: str | None = "a") -> FileFact:
    return FileFact(f"{day}/{size}-{low}", (("day", day),), size, {"k": (low, high)})


def one(*files: FileFact, by: tuple[str, ...] = KEY, force: bool = False) -> tuple[str, str]:
    (decision,) = decide(files, by, sizes=SIZES, force=force)
    return decision.action, decision.reason


def test_enough_small_files_are_put_together() -> None:
    assert one(*[file(10)] * 4) == ("compact", "4 small files can be 1")
    assert one(*[file(10)] * 3)[0] == "leave"
    assert one(*[file(10)] * 4, file(900), by=())[0] == "compact"


def test_small_files_that_would_stay_as_many_are_left() -> None:
    sizes = Sizes(target=300, small=250, least=4)
    (decision,) = decide([file(240)] * 5, (), sizes=sizes)
    assert (decision.action, decision.reason) == ("leave", "5 small files of 5, no column to order by")


def test_order_is_made_where_files_overlap_and_one_file_cannot_hold_them() -> None:
    action, reason = one(*[file(400)] * 4)
    assert action == "zorder"
    assert reason == "a look-up meets 4.0 of 4 files, in order it would meet 1.0"
    assert one(*[file(400)] * 2)[0] == "leave", "one target file holds them"
    assert one(*[file(400)] * 4, by=())[0] == "leave", "the contract names no columns"


def test_files_in_order_are_left() -> None:
    files = [file(400, low, low + 9) for low in range(0, 100, 10)]
    assert one(*files) == ("leave", "0 small files of 10, already in order")


def test_with_two_columns_order_in_each_is_worth_less() -> None:
    # Four files as four quadrants: as good as Z-order gets, although each column alone overlaps.
    quadrants = [
        FileFact(f"{x}{y}", (), 400, {"x": (x, x + 9), "y": (y, y + 9)}) for x in (0, 10) for y in (0, 10)
    ]
    assert depth(quadrants, ("x", "y")) == 2
    (decision,) = decide(quadrants, ("x", "y"), sizes=SIZES)
    assert decision.action == "leave"


def test_a_file_without_statistics_is_no_reason() -> None:
    assert depth([FileFact("a", (), 1, {})], KEY) == 1
    assert depth([FileFact("a", (), 1, {}), file(1)], KEY) == 1


def test_force_rewrites_what_may_be_touched() -> None:
    assert one(file(900, 0, 1), force=True) == ("zorder", "forced")
    assert one(file(900, 0, 1), by=(), force=True) == ("compact", "forced")


def test_partitions_are_decided_by_themselves() -> None:
    files = [*[file(10, day="b")] * 5, file(10, day=None), *[file(400, day="c")] * 4]
    found = decide(files, KEY, sizes=SIZES)
    assert [(each.partition[0][1], each.action) for each in found] == [
        (None, "leave"),
        ("b", "compact"),
        ("c", "zorder"),
    ]


facts = st.lists(
    st.builds(
        lambda size, low, width, day: file(size, low, low + width, day),
        st.integers(1, 2000),
        st.integers(0, 50),
        st.integers(0, 50),
        st.sampled_from([None, "a", "b", "c"]),
    ),
    max_size=30,
)


@given(facts, st.booleans(), st.sampled_from([(), KEY]))
def test_whatever_the_files(files: list[FileFact], force: bool, by: tuple[str, ...]) -> None:
    found = decide(files, by, sizes=SIZES, is_left_alone=lambda each: each[0][1] == "b", force=force)

    assert {each.partition for each in found} == {each.partition for each in files}
    assert len(found) == len({each.partition for each in files})
    assert (
        decide(files[::-1], by, sizes=SIZES, is_left_alone=lambda each: each[0][1] == "b", force=force)
        == found
    )
    for each in found:
        own = [one for one in files if one.partition == each.partition]
        if each.partition[0][1] == "b":
            assert each.action == "leave"
        elif force:
            assert each.action == ("zorder" if by else "compact")
        elif each.action == "compact":
            small = [one for one in own if one.bytes < SIZES.small]
            assert len(small) >= SIZES.least
            assert -(-sum(one.bytes for one in small) // SIZES.target) * 2 <= len(small)
        elif each.action == "zorder":
            assert by
            assert sum(one.bytes for one in own) > SIZES.target
            assert depth(own, by) > 1.5


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20))
def test_depth_counts_the_files_that_hold_a_value(ranges: list[tuple[int, int]]) -> None:
    files = [file(1, low, low + width) for low, width in ranges]
    met = [sum(low <= value <= low + width for low, width in ranges) for value, _ in ranges]
    assert abs(depth(files, KEY) - sum(met) / len(met)) < 1e-9
