"""Client of the Snowflake double's remote control: what the connector cannot do."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class AdminError(Exception):
    """The double refused an action."""


class Admin:
    def __init__(self, host: str, port: int | str, timeout_s: float = 300.0) -> None:
        self._url = f"http://{host}:{port}"
        self._timeout_s = timeout_s

    def state(self) -> dict[str, Any]:
        """The table's rows and the names of the loaded files."""
        found: dict[str, Any] = self._call("GET", "state")
        return found

    def loaded(self) -> dict[str, str]:
        """Files loaded so far: name by sha256."""
        found: dict[str, str] = self._call("GET", "loaded")
        return found

    def load(
        self,
        parquet: Path,
        *,
        sha256: str,
        name: str,
        rows: int,
        columns: list[str],
        loaded_at: str,
        path: str = "",
    ) -> dict[str, Any]:
        """Add a data file's rows to ORDERS from a Parquet file whose columns are all text.

        What was loaded from the same ``path`` before goes.
        """
        body = {
            "parquet": str(parquet),
            "sha256": sha256,
            "name": name,
            "rows": rows,
            "columns": columns,
            "loaded_at": loaded_at,
            "path": path,
        }
        result: dict[str, Any] = self._call("POST", "load", body)
        return result

    def withdraw(self, checksums: list[str]) -> int:
        """Take loaded files out of ORDERS again; returns their rows."""
        return int(self._call("POST", "withdraw", {"sha256": checksums})["rows"])

    def reset(self) -> None:
        """Empty ORDERS, forget the loaded files, planned failures and changed credentials."""
        self._call("POST", "reset", {})

    def credentials(self, *, of: str = "lakehouse", **changed: str) -> None:
        """Change what the double accepts: username, password, token, public_key and public_key_2 (PEM; "" for none).

        ``of``: lakehouse, or dq for the data-quality runner's user.
        """
        self._call("POST", "credentials", {"of": of} | changed)

    def grant(self, *grants: Sequence[str], revoked: Sequence[Sequence[str]] = ()) -> None:
        """Change what the data-quality runner's user may read.

        A grant is SELECT, or REFERENCES (there to be seen, not to be read), and the names of a database, a schema and
        a table as they are stored; without the last ones, of all that is or will be in it.
        """
        self._call(
            "POST", "grants", {"granted": [[*one] for one in grants], "revoked": [[*one] for one in revoked]}
        )

    def queries(self) -> list[dict[str, Any]]:
        """What was run since the start or the last reset: query_id, user, sql, tag, error, at, seconds."""
        found: list[dict[str, Any]] = self._call("GET", "queries")
        return found

    def fault(self, **settings: Any) -> None:
        """Plan a failure: kind, match, skip, times, every as in local.saas.web.Fault.

        ``match`` looks at "POST /path" and, of a query, at its SQL behind that. HTTP `status`, or an SQL `code` as
        002003 in the service's words (``refusals``); kind "slow" hangs for `delay_s` and then runs, unless the
        statement is stopped; "timeout", "drop" and "cut" close the connection.
        """
        self._call("POST", "faults", settings)

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def _call(self, method: str, action: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode("utf-8")
        request = urllib.request.Request(f"{self._url}/_admin/{action}", data=data, method=method)
        # Proxies from the environment do not reach this machine's loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self._timeout_s) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AdminError(
                f"{method} {action}: {error.code} {error.read().decode('utf-8', 'replace')}"
            ) from None
