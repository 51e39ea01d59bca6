"""A small threaded HTTP/1.1 server for WSGI applications on the loopback interface, with connections kept open.

Werkzeug's development server closes every connection after one answer; for the thousands of small S3 calls of a
Spark job a new connection and thread each time costs more than the call. Request bodies are read whole before the
application runs (moto wants them whole), which is also what makes keeping the connection open safe.
"""

from __future__ import annotations

import io
import socketserver
import sys
import traceback
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote_to_bytes

from moto.core.request import (
    PRESERVED_HEADER_NAMES_ENVIRON_KEY,
    environ_key_for_header,
    should_preserve_original_header_name,
)
from werkzeug.serving import DechunkedInput

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

MAX_LINE = 64 * 1024
IDLE_SECONDS = 600
JOIN_BYTES = 64 * 1024


class BadRequest(Exception):
    """What was received is not HTTP/1.1 that can be answered."""


class Server(socketserver.ThreadingTCPServer):
    """Serves `application` until `shutdown`."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256
    block_on_close = False

    def __init__(self, port: int, application: Application):
        self.application = application
        super().__init__(("127.0.0.1", port), _Connection)
        self.port = int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            traceback.print_exc()


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    rbufsize = 64 * 1024
    timeout = IDLE_SECONDS
    server: Server

    def handle(self) -> None:
        try:
            while self._one_request():
                pass
        except (ConnectionError, TimeoutError):
            return
        except BadRequest as e:
            body = str(e).encode()
            self._send(
                "400 Bad Request", [("Content-Length", str(len(body)))], [body], head=False, close=True
            )

    def _line(self) -> bytes:
        line = self.rfile.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            if line:
                raise BadRequest("a header line is cut short or too long")
            raise ConnectionResetError
        return line.rstrip(b"\r\n")

    def _one_request(self) -> bool:
        """Read one request and answer it; whether the connection stays open."""
        first = self._line()
        if not first:
            return True
        try:
            method, target, version = first.decode("latin-1").split(" ")
        except ValueError:
            raise BadRequest("the request line is malformed") from None
        environ = self._environ(method, target, version)
        preserved: dict[str, str] = {}
        while line := self._line():
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise BadRequest("a header has no colon")
            value = value.strip()
            if "_" in name:
                # Only S3 metadata may have underscores; any other header could pose as its dashed twin.
                if not should_preserve_original_header_name(name):
                    continue
                preserved[environ_key_for_header(name)] = name
            key = name.upper().replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = preserved
        if environ.get("HTTP_EXPECT", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._read_body(environ)
        close = version != "HTTP/1.1" or environ.get("HTTP_CONNECTION", "").lower() == "close"
        self._answer(environ, head=method == "HEAD", close=close)
        return not close

    def _environ(self, method: str, target: str, version: str) -> dict[str, Any]:
        if target.startswith(("http://", "https://")):  # a client that takes this server for a proxy
            target = "/" + target.split("://", 1)[1].partition("/")[2]
        path, _, query = target.partition("?")
        return {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "SERVER_SOFTWARE": "local-aws",
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "REQUEST_URI": target,
            "RAW_URI": target,
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_PORT": self.client_address[1],
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.port),
            "SERVER_PROTOCOL": version,
        }

    def _read_body(self, environ: dict[str, Any]) -> None:
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            # Taken off here: whoever looks at the request sees a body with a length.
            data = DechunkedInput(self.rfile).readall()  # type: ignore[arg-type]
            del environ["HTTP_TRANSFER_ENCODING"]
            environ["CONTENT_LENGTH"] = str(len(data))
        else:
            try:
                length = int(environ.get("CONTENT_LENGTH") or 0)
            except ValueError:
                raise BadRequest("Content-Length is not a number") from None
            data = self.rfile.read(length) if length else b""
            if len(data) != length:
                raise ConnectionResetError
        environ["wsgi.input"] = io.BytesIO(data)
        environ["wsgi.input_terminated"] = True

    def _answer(self, environ: dict[str, Any], head: bool, close: bool) -> None:
        begun: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            begun[:] = [status, headers]

        try:
            body = self.server.application(environ, start_response)
            try:
                self._send(begun[0], begun[1], body, head, close)
            finally:
                getattr(body, "close", lambda: None)()
        except ConnectionError:
            raise
        except Exception:
            sys.stderr.write(
                f"500 on {environ['REQUEST_METHOD']} {environ['REQUEST_URI'].partition('?')[0]}\n"
            )
            traceback.print_exc()
            message = b"internal error of the local AWS, see its log"
            self._send(
                "500 Internal Server Error", [("Content-Length", str(len(message)))], [message], head, close
            )

    def _send(
        self, status: str, headers: list[tuple[str, str]], body: Iterable[bytes], head: bool, close: bool
    ) -> None:
        names = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        if "date" not in names:
            lines.append(f"Date: {formatdate(usegmt=True)}")
        bodiless = head or status[:3] in ("204", "304") or status.startswith("1")
        chunked = False
        if "content-length" not in names and not bodiless:
            if isinstance(body, list | tuple):
                lines.append(f"Content-Length: {sum(map(len, body))}")
            else:
                chunked = True
                lines.append("Transfer-Encoding: chunked")
        if close:
            lines.append("Connection: close")
        pending = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        if not bodiless:
            for part in body:
                if not part:
                    continue
                data = b"%x\r\n%b\r\n" % (len(part), part) if chunked else part
                if len(pending) + len(data) <= JOIN_BYTES:
                    pending += data
                    continue
                if pending:
                    self.wfile.write(pending)
                    pending = b""
                self.wfile.write(data)
            if chunked:
                pending += b"0\r\n\r\n"
        if pending:
            self.wfile.write(pending)
