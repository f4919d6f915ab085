"""Tend: route what was pushed and judge what waits, until nothing is left to do.

Each verb finds by an index what is to be done, does so much of it in a durable
transaction of its own, and says how much that was. So it does not matter who tends, how
many at once, or what a crash interrupted: a hint only makes it soon.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.engine import resume
from orchestrator.engine.judge import judge
from orchestrator.engine.look_back import look_back
from orchestrator.engine.ripen import ripen
from orchestrator.engine.route import route
from orchestrator.engine.sessions import Session

VERBS: tuple[Callable[[Session], int], ...] = (
    route,
    ripen,
    look_back,
    judge,
    resume.resume,
)

TURN = 3.0  # seconds after which whoever tends has other things to do, too


def tend(session: Session) -> int:
    """Do all that there is to do, in durable transactions; how much was done.

    What one verb does may be work for another one. What is locked elsewhere is left,
    and found again by whoever tends next. Where there is more than can be done in
    a few seconds, so is the rest: only after a 0 there is nothing left.
    """
    until = time.monotonic() + TURN
    total = 0
    while time.monotonic() < until:
        done = sum(verb(session) for verb in VERBS)
        if not done:
            break
        total += done
    return total
