"""Bulk: whether there are operations over many runs to work off."""

from __future__ import annotations

from orchestrator.engine.sessions import Session, first, statements


def is_waiting(session: Session) -> bool:
    """Whether a bulk operation has not ended."""
    return bool(first(session.fetch(statements("bulk")["bulk"], {}))[0])
