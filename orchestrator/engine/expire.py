"""Expire: task runs that waited for too long, and attempts that ran for too long."""

from __future__ import annotations

import time
from uuid import UUID

from orchestrator.engine import notify, verdict
from orchestrator.engine.give_back import give_back_within
from orchestrator.engine.leases import Held
from orchestrator.engine.rescue import described, since
from orchestrator.engine.sessions import Session, array, statements
from orchestrator.engine.settle import Result, settle
from orchestrator.states import AttemptOutcome

BATCH = 500

# Whoever ends a task run holds its lease. Nobody else has this worker id.
NOBODY = UUID(int=0)

# A worker ends its own attempts in time; the scheduler waits before it steps in.
GRACE = 5.0


def expire(session: Session, limit: int = BATCH) -> int:
    """Cancel queued task runs whose schedule timeout is over; a durable transaction.

    They end CANCELLED without an attempt, and what depends on them with them. Returns
    how many deadlines were looked at; as many as `limit` means there may be more.
    """
    steps = statements("expire")
    with session.transaction():
        due = session.fetch(steps["lock"], {"limit": limit})
        if not due:
            return 0
        params = {"task_run_ids": array(row[0] for row in due), "worker_id": NOBODY}
        rows = session.fetch(steps["take"], params)
        expired = [Held(*row[1:]) for row in rows if row[1] is not None]
        now = time.monotonic()
        results = []
        for _, claim, task in described(session, expired):
            waited = f"{task.schedule_timeout or 0:g}"
            reason = (
                f'Task "{task.name}" was not started within its schedule timeout of '
                f"{waited} s."
            )
            results.append(
                Result(
                    claim,
                    AttemptOutcome.CANCELLED,
                    now,
                    now,
                    reason=reason,
                    executed=False,
                )
            )
        known = {result.claim.task_run_id for result in results}
        unknown = [
            (lease.run_id, lease.task_run_id, lease.attempt)
            for lease in expired
            if lease.task_run_id not in known
        ]
        if unknown:  # of a version that is not registered here yet
            give_back_within(session, NOBODY, unknown)
        if results:
            settle(session, NOBODY, results)
    return len(rows)


def time_out(session: Session, limit: int = BATCH) -> int:
    """End attempts whose execution timeout is over and whose worker did not do so.

    They are settled as TIMED_OUT by the task's own policy, each worker's in a durable
    transaction. Returns how many were ended.
    """
    rows = session.fetch(
        statements("leases")["overdue"], {"grace": GRACE, "limit": limit}
    )
    overdue: dict[UUID, list[Held]] = {}
    for row in rows:
        overdue.setdefault(row[0], []).append(Held(*row[1:]))
    ended = 0
    for worker_id, leases in overdue.items():
        with session.transaction():
            results = []
            for lease, claim, task in described(session, leases):
                started, finished = since(lease.age)
                results.append(
                    verdict.timed_out(claim, task, started=started, finished=finished)
                )
            if results:
                settled = settle(session, worker_id, results)
                notify.wake(session, settled.queues)
                ended += settled.accepted
    return ended
