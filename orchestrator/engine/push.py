"""Push: append events in the caller's transaction. `route` takes it from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from orchestrator.engine import clock, notify
from orchestrator.engine.sessions import Session, documents, statements, uuids

CHUNK = 1_000  # events a statement
CHUNK_SIZE = 16 * 1024 * 1024  # characters a statement; jsonb holds 256 MB at most


def push(session: Session, events: Sequence[str]) -> list[UUID]:
    """Append events, JSON texts of what `push.sql` describes; their ids in order.

    Joins the caller's transaction: a rollback leaves nothing. Locks no row that others
    use. Hints that there is something to route, after the commit.
    """
    event_ids = clock.new_run_ids(session, len(events))
    statement = statements("push")["push"]
    with session.joined():
        for part in _parts(events):
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


def _parts(events: Sequence[str]) -> Iterator[slice]:
    start, size = 0, 0
    for number, text in enumerate(events):
        full = number - start >= CHUNK or size + len(text) > CHUNK_SIZE
        if full and number > start:
            yield slice(start, number)
            start, size = number, 0
        size += len(text)
    if start < len(events):
        yield slice(start, len(events))
