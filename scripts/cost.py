#!/usr/bin/env python3
"""What runs cost, by run, job and table, as ops.job_runs has it. Needs no Spark; finds the local stack by itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

from lakehouse.delta.rows import rows  # noqa: E402  # the path is set just above
from lakehouse.errors import LakehouseError  # noqa: E402
from lakehouse.observe import cost  # noqa: E402
from lakehouse.observe.terminal import say_lake  # noqa: E402
from lakehouse.settings import Settings, load_settings, settings_location  # noqa: E402


def report(settings: Settings, runs: int) -> list[str]:
    """The lines of the last runs, the newest first."""
    columns = [
        "run_id",
        "job",
        "seconds",
        "vcpu_hours",
        "memory_gb_hours",
        "cost_usd",
        "athena_bytes_scanned",
    ]
    jobs = rows(settings.table_uri("ops.job_runs"), columns)
    read = rows(settings.table_uri("ops.row_ledger"), ["run_id", "job", "table_name", "read", "generated"])
    prices, budget = settings.prices, settings.budget.daily_usd
    lines = [
        f"Prices of {prices.region} on {prices.as_of}; budget a day: {'none' if budget is None else f'{budget} USD'}"
    ]
    for run in sorted({job["run_id"] for job in jobs}, reverse=True)[:runs]:
        lines += _run(
            run, [job for job in jobs if job["run_id"] == run], [row for row in read if row["run_id"] == run]
        )
    return (
        lines
        if len(lines) > 1
        else [*lines, "no run has been recorded yet: its end will record it (make demo)"]
    )


def _run(run: str, jobs: list[dict[str, Any]], read: list[dict[str, Any]]) -> list[str]:
    billed = {(run, job["job"]): job["cost_usd"] for job in jobs if job["cost_usd"] is not None}
    lines = [f"\n{run}  {_usd(sum(billed.values(), Decimal(0)))} ({len(billed)} of {len(jobs)} jobs billed)"]
    for job in sorted(jobs, key=lambda job: (-(job["cost_usd"] or 0), job["job"])):
        scanned = job["athena_bytes_scanned"]
        used = (
            f"{scanned:,} bytes scanned"
            if scanned is not None
            else f"{job['vcpu_hours'] or 0:.4f} vCPU h, {job['memory_gb_hours'] or 0:.4f} GB h"
        )
        lines.append(f"  {job['job']:<28}{job['seconds']:>9.1f} s  {_usd(job['cost_usd']):>14}  {used}")
    shared = cost.by_table(
        billed, [(run, row["job"], row["table_name"], row["read"] + row["generated"]) for row in read]
    )
    lines += [f"    {table:<26}{'':>11}  {_usd(usd):>14}" for (_, table), usd in sorted(shared.items())]
    return lines


def _usd(value: Decimal | None) -> str:
    return "not billed" if value is None else f"{value:.6f} USD"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the cost. 0, or the exit code of lakehouse.errors."""
    parser = argparse.ArgumentParser(prog="scripts/cost.py", description=__doc__)
    parser.add_argument("--config", help="settings file, a path or s3:// URI (default: $LAKEHOUSE_CONFIG)")
    parser.add_argument("--runs", type=int, default=3, help="how many of the last runs (default: 3)")
    arguments = parser.parse_args(argv)
    by_stack = arguments.config is None and "LAKEHOUSE_CONFIG" not in os.environ and (REPO / "local").is_dir()
    if by_stack:
        from local.laptop import use_stack

        use_stack("cost")
    try:
        settings = load_settings(settings_location(arguments.config))
        if not by_stack:
            say_lake("cost", settings.lake_uri)
        print("\n".join(report(settings, arguments.runs)))
    except LakehouseError as error:
        print(error.told("cost"), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
