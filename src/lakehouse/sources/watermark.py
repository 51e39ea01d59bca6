"""How far a table is certified, and the window that the next extraction reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse.settings import Settings

_BEGINNING = datetime.min.replace(tzinfo=UTC)
# The ECB corrects its quotes for some days.
_FX_OVERLAP = timedelta(days=7)


@dataclass(frozen=True)
class Watermark:
    """What certified runs of one Bronze table have read.

    ``time``: newest window end among them. ``states``: the states of their manifests, where a time says too
    little (Kafka offsets, checksums of vendor files); their order carries no meaning.
    """

    time: datetime | None = None
    states: tuple[Mapping[str, Any], ...] = ()

    def since(self, overlap: timedelta) -> datetime | None:
        """Start of the next window; None reads everything."""
        if self.time is None or self.time - _BEGINNING < overlap:
            return None
        return self.time - overlap


def overlap(settings: Settings, source: str) -> timedelta:
    """How long before the watermark a source's next window begins; zero where it goes on from offsets or files."""
    sources = settings.sources
    minutes = {
        "hubspot": sources.hubspot.overlap_minutes,
        "salesforce": sources.salesforce.overlap_minutes,
        "snowflake": sources.snowflake.overlap_minutes,
    }
    return _FX_OVERLAP if source == "fx" else timedelta(minutes=minutes.get(source, 0))


def window_end(newest_seen: datetime | None, watermark: Watermark, latest: datetime) -> datetime | None:
    """The watermark that a run sets: the newest time seen, at most ``latest``, never less than before.

    ``latest`` is the run's own time, or that at which it reads where that is earlier: a run may be dated ahead. A
    record dated in the future is landed by every run until its time has come, and moves nothing.
    """
    if newest_seen is None:
        return watermark.time
    end = min(newest_seen, latest)
    return end if watermark.time is None else max(end, watermark.time)


def backfilled(since: datetime, until: datetime) -> str:
    """The note of a backfill's manifest: its range, the end not included."""
    return f"backfill of [{since:%Y-%m-%d %H:%M}, {until:%Y-%m-%d %H:%M}) UTC"


def parse_time(value: object) -> datetime | None:
    """An ISO-8601 timestamp as sources write them, in UTC; None for anything else (rules judge it later)."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class Newest:
    """Keeps the newest of the times that pass by."""

    def __init__(self) -> None:
        self.time: datetime | None = None

    def see(self, time: datetime | None) -> None:
        if time is not None and (self.time is None or time > self.time):
            self.time = time
