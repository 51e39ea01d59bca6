"""Tables without Spark: rows of a small one, as scripts and the status page read them of ops, and the size of any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lakehouse import store
from lakehouse.delta.broken import broken
from lakehouse.delta.damage import table_of, unreadable

#: (column, operator, value), as deltalake takes them.
Filter = tuple[str, str, Any]


@dataclass(frozen=True)
class Size:
    """A table's newest version as its log tells it. ``rows`` is None where a file has no statistics."""

    version: int
    rows: int | None
    files: int
    bytes: int


def _table(uri: str) -> DeltaTable | None:
    try:
        return DeltaTable(uri, storage_options=store.delta_options())
    except TableNotFoundError:
        return None


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Name the table and the object where one cannot be read."""
    try:
        yield
    except (DeltaError, pa.ArrowException, OSError) as error:
        table, found = table_of(f"{uri}/"), broken(uri)
        if table is None or not found:
            raise
        raise unreadable({table: found}) from error


def size(uri: str) -> Size | None:
    """How much there is at a location; None where there is no table. No data file is read.

    Raises TableUnreadable where the log cannot be read.
    """
    with _named(uri):
        table = _table(uri)
    if table is None:
        return None
    added = pa.table(table.get_add_actions(flatten=True))
    counted = added["num_records"].to_pylist() if "num_records" in added.column_names else [None] * len(added)
    return Size(
        version=table.version(),
        rows=None if None in counted else sum(counted),
        files=len(added),
        bytes=sum(added["size_bytes"].to_pylist()),
    )


def rows(uri: str, columns: Sequence[str], filters: Sequence[Filter] = ()) -> list[dict[str, Any]]:
    """Columns of the rows that meet all filters; nothing where there is no table.

    Raises TableUnreadable where its log or a data file cannot be read.
    """
    with _named(uri):
        table = _table(uri)
        if table is None:
            return []
        known = {field.name for field in table.schema().fields}
        asked = [column for column in columns if column in known]
        read = table.to_pyarrow_table(columns=asked, filters=list(filters) or None)
    found: list[dict[str, Any]] = read.to_pylist()
    # A column that the contract got later is not in an older table.
    return [dict.fromkeys(columns) | row for row in found]
