"""The picture of a run's lineage: what it read and wrote, a box a table, a column a hop, from left to right.

A table is one box, whichever of its versions the run read or wrote: what housekeeping makes of a version in between is
no other table. Left out is what tells nothing: tables that were read empty, as they are created, and those that nothing
leads to or from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from lakehouse.observe.graph import LAYERS, Graph, Node

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _HEAD = 224, 48, 64, 16, 24, 64
# The room of a line that passes a column.
_LANE = 8
# Generous widths of a letter, so that the text of any font stays in its box.
_BOLD, _PLAIN = 8.2, 6.2
_INK, _QUIET, _LINE = "#1f2933", "#52606d", "#9aa5b1"
_FILL = {"passed": "#e3f6e8", "warned": "#fff4d6", "failed": "#fde2e1", "": "#f5f7fa"}
_EDGE = {"passed": "#2f855a", "warned": "#b7791f", "failed": "#c53030", "": "#7b8794"}
_WORST_FIRST = ("failed", "warned", "passed")

# What a column holds: a table by its name, or the lane of a line (from, to) that passes it.
Line = tuple[str, str]
Item = str | Line


def svg(graph: Graph, title: str, linked: Collection[str] = ()) -> str:
    """The picture; the same graph gives the same bytes. Boxes of tables in ``linked`` lead to ``#rows-<table>``."""
    jobs = _jobs(graph)
    columns = _columns(_hops(jobs), jobs)
    tallest = max((_tall(column) for column in columns), default=0)
    width = max(2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - _GAP_X, 480)
    height = 2 * _MARGIN + _HEAD + tallest
    places = [_places(column, _MARGIN + _HEAD + (tallest - _tall(column)) // 2) for column in columns]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(_MARGIN, _MARGIN + 6, title, 15, 600, _INK),
    ]
    for index, column in enumerate(columns):
        parts += _drawn_head(_x(index), [name for name in column if isinstance(name, str)], jobs)
    for line, names in sorted(jobs.items()):
        parts.append(_drawn_line(line, places, names))
    for index, place in enumerate(places):
        for name, y in place.items():
            if isinstance(name, str):
                parts.append(_drawn_box(graph, name, _x(index), y, name in linked))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _jobs(graph: Graph) -> dict[Line, set[str]]:
    """The lines of the picture, each with the jobs that moved rows along it."""
    jobs: dict[Line, set[str]] = {}
    for source, target, job in graph.edges:
        is_empty = source.version == "0" and not graph.rows.get(source)
        if source.dataset != target.dataset and not is_empty:
            jobs.setdefault((source.dataset, target.dataset), set()).add(job)
    return jobs


def _hops(lines: Iterable[Line]) -> dict[str, tuple[int, int]]:
    """Each table's place in the order of hops: its layer and, within one, how many of its tables lead to it."""
    lines = list(lines)
    depth = dict.fromkeys(sorted({name for line in lines for name in line}), 0)
    inside = [(source, target) for source, target in lines if _layer(source) == _layer(target)]
    for _ in inside:  # as often as the longest path may be, and no more where tables lead to each other
        for source, target in inside:
            depth[target] = min(max(depth[target], depth[source] + 1), len(inside))
    return {name: (_layer(name), steps) for name, steps in depth.items()}


def _layer(name: str) -> int:
    layer = name.partition(".")[0]
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS)


def _columns(hops: Mapping[str, tuple[int, int]], lines: Iterable[Line]) -> list[list[Item]]:
    """Tables by hop, and lanes for the lines that pass; each beside what it comes from, so that few lines cross."""
    order = sorted(set(hops.values()))
    where = {name: order.index(hop) for name, hop in hops.items()}
    before: dict[Item, list[Item]] = {name: [] for name in where}
    columns: list[list[Item]] = [[] for _ in order]
    for name, index in where.items():
        columns[index].append(name)
    for line in sorted(lines):
        source, target = line
        before[target].append(line if where[target] - where[source] > 1 else source)
        before[line] = [source]
        for index in range(where[source] + 1, where[target]):
            columns[index].append(line)
    row: dict[Item, float] = {}
    for index, column in enumerate(columns):
        found = [
            (
                sum(above) / len(above)
                if (above := [row[each] for each in before[item] if each in row])
                else 0.0,
                item,
            )
            for item in column
        ]
        columns[index] = [item for _, item in sorted(found, key=lambda pair: (pair[0], str(pair[1])))]
        row |= {item: place / max(len(column), 1) for place, item in enumerate(columns[index])}
    return columns


def _tall(column: Sequence[Item]) -> int:
    return sum((_HEIGHT if isinstance(item, str) else _LANE) + _GAP_Y for item in column)


def _places(column: Sequence[Item], top: int) -> dict[Item, int]:
    """The upper edge of each item of a column."""
    places: dict[Item, int] = {}
    for item in column:
        places[item] = top
        top += (_HEIGHT if isinstance(item, str) else _LANE) + _GAP_Y
    return places


def _x(column: int) -> int:
    return _MARGIN + column * (_WIDTH + _GAP_X)


def _drawn_head(x: int, names: Sequence[str], jobs: Mapping[Line, set[str]]) -> list[str]:
    """Above a column: its layer, and the jobs that wrote its tables."""
    wrote = sorted({job for (_, target), found in jobs.items() if target in names for job in found})
    by = f"by {wrote[0]}" if len(wrote) == 1 else f"by {len(wrote)} jobs" if wrote else "what sources gave"
    layer = names[0].partition(".")[0].capitalize() if names else ""
    return [
        _text(x, _MARGIN + 34, layer, 13, 600, _INK),
        _text(x, _MARGIN + 50, _cut(by, _PLAIN, _WIDTH), 11, 400, _QUIET),
    ]


def _drawn_line(line: Line, places: Sequence[Mapping[Item, int]], jobs: Collection[str]) -> str:
    source, target = line
    where = {name: index for index, place in enumerate(places) for name in place if isinstance(name, str)}
    first, last = where[source], where[target]
    x, y = _x(first) + _WIDTH, places[first][source] + _HEIGHT // 2
    path = f"M {x} {y}"
    for index in range(first + 1, last):
        middle = places[index][line] + _LANE // 2
        path += _bend(x, y, _x(index), middle) + f" L {_x(index) + _WIDTH} {middle}"
        x, y = _x(index) + _WIDTH, middle
    path += _bend(x, y, _x(last), places[last][target] + _HEIGHT // 2)
    title = escape(", ".join(sorted(jobs)))
    return f'<path d="{path}" fill="none" stroke="{_LINE}" stroke-width="1.5"><title>{title}</title></path>'


def _bend(x1: int, y1: int, x2: int, y2: int) -> str:
    middle = (x1 + x2) // 2
    return f" C {middle} {y1}, {middle} {y2}, {x2} {y2}"


def _drawn_box(graph: Graph, name: str, x: int, y: int, is_linked: bool) -> str:
    nodes = [node for node in graph.nodes if node.dataset == name]
    verdict = next(
        (each for each in _WORST_FIRST if each in {graph.verdicts.get(node) for node in nodes}), ""
    )
    about = _about(graph, nodes, verdict)
    label = name.partition(".")[2]
    box = (
        f"<g><title>{escape(f'{name}: {about}')}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{_FILL[verdict]}" '
        f'stroke="{_EDGE[verdict]}"/>'
        + _text(x + 12, y + 20, _cut(label.rpartition(".")[2], _BOLD, _WIDTH - 24), 13, 600, _INK)
        + _text(x + 12, y + 37, _cut(about, _PLAIN, _WIDTH - 24), 11, 400, _QUIET)
        + "</g>"
    )
    return f'<a href="#rows-{escape(name)}">{box}</a>' if is_linked else box


def _about(graph: Graph, nodes: Sequence[Node], verdict: str) -> str:
    """The second line of a box: a landing's source and run; a table's version, the rows written, the verdict."""
    if nodes[0].layer == "landing":
        return f"{nodes[0].dataset.split('.')[1]}, {nodes[0].version[:16]}"
    # What was written counts; else what was read.
    written = [node for node in nodes if node in graph.rows]
    newest = max(written or nodes, key=lambda node: int(node.version) if node.version.isdigit() else -1)
    parts = [f"version {newest.version}" if newest.version else "no version"]
    if newest in graph.rows:
        parts.append(f"{graph.rows[newest]:,} {'row' if graph.rows[newest] == 1 else 'rows'}")
    return ", ".join([*parts, verdict] if verdict else parts)


def _cut(text: str, letter: float, width: int) -> str:
    """Text that is no wider than a box."""
    room = int(width / letter)
    return text if len(text) <= room else text[: room - 1] + "…"


def _text(x: int, y: int, text: str, size: int, weight: int, colour: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
