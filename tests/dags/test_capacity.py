"""What EMR Serverless has room for: job runs that find none fail, so that all that may run at once has to fit."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from common import spark, stream
from local.aws.emr_process import DRIVER_MEMORY, of_one_machine, utilisation
from tests.dags.conftest import DAGS, REPO

#: "Max concurrent vCPUs per account" (L-D05C8A75) of a new account.
QUOTA_AT_FIRST = 16
DISK_GB = 20
CAPACITY = re.compile(r"cpu = (\d+), memory_gb = (\d+), disk_gb = (\d+)")


@pytest.fixture(scope="module")
def bag() -> Any:
    from airflow.models.dagbag import DagBag

    bag = DagBag(str(DAGS), include_examples=False)
    assert bag.import_errors == {}
    return bag


def most(job: str) -> Counter[str]:
    """What a run of this job takes when it has all its executors: the driver and them."""
    properties, taken = spark.size(job), Counter[str]()
    executors = int(properties["spark.dynamicAllocation.maxExecutors"])
    for worker, count in (("driver", 1), ("executor", executors)):
        heap, rest = (
            int(properties[f"spark.{worker}.{part}"].removesuffix("g"))
            for part in ("memory", "memoryOverhead")
        )
        each = {"cpu": int(properties[f"spark.{worker}.cores"]), "memory_gb": heap + rest, "disk_gb": DISK_GB}
        taken.update({what: count * value for what, value in each.items()})
    return taken


def capacity(text: str) -> Counter[str]:
    found = CAPACITY.findall(text)
    assert len(found) == 1
    return Counter(dict(zip(("cpu", "memory_gb", "disk_gb"), map(int, found[0]), strict=True)))


def declared(environment: str) -> Counter[str]:
    text = (REPO / "terraform" / "environments" / f"{environment}.tfvars.example").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("emr_maximum_capacity")]
    return capacity(line)


def default(variable: str) -> Counter[str]:
    text = (REPO / "terraform" / "variables.tf").read_text()
    return capacity(text.partition(f'variable "{variable}" {{')[2].partition("nullable")[0])


def job_runs(dag: Any) -> list[Any]:
    return [task for task in dag.tasks if hasattr(task, "job")]


def taken(tasks: list[Any]) -> Counter[str]:
    """All pools full of the largest of these tasks, each that waits for no pool, and the stream."""
    pools = json.loads((DAGS / "common" / "pools.json").read_text())
    total = most(stream.JOB)
    for task in tasks:
        if task.pool not in pools:
            total.update(most(task.job))
    for name, pool in pools.items():
        largest = max((most(task.job) for task in tasks if task.pool == name), key=lambda one: one["cpu"])
        total.update({what: pool["slots"] * value for what, value in largest.items()})
    return total


def at_once(bag: Any) -> Counter[str]:
    """The most that DAGs may take together. Housekeeping has one of its tasks at a time, in a pool or not."""
    housekeeping = bag.dags["weekly_housekeeping"]
    assert housekeeping.max_active_tasks == 1
    others = [task for dag in bag.dags.values() if dag is not housekeeping for task in job_runs(dag)]
    return max((taken([*others, one]) for one in job_runs(housekeeping)), key=lambda found: found["cpu"])


@pytest.mark.parametrize("limit", ["default", "dev", "prod"])
def test_all_that_may_run_at_once_has_room(bag: Any, limit: str) -> None:
    room = default("emr_maximum_capacity") if limit == "default" else declared(limit)
    needed = at_once(bag)
    assert {what: value for what, value in needed.items() if value > room[what]} == {}


def test_a_daily_run_by_itself_fits_into_a_new_account(bag: Any) -> None:
    dag = bag.dags["daily_batch_pipeline"]
    slots = json.loads((DAGS / "common" / "pools.json").read_text())["emr_ingest"]["slots"]
    ingests = {task.job for task in dag.tasks if task.pool == "emr_ingest"}
    assert slots * max(most(job)["cpu"] for job in ingests) <= QUOTA_AT_FIRST
    assert max(most(task.job)["cpu"] for task in job_runs(dag)) <= QUOTA_AT_FIRST


def test_a_warm_worker_has_the_size_of_a_jobs_worker() -> None:
    properties = spark.size("hubspot_to_bronze")
    for worker in ("driver", "executor"):
        heap, rest = (
            int(properties[f"spark.{worker}.{part}"].rstrip("g")) for part in ("memory", "memoryOverhead")
        )
        cores = int(properties[f"spark.{worker}.cores"])
        assert default("emr_worker") == {"cpu": cores, "memory_gb": heap + rest, "disk_gb": DISK_GB}


def test_a_submission_says_how_large_it_is() -> None:
    small, large = spark.size("hubspot_to_bronze"), spark.size("bronze_to_silver")
    assert small.items() - large.items() == {("spark.dynamicAllocation.maxExecutors", "1")}
    assert large["spark.dynamicAllocation.maxExecutors"] == "3"
    # EMR's own default is 3, and Spark starts with the larger of the two.
    assert (small["spark.executor.instances"], small["spark.dynamicAllocation.initialExecutors"]) == (
        "1",
        "1",
    )
    assert small["spark.dynamicAllocation.enabled"] == "true"


def test_a_job_that_is_sized_is_a_job_that_exists() -> None:
    for job in spark.sizes()["max_executors"].keys() - {"default"}:
        assert any((REPO / folder / f"{job}.py").is_file() for folder in ("jobs", "scripts")), job


def test_a_laptop_runs_a_job_in_what_it_has_and_bills_what_it_asked_for() -> None:
    asked = spark.size("bronze_to_silver") | {"spark.sql.ansi.enabled": "true"}
    assert of_one_machine(asked) == {"spark.driver.memory": DRIVER_MEMORY, "spark.sql.ansi.enabled": "true"}
    # A driver and the executor it begins with.
    assert utilisation(asked, 3600) == {"vCPUHour": 4.0, "memoryGBHour": 16.0, "storageGBHour": 40.0}
