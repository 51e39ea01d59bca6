"""`make dq-demo`: tables with known flaws → the data-quality runner → its report on S3 → the page, and the proof.

The tables and what is wrong with them are those of ``local.snowflake.dq_tables``; the runner is the one that
scripts/dq.py and the Lambda function run. The page stays up until Ctrl-C; with ONCE=1 the demo ends after its proof:
exit code 0 where the runner found every flaw that is declared, with its number of rows, and nothing else.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from streamlit.logger import set_log_level
from streamlit.testing.v1 import AppTest

from dq_runner.config import Config, Selection, read_config
from dq_runner.execute import Checked
from dq_runner.report import LATEST, Report, ResultRow
from dq_runner.runner import read_settings, run
from lakehouse.errors import LakehouseError
from local import dq_dashboard, dq_history, stack
from local.bootstrap import dq_environment
from local.demo import Clock, say
from local.saas import credentials
from local.snowflake import dq_tables
from local.snowflake.admin import Admin
from local.snowflake.dq_tables import Flaw, OrderRows, Shop
from local.stack import REPO, Stack
from local.supervisor import ServiceError, Supervisor

CONFIG = REPO / "local" / "samples" / "dq"
SERVICES = ["aws", "snowflake"]
PAGE_SECONDS = 40
#: What is no flaw: the rule holds.
HELD = "passed"


def dq_demo(state: Path, today: date, *, once: bool) -> int:
    """Returns 0 where the runner found what there is to find; 1 otherwise."""
    clock = Clock(7)
    with ExitStack() as ends:
        with clock.step("Local AWS and Snowflake"):
            ends.enter_context(alone(state))
            running = ends.enter_context(started(state))
            environment = dq_environment(running.exports)
            os.environ.update(environment)
            url = ends.enter_context(page(environment, state))
            ends.callback(end_undisturbed)
        at = datetime.combine(today, datetime.now(UTC).time(), UTC)
        bucket = environment["S3_DQ_REPORTS_BUCKET"]
        with clock.step("Tables as they were a day ago"):
            made, sample = dq_tables.shop(today), dq_tables.sample_orders(today)
            fill(running, made)
        with clock.step("Eight weeks of history, from the rows"):
            forget(running, bucket)
            say(f"{dq_history.write(bucket, made, sample, at)} days in s3://{bucket}/reports/measures/")
        with clock.step("The runner, a day ago: no flaws but old ones"):
            before = check(without_orders(read_config(CONFIG)), at - timedelta(days=1), environment)
            old = [flaw for flaw in made.flaws if flaw.is_old]
            problems = [f"a day ago: {line}" for line in differences(before, old)]
        with clock.step("Yesterday's rows come, and the orders"):
            let_flaws_come(running, made, sample)
            print(told_tables(made, sample))
        with clock.step("The runner, today: yesterday's rows"):
            report = check(read_config(CONFIG), at, environment)
        with clock.step("What it found, against what there is"):
            flaws = [*made.flaws, *sample.flaws]
            print(told_failures(report))
            problems += differences(report, flaws)
            problems += shown(report)
            answered(url)
            print(told_proof(problems, flaws))
        print("\nWhere the time went")
        print("\n".join(clock.lines()), flush=True)
        if not once:
            print(look_around(url, environment, running), flush=True)
            wait()
    return 1 if problems else 0


# What runs meanwhile -------------------------------------------------------------------------------------------


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """One demo at a time on a lake: each makes the tables anew. Raises ServiceError."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "dq_demo.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                f"a demo runs on the lake in {state} already: end it by Ctrl-C first"
            ) from None
        yield


@contextmanager
def started(state: Path) -> Iterator[Stack]:
    """The part of the local stack that the runner needs; what was not running before, ends with it."""
    supervisor = Supervisor(state)
    before = {name for name in SERVICES if supervisor.running(name)}
    try:
        yield stack.up(state, say, only=SERVICES)
    finally:
        for name in SERVICES:
            if name not in before:
                supervisor.stop(name)


@contextmanager
def page(environment: Mapping[str, str], state: Path) -> Iterator[str]:
    """The page as a process of its own, on a port of the loopback; yields its address."""
    port = stack.free_port(dq_dashboard.PORT)
    log = Supervisor(state).log("dq_dashboard")
    with log.open("ab") as out:
        process = subprocess.Popen(
            dq_dashboard.argv(port),
            cwd=REPO,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # Ctrl-C is for the demo, which ends it
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def answered(url: str) -> None:
    """Wait until the page can be opened. Raises ServiceError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    ends = time.monotonic() + PAGE_SECONDS
    while True:
        try:
            with opener.open(url + dq_dashboard.HEALTH_PATH, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            if time.monotonic() > ends:
                raise ServiceError(
                    f"the page at {url} does not answer after {PAGE_SECONDS} s; its log is in .local"
                ) from None
            time.sleep(0.2)


def end_undisturbed() -> None:
    """Whoever is impatient and types Ctrl-C again would leave running what is being ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Whoever ends this process by SIGTERM wants what it started to end, too."""
    raise KeyboardInterrupt


def shown(report: Report) -> list[str]:
    """What is wrong with the page as it is now, rendered here: a page that answers may still show nothing."""
    set_log_level("ERROR")  # it warns of there being no browser
    app = AppTest.from_file(str(dq_dashboard.PAGE), default_timeout=PAGE_SECONDS).run()
    cells = {str(cell) for each in app.dataframe for cell in each.value.to_numpy().ravel()}
    names = {row.table for row in report.results if row.status == "failed"}
    wrong = [f"the page shows an error: {each.value}" for each in app.error]
    wrong += [f"the page fails: {each.message}" for each in app.exception]
    ends = {name: (f".{name}", f".{dq_tables.quoted(name)}") for name in sorted(names)}
    return wrong + [
        f"the page does not show {name}"
        for name, written in ends.items()
        if not any(cell.endswith(written) for cell in cells)
    ]


def wait() -> None:
    """Until Ctrl-C."""

    try:
        signal.pause()
    except KeyboardInterrupt:
        print("\nending what was started", flush=True)


# The day -------------------------------------------------------------------------------------------------------


def fill(running: Stack, made: Shop) -> None:
    """The shop's tables as they were before the day under test, and what the runner's user may read of them."""
    admin = _admin(running)
    admin.reset()
    with (
        connected(running) as connection,
        connection.cursor() as cursor,
        tempfile.TemporaryDirectory() as folder,
    ):
        dq_tables.seed(cursor, made, Path(folder))
    admin.grant(*dq_tables.grants(made))


def let_flaws_come(running: Stack, made: Shop, sample: OrderRows) -> None:
    """The orders, and the day's rows of the shop; from now on nobody gets an answer that takes all rows of LEDGER."""
    admin = _admin(running)
    with (
        connected(running) as connection,
        connection.cursor() as cursor,
        tempfile.TemporaryDirectory() as folder,
    ):
        load_orders(admin, sample, Path(folder))
        dq_tables.seed_day(cursor, made, Path(folder))
    admin.fault(match=r'COUNT[\s\S]+"LEDGER"', kind="slow", delay_s=600, times=0)


def without_orders(config: Config) -> Config:
    """The settings of a day ago, when there were no orders."""
    declared = tuple(entry for entry in config.declared if entry.table != dq_tables.ORDERS)
    return config.model_copy(update={"exclude": Selection(tables=(dq_tables.ORDERS,)), "declared": declared})


def forget(running: Stack, bucket: str) -> None:
    """Reports of an earlier demo would say what is new and what has fallen silent."""
    s3 = running.client("s3")
    for listed in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        names = [{"Key": found["Key"]} for found in listed.get("Contents", [])]
        if names:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True})


def _admin(running: Stack) -> Admin:
    return Admin(running.exports["LOCAL_SNOWFLAKE_HOST"], running.exports["LOCAL_SNOWFLAKE_PORT"])


def load_orders(admin: Admin, sample: OrderRows, folder: Path) -> None:
    file = folder / "orders.parquet"
    cells = zip(*sample.rows, strict=True)
    columns = {name: pa.array(each, pa.string()) for name, each in zip(sample.header, cells, strict=True)}
    pq.write_table(pa.table(columns), file)
    admin.load(
        file,
        sha256="dq-demo",
        name="snowflake_orders.csv",
        rows=len(sample.rows),
        columns=sample.header,
        loaded_at="2000-01-01 00:00:00",  # every row says when it was loaded
    )


@contextmanager
def connected(running: Stack) -> Iterator[Any]:
    """As the owner of the tables."""
    from snowflake import connector

    with connector.connect(
        **{name: credentials.SNOWFLAKE[name] for name in ("account", "password", "database", "schema")},
        user=credentials.SNOWFLAKE["username"],
        host=running.exports["LOCAL_SNOWFLAKE_HOST"],
        port=int(running.exports["LOCAL_SNOWFLAKE_PORT"]),
        protocol="http",
        session_parameters={"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False},
    ) as connection:
        yield connection


def check(config: Config, at: datetime, environment: Mapping[str, str]) -> Report:
    """Run the checks as the schedule does at that time, with a line for each table as it is done."""
    return run(
        config,
        read_settings(environment),
        at=at,
        run_id=f"{at:%Y%m%dT%H%M%SZ}-dq-demo",
        tell=lambda checked: print(told_table(checked), flush=True),
    )


# The proof -----------------------------------------------------------------------------------------------------


def differences(report: Report, flaws: Iterable[Flaw]) -> list[str]:
    """What the report says and nobody declared, and what it should say and does not."""
    found = {_key(row): row for row in report.results if row.status != HELD}
    wanted = {flaw.key: flaw for flaw in flaws}
    names = sorted(found.keys() | wanted.keys())
    return [line for line in (_difference(name, found.get(name), wanted.get(name)) for name in names) if line]


def _difference(name: tuple[str, str, str], row: ResultRow | None, flaw: Flaw | None) -> str:
    where = f"{'.'.join(name[:2])} {name[2]}"
    if row is None:
        assert flaw is not None
        return f"{where}: received nothing, expected {flaw.status}{_rows(flaw.rows)}"
    received = f"{row.status}{_rows(row.failed_rows)}"
    if flaw is None:
        return f"{where}: received {received} ({row.observed or row.message}), expected that it holds"
    if row.status != flaw.status or (flaw.rows is not None and row.failed_rows != flaw.rows):
        return f"{where}: received {received}, expected {flaw.status}{_rows(flaw.rows)}"
    return ""


def _key(row: ResultRow) -> tuple[str, str, str]:
    return row.schema_, row.table, row.rule


def _rows(count: int | None) -> str:
    return "" if count is None else f", {count:,} row{'' if count == 1 else 's'}"


# For the terminal ----------------------------------------------------------------------------------------------


def told_tables(made: Shop, sample: OrderRows) -> str:
    """Each table with its rows, and of how many rules the runner has something to say."""
    broken = Counter(flaw.table for flaw in (*made.flaws, *sample.flaws))
    tables = [(dq_tables.SCHEMA, table.name, len(table.rows)) for table in made.tables]
    return "\n".join(
        f"  {f'{schema}.{name}':<28} {rows:>7,} rows, {broken[name] or 'nothing'} to find"
        for schema, name, rows in [("PUBLIC", "ORDERS", len(sample.rows)), *tables]
    )


def told_table(checked: Checked) -> str:
    """One table as it is done: its rules by what became of them."""
    counts = Counter(result.status for result in checked.results)
    told = ", ".join(
        f"{counts[status]} {status}" for status in ("failed", "error", "skipped", "passed") if counts[status]
    )
    name = f"{checked.table.name.schema}.{checked.table.name.name}"
    asked = f"{checked.count.queries} {'query' if checked.count.queries == 1 else 'queries'}"
    return f"  {name:<28} {checked.count.seconds:5.1f} s  {asked:<9}  {told or 'no rows of late'}"


def told_failures(report: Report) -> str:
    rows = [row for row in report.results if row.status != HELD]
    lines = []
    for row in rows:
        share = f" ({float(row.share):.2%})" if row.share else ""
        what = (
            f"{row.failed_rows:,} of {row.rows:,} rows{share}"
            if row.failed_rows and row.rows
            else row.observed
        )
        what = what if row.status == "failed" else row.message.partition(". ")[0]
        mark = "muted" if row.muted else row.severity if row.status == "failed" else ""
        lines.append(f"  {row.status:<8}{mark:<9} {row.schema_}.{row.table} {row.rule}: {what}")
    counts = report.summary.counts
    lines.append(
        f"\n  {report.summary.results} tests of {report.summary.tables} tables by {report.run.queries} queries "
        f"({report.run.scans} scans) in {report.run.seconds:.1f} s: {counts.passed} held, {counts.failed} failed "
        f"({counts.critical} critical, {counts.muted} muted, {report.summary.new_failures} new since the run before), "
        f"{counts.error} errors, {counts.skipped} skipped"
    )
    return "\n".join(lines)


def told_proof(problems: list[str], flaws: list[Flaw]) -> str:
    if problems:
        return "\n".join(["\nNot as declared:", *(f"  {line}" for line in problems)])
    counted = sum(flaw.rows or 0 for flaw in flaws)
    return f"\nAll {len(flaws)} flaws were found, {counted:,} rows counted exactly, and nothing else."


def look_around(url: str, environment: Mapping[str, str], running: Stack) -> str:
    """What there is to see, and commands to be typed as they are."""
    report = f"s3://{environment['S3_DQ_REPORTS_BUCKET']}/{LATEST}"
    lake = shlex.quote(os.path.relpath(running.state, REPO))
    config = CONFIG.relative_to(REPO)
    until = datetime.now(UTC).date() + timedelta(days=14)
    mute = (
        f"mute SALES.SHOP.PAYMENTS 'range(AMOUNT)' --until {until} --reason 'refunds of the old shop' --by me"
    )
    return (
        f"\nThe page       {url}"
        f"\nRules, tables  {config}/, local/snowflake/dq_tables.py"
        "\n\nIn another terminal, in this folder:"
        f"\n  source .venv/bin/activate; export LAKEHOUSE_STATE_DIR={lake}"
        f"\n  scripts/dq.py explore SALES.SHOP.PAYMENTS --config {config}"
        f"\n  scripts/dq.py {mute} --config {config}"
        f"\n  (set -a; . <(python -m local env); aws s3 cp {report} -)   # the report"
        "\nThe page's commands take the same --config. Ctrl-C here ends all of it."
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.dq_demo", description=__doc__)
    parser.add_argument(
        "--today", type=date.fromisoformat, help="the day after the one under test (default: today, UTC)"
    )
    arguments = parser.parse_args()
    given = os.environ.get("LAKEHOUSE_STATE_DIR")
    state = Path(given).resolve() / "dq-demo" if given else REPO / ".local" / "lakes" / "dq-demo"
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return dq_demo(state, arguments.today or datetime.now(UTC).date(), once=os.environ.get("ONCE") == "1")
    except (ServiceError, LakehouseError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was started has ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
