"""Lambda on this machine, for one function: its runtime (awslambdaric, as on Lambda's image) against a Runtime API.

The function's folder is its task root and the only thing on its path beside the image's: awslambdaric and boto3. It has
no home to write to, as on Lambda; at the end of its time the process is killed, and the next event starts another.
(AWS Lambda, Runtime API; awslambdaric. What Lambda says of failures: AWS Lambda, Understanding retry behaviour.)
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from local import door

#: What Lambda's image for Python has beside the standard library.
IMAGE = ("awslambdaric", "boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "simplejson", "six",
         "snapshot-restore-py", "urllib3")  # fmt: skip
#: An answer that is larger is refused (AWS Lambda, quotas).
ANSWER_LIMIT_BYTES = 6 * 1024 * 1024
_API = "/2018-06-01/runtime"


@dataclass(frozen=True)
class Answer:
    """What the caller of an event gets: ``error`` is empty, or the type of the error that ``payload`` describes."""

    payload: Any
    error: str
    seconds: float


@dataclass(frozen=True)
class _Event:
    request_id: str
    body: bytes
    deadline: float


class Function:
    """One function with one process at a time, as long as ``running`` lasts."""

    def __init__(self, command: list[str], task_root: Path, env: dict[str, str], log: Path) -> None:
        self.events: queue.Queue[_Event] = queue.Queue()
        self.answers: queue.Queue[tuple[str, Any, str]] = queue.Queue()
        #: Seconds from the start of the process to its first question for an event.
        self.init_seconds: float | None = None
        self.log = log
        #: Where the Runtime API listens.
        self.address = env["AWS_LAMBDA_RUNTIME_API"]
        self._command, self._task_root, self._env = command, task_root, env
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def invoke(self, event: Any, *, timeout: float = 900, request_id: str | None = None) -> Answer:
        """Hand an event to the function; a repeated delivery of the same event has the ``request_id`` of the first."""
        self._start()
        self._wait_for_init()
        began = time.monotonic()
        one = _Event(request_id or str(uuid.uuid4()), json.dumps(event).encode(), time.time() + timeout)
        self.events.put(one)
        payload, error = self._answer(one, timeout)
        return Answer(payload, error, time.monotonic() - began)

    def asks(self) -> _Event:
        """What the runtime is given when it asks for the next event."""
        if self.init_seconds is None:
            self.init_seconds = time.monotonic() - self._started
        return self.events.get()

    def stop(self) -> None:
        """Kill the process, as at the end of a function's time."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.init_seconds, self._started = None, time.monotonic()
        self.events, self.answers = queue.Queue(), queue.Queue()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._task_root, env=self._env, stdout=log, stderr=subprocess.STDOUT
            )

    def _wait_for_init(self) -> None:
        """Until the process asks for an event, or says why it does not: the time of an event begins after that."""
        assert self._process is not None
        while self.init_seconds is None and self._process.poll() is None and self.answers.empty():
            time.sleep(0.01)

    def _answer(self, one: _Event, timeout: float) -> tuple[Any, str]:
        assert self._process is not None
        while time.time() < one.deadline:
            try:
                request_id, payload, error = self.answers.get(timeout=0.05)
            except queue.Empty:
                if self._process.poll() is None:
                    continue
                error = "Runtime.ExitError"
                status = f"exit status {self._process.returncode}"
                return failure(error, one, f"Error: Runtime exited with error: {status}"), error
            if request_id in (one.request_id, ""):
                return payload, error
        self.stop()
        error = "Sandbox.Timedout"
        return failure(error, one, f"Error: Task timed out after {timeout:.2f} seconds"), error


def failure(error: str, one: _Event, said: str) -> dict[str, str]:
    """What Lambda itself says of an event that no code answered."""
    return {"errorType": error, "errorMessage": f"RequestId: {one.request_id} {said}"}


class _Api(BaseHTTPRequestHandler):
    """The Runtime API of the function that the server belongs to."""

    protocol_version = "HTTP/1.1"
    function: ClassVar[Function]
    arn: ClassVar[str]
    port: ClassVar[int]

    def do_GET(self) -> None:
        if self._refused():
            return self._say(door.STATUS)
        if self.path != f"{_API}/invocation/next":
            return self._say(404)
        event = self.function.asks()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": event.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(event.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
            "Content-Type": "application/json",
        }
        return self._say(200, event.body, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        *_, request_id, kind = self.path.split("/")
        if self._refused():
            return self._say(door.STATUS)
        if not self.path.startswith(f"{_API}/"):
            return self._say(404)
        if len(body) > ANSWER_LIMIT_BYTES:
            error = "Function.ResponseSizeTooLarge"
            said = (
                f"Response payload size exceeded maximum allowed payload size ({ANSWER_LIMIT_BYTES} bytes)."
            )
            self.function.answers.put((request_id, {"errorType": error, "errorMessage": said}, error))
            return self._say(413)
        payload = json.loads(body)
        error = "" if kind == "response" else str(payload.get("errorType") or "Unhandled")
        self.function.answers.put(("" if request_id == "init" else request_id, payload, error))
        return self._say(202)

    def _refused(self) -> bool:
        return door.refusal(lambda name: self.headers.get_all(name) or [], self.port) is not None

    def _say(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads a line for each request."""


def make_image(folder: Path) -> Path:
    """What Lambda's image has, by links to what is installed here."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in IMAGE:
        distribution = importlib.metadata.distribution(name)
        for top in {Path(file).parts[0] for file in distribution.files or [] if ".." not in Path(file).parts}:
            if not (folder / top).is_symlink() and top != "__pycache__":
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


@contextmanager
def running(
    task_root: Path, handler: str, state: Path, environment: Mapping[str, str], *, memory_mb: int = 1024
) -> Iterator[Function]:
    """The function of a folder. ``environment``: what Terraform sets, and where the local AWS is."""
    name = "dq-platform-runner"
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    server.daemon_threads = True
    port = int(server.server_address[1])
    region = environment.get("AWS_REGION", "eu-central-1")
    env = {
        "PATH": os.environ["PATH"],
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "HOME": "/dev/null/no-home",
        "PYTHONPATH": str(make_image(state / "image")),
        # Nothing is written into the task root; the next process need not compile it again.
        "PYTHONPYCACHEPREFIX": str(state / "compiled"),
        "LAMBDA_TASK_ROOT": str(task_root),
        "_HANDLER": handler,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    } | dict(environment)
    command = [sys.executable, "-S", "-m", "awslambdaric", handler]
    function = Function(command, task_root, env, state / "function.log")
    arn = f"arn:aws:lambda:{region}:123456789012:function:{name}"
    server.RequestHandlerClass = type("Api", (_Api,), {"function": function, "arn": arn, "port": port})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield function
    finally:
        function.stop()
        server.shutdown()
        server.server_close()
