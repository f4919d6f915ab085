"""Events and conditions in the lab: pushing them, waiting for them, looking at them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from orchestrator.conditions import Condition, EventCondition, SleepCondition
from orchestrator.engine import push as engine
from orchestrator.engine.judge import judge
from orchestrator.engine.look_back import look_back
from orchestrator.engine.sessions import Session
from orchestrator.engine.shapes import Shape
from tests.engine.lab import Lab, task

GO = EventCondition("go")
MINUTE = timedelta(minutes=1)
NAP = SleepCondition(MINUTE)


def text(key: str, payload: Any = None, *, scope: str = "") -> str:
    """An event as `engine.push` takes it."""
    return json.dumps(
        {
            "key": key,
            "scope": scope,
            "payload": payload,
            "metadata": {},
            "tenant": "",
            "priority": None,
        }
    )


def push(
    session: Session, key: str = "go", payload: Any = None, *, scope: str = ""
) -> UUID:
    """Push one event in the transaction at hand, or in one of its own."""
    return engine.push(session, [text(key, payload, scope=scope)])[0]


def waiter(
    lab: Lab, wait_for: Condition = GO, *, name: str = "waiter", **options: Any
) -> Shape:
    """A workflow of one task that waits."""
    return lab.shape(name, task("a", wait_for=wait_for.to_dict(), **options))


def waiting(
    lab: Lab, wait_for: Condition = GO, count: int = 1, *, name: str = "waiter"
) -> list[UUID]:
    """Runs whose conditions are written and checked."""
    run_ids = registered(lab, wait_for, count, name=name)
    while look_back(lab.session):
        pass
    return run_ids


def registered(
    lab: Lab, wait_for: Condition = GO, count: int = 1, *, name: str = "waiter"
) -> list[UUID]:
    """Runs whose conditions are written, and not yet checked."""
    run_ids = lab.enqueue(waiter(lab, wait_for, name=name), count)
    while judge(lab.session):
        pass
    return run_ids


def satisfied(lab: Lab) -> dict[UUID, UUID | None]:
    """By run id, the event that satisfied a condition of it."""
    return dict(
        lab.rows(
            "SELECT run_id, event_id FROM orchestrator_wait_condition"
            " WHERE satisfied_at IS NOT NULL"
        )
    )


def conditions(lab: Lab) -> list[tuple[Any, ...]]:
    """Slot, leaf, kind, whether checked, satisfied, judged."""
    return lab.rows(
        "SELECT slot, leaf, kind, checked, satisfied_at IS NOT NULL, judged"
        " FROM orchestrator_wait_condition ORDER BY slot, leaf"
    )
