"""Duties: what only one scheduler at a time may do."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.engine.sessions import Session, statements


def take(session: Session, name: str, holder: str, every: timedelta) -> bool:
    """Take a duty that is due: nobody else gets it for the time of `every`.

    A holder that dies loses it when that time is over. Locks the Duty row.
    """
    params = {"name": name, "holder": holder, "every": every}
    return bool(session.fetch(statements("duties")["take"], params))
