"""Patience: what is called again, and how long that may take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from lakehouse.errors import CredentialsError, LakehouseError, SourceError, SourceUnavailable
from lakehouse.published import ComeBackLater
from lakehouse.settings import RetrySettings
from lakehouse.sources.retry import http_failure, patiently, retry_after

QUICK = RetrySettings(attempts=3, first_wait_seconds=0.001, max_wait_seconds=1)


class Source:
    """Fails with the errors given, then works."""

    def __init__(self, *errors: LakehouseError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_bad_weather_passes() -> None:
    source = Source(ComeBackLater("busy"), ComeBackLater("still busy", retry_after=0))

    assert patiently(source, QUICK) == "answer"
    assert source.calls == 3


def test_the_last_error_is_raised_after_the_attempts_allowed() -> None:
    source = Source(*(ComeBackLater(f"try {n}") for n in range(9)))

    with pytest.raises(SourceUnavailable, match="try 2"):
        patiently(source, QUICK)

    assert source.calls == 3


def test_a_wait_beyond_the_bound_is_not_begun() -> None:
    source = Source(ComeBackLater("tomorrow", retry_after=86_400))

    with pytest.raises(SourceUnavailable, match="tomorrow"):
        patiently(source, QUICK)

    assert source.calls == 1


@pytest.mark.parametrize(
    "error", [SourceUnavailable("limit of the day"), CredentialsError("no"), SourceError("no")]
)
def test_other_errors_are_raised_at_once(error: LakehouseError) -> None:
    source = Source(error)

    with pytest.raises(type(error)):
        patiently(source, QUICK)

    assert source.calls == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, SourceError),
        (401, CredentialsError),
        (403, CredentialsError),
        (404, SourceError),
        (408, ComeBackLater),
        (429, ComeBackLater),
        (500, ComeBackLater),
        (503, ComeBackLater),
    ],
)
def test_http_statuses(status: int, kind: type[LakehouseError]) -> None:
    assert type(http_failure("ECB", status, "text", None)) is kind


def test_retry_after_in_both_forms() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert 50 < (retry_after({"Retry-After": in_a_minute}) or 0) <= 60
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is None
