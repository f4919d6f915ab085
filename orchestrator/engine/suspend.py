"""Suspend: attempts that have to wait give their slots back.

What they wait for is written in the same transaction: journal entries, conditions and
child runs. The fence is that of every report, the deletion of the lease.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import failpoints, notify, resume, versions, waits
from orchestrator.engine.sessions import Session, array, statements, uuids
from orchestrator.engine.settle import Result, Settled


def suspend(session: Session, worker_id: UUID, results: Sequence[Result]) -> Settled:
    """Settle results whose outcome is a durable wait; a durable transaction.

    A task run of which something has come true meanwhile is queued again at once.
    """
    settled = Settled()
    failpoints.hit("suspend.before")
    with session.transaction():
        rows = session.fetch(
            statements("suspend")["suspend"], _reports(session, worker_id, results)
        )
        accepted = {row[0] for row in rows if row[0] is not None}
        elsewhere = {row[1] for row in rows if row[1] is not None}
        requests = [
            request
            for result in results
            if result.claim.task_run_id in accepted
            for request in result.waits or ()
        ]
        settled.judge = waits.write(session, requests)
        again = _over(session, requests)
        if again:
            settled.queues = resume.release(session, again)
            notify.wake(session, settled.queues)
    failpoints.hit("suspend.after")
    for result in results:
        if result.claim.task_run_id in accepted:
            settled.accepted += 1
        elif result.claim.run_id in elsewhere:
            settled.deferred.append(result)
        else:
            settled.refused.append(result)
    return settled


def _over(session: Session, requests: Sequence[waits.Request]) -> set[UUID]:
    """Task runs with a group that came true before they were suspended."""
    recorded = [request for request in requests if request.recorded]
    if not recorded:
        return set()
    still_open = waits.open_groups(session, recorded)
    return {
        request.task_run_id
        for request in recorded
        if (request.task_run_id, request.group) not in still_open
    }


def _reports(
    session: Session, worker_id: UUID, results: Sequence[Result]
) -> dict[str, Any]:
    now = time.monotonic()
    claims = [result.claim for result in results]
    shapes = [versions.shape(session, claim.version_id) for claim in claims]
    return {
        "worker_id": worker_id,
        "task_run_ids": uuids(claim.task_run_id for claim in claims),
        "run_ids": uuids(claim.run_id for claim in claims),
        "attempt_ids": array(
            ids.attempt_hex(claim.task_run_id, claim.attempt) for claim in claims
        ),
        "attempts": array(claim.attempt for claim in claims),
        "started": array(now - result.started for result in results),
        "finished": array(now - result.finished for result in results),
        "singles": array(shape is None or shape.single for shape in shapes),
    }
