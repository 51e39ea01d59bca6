"""What the DAGs of operations promise: their shapes, their schedules, their limits."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from local.runbook_check import command_problems
from tests.dags.conftest import DAGS

SCHEDULES = {
    "backfill": None,
    "catalog_and_dq": None,
    "dq_watchdog": "0 3,9,15,21 * * *",
    "weekly_housekeeping": "0 4 * * 0",
}


@pytest.fixture(scope="module")
def bag() -> Any:
    from airflow.models.dagbag import DagBag

    bag = DagBag(str(DAGS), include_examples=False)
    assert bag.import_errors == {}
    return bag


@pytest.fixture(params=SCHEDULES)
def dag(bag: Any, request: pytest.FixtureRequest) -> Any:
    return bag.dags[request.param]


def entry_point(task: Any) -> str:
    submit: str = task.job_driver["sparkSubmit"]["entryPoint"]
    return submit.removeprefix("s3://{{ setting('CODE_BUCKET') }}/")


def own_arguments(task: Any) -> list[str]:
    """What a task tells its job beyond what every job is told."""
    told: list[str] = task.job_driver["sparkSubmit"]["entryPointArguments"]
    return told[told.index("{{ job_name }}") + 1 :]


def test_schedule(dag: Any) -> None:
    assert dag.timetable.summary == (SCHEDULES[dag.dag_id] or "None")
    assert dag.timezone.name == "UTC"
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.start_date == datetime(2025, 1, 1, tzinfo=UTC)


def test_owner_tags_documentation_and_notices(dag: Any) -> None:
    assert dag.owner == "data-platform"
    assert "lakehouse" in dag.tags
    assert "When a task is red" in dag.doc_md
    assert [task.task_id for task in dag.tasks if not (task.doc_md and task.on_failure_callback)] == []
    assert [task.task_id for task in dag.tasks if f"`{task.task_id}`" not in dag.doc_md] == []
    assert dag.on_failure_callback


def test_a_run_has_time_for_its_tasks_one_after_the_other(dag: Any) -> None:
    times = [task.execution_timeout for task in dag.tasks]
    assert sum(times, timedelta()) <= dag.dagrun_timeout


def test_pools_are_those_the_deployment_creates(dag: Any) -> None:
    created = json.loads((DAGS / "common" / "pools.json").read_text())
    assert {task.pool for task in dag.tasks} <= {*created, "default_pool"}


def test_every_task_runs_a_job_that_exists(dag: Any) -> None:
    assert [task.task_id for task in dag.tasks if not (DAGS.parent / entry_point(task)).is_file()] == []


def test_housekeeping_takes_the_pool_of_the_layer_and_one_task_at_a_time(bag: Any) -> None:
    dag = bag.dags["weekly_housekeeping"]
    assert {task.task_id: task.pool for task in dag.tasks} == {
        "bronze": "bronze_writer",
        "silver": "silver_writer",
        "gold": "gold_writer",
        "ops": "default_pool",
        "leftovers": "default_pool",
        "reconcile_ids": "default_pool",
    }
    assert dag.max_active_tasks == 1
    assert {task.task_id for task in dag.tasks if task.upstream_task_ids} == set(), (
        "none waits for another's success"
    )


def test_housekeeping_leaves_nothing_out(bag: Any) -> None:
    from lakehouse.flows.maintain import targets

    tasks = bag.dags["weekly_housekeeping"].tasks
    told = [rendered(task, {}) for task in tasks if task.job == "delta_optimize_vacuum"]
    assert {each for arguments in told for each in arguments[::2]} == {"--table", "--no-force"}
    named = [each for arguments in told for each in arguments[1::2]]
    tables, folders = targets(named)
    assert (set(tables), set(folders)) == tuple(map(set, targets(None)))


def rendered(task: Any, params: dict[str, Any]) -> list[str]:
    """What a run with these parameters tells its job."""
    import jinja2

    given = task.dag.params.dump() | params
    return [jinja2.Environment().from_string(each).render(params=given) for each in own_arguments(task)]


def test_housekeeping_understands_its_parameters(bag: Any) -> None:
    dag = bag.dags["weekly_housekeeping"]
    params = {"table": "silver.orders", "force": True, "mark_gone": True}
    for given in ({}, params):
        for task in dag.tasks:
            assert command_problems([entry_point(task), *rendered(task, given)]) == []
    assert rendered(dag.get_task("silver"), params) == ["--table", "silver.orders", "--force"]
    assert rendered(dag.get_task("reconcile_ids"), {}) == ["--ids", "--no-mark-gone"]
    assert rendered(dag.get_task("reconcile_ids"), params) == ["--ids", "--mark-gone"]


@pytest.mark.parametrize(
    ("table", "runs"),
    [
        (None, {"bronze", "silver", "gold", "ops", "leftovers", "reconcile_ids"}),
        ("silver.orders", {"silver"}),
        ("ops", {"ops"}),
        ("landing", {"leftovers"}),
    ],
)
def test_housekeeping_of_one_table_skips_all_others(bag: Any, table: str | None, runs: set[str]) -> None:
    from airflow.exceptions import AirflowSkipException

    dag, ran = bag.dags["weekly_housekeeping"], set()
    for task in dag.tasks:
        with contextlib.suppress(AirflowSkipException):
            asked = dag.params.dump() | {"table": table}
            task._pre_execute_hook({"params": asked, "ti": SimpleNamespace(task_id=task.task_id)})
            ran.add(task.task_id)
    assert ran == runs


def test_the_watchdog_waits_for_no_pool(bag: Any) -> None:
    tasks = bag.dags["dq_watchdog"].tasks
    assert {task.task_id: task.pool for task in tasks} == {
        "watch": "default_pool",
        "reconcile": "default_pool",
    }
    assert [own_arguments(task) for task in tasks] == [[], []]


def test_a_backfill_is_told_its_days_and_shares_the_ingests_slots(bag: Any) -> None:
    (task,) = bag.dags["backfill"].tasks
    params = {"source": "fx", "from": "2026-01-01", "to": "2026-01-31", "chunk_days": 10, "dry_run": False}
    days = ["--source", "fx", "--from", "2026-01-01", "--to", "2026-01-31", "--chunk-days", "10"]
    given = own_arguments(task)
    assert task.render_template(given, {"params": params}) == [*days, "--no-dry-run"]
    assert task.render_template(given, {"params": params | {"dry_run": True}}) == [*days, "--dry-run"]
    assert (task.pool, task.jar_sets) == ("emr_ingest", ("kafka",))


def test_rules_are_rechecked_between_contracts_and_catalog(bag: Any) -> None:
    dag = bag.dags["catalog_and_dq"]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "apply_contracts": {"dq_recheck"},
        "dq_recheck": {"register_glue_catalog"},
        "register_glue_catalog": set(),
    }
    assert own_arguments(dag.get_task("dq_recheck")) == ["--table", "{{ params.table }}"]


@pytest.mark.parametrize(("table", "layer"), [("all", "all"), ("silver", "silver"), ("gold.dim_fx", "gold")])
def test_the_catalog_is_told_the_layer_of_the_table(bag: Any, table: str, layer: str) -> None:
    dag = bag.dags["catalog_and_dq"]
    assert dag.params.get_param("table").resolve(table) == table
    task = dag.get_task("register_glue_catalog")
    assert task.render_template(own_arguments(task), {"params": {"table": table}}) == ["--db", layer]


@pytest.mark.parametrize("table", ["", "ops.dq_verdicts", "silver.orders; drop", "orders"])
def test_a_table_to_recheck_must_look_like_one(bag: Any, table: str) -> None:
    from airflow.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        bag.dags["catalog_and_dq"].params.get_param("table").resolve(table)
