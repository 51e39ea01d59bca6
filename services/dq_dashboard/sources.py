"""What was read, kept for all sessions: a minute where it went well, seconds where it did not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Generic, TypeVar, cast

import streamlit as st

from dq_dashboard import loading
from dq_dashboard.findings import Finding
from dq_dashboard.loading import Lake, Point, Runner
from dq_dashboard.reading import Earlier, Past, Reading
from dq_dashboard.storage import DEADLINE, S3, Storage, Stored, in_time
from lakehouse.errors import ConfigError, LakehouseError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

SECONDS = 60
#: A failing read is tried again soon, but not by every click of every reader.
SECONDS_FAILED = 5
#: What of the past does not change, and takes many reads.
SECONDS_PAST = 600
#: A trend reads some hundred objects.
DEADLINE_PAST = 3 * DEADLINE


# cache_resource, as all of it is frozen: cache_data would copy up to 16,000 findings at each click.
def _cached(*, ttl: int, max_entries: int) -> Callable[[F], F]:
    return cast("Callable[[F], F]", st.cache_resource(ttl=ttl, max_entries=max_entries, show_spinner=False))


@st.cache_resource(show_spinner=False)
def storage() -> Storage:
    """One client for all sessions."""
    return S3()


def bucket(variable: str) -> str:
    """Raises ConfigError where the environment does not name it."""
    name = os.environ.get(variable, "")
    if not name:
        raise ConfigError(
            f"{variable}: received no value, expected the name of a bucket",
            hint=f"Set {variable} in the environment of the dashboard and start it again.",
        )
    return name


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What was read, and what went wrong: both, where an earlier answer stands in for a failing read."""

    part: T | None
    error: LakehouseError | None = None


@dataclass(frozen=True)
class Read:
    """Both sources. A runner without part and error: it never reported, or not on that day."""

    runner: Outcome[Runner]
    lake: Outcome[Lake]


@_cached(ttl=SECONDS_FAILED, max_entries=20)
def read(day: date | None) -> Read:
    """What there is of a day (None: the latest), from S3 at most a minute ago."""
    found: dict[str, Any] = in_time(_calls(day))
    return Read(_kept("runner", day, found["runner"]), _kept("lake", day, found["lake"]))


def _calls(day: date | None) -> dict[str, Callable[[], Any]]:
    return {"runner": partial(_runner, day), "lake": partial(_lake, day)}


def _kept(name: str, day: date | None, found: Any) -> Outcome[Any]:
    """The latest answer stays for as long as S3 gives no other; those of earlier days do not, they would pile up."""
    if isinstance(found, LakehouseError):
        return Outcome(_last().get(name) if day is None else None, found)
    if day is None:
        _last()[name] = found
    return Outcome(found)


@st.cache_resource(show_spinner=False)
def _last() -> dict[str, Any]:
    return {}


@_cached(ttl=SECONDS, max_entries=4)
def _runner(day: date | None) -> Runner | None:
    return loading.runner(storage(), bucket("S3_DQ_REPORTS_BUCKET"), day, datetime.now(UTC))


@_cached(ttl=SECONDS, max_entries=4)
def _lake(day: date | None) -> Lake:
    return loading.lake(storage(), bucket("LAKE_BUCKET"), day, datetime.now(UTC))


@_cached(ttl=SECONDS_PAST, max_entries=4)
def trend(runs: tuple[Stored, ...]) -> tuple[list[Point], list[str]]:
    """Health over the last days, and what could not be read of it."""

    def of_runner() -> list[Point]:
        return loading.runner_trend(storage(), bucket("S3_DQ_REPORTS_BUCKET"), runs)

    def of_lake() -> list[Point]:
        return loading.lake_trend(storage(), bucket("LAKE_BUCKET"), datetime.now(UTC))

    found = in_time({"runs": of_runner, "verdicts": of_lake}, DEADLINE_PAST)
    points = [point for part in found.values() if not isinstance(part, LakehouseError) for point in part]
    return points, [part.message for part in found.values() if isinstance(part, LakehouseError)]


def run(stored: Stored) -> Reading | LakehouseError | None:
    """A run of the history; None where it is gone meanwhile."""
    return _in_time(lambda: _run(stored))


def lake_of(day: date) -> Lake | LakehouseError:
    """What the gates had found at the end of a day."""
    return _in_time(lambda: _lake(day))


@_cached(ttl=SECONDS_PAST, max_entries=4)
def _run(stored: Stored) -> Reading | None:
    return loading.read_report(storage(), bucket("S3_DQ_REPORTS_BUCKET"), stored.key)


def past(one: Finding, runs: tuple[Stored, ...]) -> list[Past] | LakehouseError:
    """A test in earlier runs, the oldest first."""
    if one.source == "lakehouse":
        return _in_time(lambda: [loading.past(each) for each in _gates(one.table) if each.rule == one.rule])
    last = tuple(loading.last_of_days(runs).values())[-loading.TREND_DAYS :]
    found = in_time({each.key: partial(_tests, each) for each in last}, DEADLINE_PAST)
    known = [part.by_rule.get((one.table, one.rule)) for part in found.values() if isinstance(part, Earlier)]
    return [each for each in known if each is not None]


@_cached(ttl=SECONDS_PAST, max_entries=loading.TREND_DAYS)
def _tests(stored: Stored) -> Earlier | None:
    return loading.tests_of(storage(), bucket("S3_DQ_REPORTS_BUCKET"), stored)


@_cached(ttl=SECONDS_PAST, max_entries=40)
def _gates(table: str) -> list[Finding]:
    return loading.gates_of(storage(), bucket("LAKE_BUCKET"), table, datetime.now(UTC))


def _in_time(call: Callable[[], T]) -> T | LakehouseError:
    return in_time({"": call}, DEADLINE_PAST)[""]
