"""The records of all doubles: in memory for speed, in SQLite so that they survive a restart.

A collection keeps rows, not ids: a data file may hold an id twice, and the pipeline has to see both.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Fields = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY, collection TEXT NOT NULL, id TEXT NOT NULL,
                                    modified_ms INTEGER NOT NULL, fields TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS loaded (collection TEXT NOT NULL, sha256 TEXT NOT NULL, name TEXT NOT NULL,
                                   PRIMARY KEY (collection, sha256));
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Record:
    """One row of a collection. `modified_ms` is what its source indexes as the modification time."""

    seq: int
    id: str
    modified_ms: int
    fields: Fields


class Store:
    """All collections. Every method is atomic; readers get snapshots."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        self._records: dict[str, dict[int, Record]] = {}
        self._by_id: dict[str, dict[str, list[int]]] = {}
        self._version = 0
        self._next = 1
        for seq, collection, identifier, modified_ms, fields in self._db.execute(
            "SELECT * FROM records ORDER BY seq"
        ):
            self._remember(collection, Record(seq, identifier, modified_ms, json.loads(fields)))
            self._next = seq + 1

    @property
    def version(self) -> int:
        """Changes with every write: the key of cached query results."""
        return self._version

    def records(self, collection: str) -> list[Record]:
        with self._lock:
            return list(self._records.get(collection, {}).values())

    def with_id(self, collection: str, identifier: str) -> list[Record]:
        """All rows of an id, the newest last."""
        with self._lock:
            rows = self._records.get(collection, {})
            found = [rows[seq] for seq in self._by_id.get(collection, {}).get(identifier, [])]
        return sorted(found, key=lambda r: (r.modified_ms, r.seq))

    def count(self, collection: str) -> int:
        with self._lock:
            return len(self._records.get(collection, {}))

    def load(
        self, collection: str, rows: Iterable[tuple[str, int, Fields]], files: Iterable[tuple[str, str]] = ()
    ) -> int:
        """Add the rows (id, modified_ms, fields) of one load and remember its files by (sha256, name).

        A stored row is replaced by what the load says about its id, unless all of that is older: then the
        older rows come to stand beside it, as a source that answers with an outdated state would show them.
        """
        incoming = list(rows)
        newest: dict[str, int] = {}
        for identifier, modified_ms, _ in incoming:
            newest[identifier] = max(newest.get(identifier, modified_ms), modified_ms)
        with self._transaction():
            for identifier, modified_ms in newest.items():
                stored = self.with_id(collection, identifier)
                if stored and modified_ms >= stored[-1].modified_ms:
                    self._forget(collection, stored)
            for identifier, modified_ms, fields in incoming:
                self._add(collection, identifier, modified_ms, fields)
            self._db.executemany(
                "INSERT OR REPLACE INTO loaded VALUES (?, ?, ?)",
                [(collection, sha, name) for sha, name in files],
            )
        return len(incoming)

    def put(self, collection: str, identifier: str, modified_ms: int, fields: Fields) -> None:
        """Set the one row of an id."""
        with self._transaction():
            self._forget(collection, self.with_id(collection, identifier))
            self._add(collection, identifier, modified_ms, fields)

    def change(
        self, collection: str, identifier: str, edit: Callable[[Record | None], tuple[int, Fields]]
    ) -> Record:
        """Replace the newest row of an id by what `edit` makes of it; older rows of it stay."""
        with self._transaction():
            stored = self.with_id(collection, identifier)
            modified_ms, fields = edit(stored[-1] if stored else None)
            self._forget(collection, stored[-1:])
            return self._add(collection, identifier, modified_ms, fields)

    def remove(self, collection: str, identifier: str) -> int:
        with self._transaction():
            stored = self.with_id(collection, identifier)
            self._forget(collection, stored)
        return len(stored)

    def clear(self, collection: str) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM records WHERE collection = ?", (collection,))
            self._db.execute("DELETE FROM loaded WHERE collection = ?", (collection,))
            self._records.pop(collection, None)
            self._by_id.pop(collection, None)

    def loaded(self, collection: str) -> dict[str, str]:
        """The files loaded so far: name by sha256."""
        with self._lock:
            found = self._db.execute("SELECT sha256, name FROM loaded WHERE collection = ?", (collection,))
            return dict(found.fetchall())

    def setting(self, key: str, default: Any = None) -> Any:
        with self._lock:
            row = self._db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set_setting(self, key: str, value: Any) -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value)))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _transaction(self) -> _Transaction:
        return _Transaction(self)

    def _add(self, collection: str, identifier: str, modified_ms: int, fields: Fields) -> Record:
        record = Record(self._next, identifier, modified_ms, fields)
        self._next += 1
        self._db.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?)",
            (record.seq, collection, identifier, modified_ms, json.dumps(fields)),
        )
        self._remember(collection, record)
        return record

    def _remember(self, collection: str, record: Record) -> None:
        self._records.setdefault(collection, {})[record.seq] = record
        self._by_id.setdefault(collection, {}).setdefault(record.id, []).append(record.seq)

    def _forget(self, collection: str, records: Iterable[Record]) -> None:
        for record in records:
            self._db.execute("DELETE FROM records WHERE seq = ?", (record.seq,))
            del self._records[collection][record.seq]
            self._by_id[collection][record.id].remove(record.seq)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._records))


class _Transaction:
    """Holds the lock and commits, so that a killed process leaves either all of a write or nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._store._db.commit()
            else:
                self._store._db.rollback()
            self._store._version += 1
        finally:
            self._store._lock.release()
