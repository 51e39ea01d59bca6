"""Whether rewriting a table's files pays: arithmetic on what the Delta log says of them. Knows no Spark."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

MIB = 1 << 20

Partition = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class FileFact:
    """A data file of a table's newest version.

    ``path`` is relative to the table; ``partition`` pairs columns with values as the log writes them (None: null);
    ``ranges`` has the least and the greatest value of a column, for columns with statistics.
    """

    path: str
    partition: Partition
    bytes: int
    ranges: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Sizes:
    """Bytes of a file as it should be (``target``) and below which it is ``small``; ``least``: so many are worth it."""

    target: int = 256 * MIB
    small: int = 64 * MIB
    least: int = 4


@dataclass(frozen=True)
class Decision:
    """What is to be done with one partition (an unpartitioned table is one), and why."""

    partition: Partition
    action: Literal["compact", "zorder", "leave"]
    reason: str


# Ranges overlap enough where a look-up meets this many times the files it would meet after ZORDER.
_WORSE_THAN_ORDERED = 1.5


def decide(
    files: Sequence[FileFact],
    zorder_by: Sequence[str],
    *,
    sizes: Sizes | None = None,
    is_left_alone: Callable[[Partition], bool] = lambda _: False,
    force: bool = False,
) -> tuple[Decision, ...]:
    """A decision for each partition, in their order.

    Order (``zorder_by``) is made only in a partition larger than a target file whose files overlap in these columns;
    small files are put together where there are enough of them. ``force`` rewrites every partition that may be touched.
    """
    limits = sizes or Sizes()
    partitions: dict[Partition, list[FileFact]] = {}
    for file in files:
        partitions.setdefault(file.partition, []).append(file)
    return tuple(
        Decision(partition, "leave", "still being written")
        if is_left_alone(partition)
        else Decision(partition, *_decide(partitions[partition], zorder_by, limits, force))
        for partition in sorted(partitions, key=_order)
    )


def _decide(
    files: Sequence[FileFact], zorder_by: Sequence[str], sizes: Sizes, force: bool
) -> tuple[Literal["compact", "zorder", "leave"], str]:
    if force:
        return ("zorder" if zorder_by else "compact"), "forced"
    count, size = len(files), sum(file.bytes for file in files)
    if count > 1 and zorder_by and size > sizes.target:
        met, ordered = depth(files, zorder_by), count ** (1 - 1 / len(zorder_by))
        if met > _WORSE_THAN_ORDERED * ordered:
            return (
                "zorder",
                f"a look-up meets {met:.1f} of {count} files, in order it would meet {ordered:.1f}",
            )
    small = [file.bytes for file in files if file.bytes < sizes.small]
    becoming = -(-sum(small) // sizes.target)
    if len(small) >= max(2, sizes.least) and becoming * 2 <= len(small):
        return "compact", f"{len(small)} small files can be {becoming}"
    return "leave", f"{len(small)} small files of {count}, {_order_words(zorder_by, size, sizes)}"


def _order_words(zorder_by: Sequence[str], size: int, sizes: Sizes) -> str:
    if not zorder_by:
        return "no column to order by"
    if size <= sizes.target:
        return "no more than one target file"
    return "already in order"


def depth(files: Sequence[FileFact], columns: Sequence[str]) -> float:
    """Files that a look-up of one value meets, averaged over files and columns; 1 where no ranges overlap.

    A file without statistics of a column (all null) is met by no look-up.
    """
    found = []
    for column in columns:
        ranges = [file.ranges[column] for file in files if column in file.ranges]
        if ranges:
            starts, ends = sorted(low for low, _ in ranges), sorted(high for _, high in ranges)
            found.append(fmean(bisect_right(starts, low) - bisect_left(ends, low) for low, _ in ranges))
    return fmean(found) if found else 1.0


def _order(partition: Partition) -> tuple[tuple[str, str], ...]:
    return tuple((column, value or "") for column, value in partition)
