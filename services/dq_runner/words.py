"""Numbers in sentences."""

from __future__ import annotations

from decimal import Decimal


def counted(number: int | Decimal, noun: str, nouns: str = "") -> str:
    """``1 query``, ``2,000 queries``: ``nouns`` is the plural where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"
