"""The HTTP ground of the doubles: requests, answers, injected faults, the request log. Loopback only."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from local import door

LOG_LENGTH = 5_000


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in lower case
    body: bytes
    port: int

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = "application/json;charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(value: Any, status: int = 200, **headers: str) -> Answer:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        # Half a surrogate pair has no bytes: it goes out as the escape that it came in.
        body = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
        return Answer(status, body, headers=named)


@dataclass
class Fault:
    """A planned failure of a service.

    It hits requests whose "METHOD /path" matches the regular expression `match`: after letting `skip` of them
    through, the next `times` (0: without end), and of those only every `every`-th.
    kind: status (answer `status`; Salesforce, without one, what it publishes for `code`), timeout (no answer for
    `delay_s`, then the connection closes), drop (the connection closes at once), cut (half an answer, then the
    connection closes), slow (answer after `delay_s`).
    """

    service: str
    kind: str = "status"
    match: str = ""
    skip: int = 0
    times: int = 1
    every: int = 1
    status: int = 500
    retry_after: str | None = None
    policy: str | None = None
    delay_s: float = 30.0
    code: str | None = None
    seen: int = 0
    hits: int = 0
    path: str = ""

    def hit(self, line: str) -> bool:
        """Whether this request fails; counts it."""
        if self.spent or not re.search(self.match, line):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.seen - self.skip) % self.every:
            return False
        self.hits += 1
        return True

    @property
    def spent(self) -> bool:
        return bool(self.times) and self.hits >= self.times


@dataclass
class Control:
    """What tests steer and read while the doubles run."""

    faults: list[Fault] = field(default_factory=list)
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, described: dict[str, Any]) -> None:
        known = {f.name for f in fields(Fault)} - {"seen", "hits", "path"}
        if unknown := set(described) - known:
            raise ValueError(f"unknown fault settings {sorted(unknown)}; known are {sorted(known)}")
        with self.lock:
            self.faults.append(Fault(**described))

    def next_fault(self, service: str, line: str) -> Fault | None:
        with self.lock:
            return next((f for f in self.faults if f.service == service and f.hit(line)), None)

    def described(self) -> list[dict[str, Any]]:
        with self.lock:
            return [asdict(fault) for fault in self.faults]


class Service:
    """One port's behaviour."""

    name = ""

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def failure(self, fault: Fault) -> Answer:
        """The service's own form of an error answer to a request for ``fault.path``."""
        raise NotImplementedError


AdminHandler = Callable[[Request], Answer]


def serve(service: Service, control: Control, admin: AdminHandler, port: int) -> ThreadingHTTPServer:
    """A server for one service on loopback; the caller runs serve_forever()."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "local-double"
        # Without this, small answers wait 40 ms for the client's delayed acknowledgement.
        disable_nagle_algorithm = True

        server: ThreadingHTTPServer

        def _run(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            url = urlsplit(self.path)
            request = Request(
                method=self.command,
                path=url.path,
                query=parse_qs(url.query, keep_blank_values=True),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
                port=self.server.server_port,
            )
            why = door.refusal(lambda name: self.headers.get_all(name, []), request.port)
            if why is not None:
                self._send(Answer(door.STATUS, f"Refused: {why}.\n".encode(), "text/plain; charset=utf-8"))
                return
            if request.path.startswith("/_admin/"):
                self._send(self._guarded(admin, request))
                return
            fault = control.next_fault(service.name, f"{request.method} {request.path}")
            if fault is not None and fault.kind in ("timeout", "slow"):
                time.sleep(fault.delay_s)
            if fault is not None and fault.kind in ("timeout", "drop"):
                self._note(request, 0, fault)
                self.close_connection = True
                return
            if fault is not None and fault.kind == "status":
                answer = service.failure(replace(fault, path=request.path))
            else:
                answer = self._guarded(service.answer, request)
            self._note(request, answer.status, fault)
            self._send(answer, cut=fault is not None and fault.kind == "cut")

        def _guarded(self, handle: AdminHandler, request: Request) -> Answer:
            try:
                return handle(request)
            except (ValueError, KeyError, TypeError) as error:
                return Answer.of({"status": "error", "message": f"{type(error).__name__}: {error}"}, 400)

        def _note(self, request: Request, status: int, fault: Fault | None) -> None:
            control.log.append(
                {
                    "service": service.name,
                    "method": request.method,
                    "path": request.path,
                    "query": {k: v[-1] for k, v in request.query.items()},
                    "status": status,
                    "fault": fault.kind if fault else None,
                    "at": time.time(),
                }
            )

        def _send(self, answer: Answer, *, cut: bool = False) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
            if cut:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _run

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server
