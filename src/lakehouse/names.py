"""What fields of landed rows are called: a source's as it calls them, but never as one of ours is called."""

from __future__ import annotations

from collections.abc import Collection, Sequence

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
    folded = name.casefold()
    is_ours = folded in OWN or folded in own or folded.startswith(_PREFIX)
    return f"{_PREFIX}{name}" if is_ours else name


def column_names(names: Sequence[str]) -> list[str]:
    """What a landing calls the columns of a table: ``landed_name`` of each, and no two that differ in case alone.

    Spark would take those for one column. Names in capitals, as a database gives them to names without quotes, stay;
    of the others, the later ones get a number.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names, key=lambda name: name != name.upper()):
        first = landed_name(name)
        landed, number = first, 1
        while landed.casefold() in taken:
            number += 1
            landed = f"{first}_{number}"
        taken.add(landed.casefold())
        found[name] = landed
    return [found[name] for name in names]
