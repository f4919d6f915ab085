"""Look back: what came before a condition could be seen by those who satisfy it.

A condition is written unchecked. What is pushed or ends after it was committed finds
it; for what came before, this looks once, and afterwards it is checked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator import cel, ids
from orchestrator.engine import facts
from orchestrator.engine.sessions import Session, array, statements
from orchestrator.serialization import loads
from orchestrator.states import ConditionKind

BATCH = 500  # conditions
PAGE = 50  # events that an expression is evaluated for, a statement
MOST = 10_000  # events that it is evaluated for at all
PATIENCE = 1.0  # seconds after which no further conditions are taken up
LAG = 60_000  # milliseconds by which clocks may differ that ids take their time from


class Unchecked(NamedTuple):
    """A condition that is to be looked back for; `since` is a Unix time."""

    id: int
    run_id: UUID
    kind: str
    key: str
    expression: str
    lookback: bool
    since: float | None
    satisfied: bool


class Found(NamedTuple):
    """What satisfied a condition before it was looked for; a child has no event."""

    condition_id: int
    event_id: UUID | None
    at: datetime


def look_back(session: Session, limit: int = BATCH) -> int:
    """Look back for unchecked conditions, in a durable transaction; how many.

    The oldest event that counts satisfies a condition; the latest one where it has a
    look back. What is locked elsewhere is left.
    """
    steps = statements("look_back")
    with session.transaction():
        taken = [Unchecked(*r) for r in session.fetch(steps["take"], {"limit": limit})]
        if not taken:
            return 0
        found = _ended(session, taken)
        met, looked = _events(session, taken)
        found += met
        taken = [one for one in taken if one.id in looked]
        params = {
            "condition_ids": array(one.id for one in taken),
            "satisfied": array(one.condition_id for one in found),
            "by": array(one.event_id for one in found),
            "ats": [one.at for one in found],
        }
        session.send(steps["done"], params)
    return len(taken)


def _ended(session: Session, taken: Sequence[Unchecked]) -> list[Found]:
    children = [one.id for one in taken if one.kind == ConditionKind.CHILD]
    if not children:
        return []
    params = {"condition_ids": array(children)}
    rows = session.fetch(statements("look_back")["ended"], params)
    return [Found(condition_id, None, at) for condition_id, at in rows]


def _events(
    session: Session, taken: Sequence[Unchecked]
) -> tuple[list[Found], set[int]]:
    """What events satisfied, and which conditions are looked back for with that.

    After a second, expressions are left for the next time.
    """
    until = time.monotonic() + PATIENCE
    open_ones = [
        one
        for one in taken
        if one.kind == ConditionKind.EVENT and not one.satisfied and one.since
    ]
    plain = [o for o in open_ones if o.expression == "true" and not o.lookback]
    found: list[Found] = []
    if plain:
        params = {"condition_ids": array(one.id for one in plain), "low": _low(plain)}
        rows = session.fetch(statements("look_back")["oldest"], params)
        found = [Found(*row) for row in rows]
    asking = [o for o in open_ones if o.expression != "true" or o.lookback]
    looked = {one.id for one in taken}.difference(one.id for one in asking)
    for number in range(0, len(asking), facts.MOST):
        some = asking[number : number + facts.MOST]
        runs = facts.of_runs(
            session, {one.run_id for one in some if facts.wants([one.expression])}
        )
        for one in some:
            own = {"run_id": str(one.run_id), **runs.get(one.run_id, {})}
            first = _first(session, one, own)
            found += [] if first is None else [first]
            looked.add(one.id)
            if time.monotonic() > until:
                return found, looked
    return found, looked


def _first(session: Session, one: Unchecked, values: facts.Facts) -> Found | None:
    """The event that satisfies a condition, of those that came before."""
    step = statements("look_back")["backward" if one.lookback else "forward"]
    values = {name: cel.Prepared(value) for name, value in values.items()}
    params: dict[str, Any] = {
        "condition_id": one.id,
        "low": _low([one]),
        "at": "infinity" if one.lookback else "-infinity",
        "event_id": UUID(int=0),
    }
    for _ in range(MOST // PAGE):
        params["limit"] = 1 if one.expression == "true" else PAGE
        rows = session.fetch(step, params)
        for event_id, at, payload in rows:
            event = {"key": one.key, "payload": payload and loads(payload)}
            if cel.holds(one.expression, {**values, **event}):
                return Found(one.id, event_id, at)
        if not rows:
            break
        params["event_id"], params["at"] = rows[-1][:2]
    return None


def _low(conditions: Sequence[Unchecked]) -> UUID:
    """An id before those of all events that may count for one of the conditions.

    Ids have the time of the real clock, also where `travel()` has moved the other one.
    """
    since = min([one.since for one in conditions if one.since] + [time.time() - 600])
    return ids.floor_uuid(max(0, int(since * 1000) - LAG))
