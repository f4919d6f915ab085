"""Residents of a child: durable functions that keep their slots while they wait.

The engine thread looks whether what they wait for is over, and has them give their
slots back: when their policy says so, for others, or because the child is to end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

from orchestrator.durable.residents import AsyncResident, Resident
from orchestrator.engine import journal, waits
from orchestrator.engine.sessions import Session
from orchestrator.worker import hygiene
from orchestrator.worker.appetite import Pool
from orchestrator.worker.mailbox import Mailbox

FIRST_LOOK, LAST_LOOK = 0.05, 0.5  # seconds between two looks; they double
SETTLED = 0.5  # seconds that one has waited before it makes room for others


class Residents:
    """Those of one child. `threads` and `loop` are the pools of durable tasks."""

    def __init__(self, mailbox: Mailbox, threads: Pool, loop: Pool) -> None:
        self.mailbox = mailbox
        self.threads = threads
        self.loop = loop
        self.due_at = float("inf")
        self._pause = FIRST_LOOK
        self._all: set[Resident] = set()
        self._lock = threading.Lock()

    # From any thread.

    def add(self, resident: Resident) -> None:
        """One more, or one that waits for more."""
        with self._lock:
            self._all.add(resident)
        self.look_soon()
        self.mailbox.ring()

    def remove(self, resident: Resident) -> None:
        """It does not wait any more."""
        with self._lock:
            self._all.discard(resident)

    # For the engine thread.

    def all(self) -> list[Resident]:
        """Those that wait now."""
        with self._lock:
            return list(self._all)

    def look_soon(self) -> None:
        """Something may be over."""
        self._pause = FIRST_LOOK
        self.due_at = monotonic() + FIRST_LOOK

    def look(self, session: Session) -> None:
        """Deliver what is over."""
        residents = self.all()
        if not residents:
            self.due_at = float("inf")
            return
        self.due_at = monotonic() + self._pause
        self._pause = min(2 * self._pause, LAST_LOOK)
        groups = [
            (resident.fence.task_run_id, group)
            for resident in residents
            for group in resident.groups
        ]
        still_open = waits.open_among(session, groups)
        for resident in residents:
            for group, positions in resident.groups.items():
                if (resident.fence.task_run_id, group) not in still_open:
                    self._deliver(session, resident, group, positions)

    def _deliver(
        self, session: Session, resident: Resident, group: int, positions: Sequence[int]
    ) -> None:
        # A step of another branch may be between its record and the word of it.
        if not resident.in_order.acquire(blocking=False):
            self.look_soon()
            return
        try:
            entries = journal.deliver(
                session, resident.fence, resident.branch, positions
            )
            if len(entries) == len(positions):
                resident.deliver(group, entries)
                self.look_soon()
        finally:
            resident.in_order.release()

    def evict(self, now: float, *, leaving: bool) -> None:
        """Have those give their slots back whose time it is."""
        residents = self.all()
        for resident in residents:
            policy = resident.policy
            ttl = None if policy is None else policy.ttl
            waited = now - resident.since
            if leaving or (ttl is not None and waited >= ttl.total_seconds()):
                resident.evict()
        for pool in (self.threads, self.loop):
            if not leaving and pool.size and pool.in_hand >= pool.size:
                on_loop = pool is self.loop
                self._make_room(
                    [r for r in residents if isinstance(r, AsyncResident) is on_loop],
                    now,
                )

    def _make_room(self, residents: Sequence[Resident], now: float) -> None:
        willing = [
            (resident.policy.priority, resident.since, resident)
            for resident in residents
            if resident.policy is not None
            and resident.policy.capacity
            and now - resident.since >= SETTLED
        ]
        if willing:
            min(willing, key=lambda one: one[:2])[2].evict()


class StepThreads(ThreadPoolExecutor):
    """Where steps of async functions are executed: threads with a connection each."""

    def __init__(self, size: int) -> None:
        super().__init__(
            size, thread_name_prefix="step", initializer=hygiene.adopt_thread
        )

    def submit(
        self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Call it, and leave the thread's connection clean."""

        def tidied() -> Any:
            try:
                return function(*args, **kwargs)
            finally:
                hygiene.tidy(hygiene.here.opened)

        return super().submit(tidied)
