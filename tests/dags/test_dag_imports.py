"""The DAG files load from the real folder, with nothing but Airflow and the amazon provider."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow.models.dagbag import DagBag

from local import airflow
from local.stack import Stack
from tests.dags.conftest import DAGS

EXPECTED = {
    "backfill_dag.py": {"backfill"},
    "catalog_and_dq_dag.py": {"catalog_and_dq"},
    "daily_batch_pipeline_dag.py": {"daily_batch_pipeline"},
    "dq_watchdog_dag.py": {"dq_watchdog"},
    "recovery_dag.py": {"recovery"},
    "streaming_ingest_dag.py": {"streaming_ingest"},
    "weekly_housekeeping.py": {"weekly_housekeeping"},
}
NOT_ON_A_WORKER = ("pyspark", "delta", "lakehouse", "local", "jobs", "great_expectations", "deltalake")


def load(monkeypatch: pytest.MonkeyPatch) -> DagBag:
    from airflow.models.dagbag import DagBag

    for name in [name for name in sys.modules if name.split(".")[0] in (*NOT_ON_A_WORKER, "common")]:
        monkeypatch.delitem(sys.modules, name)
    for name in NOT_ON_A_WORKER:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("LAKE_BUCKET", "CODE_BUCKET", "EMR_APPLICATION_ID"):
        monkeypatch.delenv(name, raising=False)
    return DagBag(str(DAGS), include_examples=False)


def test_every_dag_file_loads_without_spark_the_library_or_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    bag = load(monkeypatch)

    assert bag.import_errors == {}
    found: dict[str, set[str]] = {}
    for dag in bag.dags.values():
        found.setdefault(Path(dag.fileloc).name, set()).add(dag.dag_id)
    assert found == EXPECTED
    assert {path.name for path in DAGS.glob("*.py")} == set(EXPECTED)


def test_on_a_laptop_a_trigger_is_one_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A trigger in the UI unpauses the DAG, and an unpaused DAG with a schedule runs its last day as well."""
    stack = Stack(tmp_path, {}, {"LAKE_BUCKET": "lake"})
    monkeypatch.setenv("LAKEHOUSE_SCHEDULES", airflow.environment(stack)["LAKEHOUSE_SCHEDULES"])

    bag = load(monkeypatch)

    assert {dag.dag_id for dag in bag.dags.values()} == set().union(*EXPECTED.values())
    for dag in bag.dags.values():
        assert dag.timetable.can_be_scheduled is False, dag.dag_id


def test_loading_the_dags_takes_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch)  # what Airflow itself imports on the way is not the DAGs' doing
    begun = time.process_time()

    load(monkeypatch)

    assert time.process_time() - begun < 1.0


def test_an_import_of_the_library_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch)

    with pytest.raises(ImportError):
        import lakehouse.settings  # noqa: F401
