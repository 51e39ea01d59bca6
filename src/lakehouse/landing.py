"""Landing: what a source gave for one run and window, kept as it came, immutable.

``landing/<source>/<table>/<run_id>/`` holds part files and, written last and only if absent, ``manifest.json``.
Everything after it is a pure function of these files: a rerun finds the manifest and asks the source nothing.
Part names carry a writer's id, so that a crashed try can never be mixed into a later one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from lakehouse import store
from lakehouse.names import column_names
from lakehouse.settings import Settings

# Fields of a landed row that are ours: where it stood, why it is no good record, its cells beyond the named ones.
POSITION, MALFORMED_FIELD, SURPLUS_FIELD = "_position", "_malformed", "_surplus"
Kind = Literal["window", "replay", "backfill"]
_ROWS_PER_PART = 250_000
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]")
# Of a part's end, read at once: more than a footer of some hundred columns.
_FOOTER_BYTES = 65_536


class LandedFile(BaseModel):
    """One part: ``rows`` is None for an original kept only for audit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    format: Literal["jsonl", "parquet", "original"]
    rows: int | None
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What was landed. ``fields`` counts, per source field, the rows in which it was present (null included).
    ``rows`` is None where they stay in the source (a range of Kafka offsets) and are counted when they are read.

    ``landed_at`` is when the manifest was written, whatever day the run is of: what is landed later was read later.
    ``window_to`` is the watermark this run sets once it is certified; ``state`` is what a source needs to go on
    from there instead of a time (Kafka offsets, checksums of vendor files).

    ``kind`` replay: no window of the source but refused rows of earlier runs (``flows.replay``). Such a run moves no
    watermark, each line holds a row's payload and provenance, and ``fields`` are not counted. ``kind`` backfill: a
    range of the source's own times, read again (``flows.backfill``); it moves no watermark either.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    table: str
    run_id: str
    window_from: datetime | None
    window_to: datetime | None
    landed_at: datetime
    files: tuple[LandedFile, ...]
    rows: int | None
    fields: dict[str, int]
    state: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    kind: Kind = "window"

    @property
    def words(self) -> str:
        """How much was landed, in words."""
        return "a range of offsets" if self.rows is None else f"{self.rows} rows"

    def uris(self, settings: Settings, format: Literal["jsonl", "parquet"]) -> list[str]:
        """Locations of the parts of one format."""
        base = landing_uri(settings, self.source, self.table, self.run_id)
        return [f"{base}/{file.name}" for file in self.files if file.format == format]


def landing_uri(settings: Settings, source: str, table: str, run_id: str) -> str:
    """Folder of one landing."""
    return f"{settings.lake_uri}/landing/{source}/{table}/{run_id}"


def read_manifest(settings: Settings, source: str, table: str, run_id: str) -> Manifest | None:
    """The manifest of a run, or None where the run has not landed (completely)."""
    uri = f"{landing_uri(settings, source, table, run_id)}/manifest.json"
    body = store.get(uri)
    return None if body is None else store.parsed(Manifest, uri, body)


def parquet_schema(uri: str) -> pa.Schema:
    """Columns and types of a Parquet part, from its footer."""
    end = store.get_end(uri, _FOOTER_BYTES)
    length = int.from_bytes(end[-8:-4], "little") + 8
    if length > len(end):
        end = store.get_end(uri, length)
    return pq.read_schema(io.BytesIO(end))


class LandingWriter:
    """Writes the parts of one landing, then its manifest.

    Rows are flat JSON objects (source field name to value as received). Where a row has no ``_position`` of its
    own it gets its part and line, which is unique within the landing. What a source calls its fields never meets names
    of ours: those of an Arrow table pass ``names.column_names``, those of a file ``landed_name``.
    """

    def __init__(
        self, settings: Settings, source: str, table: str, run_id: str, kind: Kind = "window"
    ) -> None:
        self._kind = kind
        self._uri = landing_uri(settings, source, table, run_id)
        self._source, self._table, self._run_id = source, table, run_id
        self._writer = uuid.uuid4().hex[:8]
        self._files: list[LandedFile] = []
        self._fields: Counter[str] = Counter()
        self._rows = 0

    def write_rows(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Append rows as gzipped JSON lines, in parts of bounded size. Returns how many."""
        before = self._rows
        iterator = iter(rows)
        row = next(iterator, None)
        while row is not None:
            name = self._next_name("jsonl.gz")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, name)
                count = 0
                with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as part:
                    while row is not None and count < _ROWS_PER_PART:
                        count += 1
                        record = {POSITION: f"{len(self._files):05d}:{count:09d}", **row}
                        if self._kind != "replay":
                            self._fields.update(record.keys() - {POSITION})
                        part.write(json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n")
                        row = next(iterator, None)
                self._upload(path, "jsonl", count)
        return self._rows - before

    def write_arrow(self, table: pa.Table) -> int:
        """Append an Arrow table of a source as one Parquet part. Returns its rows."""
        table = table.rename_columns(column_names(table.column_names))
        position = pa.array(
            [f"{len(self._files):05d}:{line:09d}" for line in range(1, table.num_rows + 1)], pa.string()
        )
        self._fields.update(dict.fromkeys(table.column_names, table.num_rows))
        name = self._next_name("parquet")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            pq.write_table(
                table.append_column(POSITION, position), path, coerce_timestamps="us", compression="zstd"
            )
            self._upload(path, "parquet", table.num_rows)
        return int(table.num_rows)

    def write_original(self, name: str, body: bytes) -> None:
        """Keep a file of the source byte for byte, for audits; loads do not read it.

        Its name is kept as far as every tool takes it in a path.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"original-{self._writer}-{_UNUSUAL.sub('_', name)}")
            path.write_bytes(body)
            self._upload(path, "original", None)

    def commit(
        self,
        *,
        window_from: datetime | None,
        window_to: datetime | None,
        fields: Iterable[str] = (),
        state: Mapping[str, Any] | None = None,
        notes: Iterable[str] = (),
        rows: int | None = None,
        in_source: bool = False,
    ) -> Manifest:
        """Write the manifest; where another try was first, its manifest is the truth and is returned.

        ``fields`` are names that the source declared (a header, a result's columns) even if no row came. ``in_source``
        says that the rows stay in the source (a range of Kafka offsets): then ``rows`` is their count, None where
        nobody has counted them.
        """
        manifest = Manifest(
            source=self._source,
            table=self._table,
            run_id=self._run_id,
            window_from=window_from,
            window_to=window_to,
            landed_at=datetime.now(UTC),
            files=tuple(self._files),
            rows=rows if in_source else self._rows,
            fields={**dict.fromkeys(fields, 0), **self._fields},
            state=dict(state or {}),
            notes=tuple(notes),
            kind=self._kind,
        )
        uri = f"{self._uri}/manifest.json"
        if store.put_if_absent(uri, manifest.model_dump_json(indent=1).encode()):
            return manifest
        return Manifest.model_validate_json(store.get(uri) or b"")

    def _next_name(self, suffix: str) -> str:
        return f"part-{len(self._files):05d}-{self._writer}.{suffix}"

    def _upload(self, path: Path, format: Literal["jsonl", "parquet", "original"], rows: int | None) -> None:
        body = path.read_bytes()
        store.upload(f"{self._uri}/{path.name}", str(path))
        self._files.append(
            LandedFile(
                name=path.name,
                format=format,
                rows=rows,
                bytes=len(body),
                sha256=hashlib.sha256(body).hexdigest(),
            )
        )
        self._rows += rows or 0
