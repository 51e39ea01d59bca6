"""Results as Snowflake sends them, made of fakesnow's.

fakesnow sends a result as one Arrow stream with the table's own types. Snowflake sends the first rows beside the answer
and the others as chunks to download, each chunk's numbers in the narrowest integers that hold them; a time is seconds
and nanoseconds, and may be null.
"""

from __future__ import annotations

import base64
import functools
import importlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

fakesnow_arrow: Any = importlib.import_module("fakesnow.arrow")
fakesnow_schema: Any = importlib.import_module("fakesnow.info_schema")

# Rows beside the answer; each chunk behind it is ten times as large as the one before, up to the second number.
_FIRST_ROWS, _MOST_ROWS = 100, 100_000
# Chunks kept for downloads, of all results together: a client that is slower than this has lost its result.
_KEPT = 256
_WIDTHS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Chunks:
    """Chunks that wait for their download, by a name that cannot be guessed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, bytes] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        with self._lock:
            return self._held.get(name)

    def divide(self, data: dict[str, Any], url: str) -> None:
        """Take the rows of an answer apart, in place; chunks are downloaded from ``<url>/<name>``."""
        if not data.get("rowsetBase64"):
            return
        with pa.ipc.open_stream(base64.b64decode(data["rowsetBase64"])) as reader:
            first, *others = _pieces(reader.read_all())
        data["rowsetBase64"] = base64.b64encode(_stream(first)).decode()
        if others:
            data["chunks"] = [self._keep(piece, url) for piece in others]

    def _keep(self, piece: pa.Table, url: str) -> dict[str, Any]:
        name, body = secrets.token_urlsafe(24), _stream(piece)
        with self._lock:
            self._held[name] = body
            while len(self._held) > _KEPT:
                self._held.popitem(last=False)
        return {
            "url": f"{url}/{name}",
            "rowCount": piece.num_rows,
            "uncompressedSize": len(body),
            "compressedSize": len(body),
        }


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    start, size = 0, _FIRST_ROWS
    while start == 0 or start < table.num_rows:
        yield table.slice(start, size)
        start += size
        size = min(size * 10, _MOST_ROWS)


def _stream(piece: pa.Table) -> bytes:
    columns = [_narrow(field, piece[n]) for n, field in enumerate(piece.schema)]
    fields = [field.with_type(column.type) for field, column in zip(piece.schema, columns, strict=True)]
    narrow = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, narrow.schema) as writer:
        writer.write_table(narrow)
    return bytes(sink.getvalue())


def _narrow(field: pa.Field, values: pa.ChunkedArray) -> pa.Array:
    """Numbers in the narrowest integers that hold all of them; the scale is in the field's metadata."""
    array = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if (field.metadata or {}).get(b"logicalType") != b"FIXED":
        return array
    whole = array
    if pa.types.is_decimal128(array.type):
        unscaled = pa.decimal128(array.type.precision, 0)
        whole = pa.Array.from_buffers(unscaled, len(array), array.buffers(), offset=array.offset)
    for width in _WIDTHS:
        try:
            return whole.cast(width)
        except pa.ArrowInvalid:
            continue
    return array


def take_any_name() -> None:
    """Let fakesnow note the length of text columns whose name has an apostrophe."""
    note = fakesnow_schema.insert_text_lengths_sql
    if hasattr(note, "__wrapped__"):
        return

    @functools.wraps(note)
    def escaped(catalog: str, schema: str, table: str, lengths: list[tuple[str, int]]) -> str:
        known = [(name.replace("'", "''"), size) for name, size in lengths]
        return str(note(catalog, schema, table.replace("'", "''"), known))

    fakesnow_schema.insert_text_lengths_sql = escaped


def send_times_as_snowflake_does() -> None:
    """Give fakesnow's form of times, a struct of seconds and nanoseconds, its validity and all its digits."""
    fakesnow_arrow.timestamp_to_sf_struct = _time_struct


def _time_struct(times: Any) -> pa.StructArray:
    if isinstance(times, pa.ChunkedArray):
        times = times.combine_chunks()
    per_second = _PER_SECOND[times.type.unit]
    ticks = times.fill_null(0).cast(pa.int64())
    rest = pc.subtract(ticks, pc.multiply(pc.divide(ticks, per_second), per_second))
    # Before 1970 the division by whole numbers rounds up.
    is_before = pc.less(rest, 0)
    rest = pc.if_else(is_before, pc.add(rest, per_second), rest)
    seconds = pc.divide(pc.subtract(ticks, rest), per_second)
    nanos = pc.multiply(rest, 1_000_000_000 // per_second).cast(pa.int32())
    columns = {"epoch": seconds, "fraction": nanos}
    if times.type.tz:
        columns["timezone"] = pa.array([1440] * len(times), pa.int32())  # minutes from 24 hours before UTC
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.StructArray.from_arrays(list(columns.values()), fields=fields, mask=pc.is_null(times))
