"""Publications beside each other: one at a time, whatever happens at which moment, and none is lost that had begun.

All objects are in memory here and Gold is three lists of publication ids, so that every moment can be tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from lakehouse import store
from lakehouse.errors import CommitConflict
from lakehouse.flows import publish
from lakehouse.flows.publish import OUTPUTS, Intent, Marker, TableVersion
from lakehouse.runs import new_run_id

#: More than a publication has of looks at storage and commits.
MOMENTS = 16
DAY = datetime(2026, 1, 4, 6, tzinfo=UTC)
SETTINGS: Any = SimpleNamespace(
    lake_uri="s3://lake", fx=SimpleNamespace(max_staleness_days=5, restate_days=7)
)


class Killed(BaseException):
    """What ends a process at once: nothing catches it."""


class Lake:
    """Objects, and what was published to each table of Gold in which order. ``tick`` is called before each step."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gold: dict[str, list[str]] = {table: [] for table in OUTPUTS}
        self.tick: Callable[[], None] = lambda: None

    def keys(self, prefix: str) -> Iterator[str]:
        self.tick()
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def get(self, uri: str) -> bytes | None:
        self.tick()
        return self.objects.get(uri)

    def put_if_absent(self, uri: str, body: bytes) -> bool:
        self.tick()
        return self.objects.setdefault(uri, body) == body

    def complete(self, job: Any, intent: Intent) -> None:
        """Commit each table once, then the marker."""
        for table in OUTPUTS:
            self.tick()
            if intent.publish_id not in self.gold[table]:
                self.gold[table].append(intent.publish_id)
        marker = Marker(
            publish_id=intent.publish_id, inputs=intent.inputs, outputs={}, contracts=intent.contracts
        )
        publish.write_marker(job.settings, marker, intent.publish_id)

    def version_of(self, job: Any, table: str) -> TableVersion:
        return TableVersion(table_id=table, version=len(self.gold[table]))

    def publish(self, day: int) -> str:
        """A publication of the run of a day; how it ended."""
        outcome = SimpleNamespace(notes=[])
        job: Any = SimpleNamespace(
            settings=SETTINGS, run_id=new_run_id(DAY + timedelta(days=day)), outcome=outcome
        )
        try:
            publish.publish(job)
        except CommitConflict:
            return "conflict"
        except Killed:
            return "killed"
        return "done"

    @property
    def is_whole(self) -> bool:
        """Whether all tables were published in one order."""
        first, *others = self.gold.values()
        return all(other == first for other in others)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Lake:
    lake = Lake()
    for name in ("keys", "get", "put_if_absent"):
        monkeypatch.setattr(store, name, getattr(lake, name))
    for name in ("complete", "version_of"):
        monkeypatch.setattr(publish, name, getattr(lake, name))
    certified = {"silver.orders": TableVersion(table_id="s", version=1)}
    monkeypatch.setattr(publish, "certified_inputs", lambda job: certified)
    monkeypatch.setattr(publish, "require_known", lambda settings, run_id: None)
    monkeypatch.setattr(publish, "optimized", lambda settings, known: known)
    monkeypatch.setattr(publish, "is_intact", lambda job, marker: False)
    return lake


def at(moment: int, act: Callable[[], None]) -> Callable[[], None]:
    """A tick that acts once, at its nth call."""
    calls = 0

    def tick() -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            act()

    return tick


def die() -> None:
    raise Killed


@pytest.mark.parametrize("other_day", [0, 2], ids=["an earlier run", "a later run"])
def test_one_that_begins_and_ends_at_any_moment_of_another(memory: Lake, other_day: int) -> None:
    conflicts = 0
    for moment in range(1, MOMENTS):
        memory.clear()
        ended: list[str] = []

        def beside() -> None:
            memory.tick = lambda: None
            ended.append(memory.publish(other_day))  # noqa: B023

        memory.tick = at(moment, beside)
        ended.append(memory.publish(1))
        assert memory.is_whole, (moment, memory.gold)
        assert set(ended) <= {"done", "conflict"}
        assert "done" in ended
        conflicts += ended.count("conflict")
    assert conflicts


def test_one_that_is_killed_at_any_moment_within_any_moment_of_another(memory: Lake) -> None:
    for moment in range(1, MOMENTS):
        for last in range(1, MOMENTS):
            memory.clear()

            def beside() -> None:
                memory.tick = at(last, die)  # noqa: B023
                memory.publish(2)
                memory.tick = lambda: None

            memory.tick = at(moment, beside)
            memory.publish(1)
            memory.tick = lambda: None
            begun = {key for key in memory.objects if "/turns/" in key}
            # Whoever comes next completes what was left, and publishes.
            assert memory.publish(3) == "done"
            assert memory.is_whole, (moment, last, memory.gold)
            assert publish.pending(SETTINGS) is None
            for key in begun:
                intent = Intent.model_validate_json(memory.objects[key])
                assert intent.publish_id in memory.gold[OUTPUTS[0]]


def an_intent(day: int) -> Intent:
    run_id = new_run_id(DAY + timedelta(days=day))
    return Intent(
        publish_id=f"{run_id}.{day}", run_id=run_id, run_date=date(2026, 1, 4), inputs={}, previous={},
        contracts={}, max_staleness_days=5, restate_days=7,
    )  # fmt: skip


def test_what_an_earlier_release_left_is_completed_first_the_oldest_before_the_others(memory: Lake) -> None:
    left = [an_intent(day) for day in (1, 2)]
    for intent in reversed(left):
        name = f"s3://lake/ops/_publications/{intent.publish_id}.intent.json"
        memory.objects[name] = intent.model_dump_json().encode()
    assert publish.pending(SETTINGS) == left[0]
    assert memory.publish(3) == "done"
    assert memory.is_whole
    assert memory.gold[OUTPUTS[0]][:2] == [intent.publish_id for intent in left]
    assert publish.pending(SETTINGS) is None


def test_a_return_to_an_earlier_publication_gives_no_turn_away(memory: Lake) -> None:
    intent = an_intent(1)
    publish.declare(SETTINGS, intent, publish.turn(SETTINGS))
    marker = Marker(publish_id="p", inputs={}, outputs={}, contracts={})
    publish.write_marker(SETTINGS, marker, f"{new_run_id(DAY)}.rollback")
    assert publish.pending(SETTINGS) == intent


@pytest.mark.parametrize("count", [2, 8])
def test_of_many_that_begin_at_once_storage_takes_one(lake: str, count: int) -> None:
    settings: Any = SimpleNamespace(lake_uri=lake)
    now = publish.turn(settings)
    intents = [an_intent(day) for day in range(count)]

    def begins(intent: Intent) -> bool:
        try:
            publish.declare(settings, intent, now)
        except CommitConflict:
            return False
        return True

    with ThreadPoolExecutor(count) as pool:
        taken = list(pool.map(begins, intents))
    assert taken.count(True) == 1
    winner = intents[taken.index(True)]
    assert publish.pending(settings) == winner
    # To begin again what has begun changes nothing; it is how it is completed.
    publish.declare(settings, winner, publish.turn(settings))
    loser = intents[taken.index(False)]
    with pytest.raises(CommitConflict, match=f"{winner.publish_id} of run {winner.run_id}") as refused:
        publish.declare(settings, loser, now)
    assert refused.value.error_class == "transient"
