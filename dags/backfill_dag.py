"""
### Backfill

A range of one source's own times, read again beside the daily run, in chunks of some days: each chunk is a run of its
own, landed, loaded, judged by the Bronze gate and recorded. What certified Bronze holds already counts as duplicates
and is not written; the next daily run takes what is new to Silver and Gold. No watermark moves.

| `source` | the days speak of |
|---|---|
| snowflake | the time of the order's event |
| hubspot, salesforce | the last change |
| kafka | when the broker received the record (mode batch only) |
| vendor | when the file came to the inbox |
| fx | the quotes' own day |

**When a task is red.** Of `backfill`, `COMMIT_CONFLICT`: a run is between load and gate, it is retried.
`GATE_FAILED`: the chunk that is named brought rows that break the contract; the chunks before it are certified. Trigger
again with the same `run_id` (it is in the log) to go on with the first chunk that is not certified.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param

from common import defaults, notices, run_ids
from common.emr import LakehouseJobOperator

with DAG(
    dag_id="backfill",
    description="A range of a source again, chunk by chunk, beside the daily run",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=13),
    default_args=defaults.default_args(),
    on_failure_callback=notices.run_timed_out,
    tags=["lakehouse", "backfill"],
    params={
        "source": Param(
            "snowflake",
            type="string",
            enum=["hubspot", "salesforce", "snowflake", "vendor", "fx", "kafka"],
            title="Source",
        ),
        "from": Param(type="string", format="date", title="First day", description="UTC."),
        "to": Param(type="string", format="date", title="Last day", description="UTC, included."),
        "chunk_days": Param(7, type="integer", minimum=1, title="Days of one run"),
        "dry_run": Param(
            False,
            type="boolean",
            title="Only show",
            description="Lands the range and says, by key, what Bronze would get; writes no table.",
        ),
        "run_id": Param(
            None,
            type=["null", "string"],
            pattern=run_ids.PATTERN.pattern,
            title="Go on with a backfill",
            description="The id of one that stopped; empty for a new one.",
        ),
    },
) as dag:
    LakehouseJobOperator(
        task_id="backfill",
        job="backfill",
        arguments=[
            "--source",
            "{{ params.source }}",
            "--from",
            "{{ params['from'] }}",
            "--to",
            "{{ params['to'] }}",
            "--chunk-days",
            "{{ params.chunk_days }}",
            "--{{ '' if params.dry_run else 'no-' }}dry-run",
        ],
        pool=defaults.INGEST_POOL,
        execution_timeout=timedelta(hours=12),
        doc_md="Reads the range again, chunk by chunk (`jobs/backfill.py`).",
    )
