"""Route: events that were pushed satisfy the conditions that wait for them.

Each event has an item until it is routed. One event satisfies all conditions that it
counts for, and the first event for a condition satisfies it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from orchestrator import cel
from orchestrator.engine import facts
from orchestrator.engine.sessions import Row, Session, array, statements, uuids

BATCH = 1_000  # events
CROWD = 1_000  # conditions of one event that are satisfied beside other events
PAGE = 5_000  # conditions a statement
PATIENCE = 1.0  # seconds after which no further expressions are evaluated


def route(session: Session, limit: int = BATCH) -> int:
    """Route the oldest events, in a durable transaction; how much was done.

    Waits for nobody: items and conditions that are locked elsewhere are left. An event
    that more than a thousand conditions wait for is routed alone, a few thousand of
    them at a time, and keeps its item until all of them are satisfied.
    """
    steps = statements("route")
    with session.transaction():
        rows = session.fetch(steps["take"], {"limit": limit})
        if not rows:
            return 0
        taken = [row[0] for row in rows]
        params = {"event_ids": uuids(taken), "crowd": CROWD}
        weights = {row[0]: row[1:] for row in session.fetch(steps["weigh"], params)}
        crowded = [n for n, key in enumerate(taken) if weights.get(key, (0, 0))[0]]
        some = taken[: max(1, crowded[0])] if crowded else taken
        awaited = [key for key in some if key in weights]
        matched, satisfied = 0, 0
        if awaited:
            params = {"event_ids": uuids(awaited), "limit": PAGE}
            matched, satisfied = session.fetch(steps["plain"], params)[0]
        if matched > satisfied or (crowded[:1] == [0] and matched >= PAGE):
            return int(satisfied)  # there is more of it, or it is held elsewhere
        asking = [key for key in awaited if weights[key][1] or key in _heavy(weights)]
        done, met = _ask(session, asking)
        satisfied += met
        unasked = set(asking).difference(done)
        finished = [key for key in some if key not in unasked]
        session.send(steps["done"], {"event_ids": uuids(finished)})
        # An event that is asked about page by page is worked on, too.
        return len(finished) + int(satisfied) + len(unasked & _progress.keys())


def _heavy(weights: dict[UUID, Any]) -> set[UUID]:
    """Events of which not all conditions were looked at when they were weighed."""
    return {key for key, (crowded, _) in weights.items() if crowded}


def _ask(session: Session, events: Sequence[UUID]) -> tuple[list[UUID], int]:
    """Evaluate the expressions that wait for these events, one event after the other.

    Returns the events that are through, and how many conditions they satisfied. Ends
    after a second: this process remembers how far it came with an event, and another
    one would begin anew.
    """
    until = time.monotonic() + PATIENCE
    through: list[UUID] = []
    satisfied = 0
    for event_id in events:
        values = facts.of_event(session, event_id)
        finished = False
        while not finished:
            after = _progress.pop(event_id, 0)
            rows = _asking(session, event_id, after)
            finished = len(rows) < PAGE
            found = _holding(session, rows, values)
            if found:
                done, left = _satisfy(session, event_id, found)
                satisfied += done
                if left:
                    return through, satisfied
            if not finished:
                _progress[event_id] = rows[-1][0]
                if time.monotonic() > until:
                    return through, satisfied
        through.append(event_id)
        if time.monotonic() > until:
            break
    return through, satisfied


_progress: dict[UUID, int] = {}  # by event, the last condition that was asked


def _asking(session: Session, event_id: UUID, after: int) -> Sequence[Row]:
    params = {"event_id": event_id, "after": after, "limit": PAGE}
    return session.fetch(statements("route")["asking"], params)


def _holding(
    session: Session, rows: Sequence[Row], event: Mapping[str, Any]
) -> list[int]:
    """The conditions whose expression is true of an event."""
    found: list[int] = []
    for start in range(0, len(rows), facts.MOST):
        some = rows[start : start + facts.MOST]
        reading = {run_id for _, run_id, text in some if facts.wants([text])}
        runs = facts.of_runs(session, reading)
        for condition_id, run_id, expression in some:
            own = runs.get(run_id, {"run_id": str(run_id)})
            if cel.holds(expression, {**own, **event}):
                found.append(condition_id)
    return found


def _satisfy(session: Session, event_id: UUID, found: list[int]) -> tuple[int, bool]:
    """How many are satisfied now, and whether some are held elsewhere."""
    steps = statements("route")
    params = {"condition_ids": array(found), "event_id": event_id}
    done = len(session.fetch(steps["satisfy"], params))
    return done, bool(session.fetch(steps["left"], params)[0][0])
