"""Give back: return claims that were never started, at no cost to any budget."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from orchestrator.engine import notify
from orchestrator.engine.sessions import Session, array, statements


def give_back(
    session: Session, worker_id: UUID, held: Iterable[tuple[UUID, UUID, int]]
) -> set[UUID]:
    """Return leases of one worker to their queues; a durable transaction.

    `held` has run id, task run id and attempt of each. Returns the task runs that are
    queued again; the others were locked elsewhere or are not this worker's any more.
    """
    rows = list(held)
    if not rows:
        return set()
    with session.transaction():
        return give_back_within(session, worker_id, rows)


def give_back_within(
    session: Session, worker_id: UUID, rows: list[tuple[UUID, UUID, int]]
) -> set[UUID]:
    """The same inside the transaction at hand."""
    returned = session.fetch(
        statements("give_back")["give_back"],
        {
            "worker_id": worker_id,
            "run_ids": array([row[0] for row in rows]),
            "task_run_ids": array([row[1] for row in rows]),
            "attempts": array([row[2] for row in rows]),
        },
    )
    notify.wake(session, {row[1] for row in returned})
    return {row[0] for row in returned}
