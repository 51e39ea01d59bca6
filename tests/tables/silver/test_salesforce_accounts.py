"""silver.salesforce_accounts: latest state, deletes, blanks."""

from __future__ import annotations

from collections import Counter

from pyspark.sql import SparkSession

from lakehouse.tables.silver import salesforce_accounts

from ..rows import NOON, Silver, assert_schema, at, frame

EARLY, LATE = at("2025-01-15 11:00:00"), at("2025-01-15 13:00:00.000001")


def test_schema_is_the_contracts(spark: SparkSession) -> None:
    empty = frame(spark, "bronze.salesforce_accounts", [])
    assert_schema(salesforce_accounts.transform(empty), salesforce_accounts.TABLE)


def test_latest_state_with_deletes_marked(spark: SparkSession) -> None:
    table = Silver(spark, salesforce_accounts)
    table.add(
        [
            {"id": "changed", "name": "Old", "systemmodstamp": EARLY},
            {"id": "changed", "name": "New", "systemmodstamp": LATE},
            {"id": "deleted", "name": "Gone", "systemmodstamp": EARLY},
            {"id": "deleted", "name": "Gone", "systemmodstamp": LATE, "isdeleted": True},
            {"id": "deleted at once", "name": "Z"},
            {"id": "deleted at once", "name": "Z", "isdeleted": True},
            {"id": "null", "isdeleted": None, "createddate": None},
            {
                "id": "blank",
                "name": " ",
                "type": "",
                "billingcountry": "\u00a0",
                "website": " a b ",
                "phone": "\n",
            },
            {"id": "same", "name": "S"},
            {"id": "same", "name": "S"},
            {"id": "conflict", "name": "A"},
            {"id": "conflict", "name": "B"},
        ]
    )
    assert table.classes == Counter(inserted=7, superseded=2, conflict=2, duplicate=1)
    assert table.one("changed")["name"] == "New"
    assert table.one("changed")["modified_at"] == LATE
    assert table.one("deleted")["is_deleted"] is True
    assert table.one("deleted at once")["is_deleted"] is True
    assert (table.one("null")["is_deleted"], table.one("null")["created_at"]) == (False, None)
    blank = table.one("blank")
    assert [blank[name] for name in ("name", "type", "country", "phone", "website")] == [None] * 4 + ["a b"]
    assert blank["created_at"] == NOON

    table.classes.clear()
    table.add(
        [
            {"id": "changed", "name": "Late arrival of an old state", "systemmodstamp": NOON},
            {"id": "deleted", "name": "Restored", "systemmodstamp": at("2025-01-16")},
            {"id": "deleted at once", "name": "Z"},
        ]
    )
    assert table.classes == Counter(superseded=1, updated=1, conflict=1)
    assert table.one("changed")["name"] == "New"
    assert table.one("deleted")["is_deleted"] is False
    assert table.one("deleted at once")["is_deleted"] is True
