"""
### Catalog and data quality

On demand, above all after a change of a contract: bring the tables to their contracts, hold the rules against all that
is certified again, register the tables in Glue.

| task | what it does | what stops it |
|---|---|---|
| `apply_contracts` | brings live tables to their contracts, additive columns only | anything else |
| `dq_recheck` | every rule against all certified rows; writes nothing, certifies nothing | a broken critical rule |
| `register_glue_catalog` | makes the tables visible to Athena | |

Trigger with `{"table": "silver.orders"}`, or with a layer, to look at and register only that; contracts are applied to
all tables. Readers keep what was certified, whatever is found here.

**When a task is red.** Its log ends with `CODE: what happened — what to do`. Of `dq_recheck`, `WATCH_ALARM` names the
rules that certified rows break: a rule that is new or stricter, or a table that was changed by hand.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param, chain

from common import defaults, notices
from common.emr import LakehouseJobOperator

with DAG(
    dag_id="catalog_and_dq",
    description="Contracts, rules over certified data, and the catalog, on demand",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=defaults.default_args(),
    on_failure_callback=notices.run_timed_out,
    tags=["lakehouse", "quality", "catalog"],
    params={
        "table": Param(
            "all",
            type="string",
            pattern=r"^(all|(bronze|silver|gold)(\.[a-z][a-z0-9_]*)?)$",
            title="Which tables",
            description="all, a layer, or a dotted table such as silver.orders",
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
    dq_recheck = LakehouseJobOperator(
        task_id="dq_recheck",
        job="dq_recheck",
        arguments=["--table", "{{ params.table }}"],
        execution_timeout=timedelta(hours=1),
        doc_md="Holds the contracts' rules against all certified rows; one table by hand: `scripts/run_ge_checks.py`.",
    )
    register_glue_catalog = LakehouseJobOperator(
        task_id="register_glue_catalog",
        job="register_glue_tables",
        entry_point="scripts/register_glue_tables.py",
        arguments=["--db", "{{ params.table.split('.')[0] }}"],
        pool=defaults.GOLD_POOL,
        execution_timeout=timedelta(minutes=15),
        doc_md="Registers Delta tables in Glue as Athena needs them.",
    )

    chain(apply_contracts, dq_recheck, register_glue_catalog)
