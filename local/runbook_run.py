"""`make runbook-test`: the procedures of the runbook, each followed as printed on a lake that really broke.

    python -m local.runbook_run [--only restore-silver] [--base FOLDER]

For each: a copy of a lake of two certified days, the fault (runbook_faults), the procedure's `run` blocks in one bash,
and its tables compared, row by row, with those of a run that nothing interrupted. `daily` is what the text has typed on
a day without incidents: it has no fault, and may change no row.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local import runbook, runbook_lake, stack
from local.runbook import DAILY, Procedure
from local.runbook_faults import FAULTS, Fault
from local.runbook_lake import LakeFailed, Rows, differences, expected, rows
from local.stack import REPO, Stack
from local.supervisor import ServiceError

#: A block that hangs is an error of the procedure, too.
PATIENCE = 3600.0


@dataclass
class Result:
    """What came of one procedure: its problems, what it printed, and the seconds of its parts."""

    name: str
    problems: list[str] = field(default_factory=list)
    output: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        took = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in self.seconds.items())
        return f"{'FAILED' if self.problems else 'ok':<7}{self.name} ({took})"


def follow(procedure: Procedure, fault: Fault, base: Path, state: Path) -> Result:
    """Break a copy of the base, follow the procedure, compare. The copy's stack is down and gone afterwards."""
    result = Result(procedure.name)
    runbook_lake.copy(base, state)
    running = stack.up(state, runbook_lake.silent, kafka_mode=fault.kafka_mode)
    try:
        _follow(procedure, fault, running, result)
    except (LakeFailed, ServiceError) as problem:
        result.problems.append(str(problem))
    finally:
        stack.down(state, runbook_lake.silent)
        shutil.rmtree(state, ignore_errors=True)
    return result


def _follow(procedure: Procedure, fault: Fault, running: Stack, result: Result) -> None:
    begun = time.monotonic()

    def lap(part: str) -> None:
        nonlocal begun
        result.seconds[part] = time.monotonic() - begun
        begun = time.monotonic()

    wanted = expected(running.state, fault.day)
    variables = fault.inject(running)
    lap("fault")
    if not (procedure.name == DAILY or _is_broken(running, fault, wanted)):
        result.problems.append("the fault does not show: nothing was broken before the procedure")
    missing = [name for name in procedure.asks_for if name not in variables]
    if missing:
        result.problems.append(f"the fault does not say what {', '.join(missing)} is")
    if result.problems:
        return
    done = execute(procedure, running, variables)
    result.output = done.stdout
    lap("procedure")
    if done.returncode:
        result.problems.append(f"a command ended with exit code {done.returncode}")
        return
    fault.finish(running, variables)
    lap("next run")
    result.problems += differences(wanted, rows(running), fault.tables)
    if fault.shows and fault.shows(running):
        result.problems.append("what was broken still is")


def _is_broken(running: Stack, fault: Fault, wanted: Rows) -> bool:
    if fault.shows:
        return fault.shows(running)
    return bool(differences(wanted, rows(running), fault.tables))


def execute(
    procedure: Procedure, running: Stack, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """The `run` blocks in their order, in one bash that ends where a command fails; stderr within stdout."""
    script = "\n".join(block.script for block in procedure.runs)
    env = runbook_lake.environment(running) | variables
    env.setdefault("USER", "runbook")
    # The clone's own environment first: a person has it by `make setup`.
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    return subprocess.run(
        ["bash", "-c", f"set -euxo pipefail\n{script}"],
        cwd=REPO,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.runbook_run", description=__doc__)
    parser.add_argument("--only", help="name of one procedure (default: all that have a run block)")
    parser.add_argument(
        "--base", type=Path, help="folder that keeps the lake of two days (default: a new one)"
    )
    arguments = parser.parse_args(argv)
    book = runbook.load()
    try:
        chosen = (
            [book.procedure(arguments.only)]
            if arguments.only
            else [book.daily, *(each for each in book.procedures if each.runs)]
        )
    except KeyError as problem:
        print(problem.args[0], file=sys.stderr)
        return 2
    without = [each.name for each in chosen if each.name not in FAULTS]
    results = [Result(name, ["it has no fault in local/runbook_faults.py"]) for name in without]
    # Outside of the clone: ports of its own, beside whatever stack the user has up.
    with tempfile.TemporaryDirectory(prefix="runbook-") as folder:
        base = (arguments.base or Path(folder) / "base").resolve()
        try:
            runbook_lake.make(base, lambda line: print(line, flush=True))
        except (LakeFailed, ServiceError) as problem:
            print(problem, file=sys.stderr)
            return 1
        for procedure in chosen:
            if procedure.name in without:
                continue
            result = follow(procedure, FAULTS[procedure.name], base, Path(folder) / procedure.name)
            results.append(result)
            print(result, flush=True)
            if result.problems:
                print(result.output)
                print("\n".join(f"  {problem}" for problem in result.problems), flush=True)
    failed = [result for result in results if result.problems]
    for result in failed:
        print(f"{result.name}: {result.problems[0]}", file=sys.stderr)
    print(f"{len(results) - len(failed)} of {len(results)} procedures lead where they say")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
