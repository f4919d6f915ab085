"""Layout of a workflow's graph: layers from left to right, few crossings, in Python.

Sugiyama's method in its simplest form: a task stands one layer after its last parent,
an edge over several layers gets a bend in each, and the order within a layer follows
the middle of its neighbours for a few sweeps. A hundred tasks take some milliseconds;
the layout depends on the version alone and is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.engine.shapes import TaskShape

WIDTH, HEIGHT = 184, 44  # of a node
GAP_X, GAP_Y = 48, 14
MARGIN = 6
GAP_APART = 16  # above and below the line that sets tasks apart
SWEEPS = 8
MAX_TASKS = 400  # beyond these a drawing tells nobody anything

Parents = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Node:
    """A task's box; `key` is its ordinal."""

    key: int
    x: int
    y: int
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Edge:
    """A line from a parent to a child, as the path of an SVG."""

    parent: int
    child: int
    path: str


@dataclass(frozen=True)
class Layout:
    """Where everything is, in pixels."""

    width: int
    height: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    apart_y: int | None = None  # of the line above tasks that stand apart


def order(parents: Parents) -> list[int]:
    """The tasks so that each comes after its parents."""
    return list(TopologicalSorter(dict(enumerate(parents))).static_order())


@lru_cache(maxsize=512)
def layout(parents: Parents, apart: tuple[int, ...] = ()) -> Layout:
    """Lay out tasks, given the ordinals of the parents of each.

    Those `apart` have no lines: they stand below the others, under a line.
    """
    inside = [task for task in range(len(parents)) if task not in apart]
    if not apart or not inside:
        return _layered(parents)
    place = {task: index for index, task in enumerate(inside)}
    drawn = _layered(tuple(tuple(place[p] for p in parents[t]) for t in inside))
    line = drawn.height - MARGIN + GAP_APART
    nodes = [replace(node, key=inside[node.key]) for node in drawn.nodes]
    nodes += [
        Node(task, MARGIN + index * (WIDTH + GAP_X), line + GAP_APART)
        for index, task in enumerate(apart)
    ]
    return Layout(
        width=max(drawn.width, 2 * MARGIN + len(apart) * (WIDTH + GAP_X) - GAP_X),
        height=line + GAP_APART + HEIGHT + MARGIN,
        nodes=tuple(sorted(nodes, key=lambda node: node.key)),
        edges=tuple(
            replace(edge, parent=inside[edge.parent], child=inside[edge.child])
            for edge in drawn.edges
        ),
        apart_y=line,
    )


def of_tasks(tasks: Sequence[TaskShape]) -> Layout:
    """Lay out the tasks of a version; what handles its failure stands apart."""
    return layout(
        tuple(task.parents for task in tasks),
        tuple(task.ordinal for task in tasks if task.handles),
    )


def _layered(parents: Parents) -> Layout:
    graph = _Layered(parents)
    graph.reduce_crossings()
    return graph.place()


# A point of a layer is a task's ordinal, or the bend of an edge (parent, child, layer).
Point = int | tuple[int, int, int]


class _Layered:
    def __init__(self, parents: Parents) -> None:
        self.parents = parents
        self.layer = [0] * len(parents)
        for task in order(parents):
            above = [self.layer[parent] + 1 for parent in parents[task]]
            self.layer[task] = max(above, default=0)
        self.layers: list[list[Point]] = [[] for _ in range(max(self.layer) + 1)]
        self.before: dict[Point, list[Point]] = {}
        self.after: dict[Point, list[Point]] = {}
        self.chains: dict[tuple[int, int], list[Point]] = {}
        for task, layer in enumerate(self.layer):
            self.layers[layer].append(task)
        for child, its_parents in enumerate(parents):
            for parent in its_parents:
                self._connect(parent, child)

    def _connect(self, parent: int, child: int) -> None:
        bends: list[Point] = []
        for layer in range(self.layer[parent] + 1, self.layer[child]):
            bend = (parent, child, layer)
            self.layers[layer].append(bend)
            bends.append(bend)
        chain: list[Point] = [parent, *bends, child]
        self.chains[parent, child] = chain
        for one, next_one in pairwise(chain):
            self.after.setdefault(one, []).append(next_one)
            self.before.setdefault(next_one, []).append(one)

    def reduce_crossings(self) -> None:
        """Sort layers by the middle of their neighbours, to and fro; keep the best."""
        best, fewest = self._copy(), self.crossings()
        for sweep in range(SWEEPS):
            if fewest == 0:
                break
            forward = sweep % 2 == 0
            neighbours = self.before if forward else self.after
            for layer in self.layers if forward else reversed(self.layers):
                self._sort(layer, neighbours)
            crossings = self.crossings()
            if crossings < fewest:
                best, fewest = self._copy(), crossings
        self.layers = best

    def _copy(self) -> list[list[Point]]:
        return [list(layer) for layer in self.layers]

    def _sort(self, layer: list[Point], neighbours: dict[Point, list[Point]]) -> None:
        place = self._places()
        middle = {}
        for index, point in enumerate(layer):
            near = [place[other] for other in neighbours.get(point, ())]
            middle[point] = sum(near) / len(near) if near else float(index)
        layer.sort(key=lambda point: middle[point])

    def _places(self) -> dict[Point, int]:
        return {
            point: index for layer in self.layers for index, point in enumerate(layer)
        }

    def crossings(self) -> int:
        """How many lines cross between neighbouring layers."""
        place = self._places()
        found = 0
        for layer in self.layers:
            ends = [
                sorted(place[other] for other in self.after.get(point, ()))
                for point in layer
            ]
            flat = [end for of_point in ends for end in of_point]
            found += _inversions(flat)
        return found

    def place(self) -> Layout:
        """Give every point its pixels: layers are columns, rows are even."""
        rows = self._rows()
        nodes = [
            Node(task, MARGIN + self.layer[task] * (WIDTH + GAP_X), _pixel(rows[task]))
            for task in range(len(self.parents))
        ]
        edges = [
            Edge(parent, child, self._path(chain, rows))
            for (parent, child), chain in sorted(self.chains.items())
        ]
        columns = len(self.layers)
        return Layout(
            width=2 * MARGIN + columns * WIDTH + (columns - 1) * GAP_X,
            # A line may bend below all boxes.
            height=_pixel(max(rows.values())) + HEIGHT + MARGIN,
            nodes=tuple(nodes),
            edges=tuple(edges),
        )

    def _rows(self) -> dict[Point, float]:
        """The row of each point: near its neighbours, at least one after the last."""
        rows: dict[Point, float] = {
            point: float(index)
            for layer in self.layers
            for index, point in enumerate(layer)
        }
        for neighbours, layers in (
            (self.before, self.layers),
            (self.after, list(reversed(self.layers))),
            (self.before, self.layers),
        ):
            for layer in layers:
                wanted = [
                    _mean([rows[n] for n in neighbours.get(point, ())], rows[point])
                    for point in layer
                ]
                for point, row in zip(layer, _spread(wanted), strict=True):
                    rows[point] = row
        lowest = min(rows.values())
        return {point: row - lowest for point, row in rows.items()}

    def _path(self, chain: Sequence[Point], rows: dict[Point, float]) -> str:
        layer = self.layer[chain[0]]  # type: ignore[index]
        x = MARGIN + layer * (WIDTH + GAP_X) + WIDTH
        y = _pixel(rows[chain[0]]) + HEIGHT // 2
        path = [f"M{x} {y}"]
        for point in chain[1:]:
            end_x = x + GAP_X
            end_y = _pixel(rows[point]) + HEIGHT // 2
            half = x + GAP_X // 2
            path.append(f"C{half} {y} {half} {end_y} {end_x} {end_y}")
            x, y = end_x, end_y
            if not isinstance(point, int):  # straight through the layer of a bend
                x += WIDTH
                path.append(f"H{x}")
        return "".join(path)


def _pixel(row: float) -> int:
    return MARGIN + round(row * (HEIGHT + GAP_Y))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _spread(wanted: Sequence[float]) -> list[float]:
    """Rows nearest to those wanted (least squares), in order, at least one apart.

    Pools neighbours that collide and gives each pool its mean: isotonic regression.
    """
    pools: list[tuple[float, int]] = []  # mean of (wanted − index), how many
    for index, value in enumerate(wanted):
        mean, size = value - index, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean = (mean * size + other * others) / (size + others)
            size += others
        pools.append((mean, size))
    flat = [mean for mean, size in pools for _ in range(size)]
    return [mean + index for index, mean in enumerate(flat)]


def _inversions(values: list[int]) -> int:
    """Pairs that are out of order, counted while merging."""
    if len(values) < 2:
        return 0
    middle = len(values) // 2
    left, right = values[:middle], values[middle:]
    found = _inversions(left) + _inversions(right)
    left.sort()
    right.sort()
    index = 0
    for value in right:
        while index < len(left) and left[index] <= value:
            index += 1
        found += len(left) - index
    return found
