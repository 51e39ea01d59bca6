"""Refused rows on their way back: fixed, replayed, certified, each once, from every kind of source."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakehouse import store
from lakehouse.delta.read import head
from lakehouse.errors import CommitConflict, ContractViolation, GateFailed, UsageError
from lakehouse.flows import own_run, promote, replay
from lakehouse.flows.ingest import certification
from lakehouse.quality import refused
from lakehouse.runs import new_run_id
from lakehouse.tables.silver import orders
from tests.quality.quarantine_support import (
    EVENTS,
    NOON,
    ORDERS,
    SHIPMENTS,
    Lake,
    a_shipment,
    an_event,
    an_order,
)

LATER = NOON + timedelta(days=1)
NEXT_YEAR = datetime(2027, 1, 1)  # noqa: DTZ001  # a TIMESTAMP_NTZ


def versions(world: Lake) -> list[int]:
    names = (ORDERS, SHIPMENTS, EVENTS, "ops.quarantine")
    return [head(world.spark, world.settings.table_uri(name)).version for name in names]


def test_the_warehouse_round_trip(world: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snowflake's Parquet: fixed by an expression and by hand, replayed once, merged by the next promotion."""
    monkeypatch.setattr(world, "emits", True)
    run = world.orders(
        *[an_order(n) for n in range(100, 160)],
        an_order(1, AMOUNT=Decimal("-1.50")),
        an_order(2, STATUS="GONE", CURRENCY="XXX"),
        an_order(3, AMOUNT=Decimal("-3.50"), STATUS="LOST"),
    )
    world.certify(run, ORDERS)
    watermark = certification(world.job("look"), ORDERS).watermark
    assert world.balance(run) == (3, 3, 0, 0, 0)
    assert world.replay(run_id=run) == ()  # nothing is fixed yet

    (two,) = world.rows(reason="currency_known", run_id=run)
    parts: dict[str, Any] = {
        "runs": [run],
        "expressions": {"amount_not_negative": {"AMOUNT": "abs(cast(AMOUNT AS decimal(18,2)))"}},
        "rows": [{"run_id": run, "position": two["position"], "set": {"STATUS": "PAID", "CURRENCY": "USD"}}],
    }
    planned = world.fix(tmp_path, ORDERS, **parts)
    assert (planned.changed, planned.passing, planned.unchanged) == (3, 2, 0)
    assert world.balance(run) == (3, 0, 3, 0, 0)
    # The same file again says nothing new.
    assert world.fix(tmp_path, ORDERS, **parts).changed == 0

    (done,) = world.replay(run_id=run, why="the shop's refunds")
    assert (done.inserted, done.duplicates) == (2, 0)
    assert world.balance(run) == (3, 1, 0, 2, 0)
    # What still fails is open, with its reasons now.
    (left,) = world.rows(statuses=("open",), run_id=run)
    assert [reason.split(": ")[0] for reason in left["reasons"]] == ["status_known"]

    rows = world.brought_back(ORDERS, run)
    assert [(row["order_id"], row["amount"], row["status"], row["currency"]) for row in rows] == [
        ("O-1", Decimal("1.50"), "PAID", "EUR"),
        ("O-2", Decimal("2.50"), "PAID", "USD"),
    ]
    assert {row["_source"] for row in rows} == {"snowflake"}
    refused_at = {row["landed_at"] for row in world.rows(run_id=run)}
    assert {row["_landed_at"] for row in rows} == refused_at
    assert {row["ingest_date"] for row in rows} <= {
        datetime.now(UTC).date() - timedelta(days=n) for n in (0, 1)
    }
    assert rows[0]["event_ts"] == datetime(2026, 1, 1, 10, 0, 1, 123_456)  # noqa: DTZ001  # as Spark gives it
    # The ledger has the replay, and no watermark moved.
    (line,) = (
        world.table("ops.row_ledger").where(f"job = '{replay.JOB}' AND table_name = '{ORDERS}'").collect()
    )
    assert (line["read"], line["inserted"], line["quarantined"]) == (2, 2, 0)
    assert world.ledger_differences() == ()
    assert certification(world.job("look"), ORDERS).watermark == watermark

    # A second replay has nothing to do.
    before = versions(world)
    assert world.replay(run_id=run) == ()
    assert versions(world) == before

    # The next day merges the replay by itself; a newer state of the same event stays, although it came first.
    newer = world.orders(an_order(1, AMOUNT=Decimal("9.99"), LOADED_AT=NEXT_YEAR), hours=30)
    world.certify(newer, ORDERS)
    live = {name: head(world.spark, world.settings.table_uri(name)) for name in orders.INPUTS}
    job = world.job("bronze_to_silver", newer)
    known = {name: (live[name], certification(job, name)) for name in orders.INPUTS}
    known[EVENTS] = (
        live[EVENTS],
        known[EVENTS][1].model_copy(update={"version": live[EVENTS].version}),
    )
    promote._promote(job, orders, known)
    silver = {row["order_id"]: row["amount"] for row in world.table("silver.orders").collect()}
    assert (silver["O-1"], silver["O-2"]) == (Decimal("9.99"), Decimal("2.50"))


def test_vendor_lines_that_could_not_be_taken_apart(world: Lake, tmp_path: Path) -> None:
    short = {key: value for key, value in a_shipment(7).items() if key not in ("cost", "currency")}
    run = world.shipments(short | {"_malformed": "8 cells, expected 10"}, a_shipment(8, weight_kg="heavy"))
    # A fix that forgets the mark does not pass.
    seven = {"run_id": run, "position": "day.csv:000000007"}
    whole = {"cost": "3.10", "currency": "EUR"}
    assert world.fix(tmp_path, SHIPMENTS, rows=[seven | {"set": whole}]).passing == 0
    line = {"file": "day.csv", "line": 8, "shipment_id": "S-8", "order_id": "O-8", "status": "RETURNED"}
    eight = {"run_id": run, "position": "day.csv:000000008", "value": json.dumps(line)}
    planned = world.fix(tmp_path, SHIPMENTS, rows=[seven | {"set": whole | {"_malformed": None}}, eight])
    assert (planned.changed, planned.passing) == (2, 2)

    (done,) = world.replay(run_id=run)

    assert done.inserted == 2
    rows = {row["line"]: row for row in world.brought_back(SHIPMENTS, run)}
    assert (rows[7]["cost"], rows[7]["carrier"]) == (Decimal("3.10"), "DHL")
    assert (rows[8]["status"], rows[8]["carrier"]) == ("RETURNED", None)
    assert world.balance(run) == (2, 0, 0, 2, 0)


def test_events_of_both_modes(world: Lake, tmp_path: Path) -> None:
    """Kafka: refused by a run in mode batch or by the stream; the record's own columns stay what they were."""
    batch = world.events(an_event(1, status="GONE"), b"\xff\xfe", key=None)
    stream = world.streamed(an_event(3, currency="eur"), None)
    assert world.balance(batch, stream) == (4, 4, 0, 0, 0)
    first, second = (row["position"] for row in world.rows(run_id=batch))
    third, fourth = world.rows(run_id=stream)

    world.fix(
        tmp_path,
        EVENTS,
        runs=[stream],
        rows=[
            {"run_id": batch, "position": first, "set": {"status": "PAID"}},
            {"run_id": batch, "position": second, "value": an_event(2).decode()},
        ],
        expressions={"currency_known": {"currency": "upper(trim(currency))"}},
    )
    (done,) = world.replay(table=EVENTS)

    assert done.inserted == 3
    found = {row["offset"]: row for row in world.brought_back(EVENTS, batch, stream)}
    assert {row["_source"] for row in found.values()} == {"kafka"}  # never the stream's: those are its ranges
    assert bytes(found[1]["value"]) == an_event(2)
    assert found[0]["key"] is None
    assert bytes(found[100]["key"]) == b"k"
    assert found[100]["broker_ts"] == datetime(2026, 1, 1, 12, 0, 0, 7_000)  # noqa: DTZ001  # as Spark gives it
    assert (found[100]["topic"], found[100]["partition"], found[100]["currency"]) == ("orders", 0, "EUR")
    assert json.loads(bytes(found[0]["value"]))["amount"] == "1.50"
    assert found[100]["_position"] == f"{stream}/{third['position']}"
    assert world.balance(batch, stream) == (4, 1, 0, 3, 0)
    # The DLQ stays as it was; the tombstone is given up, and twice is once.
    assert world.table("ops.kafka_orders_dlq").where(f"_run_id = '{stream}'").count() == 2
    left = refused.Selection(run_id=stream, statuses=refused.LIVE).of(
        refused.rows(world.spark, world.settings)
    )
    for at in (NOON, LATER):
        refused.discard(world.settings, left, by="anna", why="a test of theirs", at=at)
    assert world.balance(batch, stream) == (4, 0, 0, 3, 1)
    assert world.table("ops.quarantine").where(f"status = 'discarded' AND run_id = '{stream}'").count() == 1
    # Who is done with a row is done with it.
    with pytest.raises(UsageError, match="a row that is discarded"):
        world.fix(tmp_path, EVENTS, rows=[{"run_id": stream, "position": fourth["position"], "value": "{}"}])


class Killed(Exception):
    """In place of kill -9."""


@pytest.mark.proof
def test_killed_anywhere_and_run_again(
    world: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After landing, after Bronze, after the verdict, after the last event: the row is there once."""
    steps = {
        "landed": (replay.LandingWriter, "commit"),
        "written": (own_run.Load, "write"),
        "certified": (own_run, "certify"),
        "said": (replay, "_say_replayed"),
    }
    lines = [a_shipment(n, file="kill.csv", cost="-3.10") for n in range(2)]
    run = world.shipments(
        *[line | {"_position": f"kill.csv:{n}"} for n, line in enumerate(lines)],
    )

    def fix(n: int) -> None:
        row = {"run_id": run, "position": f"kill.csv:{n}", "set": {"cost": "3.10"}}
        assert world.fix(tmp_path, SHIPMENTS, rows=[row]).passing == 1

    def killed_after(step: str, as_run: str) -> None:
        owner, name = steps[step]
        real = getattr(owner, name)

        def die(*arguments: Any, **named: Any) -> None:
            real(*arguments, **named)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            with pytest.raises(Killed):
                world.replay(as_run, run_id=run)
        assert [intent.run_id for intent in replay.unfinished(world.settings)] == [as_run]

    # Each try of the same run comes one step further.
    fix(0)
    as_run = new_run_id(LATER)
    for step in steps:
        killed_after(step, as_run)
    (done,) = world.replay(as_run)
    assert done.inserted == 1
    assert world.statuses(run_id=run) == ["replayed", "open"]
    # Nobody finished the one that was certified: a new replay finds its row in Bronze.
    fix(1)
    abandoned = new_run_id(LATER)
    killed_after("certified", abandoned)
    (done,) = world.replay(run_id=run)
    assert (done.inserted, done.duplicates) == (0, 1)
    world.replay(abandoned)

    stored = [row["line"] for row in world.table(SHIPMENTS).where("file = 'kill.csv'").collect()]
    assert sorted(stored) == [0, 1]
    assert world.balance(run) == (2, 0, 0, 2, 0)
    events = world.table("ops.quarantine").where(f"run_id = '{run}' AND status = 'replayed'")
    assert events.count() == 2
    assert replay.unfinished(world.settings) == ()
    assert world.ledger_differences() == ()


@pytest.mark.proof
def test_the_same_event_refused_twice_is_replayed_once(world: Lake, tmp_path: Path) -> None:
    """A window that was refused and extracted again. Repeats are no fault of a replay, two meanings of a key are."""
    one, other = world.events(an_event(1, status="GONE")), world.events(an_event(1, status="GONE"), hours=1)
    position = world.rows(run_id=one)[0]["position"]

    def fix(*statuses: str) -> None:
        rows = [
            {"run_id": run, "position": position, "set": {"status": status}}
            for run, status in zip((one, other), statuses, strict=True)
        ]
        world.fix(tmp_path, EVENTS, rows=rows)

    fix("PAID", "SHIPPED")
    as_run = new_run_id(LATER)
    with pytest.raises(GateFailed, match="unique_key") as caught:
        world.replay(as_run, table=EVENTS)
    assert "correct the fix" in caught.value.hint
    assert world.balance(one, other) == (2, 0, 2, 0, 0)
    assert world.brought_back(EVENTS, one, other) == []
    with pytest.raises(UsageError, match="has ended"):
        world.replay(as_run)

    fix("PAID", "PAID")
    (done,) = world.replay(table=EVENTS)
    assert (done.inserted, done.duplicates) == (1, 1)
    assert world.balance(one, other) == (2, 0, 0, 2, 0)
    manifest = json.loads(
        store.get(f"{world.settings.lake_uri}/landing/kafka/kafka_orders/{as_run}/manifest.json") or b""
    )
    assert (manifest["kind"], manifest["window_to"], manifest["state"]) == ("replay", None, {})


def test_as_received_when_the_contract_has_changed(
    world: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = world.shipments(
        *[a_shipment(n, file="c.csv") for n in range(100, 150)],
        a_shipment(1, file="c.csv", currency="XXX"),
        a_shipment(2, file="c.csv", status="LOST"),
    )
    world.certify(run, SHIPMENTS)
    reasons = [row["reasons"] for row in world.rows(run_id=run)]
    before = versions(world)

    # Still refused, for the same reasons: nothing is new, nothing is written.
    assert world.replay(run_id=run, as_received=True) == ()
    assert versions(world) == before
    assert [row["reasons"] for row in world.rows(run_id=run)] == reasons

    real = replay.contracts.load

    def changed(name: str, **predicates: str) -> Any:
        contract = real(name)
        rules = tuple(
            dataclasses.replace(rule, predicate=predicates.get(rule.name, rule.predicate))
            for rule in contract.row_rules
        )
        return dataclasses.replace(contract, row_rules=rules)

    with monkeypatch.context() as patch:
        patch.setattr(replay.contracts, "load", lambda name: changed(name, currency_known="TRUE"))
        (done,) = world.replay(run_id=run, as_received=True)
    assert done.inserted == 1
    assert world.balance(run) == (2, 1, 0, 1, 0)

    # Changed after a replay has landed: that one ends, the next one judges anew.
    landed = replay._land_all
    with monkeypatch.context() as patch:

        def land_then_change(*arguments: Any) -> Any:
            manifests = landed(*arguments)
            patch.setattr(replay.contracts, "load", real)
            return manifests

        patch.setattr(replay, "_land_all", land_then_change)
        patch.setattr(replay.contracts, "load", lambda name: changed(name, status_known="TRUE"))
        with pytest.raises(ContractViolation, match="changed since they were judged"):
            world.replay(run_id=run, as_received=True)
    assert world.balance(run) == (2, 1, 0, 1, 0)
    assert world.replay(run_id=run, as_received=True) == ()
    assert replay.unfinished(world.settings) == ()


def test_what_a_replay_may_not_take(
    world: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = world.shipments(a_shipment(1, file="d.csv", status="LOST"))
    with pytest.raises(UsageError, match="another run's"):
        world.replay(run)

    # What a retry can mend leaves the replay to be finished.
    def lose(*_: Any, **__: Any) -> None:
        raise CommitConflict("another writer committed first")

    as_run = new_run_id(LATER)
    with monkeypatch.context() as patch:
        patch.setattr(replay, "_land_all", lose)
        with pytest.raises(CommitConflict):
            world.replay(as_run, run_id=run)
    (intent,) = replay.unfinished(world.settings)
    assert intent.request == replay.Request(by="anna", run_id=run)
    assert world.replay(as_run) == ()
