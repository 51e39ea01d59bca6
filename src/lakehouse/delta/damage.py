"""What Spark and Delta say of a table that is not as a job expects it, in words for the person on call.

Objects that are missing or not what was written (``delta.broken`` looks for them where the error does not name one)
make a table unreadable: no retry brings them back, and one command does. Columns are the contract's, once
`apply_contracts` has run. Conditions as in Delta's and Spark's own lists of errors (delta-error-classes.json,
error-conditions.json).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

from botocore.exceptions import BotoCoreError, ClientError
from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from lakehouse.delta.broken import MISSING, Broken, broken, broken_log
from lakehouse.errors import ContractViolation, LakehouseError, LandingConflict, TableUnreadable
from lakehouse.submit import RECOVER

# A data file, commit or checkpoint that cannot be read: Spark says which.
_READ = re.compile(
    r"\[(FAILED_READ_FILE[.\w]*|DELTA_FAILED_READ_FILE_FOOTER|DELTA_FILE_NOT_FOUND|DELTA_FILE_OR_DIR_NOT_FOUND)\]"
)
_GONE = ("FAILED_READ_FILE.FILE_NOT_EXIST", "DELTA_FILE_NOT_FOUND", "DELTA_FILE_OR_DIR_NOT_FOUND")
# A log whose parts do not fit together: Delta names versions, or nothing.
_LOG = re.compile(
    r"\[(DELTA_LOG_FILE_NOT_FOUND|DELTA_MISSING_FILES_UNEXPECTED_VERSION|DELTA_MISSING_PART_FILES|"
    r"DELTA_STATE_RECOVER_ERROR|DELTA_TRUNCATED_TRANSACTION_LOG|DELTA_VERSIONS_NOT_CONTIGUOUS|DELTA_NO_COMMITS_FOUND|"
    r"DELTA_TXN_LOG_FAILED_INTEGRITY|DELTA_VERSION_NOT_FOUND|DELTA_CHECKPOINT_[A-Z_]+)\]"
    r"|Could not find any delta files|Missing checkpoint"
)
_OTHER_COLUMNS = (
    "DELTA_FAILED_TO_MERGE_FIELDS",
    "DELTA_METADATA_MISMATCH",
    "DELTA_MERGE_UNRESOLVED_EXPRESSION",
)
_OBJECT = re.compile(r"s3a?://[^\s'\"<>,;(){}\[\]]+")
_TABLE = re.compile(r"^s3://[^/]+/(?:.*/)?(bronze|silver|gold|ops)/([a-z][a-z0-9_]*)(?:/|$)")
_LANDING = re.compile(r"^s3://[^/]+/(?:.*/)?landing/([^/]+)/([^/]+)/([^/]+)/")
_READERS = 8
#: What engines raise of storage and tables; anything else is no table's fault.
ENGINE = (Py4JError, PySparkException, DeltaError)


def recognised(
    error: Exception, look: Callable[[], Mapping[str, Iterable[Broken]]] | None = None
) -> Exception:
    """TableUnreadable, LandingConflict or ContractViolation where that is what the error says; else the error as it is.

    ``look`` tells of every table what is broken of it; it is asked where an engine's error names no object.
    """
    if not isinstance(error, ENGINE):
        return error
    text = str(error)
    if any(f"[{each}" in text for each in _OTHER_COLUMNS):
        return ContractViolation(
            f"a table's columns are not those of this release's contract: {_outline(text)}",
            hint="run apply_contracts, then this job again",
        )
    named = _named(text)
    if named is not None:
        return named
    found = _looked(look)
    if found:
        return unreadable(found)
    condition = _LOG.search(text) or _READ.search(text)
    if condition is not None:
        return TableUnreadable(
            f"a table cannot be read: {_first_line(text[condition.start() :])}",
            hint=f"`{RECOVER} status` names the table",
        )
    return error


def unreadable(found: Mapping[str, Iterable[Broken]]) -> TableUnreadable:
    """The error that names tables and the objects that are broken of them."""
    lines = [f"{name} cannot be read: {words(objects)}" for name, objects in sorted(found.items())]
    error = TableUnreadable("; ".join(lines), hint="; ".join(way_out(name) for name in sorted(found)))
    error.tables = tuple(sorted(found))
    return error


def require_version(table: str, certified: int | None, newest: int) -> None:
    """Raise TableUnreadable where a log ends before a version that was certified: commits were deleted."""
    if certified is None or certified <= newest:
        return
    error = TableUnreadable(
        f"{table}: version {certified} was certified and its log ends with {newest}: commits are missing",
        hint=way_out(table),
    )
    error.tables = (table,)
    raise error


def words(found: Iterable[Broken]) -> str:
    """The first of the broken objects, and how many more there are."""
    first, *more = sorted(found)
    return str(first) + (f", and {len(more)} more" if more else "")


def way_out(table: str) -> str:
    """The command that makes a table readable again; dry until it is told to apply."""
    return f"{RECOVER} repair --table {table}"


def look(uris: Mapping[str, str], *, files: bool = False) -> dict[str, list[Broken]]:
    """What is broken of tables, by name and location: of their logs or, with ``files``, of their data files too.

    Tables that are whole, and those that are not there, are left out.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        answers = pool.map(broken if files else broken_log, uris.values())
        return {name: found for name, found in zip(uris, answers, strict=True) if found}


def table_of(uri: str) -> str | None:
    """The dotted name of the table that an object belongs to, by its place in the lake."""
    found = _TABLE.match(uri)
    return None if found is None else f"{found[1]}.{found[2]}"


def _named(text: str) -> LakehouseError | None:
    """What the error says of the object that it names, where it names one of a table or of a landing."""
    condition = _READ.search(text)
    if condition is None:
        return None
    for found in _OBJECT.findall(text[condition.start() :]):
        uri = unquote(found.rstrip(".")).replace("s3a://", "s3://", 1)
        problem = MISSING if condition[1] in _GONE else "cannot be read"
        table = table_of(uri)
        if (landing := _LANDING.match(uri)) is not None:
            return _landing_error(uri, problem, landing)
        if table is not None:
            return unreadable({table: [Broken(uri, problem)]})
    return None


def _landing_error(uri: str, problem: str, found: re.Match[str]) -> LandingConflict:
    _, table, run_id = found.groups()
    return LandingConflict(
        f"{uri} {problem}: run {run_id} of bronze.{table} cannot be loaded",
        hint=f"`scripts/undelete.sh landing/{found[1]}/{table}/{run_id}/` brings a deleted object back; else give the "
        f"run up, and the next one reads its window again: {RECOVER} discard --table bronze.{table} --run {run_id}",
    )


def _looked(look: Callable[[], Mapping[str, Iterable[Broken]]] | None) -> Mapping[str, Iterable[Broken]]:
    try:
        return {} if look is None else look()
    except (BotoCoreError, ClientError, DeltaError, LakehouseError):
        return {}  # then the error has to speak for itself


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:500]


def _outline(text: str) -> str:
    """The message up to the schemas, which are long."""
    return " ".join(text.partition("\nTo enable schema migration")[0].split())[:500]
