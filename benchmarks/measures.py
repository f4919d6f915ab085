"""What is measured, a function each; figures go to ``Figures``.

Peers take turns within every measure, as closely as it can be had, so that a ratio of
two figures of one turn hardly feels what else the machine is doing.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

from benchmarks import waits
from benchmarks.bench import Bench, Drained, in_order
from benchmarks.peers import Kind, Peer
from benchmarks.report import Figures

PER_CALL = 1_000
BOOKED_LATE = 12
"""Seconds; PostgreSQL counts a session's transactions up to ten seconds late."""


def enqueue(bench: Bench, figures: Figures) -> None:
    """One by one, a commit each, no worker running."""
    with bench.session(*bench.peers):
        for peer in bench.peers:
            for number in bench.stamps.take(20):
                peer.enqueue_one(_any_kind(peer), number)
        for turn in range(bench.profile.turns):
            for peer in in_order(bench.peers, turn):
                numbers = bench.stamps.take(bench.profile.single)
                kind = _any_kind(peer)
                # One peer's garbage is not another's time.
                gc.collect()
                began = time.perf_counter()
                for number in numbers:
                    peer.enqueue_one(kind, number)
                spent = time.perf_counter() - began
                figures.add("enqueue", peer.name, len(numbers) / spent, turn)


def bulk(bench: Bench, figures: Figures) -> None:
    """A thousand per call and commit, no worker running."""
    peers = [peer for peer in bench.peers if peer.bulk]
    with bench.session(*peers):
        for peer in peers:
            peer.enqueue_many("async", bench.stamps.take(PER_CALL))
        for turn in range(bench.profile.turns):
            for peer in in_order(peers, turn):
                calls = [
                    bench.stamps.take(PER_CALL) for _ in range(bench.profile.bulk_calls)
                ]
                gc.collect()
                began = time.perf_counter()
                for numbers in calls:
                    peer.enqueue_many("async", numbers)
                spent = time.perf_counter() - began
                figures.add("bulk", peer.name, PER_CALL * len(calls) / spent, turn)


def drain(bench: Bench, figures: Figures, *, kind: Kind, processes: int) -> None:
    """Bursts in front of idle, warm workers."""
    metric = f"drain-{kind}-{processes}"
    peers = _those_with(bench, kind)
    with bench.session(*peers):
        drained = bench.drain_in_turns(peers, kind, processes, bench.profile.drained)
    _note(figures, metric, drained)
    if metric == "drain-async-1":
        for name, turns in drained.items():
            for turn, one in enumerate(turns):
                if one.server_cpu:
                    figures.add("cpu-worker", name, one.worker_cpu, turn)
                    figures.add("cpu-server", name, one.server_cpu, turn)


def chains(bench: Bench, figures: Figures) -> None:
    """Workflows of three tasks, each after the one before it, finished per second."""
    peers = _those_with(bench, "chain")
    with bench.session(*peers):
        drained = bench.drain_in_turns(peers, "chain", 1, bench.profile.chained)
    _note(figures, "chains", drained)


def diamonds(bench: Bench, figures: Figures) -> None:
    """Workflows of four tasks, the middle two side by side, finished per second."""
    peers = _those_with(bench, "diamond")
    with bench.session(*peers):
        drained = bench.drain_in_turns(peers, "diamond", 1, bench.profile.chained)
    _note(figures, "diamonds", drained)


def backlog(bench: Bench, figures: Figures) -> None:
    """Drains without, then drains with the backlog, one peer after the other.

    Not in turns: behind a backlog some peers are busy even when they are idle.
    """
    for peer in _those_with(bench, "async"):
        with bench.session(peer):
            without = bench.drain_in_turns([peer], "async", 1, bench.profile.drained)
        with bench.session(peer, backlog=True):
            behind = bench.drain_in_turns([peer], "async", 1, bench.profile.behind)
        _note(figures, "backlog", behind)
        rate = statistics.median(one.rate for one in without[peer.name])
        cpu = statistics.median(one.cpu for one in without[peer.name])
        for turn, one in enumerate(behind[peer.name]):
            figures.add("backlog-kept", peer.name, one.rate / rate, turn)
            if cpu:
                figures.add("backlog-cpu", peer.name, one.cpu / cpu, turn)


def latency(bench: Bench, figures: Figures) -> None:
    """From the return of enqueue to the start, one task at a time, workers idle.

    Can be negative: a worker may start before the caller has its answer.
    """
    samples: dict[str, list[float]] = {peer.name: [] for peer in bench.peers}
    with bench.session(*bench.peers):
        for peer in bench.peers:
            bench.start(peer, _any_kind(peer), 1)
        time.sleep(1)
        for turn in range(bench.profile.samples):
            for peer in in_order(bench.peers, turn):
                samples[peer.name].append(_sample(bench, peer))
    for name, values in samples.items():
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        for percent in (50, 95, 99):
            figures.add(f"latency-p{percent}", name, cuts[percent - 1])


def _sample(bench: Bench, peer: Peer) -> float:
    """Milliseconds of one task."""
    (number,) = numbers = bench.stamps.take(1)
    peer.enqueue_one(_any_kind(peer), number)
    returned = time.monotonic_ns()
    # Not in step with anybody's poll interval.
    time.sleep(random.uniform(0.02, 0.05))
    if not bench.wait_begun(peer, numbers, time.monotonic() + 10):
        raise TimeoutError(f"{peer.name} did not start a task within 10 s")
    return (bench.stamps.at(number) - returned) / 1e6


def idle(bench: Bench, figures: Figures) -> None:
    """Transactions per second of an idle worker, all peers in the same seconds.

    The workers' first tasks must have been over for long enough to have been counted.
    """
    peers = [peer for peer in bench.peers if peer.on_postgres]
    names = [peer.name for peer in peers]
    seconds = bench.profile.idle_seconds

    def window() -> dict[str, float]:
        before = bench.server.transactions(names)
        time.sleep(seconds)
        after = bench.server.transactions(names)
        return {name: (after[name] - before[name]) / seconds for name in names}

    with bench.session(*peers):
        time.sleep(min(seconds, 2))
        without = window()
        for peer in peers:
            bench.start(peer, "async", 1)
        time.sleep(BOOKED_LATE)
        with_worker = window()
    for name in names:
        figures.add("idle", name, max(0.0, with_worker[name] - without[name]))


MEASURES: dict[str, Callable[[Bench, Figures], None]] = {
    "enqueue": enqueue,
    "bulk": bulk,
    "drain-async-1": partial(drain, kind="async", processes=1),
    "drain-async-2": partial(drain, kind="async", processes=2),
    "drain-sync-1": partial(drain, kind="sync", processes=1),
    "drain-sync-2": partial(drain, kind="sync", processes=2),
    "latency": latency,
    "backlog": backlog,
    "chains": chains,
    "diamonds": diamonds,
    "durable": waits.durable,
    "waits": waits.waits,
    "sleepers": waits.sleepers,
    "idle": idle,
}
ONCE = {"idle", "waits", "sleepers"}
"""What needs no second round."""


def _any_kind(peer: Peer) -> Kind:
    return "async" if "async" in peer.kinds else "sync"


def _those_with(bench: Bench, kind: Kind) -> list[Peer]:
    return [peer for peer in bench.peers if kind in peer.kinds]


def _note(figures: Figures, metric: str, drained: dict[str, list[Drained]]) -> None:
    for name, turns in drained.items():
        for turn, one in enumerate(turns):
            figures.add(metric, name, one.rate, turn, partial=one.partial)
