"""Residents: functions that keep their slots while they wait.

Their slot registers what they wait for; the engine thread of the worker looks for its
end and delivers it, or has them give the slot back.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from orchestrator.durable.branches import Branches
from orchestrator.durable.calls import Ask
from orchestrator.engine.journal import Entry, Fence
from orchestrator.exceptions import TaskCancelled
from orchestrator.policies import Eviction


@dataclass(eq=False)
class Resident:
    """One function that waits; `groups` are the positions that it waits for.

    `since` is when it began to, in monotonic seconds. `policy` None keeps the slot for
    as long as the worker has it.
    """

    fence: Fence
    branch: int
    policy: Eviction | None
    in_order: threading.Lock
    groups: dict[int, list[int]] = field(default_factory=dict)
    since: float = field(default_factory=monotonic)

    def add(self, asks: Sequence[Ask]) -> None:
        """Wait for these, too."""
        groups = dict(self.groups)
        for ask in asks:
            groups.setdefault(ask.group, []).append(ask.position)
        self.groups = groups
        self.since = monotonic()

    def deliver(self, group: int, entries: list[Entry]) -> None:
        """A group is over; called by the engine thread, as `evict` is."""
        self.groups = {g: asked for g, asked in self.groups.items() if g != group}
        self.since = monotonic()

    def evict(self) -> None:
        """Have it give its slot back."""


@dataclass(eq=False)
class SyncResident(Resident):
    """A thread that waits for one group."""

    def __post_init__(self) -> None:
        self._bell = threading.Event()
        self._entries: list[Entry] | None = None
        self._stopped = False

    def wait(self) -> list[Entry] | None:
        """What came; None where the slot is to be given back.

        Raises TaskCancelled.
        """
        self._bell.wait()
        if self._stopped:
            raise TaskCancelled
        return self._entries

    def deliver(self, group: int, entries: list[Entry]) -> None:
        super().deliver(group, entries)
        self._entries = entries
        self._bell.set()

    def evict(self) -> None:
        self._bell.set()

    def stop(self) -> None:
        """It was cancelled, or its time is over."""
        self._stopped = True
        self._bell.set()


class AsyncResident(Resident):
    """Branches of a function on an event loop."""

    branches: Branches

    def deliver(self, group: int, entries: list[Entry]) -> None:
        super().deliver(group, entries)
        self.branches.arrived(group, entries)

    def evict(self) -> None:
        self.branches.evict()


class Residents(Protocol):
    """The residents of a worker's process."""

    def add(self, resident: Resident) -> None:
        """One more, or one that waits for more; from any thread."""

    def remove(self, resident: Resident) -> None:
        """It does not wait any more; from any thread."""
