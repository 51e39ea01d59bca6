"""gold.fact_orders: latest state, pricing, freezing, unknown customers, the ends of the calendar."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from lakehouse.session import local_frame
from lakehouse.tables.gold import dim_fx, fact_orders
from lakehouse.tables.money import with_usd

from ..rows import Row, assert_schema, at, collect, day, frame

RUN_DATE = day("2025-03-01")


def rates(usd_per_eur: str = "1.1") -> list[Row]:
    quotes = {"EUR": "1", "USD": usd_per_eur, "GBP": "0.8", "JPY": "160"}
    usd = Decimal(usd_per_eur)
    return [
        {"as_of_date": day(date), "ccy": ccy, "ccy_per_eur": Decimal(rate), "usd_per_eur": usd}
        for date in ("2025-01-03", "2025-02-20")
        for ccy, rate in quotes.items()
    ]  # fmt: skip


def event(order_id: str, event_ts: str = "2025-01-03 10:00:00", **more: Any) -> Row:
    known: Row = {"customer_id": "A1", "status": "PLACED", "amount": Decimal("100.00"), "currency": "GBP"}
    order: Row = {"source": "snowflake", "_source_rank": 2, "_source_position": "", "_payload_hash": "-"}
    return {"order_id": order_id, "event_ts": at(event_ts), **known, **order, **more}


def publish(
    spark: SparkSession,
    events: Sequence[Row],
    fx: Sequence[Row],
    previous: Sequence[Row] | None,
    days: int = 35,
) -> dict[str, Row]:
    customers = frame(spark, "gold.dim_customers", [{"id": "A1"}, {"id": "A2"}])
    calendar = dim_fx.transform(frame(spark, "silver.fx_rates", fx), max_staleness_days=5, publish_id="p1")
    got = fact_orders.transform(
        frame(spark, "silver.orders", events),
        customers,
        calendar,
        None if previous is None else frame(spark, "gold.fact_orders", previous),
        run_date=RUN_DATE,
        restate_days=days,
        publish_id="p1",
    )
    assert_schema(got, fact_orders.TABLE)
    rows = collect(got)
    assert len(rows) == len({row["order_id"] for row in rows})
    return {row["order_id"]: row for row in rows}


def price(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("amount_usd", "fx_as_of_date", "usd_per_eur", "ccy_per_eur"))


def test_latest_state_and_price_of_the_first_day(spark: SparkSession) -> None:
    shipped, delivered = "2025-02-20 08:00:00.000999", "2025-02-21 09:00:00"
    got = publish(
        spark,
        [
            event("history", "2025-01-03 23:59:59.999999"),
            event("history", shipped, status="SHIPPED", amount=Decimal("80.00"), shipped_at=at(shipped)),
            event("history", "2025-02-20 09:00:00", status="SHIPPED", shipped_at=at("2025-02-20 08:30:00"),
                  delivered_at=at("2025-02-20 08:59:00"), customer_id="A2", amount=Decimal("80.00")),
            event("history", "2025-02-19 09:00:00", delivered_at=at(delivered)),
            event("us", currency="USD", amount=Decimal("0.01")),
            event("unknown", customer_id="nobody"),
            event("anonymous", customer_id=None),
            event("stale", "2025-01-09 00:00:00"),
            event("fresh", "2025-01-08 23:59:59.999999"),
            event("stale us", "2025-01-09 00:00:00", currency="USD"),
            event("too early", "2025-01-02 23:59:59.999"),
            event("too late", "2025-02-26 00:00:00"),
            event("no such quote", currency="CHF"),
            event("too dear", amount=Decimal("9999999999999999.99")),
            event("tie", currency="JPY", amount=Decimal("0.80")),
            event("first day", "0001-01-01 00:00:00.000001"),
            event("last day", "9999-12-31 23:59:59.999999"),
            event("summer time", "2025-03-30 01:30:00"),
        ],
        rates(),
        None,
    )  # fmt: skip
    history = got["history"]
    assert history == {
        "order_id": "history",
        "customer_id": "A2",
        "order_date": day("2025-01-03"),
        "currency": "GBP",
        "amount_native": Decimal("80.00"),
        "amount_usd": Decimal("110.00"),
        "fx_as_of_date": day("2025-01-03"),
        "usd_per_eur": Decimal("1.1"),
        "ccy_per_eur": Decimal("0.8"),
        "status": "SHIPPED",
        "shipped_at": at("2025-02-20 08:00:00"),
        "delivered_at": at(delivered),
        "event_ts": at("2025-02-20 09:00:00"),
        "is_known_customer": True,
        "_publish_id": "p1",
    }
    assert price(got["us"]) == (Decimal("0.01"), day("2025-01-03"), Decimal("1.1"), Decimal("1.1"))
    assert [got[name]["is_known_customer"] for name in ("us", "unknown", "anonymous")] == [True, False, False]
    assert got["fresh"]["fx_as_of_date"] == day("2025-01-03")
    unpriced = {name for name, row in got.items() if price(row) == (None,) * 4}
    assert unpriced == {
        "stale", "stale us", "too early", "too late", "no such quote", "too dear",
        "first day", "last day", "summer time",
    }  # fmt: skip
    assert got["tie"]["amount_usd"] == Decimal("0.01"), "0.0055 is more than half a cent"
    assert got["first day"]["event_ts"] == at("0001-01-01")
    assert got["first day"]["order_date"] == day("0001-01-01")
    assert got["last day"]["event_ts"] == at("9999-12-31 23:59:59.999")
    assert got["last day"]["order_date"] == day("9999-12-31")


def test_published_prices_are_restated_for_a_while_and_then_frozen(spark: SparkSession) -> None:
    # 2025-03-01 less 35 days: 2025-01-25 is the first day that is still open.
    def published(order_id: str, date: str, **more: Any) -> Row:
        return {
            "order_id": order_id, "order_date": day(date), "currency": "GBP", "fx_as_of_date": day("2025-01-02"),
            "usd_per_eur": Decimal("2"), "ccy_per_eur": Decimal("1"), "amount_usd": Decimal("200.00"), **more,
        }  # fmt: skip

    old, frozen_day, open_day = "2025-01-04 10:00:00", "2025-01-24 10:00:00", "2025-01-25 10:00:00"
    nothing = {"fx_as_of_date": None, "usd_per_eur": None, "ccy_per_eur": None, "amount_usd": None}
    fx = [
        *rates(),
        {
            "as_of_date": day("2025-01-22"),
            "ccy": "GBP",
            "ccy_per_eur": Decimal("0.5"),
            "usd_per_eur": Decimal("1"),
        },
    ]
    got = publish(
        spark,
        [
            event("frozen", old),
            event("frozen with a new amount", old, amount=Decimal("0.01")),
            event("frozen unpriced", old),
            event("last frozen day", frozen_day),
            event("first open day", open_day),
            event("another currency", old, currency="EUR"),
            event("another day", old),
            event("another day", "2025-01-03 10:00:00"),
            event("new", old),
        ],
        fx,
        [
            published("frozen", "2025-01-04"),
            published("frozen with a new amount", "2025-01-04"),
            published("frozen unpriced", "2025-01-04", **nothing),
            published("last frozen day", "2025-01-24"),
            published("first open day", "2025-01-25"),
            published("another currency", "2025-01-04"),
            published("another day", "2025-01-04"),
            published("no longer there", "2025-01-04"),
        ],
    )
    kept = (day("2025-01-02"), Decimal(2), Decimal(1))
    january = (day("2025-01-03"), Decimal("1.1"), Decimal("0.8"))
    assert {name: price(row) for name, row in got.items()} == {
        "frozen": (Decimal("200.00"), *kept),
        "frozen with a new amount": (Decimal("0.02"), *kept),
        "frozen unpriced": (None,) * 4,
        "last frozen day": (Decimal("200.00"), *kept),
        "first open day": (Decimal("200.00"), day("2025-01-22"), Decimal(1), Decimal("0.5")),
        "another currency": (Decimal("110.00"), day("2025-01-03"), Decimal("1.1"), Decimal(1)),
        "another day": (Decimal("137.50"), *january),
        "new": (Decimal("137.50"), *january),
    }


AMOUNT = st.integers(-(10**18) + 1, 10**18 - 1) | st.integers(0, 10**9) | st.sampled_from([0, 1, 10**18 - 1])
RATE = st.integers(1, 10**20 - 1) | st.integers(10**11, 10**14) | st.sampled_from([1, 10**12, 10**20 - 1])


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.tuples(AMOUNT, RATE, RATE), min_size=80, max_size=100))
def test_prices_are_exact(spark: SparkSession, drawn: list[tuple[int, int, int]]) -> None:
    top = 10**20 - 1
    drawn += [
        (1, 1, 2),
        (-1, 1, 2),
        (1, 10**12, 2 * 10**12 + 1),
        (10**18 - 1, top, top),
        (10**18 - 1, top, 1),
    ]
    drawn += [
        (10**18 - 1, 10**12 + 1, 10**12),
        (10**18 - 1, 2 * 10**18 - 1, 2 * 10**18),
        (10**18 - 1, 1, top),
    ]
    drawn += [(cents, usd, usd) for cents, usd, _ in drawn]
    rows = [
        (n, Decimal(cents).scaleb(-2), Decimal(usd).scaleb(-12), Decimal(ccy).scaleb(-12))
        for n, (cents, usd, ccy) in enumerate(drawn)
    ]
    df = local_frame(spark, rows, "n int, amount decimal(18,2), usd decimal(20,12), ccy decimal(20,12)")
    priced = df.transform(with_usd, "price", amount="amount", usd_per_eur="usd", ccy_per_eur="ccy")
    expected: dict[int, Decimal | None] = {}
    with localcontext() as context:
        context.prec = 100
        for n, amount, usd, ccy in rows:
            exact = (amount * usd / ccy).quantize(Decimal("0.01"), ROUND_HALF_UP)
            expected[n] = exact if abs(exact) < 10**16 else None
            assert usd != ccy or expected[n] == amount
    assert {row["n"]: row["price"] for row in collect(priced)} == expected


def test_dates_do_not_depend_on_the_sessions_zone(spark: SparkSession) -> None:
    moments = [
        dt.datetime(2025, 3, 30, 0, 59, 59, 999_999, dt.UTC) + dt.timedelta(hours=n) for n in range(-26, 27)
    ]
    zone = spark.conf.get("spark.sql.session.timeZone")
    try:
        spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
        got = publish(
            spark, [event(str(n)) | {"event_ts": moment} for n, moment in enumerate(moments)], rates(), None
        )
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone or "UTC")
    assert [got[str(n)]["order_date"] for n in range(len(moments))] == [moment.date() for moment in moments]
    assert {got[str(n)]["event_ts"].microsecond for n in range(len(moments))} == {999_000}
