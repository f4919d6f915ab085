"""What is measured, one function per measure and peer; figures go to ``Figures``."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

from benchmarks.bench import Bench, Drained
from benchmarks.peers import Kind, Peer
from benchmarks.report import Figures

PER_CALL = 1_000

Measure = Callable[[Bench, Peer, Figures], None]


def enqueue(bench: Bench, peer: Peer, figures: Figures) -> None:
    """One by one, a commit each, no worker running."""
    kind = _first_kind(peer)
    with bench.session(peer):
        for number in bench.stamps.take(20):
            peer.enqueue_one(kind, number)
        numbers = bench.stamps.take(bench.profile.single)
        began = time.perf_counter()
        for number in numbers:
            peer.enqueue_one(kind, number)
        spent = time.perf_counter() - began
    figures.add("enqueue", peer.name, len(numbers) / spent)


def bulk(bench: Bench, peer: Peer, figures: Figures) -> None:
    """A thousand per call and commit, no worker running."""
    if not peer.bulk:
        return
    with bench.session(peer):
        peer.enqueue_many("async", bench.stamps.take(PER_CALL))
        calls = [bench.stamps.take(PER_CALL) for _ in range(bench.profile.bulk_calls)]
        began = time.perf_counter()
        for numbers in calls:
            peer.enqueue_many("async", numbers)
        spent = time.perf_counter() - began
    figures.add("bulk", peer.name, PER_CALL * len(calls) / spent)


def drain(
    bench: Bench,
    peer: Peer,
    figures: Figures,
    *,
    kind: Literal["async", "sync"],
    processes: int,
) -> None:
    """A burst in front of idle, warm workers."""
    if kind not in peer.kinds:
        return
    with bench.session(peer):
        drained = bench.drain(peer, kind, processes, _count(bench, peer))
    figures.add_drained(f"drain-{kind}-{processes}", peer.name, drained)


def latency(bench: Bench, figures: Figures) -> None:
    """From the return of enqueue to the start, one task at a time, workers idle.

    All peers' workers are up, and the samples take turns, so that each peer has its
    share of whatever else the machine does. Can be negative: a worker may start before
    the caller has its answer.
    """
    samples: dict[str, list[float]] = {peer.name: [] for peer in bench.peers}
    with bench.joint_session(bench.peers):
        for peer in bench.peers:
            bench.start(peer, _first_kind(peer), 1)
        time.sleep(1)
        for _ in range(bench.profile.samples):
            for peer in bench.peers:
                samples[peer.name].append(_sample(bench, peer))
    for name, values in samples.items():
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        for percent in (50, 95, 99):
            figures.add(f"latency-p{percent}", name, cuts[percent - 1])


def _sample(bench: Bench, peer: Peer) -> float:
    """Milliseconds of one task."""
    (number,) = numbers = bench.stamps.take(1)
    peer.enqueue_one(_first_kind(peer), number)
    returned = time.monotonic_ns()
    # Not in step with anybody's poll interval.
    time.sleep(random.uniform(0.02, 0.05))
    if not bench.wait_begun(peer, numbers, time.monotonic() + 10):
        raise TimeoutError(f"{peer.name} did not start a task within 10 s")
    return (bench.stamps.at(number) - returned) / 1e6


def backlog(bench: Bench, peer: Peer, figures: Figures) -> None:
    """A drain without and one with the backlog, one after the other."""
    if "async" not in peer.kinds:
        return
    count = behind = _count(bench, peer)
    if peer.pace == "slow":
        behind = bench.profile.behind_slow
    with bench.session(peer):
        without = bench.drain(peer, "async", 1, count)
    with bench.session(peer, backlog=True):
        drained = bench.drain(peer, "async", 1, behind)
    figures.add_drained("backlog", peer.name, drained)
    figures.add("backlog-kept", peer.name, drained.rate / without.rate)


def chains(bench: Bench, peer: Peer, figures: Figures) -> None:
    """Workflows of three tasks, each after the one before it, finished per second."""
    if "chain" not in peer.kinds:
        return
    slow = peer.pace == "slow"
    count = bench.profile.chains_slow if slow else bench.profile.chains
    with bench.session(peer):
        drained: Drained = bench.drain(peer, "chain", 1, count)
    figures.add_drained("chains", peer.name, drained)


def idle(bench: Bench, figures: Figures) -> None:
    """Transactions per second of an idle worker, all peers in the same seconds.

    PostgreSQL books a session's transactions up to ten seconds late, so the workers'
    first tasks must be over for longer than that.
    """
    peers = [peer for peer in bench.peers if peer.on_postgres]
    names = [peer.name for peer in peers]
    seconds = bench.profile.idle_seconds

    def window() -> dict[str, float]:
        before = bench.server.transactions(names)
        time.sleep(seconds)
        after = bench.server.transactions(names)
        return {name: (after[name] - before[name]) / seconds for name in names}

    with bench.joint_session(peers):
        time.sleep(min(seconds, 2))
        without = window()
        for peer in peers:
            bench.start(peer, "async", 1)
        time.sleep(seconds + 2)
        with_worker = window()
    for name in names:
        figures.add("idle", name, max(0.0, with_worker[name] - without[name]))


MEASURES: dict[str, Measure] = {
    "enqueue": enqueue,
    "bulk": bulk,
    "drain-async-1": partial(drain, kind="async", processes=1),
    "drain-async-2": partial(drain, kind="async", processes=2),
    "drain-sync-1": partial(drain, kind="sync", processes=1),
    "drain-sync-2": partial(drain, kind="sync", processes=2),
    "backlog": backlog,
    "chains": chains,
}
"""What peers do one after the other."""

JOINT: dict[str, Callable[[Bench, Figures], None]] = {"latency": latency, "idle": idle}
"""What they do at the same time."""

ONCE = {"idle"}
"""What needs no second round."""

NAMES = (*MEASURES, *JOINT)


def _first_kind(peer: Peer) -> Kind:
    return "async" if "async" in peer.kinds else "sync"


def _count(bench: Bench, peer: Peer) -> int:
    profile = bench.profile
    return profile.drain_slow if peer.pace == "slow" else profile.drain
