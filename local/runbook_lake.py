"""The lake that procedures of the runbook are executed on: two certified days, kept as a folder, copied for each.

    python -m local.runbook_lake FOLDER     # make it, where it is not there yet

A state folder is plain files: a stack that is down can be copied, and the copy be started. The jobs of the two days
run in one process with one Spark, each by its own entry point: a tenth of the time of a submission each.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from local import stack
from local.days import AFTER, INGESTION, SIZE, run_id
from local.stack import REPO, Stack

INGESTS = tuple(INGESTION)
DAY = ("apply_contracts", *INGESTS, *AFTER, "register_glue_tables", "emit_lineage_and_metrics")
#: Days of the sample that the base holds; faults go on with the third.
DAYS = 2
COMPARED = (
    "silver.orders",
    "silver.fx_rates",
    "silver.salesforce_accounts",
    "silver.salesforce_leads",
    "silver.hubspot_contacts",
    "silver.vendor_shipments",
    "gold.dim_customers",
    "gold.dim_fx",
    "gold.fact_orders",
)


Rows = Mapping[str, list[tuple[str, ...]]]


class LakeFailed(Exception):
    """The lake could not be brought to where a procedure begins."""


def silent(line: str) -> None:
    """What the stack says of its services, unheard."""


def first_day(state: Path) -> date:
    """The day of the sample's history that a lake was made with."""
    return date.fromisoformat((state / "first_day").read_text().strip())


def run_of(state: Path, day: int, hour: int = 6) -> str:
    """The run id of a day of the sample, at an hour of that day (UTC)."""
    return run_id(day, hour, first_day(state))


def sample(state: Path, day: int, poison: str | None = None) -> Path:
    """The folder of a day of the sample, generated where it is not there."""
    out = state / "data" / (f"day{day}-{poison}" if poison else f"day{day}")
    if not (out / "manifest.json").exists():
        more = ["--poison", poison] if poison else []
        command = [sys.executable, "-m", "local.sample_data", "--out", str(out), *SIZE]
        command += ["--until", first_day(state).isoformat(), "--day", str(day), *more]
        _checked(command, os.environ)
    return out


def environment(running: Stack) -> dict[str, str]:
    """What a person's shell has: this lake's state folder; the stack's values, as `make local-up` exports them."""
    return dict(os.environ) | running.shell | {"LAKEHOUSE_STATE_DIR": str(running.state)}


def run_jobs(running: Stack, commands: Iterable[Sequence[str]], *, may_fail: bool = False) -> list[int]:
    """Run jobs (name, arguments) one after another in one process of their own; returns their exit codes.

    Raises LakeFailed where one fails, unless it may. What they say is in ``<state>/logs/runbook_jobs.log``.
    """
    asked = json.dumps([list(command) for command in commands])
    log = running.state / "logs" / "runbook_jobs.log"
    with log.open("a") as out:
        done = subprocess.run(
            [sys.executable, "-m", "local.runbook_lake", "--jobs", asked],
            cwd=REPO,
            env=environment(running) | {"PYTHONPATH": f"{REPO / 'src'}{os.pathsep}{REPO}"},
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        )
        out.write(done.stdout)
    codes = [int(line.removeprefix("exit ")) for line in done.stdout.splitlines() if line.startswith("exit ")]
    if done.returncode and not may_fail:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LakeFailed(f"{asked} ended with {codes}; the end of its log:\n{end}")
    return codes


def killed(running: Stack, command: Sequence[str], when: Callable[[], bool], patience: float = 600.0) -> None:
    """Start a job and kill its whole group as soon as ``when`` holds. Raises LakeFailed where it ended first."""
    job = subprocess.Popen(
        [sys.executable, "-m", "local.runbook_lake", "--jobs", json.dumps([list(command)])],
        cwd=REPO,
        env=environment(running) | {"PYTHONPATH": f"{REPO / 'src'}{os.pathsep}{REPO}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + patience
    try:
        while not when():
            if job.poll() is not None or time.monotonic() > deadline:
                raise LakeFailed(f"{' '.join(command)} was not killed: it ended with {job.poll()}")
            time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()


def sql(running: Stack, *statements: str) -> None:
    """Statements of Spark SQL by hand, as nobody should; `{lake}` stands for the lake's URI."""
    lake = f"s3://{running.exports['LAKE_BUCKET']}"
    run_jobs(running, [["--sql", statement.replace("{lake}", lake)] for statement in statements])


def a_day(running: Stack, run: str, jobs: Sequence[str] = DAY) -> None:
    """A whole day that has to succeed."""
    run_jobs(running, [in_run(job, run) for job in jobs])


def in_run(job: str, run: str) -> list[str]:
    return [job, *(["--db", "all"] if job == "register_glue_tables" else []), "--run-id", run]


def make(base: Path, say: stack.Say) -> None:
    """The base, where it is not there yet: a lake after two certified days, its stack down."""
    from local import sources_seed

    if (base / "complete").exists():
        return
    if base.exists():
        stack.down(base, silent)
        shutil.rmtree(base)
    base.mkdir(parents=True)
    # Today has no data yet: a run that a procedure starts now comes after all of them.
    begin = datetime.now(UTC).date() - timedelta(days=DAYS + 1)
    # The third day's rate is of the day after the first: there has to be one.
    while (begin + timedelta(days=1)).weekday() > 4:
        begin -= timedelta(days=1)
    (base / "first_day").write_text(f"{begin.isoformat()}\n")
    say(f"making a lake of {DAYS} days in {base}")
    running = stack.up(base, silent)
    try:
        for day in range(1, DAYS + 1):
            sources_seed.load(sample(base, day), running)
            a_day(running, run_of(base, day))
            say(f"day {day} is certified and published")
        _keep(base, DAYS, rows(running))
    finally:
        stack.down(base, silent)
    _uninterrupted(base, DAYS + 1)
    say(f"day {DAYS + 1}, uninterrupted, is what procedures are compared with")
    (base / "complete").write_text("")


def expected(state: Path, day: int) -> Rows:
    """Silver and Gold after an uninterrupted run of a day."""
    kept = json.loads((state / f"rows-{day}.json").read_text())
    return {name: [tuple(row) for row in found] for name, found in kept.items()}


def _keep(base: Path, day: int, found: Rows) -> None:
    (base / f"rows-{day}.json").write_text(json.dumps(found))


def _uninterrupted(base: Path, day: int) -> None:
    """Run a day on a copy and keep what came of it."""
    from local import sources_seed

    sample(base, day)
    state = copy(base, base.with_name(f"{base.name}-reference"))
    running = stack.up(state, silent)
    try:
        sources_seed.load(sample(state, day), running)
        a_day(running, run_of(state, day))
        _keep(base, day, rows(running))
    finally:
        stack.down(state, silent)
        shutil.rmtree(state)


def copy(base: Path, to: Path) -> Path:
    """A lake of its own for one procedure; what the processes of the base left behind stays there."""
    if to.exists():
        stack.down(to, silent)
        shutil.rmtree(to)
    shutil.copytree(base, to, ignore=shutil.ignore_patterns("run", "logs", "complete"), symlinks=True)
    (to / "logs").mkdir(exist_ok=True)
    (to / "stack.json").unlink(missing_ok=True)
    return to


def rows(running: Stack) -> Rows:
    """Silver and Gold as readers have them, ordered, without the columns that say who wrote a row and when."""
    from deltalake import DeltaTable

    from local.aws.athena_worker import storage_options

    storage = storage_options(running.exports)
    found: dict[str, list[tuple[str, ...]]] = {}
    for name in COMPARED:
        uri = f"s3://{running.exports['LAKE_BUCKET']}/{name.replace('.', '/')}"
        table = DeltaTable(uri, storage_options=storage)
        columns = [column.name for column in table.schema().fields if not column.name.startswith("_")]
        records = table.to_pyarrow_table(columns=columns).to_pylist()
        found[name] = sorted(tuple(repr(record[column]) for column in columns) for record in records)
    return found


def differences(wanted: Rows, received: Rows, tables: Collection[str] = COMPARED) -> list[str]:
    """A line for each table that is not what an uninterrupted run made of it, with the first rows of each side."""
    problems = []
    for name in tables:
        got, right = received[name], wanted[name]
        if got == right:
            continue
        had, due = set(got), set(right)
        missing = [row for row in right if row not in had]
        surplus = [row for row in got if row not in due]
        problems.append(
            f"{name}: received {len(got)} rows, expected {len(right)}; missing {len(missing)} {missing[:1]}, "
            f"too many {len(surplus)} {surplus[:1]}"
        )
    return problems


def _checked(command: list[str], env: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=REPO, env=dict(env), capture_output=True, text=True)
    if done.returncode:
        raise LakeFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def _jobs(commands: list[list[str]]) -> int:
    """In the process of the jobs: one Spark, started by the first that needs it."""
    from local.laptop import use_stack

    use_stack("runbook", "kafka")
    for name, *arguments in commands:
        if name == "--sql":
            from lakehouse.session import spark_session

            spark_session("by hand", f"s3://{os.environ['LAKE_BUCKET']}").sql(arguments[0])
            continue
        path = next(p for d in ("jobs", "scripts") if (p := REPO / d / f"{name}.py").is_file())
        sys.argv = [str(path), *arguments]
        code: Any = 0
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        print(f"\nexit {code}", flush=True)
        if code:
            return int(code)
    return 0


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["--jobs"]:
        return _jobs(json.loads(argv[1]))
    make(Path(argv[0]).resolve(), lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
