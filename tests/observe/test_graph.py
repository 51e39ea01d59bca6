"""A run's lineage as a graph: versions, only the edges that there are, and a drawing that is the same each time."""

from __future__ import annotations

import json
import random
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.event_v2 import RunState
from openlineage.client.serde import Serde

from lakehouse import store
from lakehouse.observe import drawing, graph, lineage
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
    assert "version 5, 1,000 rows, failed" in drawing.svg(found, "day")


def test_a_job_that_was_repeated_counts_once() -> None:
    again = json.loads(json.dumps(a_day()[-1]))
    for output in again["outputs"]:
        output["facets"]["version"]["datasetVersion"] = "9"
    versions = {node.version for node in graph.graph([*a_day(), again]).nodes if node.layer == "gold"}
    assert versions == {"9"}


SVG = "{http://www.w3.org/2000/svg}"
Sides = tuple[float, float, float, float]


def sides(rect: ET.Element) -> Sides:
    x, y, width, height = (float(rect.get(side, "0")) for side in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def drawn_boxes(drawn: str) -> dict[str, tuple[Sides, list[ET.Element]]]:
    """By table: where its box is, and the texts in it."""
    found = {}
    for group in ET.fromstring(drawn).iter(f"{SVG}g"):
        rect, title = group.find(f"{SVG}rect"), group.findtext(f"{SVG}title", "")
        assert rect is not None
        found[title.partition(":")[0]] = sides(rect), group.findall(f"{SVG}text")
    return found


def test_the_drawing_is_xml_and_the_same_each_time() -> None:
    events = a_day()
    drawn = drawing.svg(graph.graph(events), "a <day>")
    random.Random(1).shuffle(events)
    assert drawing.svg(graph.graph(events), "a <day>") == drawn
    root = ET.fromstring(drawn)
    boxes = [box for box, _ in drawn_boxes(drawn).values()]
    assert len(boxes) == len({name for edge in edges(graph.graph(events)) for name in edge})
    page = (float(root.get("width", "0")), float(root.get("height", "0")))
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert min(left, top) >= 0
        assert right <= page[0]
        assert bottom <= page[1]
        for left2, top2, right2, bottom2 in boxes[:index]:
            assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top


def test_every_text_stays_in_its_box_and_every_line_ends_at_one() -> None:
    long = Node("landing.salesforce." + "x" * 60, RUN)
    found = graph.graph(a_day())
    found = replace(
        found, edges=(*found.edges, (long, Node("bronze.fx_rates", "3"), "a_job_of_a_long_name" * 3))
    )
    drawn = drawing.svg(replace(found, nodes=(*found.nodes, long)), "a day")
    boxes = drawn_boxes(drawn)
    for (left, _, right, _), texts in boxes.values():
        for text in texts:
            letters = len(text.text or "") * float(text.get("font-size", "0")) * 0.62
            assert left < float(text.get("x", "0"))
            assert float(text.get("x", "0")) + letters <= right
    begins = {(right, (top + bottom) / 2) for (_, top, right, bottom), _ in boxes.values()}
    ends = {(left, (top + bottom) / 2) for (left, top, _, bottom), _ in boxes.values()}
    for path in ET.fromstring(drawn).iter(f"{SVG}path"):
        numbers = [float(each) for each in re.findall(r"-?[0-9.]+", path.get("d", ""))]
        assert tuple(numbers[:2]) in begins
        assert tuple(numbers[-2:]) in ends


def test_hops_follow_each_other_and_a_line_passes_no_box() -> None:
    drawn = drawing.svg(graph.graph(a_day()), "a day", linked={"silver.orders"})
    boxes = {name: box for name, (box, _) in drawn_boxes(drawn).items()}
    order = ("landing.fx.fx_rates", "bronze.fx_rates", "silver.fx_rates", "gold.dim_fx", "gold.fact_orders")
    lefts = [boxes[name][0] for name in order]
    assert lefts == sorted(set(lefts))
    # silver.orders → gold.fact_orders passes the dimensions' column in a lane of its own.
    for path in ET.fromstring(drawn).iter(f"{SVG}path"):
        for y, x in re.findall(r"([0-9.]+) L ([0-9.]+)", path.get("d", "")):
            assert all(
                not (box[0] < float(x) <= box[2] and box[1] <= float(y) <= box[3]) for box in boxes.values()
            )
    assert drawn.count("<a href=") == 1
    assert '<a href="#rows-silver.orders">' in drawn


def test_a_table_is_one_box_and_one_that_was_read_empty_is_none() -> None:
    """Between load and promotion a commit of housekeeping may come; a table that was just created tells nothing."""
    jobs = {
        "kafka_orders_to_bronze": [table("bronze.kafka_orders", 3, landed=f"kafka/kafka_orders/{RUN}")],
        "bronze_to_silver": [
            table(
                "silver.orders", 5, version("bronze.kafka_orders", 4), version("bronze.snowflake_orders", 0)
            ),
        ],
        "silver_to_gold": [
            table("gold.fact_orders", 2, version("silver.orders", 5), version("gold.fact_orders", 1))
        ],
        "emit_lineage_and_metrics": [table("ops.row_ledger", 7)],
        "apply_contracts": [
            TableOutcome(table=f"silver.{name}", version=0) for name in ("orders", "fx_rates")
        ],
    }
    events = [
        json.loads(Serde.to_json(lineage.event(SETTINGS, an_outcome(job, tables=tables), RunState.COMPLETE)))
        for job, tables in jobs.items()
    ]

    found = graph.graph(events)

    assert "bronze.kafka_orders version 4  <-  bronze.kafka_orders version 3" in graph.words(found)
    boxes = drawn_boxes(drawing.svg(found, "a day"))
    assert set(boxes) == {
        "landing.kafka.kafka_orders",
        "bronze.kafka_orders",
        "silver.orders",
        "gold.fact_orders",
    }
    assert [text.text for text in boxes["bronze.kafka_orders"][1]] == [
        "kafka_orders",
        "version 3, 1,000 rows",
    ]


def test_nothing_gives_an_empty_graph() -> None:
    assert graph.graph([]).nodes == ()
    ET.fromstring(drawing.svg(graph.graph([]), "nothing"))


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
