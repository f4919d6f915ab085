"""The figures of a run, the table, and the floors that ours has to reach."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

METRICS = {
    "enqueue": "enqueue one by one, tasks/s",
    "bulk": "enqueue 1,000 per call, tasks/s",
    "drain-async-1": "drain async, 1 process, tasks/s",
    "cpu-worker": "… CPU of the worker, µs/task",
    "cpu-server": "… CPU of the server, µs/task",
    "drain-async-2": "drain async, 2 processes, tasks/s",
    "drain-sync-1": "drain sync, 1 process, tasks/s",
    "drain-sync-2": "drain sync, 2 processes, tasks/s",
    "latency-p50": "enqueue to start, p50, ms",
    "latency-p95": "enqueue to start, p95, ms",
    "latency-p99": "enqueue to start, p99, ms",
    "backlog": "drain behind the backlog, tasks/s",
    "backlog-kept": "… as a share of without it",
    "backlog-cpu": "… CPU of a task, by that without it",
    "chains": "three-task chains/s",
    "diamonds": "four-task diamonds/s",
    "durable": "durable, a step and a child, 2 processes, /s",
    "waits": "waits on one event key, resolved/s",
    "sleepers-tx": "idle transactions, with sleepers by without",
    "sleepers-cpu": "idle CPU, with sleepers by without",
    "idle": "idle worker, transactions/s",
}


class Figures:
    """Per metric and peer a number for each turn of each round."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, dict[tuple[int, int], float]]] = {}
        self._partial: set[tuple[str, str]] = set()
        self.round = 0

    def add(
        self,
        metric: str,
        peer: str,
        value: float,
        turn: int = 0,
        *,
        partial: bool = False,
    ) -> None:
        """Note a figure of this round; ``partial``, if it was cut short."""
        by_peer = self._values.setdefault(metric, {})
        by_peer.setdefault(peer, {})[self.round, turn] = value
        if partial:
            self._partial.add((metric, peer))

    def median(self, metric: str, peer: str) -> float | None:
        """None where the peer was not measured."""
        values = self._values.get(metric, {}).get(peer)
        return statistics.median(values.values()) if values else None

    def of_round(self, metric: str, peer: str) -> list[float]:
        """This round's figures."""
        values = self._values.get(metric, {}).get(peer, {})
        return [value for (number, _), value in values.items() if number == self.round]

    def ratios(self, metric: str, ours: str, other: str, peer: str) -> list[float]:
        """Ours by the peer's ``other`` metric, in each turn that has both."""
        mine = self._values.get(metric, {}).get(ours, {})
        theirs = self._values.get(other, {}).get(peer, {})
        return [
            mine[turn] / theirs[turn]
            for turn in sorted(mine.keys() & theirs.keys())
            if theirs[turn]
        ]

    def is_partial(self, metric: str, peer: str) -> bool:
        """Whether a drain was cut short at the limit."""
        return (metric, peer) in self._partial

    def metrics(self) -> list[str]:
        """Those measured, in the table's order."""
        return [metric for metric in METRICS if metric in self._values]

    def data(self) -> dict[str, Any]:
        """For JSON: the figures of all turns, and what was cut short."""
        return {
            "figures": {
                metric: {
                    peer: list(values.values())
                    for peer, values in self._values[metric].items()
                }
                for metric in self.metrics()
            },
            "cut_short": sorted(map(list, self._partial)),
        }


@dataclass(frozen=True)
class Floor:
    """What ours must reach: at least (or at most) ``bound``.

    Against a peer the figure is the median of the turns' ratios to its metric
    ``other``; without one it is ours alone.
    """

    metric: str
    text: str
    bound: float
    peer: str | None = None
    other: str | None = None
    at_most: bool = False

    def figure(self, figures: Figures, ours: str) -> float | None:
        """None where it was not measured."""
        if self.peer is None:
            return figures.median(self.metric, ours)
        other = self.other or self.metric
        ratios = figures.ratios(self.metric, ours, other, self.peer)
        return statistics.median(ratios) if ratios else None

    def reached(self, figure: float) -> bool:
        """Whether the figure is good enough."""
        return figure <= self.bound if self.at_most else figure >= self.bound

    def missed_by(self, figure: float) -> float:
        """The shortfall as a share of the bound."""
        gap = figure - self.bound if self.at_most else self.bound - figure
        return gap / self.bound


FLOORS = (
    Floor("drain-async-1", "async drain, 1 process: pgqueuer's", 1.0, "pgqueuer"),
    Floor("drain-async-2", "async drain, 2 processes: pgqueuer's", 1.0, "pgqueuer"),
    Floor("drain-sync-1", "sync drain, 1 process: half of pgqueuer's async", 0.5,
          "pgqueuer", "drain-async-1"),
    Floor("drain-sync-2", "sync drain, 2 processes: half of pgqueuer's async", 0.5,
          "pgqueuer", "drain-async-2"),
    Floor("backlog-kept", "the backlog costs at most 5 %", 0.95),
    Floor("diamonds", "diamonds: a third of the noop drain per task", 1 / 12, "ours",
          "drain-async-1"),
    Floor("durable", "durable, a step and a child: 1,000 per second", 1_000),
    Floor("waits", "waits on one event key: 5,000 per second", 5_000),
    Floor("sleepers-tx", "sleepers cost no transactions", 1.1, at_most=True),
    Floor("bulk", "bulk enqueue: pgqueuer's", 1.0, "pgqueuer"),
    Floor("enqueue", "single enqueue: procrastinate's", 1.0, "procrastinate"),
    Floor("latency-p50", "latency p50: procrastinate's", 1.0, "procrastinate",
          at_most=True),
    Floor("latency-p99", "latency p99: procrastinate's", 1.0, "procrastinate",
          at_most=True),
    Floor("idle", "idle worker: 5 transactions/s", 5.0, at_most=True),
)  # fmt: skip


def number(value: float) -> str:
    """Four figures at most: what is measured is not known better."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def table(figures: Figures, peers: list[str], ours: str) -> str:
    """Medians, and behind each peer's the median ratio ours / peer."""
    rows = [["", *peers]]
    for metric in figures.metrics():
        cells = [_cell(figures, metric, peer, ours) for peer in peers]
        rows.append([METRICS[metric], *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "─" * len(lines[0]))
    return "\n".join(lines)


def _cell(figures: Figures, metric: str, peer: str, ours: str) -> str:
    value = figures.median(metric, peer)
    if value is None:
        return "–"
    mark = "*" if figures.is_partial(metric, peer) else ""
    ratios = figures.ratios(metric, ours, metric, peer)
    if peer == ours or not ratios:
        return number(value) + mark
    return f"{number(value)}{mark} ({statistics.median(ratios):.2f}×)"


def verdicts(figures: Figures, ours: str) -> tuple[list[str], bool]:
    """A line per floor that was measured, and whether all of them were reached."""
    lines = []
    good = True
    for floor in FLOORS:
        figure = floor.figure(figures, ours)
        if figure is None:
            lines.append(f"  not measured    {floor.text}")
            continue
        unit = "×" if floor.peer else ""
        sign = "≤" if floor.at_most else "≥"
        said = f"{number(figure)}{unit} ({sign} {floor.bound:g}{unit})"
        if floor.reached(figure):
            lines.append(f"  reached         {floor.text}: {said}")
        else:
            good = False
            by = f"missed by {floor.missed_by(figure):.1%}"
            lines.append(f"  {by:15} {floor.text}: {said}")
    return lines, good


def floors_data(figures: Figures, ours: str) -> list[dict[str, Any]]:
    """For JSON: the floors that were measured."""
    return [
        {
            "floor": floor.text,
            "figure": figure,
            "bound": floor.bound,
            "reached": floor.reached(figure),
        }
        for floor in FLOORS
        if (figure := floor.figure(figures, ours)) is not None
    ]
