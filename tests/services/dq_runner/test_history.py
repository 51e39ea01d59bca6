"""What earlier runs measured: small objects, read side by side; what cannot be read is said and left out."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_runner import history
from dq_runner.model import ColumnMeasure, Measures, TableName, Window
from lakehouse import store

DAY = date(2026, 11, 28)
AT = datetime(2026, 11, 29, 6, tzinfo=UTC)
NAME = TableName("SALES", "PUBLIC", "ORDERS")


@pytest.fixture
def bucket(lake: str) -> str:
    return lake.removeprefix("s3://")


def window(day: date) -> Window:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Window(start, start + timedelta(days=1))


def measures(rows: int, day: date = DAY, name: TableName = NAME, **more: Any) -> Measures:
    return Measures(name, window(day), rows, **more)


def write(bucket: str, run_id: str, *given: Measures, at: datetime = AT) -> None:
    history.write(bucket, run_id, at, given)


def rows_of(bucket: str, before: date = DAY + timedelta(days=1), name: TableName = NAME) -> dict[date, int]:
    found = history.past(bucket, before)
    assert found.notes == ()
    return {day: each.rows for day, each in found.of(name, 86_400).items()}


def test_what_was_measured_comes_back(bucket: str) -> None:
    newest = datetime(2026, 11, 28, 23, 59, 30, 500_000, tzinfo=UTC)
    columns = {"ID": ColumnMeasure(0, 5), 'größe "x"': ColumnMeasure(2, None)}
    write(bucket, "run-1", measures(5, newest=newest, columns=columns, sql="SELECT 'x'", query_id="q"))

    [day] = history.past(bucket, DAY + timedelta(days=1)).of(NAME, 86_400).values()
    assert (day.rows, day.lag, day.columns) == (5, 29.5, {"ID": (0, 5), 'größe "x"': (2, None)})
    body = store.get(f"s3://{bucket}/reports/measures/2026-11-28/run-1.json")
    assert body is not None
    assert b"SELECT" not in body, "history has numbers and names"


def test_a_day_without_rows_is_there_and_a_day_that_was_not_measured_is_not(bucket: str) -> None:
    write(bucket, "run-1", measures(0))
    write(bucket, "run-2", measures(7, name=TableName("A", "B", "C"), day=DAY - timedelta(days=1)))
    assert rows_of(bucket) == {DAY: 0}


@pytest.mark.parametrize(("before", "known"), [(0, False), (1, True), (56, True), (57, False)])
def test_the_days_are_those_of_the_weeks_before(bucket: str, before: int, known: bool) -> None:
    write(bucket, "run-1", measures(5))
    assert bool(rows_of(bucket, DAY + timedelta(days=before))) is known


def test_a_day_that_was_measured_twice_is_as_the_later_run_found_it(bucket: str) -> None:
    """Later by its start, table by table, whatever the ids are."""
    other = TableName("SALES", "PUBLIC", "ITEMS")
    write(bucket, "z-first", measures(5), measures(50, name=other))
    write(bucket, "a-second", measures(6), at=AT + timedelta(days=3))
    assert rows_of(bucket) == {DAY: 6}
    assert rows_of(bucket, name=other) == {DAY: 50}


def test_another_try_of_a_run_replaces_what_the_first_wrote(bucket: str) -> None:
    write(bucket, "run-1", measures(5))
    write(bucket, "run-1", measures(6))
    assert rows_of(bucket) == {DAY: 6}


def test_windows_of_another_length_and_whole_tables_are_other_series(bucket: str) -> None:
    week = Window(datetime(2026, 11, 28, tzinfo=UTC), datetime(2026, 12, 5, tzinfo=UTC))
    whole = Measures(NAME, Window(), 500, AT - timedelta(hours=2))
    write(bucket, "run-1", measures(5), Measures(NAME, week, 40), whole)
    found = history.past(bucket, DAY + timedelta(days=1))
    assert {span: found.of(NAME, span)[DAY].rows for span in (86_400, 7 * 86_400, None)} == {
        86_400: 5,
        7 * 86_400: 40,
        None: 500,
    }
    assert found.of(NAME, None)[DAY].lag == 7200


def test_a_newest_row_of_the_future_is_no_lag(bucket: str) -> None:
    assert history.measured(Measures(NAME, Window(), 1, AT + timedelta(days=9)), AT).lag == 0


def test_a_run_that_measured_nothing_leaves_nothing(bucket: str) -> None:
    write(bucket, "run-1")
    assert list(store.keys(f"s3://{bucket}/")) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\x00",
        b"[]",
        b'{"schema":"dq-measures/2","run_id":"x","started_at":"2026-11-29T06:00:00Z","day":"2026-11-27","tables":[]}',
        b'{"schema":"dq-measures/1","run_id":"x","started_at":"2026-11-29T06:00:00Z","day":"2026-11-20","tables":[]}',
        b'{"schema":"dq-measures/1","run_id":"x","started_at":"2026-11-29T06:00:00Z","day":"2026-11-27",'
        b'"tables":[{"table":["A","B","C"],"span":86400,"rows":-1,"lag":0,"columns":{}}]}',
    ],
    ids=["empty", "cut", "bytes", "list", "other version", "other day", "negative"],
)
def test_an_object_that_is_no_measure_is_said_and_left_out(bucket: str, body: bytes) -> None:
    write(bucket, "run-1", measures(5))
    store.put(f"s3://{bucket}/reports/measures/2026-11-27/bad.json", body)
    found = history.past(bucket, DAY + timedelta(days=1))
    assert {day: each.rows for day, each in found.of(NAME, 86_400).items()} == {DAY: 5}
    [note] = found.notes
    assert f"s3://{bucket}/reports/measures/2026-11-27/bad.json is left out: received" in note


def test_keys_of_another_form_are_nobody_s(bucket: str) -> None:
    for key in ("2026-11-27/x.txt", "2026-11-xx/run.json", "2026-11-27.json"):
        store.put(f"s3://{bucket}/reports/measures/{key}", b"?")
    assert history.past(bucket, DAY) == history.Series()


def test_what_is_gone_between_the_list_and_the_read_is_left_out(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bucket, "run-1", measures(5))
    uri = f"s3://{bucket}/reports/measures/2026-11-27/gone.json"
    listed = store.keys
    monkeypatch.setattr(store, "keys", lambda prefix: [*listed(prefix), uri])
    assert rows_of(bucket) == {DAY: 5}


def test_eight_weeks_are_few_requests(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        write(bucket, f"run-{number}", measures(number, DAY - timedelta(days=number)))
    asked: Counter[str] = Counter()
    client = store.client()
    client.meta.events.register("before-call.s3", lambda model, **_: asked.update([model.name]))
    assert len(rows_of(bucket)) == 56
    assert asked == {"ListObjectsV2": 2, "GetObject": 56}


def test_three_hundred_tables_of_thirty_columns_are_small() -> None:
    columns = {f"COLUMN_{number}": ColumnMeasure(number, 10 * number) for number in range(30)}
    days = tuple(
        history.measured(measures(5, name=TableName("SALES", "PUBLIC", f"T{number}"), columns=columns), AT)
        for number in range(300)
    )
    body = history.Measured(run_id="x", started_at=AT, day=DAY, tables=days).model_dump_json(by_alias=True)
    assert len(body) < 300_000


names = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20)


@given(
    names, names, st.dictionaries(names, st.tuples(st.integers(0, 2**53), st.none() | st.integers(0, 2**53)))
)
@settings(max_examples=50)
def test_names_of_any_kind_come_back(
    schema: str, name: str, columns: dict[str, tuple[int, int | None]]
) -> None:
    table = TableName('a"b', schema, name)
    given = {each: ColumnMeasure(*value) for each, value in columns.items()}
    day = history.measured(measures(1, name=table, columns=given), AT)
    written = history.Measured(run_id="x", started_at=AT, day=DAY, tables=(day,)).model_dump_json(
        by_alias=True
    )
    [back] = history.Measured.model_validate_json(written).tables
    assert (back.name, back.columns) == (table, columns)
