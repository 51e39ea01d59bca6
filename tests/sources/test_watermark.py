"""The watermark that a run sets: no record lost, none from the future followed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.sources.watermark import Watermark, parse_time, window_end

UTC_TIMES = st.datetimes(timezones=st.just(UTC))


@given(newest=st.none() | UTC_TIMES, before=st.none() | UTC_TIMES, run=UTC_TIMES)
def test_the_end_of_a_window(newest: datetime | None, before: datetime | None, run: datetime) -> None:
    end = window_end(newest, Watermark(before), run)

    if before is not None:
        assert end is not None
        assert end >= before
    if end is not None and end != before:
        assert newest is not None
        assert end <= min(newest, run)
    if newest is None:
        assert end == before


def test_since() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)

    assert Watermark().since(timedelta(minutes=10)) is None
    assert Watermark(datetime(1, 1, 1, tzinfo=UTC)).since(timedelta(minutes=10)) is None
    assert Watermark(at).since(timedelta(minutes=10)) == at - timedelta(minutes=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05.678Z", datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)),
        ("2026-01-02T03:04:05.000+0000", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_times_as_sources_write_them(text: object, expected: datetime | None) -> None:
    assert parse_time(text) == expected
