#!/usr/bin/env python3
"""Data quality of tables in Snowflake: scripts/dq.py --help. On a laptop it finds the running local stack by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "services"), str(REPO / "src"), str(REPO)]

from dq_runner import cli  # noqa: E402  # the path to it is set just above


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
