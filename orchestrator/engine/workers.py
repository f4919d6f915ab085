"""Workers: the row that says that a worker process is alive."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from orchestrator.engine.sessions import Session, array, statements
from orchestrator.states import WORKER_TRANSITIONS, WorkerStatus


def register_worker(
    session: Session,
    worker_id: UUID,
    *,
    name: str,
    hostname: str,
    pid: int,
    queues: Sequence[str],
    labels: Mapping[str, str],
    tasks: Collection[int],
    slots: int,
    processes: int,
) -> None:
    """Write the row of a worker that starts. `slots` counts all its children's."""
    session.send(
        statements("workers")["register"],
        {
            "worker_id": worker_id,
            "name": name,
            "hostname": hostname,
            "pid": pid,
            "queues": json.dumps(list(queues)),
            "labels": json.dumps(dict(labels)),
            "tasks": json.dumps([str(task_id) for task_id in tasks]),
            "slots": slots,
            "processes": processes,
        },
    )


def heartbeat(session: Session, worker_id: UUID) -> bool:
    """Say that a worker is alive; False where it has been declared lost."""
    rows = session.fetch(statements("workers")["heartbeat"], {"worker_id": worker_id})
    return bool(rows)


def set_status(session: Session, worker_id: UUID, status: WorkerStatus) -> bool:
    """Move a living worker to another status, or leave it there.

    False where it cannot go there: it has been declared lost, has stopped, or drains.
    """
    before = [
        earlier.value
        for earlier, following in WORKER_TRANSITIONS.items()
        if status in following or (earlier == status and following)
    ]
    rows = session.fetch(
        statements("workers")["status"],
        {"worker_id": worker_id, "status": status.value, "before": array(before)},
    )
    return bool(rows)


def stop(session: Session, worker_id: UUID) -> None:
    """Say that a worker has ended. Leases that it still has are rescued."""
    session.send(statements("workers")["stop"], {"worker_id": worker_id})
