"""`make quarantine-demo`: the rows that the sample's flaws put into quarantine, seen, corrected, replayed, in Gold.

On the lake of `make demo`, which is made first where there is none. Every step is a command as an engineer on call
types it (docs/quarantine.md); the fix files are written here and stay beside the lake.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from local import demo, report, stack
from local.demo import Clock, run_day, say
from local.query import QueryFailed, as_table, ask
from local.stack import REPO, Stack
from local.supervisor import ServiceError

ORDERS, SHIPMENTS, EVENTS = "bronze.snowflake_orders", "bronze.vendor_shipments", "bronze.kafka_orders"
ORDERS_FIX: dict[str, Any] = {
    "table": ORDERS,
    "why": "an export turned the sign of amounts; lost and refunded orders are cancelled ones; agreed with the owners",
    "expressions": {
        "amount_not_negative": {"AMOUNT": "abs(cast(AMOUNT AS decimal(18,2)))"},
        "status_known": {"STATUS": "CASE STATUS WHEN 'paid' THEN 'PAID' ELSE 'CANCELLED' END"},
    },
}
BALANCE = """
SELECT table_name, status, count(*) AS events FROM lakehouse_ops.quarantine GROUP BY 1, 2 ORDER BY 1, 2
"""


class Stopped(Exception):
    """A command that did not end as it had to."""


def command(*arguments: str) -> None:
    """Run scripts/quarantine.py, its output as it comes. Raises Stopped where it fails."""
    shown = ["scripts/quarantine.py", *(_short(argument) for argument in arguments)]
    print(f"\n  $ {shlex.join(shown)}", flush=True)
    done = subprocess.run([sys.executable, str(REPO / "scripts" / "quarantine.py"), *arguments], cwd=REPO)
    if done.returncode:
        raise Stopped(f"{shlex.join(shown)} ended with exit code {done.returncode}")


def a_lake() -> Stack | None:
    """The lake of the demo, with its refused rows; None where the day that makes it fails."""
    state = demo.state_for(None)
    if (state / "stack.json").exists():
        stack.make_current(state, say)
        running = stack.up(state, say)
        try:
            # In a lake that an earlier release made, the column comes with the next day.
            found = ask(running, "SELECT count(*), max(step) FROM lakehouse_ops.quarantine").rows[0][0]
            if found not in (None, "0"):
                say("the demo's lake is there already")
                return running
        except QueryFailed:
            say("this lake has no such table yet: its next day makes it")
    return None if demo.demo(None) else stack.Stack.load(state)


def berlin(path: Path) -> int:
    """What a person does to the exported shipments: times that Berlin's clocks showed twice get their offset."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["why"] = "the vendor says that the clocks had not been put back yet"
    changed = 0
    for row in document["rows"]:
        if any(reason.startswith("shipped_at_parses: ") for reason in row["reasons"]):
            row["set"] = {"shipped_local": row["received"]["shipped_local"].replace(" ", "T") + "+02:00"}
            changed += 1
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return changed


def quarantine_demo(by: str) -> int:
    """Returns 0 where the round trip ends with the fixed rows in Gold and a balance that holds; 1 otherwise."""
    print(
        "Eleven commands, each shown before it runs, and a day of the pipeline, task by task: 9 minutes on two cores,\n"
        "and 5 more where `make demo` has not run yet. Ctrl-C ends it.",
        flush=True,
    )
    clock = Clock(8)
    with clock.step("A lake with refused rows"):
        running = a_lake()
        if running is None:
            return 1
    folder = running.state / "quarantine"
    folder.mkdir(exist_ok=True)
    with clock.step("What was refused, and why"):
        command("list")
        command("show", "--table", ORDERS, "--reason", "amount_not_negative", "--limit", "2")
    with clock.step("Orders: one expression a reason, first dry, then applied"):
        orders = folder / "orders.yaml"
        orders.write_text(yaml.safe_dump(ORDERS_FIX, sort_keys=False), encoding="utf-8")
        print(orders.read_text(encoding="utf-8"))
        command("fix", "--file", str(orders), "--limit", "3")
        command("fix", "--file", str(orders), "--limit", "0", "--apply", "--by", by)
    with clock.step("Shipments: exported, corrected by hand, applied"):
        shipments = folder / "shipments.yaml"
        shipments.unlink(missing_ok=True)
        command("export", "--table", SHIPMENTS, "--out", str(shipments))
        say(f"{berlin(shipments)} rows get an offset in the file")
        command("fix", "--file", str(shipments), "--apply", "--by", by)
        shipments.unlink()
    with clock.step("Events that are no JSON: given up"):
        command(
            "discard",
            "--table",
            EVENTS,
            "--reason",
            "malformed",
            "--why",
            "a producer's test",
            "--apply",
            "--by",
            by,
        )
    with clock.step("Replay: through contract and gate into Bronze; a second one has nothing to do"):
        command("replay")
        command("replay", "--apply", "--by", by)
        command("replay", "--apply", "--by", by)
    with clock.step("The next day: daily_batch_pipeline takes the replay in by itself"):
        result = run_day(running)
        if not result.succeeded:
            print(report.failure(result))
            return 1
    with clock.step("The rows in Silver and Gold, through Athena"):
        problems = in_gold(running)
    with clock.step("The balance"):
        command("list")
        print("\n" + as_table(ask(running, BALANCE)))
    print("\nWhere the time went")
    print("\n".join(clock.lines()))
    if problems:
        print("\nNot as it should be:\n  " + "\n  ".join(problems), file=sys.stderr)
        return 1
    print("\nEvery refused row is open, fixed, replayed or discarded; the replayed ones are in Gold.")
    return 0


def in_gold(running: Stack) -> list[str]:
    """Show the replayed orders on their way; returns what is missing."""
    hops = ask(
        running,
        """
        SELECT b.order_id, b.status, b.amount AS bronze, s.amount AS silver, f.amount_native AS gold, f.amount_usd
        FROM lakehouse_bronze.snowflake_orders b
        LEFT JOIN lakehouse_silver.orders s ON s.order_id = b.order_id AND s.event_ts = b.event_ts
        LEFT JOIN fact_orders f ON f.order_id = b.order_id
        WHERE b._position LIKE '%/%' ORDER BY 1
        """,
    )
    print(as_table(type(hops)(hops.columns, hops.rows[:5], 0, 0)))
    missing = [row[0] for row in hops.rows if row[3] is None or row[4] is None]
    say(
        f"{len(hops.rows)} replayed orders in Bronze, {len(hops.rows) - len(missing)} of them in Silver and Gold"
    )
    if not hops.rows:
        return ["no replayed order is in Bronze"]
    return [f"replayed and not in Gold: {', '.join(map(str, missing[:5]))}"] if missing else []


def _short(argument: str) -> str:
    return os.path.relpath(argument, REPO) if argument.startswith("/") else argument


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.quarantine_demo", description=__doc__)
    parser.add_argument("--by", default="demo", help="who fixes, replays and discards")
    arguments = parser.parse_args()
    try:
        return quarantine_demo(arguments.by)
    except (ServiceError, QueryFailed, Stopped) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make local-down` stops the stack", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
