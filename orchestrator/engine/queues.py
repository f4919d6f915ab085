"""Queues: which there are, those that only an enqueue has named among them."""

from __future__ import annotations

from orchestrator.engine.sessions import Session, statements


def known(session: Session) -> list[int]:
    """The ids of all queues, ascending."""
    return [row[0] for row in session.fetch(statements("queues")["queues"], {})]
