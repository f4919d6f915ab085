"""Journal: what durable functions have done, read at a claim and written by steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import failpoints
from orchestrator.engine.claim import Claim
from orchestrator.engine.sessions import Row, Session, array, statements, uuids
from orchestrator.exceptions import LeaseLost

PATIENCE = "30s"  # that a step may take from its record to its commit


class Entry(NamedTuple):
    """One durable call on record; `output` and `error` are JSON texts.

    `order` is its number among all deliveries, None while it is not over.
    """

    position: int
    kind: str
    asked: str
    output: str | None
    error: str | None
    order: int | None
    created_at: datetime
    over: bool = True
    child_run_id: UUID | None = None


@dataclass
class Journal:
    """What is on record of one task run, on the branch that is in use."""

    branch: int = 1
    suspensions: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)


class Fence(NamedTuple):
    """The lease by which an attempt may write: nobody else's writes have an effect."""

    task_run_id: UUID
    attempt: int
    worker_id: UUID | None


def load(
    session: Session, worker_id: UUID | None, claims: Sequence[Claim]
) -> dict[UUID, Journal]:
    """The journals of claimed task runs, by their ids; two statements for all.

    Numbers what came to be over since the last attempt, in a transaction of its own.
    """
    task_run_ids = [claim.task_run_id for claim in claims]
    params = {
        "task_run_ids": uuids(task_run_ids),
        "attempts": array([claim.attempt for claim in claims]),
        "worker_id": worker_id,
        **_bounds(task_run_ids),
    }
    with session.transaction():
        session.send(statements("journal")["stamp"], params)
    return read(session, task_run_ids)


def read(session: Session, task_run_ids: Sequence[UUID]) -> dict[UUID, Journal]:
    """The journals of task runs, by their ids."""
    params = {"task_run_ids": uuids(task_run_ids), **_bounds(task_run_ids)}
    found: dict[UUID, Journal] = {}
    for task_run_id, branch, suspensions, *entry in session.fetch(
        statements("journal")["read"], params
    ):
        journal = found.setdefault(task_run_id, Journal(branch, suspensions))
        if entry[0] is not None:
            journal.entries[entry[0]] = Entry(*entry)
    return found


def described(session: Session, run_id: UUID) -> Row | None:
    """What a claim of a run would bring: version id, priority, tenant, metadata, input
    and event id; None where there is no such run."""
    rows = session.fetch(statements("journal")["run"], {"run_id": run_id})
    return rows[0] if rows else None


def attempts(session: Session, task_run_id: UUID) -> int:
    """How many attempts an ended task run has had; 0 before its end."""
    params = {"task_run_id": task_run_id}
    rows = session.fetch(statements("journal")["attempts"], params)
    return rows[0][0] if rows else 0


def record(
    session: Session,
    fence: Fence,
    branch: int,
    position: int,
    *,
    kind: str,
    name: str,
    asked: str,
    output: str | None,
    alone: bool = True,
) -> tuple[int, datetime]:
    """Write an entry that is over, in the caller's transaction: its order, its time.

    Locks the lease FOR SHARE until the commit; where the transaction is the step's
    `alone`, the server ends it if that does not come soon. Raises LeaseLost where the
    task run is not this attempt's any more: all that was done is to be undone.
    """
    failpoints.hit("journal.before")
    rows = session.fetch(
        statements("journal")["record"],
        {
            "id": ids.journal_id(fence.task_run_id, branch, position),
            "task_run_id": fence.task_run_id,
            "branch": branch,
            "position": position,
            "kind": kind,
            "name": name,
            "asked": asked,
            "attempt": fence.attempt,
            "worker_id": fence.worker_id,
            "output": output,
            "patience": PATIENCE if alone else None,
        },
    )
    if not rows:
        raise LeaseLost
    order, moment, _ = rows[0]
    return order, moment


def deliver(
    session: Session, fence: Fence, branch: int, positions: Sequence[int]
) -> list[Entry]:
    """Number entries that are over, in the order of their positions.

    Empty where the task run is not this attempt's any more.
    """
    task_run_id = fence.task_run_id
    params = {
        "task_run_id": task_run_id,
        "attempt": fence.attempt,
        "worker_id": fence.worker_id,
        "entry_ids": uuids(ids.journal_id(task_run_id, branch, n) for n in positions),
        **_bounds([task_run_id]),
    }
    rows = session.fetch(statements("journal")["deliver"], params)
    return sorted(Entry(*row) for row in rows)


def _bounds(task_run_ids: Sequence[UUID]) -> Mapping[str, UUID]:
    low, _ = ids.family_bounds(min(task_run_ids))
    _, high = ids.family_bounds(max(task_run_ids))
    return {"low": low, "high": high}
