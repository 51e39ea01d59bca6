"""Shipment files of the vendor to landing files: each file once, by the checksum of its content.

A file is taken when it is complete. With a sidecar ``<name>.sha256`` beside it, complete means that the
checksum agrees; without one, that the text ends with a newline, outside of quotes, and that its last record has
every cell. Anything else stays in the inbox for the next run, and the manifest says so.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from lakehouse import store
from lakehouse.errors import ContractViolation, Violation
from lakehouse.landing import POSITION, LandingWriter, Manifest, read_manifest
from lakehouse.runs import run_time
from lakehouse.settings import Settings
from lakehouse.sources.fields import source_fields
from lakehouse.sources.watermark import Watermark, backfilled, window_end

SOURCE, TABLE = "vendor", "vendor_shipments"
# Reserved field of a landed row: why it is no good record. Loads send such rows to quarantine.
MALFORMED = "_malformed"
# Reserved field of a landed row: the cells beyond the header's. Reasons are shown, and do not quote them.
SURPLUS = "_surplus"
# Fields of a landed row that are no columns of the file.
_ROW_FIELDS = ("file", "line")
_SIDECAR = ".sha256"
# Cannot occur in CSV text; where it comes back as a record of its own, no quote was left open before it.
_SENTINEL = "\x00end"

Row = dict[str, Any]


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Land every complete file of the inbox that no certified run has landed.

    ``state`` is ``{"files": {sha256: name}}`` of the files landed. Raises ContractViolation, naming every file and
    column, where a header lacks a column or has one twice; nothing is landed then.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    watermark = watermarks.get(TABLE, Watermark())
    taken = {
        checksum: name for state in watermark.states for checksum, name in state.get("files", {}).items()
    }
    files, notes = _new_files(settings.sources.vendor.inbox_uri, taken)
    _require_headers(files)

    writer = LandingWriter(settings, SOURCE, TABLE, run_id)
    _write(writer, files)
    manifest = writer.commit(
        window_from=watermark.time,
        window_to=window_end(run_time(run_id), watermark, run_time(run_id)),
        fields=source_fields(TABLE),
        state={"files": {file.checksum: file.name for file in files}},
        notes=notes,
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Land every complete file that came to the inbox in [since, until), taken before or not. Raises as ``extract``."""
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    inbox_uri = settings.sources.vendor.inbox_uri
    came = {item.uri: item.modified for item in store.objects(f"{inbox_uri}/")}
    files, notes = _new_files(inbox_uri, {})
    files = [file for file in files if since <= came[f"{inbox_uri}/{file.name}"] < until]
    _require_headers(files)
    writer = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill")
    _write(writer, files)
    manifest = writer.commit(
        window_from=since,
        window_to=None,
        fields=source_fields(TABLE),
        state={"files": {file.checksum: file.name for file in files}},
        notes=[backfilled(since, until), *notes],
    )
    return (manifest,)


def _write(writer: LandingWriter, files: list[_File]) -> None:
    for number, file in enumerate(files):
        writer.write_original(f"{number:05d}-{PurePosixPath(file.name).name[-100:]}", file.body)
        writer.write_rows(file.rows())


def _new_files(inbox_uri: str, taken: Mapping[str, str]) -> tuple[list[_File], list[str]]:
    """Complete files not taken yet, by name, and a note about each file that is left out."""
    files: dict[str, _File] = {}
    notes: list[str] = []
    uris = {uri.removeprefix(f"{inbox_uri}/"): uri for uri in store.keys(f"{inbox_uri}/")}
    for name, uri in sorted(uris.items()):
        if name.endswith((_SIDECAR, "/")):
            continue
        if not name.lower().endswith(".csv"):
            notes.append(f"vendor: {name} was left in the inbox: not a .csv file")
            continue
        body = store.get(uri)
        if body is None:
            continue  # gone since the listing; if it comes back, the next run sees it
        checksum = hashlib.sha256(body).hexdigest()
        first_name = taken.get(checksum) or (files[checksum].name if checksum in files else None)
        if first_name is not None:
            if first_name != name:
                notes.append(f"vendor: {name} was not taken: it has the content of {first_name}")
            continue
        expected = store.get(uris[name + _SIDECAR]) if name + _SIDECAR in uris else None
        file = _File(name, body, checksum)
        reason = file.incomplete() if expected is None else _disagreement(checksum, expected)
        if reason:
            notes.append(f"vendor: {name} was left for the next run: {reason}")
        else:
            files[checksum] = file
    return list(files.values()), notes


def _disagreement(checksum: str, sidecar: bytes) -> str | None:
    words = sidecar.decode("ascii", errors="replace").split()
    stated = words[0].lower() if words else "nothing"
    return (
        None if stated == checksum else f"its sidecar states {stated[:12]}…, its content has {checksum[:12]}…"
    )


def _require_headers(files: list[_File]) -> None:
    expected = [name for name in source_fields(TABLE) if name not in _ROW_FIELDS]
    violations = []
    for file in files:
        for column in expected:
            if column not in file.header:
                violations.append(Violation(f"{file.name}.{column}", "no such column", "a column"))
        for column in sorted({name for name in file.header if file.header.count(name) > 1}):
            violations.append(Violation(f"{file.name}.{column}", "the column twice", "each column once"))
    if violations:
        raise ContractViolation(
            "vendor files break the agreed form; nothing of the inbox was taken",
            violations=tuple(violations),
            hint="ask the vendor for a corrected file, or take the file out of the inbox",
        )


@dataclass(frozen=True)
class _Record:
    line: int
    cells: list[str]


class _File:
    """One CSV file. Bytes that are not UTF-8 are shown as \\xNN and spoil their own record only."""

    def __init__(self, name: str, body: bytes, checksum: str) -> None:
        self.name, self.body, self.checksum = name, body, checksum
        try:
            self._text, self._is_utf8 = body.decode("utf-8-sig"), True
        except UnicodeDecodeError:
            self._text, self._is_utf8 = (
                body.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape"),
                False,
            )
        # An open quote makes a cell of all that follows; how long cells may be is for the contract to say.
        csv.field_size_limit(max(csv.field_size_limit(), len(self._text)))
        first = next(self._records(), None)
        self.header = [name.strip() for name in first.cells] if first else []

    def incomplete(self) -> str | None:
        """Why the file looks half written, or None."""
        if not self._text.endswith("\n"):
            return "its last line does not end"
        last: _Record | None = None
        for record in self._records(sentinel=True):
            if record.cells == [_SENTINEL]:
                break
            last = record
        else:
            return "it ends within quotes"
        if last is None:
            return "it is empty"
        if len(last.cells) < len(self.header):
            return f"its last record has {len(last.cells)} cells of {len(self.header)}"
        return None

    def rows(self) -> Iterator[Row]:
        """Landing rows in the order of the file; a row that is no good record says why in ``_malformed``."""
        records = self._records()
        next(records, None)
        for record in records:
            cells = record.cells
            row: Row = {
                POSITION: f"{self.name}:{record.line:09d}",
                "file": self.name,
                "line": record.line,
                **dict(zip(self.header, cells, strict=False)),
            }
            row.pop(MALFORMED, None)  # a column of that name says nothing about our parsing
            reasons = []
            if len(cells) < len(self.header):
                reasons.append(f"{len(cells)} cells, expected {len(self.header)}")
            if len(cells) > len(self.header):
                row[SURPLUS] = ", ".join(repr(cell) for cell in cells[len(self.header) :])
                reasons.append(f"{len(cells)} cells, expected {len(self.header)}")
            if not self._is_utf8 and any(_is_escaped(cell) for cell in cells):
                row = {key: _shown(value) if isinstance(value, str) else value for key, value in row.items()}
                reasons.append("bytes that are not UTF-8")
            if reasons:
                row[MALFORMED] = "; ".join(reasons)
            yield row

    def _records(self, *, sentinel: bool = False) -> Iterator[_Record]:
        """Records with the line on which they begin; blank lines are none."""
        text = self._text + _SENTINEL + "\n" if sentinel else self._text
        reader = csv.reader(io.StringIO(text, newline=""))
        line = 1
        try:
            for cells in reader:
                if cells:
                    yield _Record(line, cells)
                line = reader.line_num + 1
        except csv.Error as error:
            raise ContractViolation(
                "a vendor file is no CSV",
                violations=(Violation(f"{self.name}:{line}", str(error), "a CSV record"),),
                hint="ask the vendor for a corrected file, or take the file out of the inbox",
            ) from None


def _is_escaped(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _shown(text: str) -> str:
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
