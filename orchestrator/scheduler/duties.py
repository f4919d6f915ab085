"""Duties: what only one scheduler at a time does, each after its interval."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.engine import duties, keys, partitions, says
from orchestrator.engine.sessions import Session

logger = logging.getLogger("orchestrator")


@dataclass(frozen=True)
class Duty:
    """Work by name; whoever takes it does it, and nobody else for the interval."""

    name: str
    every: timedelta
    do: Callable[[Session], Any]


DUTIES = (
    Duty("partitions", timedelta(hours=1), partitions.ensure),
    Duty("idempotency keys", timedelta(minutes=10), keys.purge),
    Duty("progress", timedelta(minutes=1), says.sweep),
)


def do_due(session: Session, holder: str) -> int:
    """Do the duties that are due and that nobody else has; how many."""
    done = 0
    for duty in DUTIES:
        if duties.take(session, duty.name, holder, duty.every):
            duty.do(session)
            done += 1
    return done
