"""Ripen: conditions that wait for a time come true once it has come."""

from __future__ import annotations

from orchestrator.engine.sessions import Session, statements

BATCH = 5_000


def ripen(session: Session, limit: int = BATCH) -> int:
    """Satisfy the sleeps that are over, in a durable transaction; how many."""
    with session.transaction():
        rows = session.fetch(statements("ripen")["ripen"], {"limit": limit})
    return int(rows[0][0])


def next_due(session: Session) -> float | None:
    """Seconds until the next sleep is over, negative where one is overdue."""
    rows = session.fetch(statements("ripen")["next"], {})
    return None if not rows else float(rows[0][0])
