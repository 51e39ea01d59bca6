"""A day against its table's past: what is found, what is let alone, and what cannot be judged."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_runner.anomalies import anomaly_results
from dq_runner.history import Series
from dq_runner.model import ColumnMeasure, Measures, Window
from dq_runner.robust import band, month_edge
from tests.services.dq_runner.simulated import (
    BARE,
    DAYS,
    NAME,
    SEASON,
    TABLE,
    history,
    judged,
    known,
    starts,
    volumes,
)

#: A Sunday.
DAY = date(2026, 11, 22)
VOLUME, FRESHNESS = "volume_anomaly", "freshness_anomaly"


def weekly(rows: int = 10_000) -> list[int]:
    """Eight weeks up to DAY with a little noise that is the same each time."""
    first = DAY - timedelta(days=56)
    return [
        round(rows * SEASON[(first + timedelta(days=n)).weekday()] * (1 + 0.02 * math.sin(n)))
        for n in range(56)
    ]


USUAL = round(10_000 * SEASON[6])


# Simulated series: the promises -----------------------------------------------------------------------------

SERIES = 120
HEAVY = ["heavy tails", "laplace"]
KINDS = [
    "quiet",
    "noisy",
    *HEAVY,
    "sluggish",
    "growing",
    "growing quiet",
    "shrinking",
    "month ends",
    "constant",
    "past incidents",
]


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float]]:
    """Shares of series in which a day was called an anomaly, by kind and by what was done to the day."""
    result = {}
    for seed, kind in enumerate(KINDS):
        random = np.random.default_rng(seed)
        first = starts(random, SERIES)
        counts = dict.fromkeys(("as it was", "zero", "halved"), 0)
        for begin, rows in zip(first, volumes(kind, random, first), strict=True):
            day = begin + timedelta(days=DAYS - 1)
            days = history(rows[:-1], day)
            last = int(rows[-1])
            for name, number in (("as it was", last), ("zero", 0), ("halved", last // 2)):
                counts[name] += judged(days, day, number, table=BARE)[VOLUME].status == "failed"
        result[kind] = {name: count / SERIES for name, count in counts.items()}
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_a_day_without_rows_is_found(found: dict[str, dict[str, float]], kind: str) -> None:
    assert found[kind]["zero"] >= 0.97


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "month ends"])
def test_a_halved_day_is_found(found: dict[str, dict[str, float]], kind: str) -> None:
    assert found[kind]["halved"] >= 0.97


def test_a_halved_day_is_found_but_for_month_ends_that_pass_for_a_usual_day(
    found: dict[str, dict[str, float]],
) -> None:
    assert found["month ends"]["halved"] >= 0.97 - 1 / 30


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HEAVY])
def test_false_alarms_are_few(found: dict[str, dict[str, float]], kind: str) -> None:
    assert found[kind]["as it was"] <= 0.03


@pytest.mark.parametrize("kind", HEAVY)
def test_false_alarms_are_few_with_heavy_tails(kind: str) -> None:
    """They are nearest to the limit: by more series."""
    random = np.random.default_rng(1)
    first = starts(random, 800)
    alarms = 0
    for begin, rows in zip(first, volumes(kind, random, first), strict=True):
        day = begin + timedelta(days=DAYS - 1)
        alarms += judged(history(rows[:-1], day), day, rows[-1], table=BARE)[VOLUME].status == "failed"
    assert alarms <= 24


@pytest.mark.parametrize("usual", [0.3, 1, 2, 5])
def test_a_table_of_a_few_rows_a_day_does_not_alarm_by_chance(usual: float) -> None:
    rows = np.random.default_rng(7).poisson(usual, (200, DAYS))
    alarms = [judged(history(line[:-1], DAY), DAY, line[-1], table=BARE)[VOLUME].status for line in rows]
    assert alarms.count("failed") <= 0.02 * len(rows)


# Words ------------------------------------------------------------------------------------------------------


def test_a_day_is_told_in_words() -> None:
    result = judged(history(weekly(), DAY), DAY, 1_204)[VOLUME]
    assert (result.status, result.observed, result.value) == ("failed", "1,204 rows", 1_204)
    assert result.expected == "2,902 to 4,198 on a Sunday (8 Sundays)"
    assert result.message == "fewer rows than expected"
    assert (result.rule.origin, result.rule.severity) == ("history", "warning")
    assert (result.sql, result.query_id) == ("SELECT 1", "01b2")


def test_more_rows_are_an_anomaly_too() -> None:
    result = judged(history(weekly(), DAY), DAY, 2 * USUAL)[VOLUME]
    assert (result.status, result.message) == ("failed", "more rows than expected")


@given(rows=st.integers(0, 20_000), past=st.lists(st.integers(0, 10**7), min_size=28, max_size=56))
@settings(max_examples=60)
def test_what_is_said_is_what_was_judged(rows: int, past: list[int]) -> None:
    result = judged(history(past, DAY), DAY, rows)[VOLUME]
    low, high = (int(number.replace(",", "")) for number in result.expected.split(" on ")[0].split(" to "))
    assert (result.status == "passed") == (low <= rows <= high)


@pytest.mark.parametrize(
    ("severity", "threshold", "status"), [("critical", 3.5, "failed"), ("warning", 9.0, "passed")]
)
def test_settings_count(severity: Any, threshold: float, status: str) -> None:
    days = history(weekly(), DAY)
    result = judged(days, DAY, round(0.7 * USUAL), severity=severity, threshold=threshold)[VOLUME]
    assert (result.rule.severity, result.status) == (severity, status)


# What cannot be judged --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weeks", [0, 1, 3])
def test_too_little_history_is_no_pass(weeks: int) -> None:
    result = judged(history(weekly()[56 - 7 * weeks :] if weeks else [], DAY), DAY, USUAL)[VOLUME]
    assert result.status == "no_history"
    assert result.message.startswith(f"{weeks} Sunday")
    assert "4 are needed" in result.message


def test_four_weeks_are_enough() -> None:
    days = history(weekly()[28:], DAY)
    assert judged(days, DAY, USUAL)[VOLUME].status == "passed"
    assert judged(days, DAY, 0)[VOLUME].status == "failed"


def test_a_weekday_that_is_measured_alone_is_enough() -> None:
    days = {day: each for day, each in history(weekly(), DAY).items() if day.weekday() == 6}
    assert judged(days, DAY, USUAL)[VOLUME].status == "passed"
    assert judged(days, DAY, 0)[VOLUME].status == "failed"


def test_days_that_were_not_measured_are_no_days_without_rows() -> None:
    days = history(weekly(), DAY)
    for weeks in (1, 3, 5, 6):
        del days[DAY - timedelta(weeks=weeks)]
    assert judged(days, DAY, USUAL)[VOLUME].expected.endswith("(4 Sundays)")
    assert judged(days, DAY, 0)[VOLUME].status == "failed"


def test_incidents_that_are_marked_are_left_out() -> None:
    rows = weekly()
    rows[28:] = [0] * 28
    days = history(rows, DAY)
    lost = {DAY - timedelta(days=number) for number in range(1, 29)}
    assert judged(days, DAY, 0)[VOLUME].status == "passed", "half of what is known is nothing"
    assert judged(days, DAY, 0, incidents=lost)[VOLUME].status == "failed"
    assert judged(days, DAY, USUAL, incidents=lost)[VOLUME].status == "passed"
    too_many = lost | {DAY - timedelta(weeks=5)}
    assert judged(days, DAY, USUAL, incidents=too_many)[VOLUME].status == "no_history"


def test_the_day_itself_and_later_ones_are_left_out() -> None:
    days = history(weekly(), DAY)
    expected = judged(days, DAY, 0)[VOLUME].expected
    days |= {DAY + timedelta(weeks=week): known(0) for week in range(8)}
    assert judged(days, DAY, 0)[VOLUME].expected == expected


def test_an_outage_that_nobody_marked_does_not_hide_the_next() -> None:
    rows = weekly()
    for sunday in (6, 20, 34):  # three of eight
        rows[sunday - 6 : sunday + 1] = [0] * 7
    days = history(rows, DAY)
    assert judged(days, DAY, 0)[VOLUME].status == "failed"
    assert judged(days, DAY, USUAL // 2)[VOLUME].status == "failed"
    assert judged(days, DAY, USUAL)[VOLUME].status == "passed"


@given(place=st.integers(0, 55), rows=st.integers(0, 10**9))
@settings(max_examples=40)
def test_one_day_whatever_it_was_changes_no_verdict(place: int, rows: int) -> None:
    past = weekly()
    past[place] = rows
    days = history(past, DAY)
    assert judged(days, DAY, USUAL)[VOLUME].status == "passed"
    assert judged(days, DAY, USUAL // 2)[VOLUME].status == "failed"
    assert judged(days, DAY, USUAL * 2)[VOLUME].status == "failed"


def test_a_weekday_without_rows_is_expected_to_have_none() -> None:
    rows = [0 if (DAY - timedelta(days=56 - n)).weekday() == 6 else 5_000 for n in range(56)]
    days = history(rows, DAY)
    assert judged(days, DAY, 0, None)[VOLUME].status == "passed"
    assert judged(days, DAY, 0, None)[FRESHNESS].status == "passed"
    assert judged(days, DAY, 3)[VOLUME].status == "passed"
    assert judged(days, DAY, 5_000)[VOLUME].status == "failed"
    assert (
        judged(history(rows, DAY - timedelta(days=7)), DAY - timedelta(days=8), 0, None)[VOLUME].status
        == "failed"
    )


@pytest.mark.parametrize(
    ("rows", "status"), [(1_000, "passed"), (1_100, "passed"), (800, "failed"), (1_250, "failed")]
)
def test_a_table_that_is_always_the_same_may_change_a_little(rows: int, status: str) -> None:
    assert judged(history([1_000] * 56, DAY), DAY, rows)[VOLUME].status == status


def test_a_month_end_may_have_what_the_one_before_had() -> None:
    day = date(2026, 11, 30)
    rows = [10_000] * 56
    assert judged(history(rows, day), day, 25_000)[VOLUME].status == "failed"
    rows[-30] = 25_000  # 31 October
    assert judged(history(rows, day), day, 25_000)[VOLUME].status == "passed"
    assert judged(history(rows, day), day, 10_000)[VOLUME].status == "passed"
    assert judged(history(rows, day), day, 60_000)[VOLUME].status == "failed"
    assert judged(history(rows, day), day, 0)[VOLUME].status == "failed"
    yesterday = day - timedelta(days=5)
    assert judged(history(rows, yesterday), yesterday, 25_000)[VOLUME].status == "failed"


@pytest.mark.parametrize(
    ("day", "edge"),
    [
        (date(2026, 11, 30), "last"),
        (date(2026, 10, 31), "last"),  # a Saturday
        (date(2026, 10, 30), "last"),
        (date(2026, 10, 29), ""),
        (date(2026, 11, 1), "first"),  # a Sunday
        (date(2026, 11, 2), "first"),
        (date(2026, 11, 3), ""),
        (date(2026, 2, 28), "last"),
        (date(2027, 1, 1), "first"),
    ],
)
def test_edges_of_months(day: date, edge: str) -> None:
    assert month_edge(day.toordinal()) == edge


@given(
    st.dictionaries(st.integers(738_000, 738_055), st.floats(-50, 50), min_size=1),
    st.floats(0.001, 1),
    st.floats(0.1, 10),
)
def test_a_band_is_there_whatever_the_past_was(past: dict[int, float], floor: float, width: float) -> None:
    day = min(past) + 7 * 9
    found = band(past, day, width=width, floor=floor, noise=lambda level: 0.0)
    assert found.low < found.high
    assert found.days >= 1


# Freshness --------------------------------------------------------------------------------------------------


def fresh(lags: list[float], lag: float | None, rows: int = 1_000) -> Any:
    days = {DAY - timedelta(days=n + 1): known(rows, each) for n, each in enumerate(lags)}
    return judged(days, DAY, rows if lag is not None else 0, lag)[FRESHNESS]


def test_a_table_that_stopped_in_the_afternoon_is_found() -> None:
    result = fresh([60.0, 90.0, 30.0, 75.0] * 14, 10 * 3600.0)
    assert result.status == "failed"
    assert result.observed == "newest row 10 h before the end of the window"
    assert result.expected == "at most 61 min on a Sunday (8 Sundays)"
    assert result.value == 10
    assert fresh([60.0] * 56, 45 * 60.0).status == "passed", "less than an hour is not late"


def test_rows_that_come_in_earlier_than_usual_are_fresh() -> None:
    assert fresh([12 * 3600.0] * 56, 0.0).status == "passed"


def test_a_day_without_rows_is_not_fresh() -> None:
    result = fresh([60.0] * 56, None)
    assert (result.status, result.observed, result.value) == ("failed", "no row in the window", 24)


def test_a_table_of_a_few_rows_a_day_is_late_by_chance() -> None:
    random = np.random.default_rng(5)
    statuses = [
        fresh(
            list(np.minimum(86_400, random.exponential(86_400 / 6, 56))), random.exponential(86_400 / 6), 5
        ).status
        for _ in range(200)
    ]
    assert statuses.count("failed") <= 4


def test_a_table_without_a_date_has_no_freshness() -> None:
    at = datetime(2026, 11, 29, 6, tzinfo=UTC)
    found = anomaly_results(BARE, Measures(NAME, Window(), 10), Series(), at)
    assert [each.rule.kind for each in found] == ["volume_anomaly"]


def test_a_whole_table_is_compared_with_whole_tables_alone() -> None:
    at = datetime(2026, 11, 23, 6, tzinfo=UTC)
    windows = history(weekly(), DAY)
    wholes = {day: each.model_copy(update={"rows": 5_000_000, "span": None}) for day, each in windows.items()}
    series = Series({(NAME, 86_400): windows, (NAME, None): wholes})
    measures = Measures(NAME, Window(), 5_100_000, at - timedelta(minutes=1))
    volume, freshness = anomaly_results(TABLE, measures, series, at)
    assert (volume.status, freshness.status) == ("passed", "passed")
    assert freshness.observed == "newest row 1 min before the run"
    emptied, unknown = anomaly_results(TABLE, Measures(NAME, Window(), 0), series, at)
    assert (emptied.status, unknown.status) == ("failed", "skipped")


# Shares -----------------------------------------------------------------------------------------------------


def share(
    past: tuple[int, int], now: tuple[int, int | None], rows: int = 1_000, past_rows: int = 1_000
) -> Any:
    days = {DAY - timedelta(days=n): known(past_rows, 60.0, {"C": past}) for n in range(1, 57)}
    return judged(days, DAY, rows, 60.0, {"C": now})


@pytest.mark.parametrize(
    ("past", "now", "status"),
    [
        (0, 0, "passed"),
        (0, 20, "passed"),
        (0, 50, "failed"),
        (0, 1_000, "failed"),
        (1_000, 1_000, "passed"),
        (1_000, 950, "failed"),
        (300, 350, "passed"),
        (300, 600, "failed"),
        (300, 0, "failed"),
    ],
)
def test_null_shares(past: int, now: int, status: str) -> None:
    assert share((past, None), (now, None))["null_share_anomaly(C)"].status == status


def test_shares_are_told_in_words() -> None:
    result = share((0, 10), (250, 10))["null_share_anomaly(C)"]
    assert (result.observed, result.value) == ("25% null", 0.25)
    assert result.expected == "at most 3.33% on a Sunday (8 Sundays)"
    assert result.message == "a larger share than expected"
    keys = share((0, 1_000), (0, 500))["distinct_share_anomaly(C)"]
    assert (keys.status, keys.observed) == ("failed", "50% different values")
    assert keys.expected == "at least 96.67% on a Sunday (8 Sundays)"


def test_different_values_are_a_share_of_the_rows_that_have_one() -> None:
    assert share((0, 1_000), (20, 980))["distinct_share_anomaly(C)"].status == "passed"


def test_what_is_not_counted_is_not_judged() -> None:
    assert "distinct_share_anomaly(C)" not in share((0, None), (0, None))


@pytest.mark.parametrize(("rows", "now"), [(0, (0, 0)), (5, (5, 0))])
def test_a_share_of_nothing_is_none(rows: int, now: tuple[int, int]) -> None:
    result = share((0, 10), now, rows)["distinct_share_anomaly(C)"]
    assert (result.status, result.value) == ("skipped", None)


def test_a_new_column_has_no_history_and_the_others_have() -> None:
    days = {DAY - timedelta(days=n): known(100, 60.0, {"OLD": (0, 5)}) for n in range(1, 57)}
    found = judged(days, DAY, 100, 60.0, {"OLD": (0, 5), "NEW": (100, 0)})
    assert found["null_share_anomaly(NEW)"].status == "no_history"
    assert (
        found["null_share_anomaly(NEW)"].message
        == "0 Sundays measured before this one, 4 are needed to judge"
    )
    assert found["null_share_anomaly(OLD)"].status == "passed"


@pytest.mark.parametrize("rows", [3, 30, 3_000])
def test_chance_raises_no_alarm_of_shares(rows: int) -> None:
    random = np.random.default_rng(rows)
    alarms = 0
    for _ in range(100):
        part = random.uniform(0, 0.6)
        nulls = random.binomial(rows, part, DAYS)
        days = {
            DAY - timedelta(days=n): known(rows, 60.0, {"C": (int(nulls[n]), None)}) for n in range(1, DAYS)
        }
        found = judged(days, DAY, rows, 60.0, {"C": (int(nulls[0]), None)})
        alarms += found["null_share_anomaly(C)"].status == "failed"
    assert alarms <= 1


def test_more_values_than_rows_are_all_of_them() -> None:
    """An approximate count of different values may exceed the rows."""
    assert share((0, 1_020), (0, 1_030))["distinct_share_anomaly(C)"].status == "passed"


def test_hostile_column_names_are_names() -> None:
    name = 'a"; DROP.größe\n'
    days = {DAY - timedelta(days=n): known(100, 60.0, {name: (0, 5)}) for n in range(1, 57)}
    found = judged(days, DAY, 100, 60.0, {name: (0, 5)})
    assert found[f"null_share_anomaly({name})"].rule.columns == (name,)


def test_the_order_of_results_is_that_of_columns() -> None:
    columns = {name: ColumnMeasure(0, 1) for name in "BCA"}
    at = datetime(2026, 11, 29, 6, tzinfo=UTC)
    found = anomaly_results(TABLE, Measures(NAME, Window(), 10, None, columns), Series(), at)
    assert [each.rule.columns for each in found[2:]] == [("A",), ("A",), ("B",), ("B",), ("C",), ("C",)]
