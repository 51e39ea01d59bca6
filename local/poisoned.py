"""`make demo-poisoned`: the same day with bad data, three times, and how the next day recovers.

A small lake of its own. A clean first day fills it; then three attempts at the second day, each spoilt in another
way; then the second day as it should have been. Gold is compared before and after each.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass

from local import report, sources_seed, stack
from local.demo import Clock, run_day, sample_data, say
from local.query import ask
from local.stack import REPO, Stack

SIZE = ("--orders", "4000", "--contacts", "800", "--accounts", "300", "--leads", "100", "--kafka", "200")
GOLD = ("dim_customers", "dim_fx", "fact_orders")


@dataclass(frozen=True)
class Poison:
    """One way to spoil a day, and the task that has to stop it."""

    kind: str
    title: str
    stops_at: str


POISONS = (
    Poison(
        "shares", "rejected rows above their allowed share: orders with negative amounts", "dq_check_bronze"
    ),
    Poison("set_rule", "a broken set rule: the same orders over and over", "dq_check_bronze"),
    Poison("missing_column", "a column is gone: ORDERS without AMOUNT", "ingest_snowflake_orders"),
)


def gold(running: Stack) -> dict[str, tuple[str | None, ...]]:
    """What readers see of each Gold table: rows, publication, and a sum that a changed row would change."""
    sums = {
        "dim_customers": "sum(contacts)",
        "dim_fx": "sum(rate_to_base)",
        "fact_orders": "sum(amount_usd)",
    }
    return {
        table: tuple(ask(running, f"SELECT count(*), max(_publish_id), {sums[table]} FROM {table}").rows[0])
        for table in GOLD
    }


def poisoned() -> int:
    """Returns 0 where every bad day was stopped at the right step and the good one recovered; 1 otherwise."""
    print(
        "Five days of the whole pipeline, each shown task by task: 15 to 25 minutes on two cores.\n"
        "They have a lake of their own; the stack that is up is stopped, its lake stays. Ctrl-C ends it.",
        flush=True,
    )
    clock = Clock(2 + len(POISONS))
    state = REPO / ".local" / "lakes" / "poisoned"
    data = state / "data"
    problems: list[str] = []
    with clock.step("A small lake of its own, and a clean first day"):
        stack.make_current(state, say)
        if state.exists():
            stack.down(state, say)
            shutil.rmtree(state)
        sample_data(data / "day1", *SIZE)
        running = stack.up(state, say)
        print(sources_seed.load(data / "day1", running), flush=True)
        first = run_day(running)
        if not first.succeeded:
            print(report.failure(first), file=sys.stderr)
            return 1
    before = gold(running)

    for poison in POISONS:
        with clock.step(f"Day 2, spoilt: {poison.title}"):
            bad = data / f"day2-{poison.kind}"
            sample_data(bad, *SIZE, "--day", "2", "--poison", poison.kind)
            print(sources_seed.load(bad, running), flush=True)
            result = run_day(running)
            print(report.failure(result))
            stopped = [task.task_id for task in result.failed]
            if stopped != [poison.stops_at]:
                problems.append(
                    f"{poison.kind}: stopped at {stopped or 'nothing'}, expected {poison.stops_at}"
                )
            if gold(running) != before:
                problems.append(f"{poison.kind}: Gold changed")
            else:
                say(
                    f"Gold is as it was: {before['fact_orders'][0]} orders of publication {before['fact_orders'][1]}"
                )
            sources_seed.withdraw(bad, running)

    with clock.step(
        "Day 2 as it should have been: the source is corrected, the next run takes it up by itself"
    ):
        sample_data(data / "day2", *SIZE, "--day", "2")
        print(sources_seed.load(data / "day2", running), flush=True)
        result = run_day(running)
        if not result.succeeded:
            print(report.failure(result))
            problems.append("the clean day did not succeed")
        else:
            outcomes = report.outcomes(running, result.run_id)
            print(report.ledger(outcomes))
            print(report.verdicts(running, outcomes))
            print(report.notes(outcomes))
            after = gold(running)
            say(f"Gold moved on from {before['fact_orders'][0]} to {after['fact_orders'][0]} orders")
            if after["fact_orders"][1] == before["fact_orders"][1]:
                problems.append("the clean day published nothing")

    print("\nWhere the time went")
    print("\n".join(clock.lines()))
    if problems:
        print("\nNot as it should be:\n  " + "\n  ".join(problems), file=sys.stderr)
        return 1
    print(
        "\nThree bad days, each stopped where it had to be; Gold never moved; the clean day took up the rest."
    )
    print("`make demo` makes the sample's lake the current one again.")
    return 0
