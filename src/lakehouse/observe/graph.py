"""Which table version came from which: the graph of a run, read from its lineage events (``drawing`` draws it)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse import store
from lakehouse.observe.transport import lineage_uri
from lakehouse.settings import Settings

Event = Mapping[str, Any]

LAYERS = ("landing", "bronze", "silver", "gold", "ops")
_ENDS = {"COMPLETE", "FAIL"}
# Runs that are looked at for one with a graph: the watchdog's and others write no table.
_RUNS_BACK = 50


@dataclass(frozen=True, order=True)
class Node:
    """A version of a dataset. A landing's version is the run that landed it."""

    dataset: str
    version: str

    @property
    def layer(self) -> str:
        return self.dataset.partition(".")[0]

    def __str__(self) -> str:
        if self.layer == "landing":
            return f"{self.dataset} of {self.version[:16]}"
        return f"{self.dataset} version {self.version}" if self.version else self.dataset


@dataclass(frozen=True)
class Graph:
    """``edges`` are (from, to, job); ``rows`` were written to a node; ``verdicts``: passed, warned or failed."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[Node, Node, str], ...]
    rows: Mapping[Node, int]
    verdicts: Mapping[Node, str]


def runs(settings: Settings) -> list[str]:
    """The runs whose events lie in the lake, oldest first."""
    base = f"{lineage_uri(settings)}/"
    return sorted({uri.removeprefix(base).partition("/")[0] for uri in store.keys(base)})


def events(settings: Settings, run_id: str) -> list[Event]:
    """A run's events as they lie in the lake, in the order of their time."""
    bodies = store.get_many(list(store.keys(f"{lineage_uri(settings)}/{run_id}/")))
    return sorted((json.loads(body) for body in bodies), key=lambda event: str(event["eventTime"]))


def last(settings: Settings) -> tuple[str, Graph] | None:
    """The newest run that turned something into a table, with its graph."""
    for run_id in reversed(runs(settings)[-_RUNS_BACK:]):
        found = graph(events(settings, run_id))
        if found.edges:
            return run_id, found
    return None


def graph(events: Iterable[Event]) -> Graph:
    """The graph of a run's events. Of several executions of a job the last one that ended counts."""
    ended = {event["job"]["name"]: event for event in events if event["eventType"] in _ENDS}
    edges: set[tuple[Node, Node, str]] = set()
    rows: dict[Node, int] = {}
    verdicts: dict[Node, str] = {}
    nodes: set[Node] = set()
    for job, event in sorted(ended.items()):
        inputs = {_node(each): each for each in event["inputs"]}
        outputs = {_node(each): each for each in event["outputs"]}
        for node, given in inputs.items():
            if assertions := given.get("inputFacets", {}).get("dataQualityAssertions"):
                verdicts[node] = _verdict(assertions["assertions"])
        for node, given in outputs.items():
            # A table that was created or changed, and not written, was made of nothing.
            if statistics := given.get("outputFacets", {}).get("outputStatistics"):
                others = [*inputs, *(each for each in outputs if each != node)]
                edges |= {(source, node, job) for source in _sources(node, given, others, list(inputs))}
                rows[node] = statistics["rowCount"]
        nodes |= {node for node in outputs if node in rows}
    edges |= _kept(edges, rows)
    nodes |= {node for edge in edges for node in edge[:2]}
    return Graph(tuple(sorted(nodes)), tuple(sorted(edges)), rows, verdicts)


def _kept(edges: Collection[tuple[Node, Node, str]], rows: Mapping[Node, int]) -> set[tuple[Node, Node, str]]:
    """From the version that the run wrote to a later one that it read: a commit in between kept its rows."""
    made = {target for _, target, _ in edges}
    read = {source for source, _, _ in edges} - made
    found = set()
    for node in (each for each in read if each.version.isdigit()):
        before = [
            each
            for each in rows
            if each.dataset == node.dataset
            and each.version.isdigit()
            and int(each.version) < int(node.version)
        ]
        if before:
            found.add((max(before, key=lambda each: int(each.version)), node, "a later commit"))
    return found


def _node(given: Mapping[str, Any]) -> Node:
    parts = given["name"].split("/")
    path = parts[-3:] if parts[-3:-2] == ["landing"] else parts[-2:]
    return Node(".".join(path), given.get("facets", {}).get("version", {}).get("datasetVersion", ""))


def _sources(
    node: Node, given: Mapping[str, Any], known: Sequence[Node], inputs: Sequence[Node]
) -> list[Node]:
    """Of what a job read, that of which this output was made: by its columns, by its name, or else all of it."""
    columns = given["facets"].get("columnLineage", {}).get("fields", {}).values()
    named = {_node(field).dataset for column in columns for field in column["inputFields"]}
    by_column = [each for each in known if each.dataset in named]
    by_name = [each for each in inputs if each.dataset.rpartition(".")[2] == node.dataset.rpartition(".")[2]]
    return by_column or by_name or list(inputs)


def _verdict(assertions: Sequence[Mapping[str, Any]]) -> str:
    broken = {each["severity"] for each in assertions if not each["success"]}
    return "failed" if "error" in broken else "warned" if broken else "passed"


def words(graph: Graph) -> list[str]:
    """A line for each version that was made: what it was made of."""
    return [
        f"{node}  <-  {', '.join(str(source) for source, target, _ in graph.edges if target == node)}"
        for node in graph.nodes
        if any(target == node for _, target, _ in graph.edges)
    ]
