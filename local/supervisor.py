"""Detached processes of the local stack: start, wait until healthy, stop, report.

A process is known by its pid and its start time together, in `<state>/run/<name>.json`: a pid alone may belong to
somebody else by the time it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START_TIMEOUT = 90.0
STOP_GRACE = 15.0
LOG_TAIL_LINES = 25
LOG_KEEP_BYTES = 5_000_000
# In the C locale, which containers have, a JVM cannot spell a path beyond ASCII and makes another one.
UTF8_LOCALE = "C.UTF-8"


@dataclass(frozen=True)
class ServiceSpec:
    """How one service is started and how it says that it is up."""

    name: str
    argv: list[str]
    env: dict[str, str]
    ready: Callable[[], bool]
    exports: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A live process of a service."""

    name: str
    pid: int
    started: float
    log: Path

    @property
    def uptime(self) -> float:
        return max(0.0, time.time() - self.started)


class ServiceError(Exception):
    """A service that does not do what was asked; the message says what to do."""


class Supervisor:
    """The processes of one state directory."""

    def __init__(self, state: Path):
        self.state = state
        self.logs = state / "logs"
        self._run = state / "run"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _pid_file(self, name: str) -> Path:
        return self._run / f"{name}.json"

    def running(self, name: str) -> Running | None:
        """The live process of the service, or None where there is none (any more)."""
        try:
            record = json.loads(self._pid_file(name).read_text())
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["started"]) < 1.0
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return Running(name, record["pid"], record["started"], self.log(name))
        except (FileNotFoundError, ValueError, KeyError, TypeError, psutil.Error):
            pass
        return None

    def known(self) -> list[str]:
        """Names of the services that have ever been started here and not been stopped."""
        return sorted(p.stem for p in self._run.glob("*.json"))

    def start(self, spec: ServiceSpec, cwd: Path) -> Running:
        """Start the process in a session of its own, detached from this terminal."""
        self._run.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.log(spec.name)
        if log.exists() and log.stat().st_size > LOG_KEEP_BYTES:
            os.replace(log, log.with_suffix(".log.1"))
        with open(log, "ab") as out:
            out.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} start {spec.name}\n".encode())
            out.flush()
            process = subprocess.Popen(
                spec.argv,
                cwd=cwd,
                env=spec.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        started = psutil.Process(process.pid).create_time()
        part = self._pid_file(spec.name).with_suffix(".part")
        part.write_text(json.dumps({"pid": process.pid, "started": started, "argv": spec.argv}))
        os.replace(part, self._pid_file(spec.name))
        return Running(spec.name, process.pid, started, log)

    def wait_ready(
        self, spec: ServiceSpec, timeout: float = START_TIMEOUT, check: Callable[[], None] = lambda: None
    ) -> None:
        """Return when the service is healthy; where it dies or takes too long, say what its log said.

        ``check`` may raise to end the wait.
        """
        end = time.monotonic() + timeout
        while True:
            check()
            if spec.ready():
                return
            _reap()
            if self.running(spec.name) is None:
                raise ServiceError(self._complaint(spec.name, "ended while starting"))
            if time.monotonic() > end:
                raise ServiceError(self._complaint(spec.name, f"is not healthy after {timeout:.0f} s"))
            time.sleep(0.1)

    def _complaint(self, name: str, what: str) -> str:
        log = self.log(name)
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if log.exists() else []
        quoted = "\n".join(f"  | {line}" for line in lines)
        return (
            f"service {name} {what}. The end of {log}:\n{quoted}\n"
            f"Fix the cause above and run `python -m local up` again; what is already up stays up."
        )

    def stop(self, name: str, grace: float = STOP_GRACE) -> bool:
        """SIGTERM to the service's process group, SIGKILL after the grace period; False where it was not running."""
        found = self.running(name)
        if found is not None:
            _end_group(found.pid, grace)
        self._pid_file(name).unlink(missing_ok=True)
        return found is not None

    def kill(self, name: str) -> None:
        """SIGKILL to the service and to all that it has started."""
        found = self.running(name)
        if found is None:
            return
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(found.pid)
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    each.kill()


def _end_group(pid: int, grace: float) -> None:
    """The services lead their own session, so pid and process group are one."""
    end = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        while time.monotonic() < end:
            _reap()
            if not _group_alive(pid):
                return
            time.sleep(0.05)
        os.killpg(pid, signal.SIGKILL)
    while _group_alive(pid) and time.monotonic() < end + 5:
        _reap()
        time.sleep(0.05)


def _group_alive(pid: int) -> bool:
    """Whether a member of the group still runs; zombies are over, their parent has yet to notice."""
    for member in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getpgid(member.pid) == pid and member.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _reap() -> None:
    """Collect children of this very process that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def base_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a service inherits: the caller's environment without credentials or endpoints of a real AWS."""
    own = {"PYTHONUNBUFFERED": "1", "LC_ALL": UTF8_LOCALE}
    return {k: v for k, v in environ.items() if not k.startswith("AWS_")} | own
