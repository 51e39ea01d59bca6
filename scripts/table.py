#!/usr/bin/env python3
"""Everything about one table: its contract, transform, tests, live version and last verdict.

Needs no Spark. Reads the lake of --config or $LAKEHOUSE_CONFIG; on a laptop it finds the running local stack by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
if (REPO / "src" / "lakehouse").is_dir():
    sys.path[:0] = [str(REPO / "src"), str(REPO)]

from lakehouse import contracts  # noqa: E402  # the path to it is set just above
from lakehouse.delta.rows import size  # noqa: E402
from lakehouse.errors import LakehouseError  # noqa: E402
from lakehouse.observe.terminal import say_lake  # noqa: E402
from lakehouse.quality import verdicts  # noqa: E402
from lakehouse.settings import Settings, load_settings  # noqa: E402


def describe(name: str) -> list[str]:
    """The lines that need no lake."""
    contract = contracts.load(name)
    lines = [
        f"{contract.name}  version {contract.version}  {contract.description}",
        f"grain      {contract.grain}",
        f"key        {', '.join(contract.key)}",
        f"partition  {', '.join(contract.partition_by) or '-'}    zorder  {', '.join(contract.zorder_by) or '-'}",
        f"retention  {contract.retention.deleted_files_days} days of deleted files, "
        f"{contract.retention.log_days} of log",
        "",
        "columns",
    ]
    for column in contract.columns:
        null = "not null" if column.required else "        "
        lines.append(
            f"  {column.name:<22} {column.type:<15} {null}  {column.classification:<9} {column.description}"
        )
    lines += ["", "rules"]
    lines += [f"  {rule.name:<34} {rule.severity:<9} {rule.message}" for rule in contract.rules]
    lines += ["", "files"]
    for path in (
        f"schema_definitions/{contract.layer}/{contract.table}.yaml",
        f"src/lakehouse/tables/{contract.layer}/{contract.table}.py",
        f"tests/tables/{contract.layer}/test_{contract.table}.py",
    ):
        if (REPO / path).exists():
            lines.append(f"  {path}")
    return lines


def live(name: str, settings: Settings) -> str:
    """The table as it is now, by its log alone."""
    found = size(settings.table_uri(name))
    if found is None:
        return "live version  none: there is no such table yet"
    rows = "an unknown number of" if found.rows is None else f"{found.rows:,}"
    return f"live version  {found.version}: {rows} rows in {found.files:,} files, {found.bytes:,} bytes"


def last_verdict(name: str, settings: Settings) -> list[str]:
    """The newest verdict in the lake."""
    known = verdicts.read_all(settings, name)
    if not known:
        return ["last verdict  none"]
    last = known[-1]
    lines = [
        f"last verdict  {last.outcome} at {last.created_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"version {last.version}, run {last.run_id}"
    ]
    lines += [
        f"  {rule.name}: observed {rule.observed}, expected {rule.expected}"
        for rule in last.rules
        if not rule.passed
    ]
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Print it. 0, or the exit code of lakehouse.errors."""
    parser = argparse.ArgumentParser(prog="scripts/table.py", description=__doc__)
    parser.add_argument("table", help="dotted name, e.g. silver.orders")
    parser.add_argument("--config", help="settings file, a path or s3:// URI (default: $LAKEHOUSE_CONFIG)")
    arguments = parser.parse_args(argv)
    try:
        print("\n".join(describe(arguments.table)))
        by_stack = (
            arguments.config is None and "LAKEHOUSE_CONFIG" not in os.environ and (REPO / "local").is_dir()
        )
        if by_stack:
            from local.laptop import use_stack

            use_stack("table")
        config = arguments.config or os.environ.get("LAKEHOUSE_CONFIG")
        if config:
            settings = load_settings(config)
            if not by_stack:
                say_lake("table", settings.lake_uri)
            known = [live(arguments.table, settings), *last_verdict(arguments.table, settings)]
            print("\n" + "\n".join(known))
    except LakehouseError as error:
        print(error.told("table"), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
