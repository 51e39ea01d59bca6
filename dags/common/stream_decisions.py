"""What a supervisor of the order stream does next, and what it makes of the stream's progress: decisions only.

Nothing here asks AWS or Airflow. `decide` is called again after every step with what is then to be seen, until it
says Done or Refuse: a supervisor that was killed, or that works beside another, goes on from what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from common import exit_codes

#: States in which a job run still reads or will read.
LIVE = frozenset({"SUBMITTED", "QUEUED", "PENDING", "SCHEDULED", "RUNNING"})
ENDING = "CANCELLING"
ACTIONS = ("ensure", "stop", "restart", "recover_checkpoint")


@dataclass(frozen=True)
class Run:
    """A job run of the stream, as ListJobRuns shows it."""

    id: str
    state: str
    created_at: datetime
    details: str = ""

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def died_for_good(self) -> bool:
        """Whether it failed in a way that comes again until somebody changes something."""
        return self.state == "FAILED" and exit_codes.exit_code(self.details) in exit_codes.TERMINAL


@dataclass(frozen=True)
class Mark:
    """Why the stream is meant to be down (ops/_streams/kafka_orders/stopped.json)."""

    by: str
    reason: str
    at: str

    @classmethod
    def parse(cls, body: bytes) -> Mark:
        """A mark that cannot be read is still one: the stream stays down."""
        try:
            said = json.loads(body)
            return cls(str(said["by"]), str(said["reason"]), str(said["at"]))
        except (ValueError, KeyError, TypeError):
            return cls("unknown", "the mark cannot be read", "unknown")

    def __str__(self) -> str:
        return f"stopped by {self.by} at {self.at}: {self.reason}"


@dataclass(frozen=True)
class Seen:
    """The stream as it is now: all its job runs, and the mark that stops it."""

    runs: tuple[Run, ...]
    mark: Mark | None = None

    @property
    def live(self) -> tuple[Run, ...]:
        """Oldest first."""
        return tuple(sorted((run for run in self.runs if run.live), key=_age))

    @property
    def ending(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.state == ENDING)

    @property
    def last_ended(self) -> Run | None:
        """The ended run that was started last."""
        ended = [run for run in self.runs if not run.live and run.state != ENDING]
        return max(ended, key=_age, default=None)


@dataclass(frozen=True)
class Asked:
    """What is wanted, by whom, and how far this supervisor has come with it."""

    action: str = "ensure"
    by_hand: bool = False
    who: str = ""
    reason: str = ""
    replace: frozenset[str] = field(default_factory=frozenset)
    """Ids of the runs that were live when a restart was asked for."""
    started: frozenset[str] = field(default_factory=frozenset)
    moved: bool = False
    """Whether the checkpoint has been moved aside."""


@dataclass(frozen=True)
class Start:
    """Start a run under a token that every supervisor derives alike; `died`: the run it replaces, if it failed."""

    token: str
    died: Run | None = None


@dataclass(frozen=True)
class Cancel:
    runs: tuple[Run, ...]
    why: str
    alert: bool = False


@dataclass(frozen=True)
class Wait:
    """Give runs that are being cancelled time to end."""

    runs: tuple[Run, ...]


@dataclass(frozen=True)
class PutMark:
    reason: str


@dataclass(frozen=True)
class LiftMark:
    mark: Mark


@dataclass(frozen=True)
class MoveCheckpoint:
    pass


@dataclass(frozen=True)
class Done:
    text: str


@dataclass(frozen=True)
class Refuse:
    """Nothing more can be done here; `text` says what happened, `hint` what to do."""

    code: str
    text: str
    hint: str


Step = Start | Cancel | Wait | PutMark | LiftMark | MoveCheckpoint | Done | Refuse


def decide(asked: Asked, seen: Seen, stream: str) -> Step:
    """The next step towards what is asked. `stream` names it in tokens: application and job name."""
    if asked.action not in ACTIONS:
        return Refuse(
            "ACTION", f"received the action {asked.action!r}", f"choose one of {', '.join(ACTIONS)}"
        )
    if asked.action == "stop":
        if seen.mark is None:
            return PutMark(asked.reason or "no reason given")
        return _down(seen, "the stream is to stop") or Done(f"The stream is down: {seen.mark}")
    if asked.action == "recover_checkpoint" and not asked.moved:
        # The mark keeps other supervisors from starting a run on a checkpoint that is half moved.
        if seen.mark is None or seen.mark.by != asked.who:
            return PutMark(asked.reason or "the checkpoint is being moved aside")
        return _down(seen, "its checkpoint is to be moved aside") or MoveCheckpoint()
    if seen.mark is not None:
        if asked.by_hand:
            return LiftMark(seen.mark)
        return _down(seen, "the stream is stopped, and it is alive") or Done(
            f"The stream stays down, {seen.mark}. Trigger this DAG with action ensure to start it again."
        )
    return _up(asked, seen, stream)


def _down(seen: Seen, why: str) -> Step | None:
    if seen.live:
        return Cancel(seen.live, why)
    return Wait(seen.ending) if seen.ending else None


def _up(asked: Asked, seen: Seen, stream: str) -> Step:
    replaced = tuple(run for run in seen.live if run.id in asked.replace)
    if replaced:
        return Cancel(replaced, "the stream is restarted")
    if len(seen.live) > 1:
        return Cancel(
            seen.live[1:], f"run {seen.live[0].id} is older and alive; there may be one", alert=True
        )
    if seen.live:
        run = seen.live[0]
        verb = "has been started" if run.id in asked.started else "is alive and adopted"
        return Done(f"Job run {run.id} {verb} ({run.state}).")
    if seen.ending:
        return Wait(seen.ending)
    last = seen.last_ended
    if last is not None and last.id in asked.started:
        return Refuse(
            "STREAM_ENDED_AT_ONCE",
            f"job run {last.id} ended {last.state} as soon as it was started: {last.details or 'no reason given'}",
            "see the driver's log, remove the cause, then trigger this DAG with action ensure",
        )
    if last is not None and last.died_for_good and not asked.by_hand:
        return Refuse(
            "STREAM_FAILED_FOR_GOOD",
            f"job run {last.id} failed, and starting it again cannot help: {last.details}",
            "remove the cause, then trigger this DAG with action ensure",
        )
    return Start(client_token(stream, last), last if last is not None and last.state == "FAILED" else None)


def client_token(stream: str, last_ended: Run | None) -> str:
    """EMR's idempotency token of the one run that may follow `last_ended`.

    All who see the same run ended derive the same token, and EMR answers the second of them with the first one's
    job run. It cannot come again: as soon as that run exists, it is the one that ended last.
    """
    return hashlib.sha256(f"{stream}/{last_ended.id if last_ended else 'none'}".encode()).hexdigest()


def _age(run: Run) -> tuple[datetime, str]:
    return run.created_at, run.id


@dataclass(frozen=True)
class Progress:
    """The last progress that the stream wrote: after a batch, and now and then where there is none to do.

    `at`: end of the last batch; `alive_at`: when it last said anything; `lag`: records not read yet.
    """

    at: datetime
    alive_at: datetime
    lag: int
    said: Mapping[str, Any]

    @classmethod
    def parse(cls, body: bytes) -> Progress:
        """Raises ValueError where it is not the stream's progress.json."""
        try:
            said = json.loads(body)
            at, lag = _time(said["at"]), said["lag"]
            total = sum(map(int, lag.values())) if isinstance(lag, Mapping) else int(lag)
            return cls(at, max(at, _time(said.get("alive_at") or said["at"])), total, said)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected a JSON object with at and lag: {error!r}") from error

    @property
    def since(self) -> datetime:
        """Of when the last sign of life is. With records to read only a batch is one."""
        return self.at if self.lag else self.alive_at

    def __str__(self) -> str:
        words = [f"batch {self.said.get('batch_id')} at {self.at:%Y-%m-%d %H:%M:%S}Z"]
        words += [
            f"{name} {self.said[name]}" for name in ("rows", "rejected", "seconds") if name in self.said
        ]
        return ", ".join([*words, f"lag {self.lag:,}"])


@dataclass(frozen=True)
class Limits:
    age: timedelta
    lag: int


def problems(progress: Progress | None, runs: Sequence[Run], now: datetime, limits: Limits) -> list[Refuse]:
    """What is wrong with the stream's progress; empty where all is well.

    A run that follows a deliberate end has the age limit to finish its first batch. One that replaces a dead run has
    not: a stream that dies again and again would never be late.
    """
    seen = Seen(tuple(runs))
    last = seen.last_ended
    known: list[datetime] = [progress.since] if progress else []
    if seen.live and (last is None or last.state != "FAILED" or not known):
        known.append(seen.live[0].created_at)
    found = []
    state = f"job run {seen.live[0].id} is {seen.live[0].state}" if seen.live else "no job run is alive"
    since = max(known, default=None)
    if since is None:
        found.append(
            Refuse(
                "STREAM_DOWN",
                f"the stream has never made progress, and {state}",
                "see the log of the task supervise; action ensure starts the stream",
            )
        )
    elif now - since > limits.age:
        found.append(
            Refuse(
                "STREAM_STALE",
                f"no progress for {_minutes(now - since)} min (limit {_minutes(limits.age)}), and {state}; "
                f"last: {progress or 'nothing yet'}",
                "see the driver's log; where the run hangs, trigger this DAG with action restart (nothing is lost "
                "or doubled); a larger limit is the Airflow Variable STREAM_MAX_AGE_MINUTES",
            )
        )
    if progress is not None and progress.lag > limits.lag:
        found.append(
            Refuse(
                "STREAM_LAGS",
                f"{progress.lag:,} records behind the topic (limit {limits.lag:,}), and {state}; last: {progress}; "
                f"by partition: {_behind(progress.said) or 'not told'}",
                "after an outage wait while it falls; where it grows, give the stream more executors or larger "
                "batches, then action restart; a larger limit is the Airflow Variable STREAM_MAX_LAG",
            )
        )
    return found


def _behind(said: Mapping[str, Any]) -> str:
    until, latest = said.get("until"), said.get("latest")
    if not isinstance(until, Mapping) or not isinstance(latest, Mapping):
        return ""
    return ", ".join(f"{p}: {latest[p] - until[p]:,}" for p in _numeric(latest) if p in until)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _numeric(partitions: Iterable[str]) -> list[str]:
    return sorted(partitions, key=lambda name: (len(name), name))


def _minutes(period: timedelta) -> int:
    return int(period.total_seconds() // 60)
