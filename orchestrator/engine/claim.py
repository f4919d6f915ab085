"""Claim: what a child process takes from the queues, and how much it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine.sessions import array


class WorkerKey(NamedTuple):
    """Who holds a lease: a worker, and which of its child processes."""

    worker_id: UUID
    child_id: int


class Claim(NamedTuple):
    """A task run taken by a child, with what its function needs.

    `attempt` counts from 1 and is never reset; `failures` and `losses` are what this
    generation has used of its two budgets. `input` and `metadata` are JSON texts.
    `child` says whether a task run may wait for this run; true where nobody looked.
    """

    task_run_id: UUID
    run_id: UUID
    task_id: int
    queue_id: int
    attempt: int
    failures: int
    losses: int
    version_id: int
    priority: int
    tenant: str
    metadata: str
    input: str
    child: bool = True
    event_id: UUID | None = None


@dataclass(frozen=True)
class Demand:
    """What a child asks for: how many, from which queues in order, of which lanes.

    `lanes` maps each lane that the worker knows to its task's execution timeout in
    milliseconds, or None.
    """

    queues: tuple[int, ...]
    lanes: Mapping[int, int | None]
    limit: int

    def params(self, worker: WorkerKey) -> dict[str, Any]:
        """The parameters of `claim.sql`."""
        timed = [lane for lane, timeout in self.lanes.items() if timeout is not None]
        return {
            "queues": array(self.queues),
            "lanes": array(sorted(self.lanes)),
            "timed_lanes": array(timed),
            "timeouts": array(self.lanes[lane] for lane in timed),
            "worker_id": worker.worker_id,
            "child_id": worker.child_id,
            "limit": self.limit,
        }
