"""The children of a supervisor: started, watched, replaced, and ended."""

from __future__ import annotations

import logging
import selectors
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from orchestrator.conf import settings
from orchestrator.engine.faults import Backoff
from orchestrator.worker import boot
from orchestrator.worker.engine import REPLACE_ME
from orchestrator.worker.orders import RECONCILE, TEND, WAKE
from orchestrator.worker.process import Child, WorkerOptions

logger = logging.getLogger("orchestrator")

FEED_WANTED = 60.0  # seconds for which one request makes children send hints
HEALTHY = 30.0  # seconds after which a child's end is not the fault of its start


@dataclass(frozen=True)
class Dead:
    """A child that has ended, whose leases are still to be taken back."""

    worker_id: UUID
    child_id: int
    started: frozenset[UUID]  # those that are charged
    detail: str


class Nursery:
    """Up to `options.processes` children. Ids are never used again."""

    def __init__(
        self, options: WorkerOptions, selector: selectors.BaseSelector
    ) -> None:
        self.options = options
        self.selector = selector
        self.children: list[Child] = []
        self.start_at = 0.0  # not before: the last ones died young
        self._next_id = 1
        self._restarts = Backoff(0.1, 30.0)

    @property
    def complete(self) -> bool:
        """Whether there are as many as there should be."""
        return len(self.children) >= self.options.processes

    def beat(self) -> None:
        """Let the children know that their supervisor lives."""
        for child in self.children:
            child.board.beat_supervisor()

    def fill(self, worker_id: UUID, now: float) -> None:
        """Start what is missing; those that keep dying come back ever more slowly."""
        while not self.complete and now >= self.start_at:
            child = Child(self._next_id, worker_id, self.options)
            self._next_id += 1
            self.children.append(child)
            child.watch(self.selector)

    def reap(self, now: float) -> list[Dead]:
        """The children that have ended since; those that hang are killed."""
        dead = []
        for child in list(self.children):
            if child.ended():
                dead.append(self._bury(child, now))
            elif not child.killed and child.stalled(
                settings.child_stall.total_seconds()
            ):
                logger.error("Child %d has stalled; it is killed.", child.id)
                child.kill()
        return dead

    def _bury(self, child: Child, now: float) -> Dead:
        code = child.process.returncode
        how = boot.exit_text(code)
        started = frozenset(child.board.started())
        expected = child.draining or code == REPLACE_ME
        if expected:
            started = frozenset()  # neither a deploy nor a replacement costs a budget
            self._restarts.reset()
            self.start_at = now
        else:
            logger.error(
                "Child %d died (%s); what it had started runs again.", child.id, how
            )
            if child.age > HEALTHY:
                self._restarts.reset()
            self.start_at = now + self._restarts.next()
        detail = f"The process that executed the task died: {how}."
        dead = Dead(child.worker_id, child.id, started, detail)
        self._remove(child)
        return dead

    def tell(self, news: Collection[str]) -> None:
        """Pass on what was heard: `wake`, `cancel`, `feed`; `tend` to one of them."""
        if "tend" in news and self.children:
            self.children[0].say(TEND)
        for child in self.children:
            if "wake" in news:
                child.say(WAKE)
            if "cancel" in news:
                child.say(RECONCILE)
            if "feed" in news:
                child.board.want_feed(FEED_WANTED)

    def drain(self) -> None:
        """Have all finish what they run, and claim nothing more."""
        for child in self.children:
            child.drain()

    def stop_now(self) -> None:
        """Have all settle what has finished, and end."""
        for child in self.children:
            child.stop_now()

    def kill(self) -> None:
        """End all, whatever they do; they are reaped as usual."""
        for child in self.children:
            child.kill()

    def abandon(self) -> None:
        """End all and forget what they held: it is not theirs any more."""
        self.kill()
        for child in list(self.children):
            self._remove(child)

    def _remove(self, child: Child) -> None:
        self.children.remove(child)
        child.close_watch(self.selector)
        child.close()
