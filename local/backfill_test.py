"""`make backfill-test`: DAYS (30) days of orders read again beside a daily run, compared with one after the other.

    python -m local.backfill_test [--days 30] [--base FOLDER]

The warehouse gets two orders for each of these days that no window brings: they were loaded long ago. In one lake the
day's jobs and the backfill, in chunks of a day, are two processes at the same time, each job repeated where its exit
code says that a retry helps, as Airflow does; in the other lake one follows the other. After one more daily run Silver
and Gold of both have to be the same rows, and certified Bronze has to hold no row twice.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from local import runbook_lake as lake
from local import sources_seed, stack
from local.data_layout import SNOWFLAKE_ORDERS
from local.query import ask
from local.runbook_lake import LakeFailed, Rows
from local.stack import Stack
from local.supervisor import ServiceError

NEXT_DAY = lake.DAYS + 1
#: A job's exit code that says: try again.
TRANSIENT = 20
TRIES = 20
PAUSE = 5.0
TWICE = """
    SELECT count(*) FROM (
        SELECT 1 FROM lakehouse_bronze.snowflake_orders GROUP BY order_id, event_ts, _payload_hash HAVING count(*) > 1
    )
"""


def late_orders(state: Path, days: int) -> Path:
    """A folder with two orders for each of the days before the next one, loaded half a year before."""
    [template] = lake.sample(state, NEXT_DAY).glob(f"{SNOWFLAKE_ORDERS.prefix}*")
    with template.open(newline="") as file:
        columns = next(csv.reader(file))
    folder = state / "data" / "late"
    folder.mkdir(exist_ok=True)
    last = lake.first_day(state) + timedelta(days=NEXT_DAY - 1)
    with (folder / f"{SNOWFLAKE_ORDERS.prefix}late.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for number in range(2 * days):
            day = last - timedelta(days=1 + number // 2)
            writer.writerow(
                {
                    "ORDER_ID": f"ORD-LATE-{number}",
                    "EVENT_TS": f"{day} 0{number % 2}:30:00.000000",
                    "STATUS": "PLACED",
                    "AMOUNT": f"{number}.25",
                    "CURRENCY": "EUR",
                    "LOADED_AT": f"{last - timedelta(days=180)} 00:00:00.000000",
                }
            )
    return folder


def play(base: Path, state: Path, days: int, *, beside: bool) -> tuple[Rows, int, list[str]]:
    """A copy of the base with its next day and the backfill: its rows, those twice in Bronze, what was retried."""
    lake.copy(base, state)
    running = stack.up(state, lake.silent)
    try:
        sources_seed.load(lake.sample(state, NEXT_DAY), running)
        sources_seed.load(late_orders(state, days), running)
        last = lake.first_day(state) + timedelta(days=NEXT_DAY - 2)
        first = last - timedelta(days=days - 1)
        chunks = ["--from", str(first), "--to", str(last), "--chunk-days", "1"]
        backfill = [
            ["backfill", "--source", "snowflake", *chunks, "--run-id", lake.run_of(state, NEXT_DAY, 5)]
        ]
        daily = [lake.in_run(job, lake.run_of(state, NEXT_DAY)) for job in lake.DAY]
        with ThreadPoolExecutor(2 if beside else 1) as pool:
            done = [pool.submit(_until_done, running, commands) for commands in (backfill, daily)]
            retried = [line for each in done for line in each.result()]
        lake.a_day(running, lake.run_of(state, NEXT_DAY, 9))
        return lake.rows(running), int(ask(running, TWICE).rows[0][0] or 0), retried
    finally:
        stack.down(state, lake.silent)


def _until_done(running: Stack, commands: Sequence[Sequence[str]]) -> list[str]:
    """Run jobs in one process, each until it succeeds; returns a line for each that had to be repeated."""
    tries: Counter[str] = Counter()
    left = list(commands)
    while left:
        codes = lake.run_jobs(running, left, may_fail=True)
        left = left[codes.count(0) :]
        if left and (not codes or codes[-1] not in (0, TRANSIENT) or tries[left[0][0]] == TRIES):
            raise LakeFailed(
                f"{' '.join(left[0])} ended with {codes[-1:]} after {tries[left[0][0]]} repetitions"
            )
        if left:
            tries[left[0][0]] += 1
            time.sleep(PAUSE)
    return [f"{job}: repeated {count} times" for job, count in tries.items()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=30, help="days to read again (default: 30)")
    parser.add_argument("--base", type=Path, help="a lake of two days to begin with (default: a new one)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        base = (arguments.base or Path(folder) / "base").resolve()
        try:
            lake.make(base, print)
            print(f"{arguments.days} days are read again, then the day's run", flush=True)
            wanted, _, _ = play(base, Path(folder) / "after", arguments.days, beside=False)
            print("the same at one time", flush=True)
            received, twice, retried = play(base, Path(folder) / "beside", arguments.days, beside=True)
        except (LakeFailed, ServiceError) as problem:
            print(f"backfill-test: {problem}", file=sys.stderr)
            return 1
    late = sum("ORD-LATE-" in " ".join(row) for row in received["silver.orders"])
    problems = lake.differences(wanted, received)
    problems += [f"bronze.snowflake_orders holds {twice} rows more than once"] * bool(twice)
    problems += [f"silver.orders has {late} of {2 * arguments.days} late orders"] * (
        late != 2 * arguments.days
    )
    for line in (*retried, *problems):
        print(line)
    rows = sum(map(len, received.values()))
    print(
        f"{'FAILED' if problems else 'ok'}: {rows:,} rows of Silver and Gold compared, {late} of them late orders"
    )
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
