"""Which table version came from which: the graph of a run, read from its lineage events, and drawn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lakehouse import store
from lakehouse.observe.transport import lineage_uri
from lakehouse.settings import Settings

Event = Mapping[str, Any]

LAYERS = ("landing", "bronze", "silver", "gold", "ops")
_ENDS = {"COMPLETE", "FAIL"}
# Runs that are looked at for one with a graph: the watchdog's and others write no table.
_RUNS_BACK = 50

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _HEAD = 236, 48, 96, 16, 24, 48
_INK, _QUIET, _LINE = "#1f2933", "#52606d", "#9aa5b1"
_FILL = {"passed": "#e3f6e8", "warned": "#fff4d6", "failed": "#fde2e1", "": "#f5f7fa"}
_EDGE = {"passed": "#2f855a", "warned": "#b7791f", "failed": "#c53030", "": "#7b8794"}


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
            sources = _sources(
                node, given, [*inputs, *(each for each in outputs if each != node)], list(inputs)
            )
            edges |= {(source, node, job) for source in sources}
            if statistics := given.get("outputFacets", {}).get("outputStatistics"):
                rows[node] = statistics["rowCount"]
        nodes |= {node for node in outputs if node in rows}
    nodes |= {node for edge in edges for node in edge[:2]}
    return Graph(tuple(sorted(nodes)), tuple(sorted(edges)), rows, verdicts)


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


def svg(graph: Graph, title: str) -> str:
    """The graph from left to right, a column a layer. The same graph gives the same bytes."""
    columns = _columns(graph)
    tallest = max((len(column) for column in columns), default=0)
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + _HEAD + tallest * (_HEIGHT + _GAP_Y)
    place: dict[Node, tuple[int, int]] = {}
    for x, column in enumerate(columns):
        top = _MARGIN + _HEAD + (tallest - len(column)) * (_HEIGHT + _GAP_Y) // 2
        for y, node in enumerate(column):
            place[node] = (_MARGIN + x * (_WIDTH + _GAP_X), top + y * (_HEIGHT + _GAP_Y))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="{_MARGIN + 6}" font-size="15" font-weight="600" fill="{_INK}">{escape(title)}</text>',
        *[_drawn_edge(place[source], place[target], job) for source, target, job in graph.edges],
        *[_drawn_node(graph, node, *at) for node, at in sorted(place.items())],
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _columns(graph: Graph) -> list[list[Node]]:
    """Nodes by layer; within one, beside what they come from, so that few lines cross."""
    row: dict[Node, float] = {}
    columns = []
    for layer in LAYERS:
        before = {
            node: [row[source] for source, target, _ in graph.edges if target == node and source in row]
            for node in graph.nodes
            if node.layer == layer
        }
        inside = [node for _, node in sorted((_mean(rows), node) for node, rows in before.items())]
        row |= {node: float(index) for index, node in enumerate(inside)}
        if inside:
            columns.append(inside)
    return columns


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _drawn_edge(source: tuple[int, int], target: tuple[int, int], job: str) -> str:
    x1, y1 = source[0] + _WIDTH, source[1] + _HEIGHT // 2
    x2, y2 = target[0], target[1] + _HEIGHT // 2
    if x2 < x1:  # within a layer: around its right side
        x2 = target[0] + _WIDTH
        bend = f"C {x1 + 48} {y1}, {x2 + 48} {y2}, {x2} {y2}"
    else:
        middle = (x1 + x2) // 2
        bend = f"C {middle} {y1}, {middle} {y2}, {x2} {y2}"
    line = f'<path d="M {x1} {y1} {bend}" fill="none" stroke="{_LINE}" stroke-width="1.5">'
    return f"{line}<title>{escape(job)}</title></path>"


def _drawn_node(graph: Graph, node: Node, x: int, y: int) -> str:
    verdict = graph.verdicts.get(node, "")
    if node.layer == "landing":
        about = f"landed by {node.version[:16]}"
    else:
        about = f"version {node.version}" if node.version else "no version"
        if node in graph.rows:
            about += f", {graph.rows[node]:,} rows"
        if verdict:
            about += f", {verdict}"
    return (
        f"<g><title>{escape(f'{node.dataset} {node.version}')}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{_FILL[verdict]}" '
        f'stroke="{_EDGE[verdict]}"/>'
        f'<text x="{x + 12}" y="{y + 20}" font-size="13" font-weight="600" fill="{_INK}">{escape(node.dataset)}</text>'
        f'<text x="{x + 12}" y="{y + 37}" font-size="11" fill="{_QUIET}">{escape(about)}</text></g>'
    )
