"""gold.dim_customers: every account once, with its living contacts."""

from __future__ import annotations

from pyspark.sql import SparkSession

from lakehouse.tables.gold import dim_customers

from ..rows import assert_schema, collect, frame


def test_every_account_once_with_its_living_contacts(spark: SparkSession) -> None:
    accounts = frame(
        spark,
        "silver.salesforce_accounts",
        [
            {
                "id": "A1",
                "name": "Acme",
                "type": "Customer",
                "industry": "Steel",
                "country": "DE",
                "is_deleted": False,
            },
            {"id": "A2", "is_deleted": True},
            {"id": "A3", "is_deleted": None},
        ],
    )
    contacts = frame(
        spark,
        "silver.hubspot_contacts",
        [
            {"id": "1", "account_id": "A1", "is_deleted": False},
            {"id": "2", "account_id": "A1", "is_deleted": False},
            {"id": "3", "account_id": "A1", "is_deleted": True},
            {"id": "4", "account_id": "A1", "is_deleted": True, "merged_into": "1"},
            {"id": "5", "account_id": None, "is_deleted": False},
            {"id": "6", "account_id": "unknown", "is_deleted": False},
            {"id": "7", "account_id": "A2", "is_deleted": False},
        ],
    )
    got = dim_customers.transform(accounts, contacts, publish_id="p1")
    assert_schema(got, dim_customers.TABLE)
    rows = {row["id"]: row for row in collect(got)}
    assert rows["A1"] == {
        "id": "A1",
        "name": "Acme",
        "type": "Customer",
        "industry": "Steel",
        "country": "DE",
        "is_active": True,
        "contacts": 2,
        "_publish_id": "p1",
    }
    assert {name: (row["is_active"], row["contacts"]) for name, row in rows.items()} == {
        "A1": (True, 2),
        "A2": (False, 1),
        "A3": (True, 0),
    }
