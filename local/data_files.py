"""Reads a data folder: finds the files, checks that they can be handed over whole, says all problems at once.

Values are not judged here: a cell that is no number goes to its source as it is, for the pipeline to quarantine.
What stops the load is only what would lose or shift cells: a column that is not there, bytes that are no UTF-8, a
row with more or fewer cells than the header, a quote that never closes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.errors import writable
from lakehouse.sources.csv_text import records
from local.data_layout import (
    FX_LONG_COLUMNS,
    FX_RATES,
    FX_WIDE_DATE,
    LAYOUTS,
    MANIFEST_NAME,
    Kind,
    Layout,
)
from local.supervisor import ServiceError

SHOWN_PER_FILE = 10

ENVELOPE_KEYS = frozenset({"key", "value", "value_base64", "headers", "timestamp_ms", "partition"})


@dataclass(frozen=True)
class Problem:
    """One place in a file that cannot be handed over as it is."""

    where: str
    received: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: received {self.received}, expected {self.expected}"


class DataError(ServiceError):
    """The data folder cannot be loaded; the message lists every problem."""


@dataclass(frozen=True)
class Message:
    """One Kafka record."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None
    partition: int | None = None


@dataclass(frozen=True)
class DataFile:
    """A recognised file with its content, as its kind needs it."""

    layout: Layout
    path: Path
    sha256: str
    header: tuple[str, ...] = ()
    rows: list[list[str]] = field(default_factory=list)
    quotes: list[dict[str, Any]] = field(default_factory=list)  # FX: {"date": text, "quotes": {ccy: text}}
    messages: list[Message] = field(default_factory=list)
    data: bytes = b""

    @property
    def name(self) -> str:
        return self.path.name

    def records(self) -> Iterator[dict[str, str]]:
        for row in self.rows:
            yield dict(zip(self.header, row, strict=True))


@dataclass(frozen=True)
class DataFolder:
    """What a folder holds; ``left_out`` says of each entry that is no data file why it was not loaded."""

    path: Path
    files: list[DataFile]
    left_out: list[str]

    def of(self, layout: Layout) -> list[DataFile]:
        return [file for file in self.files if file.layout is layout]


def read(folder: Path, layouts: Iterable[Layout] = LAYOUTS) -> DataFolder:
    """All recognised files of the folder. Raises DataError naming file, line, received and expected."""
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}")
    chosen = tuple(layouts)
    allowed = _allowed_missing(folder)
    files: list[DataFile] = []
    left_out: list[str] = []
    problems: list[Problem] = []
    for path in _entries(folder):
        layout = next((one for one in LAYOUTS if one.matches(path)), None)
        name = writable(path.name)
        if not path.is_file():
            left_out.append(f"{name} is {_kind(path)} and was not loaded")
            continue
        if layout is None:
            if path.name != MANIFEST_NAME:
                left_out.append(f"{name} was not recognised and was not loaded")
            continue
        if layout not in chosen:
            continue
        if name != path.name:
            problems.append(Problem(name, "a file name that is no UTF-8", "one that is"))
            continue
        found: list[Problem] = []
        file = _read_file(path, layout, allowed.get(layout.name, ()), found)
        problems += found[:SHOWN_PER_FILE]
        if len(found) > SHOWN_PER_FILE:
            problems.append(Problem(path.name, f"{len(found) - SHOWN_PER_FILE} more such problems", "none"))
        if file is not None:
            files.append(file)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise DataError(
            f"{folder} cannot be loaded, nothing was:\n{listed}\nCorrect the files; docs/sample-data.md has the layout."
        )
    if not files:
        expected = ", ".join(f"{layout.prefix}*{layout.suffix}" for layout in chosen)
        received = "; ".join(left_out) or "no files"
        raise DataError(f"{folder} has no data file: received {received}, expected {expected}")
    return DataFolder(folder, files, left_out)


def _entries(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        for path in found:
            path.is_file()  # raises where the folder may be listed but not entered
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
    return found


def _kind(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"a link to {writable(str(path.readlink()))}, which is not there,"
    return "a folder" if path.is_dir() else "a pipe, a socket or a device, not a file,"


def _allowed_missing(folder: Path) -> dict[str, tuple[str, ...]]:
    """Columns that the folder's manifest declares as left out on purpose (the generator's poisoned day)."""
    manifest = folder / MANIFEST_NAME
    try:
        declared = json.loads(manifest.read_text(encoding="utf-8")).get("missing_columns", {})
        return {name: tuple(columns) for name, columns in declared.items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


def _read_file(
    path: Path, layout: Layout, allowed: tuple[str, ...], problems: list[Problem]
) -> DataFile | None:
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.append(Problem(path.name, error.strerror or str(error), "a file that can be read"))
        return None
    checksum = hashlib.sha256(data).hexdigest()
    if layout.kind is Kind.OPAQUE:
        return DataFile(layout, path, checksum, data=data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        received = f"the byte 0x{data[error.start]:02x}"
        problems.append(Problem(f"{path.name}:{line}", received, "UTF-8 (with or without a byte order mark)"))
        return None
    if layout.kind is Kind.JSON_LINES:
        return DataFile(layout, path, checksum, messages=list(_messages(path.name, text, problems)))
    header, rows = _table(path.name, text, problems)
    if not header:
        return None
    if layout is FX_RATES:
        return DataFile(layout, path, checksum, quotes=_quotes(path.name, header, rows, problems))
    names = _canonical(path.name, header, layout, allowed, problems)
    return DataFile(layout, path, checksum, header=names, rows=[row for _, row in rows])


def _table(name: str, text: str, problems: list[Problem]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows with the lines on which they begin; blank lines are none."""
    header: list[str] = []
    rows: list[tuple[int, list[str]]] = []
    for record in records(text):
        where = f"{name}:{record.line}"
        if record.fault:
            problems.append(Problem(where, record.fault, "a row as RFC 4180 has it"))
        elif not header:
            header = [cell.strip() for cell in record.cells]
        elif len(record.cells) != len(header):
            received, expected = f"{len(record.cells)} cells", f"{len(header)}, as in the header"
            problems.append(Problem(where, received, expected))
        else:
            rows.append((record.line, record.cells))
    if not header and not problems:
        problems.append(Problem(f"{name}:1", "an empty file", "a header"))
    return header, rows


def _canonical(
    name: str, header: list[str], layout: Layout, allowed: tuple[str, ...], problems: list[Problem]
) -> tuple[str, ...]:
    """The header in the source's own spelling; columns beyond the layout stay (Snowflake's in capitals)."""
    spelling = {column.lower(): column for column in layout.columns}
    shout = all(column.isupper() for column in layout.columns)
    names = tuple(spelling.get(cell.lower(), cell.upper() if shout else cell) for cell in header)
    for column in sorted({n for n in names if names.count(n) > 1}):
        problems.append(Problem(f"{name}:1", f"the column {column!r} twice", "each column once"))
    if "" in names:
        problems.append(Problem(f"{name}:1", f"column {names.index('') + 1} without a name", "a name"))
    for column in layout.required:
        if column not in names and column not in allowed:
            near = ", ".join(header)
            problems.append(
                Problem(f"{name}:1", f"no column {column} (there are {near})", f"a column {column}")
            )
    return names


def _quotes(
    name: str, header: list[str], rows: list[tuple[int, list[str]]], problems: list[Problem]
) -> list[dict[str, Any]]:
    """Rows of the ECB's table from either form. Two rows of one day stay two rows."""
    lowered = [cell.lower() for cell in header]
    if lowered[0] == FX_WIDE_DATE.lower():
        if header[-1] == "":  # the ECB ends every line with a comma
            for line, cells in rows:
                if cells[-1].strip():
                    problems.append(Problem(f"{name}:{line}", f"{cells[-1]!r} under no currency", "nothing"))
            header = header[:-1]
        return [
            {
                "date": cells[0].strip(),
                "quotes": dict(zip(header[1:], (c.strip() for c in cells[1:]), strict=False)),
            }
            for _, cells in rows
        ]
    if not set(FX_LONG_COLUMNS) <= set(lowered):
        expected = f"{','.join(FX_LONG_COLUMNS)}, or the ECB's {FX_WIDE_DATE},USD,JPY,..."
        problems.append(Problem(f"{name}:1", f"the header {','.join(header)}", expected))
        return []
    at = [lowered.index(column) for column in FX_LONG_COLUMNS]
    result: list[dict[str, Any]] = []
    by_day: dict[str, list[dict[str, str]]] = {}
    for _, cells in rows:
        day, ccy, rate = (cells[i].strip() for i in at)
        # A day and currency that comes again begins another row of that day: both quotes are published.
        table = next((quotes for quotes in by_day.get(day, []) if ccy not in quotes), None)
        if table is None:
            table = {}
            by_day.setdefault(day, []).append(table)
            result.append({"date": day, "quotes": table})
        table[ccy] = rate
    return result


def _messages(name: str, text: str, problems: list[Problem]) -> Iterator[Message]:
    """A record per line: an envelope, or else the line itself as the value, keyed by its order_id if it has one."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line:
            continue
        try:
            parsed = json.loads(line)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict) and ("value" in parsed or "value_base64" in parsed):
            if unknown := set(parsed) - ENVELOPE_KEYS:
                problems.append(
                    Problem(
                        f"{name}:{number}", f"an envelope with {sorted(unknown)}", f"{sorted(ENVELOPE_KEYS)}"
                    )
                )
                continue
            try:
                yield _enveloped(parsed)
            except (TypeError, ValueError, AttributeError, binascii.Error) as error:
                problems.append(
                    Problem(f"{name}:{number}", f"an envelope with {error}", "a key, value, headers")
                )
        else:
            key = parsed.get("order_id") if isinstance(parsed, dict) else None
            yield Message(None if key is None else str(key).encode("utf-8"), line.encode("utf-8"))


def _enveloped(parsed: dict[str, Any]) -> Message:
    if "value_base64" in parsed:
        value: bytes | None = base64.b64decode(parsed["value_base64"], validate=True)
    else:
        value = _bytes(parsed["value"])
    headers = tuple((str(k), _bytes(v) or b"") for k, v in (parsed.get("headers") or {}).items())
    timestamp, partition = parsed.get("timestamp_ms"), parsed.get("partition")
    return Message(
        key=_bytes(parsed.get("key")),
        value=value,
        headers=headers,
        timestamp_ms=None if timestamp is None else int(timestamp),
        partition=None if partition is None else int(partition),
    )


def _bytes(value: Any) -> bytes | None:
    """Text as it is; an object, which a person may write instead of a string of JSON, as compact JSON."""
    if value is None:
        return None
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode("utf-8")
