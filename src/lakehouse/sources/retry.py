"""Patience with sources: what is worth a second call, how long to wait, and when to give up."""

from __future__ import annotations

import logging
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

from lakehouse.errors import LakehouseError
from lakehouse.masks import short
from lakehouse.published import ComeBackLater, Means, Published, find
from lakehouse.settings import RetrySettings

log = logging.getLogger("lakehouse.sources")

T = TypeVar("T")
_LONGEST_WAIT = 30.0


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
    source: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None,
    *,
    service: str = "http",
    codes: tuple[str, ...] = (),
    secret: str = "",
) -> LakehouseError:
    """The error for an HTTP status that is not a success, by what the service publishes of it, else by HTTP.

    ``codes`` are more exact than the status, the most exact first.
    """
    message = f"{source}: received HTTP {status} ({short(detail)})"
    known = find(service, *codes, str(status)) or find("http", str(status))
    if known is None:
        means = Means.AGAIN if status >= 500 else Means.REFUSED
        hint = "run the task again later; nothing was landed"
        known = Published(
            str(status),
            means,
            hint if status >= 500 else "check the source's settings and its API's change log",
        )
    return known.error(message, secret=secret, retry_after=retry_after(headers or {}))


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
