"""A run's peers and their databases, and the moves that measures are made of."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import cpu
from benchmarks.peers import Kind, Peer
from benchmarks.profiles import Profile
from benchmarks.server import Server
from benchmarks.stamps import Stamps

READY_SECONDS = 60


@dataclass(frozen=True)
class Drained:
    """Tasks per second from the first start to the last durable end.

    ``partial``: cut short at the profile's limit, by the tasks begun until then. CPU
    times in microseconds a task.
    """

    rate: float
    partial: bool = False
    worker_cpu: float = 0.0
    server_cpu: float = 0.0


class Bench:
    """Holds what all measures share."""

    def __init__(
        self, server: Server, stamps: Stamps, profile: Profile, peers: list[Peer]
    ) -> None:
        self.server = server
        self.stamps = stamps
        self.profile = profile
        self.peers = peers
        self._templates: set[str] = set()

    def close(self) -> None:
        """Stop whatever a peer still runs."""
        with contextlib.ExitStack() as stack:
            for peer in self.peers:
                stack.callback(peer.close)

    # -- sessions

    @contextlib.contextmanager
    def session(self, peer: Peer, *, backlog: bool = False) -> Iterator[None]:
        """The peer connected to a fresh database; stopped at the end."""
        self.fresh(peer, backlog=backlog)
        self.stamps.clear()
        try:
            peer.connect()
            yield
        finally:
            peer.stop()

    @contextlib.contextmanager
    def joint_session(self, peers: list[Peer]) -> Iterator[None]:
        """Several peers connected, each to a fresh database; stopped at the end."""
        self.stamps.clear()
        with contextlib.ExitStack() as stack:
            for peer in peers:
                self.fresh(peer)
                stack.callback(peer.stop)
                peer.connect()
            yield

    def fresh(self, peer: Peer, *, backlog: bool = False) -> None:
        """Give the peer a database as it is after its installation, or behind its
        backlog. What takes long is made once per run and copied."""
        empty, full = f"{peer.name}_empty", f"{peer.name}_backlog"
        if empty not in self._templates:
            if peer.on_postgres:
                self.server.create(peer.name)
            peer.prepare()
            self._keep(peer, empty)
        if backlog and full not in self._templates:
            self.server.create(peer.name, empty)
            try:
                peer.connect()
                peer.backlog(self.profile.backlog)
            finally:
                peer.stop()
            self.server.analyze(peer.name)
            self._keep(peer, full)
        if peer.on_postgres:
            self.server.create(peer.name, full if backlog else empty)

    def _keep(self, peer: Peer, template: str) -> None:
        if peer.on_postgres:
            self.server.create(template, peer.name)
        self._templates.add(template)

    # -- moves

    def start(self, peer: Peer, kind: Kind, processes: int) -> None:
        """Start workers and return when each of their processes has worked."""
        expected = self.stamps.processes() + processes
        peer.start_workers(kind, processes)
        deadline = time.monotonic() + READY_SECONDS
        while self.stamps.processes() < expected:
            numbers = self.stamps.take(50)
            peer.enqueue_many(kind, numbers)
            if not self.wait_begun(peer, numbers, deadline):
                raise TimeoutError(
                    f"{peer.name}: not each of {processes} worker processes began a "
                    f"task within {READY_SECONDS} s"
                )
        if not peer.wait_done(deadline):
            raise TimeoutError(f"{peer.name} did not finish its first tasks")

    def wait_begun(self, peer: Peer, numbers: range, deadline: float) -> bool:
        """Wait until all of them have begun; False if the deadline came first."""
        look = time.monotonic() + 0.5
        while not self.stamps.all_begun(numbers):
            now = time.monotonic()
            if now > deadline:
                return False
            if now > look:
                peer.processes.check()
                look = now + 0.5
            time.sleep(0.002)
        return True

    def drain(self, peer: Peer, kind: Kind, processes: int, count: int) -> Drained:
        """The median of the profile's bursts on workers that are up and warm."""
        self.start(peer, kind, processes)
        self.burst(peer, kind, max(50, count // 4))
        drained = [self.burst(peer, kind, count) for _ in range(self.profile.bursts)]
        return Drained(
            statistics.median(one.rate for one in drained),
            any(one.partial for one in drained),
            statistics.median(one.worker_cpu for one in drained),
            statistics.median(one.server_cpu for one in drained),
        )

    def burst(self, peer: Peer, kind: Kind, count: int) -> Drained:
        """Commit ``count`` tasks at once in front of idle workers, wait for all."""
        numbers = self.stamps.take(count)
        self.server.checkpoint()
        peer.burst(kind, numbers)
        before = self._cpu(peer)
        deadline = time.monotonic() + self.profile.limit
        complete = self.wait_begun(peer, numbers, deadline)
        complete = complete and peer.wait_done(deadline)
        end = time.monotonic_ns()
        spent = self._cpu(peer) - before
        begun = self.stamps.of(numbers)
        if not begun:
            return Drained(0.0, partial=True)
        return Drained(
            len(begun) / (end - min(begun)) * 1e9,
            not complete,
            spent.worker / len(begun) * 1e6,
            spent.server / len(begun) * 1e6,
        )

    def _cpu(self, peer: Peer) -> cpu.Cpu:
        return cpu.used(peer.processes.pids(), self.server.postmaster)
