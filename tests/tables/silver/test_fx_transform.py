"""silver.fx_rates: the pivot on USD, late and corrected quotes, and exact rates."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from lakehouse.session import local_frame
from lakehouse.tables.money import with_cross_rate
from lakehouse.tables.silver import fx_rates

from .. import oracle
from ..rows import Row, Silver, at, collect, complete, day, ordered

D1, D2, D3, D4 = (day(f"2025-01-0{n}") for n in (1, 2, 3, 4))
MORNING, EVENING, NIGHT = (at(f"2025-01-05 {hour}:00:00") for hour in ("08", "16", "23"))


def quote(as_of_date: dt.date, ccy: str, rate: str, landed: Any = MORNING, **more: Any) -> Row:
    return {"as_of_date": as_of_date, "ccy": ccy, "ccy_per_eur": Decimal(rate), "_landed_at": landed, **more}


def rates(table: Silver) -> dict[tuple[dt.date, str], tuple[Any, ...]]:
    return {
        (row["as_of_date"], row["ccy"]): (row["ccy_per_eur"], row["usd_per_eur"], row["rate_to_base"])
        for row in table.rows
    }


def test_rates_in_usd_and_their_restatement(spark: SparkSession) -> None:
    table = Silver(spark, fx_rates)
    table.add(
        [
            quote(D1, "USD", "1.10"), quote(D1, "GBP", "0.83"), quote(D1, "JPY", "163.55"),
            quote(D2, "GBP", "0.84"),
            quote(D3, "USD", "1.20", MORNING, publication="history"), quote(D3, "USD", "1.21", MORNING),
            quote(D4, "USD", "1.30"), quote(D4, "USD", "1.30", publication="history"), quote(D4, "EUR", "1"),
        ]
    )  # fmt: skip
    got = rates(table)
    assert got[D1, "USD"] == (Decimal("1.1"), Decimal("1.1"), Decimal(1))
    assert got[D1, "EUR"] == (Decimal(1), Decimal("1.1"), Decimal("1.1"))
    assert got[D1, "GBP"] == (Decimal("0.83"), Decimal("1.1"), Decimal("1.325301204819"))
    assert got[D1, "JPY"] == (Decimal("163.55"), Decimal("1.1"), Decimal("0.006725771935"))
    assert got[D2, "GBP"] == (Decimal("0.84"), None, None), "a date without USD keeps its quotes, unpriced"
    assert (D2, "EUR") not in got
    assert got[D3, "USD"][0] == Decimal("1.20"), "history outranks daily of the same landing"
    assert table.classes == Counter(inserted=6, conflict=1, duplicate=2)
    assert table.generated == Counter(inserted=3)
    euro = table.one(D4, "EUR")
    assert (euro["publication"], euro["_source_rank"], euro["_landed_at"]) == ("history", 2, MORNING)

    table.classes.clear(), table.generated.clear()
    table.add(
        [
            quote(D1, "USD", "1.11", EVENING, _run_id="run-2"),  # corrected
            quote(D2, "USD", "1.15", EVENING, _run_id="run-2"),  # late
            quote(D3, "GBP", "0.85", EVENING, _run_id="run-2"),
            quote(D4, "USD", "1.30", publication="history", _run_id="run-2"),
        ]
    )
    got = rates(table)
    assert got[D1, "GBP"] == (Decimal("0.83"), Decimal("1.11"), Decimal("1.337349397590"))
    assert got[D1, "EUR"][2] == Decimal("1.11")
    assert got[D2, "GBP"] == (Decimal("0.84"), Decimal("1.15"), Decimal("1.369047619048"))
    assert got[D2, "EUR"][2] == Decimal("1.15")
    assert got[D3, "GBP"][1] == Decimal("1.20"), "the stored quote for USD prices a new currency"
    assert table.classes == Counter(updated=1, inserted=2, duplicate=1)
    # D1: GBP, JPY and EUR; D2: GBP, and EUR for the first time.
    assert table.generated == Counter(updated=4, inserted=1)
    assert table.one(D1, "GBP")["_run_id"] == "run-1"
    assert table.one(D1, "EUR")["_run_id"] == "run-2"

    table.classes.clear(), table.generated.clear()
    table.add([quote(D1, "USD", "1.10", MORNING), quote(D1, "GBP", "0.86", NIGHT)])
    assert table.classes == Counter(superseded=1, updated=1)
    assert not table.generated, "what does not change is not written again"
    assert rates(table)[D1, "GBP"][1] == Decimal("1.11")


@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.integers(0, 2**32))
def test_arrival_order_and_batching_change_nothing(spark: SparkSession, seed: int) -> None:
    rng = random.Random(seed)
    drawn = [
        quote(
            D1 + dt.timedelta(days=rng.randrange(15)),
            rng.choice(["USD", "USD", "GBP", "JPY", "EUR"]),
            f"{rng.randrange(1, 10 ** rng.randrange(1, 19))}e-12",
            rng.choice([MORNING, EVENING]),
            publication=rng.choice(["daily", "history"]),
        )
        for _ in range(90)
    ]
    cuts = sorted(rng.sample(range(len(drawn)), 2))
    table = Silver(spark, fx_rates)
    for batch in (drawn[: cuts[0]], drawn[cuts[0] : cuts[1]], drawn[cuts[1] :]):
        table.classes.clear()
        table.add(batch)
        assert table.classes.total() == len(batch)
    expected = oracle.silver_fx(complete("bronze.fx_rates", row) for row in drawn)
    assert ordered(table.rows, *fx_rates.KEY) == ordered(expected, *fx_rates.KEY)


RATE = st.integers(1, 10**20 - 1) | st.integers(1, 10**14) | st.sampled_from([1, 2, 3, 10**12, 10**20 - 1])


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.tuples(RATE, RATE), min_size=80, max_size=100))
def test_cross_rates_are_exact(spark: SparkSession, pairs: list[tuple[int, int]]) -> None:
    pairs += [
        (1, 2 * 10**12),
        (10**12 - 1, 2 * 10**12),
        (10**20 - 1, 1),
        (10**20 - 1, 10**12),
        (5, 10**20 - 1),
    ]
    rows = [(n, Decimal(usd).scaleb(-12), Decimal(ccy).scaleb(-12)) for n, (usd, ccy) in enumerate(pairs)]
    rows += [(-1, None, Decimal(1)), (-2, Decimal(1), None), (-3, Decimal(1), Decimal(0))]
    df = local_frame(spark, rows, "n int, usd decimal(20,12), ccy decimal(20,12)")
    got = {
        row["n"]: row["rate"]
        for row in collect(df.transform(with_cross_rate, "rate", usd_per_eur="usd", ccy_per_eur="ccy"))
    }
    expected: dict[int, Decimal | None] = {-1: None, -2: None, -3: None}
    with localcontext() as context:
        context.prec = 100
        for n, usd, ccy in rows[: len(pairs)]:
            exact = (usd / ccy).quantize(Decimal("1e-12"), ROUND_HALF_UP)
            expected[n] = exact if exact < 10**8 else None
    assert got == expected
