"""Shipment files of the vendor to landing files: each file once, by the checksum of its content.

An object of S3 is whole once it is listed: a file is taken as it is, whether its last line ends or not, and a row that
was cut off goes to quarantine. With a sidecar ``<name>.sha256`` beside it, it is taken when the checksum agrees. What
is no CSV in UTF-8 at all stays in the inbox, and every manifest says so and why.

A file that was taken is known by name, ETag and size, and is not downloaded again. Where a name gets back a content
that it had before, that is its newest state, and it is taken again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from lakehouse import store
from lakehouse.errors import ContractViolation, Violation
from lakehouse.landing import (
    MALFORMED_FIELD,
    POSITION,
    SURPLUS_FIELD,
    LandingWriter,
    Manifest,
    read_manifest,
)
from lakehouse.names import landed_name
from lakehouse.runs import run_time
from lakehouse.settings import Settings, VendorSettings
from lakehouse.sources.csv_text import Record, records
from lakehouse.sources.fields import source_fields
from lakehouse.sources.watermark import Watermark, backfilled, window_end
from lakehouse.store import StoredObject

SOURCE, TABLE = "vendor", "vendor_shipments"
# Fields of a landed row that are no columns of the file.
_ROW_FIELDS = ("file", "line")
_SIDECAR = ".sha256"
_SHOWN_HEADER = 200
_OTHER_FORMS = {
    b"\x1f\x8b": "it is compressed by gzip",
    b"PK\x03\x04": "it is a ZIP archive (as workbooks are)",
    b"BZh": "it is compressed by bzip2",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd",
    b"\xff\xfe\x00\x00": "it is UTF-32",
    b"\x00\x00\xfe\xff": "it is UTF-32",
    b"\xff\xfe": "it is UTF-16",
    b"\xfe\xff": "it is UTF-16",
}

Row = dict[str, Any]


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Land every file of the inbox that no certified run has landed.

    ``state`` is ``{"files": {sha256: name}, "objects": {name: [etag, bytes, sha256]},
    "left": {name: [since, reason, etag, bytes, the sidecar's etag]}, "read_at": time}``: files landed, with their
    copies, and files left out. Raises ContractViolation, naming every file
    and column, where a header lacks a column, has one twice or cannot be read, or a file is larger than the settings
    allow; nothing is landed then.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    watermark = watermarks.get(TABLE, Watermark())
    inbox = _Inbox(settings.sources.vendor)
    files = inbox.new(watermark.states, inbox.data_files())
    writer = LandingWriter(settings, SOURCE, TABLE, run_id)
    _write(writer, files)
    manifest = writer.commit(
        window_from=watermark.time,
        window_to=window_end(run_time(run_id), watermark, run_time(run_id)),
        fields=source_fields(TABLE),
        state=_state(inbox, files),
        notes=inbox.notes,
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Land every file that came to the inbox in [since, until), taken before or not. Raises as ``extract``."""
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    inbox = _Inbox(settings.sources.vendor)
    files = inbox.new((), (item for item in inbox.data_files() if since <= item.modified < until))
    writer = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill")
    _write(writer, files)
    manifest = writer.commit(
        window_from=since,
        window_to=None,
        fields=source_fields(TABLE),
        state=_state(inbox, files),
        notes=[backfilled(since, until), *inbox.notes],
    )
    return (manifest,)


def _state(inbox: _Inbox, files: Iterable[_File]) -> dict[str, Any]:
    return {
        "files": {file.checksum: file.name for file in files},
        "objects": inbox.objects,
        "left": inbox.left,
        "read_at": inbox.read_at.isoformat(),
    }


def _write(writer: LandingWriter, files: Iterable[_File]) -> None:
    for number, file in enumerate(files):
        writer.write_original(f"{number:05d}-{PurePosixPath(file.name).name[-100:]}", file.body)
        writer.write_rows(file.rows())


class _Inbox:
    """The vendor's folder as it is listed once; ``notes`` says of each file that is left out why.

    ``objects``: ETag, size and checksum of each file that was read and is landed, by this run or before. ``left``:
    since when each file is there that cannot be taken as it is, and why; the watchdog alarms after a day. It is not
    downloaded again until it, or its sidecar, is another object; a backfill looks at it all the same.
    """

    def __init__(self, settings: VendorSettings) -> None:
        self._settings = settings
        self._base = f"{settings.inbox_uri}/"
        self._items = {item.uri.removeprefix(self._base): item for item in store.objects(self._base)}
        self.read_at = datetime.now(UTC)
        self.notes: list[str] = []
        self.objects: dict[str, list[Any]] = {}
        self.left: dict[str, list[Any]] = {}

    def data_files(self) -> Iterator[StoredObject]:
        """The files with a data file's name, in the order of their names."""
        for name, item in sorted(self._items.items()):
            if name.endswith((_SIDECAR, "/")):
                continue
            if name.lower().endswith(".csv"):
                yield item
            else:
                self.notes.append(f"vendor: {name} was left in the inbox: not a .csv file")

    def new(self, states: Iterable[Mapping[str, Any]], items: Iterable[StoredObject]) -> list[_File]:
        """The files that no state has, each content once."""
        known = _Known(states)
        files: list[_File] = []
        violations: list[Violation] = []
        received = 0
        for item in items:
            name = item.uri.removeprefix(self._base)
            if (first := known.first_name(name, known.checksum(name, item))) is not None:
                self._say_copy(name, first)
            elif item.bytes > self._settings.max_file_bytes:
                violations.append(self._too_large(name, item))
            elif files and received + item.bytes > self._settings.max_run_bytes:
                limit = f"a run takes {self._settings.max_run_bytes} bytes (sources.vendor.max_run_bytes)"
                self.notes.append(f"vendor: {name} was left for the next run: {limit}")
            elif (file := self._read(name, item, known)) is not None:
                received += len(file.body)
                violations.extend(file.violations())
                files.append(file)
        if violations:
            raise ContractViolation(
                "vendor files break the agreed form; nothing of the inbox was taken",
                violations=tuple(violations),
                hint="ask the vendor for a corrected file, or take the file out of the inbox",
            )
        return files

    def _read(self, name: str, item: StoredObject, known: _Known) -> _File | None:
        marks = [item.etag, item.bytes, self._sidecar_etag(name)]
        if reason := known.left_for(name, marks):
            self._leave(name, item, reason, marks)
            return None
        body = store.get(item.uri)
        if body is None:
            self.notes.append(f"vendor: {name} was not taken: it is gone since the inbox was listed")
            return None
        checksum = hashlib.sha256(body).hexdigest()
        first = known.first_name(name, checksum)
        if first is None and (reason := _other_form(body) or self._disagreement(name, checksum)):
            self._leave(name, item, reason, marks)
            return None
        self.objects[name] = [item.etag, len(body), checksum]
        if first is not None:
            self._say_copy(name, first)
            return None
        known.names[checksum] = name
        return _File(name, body, checksum)

    def _leave(self, name: str, item: StoredObject, reason: str, marks: list[Any]) -> None:
        self.notes.append(f"vendor: {name} was left in the inbox: {reason}")
        self.left[name] = [item.modified.isoformat(), reason, *marks]

    def _sidecar_etag(self, name: str) -> str:
        sidecar = self._items.get(name + _SIDECAR)
        return "" if sidecar is None else sidecar.etag

    def _say_copy(self, name: str, first: str) -> None:
        if first != name:
            self.notes.append(f"vendor: {name} was not taken: it has the content of {first}")

    def _too_large(self, name: str, item: StoredObject) -> Violation:
        limit = self._settings.max_file_bytes
        return Violation(name, f"{item.bytes} bytes", f"at most {limit} (sources.vendor.max_file_bytes)")

    def _disagreement(self, name: str, checksum: str) -> str | None:
        sidecar = self._items.get(name + _SIDECAR)
        stated = None if sidecar is None else store.get(sidecar.uri)
        if stated is None:
            return None
        words = stated.decode("ascii", errors="replace").split()
        said = words[0].lower() if words else "nothing"
        if said == checksum:
            return None
        return f"its sidecar states {said[:12]}…, its content has {checksum[:12]}…"


class _Known:
    """What certified runs have landed, and what they left: ``names`` by checksum, and what stood under each name."""

    def __init__(self, states: Iterable[Mapping[str, Any]]) -> None:
        self.names: dict[str, str] = {}
        self._objects: dict[tuple[str, str, int], str] = {}
        self._newest: dict[str, str] = {}
        self._left: dict[str, list[Any]] = {}
        for state in sorted(states, key=lambda state: str(state.get("read_at", ""))):
            self.names.update(state.get("files", {}))
            for name, (etag, size, checksum) in state.get("objects", {}).items():
                self._objects[(name, etag, size)] = checksum
                self._newest[name] = checksum
            self._left = state.get("left", {})
        self._landed = set(self.names.values())

    def checksum(self, name: str, item: StoredObject) -> str | None:
        """The checksum of an object that was read before."""
        return self._objects.get((name, item.etag, item.bytes))

    def left_for(self, name: str, marks: list[Any]) -> str | None:
        """Why the newest run left this very object, with this very sidecar, in the inbox; None where it did not."""
        _, reason, *seen = self._left.get(name, [None, None])
        return reason if seen == marks else None

    def first_name(self, name: str, checksum: str | None) -> str | None:
        """The name under which a content was landed; None where it is new, or takes back what came after it."""
        if checksum is None or (name in self._landed and self._newest.get(name, checksum) != checksum):
            return None
        return self.names.get(checksum)


def _other_form(body: bytes) -> str | None:
    """Why a file cannot be read at all, or None; bytes that are no UTF-8 within a row are the row's business."""
    for beginning, form in _OTHER_FORMS.items():
        if body.startswith(beginning):
            return f"{form}, expected CSV as plain text in UTF-8"
    text = body.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        return "it is empty"
    if b"\x00" in text[:1000]:
        return "it has NUL bytes, as UTF-16 without a byte order mark has; expected CSV in UTF-8"
    if b"\n" not in text and b"\r" in text.rstrip():
        return "its lines end in CR alone, expected LF or CRLF"
    return None


@dataclass(frozen=True)
class _File:
    """One CSV file. Bytes that are not UTF-8 are shown as \\xNN and spoil their own record only."""

    name: str
    body: bytes
    checksum: str

    def violations(self) -> Iterator[Violation]:
        """What is wrong with the header, which all rows depend on."""
        first = next(self._records(), Record(1, []))
        where = f"{self.name}:{first.line}"
        shown = ",".join(first.cells)
        if any(_is_escaped(cell) for cell in first.cells):
            byte = next(ord(character) - 0xDC00 for character in shown if _is_escaped(character))
            yield Violation(where, f"a header with the byte 0x{byte:02x} ({_shown(shown)})", "UTF-8")
            return
        shown = shown if len(shown) <= _SHOWN_HEADER else f"{shown[:_SHOWN_HEADER]}…"
        if first.fault:
            yield Violation(where, f"a header with {first.fault} ({shown})", "a header as RFC 4180 has it")
            return
        header = _header(first)
        missing = [name for name in _expected() if name not in header]
        if missing:
            separated = "" if len(header) > 1 else ", separated by commas"
            columns = f"{'columns' if len(missing) > 1 else 'a column'} {', '.join(missing)}"
            yield Violation(where, f"the header {shown}", f"{columns} in it{separated}")
        for column in sorted({name for name in header if header.count(name) > 1}):
            yield Violation(f"{where}, column {column}", "it twice", "each column once")

    def rows(self) -> Iterator[Row]:
        """Landing rows in the order of the file; a row that is no good record says why in ``_malformed``."""
        records = self._records()
        names = [landed_name(name, _ROW_FIELDS) for name in _header(next(records))]
        for record in records:
            yield self._row(record, names)

    def _row(self, record: Record, names: list[str]) -> Row:
        cells = record.cells
        row: Row = {
            POSITION: f"{self.name}:{record.line:09d}",
            "file": self.name,
            "line": record.line,
            **dict(zip(names, cells, strict=False)),
        }
        reasons = [record.fault] if record.fault else []
        if len(cells) > len(names):
            row[SURPLUS_FIELD] = ", ".join(repr(cell) for cell in cells[len(names) :])
        if len(cells) != len(names) and not record.fault:
            reasons.append(f"{len(cells)} cells, expected {len(names)}")
        if any(_is_escaped(cell) for cell in cells):
            row = {key: _shown(value) if isinstance(value, str) else value for key, value in row.items()}
            reasons.append("bytes that are not UTF-8")
        return row | {MALFORMED_FIELD: "; ".join(reasons)} if reasons else row

    def _records(self) -> Iterator[Record]:
        text = self.body.removeprefix(b"\xef\xbb\xbf")
        return records(text.decode("utf-8", errors="surrogateescape"))


def _expected() -> list[str]:
    return [name for name in source_fields(TABLE) if name not in _ROW_FIELDS]


def _header(record: Record) -> list[str]:
    return [name.strip() for name in record.cells]


def _is_escaped(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def _shown(text: str) -> str:
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
