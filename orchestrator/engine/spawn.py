"""Spawn: runs that belong to the task run that makes them, each of them once.

A child's id is derived from the task run's and its key or its number, so the primary
key is what keeps an attempt from making again what an earlier one has made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from orchestrator.engine import enqueue, failpoints, notify, register, versions
from orchestrator.engine.faults import sqlstate
from orchestrator.engine.sessions import Session, statements, uuids
from orchestrator.engine.shapes import queue_id

UNIQUE_VIOLATION = "23505"
TRIES = 5  # each one finds what another attempt has committed since the one before


class Child(NamedTuple):
    """A run to be made; `input` and `metadata` are JSON texts.

    `parent` is the task run that spawns it. `queue_name` None leaves each task to its
    own queue.
    """

    run_id: UUID
    parent: UUID
    version_id: int
    input: str
    queue_name: str | None = None
    priority: int = 0
    run_after: datetime | None = None
    metadata: str = "{}"
    tenant: str = ""


def spawn(session: Session, children: Sequence[Child]) -> set[UUID]:
    """Make those of the runs that do not exist yet; return their ids.

    Joins the caller's transaction. Where another attempt makes one of them at the same
    time, this waits for it and takes what it has made.
    """
    wanted = {child.run_id: child for child in reversed(children)}
    for attempt in range(TRIES):
        there = existing(session, wanted)
        missing = [child for run_id, child in wanted.items() if run_id not in there]
        if not missing:
            return set()
        missing.reverse()
        try:
            with session.joined():
                _create(session, missing)
        except Exception as error:
            if sqlstate(error) != UNIQUE_VIOLATION or attempt == TRIES - 1:
                raise
        else:
            failpoints.hit("spawn.created")
            return {child.run_id for child in missing}
    raise AssertionError("unreachable")  # pragma: no cover


def existing(session: Session, run_ids: Collection[UUID]) -> set[UUID]:
    """Which of the runs exist."""
    if not run_ids:
        return set()
    params = {"run_ids": uuids(run_ids), "low": min(run_ids), "high": max(run_ids)}
    return {row[0] for row in session.fetch(statements("spawn")["spawn"], params)}


def _create(session: Session, children: Sequence[Child]) -> None:
    groups: dict[Child, list[Child]] = {}
    for child in children:
        alike = child._replace(run_id=_NOBODY, parent=_NOBODY, input="")
        groups.setdefault(alike, []).append(child)
    for alike, group in groups.items():
        shape = versions.shape(session, alike.version_id)
        if shape is None:
            raise LookupError(f"Version {alike.version_id} is not registered.")
        if alike.queue_name is not None:
            register.register_queue(session, alike.queue_name)
        enqueue.enqueue(
            session,
            shape,
            [child.input for child in group],
            queue_name=alike.queue_name,
            priority=alike.priority,
            run_after=alike.run_after,
            metadata=alike.metadata,
            tenant=alike.tenant,
            run_ids=[child.run_id for child in group],
            parents=[child.parent for child in group],
        )
        if alike.queue_name is not None:
            notify.wake(session, {queue_id(alike.queue_name)})
        else:
            notify.wake(session, {t.queue_id for t in shape.tasks if not t.parents})


_NOBODY = UUID(int=0)
