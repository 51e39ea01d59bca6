"""
### Watchdog

At 03:00, 09:00, 15:00 and 21:00 UTC, whatever the daily run does: one look at the whole lake.

| looked at | critical where |
|---|---|
| certification | no gate has certified a Bronze or Silver table for its frequency and two hours |
| freshness, rules | certified rows break a rule of their contract that stops, or Gold is later than promised |
| ledger | a run's rows do not balance, or quarantine holds other rows than were counted |
| publication, replay | one was begun six hours ago and is not complete |
| erasure | a person who was erased is in Bronze again: a source still had them |
| stream | in mode stream: no sign of life for 15 minutes, or 100,000 records behind |
| volume, quarantine | never: warnings |

Every finding is a row of `ops.watch_findings` with the command that helps; the task's log has them, too, and how many
there were in the last seven days and in the seven before. Critical ones turn `watch` red after all are written, and the
notice says what to do.

`reconcile` compares orders with Snowflake for each of the last 35 days, number and sum, and writes
`ops.reconciliations`; where they differ it turns red (`SOURCE_DIFFERS`) and names the backfill that closes the gap:
the DAG `backfill`, or the command by hand.

**When a task is red.** `WATCH_ALARM`: its text names the table, what was found, and the next step. Anything else is a
failure of the watchdog itself. It changes no data: clearing it looks again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from common import defaults, notices
from common.emr import LakehouseJobOperator

with DAG(
    dag_id="dq_watchdog",
    description="What needs a person, every six hours and independent of the daily run",
    doc_md=__doc__,
    schedule=defaults.schedule("0 3,9,15,21 * * *"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=defaults.default_args(),
    on_failure_callback=notices.run_timed_out,
    tags=["lakehouse", "watchdog", "quality"],
) as dag:
    LakehouseJobOperator(
        task_id="watch",
        job="dq_watchdog",
        execution_timeout=timedelta(hours=1),
        doc_md="Looks at tables, verdicts and what was begun; writes findings, fails where one is critical.",
    )
    LakehouseJobOperator(
        task_id="reconcile",
        job="reconcile",
        execution_timeout=timedelta(hours=1),
        doc_md="Compares each day's orders with the source; a difference fails with the backfill that closes it.",
    )
