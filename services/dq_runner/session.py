"""Asking Snowflake: one connection a worker, every statement tagged, timed out and counted, every refusal in words."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from snowflake.connector import DictCursor
from snowflake.connector import errors as sf
from snowflake.connector.vendored.requests.exceptions import RequestException

from dq_runner.scan import Answer
from lakehouse.errors import ConfigError, CredentialsError, LakehouseError, SourceError, SourceUnavailable
from lakehouse.snowflake import Login, connection, meaning, read_login

#: Refusals that hold for every statement of a run: no warehouse, or one whose resource monitor has used its quota up.
_NO_WAREHOUSE = frozenset({606, 90073})
#: What Snowflake tells of one statement or object, whatever the library's sources make of it.
_OF_STATEMENT = {
    604: "somebody cancelled it, or it took longer than limits.statement_seconds: run the checks again",
    625: "too many wait for a lock of the table: run the checks again later",
    630: "give it more time (limits.statement_seconds), a larger warehouse or a clustering by the date column; or "
    "exclude the table",
    1003: "a rule's own SQL is at fault, or this release: see the statement in the report",
    904: "a column was dropped or renamed since its table was looked up: run the checks again, and mend the rules that "
    "name it",
    2003: "the table was dropped or renamed meanwhile, or the role may not see it: grant USAGE on its database and "
    "schema and SELECT on it, or exclude it in config/dq_platform.yaml",
    2043: "the object was dropped or renamed meanwhile, or the role may not see it: grant it, or exclude it",
    3001: "grant the role SELECT on the table and USAGE on its database and schema, or exclude it in "
    "config/dq_platform.yaml",
}
#: Seconds for Snowflake to say itself that a statement took too long, and of which its network may be away.
GRACE_SECONDS = 10
#: Something that a statement names is not there, or not for this role.
_OBJECTS = frozenset({904, 2003, 2043, 3001})
#: It was cancelled, waited or took too long: its parts would, too.
_ENDED = frozenset({604, 625, 630})
_LATER = "run the checks again later; Snowflake's status page may know more"
_OTHERWISE = "see the statement in the report: run it by hand, or exclude the table or the rule"


class StatementFailed(SourceError):
    """One statement was refused, or took too long; others may work. ``errno`` is Snowflake's, ``query_id`` its id.

    ``is_of_object``: for something that the statement names, and not for what it does. ``is_of_part``: a part of the
    statement may be at fault, and the rest may work without it.
    """

    code: ClassVar[str] = "STATEMENT_FAILED"

    def __init__(
        self, message: str, *, hint: str, errno: int, query_id: str = "", seconds: float = 0.0
    ) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno
        self.is_of_object = errno in _OBJECTS
        self.is_of_part = errno not in _OBJECTS | _ENDED
        self.query_id = query_id
        self.seconds = seconds


class NoWarehouse(SourceError):
    """There is nothing that could run a statement."""

    code: ClassVar[str] = "NO_WAREHOUSE"


@dataclass(frozen=True)
class Place:
    """Where Snowflake is and which secret signs in. ``host``, ``port`` and ``protocol`` lead to a local double."""

    secret: str
    host: str | None = None
    port: int | None = None
    protocol: str = "https"
    network_timeout_seconds: int = 60


def read_place(env: Mapping[str, str]) -> Place:
    """The place by SNOWFLAKE_SECRET_NAME and, for a double, SNOWFLAKE_HOST, SNOWFLAKE_PORT and SNOWFLAKE_PROTOCOL.

    Raises ConfigError with everything that is missing or of another form.
    """
    mistakes = []
    secret = env.get("SNOWFLAKE_SECRET_NAME", "")
    if not secret:
        mistakes.append(
            "SNOWFLAKE_SECRET_NAME: received nothing, expected the name of the secret that signs in"
        )
    port = env.get("SNOWFLAKE_PORT", "")
    if port and not port.isdecimal():
        mistakes.append(f"SNOWFLAKE_PORT: received {port!r}, expected a number")
    protocol = env.get("SNOWFLAKE_PROTOCOL", "https")
    if protocol not in ("https", "http"):
        mistakes.append(
            f"SNOWFLAKE_PROTOCOL: received {protocol!r}, expected https (http for a local double)"
        )
    seconds = env.get("SNOWFLAKE_NETWORK_TIMEOUT_SECONDS", "60")
    if not seconds.isdecimal() or int(seconds) == 0:
        mistakes.append(f"SNOWFLAKE_NETWORK_TIMEOUT_SECONDS: received {seconds!r}, expected whole seconds")
    if mistakes:
        raise ConfigError(
            "\n".join(mistakes),
            hint="set it in the environment (docs/dq-platform.md has the list); on a laptop start the local Snowflake: "
            "make local-up",
        )
    return Place(
        secret, env.get("SNOWFLAKE_HOST") or None, int(port) if port else None, protocol, int(seconds)
    )


@dataclass
class Count:
    """Statements sent, for a run or a table; ``seconds`` are those that they took, one after the other."""

    queries: int = 0
    scans: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, *, scan: bool) -> None:
        self.queries += 1
        self.scans += scan
        self.seconds += seconds

    def __sub__(self, other: Count) -> Count:
        return Count(self.queries - other.queries, self.scans - other.scans, self.seconds - other.seconds)


@dataclass
class Session:
    """One connection. Not to be shared between threads: the connector answers that it is busy."""

    opened: Any
    secret: str
    tag: Mapping[str, str]
    statement_seconds: int
    left: Callable[[], float]
    count: Count = field(default_factory=Count)

    def ask(self, sql: str, *, about: str, scan: bool) -> Answer:
        """Run one statement. ``about`` names the table for the query tag and for messages.

        Raises StatementFailed (others may work), NoWarehouse, CredentialsError, SourceUnavailable (the connection is
        not to be used any more).
        """
        limit = max(1, min(self.statement_seconds, int(self.left())))
        parameters = {"QUERY_TAG": tagged(self.tag, about), "STATEMENT_TIMEOUT_IN_SECONDS": limit}
        begun = time.monotonic()
        with self.opened.cursor(DictCursor) as cursor:
            try:
                # Without a limit of its own the connector cancels a query after network_timeout.
                cursor.execute(sql, _statement_params=parameters, timeout=limit + GRACE_SECONDS)
                rows = tuple(dict(row) for row in cursor.fetchall())
            except (sf.Error, RequestException, OSError) as error:
                taken = time.monotonic() - begun
                self.count.add(taken, scan=scan)
                raise told(error, about, self.secret, cursor.sfqid or "", taken, limit) from None
            taken = time.monotonic() - begun
            self.count.add(taken, scan=scan)
            return Answer(rows=rows, query_id=str(cursor.sfqid or ""), seconds=taken)


def quiet_connector() -> None:
    """Keep stack traces of the connector out of logs and terminals: what they mean is said in ours."""
    logging.getLogger("snowflake.connector").setLevel(logging.CRITICAL)


def tagged(tag: Mapping[str, str], about: str) -> str:
    """The query tag, JSON of at most 2,000 characters (Snowflake documentation: parameter QUERY_TAG)."""
    return json.dumps({**tag, "table": about[:300]}, ensure_ascii=False)


class Sessions:
    """How a run's sessions are opened; what all of them asked together is in ``total``."""

    def __init__(
        self, place: Place, run_id: str, statement_seconds: int, left: Callable[[], float] = lambda: 86_400.0
    ) -> None:
        """``left``: seconds that the run has; no statement is given more.

        Raises CredentialsError, SourceUnavailable: the secret is read here.
        """
        self.place = place
        self.login: Login = read_login(place.secret)
        self._tag = {"application": "dq-platform", "run_id": run_id}
        self._statement_seconds = statement_seconds
        self._left = left
        self._counts: list[Count] = []
        self._lock = threading.Lock()

    @property
    def total(self) -> Count:
        with self._lock:
            parts = list(self._counts)
        return Count(
            sum(part.queries for part in parts),
            sum(part.scans for part in parts),
            sum(part.seconds for part in parts),
        )

    @contextmanager
    def open(self) -> Iterator[Session]:
        """A session of its own. Raises CredentialsError (tried once), NoWarehouse, SourceUnavailable."""
        place = self.place
        way = connection(
            self.login,
            host=place.host,
            port=place.port,
            protocol=place.protocol,
            timeout_seconds=place.network_timeout_seconds,
            tag=tagged(self._tag, ""),
        )
        try:
            opened = way.__enter__()
        except (sf.Error, RequestException, OSError) as error:
            raise _of_sign_in(error, place.secret) from None
        try:
            session = Session(opened, place.secret, self._tag, self._statement_seconds, self._left)
            with self._lock:
                self._counts.append(session.count)
            yield session
        finally:
            way.__exit__(None, None, None)


def told(
    error: Exception, about: str, secret: str, query_id: str = "", seconds: float = 0.0, limit: int = 0
) -> LakehouseError:
    """What an error of a statement means for a run. No value of a row is in it."""
    if not isinstance(error, sf.Error):
        return SourceUnavailable(
            f"Snowflake {about}: received {type(error).__name__}, expected the rows of a result", hint=_LATER
        )
    meant = meaning(error, about, secret)
    if error.errno in _NO_WAREHOUSE:
        return NoWarehouse(
            meant.message, hint=f"{meant.hint}; a suspended one needs AUTO_RESUME, or OPERATE to resume it"
        )
    if error.errno in _OF_STATEMENT or type(meant) is SourceError:
        message = f"{meant.message} within {limit} s" if error.errno == 630 else meant.message
        hint = _OF_STATEMENT.get(error.errno, _OTHERWISE)
        return StatementFailed(message, hint=hint, errno=error.errno, query_id=query_id, seconds=seconds)
    if isinstance(meant, SourceUnavailable):
        meant.hint = _LATER
    return meant


def _of_sign_in(error: Exception, secret: str) -> LakehouseError:
    meant = told(error, "sign-in", secret)
    if isinstance(meant, StatementFailed):
        return CredentialsError(
            meant.message, hint=f"check account, user, role and warehouse in the secret {secret}"
        )
    return meant
