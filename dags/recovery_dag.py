"""
### Recovery

`scripts/recover.py` by Airflow, for whoever may trigger DAGs and has no shell: one command, dry unless `apply` is set.
It runs when it is triggered and at no other time; what it found is in the log of the task, as notes.

Trigger it as it is (`status`), look, then e.g. with `{"action": "restore-silver", "table": "silver.orders"}`:

| to | `action` | and |
|---|---|---|
| run a failed job again | `rerun` | `job`, `run` |
| take a refused run in as it is | `recertify` | `table`, `run`, `accept` |
| take a run out; its window comes again | `discard` | `table`, `run`, `with_dependents` |
| make Silver anew from Bronze | `restore-silver` | `table`; `reload`, `run` |
| make a table with missing or broken objects readable | `repair` | `table` |
| publish Silver anew | `rebuild-gold` | |
| go back to a certified version | `rollback` | `table`, `version` or `time`; `with_dependents` |
| finish a publication that was cut off | `complete-publication` | |
| put a broken checkpoint of the stream aside | `recover-checkpoint` | `topic` |
| erase a person | `erase` | `subject` |

and, when the dry run says what you want, the same with `"apply": true, "by": "<your name>", "why": "<reason>"`. `run`
and `accept` take several, separated by spaces.

A red task's log ends with `CODE: what happened — what to do`. It is not tried again by itself. One that was killed is
repeated by clearing it, or with its own id in `run_id`: what it had done is recognised. Every applied recovery leaves
rows in `ops.recovery_log`. The commands in detail: docs/recovery.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param

from common import defaults, notices, run_ids
from common.emr import LakehouseJobOperator

ACTIONS = [
    "status",
    "rerun",
    "recertify",
    "discard",
    "restore-silver",
    "repair",
    "rebuild-gold",
    "rollback",
    "complete-publication",
    "recover-checkpoint",
    "erase",
]


def _text(title: str, description: str, **more: str) -> Param:
    return Param(None, type=["null", "string"], title=title, description=description, **more)


def _flag(title: str, description: str) -> Param:
    return Param(False, type="boolean", title=title, description=description)


with DAG(
    dag_id="recovery",
    description="One recovery command, dry unless applied",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    default_args=defaults.default_args(),
    on_failure_callback=notices.run_timed_out,
    tags=["lakehouse", "recovery"],
    params={
        "action": Param("status", type="string", enum=ACTIONS, title="What to do"),
        "apply": _flag("Do it", "Without it, only what would be done is said."),
        "by": _text("Who", "Who does it; needed to apply."),
        "why": _text("Why", "What others will understand in a year; needed to apply."),
        "table": _text("Table", "Dotted, e.g. silver.orders."),
        "run": _text("Run", "The run to work on; several separated by spaces."),
        "accept": _text(
            "Rules to accept", "recertify: critical rules that do not hold, separated by spaces."
        ),
        "version": Param(
            None, type=["null", "integer"], title="Version", description="rollback: to this version."
        ),
        "time": _text("Time", "rollback: to what was certified or published then, ISO 8601 (UTC)."),
        "job": _text("Job", "rerun: e.g. snowflake_to_bronze."),
        "topic": _text("Topic", "recover-checkpoint: the stream's topic."),
        "subject": _text("Person", "erase: hubspot:<contact id> or salesforce:<account or lead id>."),
        "reload": _flag("Load Bronze again", "restore-silver: first load the runs again from their landing."),
        "with_dependents": _flag(
            "With dependents",
            "discard: make Silver anew without the run; rollback of Silver: publish Gold anew.",
        ),
        "run_id": _text(
            "Repeat a recovery",
            "The id of a recovery that was killed; empty for a new one.",
            pattern=run_ids.PATTERN.pattern,
        ),
    },
) as dag:
    LakehouseJobOperator(
        task_id="recover",
        job="recover",
        entry_point="scripts/recover.py",
        arguments=["from-params", "{{ dict(params) | tojson }}"],
        # Most of it writes Silver; what writes Bronze or Gold as well is kept apart from others by the log store.
        pool=defaults.SILVER_POOL,
        retries=0,
        execution_timeout=timedelta(hours=3),
        doc_md="Runs `scripts/recover.py` with the parameters of this DAG run.",
    )
