"""One hierarchy of errors: every failure is terminal or transient, and says what to do next.

*Terminal* means that the same call fails again until a person changes something; *transient* means that a
retry can help. Orchestration reads the difference from the exit code and from ``outcome.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lakehouse.masks import without_secrets

ErrorClass = Literal["terminal", "transient"]

EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_TERMINAL = 10
EXIT_GATE = 11
EXIT_TRANSIENT = 20


@dataclass(frozen=True)
class Violation:
    """One difference between what was received and what was expected.

    ``where`` names the place as a reader would look for it: a table and column, or a file and a path in it.
    """

    where: str
    received: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: received {self.received}, expected {self.expected}"


def writable(text: str) -> str:
    """A text that every file and log takes: a byte that was no UTF-8, quoted from a source, is shown as ``\\udcNN``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class LakehouseError(Exception):
    """Base of all expected failures; ``hint`` is the next step for the person who reads it."""

    code: ClassVar[str] = "LAKEHOUSE_ERROR"
    error_class: ClassVar[ErrorClass] = "terminal"
    exit_code: ClassVar[int] = EXIT_TERMINAL

    def __init__(self, message: str, *, hint: str = "", violations: tuple[Violation, ...] = ()) -> None:
        self.violations = violations
        self.hint = writable(hint)
        if violations:
            message = "\n".join([message, *(f"  - {violation}" for violation in violations)])
        super().__init__(writable(message))

    @property
    def message(self) -> str:
        return str(self.args[0])

    def told(self, program: str) -> str:
        """What a script says of it on a terminal: code, message, next step; no secret."""
        words = f"{program}: {self.code}: {self.message}"
        return without_secrets(f"{words}\nWhat to do: {self.hint}" if self.hint else words)


class TerminalError(LakehouseError):
    """Repeating the call cannot help."""


class TransientError(LakehouseError):
    """Repeating the call can help."""

    code = "TRANSIENT"
    error_class = "transient"
    exit_code = EXIT_TRANSIENT


class UsageError(TerminalError):
    """The command line was wrong."""

    code = "USAGE"
    exit_code = EXIT_USAGE


class UnknownRun(UsageError):
    """A run id was given that no run has left anything of. Nothing was judged, promoted or published."""

    code = "UNKNOWN_RUN"


class ConfigError(TerminalError):
    """A setting is missing, unknown or of the wrong form."""

    code = "CONFIG"
    exit_code = EXIT_USAGE


class ContractError(TerminalError):
    """A contract file is invalid, or a live table differs from its contract in a way that needs a decision."""

    code = "CONTRACT_INVALID"


class ContractViolation(TerminalError):
    """A whole batch breaks its contract (a column missing, or of another type throughout). Nothing was written."""

    code = "CONTRACT_VIOLATION"


class CredentialsError(TerminalError):
    """A source refused our credentials, or the secret lacks a field."""

    code = "CREDENTIALS"


class SourceError(TerminalError):
    """A source answered in a way that its documentation does not allow, or refused the request for good."""

    code = "SOURCE"


class SourceUnavailable(TransientError):
    """A source did not answer, or asked us to come back later."""

    code = "SOURCE_UNAVAILABLE"


class StreamRefused(TerminalError):
    """The stream must not go on: another one has taken over, or its checkpoint and the tables contradict each other."""

    code = "STREAM_REFUSED"


class LandingConflict(TerminalError):
    """A file of a landing is missing or cannot be read."""

    code = "LANDING_CORRUPT"


class LedgerImbalance(TerminalError):
    """Rows read do not equal rows accounted for."""

    code = "LEDGER_IMBALANCE"


class GateFailed(TerminalError):
    """A quality gate refused data. Nothing after it may run."""

    code = "GATE_FAILED"
    exit_code = EXIT_GATE


class WatchAlarm(TerminalError):
    """The lake is not as it should be, and a person has to look. Said after everything was written down."""

    code = "WATCH_ALARM"
    exit_code = EXIT_GATE


class SourceDiffers(TerminalError):
    """A source and the lake do not hold the same rows."""

    code = "SOURCE_DIFFERS"


class NotCertified(TerminalError):
    """Data was asked for that no passing verdict covers."""

    code = "NOT_CERTIFIED"


class StateUnreadable(TerminalError):
    """An object by which jobs know of each other (outcome, verdict, manifest, marker) is not what one of them wrote."""

    code = "STATE_UNREADABLE"


class RecoveryRefused(TerminalError):
    """A recovery would lose rows, or is not what would help. Nothing was written."""

    code = "RECOVERY_REFUSED"


class CommitConflict(TransientError):
    """Another writer committed first; Delta kept the table whole."""

    code = "COMMIT_CONFLICT"


class StorageUnsafe(TerminalError):
    """The object store does not refuse to create a key twice, so commits could be lost."""

    code = "STORAGE_UNSAFE"


class TableUnreadable(TerminalError):
    """Objects of Delta tables are missing or not what was written: a commit or checkpoint of a log, a data file.

    ``tables`` are their dotted names, where the error tells.
    """

    code = "TABLE_UNREADABLE"
    tables: tuple[str, ...] = ()
