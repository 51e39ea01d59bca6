"""What the recovery DAG promises: it runs only when asked, tries once, and asks for what the script understands."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest

from tests.dags.conftest import DAGS
from tests.support import load_script


@pytest.fixture(scope="module")
def dag() -> Any:
    from airflow.models.dagbag import DagBag

    bag = DagBag(str(DAGS), include_examples=False)
    assert bag.import_errors == {}
    return bag.dags["recovery"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("recover")


def test_it_runs_when_asked_and_one_at_a_time(dag: Any) -> None:
    assert dag.timetable.summary == "None"
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert set(dag.tags) >= {"lakehouse", "recovery"}
    assert "ops.recovery_log" in dag.doc_md


def test_its_task_is_the_script_tried_once_in_a_pool_of_one(dag: Any) -> None:
    (task,) = dag.tasks
    pools = json.loads((DAGS / "common" / "pools.json").read_text())
    assert pools[task.pool]["slots"] == 1
    assert task.retries == 0
    assert task.execution_timeout <= dag.dagrun_timeout
    driver = task.job_driver["sparkSubmit"]
    assert driver["entryPoint"].endswith("/scripts/recover.py")
    assert driver["entryPointArguments"][-2] == "from-params"
    assert task.doc_md


def test_nothing_is_applied_unless_it_is_said(dag: Any) -> None:
    params = dag.params.dump()
    assert (params["action"], params["apply"]) == ("status", False)


def test_the_script_understands_every_action_of_the_dag(dag: Any, script: ModuleType) -> None:
    needed = {
        "rerun": {"job": "fx_to_bronze", "run": "r"},
        "recertify": {"table": "bronze.fx_rates", "run": "r", "accept": "one two"},
        "discard": {"table": "bronze.fx_rates", "run": "r s", "with_dependents": True},
        "restore-silver": {"table": "silver.orders", "reload": True},
        "repair": {"table": "silver.orders"},
        "rollback": {"table": "silver.orders", "version": 0},
        "recover-checkpoint": {"topic": "t"},
        "erase": {"subject": "hubspot:1"},
    }
    actions = dag.params.get_param("action").schema["enum"]
    for action in actions:
        params = dag.params.dump() | {"action": action} | needed.get(action, {})
        asked = {} if action == "status" else {"apply": True, "by": "anna", "why": 'it\'s "so"'}
        found = script._arguments(["--run-id", "x", "from-params", json.dumps(params | asked)])
        assert found.action == action
        assert found.run_id == "x"
        if asked:
            assert (found.apply, found.by, found.why) == (True, "anna", 'it\'s "so"')
    found = script._arguments(["from-params", json.dumps({"action": "discard"} | needed["discard"])])
    assert (found.run, found.with_dependents) == (["r", "s"], True)
    found = script._arguments(["from-params", json.dumps({"action": "rollback"} | needed["rollback"])])
    assert (found.to_version, found.to_time) == (0, None)


@pytest.mark.parametrize("name", ["submitted_by", "config", "airflow_run_id", "status"])
def test_who_triggers_the_dag_says_nothing_but_its_parameters(
    dag: Any, script: ModuleType, name: str
) -> None:
    """Airflow hands on whatever a trigger's conf holds, beside the parameters of the DAG."""
    assert dag.params.dump().keys() == script._PARAMS | {"action", "run_id"}
    asked = {"action": "discard", "table": "bronze.fx_rates", "run": "r", name: "x"}
    with pytest.raises(script.UsageError, match=f"received the parameters {name}, expected none but accept"):
        script._arguments(["from-params", json.dumps(asked)])


def test_the_parameters_reach_the_script_as_json(dag: Any) -> None:
    import jinja2

    (task,) = dag.tasks
    template = task.job_driver["sparkSubmit"]["entryPointArguments"][-1]
    given = dag.params.dump() | {"why": 'it\'s <so> & "so"'}
    assert json.loads(jinja2.Environment().from_string(template).render(params=given)) == given
