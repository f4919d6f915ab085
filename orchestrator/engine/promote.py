"""Promote: what is due moves into its queue."""

from __future__ import annotations

from orchestrator.engine import failpoints, notify
from orchestrator.engine.sessions import Session, statements

BATCH = 1_000


def promote(session: Session, limit: int = BATCH) -> int:
    """Move delayed items that are due into their queues; a durable transaction.

    Returns how many; as many as `limit` means that there may be more.
    """
    with session.transaction():
        failpoints.hit("promote.before")
        rows = session.fetch(statements("promote")["promote"], {"limit": limit})
        notify.wake(session, {row[0] for row in rows})
    return len(rows)


def next_due(session: Session) -> float | None:
    """Seconds until the next delayed item is due, negative where one is overdue."""
    rows = session.fetch(statements("promote")["next"], {})
    return None if not rows else float(rows[0][0])
