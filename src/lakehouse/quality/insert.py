"""Rows that are written once: into the append-only tables of ops, whoever else writes there at the same time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame

from lakehouse.delta.write import merge
from lakehouse.errors import CommitConflict

_TRIES = 6


def insert_new(
    frame: DataFrame,
    uri: str,
    key: Sequence[str],
    tag: str,
    *,
    partition_values: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Insert the rows whose key the table does not have, in one commit; the frame must hold each key once.

    Ingests of one day share a partition and so refuse each other's commits: the loser looks again and repeats.
    Raises CommitConflict where it keeps losing.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            merge(frame, uri, key, tag, partition_values=partition_values, update=False)
            return
        except CommitConflict:
            if attempt == _TRIES:
                raise
            time.sleep(0.5 * attempt)
