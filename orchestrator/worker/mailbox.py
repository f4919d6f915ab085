"""The mailbox: how slots hand their finished work to the engine thread.

Putting work in is one append. The engine thread is woken only while it sleeps, and only
once what it waits for is there: `wanted` items, or slots that have run dry.
"""

from __future__ import annotations

import sys
import threading
from collections import deque

from orchestrator.worker.execute import Work

NOT_WAITING = sys.maxsize


class Mailbox:
    """Finished work, in the order in which it came; one reader, any writers."""

    def __init__(self) -> None:
        self.items: deque[Work] = deque()
        self.wanted = NOT_WAITING
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, work: Work) -> None:
        """Hand work over whose result is set."""
        self.items.append(work)
        if len(self.items) >= self.wanted:
            self.ring()

    def dry(self) -> None:
        """A slot has nothing left to do: what is here is all that comes for now."""
        if self.items and self.wanted != NOT_WAITING:
            self.ring()

    def ring(self) -> None:
        """Wake the reader, now or as soon as it sleeps."""
        try:
            self._bell.release()
        except RuntimeError:
            return  # it has been rung already

    def sleep(self, seconds: float, wanted: int) -> None:
        """Wait for `wanted` items, for dry slots or a ring, at most so long."""
        self.wanted = wanted
        if len(self.items) < wanted:
            self._bell.acquire(timeout=max(seconds, 0.0))
        self.wanted = NOT_WAITING

    def take(self) -> list[Work]:
        """All that is here."""
        items = self.items
        return [items.popleft() for _ in range(len(items))]
