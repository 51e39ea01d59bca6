"""Airflow on this machine: its environment, its database, its services and their UI.

`python -m local.airflow` starts the API server with the UI, the scheduler, the DAG processor and the triggerer on the
loopback, with the environment of the demo, and stops them on Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from local import bootstrap, door
from local.stack import AIRFLOW_PORT, REPO, Stack, running
from local.supervisor import ServiceError, ServiceSpec, Supervisor, base_environment

sys.path.insert(0, str(REPO / "dags"))

from common import roles

DAGS = REPO / "dags"
POOLS = DAGS / "common" / "pools.json"
PLUGINS = REPO / "local" / "airflow_plugins"
PREFERRED_PORT = AIRFLOW_PORT
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")
AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"


class Interrupted(Exception):
    """Somebody wants it to end before it is up."""


def home(state: Path) -> Path:
    """AIRFLOW_HOME: configuration, database and logs, all inside the state directory."""
    return state / "airflow"


def database(state: Path) -> Path:
    return home(state) / "airflow.db"


def environment(stack: Stack, port: int = PREFERRED_PORT) -> dict[str, str]:
    """What every Airflow process runs with: the stack's names, and Airflow's own settings."""
    folder = home(stack.state)
    own = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__AUTH_MANAGER": AUTH_MANAGER,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database(stack.state)}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": _secret(folder / "api.secret"),
        "AIRFLOW__API_AUTH__JWT_SECRET": _secret(folder / "jwt.secret"),
        # PyJWT from 2.10 on refuses the None that Airflow passes where no issuer is set.
        "AIRFLOW__API_AUTH__JWT_ISSUER": "lakehouse-local",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # A DAG imports `common`: the scheduler's processes add the DAGs folder to the path, the CLI does not.
        "PYTHONPATH": str(DAGS),
        "PYTHONWARNINGS": "ignore",
        "EMR_LOG_URI": f"s3://{stack.exports['LAKE_BUCKET']}/logs/emr/",
        "EMR_PYTHON_ARCHIVE": "",  # the local image has the libraries
        **dict.fromkeys(roles.SETTINGS, ""),  # nobody enforces roles here
        "EMR_POLL_SECONDS": "0.5",
        "LAKEHOUSE_RETRY_SECONDS": "5",
        "LAKEHOUSE_SCHEDULES": "off",  # a trigger is one run: the schedule of an unpaused DAG adds none
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return base_environment() | stack.exports | own


def prepare(stack: Stack) -> None:
    """Create or migrate the database and create the pools; does nothing where that has been done."""
    folder = home(stack.state)
    mark = folder / "database.mark"
    wanted = f"{version('apache-airflow-core')} {hashlib.sha256(POOLS.read_bytes()).hexdigest()}"
    if database(stack.state).exists() and mark.exists() and mark.read_text() == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "prepare.log"
    with open(log, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", _PREPARE, str(POOLS)],
            env=environment(stack), cwd=folder, stdout=out, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if done.returncode == -signal.SIGINT:
        raise Interrupted
    if done.returncode:
        tail = "\n".join(f"  | {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
        raise ServiceError(f"Airflow's database could not be prepared. The end of {log}:\n{tail}")
    mark.write_text(wanted)


#: `airflow db migrate` and `airflow pools import` in one process: importing Airflow takes longer than either.
_PREPARE = """
import json, sys
from airflow.utils import db
from airflow.models.pool import Pool
db.initdb()
for name, pool in json.load(open(sys.argv[1])).items():
    Pool.create_or_update_pool(name, pool["slots"], pool["description"], pool["include_deferred"])
"""


def dags_test(dag_id: str, *arguments: str) -> list[str]:
    """The command line of `airflow dags test`."""
    return [sys.executable, "-c", _DAGS_TEST, "dags", "test", dag_id, *arguments]


#: Airflow as the `airflow` command starts it, but for one thing: dags test builds its in-process API anew for every
#: task, which takes more than a second of CPU each; here it is built once.
_DAGS_TEST = """
import functools, sys
from airflow.sdk.execution_time import supervisor
supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)
from airflow.__main__ import main
sys.exit(main())
"""


def _secret(path: Path) -> str:
    """A random value that all processes of this state directory share."""
    try:
        return path.read_text()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.touch(mode=0o600)
        part.write_text(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
        part.unlink()
        return path.read_text()


def specs(stack: Stack, port: int) -> list[ServiceSpec]:
    """The services as the supervisor starts them."""
    env = environment(stack, port)
    options = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}
    # Only the server that browsers reach has plugins, and finds local/ for them.
    behind_door = {
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "PYTHONPATH": f"{DAGS}{os.pathsep}{REPO}",
    }
    return [
        ServiceSpec(
            name=f"airflow-{service}",
            argv=[sys.executable, "-m", "airflow", service, *options.get(service, [])],
            env=env | behind_door if service == "api-server" else env,
            ready=partial(_healthy, port, service),
        )
        for service in SERVICES
    ]


def _healthy(port: int, service: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=2) as answer:
            health = json.load(answer)
    except OSError:
        return False
    return service == "api-server" or health[service.replace("-", "_")]["status"] == "healthy"


def _check_door(port: int, log: Path) -> None:
    """Airflow starts without a plugin that it cannot load. Raises ServiceError where the door is not there."""
    stranger = urllib.request.Request(
        f"http://127.0.0.1:{port}/", headers={"Origin": "http://stranger.invalid"}
    )
    try:
        with urllib.request.urlopen(stranger, timeout=10) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    if status != door.STATUS:
        raise ServiceError(
            f"Airflow answers web pages of other sites ({status}): {PLUGINS} was not loaded; see {log}"
        )


class Ending:
    """Signals that end `make airflow`: the first asks for an orderly end, the next one kills what is left."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._asked = threading.Event()

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def wait(self, seconds: float) -> bool:
        return self._asked.wait(seconds)

    def require_none(self) -> None:
        if self._asked.is_set():
            raise Interrupted

    def _ask(self, *_: object) -> None:
        if not self._asked.is_set():
            print("\nstopping Airflow, some seconds (Ctrl-C again kills it) …", flush=True)
            self._asked.set()
            return
        for service in SERVICES:
            self._supervisor.kill(f"airflow-{service}")


@contextmanager
def services(stack: Stack, port: int, supervisor: Supervisor, check: Callable[[], None]) -> Iterator[None]:
    """Airflow's services, healthy; stopped at the end. ``check`` raises where that is to come at once."""
    started = specs(stack, port)
    for spec in started:
        supervisor.stop(spec.name)
    try:
        for spec in started:
            check()
            supervisor.start(spec, home(stack.state))
        for spec in started:
            supervisor.wait_ready(spec, check=check)
        _check_door(port, supervisor.log("airflow-api-server"))
        yield
    finally:
        stoppers = [threading.Thread(target=supervisor.stop, args=(spec.name,)) for spec in started]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()


def choose_port(wanted: int | None) -> int:
    """The port asked for, else the well-known one, else the next that is free."""
    import socket

    for port in [wanted] if wanted is not None else range(PREFERRED_PORT, PREFERRED_PORT + 10):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ServiceError(f"port {wanted or PREFERRED_PORT} is taken: choose another with --port")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.airflow", description=__doc__)
    parser.add_argument(
        "--port", type=int, help=f"port of the UI (default {PREFERRED_PORT}, or the next free one)"
    )
    args = parser.parse_args(argv)
    try:
        stack = running()
        supervisor = Supervisor(stack.state)
        ending = Ending(supervisor)
        ending.listen()
        port = choose_port(args.port)
        print("Preparing Airflow's database and starting its services (half a minute) …", flush=True)
        prepare(stack)
        with services(stack, port, supervisor, ending.require_none):
            print(
                f"Airflow is up: http://127.0.0.1:{port}  (no password; everybody on this machine is admin)\n"
                f"logs: {supervisor.logs}/airflow-*.log, tasks: {home(stack.state) / 'logs'}\n"
                "DAGs run when you trigger them, one run a trigger: on a laptop none has a schedule.\n"
                "Ctrl-C stops it.",
                flush=True,
            )
            while not ending.wait(2):
                if uploaded := bootstrap.ship(stack):
                    print(f"shipped what changed in the tree: {', '.join(uploaded)}", flush=True)
                for spec in specs(stack, port):
                    if supervisor.running(spec.name) is None:
                        raise ServiceError(f"{spec.name} has ended; its log: {supervisor.log(spec.name)}")
    except Interrupted:
        pass
    except ServiceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
