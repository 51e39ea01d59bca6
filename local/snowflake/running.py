"""Statements while they run: how long they may, who cancels them, and what was run."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.snowflake import refusals
from local.snowflake.refusals import Refusal, refusal
from local.snowflake.users import User

TIMEOUT, TAG = "STATEMENT_TIMEOUT_IN_SECONDS", "QUERY_TAG"
_LOG = 20_000
# DuckDB takes an interrupt while it executes only; what fakesnow does before and after is not reached by one.
_AGAIN_SECONDS = 0.02
_SET = re.compile(r"\s*ALTER\s+SESSION\s+SET\s+(\w+)\s*=\s*('(?:[^']|'')*'|\S+?)\s*;?\s*$", re.I | re.S)
_USE = re.compile(r'\s*USE\s+(WAREHOUSE|ROLE|SECONDARY\s+ROLES)\s+(?:"([^"]+)"|(\w+))\s*;?\s*$', re.I)


@dataclass
class Session:
    """A signed-in client: its parameters by their names in capitals."""

    user: User
    connection: Any
    warehouse: str | None
    parameters: dict[str, str] = field(default_factory=dict)

    def take(self, sql: str) -> Refusal | bool:
        """Carry out ALTER SESSION SET, USE WAREHOUSE and USE ROLE; False for any other statement."""
        if found := _SET.match(sql):
            name, value = found[1].upper(), found[2]
            if name not in (TIMEOUT, TAG):
                return False
            self.parameters[name] = value[1:-1].replace("''", "'") if value.startswith("'") else value
            return True
        if found := _USE.match(sql):
            return self._use(found[1].upper(), found[2] or found[3].upper())
        return False

    def _use(self, kind: str, name: str) -> Refusal | bool:
        own = self.user.accepted.get(kind.lower())
        if kind in ("WAREHOUSE", "ROLE") and self.user.grants is not None and name != own:
            return refusal(refusals.NO_OPERATION)
        if kind == "WAREHOUSE":
            self.warehouse = name
        return True

    @property
    def has_warehouse(self) -> bool:
        """Signing in with a warehouse that is not the role's works; the first query of a table does not."""
        own = self.user.accepted.get("warehouse")
        return self.user.grants is None or self.warehouse in (None, own)

    def limit(self, statement: Mapping[str, Any] | None) -> float | None:
        """Seconds that a statement may take, by its own parameters or the session's; None without end."""
        found = (statement or {}).get(TIMEOUT, self.parameters.get(TIMEOUT, 0))
        return float(found) or None

    def tag(self, statement: Mapping[str, Any] | None) -> str:
        return str((statement or {}).get(TAG, self.parameters.get(TAG, "")))


@dataclass
class Statement:
    """One that runs. ``refused`` says why it was stopped, where it was."""

    session: Session
    query_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    refused: Refusal | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    begun: float = field(default_factory=time.monotonic)

    def stop(self, why: Refusal) -> None:
        self.refused = self.refused or why
        self.stopped.set()

    async def hang(self, seconds: float) -> None:
        """As a table does that somebody has locked."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), seconds)


class Running:
    """What runs, by the ids that clients give their requests, and a log of what ran."""

    def __init__(self) -> None:
        self._statements: dict[str, Statement] = {}
        self.log: deque[dict[str, Any]] = deque(maxlen=_LOG)

    @asynccontextmanager
    async def statement(
        self, request_id: str, session: Session, limit: float | None
    ) -> AsyncIterator[Statement]:
        """A statement that is interrupted when its time is over, or when its client says so."""
        one = Statement(session)
        self._statements[request_id] = one
        watch = asyncio.create_task(_watch(one, limit))
        try:
            yield one
        finally:
            watch.cancel()
            self._statements.pop(request_id, None)

    def abort(self, request_id: str) -> None:
        if one := self._statements.get(request_id):
            one.stop(refusal(refusals.CANCELED))

    def note(self, one: Statement, sql: str, tag: str, error: str | None) -> None:
        self.log.append(
            {
                "query_id": one.query_id,
                "user": one.session.user.name,
                "sql": sql,
                "tag": tag,
                "error": error,
                "at": datetime.now(UTC).isoformat(),
                "seconds": round(time.monotonic() - one.begun, 3),
            }
        )


async def _watch(one: Statement, limit: float | None) -> None:
    try:
        await asyncio.wait_for(one.stopped.wait(), limit)
    except TimeoutError:
        one.stop(refusal(refusals.TIMED_OUT, seconds=f"{limit or 0:.0f}"))
    while True:
        one.session.connection._duck_conn.interrupt()
        await asyncio.sleep(_AGAIN_SECONDS)
