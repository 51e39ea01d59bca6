"""
### Daily batch pipeline

Every day at 06:00 UTC: six sources into Bronze, a quality gate, Silver, a second gate, Gold, then the Glue catalog
and lineage.

| step | what it does | what stops it |
|---|---|---|
| `apply_contracts` | brings live tables to their contracts, additive columns only | anything else |
| `ingest_*` | one source each: landing files, then Bronze | a missing column, a wrong type throughout |
| `dq_check_bronze` | judges and certifies what is new | too many rejected rows, a broken set rule |
| `bronze_to_silver` | merges certified Bronze only | no passing verdict of this run |
| `dq_check_silver` | judges and certifies Silver | as above |
| `silver_to_gold` | publishes dimensions, facts and the marker together | no passing verdict of this run |
| `register_glue_catalog` | makes the tables visible to Athena | |
| `emit_lineage_and_metrics` | row counts, cost and lineage of the run | nothing: a failed run is told of, too |
| `publish_status_page` | the run as a page: `reports/status/latest.html` | nothing |

The last two are teardowns: they run however the run ended, and their own failure is red, sends its notice and leaves
the run's state alone.

**When a task is red.** Its log ends with `CODE: what happened — what to do`. A failure that a retry cannot heal is not
retried; after the cause is removed, clear the task (`Clear`, downstream included): all tasks and tries of a run
share one run id, so whatever was done already is recognised and not done twice.

**Repeating an earlier run.** Trigger with `{"run_id": "<YYYYMMDDTHHMMSSZ-uuid>"}`: its landing files are loaded
again and no source is asked.

**Pools** (`dags/common/pools.json`): `emr_ingest`, and one single-slot pool per layer that other DAGs write too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param, chain

from common import defaults, notices, run_ids
from common.emr import LakehouseJobOperator

INGESTION = {
    "ingest_hubspot": "hubspot_to_bronze",
    "ingest_salesforce": "salesforce_to_bronze",
    "ingest_snowflake_orders": "snowflake_to_bronze",
    "ingest_vendor_shipments": "vendor_to_bronze",
    "ingest_fx_rates": "fx_to_bronze",
    "ingest_kafka_orders": "kafka_orders_to_bronze",
}

with DAG(
    dag_id="daily_batch_pipeline",
    description="Six sources to Gold, through two quality gates",
    doc_md=__doc__,
    schedule=defaults.schedule("0 6 * * *"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=5),
    default_args=defaults.default_args(),
    on_failure_callback=notices.run_timed_out,
    tags=["lakehouse", "daily", "batch"],
    params={
        "run_id": Param(
            None,
            type=["null", "string"],
            pattern=run_ids.PATTERN.pattern,
            title="Repeat a run",
            description="The id of an earlier run to repeat; empty for a new one.",
        )
    },
) as dag:
    apply_contracts = LakehouseJobOperator(
        task_id="apply_contracts",
        job="apply_contracts",
        pool=defaults.BRONZE_POOL,
        execution_timeout=timedelta(minutes=15),
        doc_md="Applies additive contract changes to live tables; anything else is a named migration or a refusal.",
    )
    ingestion = [
        LakehouseJobOperator(
            task_id=task_id,
            job=job,
            pool=defaults.INGEST_POOL,
            execution_timeout=timedelta(minutes=60),
            doc_md=f"Reads one window of the source into landing files and loads them to Bronze (`jobs/{job}.py`).",
        )
        for task_id, job in INGESTION.items()
    ]
    dq_check_bronze = LakehouseJobOperator(
        task_id="dq_check_bronze",
        job="dq_check_bronze",
        pool=defaults.BRONZE_POOL,
        execution_timeout=timedelta(minutes=30),
        doc_md="Gate: judges what is not yet certified and certifies it, or stops the run.",
    )
    bronze_to_silver = LakehouseJobOperator(
        task_id="bronze_to_silver",
        job="bronze_to_silver",
        pool=defaults.SILVER_POOL,
        execution_timeout=timedelta(minutes=60),
        doc_md="Merges certified Bronze runs into Silver by key; refuses without a verdict of this run.",
    )
    dq_check_silver = LakehouseJobOperator(
        task_id="dq_check_silver",
        job="dq_check_silver",
        pool=defaults.SILVER_POOL,
        execution_timeout=timedelta(minutes=30),
        doc_md="Gate: as for Bronze. If data quality fails, Gold is not updated.",
    )
    silver_to_gold = LakehouseJobOperator(
        task_id="silver_to_gold",
        job="silver_to_gold",
        pool=defaults.GOLD_POOL,
        execution_timeout=timedelta(minutes=60),
        doc_md="Publishes dimensions, then facts, then the marker; an interrupted publication is replayed first.",
    )
    register_glue_catalog = LakehouseJobOperator(
        task_id="register_glue_catalog",
        job="register_glue_tables",
        entry_point="scripts/register_glue_tables.py",
        arguments=["--db", "all"],
        pool=defaults.GOLD_POOL,
        execution_timeout=timedelta(minutes=15),
        doc_md="Registers every Delta table in Glue as Athena needs it.",
    )
    emit_lineage_and_metrics = LakehouseJobOperator(
        task_id="emit_lineage_and_metrics",
        job="emit_lineage_and_metrics",
        execution_timeout=timedelta(minutes=15),
        doc_md="Row counts, age and cost to CloudWatch and into ops, of a failed run as well.",
    ).as_teardown()
    publish_status_page = LakehouseJobOperator(
        task_id="publish_status_page",
        job="status_page",
        execution_timeout=timedelta(minutes=10),
        doc_md="One HTML page of the run, for people; most wanted when it failed.",
    ).as_teardown()

    chain(
        apply_contracts,
        ingestion,
        dq_check_bronze,
        bronze_to_silver,
        dq_check_silver,
        silver_to_gold,
        register_glue_catalog,
        emit_lineage_and_metrics,
        publish_status_page,
    )
