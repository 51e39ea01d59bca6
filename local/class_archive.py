"""`python -m local.class_archive`: make the class archive that halves the start of every job (see emr_launch).

A stack of its own for half a minute, in which apply_contracts creates every table: most of what a job loads.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from local import airflow, stack
from local.stack import REPO
from local.stream_lake import apply_contracts
from local.supervisor import ServiceError


def main() -> int:
    """Returns 0 also where it fails: the first job then makes the archive when it ends."""
    (REPO / ".local").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="class-archive-", dir=REPO / ".local") as folder:
        state = Path(folder)
        try:
            running = stack.up(state, _quiet)
            os.environ.update(airflow.environment(running))
            sys.path.insert(0, str(REPO / "dags"))
            apply_contracts(running)
        except ServiceError as problem:
            print(f"no class archive yet, the first job will make it: {problem}", file=sys.stderr)
        finally:
            stack.down(state, _quiet)
    return 0


def _quiet(line: str) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
