"""A lake small enough to be read: the rows that the sample queries are asked about, written as their contracts say.

What each table holds on purpose: duplicates, rows of two publications, orders without price or customer, refused rows
in every state, several verdicts and entries of one table, a job that failed and one without a bill.
"""
# ruff: noqa: E501 -- tables, laid out for the reader

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from lakehouse import catalog, contracts
from lakehouse.contracts import Contract
from local.aws.athena_worker import storage_options
from local.bootstrap import LAKE_BUCKET
from local.stack import Stack
from tests.support import new_delta

OLD = "20260209T060000Z-0f7d3c6a-0000-4000-8000-000000000001"
NEW = "20260210T060000Z-0f7d3c6a-0000-4000-8000-000000000002"

# A table is its columns and then a line a row; empty: null. What a row does not say of a required column is filler.
ROWS = {
    "gold.dim_customers": """
        id | name  | type     | industry | country | is_active | contacts | _publish_id
        C1 | Acme  | Customer | Energy   | DE      | true      | 3        | NEW
        C2 | Birch | Customer | Retail   | FR      | true      | 0        | NEW
        C3 | Cedar | Prospect | Retail   |         | true      | 1        | NEW
        C4 | Dune  | Partner  | Energy   | ES      | false     | 0        | NEW
        """,
    "gold.dim_fx": """
        as_of_date | ccy | rate_to_base | is_carried_forward | _publish_id
        2026-01-05 | EUR | 1.1          | false              | NEW
        2026-01-06 | EUR | 1.2          | false              | OLD
        2026-01-06 | GBP | 1.5          | false              | NEW
        2026-01-20 | EUR | 1.1          | true               | NEW
        2026-02-03 | USD | 1            | false              | NEW
        2026-02-03 | JPY |              | true               | NEW
        2026-02-10 | EUR | 1.1          | false              | NEW
        """,
    "gold.fact_orders": """
        order_id | customer_id | order_date | currency | amount_native | amount_usd | status    | delivered_at        | is_known_customer | _publish_id
        O1       | C1          | 2026-01-05 | EUR      | 100.00        | 110.00     | PAID      |                     | true              | NEW
        O2       | C1          | 2026-01-06 | EUR      | 50.00         | 60.00      | SHIPPED   | 2026-01-09T10:00:00 | true              | NEW
        O3       | C2          | 2026-01-06 | GBP      | 20.00         | 30.00      | CANCELLED |                     | true              | NEW
        O4       | C2          | 2026-02-02 | USD      | 40.00         | 40.00      | PLACED    |                     | true              | NEW
        O5       | C9          | 2026-02-03 | JPY      | 1000.00       |            | PLACED    |                     | false             | NEW
        O6       | C9          | 2026-02-03 | USD      | 7.10          | 7.10       | PAID      |                     | false             | NEW
        O7       |             | 2026-01-20 | EUR      | 10.00         | 11.00      | PAID      |                     | false             | NEW
        O8       | C3          | 2026-02-10 | EUR      | 33.33         | 36.66      | SHIPPED   | 2026-02-12T08:00:00 | true              | NEW
        """,
    # O1 is there twice with one payload, O2 with two; the events of O3 are 300 microseconds apart, those of O4 a second.
    "silver.orders": """
        order_id | event_ts                   | status  | amount | event_month | _payload_hash | _run_id
        O1       | 2026-01-05T08:00:00.123456 | PLACED  | 100    | 2026-01     | a             | OLD
        O1       | 2026-01-05T08:00:00.123456 | PLACED  | 100    | 2026-01     | a             | NEW
        O2       | 2026-01-06T09:30:00.5      | PLACED  | 50     | 2026-01     | b             | NEW
        O2       | 2026-01-06T09:30:00.5      | PAID    | 50     | 2026-01     | c             | NEW
        O3       | 2026-01-06T10:00:00.0001   | PLACED  | 20     | 2026-01     | d             | NEW
        O3       | 2026-01-06T10:00:00.0004   | PAID    | 20     | 2026-01     | e             | NEW
        O4       | 2026-02-02T11:00:00        | PLACED  | 40     | 2026-02     | f             | NEW
        O4       | 2026-02-02T11:00:01        | PAID    | 40     | 2026-02     | g             | NEW
        """,
    "silver.fx_rates": """
        as_of_date | ccy
        2026-01-02 | JPY
        2026-01-27 | JPY
        2026-02-06 | JPY
        2026-02-06 | EUR
        """,
    "silver.vendor_shipments": """
        id | carrier | status     | shipped_at          | delivered_at
        V1 | DHL     | DELIVERED  | 2026-01-07T08:00:00 | 2026-01-09T10:00:00
        V2 | DHL     | DELIVERED  | 2026-02-11T20:00:00 | 2026-02-12T08:30:00
        V3 | DHL     | RETURNED   | 2026-01-08T00:00:00 |
        V4 | UPS     | IN_TRANSIT | 2026-02-01T00:00:00 |
        V5 |         | CREATED    |                     |
        """,
    "silver.hubspot_contacts": """
        id | modified_at
        H1 | 2026-02-01T12:00:00
        H2 | 2026-02-03T12:00:00.250
        """,
    "silver.salesforce_accounts": """
        id | modified_at
        C1 | 2026-01-31T00:00:00
        """,
    "silver.salesforce_leads": """
        id
        """,
    # 1 was refused by two rules, 2 fixed, 3 fixed and replayed, 4 open again after a replay; 5 is of another table.
    "ops.quarantine": """
        event_id | table_name              | status    | run_id | position | reasons                            | occurred_at         | ingest_date | step
        1a       | bronze.snowflake_orders | open      | OLD    | 0:1      | amount_not_negative: -1; status_known: LOST | 2026-02-09T06:10:00 | 2026-02-09 |
        2a       | bronze.snowflake_orders | open      | OLD    | 0:2      | status_known: GONE                 | 2026-02-09T06:10:00 | 2026-02-09 |
        2b       | bronze.snowflake_orders | fixed     | OLD    | 0:2      | status_known: GONE                 | 2026-02-09T09:00:00 | 2026-02-09 | 1
        3a       | bronze.snowflake_orders | open      | OLD    | 0:3      | status_known: ?                    | 2026-02-09T06:10:00 | 2026-02-09 |
        3b       | bronze.snowflake_orders | fixed     | OLD    | 0:3      | status_known: ?                    | 2026-02-09T09:00:00 | 2026-02-09 | 1
        3c       | bronze.snowflake_orders | replayed  | OLD    | 0:3      | status_known: ?                    | 2026-02-09T10:00:00 | 2026-02-09 | 2
        4a       | bronze.snowflake_orders | open      | NEW    | 0:1      | amount_not_negative: -5            | 2026-02-10T06:10:00 | 2026-02-10 |
        4b       | bronze.snowflake_orders | fixed     | NEW    | 0:1      | amount_not_negative: -5            | 2026-02-10T09:00:00 | 2026-02-10 | 1
        4c       | bronze.snowflake_orders | open      | NEW    | 0:1      | currency_known: XXX: not an ISO code | 2026-02-10T10:00:00.5 | 2026-02-10 | 2
        5a       | bronze.vendor_shipments | open      | NEW    | 0:1      | malformed: 3 of 9 fields           | 2026-02-10T06:12:00 | 2026-02-10  |
        6b       | bronze.kafka_orders     | discarded | NEW    | 0:7      | not_json: ends early               | 2026-02-10T09:00:00 | 2026-02-10 | 1
        6c       | bronze.kafka_orders     | fixed     | NEW    | 0:7      | not_json: ends early               | 2026-02-10T09:30:00 | 2026-02-10 | 2
        """,
    # What the stream refused: the first was discarded since.
    "ops.kafka_orders_dlq": """
        reasons              | _run_id | _position | _landed_at          | ingest_date
        not_json: ends early | NEW     | 0:7       | 2026-02-10T08:00:00 | 2026-02-10
        not_json: a tail     | NEW     | 0:8       | 2026-02-10T08:00:01 | 2026-02-10
        """,
    "ops.dq_verdicts": """
        verdict_id | table_name    | outcome | version | certified_run_ids | window_to           | created_at
        v1         | gold.dim_fx   | warned  | 7       |                   |                     | 2026-02-10T06:40:00
        v2         | silver.orders | passed  | 1       | OLD               | 2026-02-05T00:00:00 | 2026-02-05T06:20:00
        v3         | silver.orders | passed  | 2       | OLD               | 2026-02-06T00:00:00 | 2026-02-06T06:20:00
        v4         | silver.orders | passed  | 3       | OLD               | 2026-02-07T00:00:00 | 2026-02-07T06:20:00
        v5         | silver.orders | passed  | 4       | OLD               | 2026-02-08T00:00:00 | 2026-02-08T06:20:00
        v6         | silver.orders | failed  | 5       |                   |                     | 2026-02-09T06:20:00
        v7         | silver.orders | passed  | 6       | OLD; NEW          | 2026-02-10T00:00:00 | 2026-02-10T06:20:00.75
        """,
    # The first queries were asked between the runs of two days.
    "ops.job_runs": """
        run_id | job                  | status    | started_at              | finished_at             | seconds | error_code  | vcpu_hours | memory_gb_hours | cost_usd
        OLD    | snowflake_to_bronze  | succeeded | 2026-02-09T06:00:00     | 2026-02-09T06:01:00     | 60.04   |             | 0.100000   | 0.400000        | 0.010000
        OLD    | dq_check_bronze      | failed    | 2026-02-09T06:02:00     | 2026-02-09T06:02:20     | 20.5    | GATE_FAILED | 0.200000   | 0.800000        | 0.020000
        NEW    | athena               | succeeded | 2026-02-09T06:00:00     | 2026-02-10T06:00:00     | 900     |             |            |                 | 0.001000
        NEW    | snowflake_to_bronze  | succeeded | 2026-02-10T06:00:00     | 2026-02-10T06:01:31     | 90.96   |             | 0.150000   | 0.600000        | 0.015001
        NEW    | dq_check_bronze      | succeeded | 2026-02-10T06:02:00.125 | 2026-02-10T06:02:21.125 | 21      |             | 0.250000   | 1.000000        | 0.025000
        NEW    | silver_to_gold       | succeeded | 2026-02-10T06:30:00     | 2026-02-10T06:30:45     | 45      |             |            |                 |
        """,
    "ops.row_ledger": """
        run_id | job                 | table_name              | read | generated | inserted | updated | unchanged | quarantined | duplicates | superseded | conflicts | recorded_at
        OLD    | snowflake_to_bronze | bronze.snowflake_orders | 9    | 0         | 9        | 0       | 0         | 0           | 0          | 0          | 0         | 2026-02-09T06:40:00
        NEW    | snowflake_to_bronze | bronze.snowflake_orders | 10   | 0         | 6        | 0       | 0         | 2           | 2          | 0          | 0         | 2026-02-10T06:40:00
        NEW    | bronze_to_silver    | silver.fx_rates         | 4    | 1         | 3        | 1       | 1         | 0           | 0          | 0          | 0         | 2026-02-10T06:40:00
        NEW    | bronze_to_silver    | silver.orders           | 8    | 0         | 3        | 1       | 1         | 0           | 0          | 1          | 1         | 2026-02-10T06:40:00
        """,
    "ops.recovery_log": """
        run_id | action   | table_name    | requested_by | reason      | before_version | after_version | rows_added | rows_removed | rows_changed | recorded_at           | identity
        OLD    | rollback | silver.orders | anna         | a wrong day | 5              | 6             | 0          | 12           | 3            | 2026-02-09T12:00:00   |
        NEW    | discard  | silver.orders | ben          | sent twice  | 6              |               |            | 2            |              | 2026-02-10T12:00:00.5 | arn:aws:iam::123456789012:user/ben
        """,
}  # fmt: skip


def build(stack: Stack) -> None:
    """Write every table that the queries name, and register it as register_glue_tables does."""
    storage = storage_options(stack.exports)
    glue = stack.client("glue")
    for name, text in ROWS.items():
        contract = contracts.load(name)
        layer, table = name.split(".")
        location = f"s3://{LAKE_BUCKET}/{layer}/{table}"
        rows = arrow(contract, parse(text))
        new_delta(location, rows, storage, partition_by=list(contract.partition_by) or None)
        schema = json.loads(DeltaTable(location, storage_options=storage).schema().to_json())
        glue.create_table(
            DatabaseName=f"lakehouse_{layer}",
            TableInput=catalog.table_input(table, location, schema, contract.description),
        )


def parse(text: str) -> list[dict[str, str | None]]:
    header, *rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.strip()]
    return [{k: v or None for k, v in zip(header, row, strict=True)} for row in rows]


def arrow(contract: Contract, rows: list[dict[str, str | None]]) -> pa.Table:
    """The rows with the contract's types. A name that the contract does not have is a mistake of the lines above."""
    stray = {name for row in rows for name in row} - {column.name for column in contract.columns}
    assert not stray, f"{contract.name} has no {stray}"
    schema = pa.schema(
        [pa.field(c.name, arrow_type(c.type), nullable=not c.required) for c in contract.columns]
    )
    values: Mapping[str, list[Any]] = {
        c.name: [value(row.get(c.name), c.type, c.required) for row in rows] for c in contract.columns
    }
    return pa.table(values, schema=schema)


def arrow_type(kind: str) -> pa.DataType:
    if match := re.fullmatch(r"decimal\((\d+),(\d+)\)", kind):
        return pa.decimal128(int(match[1]), int(match[2]))
    return {
        "string": pa.string(),
        "binary": pa.binary(),
        "boolean": pa.bool_(),
        "int": pa.int32(),
        "bigint": pa.int64(),
        "double": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", "UTC"),
        "array<string>": pa.list_(pa.string()),
        "array<struct<key:string,value:binary>>": pa.list_(
            pa.struct([("key", pa.string()), ("value", pa.binary())])
        ),
    }[kind]


def value(text: str | None, kind: str, is_required: bool) -> Any:
    if kind == "array<string>":
        return [_full(each.strip()) for each in text.split(";")] if text else []
    if text is None:
        if not is_required:
            return None
        text = {"string": "-", "boolean": "false", "date": "2026-01-01", "timestamp": "2026-01-01"}.get(
            kind, "1"
        )
    if kind == "date":
        return dt.date.fromisoformat(text)
    if kind == "timestamp":
        return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
    if kind.startswith("decimal"):
        return Decimal(text)
    if kind == "boolean":
        return text == "true"
    return {"int": int, "bigint": int, "double": float, "string": _full}[kind](text)


def _full(text: str) -> str:
    return {"OLD": OLD, "NEW": NEW}.get(text, text)
