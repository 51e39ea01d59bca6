"""Patience with sources: what is worth a second call, how long to wait, and when to give up."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_exponential_jitter,
)

from lakehouse.errors import CredentialsError, LakehouseError, SourceError, SourceUnavailable
from lakehouse.settings import RetrySettings

log = logging.getLogger("lakehouse.sources")

T = TypeVar("T")
_LONGEST_WAIT = 30.0


class ComeBackLater(SourceUnavailable):
    """A call that may work within seconds. ``retry_after``: the wait that the source asked for."""

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


def patiently(call: Callable[[], T], patience: RetrySettings) -> T:
    """Call until it works; after the attempts or the total wait allowed, the last ComeBackLater is raised.

    The wait is the one the source asks for, else exponential with jitter. Any other error is raised at once.
    """
    first = patience.first_wait_seconds
    backoff = wait_exponential_jitter(multiplier=first, max=_LONGEST_WAIT, jitter=first)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, ComeBackLater) else None
        return backoff(state) if asked is None else asked

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("%s; call %d, next in %.1f s", error, state.attempt_number, state.upcoming_sleep)

    return Retrying(
        retry=retry_if_exception_type(ComeBackLater),
        wait=wait,
        stop=stop_any(stop_after_attempt(patience.attempts), stop_before_delay(patience.max_wait_seconds)),
        before_sleep=tell,
        reraise=True,
    )(call)


def http_failure(
    source: str, status: int, detail: str, headers: Mapping[str, str] | None, *, credentials_hint: str = ""
) -> LakehouseError:
    """The error for an HTTP status that is not a success."""
    message = f"{source}: received HTTP {status} ({short(detail)})"
    if status in {401, 403}:
        return CredentialsError(f"{message}, expected the request to be allowed", hint=credentials_hint)
    if status in {408, 425, 429} or status >= 500:
        return ComeBackLater(
            f"{message}, expected an answer",
            retry_after=retry_after(headers or {}),
            hint="run the task again later; nothing was landed",
        )
    return SourceError(
        f"{message}, expected success", hint="check the source's settings and its API's change log"
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its two forms."""
    value = next((headers[name] for name in headers if name.lower() == "retry-after"), None)
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def short(text: str, most: int = 200) -> str:
    """A source's words in a line, cut between words: half an address is no longer known for one, and not masked."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{re.sub('[^ ]*$', '', line[:most])}…"
