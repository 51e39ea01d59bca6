"""The page of data quality on this machine: `python -m local.dq_dashboard` serves it on the loopback until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Mapping, Sequence

from local.stack import REPO, running
from local.supervisor import ServiceError

PAGE = REPO / "services" / "dq_dashboard" / "dq_dashboard.py"
PORT = 8080
#: Answers 200 as soon as the page can be opened.
HEALTH_PATH = "/_stcore/health"


def argv(port: int) -> list[str]:
    """The command that serves the page; on the loopback, which the settings beside the page say."""
    return [sys.executable, str(PAGE.with_name("serve.py")), "--server.port", str(port)]


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The caller's, where it names the reports' bucket; else the running local stack's. Raises ServiceError."""
    if given.get("S3_DQ_REPORTS_BUCKET"):
        return dict(given)
    return {**given, **running().exports}


def is_taken(port: int) -> bool:
    """Whether a program listens there already."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Becomes the server: Ctrl-C and signals reach it, and its exit code is this one's."""
    parser = argparse.ArgumentParser(prog="python -m local.dq_dashboard", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help="port of the loopback (%(default)s)")
    port = parser.parse_args(arguments).port
    try:
        env = environment(os.environ)
    except ServiceError as problem:
        print(
            f"{problem}\nOr set S3_DQ_REPORTS_BUCKET and LAKE_BUCKET to buckets of an account.",
            file=sys.stderr,
        )
        return 1
    if is_taken(port):
        print(
            f"port {port} of the loopback is taken, by another page or program.\nWhat to do: end that, or take "
            f"another port: make dq-dashboard PORT={port + 10}",
            file=sys.stderr,
        )
        return 1
    command = argv(port)
    os.execve(command[0], command, env)


if __name__ == "__main__":
    sys.exit(main())
