"""silver.hubspot_contacts: latest state, archived and merged contacts."""

from __future__ import annotations

from collections import Counter

from pyspark.sql import SparkSession

from lakehouse.tables.silver import hubspot_contacts

from ..rows import NOON, Silver, assert_schema, at, frame


def test_schema_is_the_contracts(spark: SparkSession) -> None:
    empty = frame(spark, "bronze.hubspot_contacts", [])
    assert_schema(hubspot_contacts.transform(empty), hubspot_contacts.TABLE)


def test_archived_and_merged_contacts_stay_marked(spark: SparkSession) -> None:
    later = at("2025-01-15 12:00:00.001")
    table = Silver(spark, hubspot_contacts)
    table.add(
        [
            {"id": "1", "email": " a@x.example", "salesforceaccountid": "", "lifecyclestage": "lead",
             "firstname": "\u674e"},
            {"id": "2", "email": "b@x.example"},
            {"id": "2", "email": "b@x.example", "archived": True},  # HubSpot left the modification time as it was
            {"id": "3", "merged_into": "1", "salesforceaccountid": " A1 "},
            {"id": "4", "merged_into": " ", "archived": None},
            {"id": "5", "archived": True},
            {"id": "5", "archived": False, "lastmodifieddate": later},
        ]
    )  # fmt: skip
    assert table.classes == Counter(inserted=5, conflict=1, superseded=1)
    first = table.one("1")
    assert (first["email"], first["account_id"], first["first_name"]) == ("a@x.example", None, "\u674e")
    assert (first["lifecycle_stage"], first["created_at"], first["modified_at"]) == ("lead", NOON, NOON)
    deleted = {row["id"]: row["is_deleted"] for row in table.rows}
    assert deleted == {"1": False, "2": True, "3": True, "4": False, "5": False}
    assert (table.one("3")["merged_into"], table.one("3")["account_id"]) == ("1", "A1")
    assert table.one("4")["merged_into"] is None
