"""Enqueue: create runs, with all their task runs in their places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import clock, groups, notify
from orchestrator.engine.sessions import Session, array, documents, statements, uuids
from orchestrator.engine.shapes import Shape, TaskShape, queue_id

CHUNK = 250  # task runs a statement, at least one run
FIRST = 50  # of the first statement of several, so that the server starts at once


def enqueue(
    session: Session,
    shape: Shape,
    inputs: Sequence[str],
    *,
    queue_name: str | None = None,
    priority: int = 0,
    run_after: datetime | None = None,
    metadata: str = "{}",
    tenant: str = "",
    event_id: UUID | None = None,
    run_ids: Sequence[UUID] | None = None,
    idempotency_keys: Sequence[str | None] = (),
    parents: Sequence[UUID] = (),
) -> list[UUID]:
    """Create one run for each of `inputs` (JSON texts) and return their ids in order.

    Joins the caller's transaction: a rollback leaves nothing. Several statements, one
    for each 250 task runs, are atomic together; the server works on one while the next
    is made. Locks no row that others use.

    `run_ids` are theirs where they are known already; `idempotency_keys`, one a run or
    none at all, are noted with the runs, which hold them since `keys.claim`; `parents`
    are the task runs that spawn them, one a run or none at all.
    """
    run_ids = list(run_ids or clock.new_run_ids(session, len(inputs)))
    queue = None if queue_name is None else queue_id(queue_name)
    common = {
        "workflow_id": shape.workflow_id,
        "version_id": shape.version_id,
        "queue_id": shape.queue_id if queue is None else queue,
        "metadata": metadata,
        "tenant": tenant,
        "priority": priority,
        "run_after": run_after,
        "tasks": len(shape.tasks),
        "event_id": event_id,
    }
    if shape.starts_judged:
        notify.tend(session)
    lanes = groups.lanes(shape, inputs, metadata, tenant)
    runs = max(1, CHUNK // len(shape.tasks))
    statement = statements("enqueue")["enqueue"]
    if len(inputs) <= runs:
        rows = _rows(shape, run_ids, inputs, queue, lanes)
        noted = _noted(idempotency_keys, parents)
        session.send(statement, common | rows | noted)
        return run_ids
    first = max(1, FIRST // len(shape.tasks))
    with session.stream():
        for start in (0, *range(first, len(inputs), runs)):
            part = slice(start, start + runs if start else first)
            some = None if lanes is None else lanes[part]
            rows = _rows(shape, run_ids[part], inputs[part], queue, some)
            noted = _noted(idempotency_keys[part], parents[part])
            session.send(statement, common | rows | noted)
    return run_ids


def _rows(
    shape: Shape,
    run_ids: Sequence[UUID],
    inputs: Sequence[str],
    queue: int | None,
    lanes: list[int] | None,
) -> dict[str, object]:
    count = len(run_ids)
    tasks = shape.tasks
    return {
        "run_ids": uuids(run_ids),
        "inputs": documents(inputs),
        "task_run_ids": array(
            ids.task_run_hex(run_id, task.ordinal)
            for run_id in run_ids
            for task in tasks
        ),
        "task_run_runs": uuids(run_id for run_id in run_ids for _ in tasks),
        "ordinals": array([task.ordinal for task in tasks] * count),
        "remaining": array([_awaited(task) for task in tasks] * count),
        "task_ids": array([task.id for task in tasks] * count),
        "lanes": array(lanes or [task.lane for task in tasks] * count),
        "queue_ids": array(
            [task.queue_id if queue is None else queue for task in tasks] * count
        ),
        "judged": array([task.judged for task in tasks] * count),
        "schedule_timeouts": array(
            [task.schedule_timeout_ms for task in tasks] * count
        ),
    }


def _noted(
    idempotency_keys: Sequence[str | None], parents: Sequence[UUID]
) -> dict[str, object]:
    texts = [key and json.dumps(key) for key in idempotency_keys]
    return {"idempotency_keys": documents(texts), "parents": uuids(parents)}


def _awaited(task: TaskShape) -> int:
    """How many things are to happen before it is looked at."""
    return len(task.parents) + (task.handles is not None)
