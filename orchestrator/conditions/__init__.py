"""Conditions: what a task waits for, or is skipped or cancelled by.

    wait_for=EventCondition("order:paid") | SleepCondition(timedelta(days=1))

They compose with `|` and `&`. A condition is pure data: what has come true is told by
the engine, and `evaluate` says what follows from it.
"""

from __future__ import annotations

from orchestrator.conditions.kinds import (
    AllOf,
    AnyOf,
    Condition,
    EventCondition,
    Leaf,
    ParentCondition,
    SleepCondition,
    brief,
    check_condition,
    from_dict,
)
from orchestrator.conditions.trees import WaitResult, evaluate, held

__all__ = [
    "AllOf",
    "AnyOf",
    "Condition",
    "EventCondition",
    "Leaf",
    "ParentCondition",
    "SleepCondition",
    "WaitResult",
    "brief",
    "check_condition",
    "evaluate",
    "from_dict",
    "held",
]
