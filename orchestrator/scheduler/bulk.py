"""Bulk operations, worked off by whichever scheduler comes, chunk by chunk."""

from __future__ import annotations

import time

from django.db import connections

from orchestrator import operations
from orchestrator.conf import settings
from orchestrator.engine import bulk
from orchestrator.engine.faults import Fault, kind_of
from orchestrator.engine.sessions import Session

TURN = 1.0  # seconds after which the scheduler's other chores get theirs


def work_off(session: Session) -> int:
    """Work off chunks for a turn, where there is something to work off; how many runs
    were looked at.

    The verbs speak on Django's connection, which is closed again: it may not outlive a
    restart of the database, and mostly there is nothing to do.
    """
    if not bulk.is_waiting(session):
        return 0
    end = time.monotonic() + TURN
    looked_at = 0
    try:
        while time.monotonic() < end:
            seen = operations.work_off()
            if not seen:
                break
            looked_at += seen
    except Exception as error:
        if kind_of(error) is not Fault.CONTENTION:
            raise
    finally:
        connections[settings.database].close()
    return looked_at
