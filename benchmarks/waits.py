"""Measures of what waits: ours alone, for the peers have nothing of the kind."""

from __future__ import annotations

import time
from typing import Literal

from benchmarks import cpu
from benchmarks.bench import Bench
from benchmarks.peers.ours import Ours
from benchmarks.report import Figures

PER_CALL = 1_000
PATIENCE = 300.0
"""Seconds in which everything has to come to its wait."""
BOOKED_LATE = 12
"""Seconds; PostgreSQL counts a session's transactions up to ten seconds late."""


def durable(bench: Bench, figures: Figures) -> None:
    """Durable tasks of a step and a child, finished per second by two workers."""
    for peer in _ours(bench):
        with bench.session(peer):
            drained = bench.drain_in_turns(
                [peer], "durable", 2, lambda peer: bench.profile.durable
            )
        for turn, one in enumerate(drained[peer.name]):
            figures.add("durable", peer.name, one.rate, turn, partial=one.partial)


def waits(bench: Bench, figures: Figures) -> None:
    """Waits on one event key, each of a scope of its own: from the commit of their
    events until all of them are over, per second."""
    for peer in _ours(bench):
        with bench.session(peer):
            peer.start_scheduler()
            numbers = _wait_for(bench, peer, "event", bench.profile.waits)
            began = time.monotonic()
            for start in range(numbers.start, numbers.stop, PER_CALL):
                peer.push(range(start, min(start + PER_CALL, numbers.stop)))
            _until_waiting(peer, 0)
            spent = time.monotonic() - began
            figures.add("waits", peer.name, len(numbers) / spent)


def sleepers(bench: Bench, figures: Figures) -> None:
    """What ten thousand sleeping durable tasks cost an idle worker and scheduler."""
    for peer in _ours(bench):
        with bench.session(peer):
            peer.start_scheduler()
            _wait_for(bench, peer, "sleep", 10)
            before = _idle(bench, peer)
            _wait_for(bench, peer, "sleep", bench.profile.sleepers, 10)
            after = _idle(bench, peer)
        for metric, one, other in zip(
            ("sleepers-tx", "sleepers-cpu"), before, after, strict=True
        ):
            figures.add(metric, peer.name, other / one if one else 1.0)


def _ours(bench: Bench) -> list[Ours]:
    return [peer for peer in bench.peers if isinstance(peer, Ours)]


def _wait_for(
    bench: Bench,
    peer: Ours,
    kind: Literal["event", "sleep"],
    count: int,
    already: int = 0,
) -> range:
    """Enqueue so many, and return once each of them waits and nothing else runs."""
    if not already:
        peer.start_workers(kind, 2)
    numbers = bench.stamps.take(count)
    for start in range(numbers.start, numbers.stop, PER_CALL):
        chunk = range(start, min(start + PER_CALL, numbers.stop))
        peer.enqueue_many(kind, chunk)
    _until_waiting(peer, already + count)
    return numbers


def _idle(bench: Bench, peer: Ours) -> tuple[float, float]:
    """Transactions and CPU seconds, of all processes, in a while of doing nothing."""
    time.sleep(BOOKED_LATE)
    name = peer.name
    before = bench.server.transactions([name])[name]
    used = cpu.used(peer.processes.pids(), bench.server.postmaster)
    time.sleep(bench.profile.idle_seconds)
    spent = cpu.used(peer.processes.pids(), bench.server.postmaster) - used
    time.sleep(BOOKED_LATE)
    booked = bench.server.transactions([name])[name] - before
    seconds = bench.profile.idle_seconds + BOOKED_LATE
    return booked / seconds, spent.worker + spent.server


def _until_waiting(peer: Ours, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while peer.waiting() != count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not reached within {PATIENCE:g} s.")
        time.sleep(0.05)
