"""The stack as a whole: which services there are, on which ports, and what they export."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local.supervisor import ServiceError, ServiceSpec, Supervisor, base_environment

REPO = Path(__file__).resolve().parents[1]
# In this order they are started: the slow ones to come up first.
SERVICES = {
    "aws": "local.aws.server",
    "kafka": "local.kafka",
    "saas": "local.saas.server",
    "snowflake": "local.snowflake.server",
}
PREFERRED_PORTS = {
    "aws": 4566,
    "hubspot": 4571,
    "salesforce": 4572,
    "ecb": 4573,
    "snowflake": 4574,
    "kafka": 4592,
    "kafka_controller": 4593,
}
AIRFLOW_PORT = 4580
# A service whose own port is taken takes the next one that nobody else is known by.
RESERVED_PORTS = {*PREFERRED_PORTS.values(), AIRFLOW_PORT}
PORTS_OF = {"saas": ("hubspot", "salesforce", "ecb"), "kafka": ("kafka", "kafka_controller")}
URL_EXPORTS = {
    "aws": ("AWS_ENDPOINT_URL",),
    "saas": ("LOCAL_HUBSPOT_URL", "LOCAL_SALESFORCE_URL", "LOCAL_ECB_URL"),
    "kafka": ("LOCAL_KAFKA_BOOTSTRAP",),
}
# What lists of paths and URIs, which Java and Spark make of a path, take for something else; so in scripts/setup.sh.
BREAKING = frozenset(':;,#%?*"\\$`|&<>{}[]')
KAFKA_MODES = ("batch", "stream")
Say = Callable[[str], None]


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the stack in use keeps its state: LAKEHOUSE_STATE_DIR, else the lake that was last made current."""
    if "LAKEHOUSE_STATE_DIR" in environ:
        return Path(environ["LAKEHOUSE_STATE_DIR"]).resolve()
    with contextlib.suppress(FileNotFoundError):
        return (REPO / (REPO / ".local" / "current").read_text().strip()).resolve()
    return (REPO / ".local").resolve()


def make_current(state: Path, say: Say) -> None:
    """Make the lake in ``state`` the one that every command without LAKEHOUSE_STATE_DIR means; stop another's stack."""
    if "LAKEHOUSE_STATE_DIR" in os.environ:
        return
    before = state_dir()
    if before != state.resolve() and Supervisor(before).known():
        say(f"stopping the stack of {before.relative_to(REPO)}; its lake stays")
        down(before, say)
    (REPO / ".local").mkdir(exist_ok=True)
    _replace(REPO / ".local" / "current", f"{state.resolve().relative_to(REPO)}\n")


def lakes() -> str:
    """The lakes of this clone, one a line; * is before the one that commands mean."""
    current = state_dir()
    lines = [f"{'*' if each == current else ' '} {lake_name(each)}" for each in _lakes()]
    return "\n".join(lines) or "no lake yet: make demo"


def use(name: str, say: Say) -> str:
    """Make the lake of this name the current one, stop the other's stack. Raises ServiceError where there is none."""
    if "LAKEHOUSE_STATE_DIR" in os.environ:
        raise ServiceError("LAKEHOUSE_STATE_DIR names the lake in this shell: unset it first")
    wanted = next((each for each in _lakes() if lake_name(each) == name), None)
    if wanted is None:
        raise ServiceError(f"there is no lake {name}; there are:\n{lakes()}")
    make_current(wanted, say)
    running = Supervisor(wanted).running("aws") is not None
    return f"lake {name} is in use now" + ("" if running else "; make local-up starts its stack")


def _lakes() -> list[Path]:
    root = (REPO / ".local").resolve()
    return [
        each.parent
        for each in (root / "stack.json", *sorted(root.glob("lakes/*/stack.json")))
        if each.exists()
    ]


def lake_name(state: Path) -> str:
    """What `make use LAKE=…` calls the lake: the name of its folder, `default` for .local itself."""
    return "default" if state.resolve() == (REPO / ".local").resolve() else state.name


@dataclass(frozen=True)
class Stack:
    """A running stack, as `<state>/stack.json` and `<state>/stack.env` describe it."""

    state: Path
    ports: dict[str, int]
    exports: dict[str, str]

    @property
    def aws_endpoint(self) -> str:
        return self.exports["AWS_ENDPOINT_URL"]

    @property
    def shell(self) -> dict[str, str]:
        """The exports for a person's shell: boto3 and the aws command read the Region by a name of their own."""
        region = {"AWS_DEFAULT_REGION": self.exports["AWS_REGION"]} if "AWS_REGION" in self.exports else {}
        return self.exports | region

    def client(self, service: str) -> Any:
        """A boto3 client of the local AWS."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.aws_endpoint,
            region_name=self.exports["AWS_REGION"],
            aws_access_key_id=self.exports["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.exports["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"max_attempts": 2}, s3={"addressing_style": "path"}),
        )

    @classmethod
    def load(cls, state: Path | None = None) -> Stack:
        """The stack that is up in this state directory."""
        state = state or state_dir()
        try:
            description = json.loads((state / "stack.json").read_text())
        except FileNotFoundError:
            raise ServiceError(f"no stack has been started in {state}: run `python -m local up`") from None
        return cls(state, description["ports"], description["exports"])


DOWN = "the local stack is not running: make local-up"


def running() -> Stack:
    """The stack in use, which answers. Raises ServiceError in one line where it does not."""
    try:
        stack = Stack.load()
        address = urlsplit(stack.aws_endpoint)
        socket.create_connection((address.hostname or "", address.port or 0), timeout=2).close()
    except (ServiceError, KeyError, OSError):
        raise ServiceError(DOWN) from None
    return stack


def present() -> dict[str, str]:
    """The services whose code is in this checkout."""
    found = {}
    for name, module in SERVICES.items():
        with contextlib.suppress(ModuleNotFoundError):
            if importlib.util.find_spec(module) is not None:
                found[name] = module
    return found


def _free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_ports(state: Path, supervisor: Supervisor) -> dict[str, int]:
    """Running services keep theirs. The user's lakes have the well-known ports, or the next free ones; a state
    directory outside the clone (a test) gets whatever the system has free."""
    known: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        known = json.loads((state / "stack.json").read_text())["ports"]
    own = state.is_relative_to((REPO / ".local").resolve())
    taken: set[int] = set()
    ports: dict[str, int] = {}
    for service in SERVICES:
        up = supervisor.running(service) is not None
        for name in PORTS_OF.get(service, (service,)):
            if name in known and (up or _free(known[name])):
                ports[name] = known[name]
            elif own:
                port = PREFERRED_PORTS[name]
                while (
                    port in taken
                    or (port in RESERVED_PORTS and port != PREFERRED_PORTS[name])
                    or not _free(port)
                ):
                    port += 1
                ports[name] = port
            else:
                ports[name] = _ephemeral(taken)
            taken.add(ports[name])
    return ports


def free_port(port: int) -> int:
    """This port of the loopback, or the next one above it that is free and that no service is known by."""
    while port in RESERVED_PORTS or not _free(port):
        port += 1
    return port


def _ephemeral(taken: set[int]) -> int:
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = int(s.getsockname()[1])
        if port not in taken:
            return port


def up(state: Path, say: Say, only: list[str] | None = None, kafka_mode: str | None = None) -> Stack:
    """Start what is not running, wait until all of it is healthy, create what the pipeline expects to find.

    `kafka_mode`: how this lake reads the order topic from now on; None leaves it as it is, at first batch.
    """
    if found := sorted(set(str(state)) & BREAKING):
        raise ServiceError(f"the state folder is {state}: its path may not have {' '.join(found)}")
    state.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor(state)
    ports = choose_ports(state, supervisor)
    modules = {n: m for n, m in present().items() if not only or n in only}
    # A proxy of the machine is not asked for what runs on loopback.
    exports = {"NO_PROXY": "127.0.0.1,localhost", "KAFKA_MODE": kafka_mode or _kafka_mode(state)}
    waiting: list[ServiceSpec] = []
    for name, module in modules.items():
        env = base_environment() | exports | {"LAKEHOUSE_STATE_DIR": str(state)}
        spec: ServiceSpec = importlib.import_module(module).spec(state, ports, env)
        exports |= spec.exports
        running = supervisor.running(name)
        if running is None:
            say(f"starting {name} (log {supervisor.log(name)})")
            supervisor.start(spec, REPO)
        waiting.append(spec)
    if only:
        with contextlib.suppress(ServiceError):
            exports = Stack.load(state).exports | exports
    stack = Stack(state, ports, exports)
    write(stack, supervisor)
    for spec in waiting:
        begun = time.monotonic()
        supervisor.wait_ready(spec)
        say(f"{spec.name} is up ({time.monotonic() - begun:.1f} s)")
        if spec.name == "aws":
            from local import bootstrap

            stack = Stack(state, ports, exports | bootstrap.run(stack, say))
            write(stack, supervisor)
    return stack


def _kafka_mode(state: Path) -> str:
    with contextlib.suppress(ServiceError):
        return Stack.load(state).exports.get("KAFKA_MODE", KAFKA_MODES[0])
    return KAFKA_MODES[0]


def write(stack: Stack, supervisor: Supervisor) -> None:
    """stack.json and stack.env, each replaced in one step."""
    services = {}
    for name in SERVICES:
        running = supervisor.running(name)
        if running is not None:
            services[name] = {
                "pid": running.pid,
                "ports": {p: stack.ports[p] for p in PORTS_OF.get(name, (name,))},
                "url": urls(name, stack),
            }
    description = {
        "aws_endpoint": stack.exports.get("AWS_ENDPOINT_URL"),
        "services": services,
        "ports": stack.ports,
        "exports": stack.exports,
    }
    _replace(stack.state / "stack.json", json.dumps(description, indent=1, sort_keys=True) + "\n")
    _replace(stack.state / "stack.env", env_lines(stack))


def env_lines(stack: Stack) -> str:
    return "".join(f"{k}={v}\n" for k, v in sorted(stack.shell.items()))


def urls(name: str, stack: Stack) -> str:
    names = URL_EXPORTS.get(name)
    if names:
        return " ".join(stack.exports[n] for n in names if n in stack.exports)
    return " ".join(f"127.0.0.1:{stack.ports[p]}" for p in PORTS_OF.get(name, (name,)))


def down(state: Path, say: Say) -> None:
    """Stop every service of this state directory; what they have stored stays."""
    supervisor = Supervisor(state)
    names = [n for n in reversed(SERVICES) if n in supervisor.known()]
    names += [n for n in supervisor.known() if n not in SERVICES]
    if not names:
        say("nothing is running")
    for name in names:
        stopped = supervisor.stop(name)
        say(f"{name} stopped" if stopped else f"{name} was not running")


def status(state: Path) -> tuple[str, bool]:
    """A table for people, and whether everything that is present is up."""
    supervisor = Supervisor(state)
    try:
        stack: Stack | None = Stack.load(state)
    except ServiceError:
        stack = None
    rows = [("SERVICE", "STATE", "PID", "UP", "URL", "LOG")]
    everything = True
    for name in present():
        running = supervisor.running(name)
        everything = everything and running is not None
        if running is None or stack is None:
            rows.append((name, "down", "-", "-", "-", str(supervisor.log(name))))
        else:
            rows.append(
                (name, "up", str(running.pid), _duration(running.uptime), urls(name, stack), str(running.log))
            )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ), everything


def _duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}h{m:02d}m" if hours else f"{m}m{s:02d}s"


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)
