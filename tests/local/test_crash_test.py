"""The crash test's comparison finds what a job that is not idempotent would leave."""

from __future__ import annotations

from collections import Counter

import pytest

from local.crash_test import Table, compare, tasks_of
from local.days import killed_at

COLUMNS = (("amount", "decimal128(18, 2)"), ("order_id", "string"))


def table(*rows: tuple[str, str], columns: tuple[tuple[str, str], ...] = COLUMNS) -> dict[str, Table]:
    return {"silver.orders": Table(columns, ("order_id",), Counter(rows))}


WHOLE = table(("1", "a"), ("2", "b"))


def test_lakes_that_agree_have_no_difference() -> None:
    result = compare(WHOLE, table(("2", "b"), ("1", "a")))
    assert (result.rows, result.lines) == (2, [])


@pytest.mark.parametrize(
    ("found", "counts", "line"),
    [
        pytest.param(table(("1", "a")), (1, 0, 0), "silver.orders order_id=b: lost", id="lost"),
        pytest.param(
            table(("1", "a"), ("2", "b"), ("2", "b")),
            (0, 1, 0),
            "silver.orders order_id=b: once more than expected",
            id="doubled",
        ),
        pytest.param(
            table(("1", "a"), ("3", "b")),
            (0, 0, 1),
            "silver.orders order_id=b: amount 3, expected 2",
            id="changed",
        ),
        pytest.param(
            table(("1", "a"), ("2", "b"), columns=(("amount", "double"), ("order_id", "string"))),
            (0, 0, 1),
            "silver.orders: columns (('amount', 'double'), ('order_id', 'string')), expected "
            "(('amount', 'decimal128(18, 2)'), ('order_id', 'string'))",
            id="schema",
        ),
    ],
)
def test_a_difference_is_counted_and_named_by_its_key(
    found: dict[str, Table], counts: tuple[int, int, int], line: str
) -> None:
    result = compare(WHOLE, found)
    assert (result.lost, result.doubled, result.changed) == counts
    assert result.lines == [line]


def test_the_jobs_of_a_day_have_entry_points_and_run_ids_of_that_day() -> None:
    for day in (1, 9):
        tasks = list(tasks_of(day))
        assert len({(task.job, task.run) for task in tasks}) == len(tasks)
        assert {task.run[:8] for task in tasks} == {f"202611{day:02d}"}


def test_what_was_killed_does_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse import store

    done: list[str] = []
    monkeypatch.setattr(store, "put", lambda uri, body: done.append(uri))
    with killed_at(2) as kill:
        store.put("s3://lake/a", b"")
        try:
            store.put("s3://lake/b", b"")
        finally:
            store.put("s3://lake/c", b"")
    assert done == ["s3://lake/a"]
    assert kill.where == "before b is put"
    with killed_at(99) as kill:
        store.put("s3://lake/d", b"")
    assert (kill.steps, kill.where) == (2, None)
