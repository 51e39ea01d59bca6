"""A person taken out of landing files. Pure for one file; a folder is rewritten so that it can be cut off anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse import store
from lakehouse.landing import POSITION, LandedFile, Manifest
from lakehouse.settings import Settings

# What the name of a source's own file, kept for audits, begins with.
_ORIGINAL = "original-"
_INSTEAD = "erased"
# Fields of a record that hold bytes, as base64.
_BYTES = ("key", "value")


@dataclass(frozen=True)
class Landed:
    """Where a source's landing holds the person: rows whose ``field`` (None: there is none) is one of their ids.

    Such rows go. Where a row is not about a person, it ``stays``, with what ``nulls`` names empty, and of a refused one
    without the words that tell of them.
    """

    source: str
    table: str
    field: str | None
    nulls: tuple[str, ...] = ()
    stays: bool = False


@dataclass(frozen=True)
class Person:
    """What a landing is searched for: ``ids`` and, where none can be read, ``words``: addresses and numbers.

    ``refused``: ``<run>/<position>`` of refused rows that tell of the person.
    """

    ids: Set[str]
    words: Set[str] = frozenset()
    refused: Set[str] = frozenset()

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Ids and words where they stand in a text, bounded as ``refused_person`` has it."""
        found = "|".join(map(re.escape, sorted({*self.ids, *self.words}, key=len, reverse=True)))
        return re.compile(rf"(?<![0-9a-z])(?:{found})(?![0-9a-z])" if found else r"(?!)", re.IGNORECASE)

    def has(self, run: str, position: Any) -> bool:
        """Whether a row was refused and tells of the person. A replay's position has the run that refused it."""
        return position in self.refused or f"{run}/{position}" in self.refused


@dataclass(frozen=True)
class Part:
    """A part without the person: ``hits`` rows were theirs, ``rows`` are left; ``fields`` counts the latter's."""

    body: bytes
    hits: int
    rows: int | None
    fields: Counter[str]


def erase_landed(settings: Settings, where: Landed, person: Person, *, apply: bool) -> int:
    """Take a person out of every landing of a table; the number of rows that were theirs.

    A run's parts are written beside the old ones under other names, then its manifest names them, then what it does
    not name is deleted.
    """
    return sum(
        _folder(folder, uris, where, person, apply=apply)
        for folder, uris in _folders(settings, where)
    )  # fmt: skip


def without(name: str, body: bytes, where: Landed, person: Person, run: str = "") -> Part:
    """A file of a run's landing without the person; of a source's own file, which no row is counted of, the words."""
    if name.startswith(_ORIGINAL):
        return _without_words(body, person, run)
    if name.endswith(".parquet"):
        return _without_rows(body, where, person, run)
    return _without_lines(body, where, person, run)


def _folders(settings: Settings, where: Landed) -> Iterator[tuple[str, list[str]]]:
    base = f"{settings.lake_uri}/landing/{where.source}/{where.table}/"
    found: dict[str, list[str]] = {}
    for uri in store.keys(base):
        found.setdefault(uri.rpartition("/")[0], []).append(uri)
    yield from found.items()


def _folder(folder: str, uris: Iterable[str], where: Landed, person: Person, *, apply: bool) -> int:
    run = folder.rpartition("/")[2]
    parts = [uri for uri in uris if _is_part(uri)]
    body = store.get(f"{folder}/manifest.json")
    manifest = None if body is None else Manifest.model_validate_json(body)
    named = {file.name: file for file in manifest.files} if manifest else {}
    hits = 0
    files: dict[str, LandedFile] = {}
    fields: Counter[str] = Counter()
    for uri in parts:
        name = uri.rpartition("/")[2]
        body = store.get(uri) or b""
        part = without(name, body, where, person, run)
        hits += part.hits
        fields.update(part.fields if name in named else {})
        is_changed = part.body != body if part.rows is None else part.hits > 0
        if not is_changed or not apply:
            continue
        digest = hashlib.sha256(part.body).hexdigest()
        # Of a landing without a manifest nothing is known but its files: a try was cut off, or is under way.
        stem, _, suffix = name.partition(".")
        new = name if manifest is None else f"{stem}-e{digest[:8]}.{suffix}"
        store.put(f"{folder}/{new}", part.body, content_type="application/octet-stream")
        if name in named:
            files[name] = named[name].model_copy(
                update={"name": new, "rows": part.rows, "bytes": len(part.body), "sha256": digest}
            )
    if manifest is None or not apply:
        return hits
    if files:
        rewritten = tuple(files.get(file.name, file) for file in manifest.files)
        manifest = manifest.model_copy(
            update={
                "files": rewritten,
                "rows": sum(file.rows or 0 for file in rewritten),
                "fields": {**dict.fromkeys(manifest.fields, 0), **fields} if manifest.fields else {},
            }
        )
        store.put(f"{folder}/manifest.json", manifest.model_dump_json(indent=1).encode())
    kept = {file.name for file in manifest.files}
    for uri in store.keys(f"{folder}/"):
        if _is_part(uri) and uri.rpartition("/")[2] not in kept:
            store.delete(uri)
    return hits


def _is_part(uri: str) -> bool:
    name = uri.rpartition("/")[2]
    return name.endswith((".jsonl.gz", ".parquet")) or name.startswith(_ORIGINAL)


def _without_words(body: bytes, person: Person, run: str) -> Part:
    if not any(each.startswith(f"{run}/") for each in person.refused):
        return Part(body, 0, None, Counter())
    text = body.decode("utf-8", "surrogateescape")
    changed = person.pattern.sub(_INSTEAD, text)
    return Part(changed.encode("utf-8", "surrogateescape"), 0, None, Counter())


def _without_lines(body: bytes, where: Landed, person: Person, run: str) -> Part:
    kept: list[bytes] = []
    fields: Counter[str] = Counter()
    hits = 0
    for line in gzip.decompress(body).splitlines():
        row: dict[str, Any] = json.loads(line)
        is_refused = person.has(run, row.get(POSITION))
        if not where.stays:
            if is_refused or _is_theirs(row, where, person):
                hits += 1
                continue
        else:
            changed = _nulled(row, where, person.ids) or row
            if is_refused or "payload" in row:
                changed = _scrubbed(changed, person.pattern)
            if changed != row:
                hits += 1
                row, line = changed, _text(changed).encode()
        fields.update(row.keys() - {POSITION})
        kept.append(line)
    text = b"".join(line + b"\n" for line in kept)
    return Part(gzip.compress(text, compresslevel=3, mtime=0), hits, len(kept), fields)


def _is_theirs(row: dict[str, Any], where: Landed, person: Person) -> bool:
    """Whether a row is the person's: by its id or, where none can be read, by what it says."""
    if where.field not in row and isinstance(row.get("payload"), str) and (inner := _object(row["payload"])):
        return _is_theirs(inner, where, person)
    held = row.get(where.field or "")
    given = "" if held is None else str(held).strip()
    return given in person.ids if given else person.pattern.search(" ".join(_texts(row))) is not None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)


def _nulled(row: dict[str, Any], where: Landed, ids: Set[str]) -> dict[str, Any] | None:
    """The row without what names the person; None where it names somebody else, or nobody.

    A replay's line holds the row as text, and an event of a topic holds its own as base64 in that, beside its key.
    """
    if where.field in row:
        return row | dict.fromkeys(where.nulls) if str(row[where.field]).strip() in ids else None
    if isinstance(row.get("payload"), str):
        inner = _nulled(_object(row["payload"]), where, ids)
        return None if inner is None else row | {"payload": _text(inner)}
    if isinstance(row.get("value"), str):
        event = _nulled(_object(_decoded(row["value"])), where, ids)
        if event is None:
            return None
        return row | {"value": _encoded(_text(event))} | ({"key": None} if "key" in row else {})
    return None


def _scrubbed(value: Any, pattern: re.Pattern[str]) -> Any:
    """A value without words, in texts and in JSON and base64 that texts hold; where it stands in a landing stays."""
    if isinstance(value, list):
        return [_scrubbed(each, pattern) for each in value]
    if isinstance(value, dict):
        is_record = {"topic", "offset"} <= value.keys()
        found = {}
        for name, each in value.items():
            if name == POSITION:
                found[name] = each
            elif is_record and name in _BYTES and isinstance(each, str):
                text = _decoded(each).decode("utf-8", "surrogateescape")
                changed = _scrubbed(text, pattern)
                found[name] = each if changed == text else _encoded(changed)
            else:
                found[name] = _scrubbed(each, pattern)
        return found
    if not isinstance(value, str):
        return value
    if inner := _object(value):
        changed = _scrubbed(inner, pattern)
        return value if changed == inner else _text(changed)
    return pattern.sub(_INSTEAD, value)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _object(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, TypeError):
        return {}
    return value if isinstance(value, dict) else {}


def _without_rows(body: bytes, where: Landed, person: Person, run: str) -> Part:
    table = pq.read_table(io.BytesIO(body))
    names = [name for name in table.column_names if name != POSITION]
    theirs = pa.array([False] * table.num_rows, pa.bool_())
    if where.field in names:
        given = pc.utf8_trim_whitespace(table[where.field].cast(pa.string()))
        theirs = pc.fill_null(pc.is_in(given, value_set=pa.array(sorted(person.ids), pa.string())), False)
    refused = [
        number
        for number, position in enumerate(
            table[POSITION].to_pylist() if POSITION in table.column_names else []
        )
        if person.has(run, position)
    ]
    hit: set[int] = set(pc.indices_nonzero(theirs).to_pylist())
    if not (hit or refused):
        return Part(body, 0, table.num_rows, Counter(dict.fromkeys(names, table.num_rows)))
    if not where.stays:
        hit.update(refused)
        table = table.take(pa.array([n for n in range(table.num_rows) if n not in hit], pa.int64()))
    else:
        for name in where.nulls if hit else ():
            column = table[name]
            changed = pc.if_else(theirs, pa.nulls(table.num_rows, column.type), column)
            table = table.set_column(table.column_names.index(name), name, changed)
        for name in names if refused else ():
            kind = table[name].type
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                values = table[name].to_pylist()
                scrubbed = {number: _scrubbed(values[number], person.pattern) for number in refused}
                changed_rows = {number for number, value in scrubbed.items() if value != values[number]}
                hit |= changed_rows
                if changed_rows:
                    column = pa.array([scrubbed.get(n, value) for n, value in enumerate(values)], kind)
                    table = table.set_column(table.column_names.index(name), name, column)
    target = io.BytesIO()
    pq.write_table(table, target, coerce_timestamps="us", compression="zstd")
    return Part(target.getvalue(), len(hit), table.num_rows, Counter(dict.fromkeys(names, table.num_rows)))
