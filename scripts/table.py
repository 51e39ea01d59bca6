"""Everything about one table: its contract, transform, tests, live version and last verdict."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lakehouse import contracts
from lakehouse.errors import LakehouseError
from lakehouse.quality import verdicts
from lakehouse.settings import load_settings

REPO = Path(__file__).resolve().parents[1]


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


def last_verdict(name: str, config: str) -> list[str]:
    """The newest verdict in the lake."""
    settings = load_settings(config)
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/table.py", description=__doc__)
    parser.add_argument("table", help="dotted name, e.g. silver.orders")
    parser.add_argument(
        "--config", default=os.environ.get("LAKEHOUSE_CONFIG"), help="default: $LAKEHOUSE_CONFIG"
    )
    arguments = parser.parse_args()
    try:
        print("\n".join(describe(arguments.table)))
        if arguments.config:
            print("\n" + "\n".join(last_verdict(arguments.table, arguments.config)))
    except LakehouseError as error:
        print(f"{error.message}\n{error.hint}".strip(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
