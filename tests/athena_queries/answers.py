"""What the sample queries must answer about the rows of lake.py, worked out by hand; the same on every engine."""
# ruff: noqa: E501 -- tables, laid out for the reader

from __future__ import annotations

from tests.athena_queries.lake import NEW, OLD

# Values as Athena prints them; empty: null.
ANSWERS = {
    "gold_tables": """
        table_name    | row_count | publications | latest_publication
        dim_customers | 4         | 1            | NEW
        dim_fx        | 7         | 2            | NEW
        fact_orders   | 8         | 1            | NEW
        """,
    "newest_data": """
        table_name          | row_count | newest
        fx_rates            | 4         | 2026-02-06 00:00:00.000
        hubspot_contacts    | 2         | 2026-02-03 12:00:00.250
        orders              | 8         | 2026-02-02 11:00:01.000
        salesforce_accounts | 1         | 2026-01-31 00:00:00.000
        salesforce_leads    | 0         |
        vendor_shipments    | 5         | 2026-02-12 08:30:00.000
        """,
    "orders_by_status": """
        status    | orders | usd
        CANCELLED | 1      | 30.00
        PAID      | 3      | 128.10
        PLACED    | 2      | 40.00
        SHIPPED   | 2      | 96.66
        """,
    "revenue_by_month": """
        month   | orders | usd    | usd_per_order | unpriced
        2026-01 | 3      | 181.00 | 60.33         | 0
        2026-02 | 4      | 83.76  | 27.92         | 1
        """,
    "revenue_by_currency": """
        currency | orders | amount_native | usd    | lowest_rate    | highest_rate
        EUR      | 4      | 193.33        | 217.66 | 1.100000000000 | 1.200000000000
        USD      | 2      | 47.10         | 47.10  | 1.000000000000 | 1.000000000000
        JPY      | 1      | 1000.00       |        |                |
        """,
    "revenue_by_country": """
        country   | customers | orders | usd    | share
        DE        | 1         | 2      | 170.00 | 64.2
        (unknown) | 2         | 4      | 54.76  | 20.7
        FR        | 1         | 1      | 40.00  | 15.1
        """,
    "top_customers": """
        id | name  | country | industry | contacts | orders | usd    | last_order
        C1 | Acme  | DE      | Energy   | 3        | 2      | 170.00 | 2026-01-06
        C2 | Birch | FR      | Retail   | 0        | 1      | 40.00  | 2026-02-02
        C3 | Cedar |         | Retail   | 1        | 1      | 36.66  | 2026-02-10
        """,
    "shipments_by_carrier": """
        carrier_name | shipments | delivered | returned | hours
        DHL          | 3         | 2         | 1        | 31.3
        (unknown)    | 1         | 0         | 0        |
        UPS          | 1         | 0         | 0        |
        """,
    "duplicate_order_events": """
        order_id | event_time              | events | payloads | runs
        O1       | 2026-01-05 08:00:00.123 | 2      | 1        | 2
        O2       | 2026-01-06 09:30:00.500 | 2      | 2        | 1
        O3       | 2026-01-06 10:00:00.000 | 2      | 2        | 1
        """,
    "one_publication": """
        fact_orders | dim_customers | dim_fx | orders | one_publication
        NEW         | NEW           | OLD    | 1      | false
        NEW         | NEW           | NEW    | 3      | true
        NEW         | NEW           |        | 1      | true
        NEW         |               | NEW    | 3      | true
        """,
    "unknown_customers": """
        customer | orders | usd   | first_order | last_order
        C9       | 2      | 7.10  | 2026-02-03  | 2026-02-03
        (none)   | 1      | 11.00 | 2026-01-20  | 2026-01-20
        """,
    "unpriced_orders": """
        order_date | currency | orders | amount_native | latest_quote
        2026-02-03 | JPY      | 1      | 1000.00       | 2026-01-27
        """,
    "open_quarantine": """
        table_name              | rule                | refused | oldest
        bronze.kafka_orders     | not_json            | 1       | 2026-02-10 08:00:01.000
        bronze.snowflake_orders | amount_not_negative | 1       | 2026-02-09 06:10:00.000
        bronze.snowflake_orders | currency_known      | 1       | 2026-02-10 10:00:00.500
        bronze.snowflake_orders | status_known        | 1       | 2026-02-09 06:10:00.000
        bronze.vendor_shipments | malformed           | 1       | 2026-02-10 06:12:00.000
        """,
    "latest_verdicts": """
        table_name    | nth | outcome | version | certified_runs | certified_up_to         | judged_at
        gold.dim_fx   | 1   | warned  | 7       | 0              |                         | 2026-02-10 06:40:00.000
        silver.orders | 1   | passed  | 6       | 2              | 2026-02-10 00:00:00.000 | 2026-02-10 06:20:00.750
        silver.orders | 2   | failed  | 5       | 0              |                         | 2026-02-09 06:20:00.000
        silver.orders | 3   | passed  | 4       | 1              | 2026-02-08 00:00:00.000 | 2026-02-08 06:20:00.000
        silver.orders | 4   | passed  | 3       | 1              | 2026-02-07 00:00:00.000 | 2026-02-07 06:20:00.000
        silver.orders | 5   | passed  | 2       | 1              | 2026-02-06 00:00:00.000 | 2026-02-06 06:20:00.000
        """,
    "latest_jobs": """
        job                 | status    | took_seconds | error_code  | started                 | run_id
        silver_to_gold      | succeeded | 45.0         |             | 2026-02-10 06:30:00.000 | NEW
        dq_check_bronze     | succeeded | 21.0         |             | 2026-02-10 06:02:00.125 | NEW
        snowflake_to_bronze | succeeded | 91.0         |             | 2026-02-10 06:00:00.000 | NEW
        dq_check_bronze     | failed    | 20.5         | GATE_FAILED | 2026-02-09 06:02:00.000 | OLD
        snowflake_to_bronze | succeeded | 60.0         |             | 2026-02-09 06:00:00.000 | OLD
        """,
    "row_ledger": """
        table_name              | read | generated | inserted | updated | unchanged | quarantined | duplicates | superseded | conflicts | balanced | run_id
        bronze.snowflake_orders | 10   | 0         | 6        | 0       | 0         | 2           | 2          | 0          | 0         | true     | NEW
        silver.fx_rates         | 4    | 1         | 3        | 1       | 1         | 0           | 0          | 0          | 0         | true     | NEW
        silver.orders           | 8    | 0         | 3        | 1       | 1         | 0           | 0          | 1          | 1         | false    | NEW
        """,
    "cost_by_job": """
        job                 | runs | failed | longest_seconds | vcpu_hours | memory_gb_hours | usd      | unbilled
        dq_check_bronze     | 2    | 1      | 21.0            | 0.450000   | 1.800000        | 0.045000 | 0
        snowflake_to_bronze | 2    | 0      | 91.0            | 0.250000   | 1.000000        | 0.025001 | 0
        athena              | 1    | 0      |                 |            |                 | 0.001000 | 0
        silver_to_gold      | 1    | 0      | 45.0            |            |                 |          | 1
        """,
    "cost_by_day": """
        ended_on   | job_runs | usd      | dearest_job     | dearest_usd
        2026-02-10 | 3        | 0.041001 | dq_check_bronze | 0.025000
        2026-02-09 | 2        | 0.030000 | dq_check_bronze | 0.020000
        """,
    "recoveries": """
        recorded                | action   | table_name    | requested_by | reason      | before_version | after_version | rows_added | rows_removed | rows_changed
        2026-02-10 12:00:00.500 | discard  | silver.orders | ben          | sent twice  | 6              |               |            | 2            |
        2026-02-09 12:00:00.000 | rollback | silver.orders | anna         | a wrong day | 5              | 6             | 0          | 12           | 3
        """,
    "kpi_overview": """
        orders | customers | usd    | usd_per_order | cancelled_share | delivered_share | unpriced_share | unknown_customer_share
        8      | 4         | 264.76 | 44.13         | 12.5            | 25.0            | 12.5           | 37.5
        """,
    "kpi_by_day": """
        order_date | orders | customers | usd    | usd_of_seven_days
        2026-02-10 | 1      | 1         | 36.66  | 36.66
        2026-02-03 | 2      | 1         | 7.10   | 47.10
        2026-02-02 | 1      | 1         | 40.00  | 40.00
        2026-01-20 | 1      | 0         | 11.00  | 11.00
        2026-01-06 | 1      | 1         | 60.00  | 170.00
        2026-01-05 | 1      | 1         | 110.00 | 110.00
        """,
}  # fmt: skip


def answer(name: str) -> tuple[list[str], list[list[str | None]]]:
    """Columns and rows."""
    short = {"OLD": OLD, "NEW": NEW}
    columns, *rows = [
        [cell.strip() for cell in line.split("|")] for line in ANSWERS[name].splitlines() if line.strip()
    ]
    return columns, [[short.get(cell, cell) or None for cell in row] for row in rows]
