"""Keys: at most one run holds an idempotency key at a time.

A key is held until its time is over, or until its run has ended if that is sooner and
was asked for. Nothing releases it: whoever collides looks whether it is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from orchestrator.engine.sessions import Session, array, statements

BATCH = 1_000  # keys a statement
TRIES = 5  # to find the holder of a key that is purged or freed meanwhile


class Key(NamedTuple):
    """A key that a run is to hold for `ttl`, or until its end with `until_finished`."""

    scope: str
    key: str
    run_id: UUID
    ttl: timedelta
    until_finished: bool


def claim(session: Session, wanted: Sequence[Key]) -> dict[UUID, UUID]:
    """Hold the keys that are free; of the others, by `run_id` who holds them.

    Of the same key given twice the first one counts, and the second one collides with
    it. Inside the caller's transaction, which waits for any other one that has claimed
    one of these keys until that one ends.

    Raises a serialization failure in a transaction of a stricter isolation level whose
    snapshot is older than such a claim, as any write does there.
    """
    first: dict[tuple[str, str], Key] = {}
    for key in wanted:
        first.setdefault(key[:2], key)
    holders: dict[tuple[str, str], UUID] = {}
    candidates = sorted(first.values())  # one order for all, so that none deadlock
    for start in range(0, len(candidates), BATCH):
        _claim(session, candidates[start : start + BATCH], holders)
    return {
        key.run_id: holders.get(key[:2], first[key[:2]].run_id)
        for key in wanted
        if key[:2] in holders or first[key[:2]] is not key
    }


def _claim(
    session: Session, candidates: list[Key], holders: dict[tuple[str, str], UUID]
) -> None:
    steps = statements("keys")
    for _ in range(TRIES):
        params = _params(candidates)
        taken = {(row[0], row[1]) for row in session.fetch(steps["claim"], params)}
        candidates = [key for key in candidates if key[:2] not in taken]
        if not candidates:
            return
        params = {"scopes": params["scopes"], "keys": params["keys"]}
        found = {(r[0], r[1]): r[2] for r in session.fetch(steps["holders"], params)}
        holders.update(
            {key[:2]: found[key[:2]] for key in candidates if key[:2] in found}
        )
        candidates = [key for key in candidates if key[:2] not in found]
        if not candidates:
            return
    raise RuntimeError(f"The holder of a key cannot be found: {candidates[0][:2]}.")


def _params(keys: Sequence[Key]) -> dict[str, object]:
    return {
        "scopes": [key.scope for key in keys],
        "keys": [key.key for key in keys],
        "run_ids": array(key.run_id for key in keys),
        "ttls": array(key.ttl.total_seconds() for key in keys),
        "untils": array(key.until_finished for key in keys),
    }


def purge(session: Session) -> int:
    """Delete all keys that have expired; how many. Durable, a thousand at a time."""
    purged = 0
    while True:
        rows = session.fetch(statements("keys")["purge"], {"limit": BATCH})
        purged += len(rows)
        if len(rows) < BATCH:
            return purged
