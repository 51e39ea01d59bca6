#!/usr/bin/env python3
"""Data quality of tables in Snowflake: scripts/dq.py --help. On a laptop it finds the running local stack by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "services"), str(REPO / "src"), str(REPO)]

try:
    from dq_runner import cli
except ModuleNotFoundError as missing:
    print(
        f"dq: received no Python package {missing.name}, expected the environment of the clone\n"
        "What to do: make setup, then: source .venv/bin/activate",
        file=sys.stderr,
    )
    raise SystemExit(2) from None


def use_stack() -> None:
    """Lead this process to the local stack that is up, where the environment names no Snowflake."""
    if os.environ.get("SNOWFLAKE_SECRET_NAME") or not (REPO / "local").is_dir():
        return
    from local.bootstrap import dq_environment
    from local.stack import running
    from local.supervisor import ServiceError

    try:
        os.environ |= dq_environment(running().exports)
    except ServiceError:
        return


if __name__ == "__main__":
    use_stack()
    raise SystemExit(cli.main())
