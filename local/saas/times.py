"""Times as the sources write them, read leniently: a data file may hold anything in a time column."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def parse(text: object) -> datetime | None:
    """ISO 8601 with or without zone (then UTC), a date, or epoch milliseconds; None if it is nothing of these."""
    if not isinstance(text, str) or not text.strip():
        return None
    text = text.strip()
    try:
        if text.lstrip("-").isdigit() and len(text.lstrip("-")) > 8:
            return EPOCH + int(text) * MILLISECOND
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_ms(text: object) -> int | None:
    moment = parse(text)
    return None if moment is None else (moment - EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    return EPOCH + ms * MILLISECOND


def hubspot(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat("T", "milliseconds") + "Z"


def salesforce(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat("T", "milliseconds") + "+0000"


def now() -> datetime:
    return datetime.now(UTC)
