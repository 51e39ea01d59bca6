"""Client of the doubles' remote control: loads data, changes it while they run, plans failures.

admin = Admin("http://127.0.0.1:4571")      # any of the three ports
admin.fault("hubspot", status=429, retry_after="1", times=2)
admin.upsert("hubspot", "contacts", {"id": "1001", "email": "new@example.com"})
admin.delete("salesforce", "Account", "001...", purge=True)
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode


class AdminError(Exception):
    """The double refused an action."""


class Admin:
    def __init__(self, url: str, timeout_s: float = 120.0) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s

    def health(self) -> bool:
        try:
            return bool(self._call("GET", "health")["status"] == "ok")
        except (OSError, AdminError):
            return False

    def state(self) -> dict[str, int]:
        """Rows per collection."""
        found: dict[str, int] = self._call("GET", "state")
        return found

    def loaded(self, service: str, object: str) -> dict[str, str]:
        """Files loaded so far: name by sha256."""
        found: dict[str, str] = self._call(
            "GET", f"loaded?{urlencode({'service': service, 'object': object})}"
        )
        return found

    def requests(self, service: str = "") -> list[dict[str, Any]]:
        """The last requests: service, method, path, query, status, fault, at."""
        found: list[dict[str, Any]] = self._call("GET", f"requests?{urlencode({'service': service})}")
        return found

    def forget_requests(self) -> None:
        self._call("DELETE", "requests")

    def load(
        self, service: str, object: str, rows: list[dict[str, Any]], files: list[dict[str, str]] | None = None
    ) -> int:
        """Add rows as a data file holds them; `files` ({"sha256", "name"}) are remembered as loaded."""
        body = {"service": service, "object": object, "rows": rows, "files": files or []}
        return int(self._call("POST", "load", body)["rows"])

    def upsert(
        self, service: str, object: str, fields: dict[str, Any], at: str | None = None
    ) -> dict[str, Any]:
        """Create or change one record; stamped as modified now, or when `at` says."""
        body = {"service": service, "object": object, "fields": fields, "at": at}
        changed: dict[str, Any] = self._call("POST", "upsert", body)
        return changed

    def delete(self, service: str, object: str, id: str, at: str | None = None, purge: bool = False) -> None:
        """Archive (HubSpot), put into the bin (Salesforce), or with `purge` remove without a trace."""
        body = {"service": service, "object": object, "id": id, "at": at, "purge": purge}
        self._call("POST", "delete", body)

    def merge(
        self,
        primary: str,
        other: str,
        at: str | None = None,
        new_id: str | None = None,
        keep_primary: bool = False,
    ) -> str:
        """Merge two contacts; returns the survivor's id, a new one unless `keep_primary`."""
        body = {"primary": primary, "other": other, "at": at, "new_id": new_id, "keep_primary": keep_primary}
        return str(self._call("POST", "merge", body)["id"])

    def hold_index(self, held: bool = True) -> None:
        """Let HubSpot's search know of no change from now on; False lets it catch up."""
        self._call("POST", "index", {"held": held})

    def begin(self, at: str | None = None) -> None:
        """Begin a transaction of Salesforce, now or when `at` says: nobody sees what changes until `commit`."""
        self._call("POST", "transaction", {"open": True, "at": at})

    def commit(self) -> None:
        """End Salesforce's transaction: its changes are there, with the stamps that they got."""
        self._call("POST", "transaction", {"open": False})

    def fault(self, service: str, **settings: Any) -> None:
        """Plan a failure; settings as in local.saas.web.Fault (kind, match, skip, times, every, status, ...)."""
        self._call("POST", "faults", {"service": service, **settings})

    def faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", "faults")
        return found

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def expire_sessions(self) -> int:
        """Make all Salesforce sessions invalid; a new login works."""
        return int(self._call("POST", "expire", {"what": "sessions"})["expired"])

    def expire_locators(self) -> int:
        """Make all Salesforce query locators invalid."""
        return int(self._call("POST", "expire", {"what": "locators"})["expired"])

    def credentials(self, service: str, changed: dict[str, str] | None) -> None:
        """Change what a double accepts; None restores the default."""
        self._call("POST", "credentials", {service: changed})

    def publish_until(self, day: str | None) -> None:
        """Show ECB rates only up to this date (YYYY-MM-DD); None shows all."""
        self._call("POST", "as_of", {"date": day})

    def reset(self, service: str | None = None) -> None:
        """Forget data, faults and settings of one service, or of all."""
        self._call("POST", "reset", {"service": service})

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
