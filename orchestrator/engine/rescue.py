"""Rescue: what a dead worker or child held goes back, charged to a budget of its own.

A rescue is a report in the dead one's name. It goes through the same fence as its own
reports, so whichever comes first counts and the other one changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from uuid import UUID

from orchestrator.conf import settings
from orchestrator.engine import failpoints, leases, notify, verdict, versions
from orchestrator.engine.claim import Claim
from orchestrator.engine.give_back import give_back_within
from orchestrator.engine.leases import Held
from orchestrator.engine.sessions import Session, array, statements
from orchestrator.engine.settle import settle
from orchestrator.engine.shapes import TaskShape

BATCH = 1_000


def find_lost(session: Session) -> list[UUID]:
    """Declare workers lost whose heartbeat is too old; return all lost ones that still
    hold leases.

    Level-triggered: what an earlier rescue left behind is found again.
    """
    steps = statements("rescue")
    params = {"lost_after": settings.lost_after.total_seconds()}
    with session.transaction():
        session.fetch(steps["declare"], params)
    return [row[0] for row in session.fetch(steps["holding"], params)]


def rescue(
    session: Session,
    worker_id: UUID,
    child_id: int | None = None,
    started: Collection[UUID] | None = None,
    detail: str = "The worker process was lost.",
) -> int:
    """Take back the leases of a dead worker, or of one dead child of it.

    `started` are the task runs whose execution had begun: they are charged and have a
    LOST attempt; the rest return uncharged. None charges all, where nobody knows.
    Returns how many leases are taken back. Durable transactions of a thousand each.

    Runs that are locked elsewhere are left for last and then waited for, a second at
    most, for nobody looks twice for what the child of a living worker held. Raises
    psycopg.errors.LockNotAvailable beyond that; what is taken back by then stays so.
    """
    taken = 0
    pending = leases.held(session, worker_id, child_id)
    failpoints.hit("rescue.before")
    for wait in (False, True):
        for start in range(0, len(pending), BATCH):
            batch = pending[start : start + BATCH]
            with session.transaction():
                if wait:
                    _wait_for(session, batch)
                taken += _take_back(session, worker_id, batch, started, detail)
        if pending:
            still = {h.task_run_id for h in leases.held(session, worker_id, child_id)}
            pending = [h for h in pending if h.task_run_id in still]
    return taken


def _wait_for(session: Session, held: Sequence[Held]) -> None:
    steps = statements("rescue")
    session.send(steps["patience"], {})
    session.fetch(steps["wait"], {"run_ids": array({h.run_id for h in held})})


def _take_back(
    session: Session,
    worker_id: UUID,
    held: Sequence[Held],
    started: Collection[UUID] | None,
    detail: str,
) -> int:
    charged = [h for h in held if started is None or h.task_run_id in started]
    free = [h for h in held if started is not None and h.task_run_id not in started]
    taken = 0
    if free:
        returned = [(h.run_id, h.task_run_id, h.attempt) for h in free]
        taken += len(give_back_within(session, worker_id, returned))
    results = []
    for lease, claim, task in described(session, charged):
        began, ended = since(lease.age)
        results.append(verdict.lost(claim, task, detail, started=began, finished=ended))
    if results:
        settled = settle(session, worker_id, results)
        notify.wake(session, settled.queues)
        taken += settled.accepted
    return taken


def described(
    session: Session, held: Sequence[Held]
) -> list[tuple[Held, Claim, TaskShape]]:
    """Leases with their claims, without inputs, and their tasks as their runs have
    them; without those whose version is not registered here."""
    if not held:
        return []
    params = {"run_ids": array({lease.run_id for lease in held})}
    runs = {
        row[0]: row[1:] for row in session.fetch(statements("rescue")["runs"], params)
    }
    found = []
    for lease in held:
        version_id, priority, tenant = runs[lease.run_id]
        shape = versions.shape(session, version_id)
        task = shape.task(lease.task_id) if shape else None
        if task is None:
            continue
        claim = Claim(
            task_run_id=lease.task_run_id,
            run_id=lease.run_id,
            task_id=lease.task_id,
            queue_id=lease.queue_id,
            attempt=lease.attempt,
            failures=lease.failures,
            losses=lease.losses,
            version_id=version_id,
            priority=priority,
            tenant=tenant,
            metadata="{}",
            input="null",
        )
        found.append((lease, claim, task))
    return found


def since(age: float) -> tuple[float, float]:
    """Start and end of an attempt that nobody timed, as monotonic seconds."""
    now = time.monotonic()
    return now - max(0.0, age), now
