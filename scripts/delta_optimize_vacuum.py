#!/usr/bin/env python3
"""Rewrite small or unordered files of the lake's tables where that pays, delete files that their retention ran out for.

What is done, and what is skipped and why, goes to ops.maintenance_log. Repeated with the same --run-id it goes on
where it was killed. On a laptop it finds the running local stack by itself; elsewhere it is submitted like a job.
"""

import os
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

from lakehouse.cli import main  # noqa: E402  # the path to it is set just above
from lakehouse.flows.maintain import maintain, options  # noqa: E402

if __name__ == "__main__":
    if "LAKEHOUSE_CONFIG" not in os.environ and (REPO / "local").is_dir():
        from local.laptop import use_stack

        use_stack("delta_optimize_vacuum")
    main("delta_optimize_vacuum", maintain, __doc__, options=options)
