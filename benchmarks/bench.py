"""A run's peers and their databases, and the moves that measures are made of."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
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

    @property
    def cpu(self) -> float:
        """Of worker and server together."""
        return self.worker_cpu + self.server_cpu


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
    def session(self, *peers: Peer, backlog: bool = False) -> Iterator[None]:
        """The peers connected, each to a fresh database; stopped at the end."""
        self.stamps.clear()
        with contextlib.ExitStack() as stack:
            for peer in peers:
                self.fresh(peer, backlog=backlog)
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
        drained = self.drain_in_turns([peer], kind, processes, lambda _: count)
        return sorted(drained[peer.name], key=lambda one: one.rate)[
            self.profile.bursts // 2
        ]

    def drain_in_turns(
        self,
        peers: Sequence[Peer],
        kind: Kind,
        processes: int,
        count: Callable[[Peer], int],
    ) -> dict[str, list[Drained]]:
        """Bursts of the peers in turns, one per turn of the profile, by peer.

        All workers are up from the beginning; those whose turn it is not are idle. A
        peer whose burst was cut short gets no other turn: it is still busy with it.
        """
        for peer in peers:
            self.start(peer, kind, processes)
            self.burst(peer, kind, max(50, count(peer) // 4))
        drained: dict[str, list[Drained]] = {peer.name: [] for peer in peers}
        for turn in range(self.profile.bursts):
            for peer in in_order(peers, turn):
                mine = drained[peer.name]
                if not (mine and mine[-1].partial):
                    mine.append(self.burst(peer, kind, count(peer)))
        return drained

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


def in_order(peers: Sequence[Peer], turn: int) -> list[Peer]:
    """Forwards and backwards in turns, so that nobody always follows the same one."""
    return list(peers) if turn % 2 == 0 else list(reversed(peers))
