"""A run's lineage as a graph: versions, only the edges that there are, and a drawing that is the same each time."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.event_v2 import RunState
from openlineage.client.serde import Serde

from lakehouse import store
from lakehouse.observe import graph, lineage
from lakehouse.observe.graph import Node
from lakehouse.observe.outcome import InputVersion, LedgerCounts, TableOutcome
from scripts import lineage as script
from tests.observe.support import RUN, an_outcome, config_file
from tests.quality.support import make_settings

SETTINGS = make_settings("s3://lake")


def version(table: str, number: int) -> InputVersion:
    return InputVersion(table=table, table_id="t", version=number)


def table(name: str, number: int, *inputs: InputVersion, landed: str | None = None) -> TableOutcome:
    ledger = LedgerCounts(read=1000, inserted=1000)
    return TableOutcome(table=name, version=number, ledger=ledger, inputs=inputs, landed=landed)


BRONZE = tuple(
    version(f"bronze.{name}", 3)
    for name in ("snowflake_orders", "kafka_orders", "fx_rates", "salesforce_accounts", "hubspot_contacts")
)
SILVER = tuple(
    version(f"silver.{name}", 5) for name in ("orders", "fx_rates", "salesforce_accounts", "hubspot_contacts")
)
VERDICT = {
    "table": "silver.orders",
    "version": 5,
    "rules": [{"name": "r", "severity": "critical", "passed": False, "observed": "1", "expected": "0"}],
}


def a_day() -> list[dict[str, Any]]:
    jobs = {
        "salesforce_to_bronze": [
            table(f"bronze.{name}", 3, landed=f"salesforce/{name}/{RUN}")
            for name in ("salesforce_accounts", "salesforce_leads")
        ],
        "fx_to_bronze": [table("bronze.fx_rates", 3, landed=f"fx/fx_rates/{RUN}")],
        "bronze_to_silver": [
            table("silver.orders", 5, *BRONZE[:2]),
            table("silver.fx_rates", 5, BRONZE[2]),
            table("silver.salesforce_accounts", 5, BRONZE[3]),
            table("silver.hubspot_contacts", 5, BRONZE[4]),
        ],
        "dq_check_silver": [],
        "silver_to_gold": [
            table(f"gold.{name}", 2, *SILVER) for name in ("dim_customers", "dim_fx", "fact_orders")
        ],
    }
    found = []
    for job, tables in jobs.items():
        verdicts = [VERDICT] if job == "dq_check_silver" else []
        for state in (RunState.START, RunState.COMPLETE):
            event = lineage.event(SETTINGS, an_outcome(job, tables=tables), state, verdicts)
            found.append(json.loads(Serde.to_json(event)))
    return found


def edges(found: graph.Graph) -> set[tuple[str, str]]:
    return {(source.dataset, target.dataset) for source, target, _ in found.edges}


def test_a_version_comes_from_those_that_its_columns_name() -> None:
    found = graph.graph(a_day())
    assert {source for source, target in edges(found) if target == "silver.orders"} == {
        "bronze.snowflake_orders",
        "bronze.kafka_orders",
    }
    assert {source for source, target in edges(found) if target == "silver.fx_rates"} == {"bronze.fx_rates"}
    assert "silver.orders" in {source for source, target in edges(found) if target == "gold.fact_orders"}
    assert ("silver.orders", "gold.dim_fx") not in edges(found)
    assert Node("silver.orders", "5") in found.nodes
    assert (
        "silver.orders version 5  <-  bronze.kafka_orders version 3, bronze.snowflake_orders version 3"
        in (graph.words(found))
    )


def test_each_table_of_a_source_comes_from_its_own_landing() -> None:
    found = edges(graph.graph(a_day()))
    assert ("landing.salesforce.salesforce_leads", "bronze.salesforce_leads") in found
    assert ("landing.salesforce.salesforce_leads", "bronze.salesforce_accounts") not in found


def test_the_gate_colours_what_it_judged() -> None:
    found = graph.graph(a_day())
    assert found.verdicts == {Node("silver.orders", "5"): "failed"}
    assert "version 5, 1,000 rows, failed" in graph.svg(found, "day")


def test_a_job_that_was_repeated_counts_once() -> None:
    again = json.loads(json.dumps(a_day()[-1]))
    for output in again["outputs"]:
        output["facets"]["version"]["datasetVersion"] = "9"
    versions = {node.version for node in graph.graph([*a_day(), again]).nodes if node.layer == "gold"}
    assert versions == {"9"}


def test_the_drawing_is_xml_and_the_same_each_time() -> None:
    events = a_day()
    drawn = graph.svg(graph.graph(events), "a <day>")
    random.Random(1).shuffle(events)
    assert graph.svg(graph.graph(events), "a <day>") == drawn
    root = ET.fromstring(drawn)
    boxes = [
        tuple(float(rect.get(side, "0")) for side in ("x", "y", "width", "height"))
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
    ][1:]
    assert len(boxes) == len(graph.graph(events).nodes)
    page = (float(root.get("width", "0")), float(root.get("height", "0")))
    for index, (x, y, width, height) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert (x + width, y + height) <= page
        for x2, y2, width2, height2 in boxes[:index]:
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y


def test_nothing_gives_an_empty_graph() -> None:
    assert graph.graph([]).nodes == ()
    ET.fromstring(graph.svg(graph.graph([]), "nothing"))


def test_make_lineage(lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(lake)
    config = config_file(tmp_path, settings)
    out = tmp_path / "new" / "lineage.svg"
    assert script.main(["--config", config, "--out", str(out)]) == 2
    assert "expected the events of a run that wrote a table" in capsys.readouterr().err
    for number, event in enumerate(a_day()):
        store.put(f"{lake}/ops/_lineage/{RUN}/{number}.json", json.dumps(event).encode())
    later = RUN.replace("20260102", "20260103")
    watchdog = lineage.event(SETTINGS, an_outcome("dq_watchdog", tables=[]), RunState.COMPLETE)
    store.put(f"{lake}/ops/_lineage/{later}/0.json", Serde.to_json(watchdog).encode())
    assert script.main(["--config", config, "--out", str(out)]) == 0
    assert "gold.fact_orders version 2  <-  " in capsys.readouterr().out
    assert RUN in out.read_text()
    assert script.main(["--config", config, "--out", str(out), "--run-id", later]) == 2
