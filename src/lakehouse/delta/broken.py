"""Objects of a Delta table that are missing or not what was written, found without Spark.

The log says which objects there have to be and how large they are; a listing says what there is. An object is read
only where that is cheap (the commits and the checkpoint that a reader needs) or where it is suspicious: objects of a
table are written once, so that a data file which is younger than the log says was written again.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from lakehouse import store
from lakehouse.store import StoredObject

LAST_CHECKPOINT = "_last_checkpoint"
MISSING = "is missing"
_COMMIT = re.compile(r"^(\d{20})\.json$")
# One part, or part n of m, of the checkpoint of a version.
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint\.(?:(\d{10})\.(\d{10})\.)?parquet$")
# Written behind its commit: where the newest commit was deleted, it is all that tells of it.
_CHECKSUM = re.compile(r"^(\d{20})\.crc$")
# S3 tells whole seconds, and a file is written before its commit says when.
_SINCE = timedelta(seconds=5)
_READERS = 8


@dataclass(frozen=True, order=True)
class Broken:
    """An object that a table cannot be read without, and what is wrong with it."""

    uri: str
    problem: str

    def __str__(self) -> str:
        return f"{self.uri} {self.problem}"


@dataclass(frozen=True)
class DataFile:
    """A data file as the log describes it; ``rows`` is None where it has no statistics."""

    uri: str
    bytes: int
    rows: int | None
    written_at: datetime


@dataclass(frozen=True)
class Log:
    """The objects of a log by what they are; whole checkpoints by version, of others the parts that are ``absent``."""

    uri: str
    objects: Mapping[str, StoredObject]
    commits: frozenset[int]
    checkpoints: Mapping[int, tuple[str, ...]]
    absent: Mapping[int, tuple[str, ...]]

    @property
    def newest(self) -> int:
        """The newest version that any object names; -1 where there is none."""
        checksums = (int(found[1]) for name in self.objects if (found := _CHECKSUM.match(name)))
        return max([*self.commits, *self.checkpoints, *checksums], default=-1)


def broken(uri: str) -> list[Broken]:
    """What is broken of the table at a location: its log, else its data files. Empty where there is no table."""
    return broken_log(uri) or broken_files(uri)


def read_log(uri: str) -> Log:
    """What a listing tells of a table's log."""
    base = f"{uri}/_delta_log/"
    objects = {each.uri.removeprefix(base): each for each in store.objects(base)}
    commits = {int(found[1]) for name in objects if (found := _COMMIT.match(name))}
    parts: dict[int, list[tuple[str, int, int]]] = {}
    for name in objects:
        if found := _CHECKPOINT.match(name):
            part, of = int(found[2] or 1), int(found[3] or 1)
            parts.setdefault(int(found[1]), []).append((name, part, of))
    whole = {version: names for version, group in parts.items() if (names := _whole(group))}
    absent = {version: _absent(version, group) for version, group in parts.items() if version not in whole}
    return Log(uri, objects, frozenset(commits), whole, absent)


def _whole(parts: Iterable[tuple[str, int, int]]) -> tuple[str, ...]:
    """The objects of a checkpoint all of whose parts are there, else nothing."""
    sizes: dict[int, dict[int, str]] = {}
    for name, part, of in parts:
        sizes.setdefault(of, {})[part] = name
    return next((tuple(found.values()) for of, found in sizes.items() if len(found) == of), ())


def _absent(version: int, parts: Iterable[tuple[str, int, int]]) -> tuple[str, ...]:
    of = max(of for _, _, of in parts)
    there = {part for _, part, each in parts if each == of}
    return tuple(
        f"{version:020}.checkpoint.{part:010}.{of:010}.parquet"
        for part in range(1, of + 1)
        if part not in there
    )


def broken_log(uri: str) -> list[Broken]:
    """Objects of the log without which the newest version cannot be read, or that a reader would stumble over."""
    log = read_log(uri)
    if log.newest < 0:
        return []
    # Delta goes by what the pointer says before it looks for itself.
    found = _pointer(log)
    start = -1
    for version in sorted(log.checkpoints, reverse=True):
        bad = [each for name in log.checkpoints[version] if (each := _parquet(f"{uri}/_delta_log/{name}"))]
        if not bad:
            start = version
            break
        found += bad
    found += broken_commits(log, start)
    if not found and start >= 0 and not _is_followed(uri):
        # Each object is whole by its form, so that it is what the checkpoint says that cannot be.
        found = [
            Broken(f"{uri}/_delta_log/{name}", "says what no reader follows")
            for name in log.checkpoints[start]
        ]
    return sorted(set(found))


def broken_commits(log: Log, start: int) -> list[Broken]:
    """Commits that a reader needs who has a checkpoint of version ``start`` (-1: none)."""
    base = f"{log.uri}/_delta_log/"
    # The newest always: Delta asks for it beside a checkpoint of its version, too.
    needed = sorted({*range(start + 1, log.newest + 1), log.newest})
    found = [Broken(f"{base}{version:020}.json", MISSING) for version in needed if version not in log.commits]
    there = [f"{base}{version:020}.json" for version in needed if version in log.commits]
    with ThreadPoolExecutor(_READERS) as pool:
        return found + [each for each in pool.map(_commit, there) if each is not None]


def _is_followed(uri: str) -> bool:
    """Whether a reader gets through the log."""
    try:
        data_files(uri)
    except DeltaError:
        return False
    return True


def deleted_commits(uri: str) -> list[Broken]:
    """Commits behind the newest that the log has, as far as the bucket keeps versions of them."""
    base, newest = f"{uri}/_delta_log/", read_log(uri).newest
    return [
        Broken(each, MISSING)
        for each in store.deleted(base)
        if (found := _COMMIT.match(each.removeprefix(base))) and int(found[1]) > newest
    ]


def _pointer(log: Log) -> list[Broken]:
    """What is wrong with the object that names the newest checkpoint."""
    if LAST_CHECKPOINT not in log.objects:
        return []
    uri = f"{log.uri}/_delta_log/{LAST_CHECKPOINT}"
    try:
        version = int(json.loads(store.get(uri) or b"")["version"])
    except (ValueError, KeyError, TypeError):
        return [Broken(uri, "does not name a checkpoint")]
    if version in log.absent:
        return [Broken(f"{log.uri}/_delta_log/{name}", MISSING) for name in log.absent[version]]
    if version not in log.checkpoints and version <= log.newest:
        return [Broken(f"{log.uri}/_delta_log/{version:020}.checkpoint.parquet", MISSING)]
    if version not in log.checkpoints:
        return [Broken(uri, f"names the checkpoint of version {version}, which is not there")]
    return []


def _commit(uri: str) -> Broken | None:
    return _judged(uri, commit_problem(store.get(uri)))


def _parquet(uri: str, rows: int | None = None) -> Broken | None:
    return _judged(uri, parquet_problem(store.get(uri), rows))


def _judged(uri: str, problem: str | None) -> Broken | None:
    return None if problem is None else Broken(uri, problem)


def commit_problem(body: bytes | None) -> str | None:
    """What is wrong with a commit: each of its lines has to be an action, and there has to be one."""
    if body is None:
        return MISSING
    if not body.strip():
        return "is empty"
    try:
        is_log = all(isinstance(json.loads(line), dict) for line in body.splitlines() if line.strip())
    except ValueError:
        is_log = False
    return None if is_log else "is no commit of a Delta log"


def parquet_problem(body: bytes | None, rows: int | None = None) -> str | None:
    """What is wrong with a Parquet object: all of it is read, with the checksums of its pages."""
    if body is None:
        return MISSING
    if not body:
        return "is empty"
    try:
        file = pq.ParquetFile(io.BytesIO(body), page_checksum_verification=True)
        count = sum(batch.num_rows for batch in file.iter_batches())
    except (pa.ArrowException, OSError, ValueError):
        return "is no whole Parquet file"
    return None if rows in (None, count) else f"has {count} rows, where {rows} were written"


def data_files(uri: str) -> list[DataFile]:
    """The data files of the newest version. Raises DeltaError where the log cannot be read."""
    table = DeltaTable(uri, storage_options=store.delta_options())
    added = pa.table(table.get_add_actions(flatten=True))
    counted = added["num_records"].to_pylist() if "num_records" in added.column_names else [None] * len(added)
    return [
        DataFile(f"{uri}/{unquote(path)}", size, rows, datetime.fromtimestamp(written / 1000, UTC))
        for path, size, rows, written in zip(
            added["path"].to_pylist(),
            added["size_bytes"].to_pylist(),
            counted,
            added["modification_time"].to_pylist(),
            strict=True,
        )
    ]


def broken_files(uri: str) -> list[Broken]:
    """Data files of the newest version that are missing, of another size, or were written again and are not whole."""
    try:
        files = data_files(uri)
    except TableNotFoundError:
        return []
    except DeltaError as error:
        # A log whose objects are whole and that says what nobody can follow: no file can be looked for.
        return [Broken(f"{uri}/_delta_log/", f"cannot be read: {str(error).splitlines()[0][:200]}")]
    there = {each.uri: each for each in store.objects(f"{uri}/")} if files else {}
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda file: _data(file, there.get(file.uri)), files)
        return sorted(each for each in found if each is not None)


def _data(file: DataFile, there: StoredObject | None) -> Broken | None:
    if there is None:
        return Broken(file.uri, MISSING)
    if there.bytes != file.bytes:
        return Broken(file.uri, f"has {there.bytes} bytes, where {file.bytes} were written")
    if there.modified > file.written_at + _SINCE:
        return _parquet(file.uri, file.rows)
    return None
