"""SALES.PUBLIC.ORDERS of the double: made from data files, typed like the real table wherever the files allow.

A column of the real table has its real type if every cell of the loaded files fits it exactly; otherwise it is
VARCHAR, so that no row of a file is lost and the pipeline's contract judges row by row. There a cell that fits is the
text of its value: that its neighbour does not fit changes nothing about it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection
from fakesnow.instance import FakeSnow

DATABASE, SCHEMA, TABLE = "SALES", "PUBLIC", "ORDERS"
NAME = f"{DATABASE}.{SCHEMA}.{TABLE}"
LOADED_AT = "LOADED_AT"

TIMESTAMP, NUMBER, TEXT = "TIMESTAMP_NTZ(6)", "NUMBER(18,2)", "VARCHAR"
# Snowflake's own precision, of which loads make use. Here it holds the years 1678 to 2261.
NANOS = "TIMESTAMP_NTZ(9)"
_NANOS_RANGE = "TIMESTAMP '1678-01-01' AND TIMESTAMP '2261-12-31 23:59:59.999999'"
# What a load's stamp has beyond its microseconds.
_FINER = 789
COLUMNS = {
    "ORDER_ID": TEXT,
    "EVENT_TS": TIMESTAMP,
    "CUSTOMER_ID": TEXT,
    "STATUS": TEXT,
    "AMOUNT": NUMBER,
    "CURRENCY": TEXT,
    "SHIPPED_AT": TIMESTAMP,
    "DELIVERED_AT": TIMESTAMP,
    LOADED_AT: NANOS,
}

# Four-digit years, at most microseconds, UTC: Snowflake would drop the zone of any other time and keep the wall clock.
_TIME_FORM = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+]00:?00)?)?"
# What NUMBER(18,2) holds without rounding.
_NUMBER_FORM = r"[+-]?\d{1,16}(\.\d{0,2}0*)?"


@dataclass(frozen=True)
class LoadedFile:
    """A data file whose rows are in the table."""

    sha256: str
    name: str
    rows: int
    columns: tuple[str, ...]
    loaded_at: str  # what LOADED_AT is where the file does not say
    path: str = ""  # where the file was: edited there, it takes its own place

    @property
    def missing(self) -> set[str]:
        """Real columns that the file was allowed to lack; the optional ones never count."""
        return set(COLUMNS) - set(self.columns) - {"SHIPPED_AT", "DELIVERED_AT", LOADED_AT}


class Orders:
    """The table and the files that it was made from."""

    def __init__(self, snow: FakeSnow, folder: Path) -> None:
        self._snow = snow
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        # fakesnow attaches the database file when somebody connects; this connection keeps it attached.
        self._connection = snow.connect(DATABASE, SCHEMA)
        with self._lock:
            if not self._current():
                self._create(COLUMNS)

    def loaded(self) -> list[LoadedFile]:
        files = [json.loads(p.read_text(encoding="utf-8")) for p in self._folder.glob("*.json")]
        found = [LoadedFile(**(entry | {"columns": tuple(entry["columns"])})) for entry in files]
        return sorted(found, key=lambda file: (file.loaded_at, file.name))

    def count(self) -> int:
        with self._lock, self._cursor() as cursor:
            row = cursor.execute(f"SELECT count(*) FROM {NAME}").fetchone()
        return int(row[0]) if row else 0

    def load(self, parquet: Path, file: LoadedFile) -> dict[str, Any]:
        """Add a file's rows, all text, from a Parquet file; a file loaded before adds nothing.

        Raises ValueError where columns differ in case alone: Snowflake keeps those apart, DuckDB does not.
        """
        with self._lock:
            earlier = self.loaded()
            if any(known.sha256 == file.sha256 for known in earlier):
                return {"rows": 0, "already_loaded": True}
            _require_names(file, {*COLUMNS, *self._current()})
            # A load without a column stands until the next one that has it: the owner of the source takes it back.
            withdrawn = [known for known in earlier if known.missing and not file.missing]
            edited = [known for known in earlier if file.path and known.path == file.path]
            self._keep(parquet, file)
            for known in {known.sha256: known for known in (*withdrawn, *edited)}.values():
                self._forget(known.sha256)
            current = self._current()
            if withdrawn or edited or file.missing or set(COLUMNS) - set(current):
                self._rebuild()
            else:
                self._append(file, current)
            return {
                "rows": file.rows,
                "already_loaded": False,
                "withdrawn": [known.name for known in withdrawn],
                "edited": sum(known.rows for known in edited),
            }

    def withdraw(self, checksums: Iterable[str]) -> int:
        """Take files out again, as a source's owner does with a bad load. Rows changed by SQL are made anew too."""
        with self._lock:
            chosen = [file for file in self.loaded() if file.sha256 in set(checksums)]
            for file in chosen:
                self._forget(file.sha256)
            if chosen:
                self._rebuild()
        return sum(file.rows for file in chosen)

    def reset(self) -> None:
        with self._lock:
            for file in self.loaded():
                self._forget(file.sha256)
            self._create(COLUMNS)

    # Files -----------------------------------------------------------------------------------------------------

    def _keep(self, parquet: Path, file: LoadedFile) -> None:
        (self._folder / f"{file.sha256}.parquet").write_bytes(parquet.read_bytes())
        part = self._folder / f"{file.sha256}.part"
        part.write_text(json.dumps(asdict(file), ensure_ascii=False), encoding="utf-8")
        part.replace(self._folder / f"{file.sha256}.json")

    def _forget(self, sha256: str) -> None:
        for suffix in ("json", "parquet"):
            (self._folder / f"{sha256}.{suffix}").unlink(missing_ok=True)

    # The table -------------------------------------------------------------------------------------------------

    def _cursor(self) -> DuckDBPyConnection:
        return self._snow.duck_conn.cursor()

    def _current(self) -> dict[str, str]:
        """Columns of the table as it is, with their types in this module's terms."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT column_name, data_type FROM duckdb_columns() "
                f"WHERE database_name = '{DATABASE}' AND schema_name = '{SCHEMA}' AND table_name = '{TABLE}' "
                "ORDER BY column_index"
            ).fetchall()
        terms = {"TIMESTAMP": TIMESTAMP, "TIMESTAMP_NS": NANOS, "DECIMAL(18,2)": NUMBER}
        return {str(name): terms.get(str(kind), TEXT) for name, kind in rows}

    def _create(self, columns: dict[str, str]) -> None:
        # By fakesnow itself, which notes the Snowflake types beside DuckDB's.
        definition = ", ".join(f"{_quoted(name)} {kind}" for name, kind in columns.items())
        self._connection.cursor().execute(f"CREATE OR REPLACE TABLE {NAME} ({definition})")
        with self._cursor() as cursor:
            for name in (name for name, kind in columns.items() if kind == NANOS):
                # fakesnow cuts every time to microseconds.
                cursor.execute(f"ALTER TABLE {NAME} ALTER COLUMN {_quoted(name)} TYPE TIMESTAMP_NS")

    def _rebuild(self) -> None:
        """Make the table from all files. It lacks the columns that the latest file was allowed to lack."""
        files = self.loaded()
        columns = {name: kind for name, kind in COLUMNS.items() if not files or name not in files[-1].missing}
        for file in files:
            columns |= {name: TEXT for name in file.columns if name not in COLUMNS}
        for file in files:
            columns |= dict.fromkeys(self._unfit(file, columns), TEXT)
        if any(self._is_beyond_nanos(file) for file in files):
            columns[LOADED_AT] = TIMESTAMP
        self._create(columns)
        for file in files:
            self._insert(file, columns)

    def _append(self, file: LoadedFile, columns: dict[str, str]) -> None:
        """Add one file, widening the table where the file needs it."""
        with self._cursor() as cursor:
            for name in file.columns:
                if name not in columns:
                    self._connection.cursor().execute(f"ALTER TABLE {NAME} ADD COLUMN {_quoted(name)} {TEXT}")
                    columns[name] = TEXT
            for name in self._unfit(file, columns):
                cursor.execute(f"ALTER TABLE {NAME} ALTER COLUMN {_quoted(name)} TYPE {TEXT}")
                columns[name] = TEXT
            if columns[LOADED_AT] == NANOS and self._is_beyond_nanos(file):
                cut = f"make_timestamp(epoch_ns({LOADED_AT}) // 1000)"  # a cast rounds
                cursor.execute(f"ALTER TABLE {NAME} ALTER COLUMN {LOADED_AT} TYPE TIMESTAMP USING {cut}")
                columns[LOADED_AT] = TIMESTAMP
        self._insert(file, columns)

    def _is_beyond_nanos(self, file: LoadedFile) -> bool:
        if LOADED_AT not in file.columns:
            return False
        query = f"SELECT bool_or({_fitting(LOADED_AT)} NOT BETWEEN {_NANOS_RANGE}) FROM {self._source(file)}"
        with self._cursor() as cursor:
            return (cursor.execute(query).fetchone() or (False,))[0] is True

    def _unfit(self, file: LoadedFile, columns: dict[str, str]) -> list[str]:
        """Typed columns that cannot hold every cell of the file.

        LOADED_AT stays a time in any case, since windows are cut on it: what is none becomes NULL there.
        """
        typed = [n for n in file.columns if columns.get(n, TEXT) != TEXT and n != LOADED_AT]
        if not typed:
            return []
        checks = ", ".join(
            f"count(*) FILTER (WHERE {_cell(n)} IS NOT NULL AND {_fitting(n)} IS NULL)" for n in typed
        )
        with self._cursor() as cursor:
            counts = cursor.execute(f"SELECT {checks} FROM {self._source(file)}").fetchone()
        assert counts is not None
        return [name for name, count in zip(typed, counts, strict=True) if count]

    def _insert(self, file: LoadedFile, columns: dict[str, str]) -> None:
        values = []
        for name, kind in columns.items():
            if name == LOADED_AT:
                stamp = f"TIMESTAMP '{file.loaded_at}'"
                if kind == NANOS:
                    stamp = f"make_timestamp_ns(epoch_ns({stamp}) + {_FINER})"
                given = f"CASE WHEN {_cell(name)} IS NULL THEN {stamp} ELSE {_fitting(name)} END"
                values.append(given if name in file.columns else stamp)
            elif name not in file.columns:
                values.append("NULL")
            else:
                values.append(_as_text(name) if kind == TEXT else _fitting(name))
        names = ", ".join(_quoted(name) for name in columns)
        with self._cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {NAME} ({names}) SELECT {', '.join(values)} FROM {self._source(file)}"
            )

    def _source(self, file: LoadedFile) -> str:
        path = str(self._folder / f"{file.sha256}.parquet").replace("'", "''")
        return f"read_parquet('{path}')"


def _require_names(file: LoadedFile, others: set[str]) -> None:
    alike: dict[str, set[str]] = {}
    for name in {*file.columns, *others}:
        alike.setdefault(name.lower(), set()).add(name)
    found = [" and ".join(sorted(names)) for names in alike.values() if len(names) > 1]
    if found:
        raise ValueError(
            f"{file.name}: received the columns {', '.join(sorted(found))}, expected names that differ by more than "
            "case (the local Snowflake, unlike the real one, takes them for one column)"
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _cell(name: str) -> str:
    """A cell as COPY INTO takes it by default: nothing between the commas is NULL."""
    return f"NULLIF({_quoted(name)}, '')"


def _as_text(name: str) -> str:
    """A cell in a VARCHAR column: the text of the value that it would have had in the real table, else as it is."""
    if COLUMNS.get(name, TEXT) == TEXT:
        return _cell(name)
    return f"COALESCE(CAST({_fitting(name)} AS VARCHAR), {_cell(name)})"


def _fitting(name: str) -> str:
    """The typed value of a cell, NULL where the type cannot hold it exactly."""
    cell = _quoted(name)
    if COLUMNS[name] == NUMBER:
        return f"CASE WHEN regexp_full_match({cell}, '{_NUMBER_FORM}') THEN TRY_CAST({cell} AS DECIMAL(18,2)) END"
    moment = f"TRY_CAST({cell} AS TIMESTAMP)"
    return (
        f"CASE WHEN regexp_full_match({cell}, '{_TIME_FORM}') "
        f"AND {moment} BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999' THEN {moment} END"
    )
