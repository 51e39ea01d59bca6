"""silver.orders from both sources: the total order, its counts, and that arrival does not matter."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from lakehouse.tables.order import latest
from lakehouse.tables.silver import orders

from .. import oracle
from ..rows import Row, Silver, at, collect, complete, frame, ordered

T1, T2 = at("2025-01-15 10:00:00"), at("2025-01-15 11:00:00")
LOADS = [at("2025-01-16 01:00:00"), at("2025-01-16 02:00:00")]
CHEAP = Decimal("1.00")
DEAR = Decimal("2.00")


def snowflake(order_id: str, event_ts: Any = T1, amount: Decimal = CHEAP, load: int = 0, **more: Any) -> Row:
    return {"order_id": order_id, "event_ts": event_ts, "amount": amount, "loaded_at": LOADS[load], **more}


def kafka(order_id: str, event_ts: Any = T1, amount: Decimal = CHEAP, offset: int = 0, **more: Any) -> Row:
    return {"order_id": order_id, "event_ts": event_ts, "amount": amount, "offset": offset, **more}


def test_winners_and_losers_within_a_batch_and_against_the_stored_row(spark: SparkSession) -> None:
    table = Silver(spark, orders)
    table.add(
        [
            snowflake("repeated"), snowflake("repeated"),
            snowflake("corrected", load=0), snowflake("corrected", amount=DEAR, load=1),
            snowflake("two events", T1), snowflake("two events", T2),
            snowflake("snowflake first"),
            snowflake("later load first", amount=DEAR, load=1),
        ],
        [
            kafka("both say the same"), kafka("kafka first", amount=DEAR),
            kafka("partitions", offset=9, partition=1), kafka("partitions", offset=10, partition=0, amount=DEAR),
            kafka("offsets", offset=9, amount=DEAR), kafka("offsets", offset=10),
        ],
    )  # fmt: skip
    assert table.classes == Counter(inserted=10, duplicate=1, conflict=3)
    amounts = {row["order_id"]: row["amount"] for row in table.rows}
    assert amounts["corrected"] == DEAR
    assert amounts["partitions"] == CHEAP
    assert amounts["offsets"] == CHEAP

    table.classes.clear()
    table.add(
        [
            snowflake("repeated", _run_id="run-2"),  # as stored: nothing to write
            snowflake("kafka first"),  # the better source arrives late
            snowflake("later load first", load=0),  # an update older than what is stored
            snowflake("both say the same", _run_id="run-2"),
            snowflake("two events", at("2025-01-14 09:00:00")),  # a late event is an event
        ],
        [kafka("snowflake first"), kafka("snowflake first", amount=DEAR), kafka("two events", T2)],
    )
    assert table.classes == Counter(inserted=1, updated=2, duplicate=3, conflict=2)
    assert table.one("kafka first", T1)["source"] == "snowflake"
    assert table.one("kafka first", T1)["amount"] == CHEAP
    assert table.one("later load first", T1)["amount"] == DEAR
    assert table.one("repeated", T1)["_run_id"] == "run-1"
    assert len([row for row in table.rows if row["order_id"] == "two events"]) == 3


# Few distinct values on purpose: ties and repetitions are what the order is about.
events = st.tuples(
    st.integers(0, 24),  # scenario, part of the order id: one Spark job decides all of them
    st.booleans(),  # Snowflake or Kafka
    st.integers(0, 1),  # event
    st.integers(0, 1),  # load or offset
    st.sampled_from([CHEAP, DEAR]),
    st.integers(0, 2),  # batch
)


@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(events, min_size=120, max_size=160), st.randoms(use_true_random=False))
def test_arrival_order_and_batching_change_nothing(
    spark: SparkSession, drawn: list[tuple[int, bool, int, int, Decimal, int]], shuffled: random.Random
) -> None:
    batches: list[tuple[list[Row], list[Row]]] = [([], []), ([], []), ([], [])]
    for scenario, is_snowflake, event, position, amount, batch in drawn:
        order_id, event_ts = f"O-{scenario}", (T1, T2)[event]
        if is_snowflake:
            batches[batch][0].append(snowflake(order_id, event_ts, amount, position))
        else:
            batches[batch][1].append(kafka(order_id, event_ts, amount, position))

    table = Silver(spark, orders)
    for batch in batches:
        for rows in batch:
            shuffled.shuffle(rows)
        before = table.rows
        table.classes.clear()
        table.add(*batch)
        assert table.classes.total() == len(batch[0]) + len(batch[1])
        assert table.classes == Counter(oracle.classes(silver(*batch), before, orders.KEY, "event_ts"))

    everything = [[row for batch in batches for row in batch[n]] for n in (0, 1)]
    expected = oracle.greatest(silver(*everything), orders.KEY, "event_ts")
    assert ordered(table.rows, *orders.KEY) == ordered(expected, *orders.KEY)
    at_once = orders.transform(
        *(frame(spark, name, rows) for name, rows in zip(orders.INPUTS, everything, strict=True))
    )
    assert ordered(collect(latest(at_once, orders.KEY, orders.ORDER)), *orders.KEY) == ordered(
        expected, *orders.KEY
    )


def silver(snowflake_rows: list[Row], kafka_rows: list[Row]) -> list[Row]:
    return oracle.silver_orders(
        [complete("bronze.snowflake_orders", row) for row in snowflake_rows],
        [complete("bronze.kafka_orders", row) for row in kafka_rows],
    )
