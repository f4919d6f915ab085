"""Inspect: what must never be, looked for in the rows themselves.

The soak ends with it, and `manage.py orchestrator check` runs it on any database.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.engine.sessions import Session, statements

RULES = {
    "one_place": "a task run that has not ended is in exactly one live table",
    "left_over": "no live row belongs to a task run that has ended",
    "conditions": "no condition waits for a task run that has ended",
    "held": "a task run that is held waits for something that is still to come",
    "coordinates": "a queue item is where its task run says",
    "run_status": "a run's status follows from its tasks'",
    "open_run": "an open run counts the tasks that have not ended",
    "attempts": "attempts are numbered without a gap, one result a generation",
}


class Violation(NamedTuple):
    """A rule that does not hold, and for which row."""

    rule: str
    text: str


def violations(session: Session, *, at_rest: bool = False) -> list[Violation]:
    """Everything that must never be and is, as of one moment.

    `at_rest` also asks that no work is left: for a system whose workers have drained
    it. It reads whole tables.
    """
    steps = statements("inspect")
    found = []
    with session.snapshot():
        for rule in (*RULES, "rest") if at_rest else RULES:
            for row in session.fetch(steps[rule], {}):
                found.append(Violation(rule, row[0]))
    return found
