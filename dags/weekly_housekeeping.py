"""
### Weekly housekeeping

Sundays at 04:00 UTC: small or unordered files are rewritten where the Delta log's statistics say that it pays, and
files that the contract's retention has run out for are deleted.

| task | what it maintains | pool |
|---|---|---|
| `bronze` | Bronze tables; the stream's partition of the day is left alone | `bronze_writer` |
| `silver` | Silver tables whose newest version is the certified one | `silver_writer` |
| `gold` | Gold tables, unless a publication is not complete | `gold_writer` |
| `ops` | the tables of ops, the DLQ among them | |
| `leftovers` | what crashed tries landed, checkpoints of former streams | |
| `reconcile_ids` | compares all ids of contacts, accounts and leads with HubSpot and Salesforce | |

One after the other, and none waits for the success of another. What was done, and what was skipped and why, is in
`ops.maintenance_log`, and in the log of each task.

**When a task is red.** `COMMIT_CONFLICT`: another writer was faster at some table, and everything else is done; the
task is retried and repeats only that. Clearing a task goes on where it was.

**By hand.** With the parameter `table` (a dotted table, a layer, `landing` or `checkpoints`) only the task that
maintains it does anything, the others are skipped; `force` rewrites even where it does not pay; `mark_gone` marks what
a source purged as deleted, once `reconcile_ids` has named it. To be told only:
`scripts/emr_submit.sh delta_optimize_vacuum --table silver.orders --dry-run`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.exceptions import AirflowSkipException
from airflow.sdk import DAG, Param

from common import defaults, notices
from common.emr import LakehouseJobOperator

POOLS = {
    "bronze": defaults.BRONZE_POOL,
    "silver": defaults.SILVER_POOL,
    "gold": defaults.GOLD_POOL,
    "ops": None,
    "leftovers": None,
}
TARGETS = {"leftovers": ("landing", "checkpoints")}


def only_asked(context: Any) -> None:
    """Before each task: skip it where the run was asked for a table that another task maintains."""
    table, name = context["params"]["table"], context["ti"].task_id
    if table and table.split(".")[0] not in TARGETS.get(name, (name,)):
        raise AirflowSkipException(f"this run is for {table} alone")


with DAG(
    dag_id="weekly_housekeeping",
    description="OPTIMIZE, ZORDER and VACUUM where they pay and hurt nobody",
    doc_md=__doc__,
    schedule=defaults.schedule("0 4 * * 0"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    # The tasks are one job, told of different tables: its outcome has one place in a run.
    max_active_tasks=1,
    dagrun_timeout=timedelta(hours=13),
    default_args=defaults.default_args(),
    on_failure_callback=notices.run_timed_out,
    tags=["lakehouse", "weekly", "housekeeping"],
    params={
        "table": Param(
            None,
            type=["null", "string"],
            pattern=r"^((bronze|silver|gold|ops)(\.\w+)?|landing|checkpoints)$",
            title="Table",
            description="A dotted table, a layer, landing or checkpoints; empty for everything.",
        ),
        "force": Param(
            False,
            type="boolean",
            title="Rewrite in any case",
            description="Even where statistics say it does not pay.",
        ),
        "mark_gone": Param(
            False,
            type="boolean",
            title="Mark what is gone",
            description="reconcile_ids: mark what a source purged as deleted in the lake.",
        ),
    },
) as dag:
    for name, pool in POOLS.items():
        LakehouseJobOperator(
            task_id=name,
            job="delta_optimize_vacuum",
            entry_point="scripts/delta_optimize_vacuum.py",
            arguments=[
                *(
                    part
                    for target in TARGETS.get(name, (name,))
                    for part in ("--table", f"{{{{ params.table or '{target}' }}}}")
                ),
                "--{{ '' if params.force else 'no-' }}force",
            ],
            pre_execute=only_asked,
            execution_timeout=timedelta(hours=2),
            doc_md=f"Housekeeping of {name} (`scripts/delta_optimize_vacuum.py`).",
            **({"pool": pool} if pool else {}),
        )
    LakehouseJobOperator(
        task_id="reconcile_ids",
        job="reconcile",
        arguments=["--ids", "--{{ '' if params.mark_gone else 'no-' }}mark-gone"],
        pre_execute=only_asked,
        execution_timeout=timedelta(hours=2),
        doc_md="Finds records that the lake lacks and records that a source purged; names what closes the gap.",
    )
