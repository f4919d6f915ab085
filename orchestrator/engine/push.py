"""Push: append events in the caller's transaction. `route` takes it from there."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from orchestrator.engine import clock, notify
from orchestrator.engine.sessions import Session, documents, statements, uuids

CHUNK = 1_000  # events a statement


def push(session: Session, events: Sequence[str]) -> list[UUID]:
    """Append events, JSON texts of what `push.sql` describes; their ids in order.

    Joins the caller's transaction: a rollback leaves nothing. Locks no row that others
    use. Hints that there is something to route, after the commit.
    """
    event_ids = clock.new_run_ids(session, len(events))
    statement = statements("push")["push"]
    with session.joined():
        for start in range(0, len(events), CHUNK):
            part = slice(start, start + CHUNK)
            session.send(
                statement,
                {
                    "event_ids": uuids(event_ids[part]),
                    "events": documents(events[part]),
                },
            )
        if events:
            notify.tend(session)
    return event_ids
