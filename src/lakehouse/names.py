"""What fields of landed rows are called: a source's as it calls them, but never as one of ours is called."""

from __future__ import annotations

from collections.abc import Collection

# Fields of a landed row, and columns of a Bronze table, that the lakehouse fills.
OWN = frozenset(
    {
        "_position",
        "_malformed",
        "_surplus",
        "_run_id",
        "_source",
        "_landed_at",
        "_payload_hash",
        "ingest_date",
    }
)
_PREFIX = "source:"


def landed_name(name: str, own: Collection[str] = ()) -> str:
    """The name under which a source's field is landed: its own, behind ``source:`` where one of ours is called so.

    ``own``: names that a source's rows have from us in addition. Names differ after this if they did before, and case
    makes no difference to what is ours: Spark does not tell columns by it.
    """
    lower = name.lower()
    is_ours = lower in OWN or lower in own or lower.startswith(_PREFIX)
    return f"{_PREFIX}{name}" if is_ours else name
