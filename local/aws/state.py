"""The rest of the account (Glue, Secrets Manager, SNS, IAM, Athena workgroups …) kept across restarts.

moto holds a service's state as plain objects in memory. After every call that can change it, and before that call is
answered, the service's backends are pickled into `<state>/aws/<service>.pickle`, replaced in one step. The files are
read by this program alone. S3 and EMR Serverless keep their own state.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moto import backends
from moto.core.base_backend import BackendDict

OWN_STATE = {"s3", "emr-serverless", "moto_api", "instance_metadata"}
# Written often and of no use after a restart: kept only by an orderly stop.
NOISY = {"cloudwatch", "logs", "sts"}
READS = ("Get", "List", "Describe", "BatchGet", "Search", "Query", "Head", "Lookup")
ATTEMPTS = 5


class Keeper:
    """Saves and restores moto's backends, one file per service."""

    def __init__(self, root: Path):
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)
        self._digests: dict[str, bytes] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._unkept: set[str] = set()

    def _file(self, service: str) -> Path:
        return self.root / f"{service}.pickle"

    def load(self) -> list[str]:
        """Put what was saved back into moto; returns the services."""
        loaded = []
        for path in sorted(self.root.glob("*.pickle")):
            try:
                version, regions = pickle.loads(path.read_bytes())
                if version != _version():
                    raise ValueError(f"written by moto {version}, this is {_version()}")
            except Exception as e:
                aside = path.with_suffix(f".unreadable-{int(time.time())}")
                path.replace(aside)
                _log(
                    f"state of {path.stem} cannot be read ({e}); set aside as {aside}, the service starts empty"
                )
                continue
            all_accounts = backends.get_backend(path.stem)  # type: ignore[call-overload]
            for (account, region), backend in regions.items():
                dict.__setitem__(all_accounts[account], region, backend)
            loaded.append(path.stem)
        return loaded

    def save(self, service: str) -> None:
        """Write the service's state if it has changed."""
        lock = self._locks.setdefault(service, threading.Lock())
        with lock:
            data = self._pickle(service)
            if data is None:
                return
            digest = hashlib.sha256(data).digest()
            if self._digests.get(service) == digest:
                return
            part = self.root / f".{service}.part"
            part.write_bytes(data)
            os.replace(part, self._file(service))
            self._digests[service] = digest

    def save_all(self) -> None:
        """At an orderly stop: every service that was used."""
        used = {str(b.service_name) for b in BackendDict._instances}  # type: ignore[misc]
        for service in used - OWN_STATE:
            if service in backends.list_of_moto_modules():
                self.save(service)

    def _pickle(self, service: str) -> bytes | None:
        all_accounts = backends.get_backend(service)  # type: ignore[call-overload]
        if not isinstance(all_accounts, BackendDict):
            return None
        for attempt in range(ATTEMPTS):
            try:
                regions = {(account, region): b for account, region, b in all_accounts.iter_backends()}
                return pickle.dumps((_version(), regions))
            except RuntimeError as e:  # another thread changed a dictionary meanwhile
                if attempt == ATTEMPTS - 1:
                    self._complain(service, e)
                time.sleep(0.01)
            except (TypeError, AttributeError, pickle.PicklingError) as e:
                self._complain(service, e)
                break
        return None

    def _complain(self, service: str, error: Exception) -> None:
        if service not in self._unkept:
            self._unkept.add(service)
            _log(f"state of {service} is not kept across restarts: {error}")


def changes(environ: dict[str, Any]) -> bool:
    """Whether the call can change state, as far as its HTTP request tells."""
    method = environ.get("REQUEST_METHOD", "GET")
    if method in ("GET", "HEAD", "OPTIONS"):
        return False
    action = str(environ.get("HTTP_X_AMZ_TARGET", "")).rsplit(".", 1)[-1]
    return not action.startswith(READS)


def keeping(dispatcher: Any, keeper: Keeper) -> Callable[[dict[str, Any], Any], Any]:
    """A WSGI application that saves a service's state after each change, before the answer goes out."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        backend_app = dispatcher.get_application(environ)
        answer = backend_app(environ, start_response)
        service = backend_app.service
        if service not in OWN_STATE and service not in NOISY and changes(environ):
            keeper.save(service)
        return answer

    return application


def _version() -> str:
    return importlib.metadata.version("moto")


def _log(text: str) -> None:
    sys.stdout.write(f"state: {text}\n")
    sys.stdout.flush()
