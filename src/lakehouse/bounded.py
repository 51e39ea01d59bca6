"""Calls to who only wants to be told: bounded in time whatever the other side does, and no reason to fail."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from lakehouse.masks import masked


def problem_of(call: Callable[[], None], seconds: float) -> str | None:
    """Run a call; returns None, or what went wrong within the time it had.

    A call that is not back in time is left to a daemon thread: the timeouts of a socket bound each read, and a server
    that sends a byte now and then never meets them.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run, daemon=True, name="told")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return f"no answer within {seconds:g} s"
    return described(raised[0]) if raised else None


def described(error: BaseException) -> str:
    """An error in a line, without the values that it quotes."""
    return f"{type(error).__name__}: {' '.join(masked(str(error)).split())[:500]}"
