"""Reprioritise: move what has not been claimed yet to another priority."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import versions
from orchestrator.engine.sessions import Session, array, statements


def reprioritise(session: Session, run_ids: Collection[UUID], priority: int) -> int:
    """Give unfinished runs another priority (−100…100) and return how many there were.

    What waits keeps its order among its equals; what is being executed goes on, and
    has the new priority should it be queued again. Joins the caller's transaction, and
    may wait for another one that holds a Run.
    """
    if not -100 <= priority <= 100:
        raise ValueError(f"priority={priority} is out of range; give −100 to 100.")
    steps = statements("reprioritise")
    with session.joined():
        rows = session.fetch(steps["lock"], {"run_ids": array(run_ids)})
        task_runs: list[UUID] = []
        for run_id, version_id in rows:
            shape = versions.shape(session, version_id)
            count = len(shape.tasks) if shape else 0
            task_runs += [ids.task_run_id(run_id, n) for n in range(count)]
        params = {
            "run_ids": array(row[0] for row in rows),
            "task_run_ids": array(task_runs),
            "priority": priority,
        }
        # In the direction in which task runs move, so that none slips past.
        for step in ("waiting", "delayed", "queued", "leased", "history"):
            session.send(steps[step], params)
    return len(rows)
