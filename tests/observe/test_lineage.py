"""Lineage events are OpenLineage's, say what happened, and never stand in a job's way."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.event_v2 import RunState
from openlineage.client.serde import Serde
from pydantic import ValidationError

from lakehouse import cli, contracts, store
from lakehouse.contracts.lineage import column_lineage
from lakehouse.observe import lineage, outcome
from lakehouse.observe.outcome import TableOutcome, VerdictReference
from lakehouse.settings import OpenLineageSettings
from tests.observe.support import START, a_server, an_outcome, config_file, problems
from tests.quality.support import make_settings
from tests.support import Aws, free_port

SETTINGS = make_settings("s3://lake")
VERDICT = {
    "table": "silver.orders",
    "version": 4,
    "rules": [
        {
            "name": rule.name,
            "severity": rule.severity,
            "passed": index > 0,
            "observed": "1",
            "expected": "0",
            "sample": [{"order_id": "row data"}],
        }
        for index, rule in enumerate(contracts.load("silver.orders").rules)
    ]
    + [{"name": "promoted", "severity": "critical", "passed": False, "observed": "none", "expected": "one"}],
}


def as_json(*arguments: Any, **options: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(Serde.to_json(lineage.event(*arguments, **options)))
    assert problems(event) == []
    return event


# Events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RunState.START, RunState.RUNNING, RunState.COMPLETE, RunState.FAIL])
def test_every_state_is_valid_and_of_one_run(state: RunState) -> None:
    status = "failed" if state is RunState.FAIL else "succeeded"
    event = as_json(SETTINGS, an_outcome(status=status), state, [VERDICT], "4.1.1")
    assert event["eventType"] == state.value
    assert event["run"]["runId"] == lineage.run_uuid(an_outcome().run_id, "bronze_to_silver", START)
    assert ("errorMessage" in event["run"]["facets"]) == (state is RunState.FAIL)
    assert bool(event["outputs"]) == (state is not RunState.START)


@pytest.mark.parametrize("table", contracts.names())
def test_an_event_about_any_table_is_valid(table: str) -> None:
    tables = [TableOutcome(table=table, version=1, table_id="t")]
    as_json(SETTINGS, an_outcome(tables=tables, parent=None), RunState.COMPLETE)


def test_the_schemas_do_refuse() -> None:
    event = as_json(SETTINGS, an_outcome(), RunState.COMPLETE)
    event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] = "many"
    event["run"]["runId"] = 5
    assert len(problems(event)) == 2


def test_versions_counts_and_schema_of_what_was_written() -> None:
    event = as_json(SETTINGS, an_outcome(), RunState.COMPLETE)
    [written], [read] = event["outputs"], event["inputs"]
    assert (written["namespace"], written["name"]) == ("s3://lake", "silver/orders")
    assert written["facets"]["version"]["datasetVersion"] == "4"
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 9
    fields = [field["name"] for field in written["facets"]["schema"]["fields"]]
    assert fields == list(contracts.load("silver.orders").column_names)
    assert (read["name"], read["facets"]["version"]["datasetVersion"]) == ("bronze/snowflake_orders", "3")


@pytest.mark.parametrize("table", [*contracts.names("silver"), *contracts.names("gold")])
def test_each_column_names_the_columns_it_is_made_of(table: str) -> None:
    event = as_json(SETTINGS, an_outcome(tables=[TableOutcome(table=table, version=1)]), RunState.COMPLETE)
    found = event["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert set(found) <= set(contracts.load(table).column_names)
    for column, sources in column_lineage(table).items():
        named = [(each["namespace"], each["name"], each["field"]) for each in found[column]["inputFields"]]
        assert named == [("s3://lake", source.replace(".", "/"), field) for source, field in sources]
    assert set(found) == set(column_lineage(table))


def test_a_lake_in_a_folder_is_named_by_its_bucket() -> None:
    event = as_json(make_settings("s3://lake/in/here"), an_outcome(), RunState.COMPLETE)
    assert (event["outputs"][0]["namespace"], event["outputs"][0]["name"]) == (
        "s3://lake",
        "in/here/silver/orders",
    )


def test_bronze_comes_from_what_was_landed() -> None:
    table = TableOutcome(table="bronze.fx_rates", version=2, landed="fx/fx_rates/run-1")
    [landing] = as_json(SETTINGS, an_outcome(tables=[table]), RunState.COMPLETE)["inputs"]
    assert landing["name"] == "landing/fx/fx_rates"
    assert landing["facets"]["version"]["datasetVersion"] == "run-1"


def test_the_dag_run_is_the_parent_of_all_its_jobs() -> None:
    first = as_json(SETTINGS, an_outcome("snowflake_to_bronze"), RunState.COMPLETE)["run"]
    second = as_json(SETTINGS, an_outcome(), RunState.START)["run"]
    parent = first["facets"]["parent"]
    assert parent == second["facets"]["parent"]
    assert parent["job"] == {"name": "daily_batch_pipeline", "namespace": "lakehouse", "facets": {}}
    assert parent["root"]["run"]["runId"] == parent["run"]["runId"]
    assert first["runId"] != second["runId"]
    tags = {tag["key"]: tag["value"] for tag in second["facets"]["tags"]["tags"]}
    assert (tags["airflow_task_id"], tags["airflow_try"]) == ("bronze_to_silver", "2")
    assert "parent" not in as_json(SETTINGS, an_outcome(parent=None), RunState.START)["run"]["facets"]


def test_a_gate_says_every_rule_and_shows_no_row() -> None:
    event = as_json(SETTINGS, an_outcome("dq_check_silver", tables=[]), RunState.FAIL, [VERDICT])
    [judged] = event["inputs"]
    assertions = judged["inputFacets"]["dataQualityAssertions"]["assertions"]
    rules = contracts.load("silver.orders").rules
    assert [each["name"] for each in assertions] == [*[rule.name for rule in rules], "promoted"]
    assert [each["success"] for each in assertions] == [False, *[True] * (len(rules) - 1), False]
    assert {each["severity"] for each in assertions} <= {"error", "warn"}
    assert assertions[0]["column"] == "order_id"
    assert "row data" not in json.dumps(event)


# Sending ---------------------------------------------------------------------------------------------------------


def run_job(folder: Path, story: Any = lambda job: None, **settings: Any) -> outcome.Outcome:
    """A job that does what its story says; it has to succeed."""
    here = make_settings(**settings)
    run_id = an_outcome().run_id
    arguments = cli.parser("a_job", "").parse_args(
        ["--config", config_file(folder, here), "--run-id", run_id]
    )
    assert cli.run("a_job", story, arguments) == 0
    found = outcome.read(here, run_id, "a_job")
    assert found is not None
    return found


def test_a_job_leaves_its_events_in_the_lake(lake: str, tmp_path: Path) -> None:
    assert run_job(tmp_path, lake=lake).notes == []
    events = [json.loads(body) for body in store.get_many(list(store.keys(f"{lake}/ops/_lineage/")))]
    assert sorted(event["eventType"] for event in events) == ["COMPLETE", "START"]
    assert [problems(event) for event in events] == [[], []]


def test_verdicts_are_read_from_where_they_lie(lake: str) -> None:
    uri = f"{lake}/verdict.json"
    store.put(uri, json.dumps(VERDICT).encode())
    reference = VerdictReference(table="silver.orders", outcome="failed", uri=uri)
    gate = an_outcome("dq_check_silver", tables=[], verdicts=[reference])
    assert lineage.emit(make_settings(lake), gate, RunState.COMPLETE) is None
    [body] = store.get_many(list(store.keys(f"{lake}/ops/_lineage/")))
    event = json.loads(body)
    assert problems(event) == []
    assert event["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]


@pytest.mark.parametrize("behaviour", ["hangs", "drips", "breaks", "redirects"])
def test_an_endpoint_that_misbehaves_is_said_and_fails_nothing(
    behaviour: Any, lake: str, tmp_path: Path
) -> None:
    with a_server(behaviour) as url:
        begun = time.monotonic()
        notes = run_job(tmp_path, lake=lake, openlineage={"transport": "http", "url": url}).notes
        took = time.monotonic() - begun
    assert [note.partition(":")[0] for note in notes] == [
        "lineage was not sent (START, http)",
        "lineage was not sent (COMPLETE, http)",
    ]
    assert took < 25


def test_an_endpoint_that_nobody_listens_on(lake: str, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert len(run_job(tmp_path, lake=lake, openlineage={"transport": "http", "url": url}).notes) == 2


def test_an_endpoint_that_answers(lake: str, tmp_path: Path) -> None:
    with a_server("answers") as url:
        assert run_job(tmp_path, lake=lake, openlineage={"transport": "http", "url": url}).notes == []


def test_a_fault_of_our_own_fails_no_job(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "event", lambda *_: 1 / 0)
    notes = run_job(tmp_path, lake=lake).notes
    assert notes[0] == "lineage was not sent (START, file): ZeroDivisionError: division by zero"


@pytest.mark.parametrize("values", [{"transport": "http"}, {"transport": "kafka"}], ids=["http", "kafka"])
def test_a_transport_without_its_address_is_refused(values: Any) -> None:
    with pytest.raises(ValidationError, match="needs a"):
        OpenLineageSettings(**values)


def test_nothing_is_sent_where_nobody_wants_it(lake: str) -> None:
    settings = make_settings(lake, openlineage={"transport": "none"})
    assert lineage.emit(settings, an_outcome(), RunState.START) is None
    assert list(store.keys(f"{lake}/ops/")) == []


def secret_of(aws: Aws, name: str, bootstrap: str) -> dict[str, str]:
    from local import kafka

    options = kafka.client_options(bootstrap)
    fields = {
        "bootstrap_servers": bootstrap,
        "api_key": options["sasl.username"],
        "api_secret": options["sasl.password"],
    }
    aws.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(fields))
    return {"transport": "kafka", "secret": name, "security_protocol": "SASL_PLAINTEXT"}


def test_events_to_a_topic(aws: Aws, lake: str, bootstrap: str, tmp_path: Path) -> None:
    from confluent_kafka import Consumer, TopicPartition

    from local import kafka

    kafka.create_topic(bootstrap, "openlineage", 1)
    settings = secret_of(aws, lake.removeprefix("s3://"), bootstrap)
    assert run_job(tmp_path, lake=lake, openlineage=settings).notes == []
    options = kafka.client_options(bootstrap)
    reader = Consumer({**options, "group.id": "tests", "auto.offset.reset": "earliest"})
    reader.assign([TopicPartition("openlineage", 0, 0)])
    records = reader.consume(2, timeout=120)
    reader.close()
    events = [json.loads(record.value()) for record in records]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    assert [problems(event) for event in events] == [[], []]
    assert {record.key() for record in records} == {b"a_job"}


def test_a_broker_that_is_not_there(aws: Aws, lake: str, tmp_path: Path) -> None:
    settings = secret_of(aws, lake.removeprefix("s3://"), f"127.0.0.1:{free_port()}")
    found = run_job(tmp_path, lake=lake, openlineage=settings)
    assert len(found.notes) == 2
    assert found.finished_at is not None
    assert found.finished_at - found.started_at < timedelta(seconds=25)
