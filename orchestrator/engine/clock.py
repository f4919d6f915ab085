"""The database's clock, which ids take their time from."""

from __future__ import annotations

import time
from uuid import UUID

from orchestrator import ids
from orchestrator.engine.sessions import Session, statements

_REMEASURE = 60.0  # seconds; clocks drift by far less than a millisecond in that time
_JUMP = 0.5  # seconds by which this machine's clock is set, or a test travels

_offset_ms = 0.0
_measured_at: float | None = None
_wall_at = 0.0


def new_run_ids(session: Session, count: int) -> list[UUID]:
    """UUIDv7s by the database's clock, so that they fall into the right partition.

    The offset between this machine's clock and the database's is measured once a
    minute and process, and when this machine's clock was set. `travel()` does not move
    it: ids are never in the future.
    """
    global _offset_ms, _measured_at, _wall_at
    now, wall = time.monotonic(), time.time()
    if (
        _measured_at is None
        or now - _measured_at > _REMEASURE
        or abs((wall - _wall_at) - (now - _measured_at)) > _JUMP
    ):
        (milliseconds,) = session.fetch(statements("clock")["clock"], {})[0]
        wall, before = time.time(), wall
        _offset_ms = float(milliseconds) - (before + wall) / 2 * 1000
        _measured_at, _wall_at = time.monotonic(), wall
    return ids.uuid7s(count, int(wall * 1000 + _offset_ms))
