#!/usr/bin/env python3
"""Draw a run's lineage: which table version came from which. On a laptop it finds the running local stack by itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

from lakehouse.errors import LakehouseError, UsageError  # noqa: E402  # the path is set just above
from lakehouse.observe import drawing, graph  # noqa: E402
from lakehouse.observe.terminal import say_lake  # noqa: E402
from lakehouse.observe.transport import lineage_uri  # noqa: E402
from lakehouse.settings import load_settings, settings_location  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Write the drawing and print its lines. 0, or the exit code of lakehouse.errors."""
    parser = argparse.ArgumentParser(prog="scripts/lineage.py", description=__doc__)
    parser.add_argument("--config", help="settings file, a path or s3:// URI (default: $LAKEHOUSE_CONFIG)")
    parser.add_argument("--run-id", help="run to draw (default: the last that wrote a table)")
    parser.add_argument(
        "--out", type=Path, default=REPO / ".local" / "lineage.svg", help="default: .local/lineage.svg"
    )
    arguments = parser.parse_args(argv)
    by_stack = arguments.config is None and "LAKEHOUSE_CONFIG" not in os.environ and (REPO / "local").is_dir()
    if by_stack:
        from local.laptop import use_stack

        use_stack("lineage")
    try:
        settings = load_settings(settings_location(arguments.config))
        if not by_stack:
            say_lake("lineage", settings.lake_uri)
        found = (
            graph.last(settings)
            if arguments.run_id is None
            else (arguments.run_id, graph.graph(graph.events(settings, arguments.run_id)))
        )
        if found is None or not found[1].edges:
            raise UsageError(
                f"received no lineage in {lineage_uri(settings)} of {arguments.run_id or 'any run'}, "
                "expected the events of a run that wrote a table",
                hint="run the day first (`make demo`); where openlineage.transport is not file, ask what it sends to",
            )
    except LakehouseError as error:
        print(error.told("lineage"), file=sys.stderr)
        return error.exit_code
    run_id, drawn = found
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(drawing.svg(drawn, f"Lineage of run {run_id}"), encoding="utf-8")
    print(f"run {run_id}\n" + "\n".join(f"  {line}" for line in graph.words(drawn)))
    print(f"drawn in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
