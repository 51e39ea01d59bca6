"""S3 objects on disk: bytes in blob files, everything else in one SQLite index, so that a killed server loses
nothing it has acknowledged.

moto keeps its own objects (buckets, keys, versions, uploads) in memory and its request handlers work on them; this
module gives it keys whose bytes are files and writes the index row of every key that a request touched before the
request is answered. On start the index is read back. The files survive the death of the process, which is what a
laptop needs; they are not fsynced, so a power cut can cost the last seconds.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
import sqlite3
import threading
import time
import uuid
import zlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from moto.s3 import models as s3_models
from moto.s3 import responses as s3_responses
from moto.s3.utils import _VersionedKeyStore

# A replaced object's file stays this long, for the reader that looked it up just before it was replaced.
GRACE_SECONDS = 30.0
LOCK_STRIPES = 1024
CONFLICT_EVERY = 16
CONFLICT_CODE = "ConditionalRequestConflict"
CONFLICT_MESSAGE = (
    "The conditional request cannot succeed due to a conflicting operation against this resource."
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, account TEXT NOT NULL, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
  bucket TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, record BLOB NOT NULL,
  PRIMARY KEY (bucket, key, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (
  bucket TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (bucket, id)) WITHOUT ROWID;
"""


class Conflict(Exception):
    """A conditional write met another request for its key: S3 decides nothing and wants the call repeated."""


class Store:
    """The blobs and the index of one state directory."""

    def __init__(self, root: Path):
        self.root = root
        self.blobs = root / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(root / "index.sqlite", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)
        self._db_lock = threading.Lock()
        self._met: set[str] = set()
        self._key_locks = [threading.RLock() for _ in range(LOCK_STRIPES)]
        self._work = threading.local()
        self._discarded: list[tuple[float, str]] = []
        self._discard_lock = threading.Lock()
        self._bucket_rows: dict[str, bytes] = {}

    # -- bytes ---------------------------------------------------------------------------------------------

    def path(self, blob: str) -> Path:
        return self.blobs / blob[:2] / blob

    def write_blob(self, data: bytes) -> str:
        blob = uuid.uuid4().hex
        path = self.path(blob)
        path.parent.mkdir(exist_ok=True)
        with open(path, "wb", buffering=0) as handle:
            view = memoryview(data)
            while view:
                view = view[handle.write(view) :]
        return blob

    def discard(self, blob: str) -> None:
        now = time.monotonic()
        with self._discard_lock:
            self._discarded.append((now, blob))
            due = []
            while self._discarded and self._discarded[0][0] < now - GRACE_SECONDS:
                due.append(self._discarded.pop(0)[1])
        for old in due:
            self.path(old).unlink(missing_ok=True)

    # -- one request ---------------------------------------------------------------------------------------

    def key_lock(self, bucket: str, key: str) -> threading.RLock:
        return self._key_locks[hash((bucket, key)) % LOCK_STRIPES]

    @contextmanager
    def key_write(self, bucket: str, key: str, *, conditional: bool, agent: str) -> Iterator[None]:
        """The key's lock, for a write. Raises Conflict where a conditional one meets another request for the key.

        S3 answers so (409 ConditionalRequestConflict) even where the condition holds, and wants the call repeated. One
        key in CONFLICT_EVERY meets a request that nobody sent, so that all our clients see it now and then.
        ``agent``: delta-rs (its User-Agent is object_store/…) never repeats the call, and meets only what is real.
        """
        lock = self.key_lock(bucket, key)
        if not lock.acquire(blocking=not conditional):
            raise Conflict
        try:
            if (
                conditional
                and not agent.startswith("object_store/")
                and self._meets_another(f"{bucket}/{key}")
            ):
                raise Conflict
            yield
        finally:
            lock.release()

    def _meets_another(self, path: str) -> bool:
        """Whether this conditional write of the key is refused: every other one, of the keys that meet another."""
        if zlib.crc32(path.encode()) % CONFLICT_EVERY:
            return False
        met = path not in self._met
        (self._met.add if met else self._met.discard)(path)
        return met

    @property
    def _dirty(self) -> set[tuple[str, str]] | None:
        return getattr(self._work, "keys", None)

    def touch(self, bucket: str, key: str) -> None:
        """Remember that this key changed; its rows are written when the running request ends."""
        dirty = self._dirty
        if dirty is None:
            with self.unit_of_work():
                self.touch(bucket, key)
        else:
            dirty.add((bucket, key))

    def touch_upload(self, bucket: str, upload_id: str) -> None:
        uploads = getattr(self._work, "uploads", None)
        if uploads is not None:
            uploads.add((bucket, upload_id))

    @contextmanager
    def unit_of_work(self, *, buckets: bool = False) -> Iterator[None]:
        """Whatever is touched inside is in the index when the block is left, in one transaction."""
        if self._dirty is not None:
            yield
            return
        self._work.keys, self._work.uploads = set(), set()
        try:
            yield
        finally:
            keys, uploads = self._work.keys, self._work.uploads
            self._work.keys = self._work.uploads = None
            if keys or uploads or buckets:
                self._flush(keys, uploads, buckets)

    def _flush(
        self, keys: Iterable[tuple[str, str]], uploads: Iterable[tuple[str, str]], buckets: bool
    ) -> None:
        with self._db_lock:
            self._db.execute("BEGIN")
            try:
                if buckets:
                    self._flush_buckets()
                for name, key in keys:
                    self._db.execute("DELETE FROM versions WHERE bucket = ? AND key = ?", (name, key))
                    found = all_buckets().get(name)
                    if found is not None:
                        rows = [
                            (name, key, seq, _dump_version(version))
                            for seq, version in enumerate(found.keys.getlist(key, []))
                        ]
                        self._db.executemany("INSERT INTO versions VALUES (?, ?, ?, ?)", rows)
                for name, upload_id in uploads:
                    found = all_buckets().get(name)
                    upload = found.multiparts.get(upload_id) if found is not None else None
                    if upload is None:
                        self._db.execute("DELETE FROM uploads WHERE bucket = ? AND id = ?", (name, upload_id))
                    else:
                        self._db.execute(
                            "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?)",
                            (name, upload_id, pickle.dumps(upload)),
                        )
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def _flush_buckets(self) -> None:
        """Write the configuration rows that differ from what was written last (there are few buckets)."""
        current = all_buckets()
        for gone in set(self._bucket_rows) - set(current):
            self._db.execute("DELETE FROM buckets WHERE name = ?", (gone,))
            self._db.execute("DELETE FROM versions WHERE bucket = ?", (gone,))
            self._db.execute("DELETE FROM uploads WHERE bucket = ?", (gone,))
            del self._bucket_rows[gone]
        for name, bucket in current.items():
            state = {k: v for k, v in bucket.__dict__.items() if k not in ("keys", "multiparts")}
            tagger = s3_models.s3_backends[bucket.account_id][bucket.partition].tagger
            record = pickle.dumps((state, tagger.get_tag_dict_for_resource(bucket.arn)))
            if self._bucket_rows.get(name) != record:
                self._db.execute(
                    "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?)", (name, bucket.account_id, record)
                )
                self._bucket_rows[name] = record

    # -- age -----------------------------------------------------------------------------------------------

    def expire(self, now: datetime) -> int:
        """Remove what the buckets' lifecycle rules say of versions: the noncurrent ones that are old enough, and
        markers above nothing. Returns how many. S3 does it once a day; a laptop's disk is smaller."""
        return sum(
            self._expire_key(bucket, key, rule, now)
            for bucket in all_buckets().values()
            for rule in bucket.rules
            if rule.status == "Enabled"
            and not (rule.filter and (rule.filter.tag_key or rule.filter.and_filter))
            for key in bucket.keys.names_from(rule.prefix or (rule.filter and rule.filter.prefix) or "", "")
        )

    def _expire_key(self, bucket: Any, key: str, rule: Any, now: datetime) -> int:
        with self.key_lock(bucket.name, key), self.unit_of_work():
            versions = bucket.keys.getlist(key, [])
            kept = versions
            if rule.nve_noncurrent_days:
                born = now - timedelta(days=int(rule.nve_noncurrent_days))
                # A version is noncurrent since the one above it was written.
                above = [version.last_modified for version in versions[1:]]
                kept = [v for v, since in zip(versions, above, strict=False) if since > born] + versions[-1:]
            if rule.expired_object_delete_marker and len(kept) == 1 and not isinstance(kept[0], DiskKey):
                kept = []
            if not kept and versions:
                bucket.keys.pop(key)
            elif len(kept) < len(versions):
                bucket.keys.setlist(key, kept)
            return len(versions) - len(kept)

    # -- start ---------------------------------------------------------------------------------------------

    def load(self) -> int:
        """Read the index into moto's memory; returns the number of object versions."""
        known: set[str] = set()
        count = 0
        for name, account, record in self._db.execute("SELECT name, account, record FROM buckets").fetchall():
            state, tags = pickle.loads(record)
            bucket: Any = s3_models.FakeBucket(  # type: ignore[abstract]
                name=name, account_id=account, region_name=state["region_name"]
            )
            bucket.__dict__.update(state)
            backend = s3_models.s3_backends[account][bucket.partition]
            backend.buckets[name] = bucket
            if tags:
                backend.tagger.tag_resource(bucket.arn, backend.tagger.convert_dict_to_tags_input(tags))
            self._bucket_rows[name] = record
            versions: dict[str, list[Any]] = {}
            rows = self._db.execute(
                "SELECT key, record FROM versions WHERE bucket = ? ORDER BY key, seq", (name,)
            )
            for key, row in rows:
                version = _load_version(row, backend)
                versions.setdefault(key, []).append(version)
                count += 1
                if isinstance(version, DiskKey):
                    known.add(version.blob)
            bucket.keys.restore(versions)
            for (row,) in self._db.execute("SELECT record FROM uploads WHERE bucket = ?", (name,)):
                upload = pickle.loads(row)
                bucket.multiparts[upload.id] = upload
                known.update(part.blob for part in upload.parts.values())
        self._collect_garbage(known)
        return count

    def _collect_garbage(self, known: set[str]) -> None:
        """Remove the files no row refers to: what a killed server had not acknowledged or not yet removed."""
        for folder in self.blobs.iterdir():
            for file in folder.iterdir():
                if file.name not in known:
                    file.unlink(missing_ok=True)

    def close(self) -> None:
        with self._db_lock:
            self._db.close()


_store: Store | None = None


def store() -> Store:
    assert _store is not None, "install() comes first"
    return _store


def all_buckets() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _, _, backend in s3_models.s3_backends.iter_backends():
        found.update(backend.buckets)  # type: ignore[attr-defined]
    return found


class DiskKey(s3_models.FakeKey):
    """A key whose value is a blob file."""

    # moto derives the service of a model from its module's name.
    __module__ = "moto.s3.models"

    blob: str

    def __new__(cls, *args: Any, **kwargs: Any) -> DiskKey:
        # moto's BaseModel keeps every instance ever made in a list, for its dashboard: a leak in a long-lived server.
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        del self._value_buffer
        if self.multipart is not None:
            self.multipart = CompletedUpload(self.multipart)  # type: ignore[assignment]

    @property
    def value(self) -> bytes:
        return store().path(self.blob).read_bytes()

    @value.setter
    def value(self, new_value: bytes) -> None:
        data = new_value.encode() if isinstance(new_value, str) else new_value
        if self._etag is None:
            self._etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.blob = store().write_blob(data)
        self.contentsize = len(data)

    @property
    def etag(self) -> str:
        return f'"{self._etag}"'

    def dispose(self, garbage: bool = False) -> None:
        if not garbage and not self.disposed:
            self.disposed = True
            store().discard(self.blob)

    def __del__(self) -> None:
        # The file belongs to the index, not to this object's lifetime.
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("lock", "_value_buffer", "is_latest")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lock = threading.Lock()

    def __copy__(self) -> DiskKey:
        clone = object.__new__(DiskKey)
        clone.__dict__.update(self.__dict__)
        return clone

    def __deepcopy__(self, memo: dict[int, Any]) -> DiskKey:
        # A copy shares the file.
        return copy.copy(self)


class CompletedUpload:
    """What remains of a multipart upload in its object: enough for a repeated completion and for part counts."""

    def __init__(self, upload: Any):
        self.id: str = upload.id
        self.partlist: list[int] = list(upload.partlist)
        self.parts: dict[int, Any] = {}

    def dispose(self) -> None:
        return None


class IndexedKeys(_VersionedKeyStore):
    """moto's key store plus the sorted list of names that makes listing a bisection."""

    def __init__(self, bucket: str):
        super().__init__()
        self.bucket = bucket
        self.names: list[str] = []
        self.names_lock = threading.Lock()

    def restore(self, versions: dict[str, list[Any]]) -> None:
        for key, list_ in versions.items():
            dict.__setitem__(self, key, list_)
        self.names = sorted(versions)

    def _added(self, key: str, existed: bool) -> None:
        store().touch(self.bucket, key)
        if not existed:
            with self.names_lock:
                insort(self.names, key)

    def _removed(self, key: str) -> None:
        store().touch(self.bucket, key)
        with self.names_lock:
            at = bisect_left(self.names, key)
            if at < len(self.names) and self.names[at] == key:
                del self.names[at]

    def __setitem__(self, key: str, value: Any) -> None:
        existed = key in self
        super().__setitem__(key, value)
        self._added(key, existed)

    def setlist(self, key: Any, list_: Any) -> None:
        existed = key in self
        super().setlist(key, list_)
        self._added(key, existed)

    def pop(self, key: str) -> None:  # type: ignore[override]
        super().pop(key)
        self._removed(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._removed(key)

    def page(
        self, prefix: str, delimiter: str | None, after: str, limit: int | None
    ) -> tuple[list[Any], bool, str | None]:
        """The keys (and, with a delimiter, the common prefixes as strings) after `after`, at most `limit` of them;
        whether there are more; and the last name returned."""
        found: list[Any] = []
        last: str | None = None
        with self.names_lock:
            names = self.names
            at = bisect_left(names, prefix)
            if after:
                # Everything under a common prefix that has been returned is behind it, too.
                if delimiter and after.endswith(delimiter) and after.startswith(prefix):
                    at = max(at, bisect_left(names, after[:-1] + chr(ord(after[-1]) + 1)))
                else:
                    at = max(at, bisect_right(names, after))
            while at < len(names):
                name = names[at]
                if not name.startswith(prefix):
                    break
                cut = name.find(delimiter, len(prefix)) if delimiter else -1
                if cut >= 0:
                    folder = name[: cut + len(delimiter or "")]
                    end = bisect_left(names, folder[:-1] + chr(ord(folder[-1]) + 1), at)
                    if any(self._live(n) is not None for n in names[at:end]):
                        if limit is not None and len(found) >= limit:
                            return found, True, last
                        found.append(folder)
                        last = folder
                    at = end
                    continue
                live = self._live(name)
                if live is not None:
                    if limit is not None and len(found) >= limit:
                        return found, True, last
                    found.append(live)
                    last = name
                at += 1
        return found, False, last

    def names_from(self, prefix: str, first: str) -> list[str]:
        """The names below the prefix, those of deleted objects among them, from ``first`` on."""
        with self.names_lock:
            at = bisect_left(self.names, max(prefix, first))
            end = bisect_left(self.names, prefix[:-1] + chr(ord(prefix[-1]) + 1), at) if prefix else None
            return self.names[at:end]

    def _live(self, name: str) -> Any:
        current = self.get(name)
        return current if isinstance(current, DiskKey) else None


class _VersionsPage:
    """A page of ListObjectVersions: by name, the newest version of each first."""

    def __init__(self, keys: IndexedKeys, prefix: str, delimiter: str | None, limit: int | None):
        self.keys, self.prefix, self.delimiter, self.limit = keys, prefix, delimiter, limit
        self.versions: list[Any] = []
        self.markers: list[Any] = []
        self.folders: list[str] = []
        # The last that was listed, where there is more: a name, and a version of it.
        self.next: tuple[str | None, str | None] = (None, None)

    def fill(self, after: str | None, after_version: str | None) -> None:
        last: tuple[str | None, str | None] = (None, None)
        for name, version in self._entries(after, after_version):
            if self.limit is not None and self._size() >= self.limit:
                self.next = last
                return
            if version is None:
                self.folders.append(name)
            else:
                (self.versions if isinstance(version, DiskKey) else self.markers).append(version)
            last = name, None if version is None else version.version_id

    def _size(self) -> int:
        return len(self.versions) + len(self.markers) + len(self.folders)

    def _entries(self, after: str | None, after_version: str | None) -> Iterator[tuple[str, Any]]:
        """Each version under its name; a folder in place of the names below it, with None."""
        folder = None
        for name in self.keys.names_from(self.prefix, after or ""):
            if folder is not None and name.startswith(folder):
                continue
            cut = name.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
            if cut >= 0:
                folder = name[: cut + len(self.delimiter or "")]
                if folder != after:
                    yield folder, None
            elif name != after:
                yield from ((name, version) for version in self._versions(name))
            elif after_version:
                found = self._versions(name)
                ids = [version.version_id for version in found]
                behind = ids.index(after_version) + 1 if after_version in ids else 0
                yield from ((name, version) for version in found[behind:])

    def _versions(self, name: str) -> list[Any]:
        found = [copy.copy(version) for version in reversed(self.keys.getlist(name, []))]
        for number, version in enumerate(found):
            version.is_latest = number == 0
        return found


def _dump_version(version: Any) -> bytes:
    if isinstance(version, DiskKey):
        backend = s3_models.s3_backends[version.account_id][version.partition]
        return pickle.dumps(
            ("key", version.__getstate__(), backend.tagger.get_tag_dict_for_resource(version.arn))
        )
    over_marker = isinstance(version.key, s3_models.FakeDeleteMarker)
    return pickle.dumps(("marker", version.name, version.last_modified, version.version_id, over_marker))


def _load_version(record: bytes, backend: Any) -> Any:
    kind, *rest = pickle.loads(record)
    if kind == "key":
        state, tags = rest
        key = object.__new__(DiskKey)
        key.__setstate__(state)
        if tags:
            backend.tagger.tag_resource(key.arn, backend.tagger.convert_dict_to_tags_input(tags))
        return key
    name, last_modified, version_id, over_marker = rest
    marker = object.__new__(s3_models.FakeDeleteMarker)
    marker.name, marker.last_modified, marker._version_id = name, last_modified, version_id
    marker.key = object.__new__(s3_models.FakeDeleteMarker) if over_marker else None  # type: ignore[assignment]
    return marker


def install(root: Path) -> Store:
    """Put the store under moto's S3. Call once per process, before the first request."""
    global _store
    _store = Store(root)
    # Both modules make keys and ask isinstance by this name.
    s3_models.FakeKey = DiskKey  # type: ignore[misc]
    s3_models.DiskKey = DiskKey  # type: ignore[attr-defined]  # where pickle looks for it
    s3_responses.FakeKey = DiskKey  # type: ignore[attr-defined]
    _patch_buckets()
    _patch_backend(_store)
    _patch_responses(_store)
    return _store


def _patch_buckets() -> None:
    original = s3_models.FakeBucket.__init__

    def init(self: Any, name: str, *args: Any, **kwargs: Any) -> None:
        original(self, name, *args, **kwargs)
        self.keys = IndexedKeys(name)

    s3_models.FakeBucket.__init__ = init  # type: ignore[method-assign]
    # Emptying a versioned bucket disposes of its versions, and moto forgot that markers are among them.
    s3_models.FakeDeleteMarker.dispose = lambda self, garbage=False: None  # type: ignore[attr-defined]
    s3_models.FakeDeleteMarker.__new__ = lambda cls, *args, **kwargs: object.__new__(cls)  # type: ignore[method-assign]


def _patch_backend(disk: Store) -> None:
    backend = s3_models.S3Backend

    def list_objects(
        self: Any,
        bucket: Any,
        prefix: str | None,
        delimiter: str | None,
        marker: str | None,
        max_keys: int | None,
    ) -> Any:
        # moto walks and sorts the whole bucket for every page.
        found, more, last = bucket.keys.page(prefix or "", delimiter, marker or "", max_keys)
        keys = [k for k in found if isinstance(k, DiskKey)]
        folders = [k for k in found if not isinstance(k, DiskKey)]
        return keys, folders, more, last if more else None

    def list_objects_v2(
        self: Any,
        bucket: Any,
        prefix: str | None,
        delimiter: str | None,
        continuation_token: str | None,
        start_after: str | None,
        max_keys: int,
    ) -> Any:
        # The token is the last name itself, in hex: moto's table of tokens would not survive a restart.
        after = bytes.fromhex(continuation_token).decode() if continuation_token else start_after or ""
        found, more, last = bucket.keys.page(prefix or "", delimiter, after, max_keys)
        return found, more, last.encode().hex() if more and last is not None else None

    def list_object_versions(
        self: Any,
        bucket_name: str,
        delimiter: str | None = None,
        key_marker: str | None = None,
        max_keys: int | None = 1000,
        prefix: str = "",
        version_id_marker: str | None = None,
    ) -> Any:
        # moto copies and sorts all versions of the bucket for every page, and takes the older of two of one
        # millisecond for the newest.
        page = _VersionsPage(self.get_bucket(bucket_name).keys, prefix or "", delimiter, max_keys)
        page.fill(key_marker, version_id_marker)
        return page.versions, page.folders, page.markers, *page.next

    backend.list_objects = list_objects  # type: ignore[method-assign]
    backend.list_object_versions = list_object_versions  # type: ignore[method-assign]
    backend.list_objects_v2 = list_objects_v2  # type: ignore[method-assign]

    # Reads of a key are followed by changes to it in these calls: its rows have to be written again.
    def touching(name: str) -> None:
        original = getattr(backend, name)

        def call(self: Any, bucket_name: str, key_name: str, *args: Any, **kwargs: Any) -> Any:
            disk.touch(bucket_name, key_name)
            return original(self, bucket_name, key_name, *args, **kwargs)

        setattr(backend, name, call)

    for name in ("put_object_acl", "put_object_legal_hold", "put_object_retention", "delete_object_tagging"):
        touching(name)

    put_tagging = backend.put_object_tagging

    def put_object_tagging(self: Any, key: Any, tags: Any) -> Any:
        disk.touch(key.bucket_name, key.name)
        return put_tagging(self, key, tags)

    backend.put_object_tagging = put_object_tagging  # type: ignore[method-assign]

    # A key's rows and memory change together, one request at a time.
    delete_object = backend.delete_object

    def delete(self: Any, bucket_name: str, key_name: str, *args: Any, **kwargs: Any) -> Any:
        with disk.key_lock(bucket_name, key_name):
            bucket = self.get_bucket(bucket_name)
            if bucket.versioning_status == "Suspended" and key_name in bucket.keys:
                return True, _delete_suspended(bucket, key_name, *args, **kwargs)
            return delete_object(self, bucket_name, key_name, *args, **kwargs)

    backend.delete_object = delete  # type: ignore[method-assign]

    for name in (
        "create_multipart_upload",
        "upload_part",
        "complete_multipart_upload",
        "abort_multipart_upload",
    ):
        _patch_upload(backend, name, disk)


def _delete_suspended(bucket: Any, name: str, version_id: str | None = None, bypass: bool = False) -> Any:
    """Versions that were kept stay when no more are kept; moto removes them all. A marker replaces the null version."""
    gone = version_id or "null"
    kept = [version for version in bucket.keys.getlist(name) if str(version.version_id) != gone]
    if version_id is None:
        marker = s3_models.FakeDeleteMarker(key=bucket.keys[name])
        marker._version_id = gone
        kept.append(marker)
    if kept:
        bucket.keys.setlist(name, kept)
    else:
        bucket.keys.pop(name)
    return {"version-id": gone} | ({} if version_id else {"delete-marker": "true"})


def _patch_upload(backend: Any, name: str, disk: Store) -> None:
    original = getattr(backend, name)

    def call(self: Any, bucket_name: str, second: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, bucket_name, second, *args, **kwargs)
        disk.touch_upload(bucket_name, result.id if name == "create_multipart_upload" else second)
        return result

    setattr(backend, name, call)


def _patch_responses(disk: Store) -> None:
    response = s3_responses.S3Response
    key_response, bucket_response = response.key_response, response.bucket_response

    def on_key(self: Any, request: Any, full_url: str, headers: Any) -> Any:
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return key_response(self, request, full_url, headers)
        request.get_data()  # a slow client must not hold the lock
        bucket, _, key = request.path.lstrip("/").partition("/")
        # moto checks If-None-Match and If-Match, then puts: two threads can both pass the check. The lock makes
        # check, put and the index row one step for each key.
        conditional = "If-None-Match" in request.headers or "If-Match" in request.headers
        conditional = conditional and request.method in ("PUT", "POST")
        try:
            agent = request.headers.get("User-Agent", "")
            with disk.key_write(bucket, key, conditional=conditional, agent=agent), disk.unit_of_work():
                return key_response(self, request, full_url, headers)
        except Conflict:
            body = f"<Error><Code>{CONFLICT_CODE}</Code><Message>{CONFLICT_MESSAGE}</Message></Error>"
            return 409, {"Content-Type": "application/xml"}, body

    def on_bucket(self: Any, request: Any, full_url: str, headers: Any) -> Any:
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return bucket_response(self, request, full_url, headers)
        with disk.unit_of_work(buckets=True):
            return bucket_response(self, request, full_url, headers)

    response.key_response = on_key  # type: ignore[method-assign]
    response.bucket_response = on_bucket  # type: ignore[method-assign]
