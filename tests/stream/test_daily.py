"""The daily run beside a stream: it records what the stream wrote, certifies it, and takes each event in once."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from lakehouse import contracts
from lakehouse.delta.read import head
from lakehouse.errors import GateFailed, SourceUnavailable
from lakehouse.flows import gate, promote
from lakehouse.flows.ingest import certification, ingest
from lakehouse.observe import outcome as outcomes
from lakehouse.observe.outcome import TableOutcome
from lakehouse.quality import verdicts
from lakehouse.quality.verdicts import CertifiedRun, Verdict
from lakehouse.tables.silver import orders
from tests.stream.support import Topic, encoded

SNOWFLAKE = "bronze.snowflake_orders"


def record(topic: Topic, at: datetime | None = None) -> tuple[str, TableOutcome]:
    """The daily run's ingest; leaves its outcome as lakehouse.cli does."""
    job = topic.job(at or datetime.now(UTC))
    ingest(job, "kafka")
    job.outcome.status = "succeeded"
    outcomes.write(topic.settings, job.outcome)
    (table,) = job.outcome.tables
    return job.run_id, table


def judge(topic: Topic, run_id: str) -> Verdict:
    (verdict,) = gate.judge(
        topic.spark, topic.settings, "bronze", run_id, ["kafka_orders"], datetime.now(UTC)
    )
    return verdict


def take_in(topic: Topic, run_id: str) -> TableOutcome:
    """Promote silver.orders alone; Snowflake's table is empty and certified."""
    job = topic.job()
    job.run_id = run_id
    found = {}
    for name in orders.INPUTS:
        live = head(topic.spark, topic.settings.table_uri(name))
        if name == SNOWFLAKE:
            contract = contracts.load(name)
            verdicts.write(
                topic.settings,
                Verdict(
                    verdict_id=uuid.uuid4().hex,
                    table=name,
                    layer="bronze",
                    run_id=run_id,
                    table_id=live.table_id,
                    version=live.version,
                    outcome="passed",
                    contract_version=contract.version,
                    contract_hash="",
                    rules_hash="",
                    rules=(),
                    created_at=datetime.now(UTC),
                ),
            )
        found[name] = (live, certification(job, name))
    outcome = promote._promote(job, orders, found)
    gate.judge(topic.spark, topic.settings, "silver", run_id, ["orders"], datetime.now(UTC))
    return outcome


def silver(topic: Topic) -> list[str]:
    return sorted(row[0] for row in topic.table("silver.orders").select("order_id").collect())


def test_a_day_takes_in_what_the_stream_wrote_and_each_event_once(topic: Topic) -> None:
    topic.make_tables(SNOWFLAKE, "silver.orders", "ops.quarantine", "ops.dq_verdicts")
    # Mode batch: one run is certified, one is refused and leaves its rows in Bronze.
    batch = topic.with_options(mode="batch")
    batch.produce([encoded(n) for n in range(6)])
    first, _ = record(batch)
    assert judge(batch, first).passing
    batch.produce([encoded(6), encoded(7), b"{", b"{"])
    refused, _ = record(batch)
    assert not judge(batch, refused).passing

    with pytest.raises(SourceUnavailable, match="no marks"):
        record(topic)

    topic.catch_up()  # begins where the certified run ended
    topic.produce([encoded(n) for n in range(8, 60)])
    topic.catch_up()
    topic.produce([encoded(999)])  # the stream has not read it yet
    run, table = record(topic)

    assert table.ledger is not None
    assert (table.ledger.read, table.ledger.inserted, table.ledger.quarantined) == (56, 54, 2)
    assert table.rules == {"malformed": 2}
    verdict = judge(topic, run)
    assert verdict.passing, verdict.failures
    assert verdict.rows == 54
    took = take_in(topic, run)
    assert took.ledger is not None
    assert took.ledger.inserted == 60
    assert silver(topic) == sorted(f"O-{n}" for n in range(60))

    # The next day: what came since and nothing else; a rerun of the record is the same record.
    topic.catch_up()
    following, table = record(topic)
    assert table.ledger is not None
    assert (table.ledger.read, table.ledger.inserted) == (1, 1)
    assert judge(topic, following).passing
    took = take_in(topic, following)
    assert took.ledger is not None
    assert (took.ledger.read, took.ledger.inserted) == (1, 1)

    # Nothing new is a passing day too.
    quiet, table = record(topic)
    assert table.ledger is not None
    assert table.ledger.read == 0
    assert judge(topic, quiet).passing
    # Back in mode batch, certified offsets are not read again.
    batch.produce([encoded(1000)])
    _, table = record(batch)
    assert table.ledger is not None
    assert (table.ledger.read, table.ledger.inserted) == (1, 1)


def test_the_gate_judges_whatever_no_certified_run_holds(topic: Topic) -> None:
    topic.make_tables("ops.quarantine", "ops.dq_verdicts")
    topic.produce([encoded(1), b"{", encoded(2, status="GONE")])
    topic.catch_up()
    run, _ = record(topic)

    verdict = judge(topic, run)

    assert {rule.name for rule in verdict.failures} >= {"rejected_rows", "status_known"}
    (rejected,) = [rule for rule in verdict.rules if rule.name == "rejected_rows"]
    assert rejected.observed.startswith("2 of 3")
    (unknown,) = [rule for rule in verdict.rules if rule.name == "status_known"]
    assert "GONE" in unknown.sample[0]["reasons"]
    with pytest.raises(GateFailed, match=r"bronze\.kafka_orders"):
        gate.require_passed("bronze", [verdict])
    topic.produce([encoded(n) for n in range(3, 60)])
    topic.catch_up()
    again, table = record(topic)
    assert table.ledger is not None
    assert table.ledger.read == 60
    assert judge(topic, again).passing

    # A row too many, by whatever way it came, trips the gate.
    topic.produce([encoded(n) for n in range(100, 103)])
    topic.catch_up()
    run, _ = record(topic)
    uri = topic.settings.table_uri("bronze.kafka_orders")
    doubled = topic.table("bronze.kafka_orders").where("order_id = 'O-101'")
    doubled.write.format("delta").mode("append").save(uri)
    assert {rule.name for rule in judge(topic, run).failures} == {"unique_key", "written_rows"}


def state(start: int, until: int) -> dict[str, object]:
    return {"mode": "stream", "topic": "t", "from": {"0": start}, "until": {"0": until}}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        pytest.param([], "FALSE", id="none"),
        pytest.param([CertifiedRun(run_id="b"), CertifiedRun(run_id="a")], "_run_id IN ('a', 'b')", id="batch"),
        pytest.param([CertifiedRun(run_id="a", state=state(5, 5))], "FALSE", id="empty-range"),
        pytest.param(
            [CertifiedRun(run_id=f"{n}", state=state(n, n + 10)) for n in (20, 0, 10, 40)],
            "(_source = 'kafka_stream' AND topic = 't' AND `partition` = 0 AND `offset` >= 0 AND `offset` < 30) OR "
            "(_source = 'kafka_stream' AND topic = 't' AND `partition` = 0 AND `offset` >= 40 AND `offset` < 50)",
            id="adjacent-ranges-joined",
        ),
    ],
)  # fmt: skip
def test_rows_of_runs(runs: list[CertifiedRun], expected: str) -> None:
    assert verdicts.rows_of(runs) == expected
