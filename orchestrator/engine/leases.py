"""Leases: what the database says that a worker holds."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from orchestrator.engine.claim import WorkerKey
from orchestrator.engine.give_back import give_back
from orchestrator.engine.sessions import Session, array, statements


class Held(NamedTuple):
    """One lease; `attempt` is the number of the attempt under way.

    `age` is for how many seconds it has been held, by the database's clock.
    """

    task_run_id: UUID
    run_id: UUID
    task_id: int
    child_id: int
    queue_id: int
    attempt: int
    failures: int
    losses: int
    age: float


def held(session: Session, worker_id: UUID, child_id: int | None = None) -> list[Held]:
    """The leases of a worker, or of one of its children."""
    rows = session.fetch(
        statements("leases")["held"], {"worker_id": worker_id, "child_id": child_id}
    )
    return [Held(*row) for row in rows]


def strays(session: Session, worker_id: UUID, living: Collection[int]) -> list[int]:
    """Children that hold leases of a worker although they are not among `living`.

    A server process goes on with what a client had sent before it was killed: a claim
    may commit after the leases of its child were taken back.
    """
    rows = session.fetch(
        statements("leases")["strays"],
        {"worker_id": worker_id, "living": array(living)},
    )
    return [row[0] for row in rows]


def reconcile(
    session: Session, worker: WorkerKey, memory: Collection[UUID]
) -> set[UUID]:
    """Compare a child's leases with the task runs that it has in memory.

    Leases that it does not know (a claim whose answer was lost) return to their queues,
    uncharged. Returns the task runs in memory whose lease is gone: cancelled, or
    declared lost; their reports would be refused. To be called between exchanges.
    """
    leases = held(session, *worker)
    unknown = [
        (lease.run_id, lease.task_run_id, lease.attempt)
        for lease in leases
        if lease.task_run_id not in memory
    ]
    give_back(session, worker.worker_id, unknown)
    return set(memory) - {lease.task_run_id for lease in leases}
