"""The daily DAG by `airflow dags test`, against the local EMR Serverless."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from local.days import AFTER, INGESTION

if TYPE_CHECKING:
    from tests.dags.conftest import Emr

JOBS = ("apply_contracts", *INGESTION, *AFTER, "emit_lineage_and_metrics", "status_page")


@pytest.fixture
def jobs(emr: Emr) -> Emr:
    from local import bootstrap

    bootstrap.ship(
        emr.stack
    )  # what changed in the tree is shipped before a DAG runs, and would take the place of these
    for job in JOBS:
        emr.job(job)
    emr.job("register_glue_tables", folder="scripts")
    return emr


def test_a_failed_gate_leaves_everything_after_it_unrun_and_is_told_of(jobs: Emr) -> None:
    from local.airflow_run import run

    jobs.job("dq_check_bronze", "fail('terminal', 'GATE_FAILED')")
    out = io.StringIO()

    result = run(jobs.stack, out=out)
    print(out.getvalue())

    states = {task.task_id: task.state for task in result.tasks}
    assert result.state == "failed"
    assert states.pop("dq_check_bronze") == "failed"
    unrun = [
        "bronze_to_silver",
        "dq_check_silver",
        "silver_to_gold",
        "register_glue_catalog",
    ]
    assert {task: states.pop(task) for task in unrun} == dict.fromkeys(unrun, "upstream_failed")
    assert {"emit_lineage_and_metrics", "publish_status_page"} <= set(states)
    assert set(states.values()) == {"success"}
