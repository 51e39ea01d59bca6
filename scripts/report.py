#!/usr/bin/env python3
"""The last run as one HTML page, read from the lake without Spark; on a laptop it finds the local stack by itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

from lakehouse.errors import LakehouseError, UsageError  # noqa: E402  # the path is set just above
from lakehouse.flows import report  # noqa: E402
from lakehouse.observe.page import render  # noqa: E402
from lakehouse.observe.terminal import say_lake  # noqa: E402
from lakehouse.settings import load_settings, settings_location  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page. 0, or the exit code of lakehouse.errors."""
    parser = argparse.ArgumentParser(prog="scripts/report.py", description=__doc__)
    parser.add_argument("--config", help="settings file, a path or s3:// URI (default: $LAKEHOUSE_CONFIG)")
    parser.add_argument(
        "--run-id", help="run to show (default: the last that an ingest or a gate belongs to)"
    )
    parser.add_argument(
        "--out", type=Path, default=REPO / ".local" / "status.html", help="default: .local/status.html"
    )
    arguments = parser.parse_args(argv)
    by_stack = arguments.config is None and "LAKEHOUSE_CONFIG" not in os.environ and (REPO / "local").is_dir()
    if by_stack:
        from local.laptop import use_stack

        use_stack("report")
    try:
        settings = load_settings(settings_location(arguments.config))
        if not by_stack:
            say_lake("report", settings.lake_uri)
        run_id = arguments.run_id or report.last_run(settings)
        if run_id is None:
            raise UsageError(
                f"received no outcome in {settings.lake_uri}/runs/, expected a run",
                hint="run the day: make demo",
            )
        page = render(report.status(settings, run_id, datetime.now(UTC)))
    except LakehouseError as error:
        print(error.told("report"), file=sys.stderr)
        return error.exit_code
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page, encoding="utf-8")
    print(f"run {run_id}: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
