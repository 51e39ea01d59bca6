"""silver.salesforce_leads: column by column, deletes, conversions."""

from __future__ import annotations

from collections import Counter

from pyspark.sql import SparkSession

from lakehouse.tables.silver import salesforce_leads

from ..rows import NOON, Silver, assert_schema, at, frame


def test_schema_is_the_contracts(spark: SparkSession) -> None:
    empty = frame(spark, "bronze.salesforce_leads", [])
    assert_schema(salesforce_leads.transform(empty), salesforce_leads.TABLE)


def test_latest_state(spark: SparkSession) -> None:
    later = at("2025-01-20")
    lead = {
        "firstname": " Zo\u00eb ",
        "lastname": "O'Brien\n",
        "email": " Zoe@Example.COM ",
        "company": "",
        "status": "Open",
        "country": "IE",
    }
    table = Silver(spark, salesforce_leads)
    table.add(
        [
            {"id": "L", **lead},
            {"id": "L", **lead, "convertedaccountid": "A1", "isconverted": True, "systemmodstamp": later},
            {"id": "D", "systemmodstamp": later, "isdeleted": True},
            {"id": "D"},
            {"id": "N", "isconverted": None, "isdeleted": None},
        ]
    )
    assert table.classes == Counter(inserted=3, superseded=2)
    got = {name: value for name, value in table.one("L").items() if not name.startswith("_")}
    assert got == {
        "id": "L",
        "first_name": "Zo\u00eb",
        "last_name": "O'Brien",
        "email": "Zoe@Example.COM",
        "company": None,
        "status": "Open",
        "country": "IE",
        "converted_account_id": "A1",
        "is_converted": True,
        "is_deleted": False,
        "created_at": NOON,
        "modified_at": later,
    }
    assert table.one("D")["is_deleted"] is True
    assert (table.one("N")["is_converted"], table.one("N")["is_deleted"]) == (False, False)
