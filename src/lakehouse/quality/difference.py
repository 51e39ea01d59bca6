"""Two states of a table, row by row: what is added, removed or changed, by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from lakehouse.contracts import Contract
from lakehouse.quality.rules import as_text, show

ADDED = "added"
REMOVED = "removed"
CHANGED = "changed"
SAME = "same"
CHANGE = "_change"
# Row by row, these name who brought a row and not what it says.
PROVENANCE = frozenset({"_run_id", "_publish_id"})


@dataclass(frozen=True)
class Difference:
    """How many rows differ; ``samples`` name some of them in words, personal values masked."""

    added: int
    removed: int
    changed: int
    same: int
    samples: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        return not (self.added or self.removed or self.changed)

    def __str__(self) -> str:
        return (
            f"{self.added} rows added, {self.removed} removed, {self.changed} changed, {self.same} the same"
        )


def compared(new: DataFrame, old: DataFrame, key: Sequence[str], columns: Sequence[str]) -> DataFrame:
    """Rows of both states, joined by key as ``n`` and ``o``, with what became of each in ``_change``.

    ``columns`` are those by which two rows of a key differ; both frames hold each key once.
    """
    before = old.select(*dict.fromkeys((*key, *columns)), F.lit(True).alias("_was_there"))
    matches = [F.col(f"n.{name}").eqNullSafe(F.col(f"o.{name}")) for name in key]
    is_same = F.lit(True)
    for name in columns:
        is_same = is_same & F.col(f"n.{name}").eqNullSafe(F.col(f"o.{name}"))
    change = (
        F.when(F.col("o._was_there").isNull(), ADDED)
        .when(F.col("n._is_there").isNull(), REMOVED)
        .when(is_same, SAME)
        .otherwise(CHANGED)
    )
    rows = new.withColumn("_is_there", F.lit(True)).alias("n").join(before.alias("o"), on=matches, how="full")
    return rows.withColumn(CHANGE, change)


def difference(new: DataFrame, old: DataFrame, contract: Contract, samples: int = 5) -> Difference:
    """What stands in ``new`` and not in ``old``, by the contract's key; ``samples`` of each kind in words."""
    columns = [column.name for column in contract.columns if column.name not in PROVENANCE]
    present = [name for name in columns if name in old.columns]
    words = F.concat_ws(", ", *_differing(contract, present))
    key = F.concat_ws(", ", *[_shown_key(contract, name) for name in contract.key])
    order = [F.coalesce(F.col(f"n.{name}"), F.col(f"o.{name}")).alias(f"_{name}") for name in contract.key]
    rows = compared(new, old, contract.key, present).select(
        CHANGE, key.alias("key"), F.when(F.col(CHANGE) == CHANGED, words).alias("words"), *order
    )
    rows = rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        counts = {row[CHANGE]: row["count"] for row in rows.groupBy(CHANGE).count().collect()}
        shown: list[str] = []
        for change in (ADDED, REMOVED, CHANGED):
            if counts.get(change):
                found = rows.where(F.col(CHANGE) == change).orderBy(*[f"_{name}" for name in contract.key])
                shown += [_line(change, row["key"], row["words"]) for row in found.limit(samples).collect()]
    finally:
        rows.unpersist()
    return Difference(
        added=counts.get(ADDED, 0),
        removed=counts.get(REMOVED, 0),
        changed=counts.get(CHANGED, 0),
        same=counts.get(SAME, 0),
        samples=tuple(shown),
    )


def _line(change: str, key: str, words: str | None) -> str:
    return f"{change}: {key}" + (f" ({words})" if words else "")


def _shown_key(contract: Contract, name: str) -> SparkColumn:
    value = F.coalesce(F.col(f"n.{name}"), F.col(f"o.{name}"))
    return F.concat(F.lit(f"{name}="), _shown(contract, name, value))


def _differing(contract: Contract, names: Sequence[str]) -> list[SparkColumn]:
    """Of two rows of a key, the columns that differ; those that only order rows are left out."""
    return [
        F.when(
            ~F.col(f"n.{name}").eqNullSafe(F.col(f"o.{name}")),
            F.concat(
                F.lit(f"{name}: "),
                _shown(contract, name, F.col(f"o.{name}")),
                F.lit(" -> "),
                _shown(contract, name, F.col(f"n.{name}")),
            ),
        )
        for name in names
        if name not in contract.key and not name.startswith("_")
    ]


def _shown(contract: Contract, name: str, value: SparkColumn) -> SparkColumn:
    return F.coalesce(
        show(as_text(contract.column(name), value), contract.column(name).is_personal), F.lit("nothing")
    )
