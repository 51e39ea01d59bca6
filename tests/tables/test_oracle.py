"""All of Silver and Gold over two days of nasty Bronze, row for row against the second computation."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.tables.gold import dim_customers, dim_fx, fact_orders
from lakehouse.tables.silver import (
    fx_rates,
    hubspot_contacts,
    orders,
    salesforce_accounts,
    salesforce_leads,
    vendor_shipments,
)

from . import oracle
from .rows import Row, Silver, at, collect, complete, day, frame, ordered

STALENESS, RESTATE = 4, 20
RUNS = (
    ("run-1", at("2025-03-01 06:00:00"), day("2025-03-01")),
    ("run-2", at("2025-03-02 06:00:00"), day("2025-03-02")),
)
CURRENCIES = ["EUR", "USD", "GBP", "JPY", "ISK", "XXX"]
ACCOUNT_IDS = [f"A{n}" for n in range(12)]
TEXTS = [
    "plain",
    " Zo\u00eb \u00a0",
    "",
    None,
    "\u674e \u5c0f\u9f99",
    'a "quoted"\nline',
    "\U0001f600 x",
    "\t",
    "O'Brien|-|3:abc",
]


class Nasty:
    """Random Bronze rows of one run: few keys, many ties, gaps, extremes."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._offset = 0

    def day(self, run: tuple[str, dt.datetime, dt.date]) -> dict[str, list[Row]]:
        makers: dict[str, tuple[Callable[[], Row], int]] = {
            "bronze.snowflake_orders": (self._snowflake, 250),
            "bronze.kafka_orders": (self._kafka, 150),
            "bronze.salesforce_accounts": (self._account, 60),
            "bronze.salesforce_leads": (self._lead, 60),
            "bronze.hubspot_contacts": (self._contact, 80),
            "bronze.vendor_shipments": (self._shipment, 60),
            "bronze.fx_rates": (self._quote, 140),
        }
        system = {"_run_id": run[0], "_landed_at": run[1]}
        return {
            table: [complete(table, make() | system) for _ in range(n)] for table, (make, n) in makers.items()
        }

    def _moment(self) -> dt.datetime:
        extremes = [at("0001-01-01"), at("9999-12-31 23:59:59.999999"), at("1969-12-31 23:59:59.999999")]
        if self._rng.random() < 0.03:
            return self._rng.choice(extremes)
        return at("2025-01-05") + dt.timedelta(
            days=self._rng.randrange(50), microseconds=self._rng.choice([0, 999, 1_000, 86_399_999_999])
        )

    def _maybe_moment(self) -> dt.datetime | None:
        return self._moment() if self._rng.random() < 0.5 else None

    def _text(self) -> Any:
        return self._rng.choice(TEXTS)

    def _order(self) -> Row:
        digits = self._rng.choice([3, 5, 9, 17])
        return {
            "order_id": f"O{self._rng.randrange(60)}",
            "event_ts": self._moment(),
            "customer_id": self._rng.choice([*ACCOUNT_IDS, "A1 ", "nobody", "", None]),
            "status": self._rng.choice(["PLACED", "PAID", "SHIPPED", "CANCELLED"]),
            "amount": Decimal(self._rng.randrange(10**digits)).scaleb(-2),
            "currency": self._rng.choice(CURRENCIES),
            "shipped_at": self._maybe_moment(),
            "delivered_at": self._maybe_moment(),
        }

    def _snowflake(self) -> Row:
        return self._order() | {"loaded_at": at("2025-02-28") + dt.timedelta(seconds=self._rng.randrange(3))}

    def _kafka(self) -> Row:
        self._offset += 1
        return self._order() | {"partition": self._rng.randrange(2), "offset": self._offset}

    def _modified(self) -> dt.datetime:
        return at("2025-01-31 22:00:00") + dt.timedelta(hours=self._rng.randrange(3))

    def _flag(self) -> bool | None:
        return self._rng.choice([True, False, False, None])

    def _account(self) -> Row:
        texts = ("name", "type", "industry", "billingcountry", "phone", "website")
        return {name: self._text() for name in texts} | {
            "id": self._rng.choice(ACCOUNT_IDS),
            "isdeleted": self._flag(),
            "createddate": self._maybe_moment(),
            "systemmodstamp": self._modified(),
        }

    def _lead(self) -> Row:
        texts = ("firstname", "lastname", "email", "company", "status", "country", "convertedaccountid")
        return {name: self._text() for name in texts} | {
            "id": f"L{self._rng.randrange(15)}",
            "isdeleted": self._flag(),
            "isconverted": self._flag(),
            "createddate": self._maybe_moment(),
            "systemmodstamp": self._modified(),
        }

    def _contact(self) -> Row:
        texts = ("email", "firstname", "lastname", "phone", "company", "lifecyclestage", "country")
        return {name: self._text() for name in texts} | {
            "id": f"{self._rng.randrange(40)}",
            "salesforceaccountid": self._rng.choice([*ACCOUNT_IDS, " A1", "", None]),
            "merged_into": self._rng.choice([None, None, "", "1"]),
            "archived": self._flag(),
            "createdate": self._maybe_moment(),
            "lastmodifieddate": self._modified(),
        }

    def _shipment(self) -> Row:
        texts = ("order_id", "carrier", "tracking_number", "currency")
        return {name: self._text() for name in texts} | {
            "shipment_id": f"S{self._rng.randrange(20)}",
            "file": self._rng.choice(["a.csv", "a", "b.csv", "\u00e4.csv"]),
            "line": self._rng.randrange(1, 12),
            "status": self._rng.choice(["CREATED", "DELIVERED"]),
            "shipped_at": self._maybe_moment(),
            "weight_kg": Decimal(self._rng.randrange(3)).scaleb(-3),
        }

    def _quote(self) -> Row:
        as_of_date = day("2025-01-03") + dt.timedelta(days=self._rng.choice([*range(20), 30, 31, 45]))
        ccy = self._rng.choice(["USD", "USD", "GBP", "JPY", "ISK", "EUR"])
        scale = self._rng.choice([1, 9, 12, 14, 19])
        return {
            "as_of_date": as_of_date,
            "ccy": ccy,
            "ccy_per_eur": Decimal(self._rng.randrange(1, 10**scale)).scaleb(-12),
            "publication": self._rng.choice(["daily", "history"]),
        }


def gold(
    spark: SparkSession, silver: dict[str, Silver], previous: Sequence[Row] | None, run: Any
) -> list[list[Row]]:
    """dim_customers, dim_fx and fact_orders by Spark."""
    inputs = {name: frame(spark, name, table.rows) for name, table in silver.items()}
    customers = dim_customers.transform(
        inputs["silver.salesforce_accounts"], inputs["silver.hubspot_contacts"], publish_id=run[0]
    )
    fx = dim_fx.transform(inputs["silver.fx_rates"], max_staleness_days=STALENESS, publish_id=run[0])
    facts = fact_orders.transform(
        inputs["silver.orders"],
        customers,
        fx,
        None if previous is None else frame(spark, "gold.fact_orders", previous),
        run_date=run[2],
        restate_days=RESTATE,
        publish_id=run[0],
    )
    return [
        ordered(collect(customers), "id"),
        ordered(collect(fx), "ccy", "as_of_date"),
        ordered(collect(facts), "order_id"),
    ]


def test_two_days_of_nasty_bronze(spark: SparkSession) -> None:
    nasty = Nasty(20250301)
    modules = (orders, fx_rates, salesforce_accounts, salesforce_leads, hubspot_contacts, vendor_shipments)
    silver = {module.TABLE: Silver(spark, module) for module in modules}
    bronze: dict[str, list[Row]] = {}
    published: list[Row] | None = None
    for run in RUNS:
        batch = nasty.day(run)
        for table, rows in batch.items():
            bronze.setdefault(table, []).extend(rows)
        for module in modules:
            silver[module.TABLE].add(*(batch[name] for name in module.INPUTS))

        expected = {
            "silver.orders": oracle.greatest(
                oracle.silver_orders(bronze["bronze.snowflake_orders"], bronze["bronze.kafka_orders"]),
                ("order_id", "event_ts"),
                "event_ts",
            ),
            "silver.fx_rates": oracle.silver_fx(bronze["bronze.fx_rates"]),
        }
        for table, compute, time in (
            ("salesforce_accounts", oracle.silver_accounts, "modified_at"),
            ("salesforce_leads", oracle.silver_leads, "modified_at"),
            ("hubspot_contacts", oracle.silver_contacts, "modified_at"),
            ("vendor_shipments", oracle.silver_shipments, "file"),
        ):
            expected[f"silver.{table}"] = oracle.greatest(compute(bronze[f"bronze.{table}"]), ("id",), time)
        for module in modules:
            got = ordered(silver[module.TABLE].rows, *module.KEY)
            assert got == ordered(expected[module.TABLE], *module.KEY), f"{module.TABLE} after {run[0]}"

        customers = oracle.dim_customers(
            expected["silver.salesforce_accounts"], expected["silver.hubspot_contacts"], run[0]
        )
        facts = oracle.fact_orders(
            expected["silver.orders"],
            customers,
            expected["silver.fx_rates"],
            published or [],
            run_date=run[2],
            staleness=STALENESS,
            restate_days=RESTATE,
            publish_id=run[0],
        )
        by_spark = gold(spark, silver, published, run)
        assert by_spark[0] == ordered(customers, "id")
        assert by_spark[1] == ordered(
            oracle.dim_fx(expected["silver.fx_rates"], STALENESS, run[0]), "ccy", "as_of_date"
        )
        assert by_spark[2] == ordered(facts, "order_id")
        if published is None:
            published = facts
        else:
            anew = oracle.fact_orders(
                expected["silver.orders"], customers, expected["silver.fx_rates"], [],
                run_date=run[2], staleness=STALENESS, restate_days=RESTATE, publish_id=run[0],
            )  # fmt: skip
            assert ordered(anew, "order_id") != by_spark[2], "the data must have prices that freezing keeps"
    assert any(row["amount_usd"] is None for row in facts)
    assert any(row["amount_usd"] is not None for row in facts)
