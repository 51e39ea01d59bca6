"""What Delta and Spark say of a table that is not as a job expects it: objects deleted behind its back, other columns.

A job cannot tell which objects, and no retry brings them back; the lake's bucket keeps versions, so a person can.
Columns are the contract's, once `apply_contracts` has run. Conditions as in Delta's and Spark's own lists of errors
(delta-error-classes.json, error-conditions.json).
"""

from __future__ import annotations

from lakehouse.errors import ContractViolation, TableUnreadable

_MISSING = (
    "DELTA_FILE_NOT_FOUND",
    "DELTA_LOG_FILE_NOT_FOUND",
    "DELTA_MISSING_FILES_UNEXPECTED_VERSION",
    "DELTA_STATE_RECOVER_ERROR",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "FAILED_READ_FILE.FILE_NOT_EXIST",
)


_OTHER_COLUMNS = (
    "DELTA_FAILED_TO_MERGE_FIELDS",
    "DELTA_METADATA_MISMATCH",
    "DELTA_MERGE_UNRESOLVED_EXPRESSION",
)


def recognised(error: Exception) -> Exception:
    """TableUnreadable or ContractViolation where that is what the error says; else the error as it is."""
    text = str(error)
    first_line = text.strip().partition("\n")[0][:500]
    if _names(text, _MISSING):
        return TableUnreadable(
            f"an object of a Delta table is missing: {first_line}",
            hint="bring deleted objects back from the bucket's versions (RUNBOOK_AWS_2025.md 8.14), then run the job "
            "again",
        )
    if _names(text, _OTHER_COLUMNS):
        return ContractViolation(
            f"a table's columns are not those of this release's contract: {_outline(text)}",
            hint="run apply_contracts, then this job again",
        )
    return error


def _names(text: str, conditions: tuple[str, ...]) -> bool:
    return any(f"[{each}" in text for each in conditions)


def _outline(text: str) -> str:
    """The message up to the schemas, which are long."""
    return " ".join(text.partition("\nTo enable schema migration")[0].split())[:500]
