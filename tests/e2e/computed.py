"""Silver and Gold as an independent computation has them, from what the layer before holds."""

from __future__ import annotations

from typing import Any

from lakehouse.runs import run_time
from tests.e2e.conftest import World
from tests.tables import oracle
from tests.tables.rows import ordered

GOLD = ("gold.dim_customers", "gold.dim_fx", "gold.fact_orders")


def gold(world: World) -> dict[str, list[dict[str, Any]]]:
    return {name: world.rows(name) for name in GOLD}


def silver_orders(world: World, refused: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """silver.orders as computed from what Bronze holds, but for refused runs of the warehouse."""
    warehouse = [row for row in world.rows("bronze.snowflake_orders") if row["_run_id"] not in refused]
    rows = oracle.silver_orders(warehouse, world.rows("bronze.kafka_orders"))
    return ordered(oracle.greatest(rows, ("order_id", "event_ts"), "event_ts"), "order_id", "event_ts")


def assert_gold_is_computed_from_silver(world: World, run: str) -> None:
    publish_id = world.rows("gold.fact_orders")[0]["_publish_id"]
    assert publish_id.startswith(run)
    accounts, contacts = world.rows("silver.salesforce_accounts"), world.rows("silver.hubspot_contacts")
    customers = oracle.dim_customers(accounts, contacts, publish_id)
    facts = oracle.fact_orders(
        world.rows("silver.orders"),
        customers,
        world.rows("silver.fx_rates"),
        [],
        run_date=run_time(run).date(),
        staleness=world.settings.fx.max_staleness_days,
        restate_days=world.settings.fx.restate_days,
        publish_id=publish_id,
    )
    assert sorted(customers, key=lambda row: row["id"]) == world.rows("gold.dim_customers")
    assert sorted(facts, key=lambda row: row["order_id"]) == world.rows("gold.fact_orders")
