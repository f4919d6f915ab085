"""Gather: claim many runs of a batch task together, once there are enough of them.

A member waits as a queue item like any other; what makes a batch of them is that they
are claimed in one statement. So cancels, timeouts and lost workers need no word here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.engine.claim import Claim, WorkerKey
from orchestrator.engine.groups import BROKEN
from orchestrator.engine.sessions import Session, array, statements
from orchestrator.engine.shapes import TaskShape

LOOK = 1_000  # lanes that one look considers
SOON = 0.05  # seconds until what is due and was not taken is tried again


@dataclass
class Gathered:
    """The batches that were claimed, and in how many seconds there may be more."""

    batches: list[list[Claim]] = field(default_factory=list)
    next_in: float | None = None


def gather(
    session: Session,
    worker: WorkerKey,
    queues: Sequence[int],
    tasks: Sequence[TaskShape],
    limit: int,
) -> Gathered:
    """Claim up to `limit` batches of these tasks that are due; a durable transaction.

    Waits for nothing. A batch is due with `max_size` members or 4,000,000 bytes of
    their inputs, or when the oldest has waited for `max_interval`, whichever worker
    looks; `group_max_runs` of a group are executed at once.
    """
    steps = statements("gather")
    by_base = {task.lane: task for task in tasks}
    rows = session.fetch(
        steps["ripe"],
        {
            "queues": array(queues),
            "bases": array(by_base),
            "sizes": array(_policy(task)["max_size"] for task in tasks),
            "intervals": array(_policy(task)["max_interval"] for task in tasks),
            "limit": LOOK,
        },
    )
    gathered = Gathered()
    due = [row for row in rows if row[3] == 0]
    if due and limit > 0:
        with session.transaction():
            params = {"lanes": array(row[1] for row in due)}
            locked = {row[0] for row in session.fetch(steps["lock"], params)}
            for queue_id, lane, base, _ in due:
                if len(gathered.batches) >= limit:
                    break
                if lane in locked:
                    params = _params(worker, queue_id, lane, by_base[base])
                    claims = [Claim(*r) for r in session.fetch(steps["take"], params)]
                    if claims:
                        gathered.batches.append(claims)
    later = [row[3] for row in rows if row[3] is not None and row[3] > 0]
    if due:
        gathered.next_in = 0.0 if gathered.batches else SOON
    elif later:
        gathered.next_in = min(later)
    return gathered


def _params(
    worker: WorkerKey, queue_id: int, lane: int, task: TaskShape
) -> dict[str, Any]:
    policy = _policy(task)
    timeout = task.execution_timeout
    return {
        "queue_id": queue_id,
        "lane": lane,
        "size": policy["max_size"],
        "seconds": policy["max_interval"],
        "most": policy["group_max_runs"],
        "at_once": lane == task.lane + BROKEN,
        "timeout_ms": None if timeout is None else max(1, round(timeout * 1000)),
        "worker_id": worker.worker_id,
        "child_id": worker.child_id,
    }


def _policy(task: TaskShape) -> dict[str, Any]:
    return dict(task.batch or {})
