"""What the daily DAG promises: its shape, its schedule, its limits."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.dags.conftest import DAGS

INGESTION = {
    "ingest_hubspot",
    "ingest_salesforce",
    "ingest_snowflake_orders",
    "ingest_vendor_shipments",
    "ingest_fx_rates",
    "ingest_kafka_orders",
}
AFTER = [
    "dq_check_bronze",
    "bronze_to_silver",
    "dq_check_silver",
    "silver_to_gold",
    "register_glue_catalog",
    "emit_lineage_and_metrics",
    "publish_status_page",
]


@pytest.fixture(scope="module")
def dag() -> Any:
    from airflow.models.dagbag import DagBag

    bag = DagBag(str(DAGS), include_examples=False)
    assert bag.import_errors == {}
    return bag.dags["daily_batch_pipeline"]


def test_edges(dag: Any) -> None:
    expected = {"apply_contracts": INGESTION} | {key: {AFTER[0]} for key in INGESTION}
    expected |= {one: {other} for one, other in itertools.pairwise(AFTER)} | {AFTER[-1]: set()}
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == expected


def test_no_task_runs_after_a_failure_but_those_that_tell_of_the_run_and_decide_nothing(dag: Any) -> None:
    rules = {task.task_id: str(task.trigger_rule) for task in dag.tasks if not task.is_teardown}
    assert set(rules.values()) == {"all_success"}
    telling = [task for task in dag.tasks if task.is_teardown]
    assert [task.task_id for task in telling] == ["emit_lineage_and_metrics", "publish_status_page"]
    assert not any(task.on_failure_fail_dagrun or task.is_setup for task in telling)


def test_schedule(dag: Any) -> None:
    assert dag.timetable.summary == "0 6 * * *"
    assert dag.timezone.name == "UTC"
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.start_date == datetime(2025, 1, 1, tzinfo=UTC)


def test_owner_tags_and_documentation(dag: Any) -> None:
    assert dag.owner == "data-platform"
    assert set(dag.tags) >= {"lakehouse", "daily"}
    assert "When a task is red" in dag.doc_md
    assert [task.task_id for task in dag.tasks if not task.doc_md] == []
    documented = {task.task_id for task in dag.tasks if f"`{task.task_id}`" in dag.doc_md}
    assert documented == {task.task_id for task in dag.tasks} - INGESTION


def test_every_task_has_a_timeout_and_the_run_has_time_for_all_of_them(dag: Any) -> None:
    timeouts = {task.task_id: task.execution_timeout for task in dag.tasks}
    assert None not in timeouts.values()
    longest = max(timeouts[task] for task in INGESTION)
    path = sum((timeouts[task] for task in ["apply_contracts", *AFTER]), longest)
    assert path <= dag.dagrun_timeout <= timedelta(hours=6)


def test_waiting_for_a_job_lasts_as_long_as_the_task_may(dag: Any) -> None:
    for task in dag.tasks:
        assert task.waiter_delay * task.waiter_max_attempts >= task.execution_timeout.total_seconds()
        assert task.config["executionTimeoutMinutes"] * 60 >= task.execution_timeout.total_seconds()


def test_retries(dag: Any) -> None:
    for task in dag.tasks:
        assert task.retries == 2
        assert task.retry_delay > timedelta(0)
        assert task.retry_exponential_backoff


def test_a_failure_is_told_to_somebody(dag: Any) -> None:
    assert [task.task_id for task in dag.tasks if not task.on_failure_callback] == []
    assert dag.on_failure_callback


def test_pools_are_those_the_deployment_creates(dag: Any) -> None:
    created = json.loads((DAGS / "common" / "pools.json").read_text())
    pools = {task.task_id: task.pool for task in dag.tasks}
    assert set(pools.values()) <= {*created, "default_pool"}
    assert {pools[task] for task in INGESTION} == {"emr_ingest"}
    for task, pool in {"bronze_to_silver": "silver_writer", "silver_to_gold": "gold_writer"}.items():
        assert (pools[task], created[pool]["slots"]) == (pool, 1)


def test_every_task_runs_a_job_that_exists(dag: Any) -> None:
    for task in dag.tasks:
        key = task.job_driver["sparkSubmit"]["entryPoint"].removeprefix("s3://{{ setting('CODE_BUCKET') }}/")
        assert (DAGS.parent / key).is_file(), f"{task.task_id} runs {key}"


def test_only_the_kafka_job_carries_the_kafka_jars(dag: Any) -> None:
    assert {task.task_id: task.jar_sets for task in dag.tasks if task.jar_sets} == {
        "ingest_kafka_orders": ("kafka",)
    }


@pytest.mark.parametrize("run_id", ["", "yesterday", "20260101T060000Z-1234"])
def test_a_run_id_to_repeat_must_look_like_one(dag: Any, run_id: str) -> None:
    from airflow.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dag.params.get_param("run_id").resolve(run_id)


def test_a_run_id_to_repeat_is_optional(dag: Any) -> None:
    param = dag.params.get_param("run_id")
    assert param.resolve(None) is None
    known = "20260101T060000Z-0bf60b1d-a1d7-5a66-b9f4-a406b8143c98"
    assert param.resolve(known) == known
