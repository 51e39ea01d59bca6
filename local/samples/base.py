"""The settings of a sample, its clock, and the record of the flaws put into it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Naive on purpose: all arithmetic of the sample is in UTC microseconds.
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001

FLAW_SETS = ("none", "real", "all")
POISONS = ("shares", "set_rule", "volume", "missing_column")


@dataclass(frozen=True)
class Sizes:
    """Rows per file of the first day."""

    orders: int = 100_000
    contacts: int = 25_000
    accounts: int = 5_000
    leads: int = 2_000
    kafka: int = 2_000
    shipments: int = 2_000


@dataclass(frozen=True)
class Spec:
    """All that decides the bytes of a sample: the same spec gives the same files."""

    seed: int = 20261101
    until: date = date(2026, 11, 1)
    sizes: Sizes = field(default_factory=Sizes)
    flaws: str = "real"
    day: int = 1
    poison: str | None = None

    def rng(self, *scope: object) -> random.Random:
        """A generator of its own per file, so that resizing one file does not change another."""
        return random.Random(json.dumps([self.seed, *map(str, scope)]))

    @property
    def end_us(self) -> int:
        """The end of the first day's data; day N covers the N-1st day after it."""
        return (self.until - EPOCH.date()).days * DAY

    @property
    def start_us(self) -> int:
        return self.end_us - 730 * DAY

    def window_us(self, day: int) -> tuple[int, int]:
        """The span in which the changes of a later day happen."""
        start = self.end_us + (day - 2) * DAY
        return start, start + DAY


@dataclass
class Flaws:
    """Which flaws went into which table: what the manifest declares and tests count."""

    level: str
    found: dict[str, dict[str, dict[str, object]]] = field(default_factory=dict)

    def count(self, rows: int, share: float) -> int:
        """How many rows a flaw of this share gets; the level 'all' has at least one of each."""
        if self.level == "none":
            return 0
        wanted = int(rows * share + 1e-9)
        return max(1, wanted) if self.level == "all" else wanted

    def declare(self, table: str, kind: str, effect: str, keys: Sequence[str]) -> None:
        """Record a kind of flaw with the keys of all its rows, also when there are none."""
        self.found.setdefault(table, {})[kind] = {"rows": len(keys), "effect": effect, "keys": list(keys)}


def to_us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def to_datetime(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def sql_timestamp(us: int | None) -> str:
    """YYYY-MM-DD HH:MM:SS.ffffff in UTC, as a Snowflake unload writes TIMESTAMP_NTZ(6)."""
    return "" if us is None else to_datetime(us).isoformat(" ", "microseconds")


def hubspot_timestamp(us: int) -> str:
    return to_datetime(us).isoformat("T", "milliseconds") + "Z"


def salesforce_timestamp(us: int) -> str:
    return to_datetime(us).isoformat("T", "milliseconds") + "+0000"


def whole_milliseconds(us: int) -> int:
    return us - us % MILLISECOND


def whole_seconds(us: int) -> int:
    return us - us % SECOND


def utc(us: int) -> datetime:
    return to_datetime(us).replace(tzinfo=UTC)


def money(cents: int) -> str:
    sign, cents = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{cents // 100}.{cents % 100:02d}"
