"""Decide: what becomes of a task run whose parents have ended.

Pure: the state of its parents and conditions goes in, and what is to be done comes out
with the sentence that says why.

In this order: it is skipped where all its parents were, or by its `skip_if`; cancelled
by its `cancel_if`; executed, once its `wait_for` holds; skipped where that cannot hold
any more. Until then it is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

from orchestrator import cel
from orchestrator.conditions import (
    Condition,
    EventCondition,
    Leaf,
    ParentCondition,
    evaluate,
    from_dict,
    held,
)
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.shapes import TaskShape
from orchestrator.serialization import loads
from orchestrator.states import TaskRunStatus

SKIP_IF, CANCEL_IF, WAIT_FOR = "skip_if", "cancel_if", "wait_for"
SLOTS = (SKIP_IF, CANCEL_IF, WAIT_FOR)

Trees = Mapping[str, Condition]
Key = tuple[str, int]  # slot and number of a leaf


class Action(Enum):
    """What is to be done with a task run that waits."""

    RUN = auto()
    SKIP = auto()
    CANCEL = auto()
    HOLD = auto()
    PEEK = auto()  # hold it for as long as it takes to look back for events


class Decision(NamedTuple):
    """What is to be done, and why."""

    action: Action
    reason: str = ""


class Situation(NamedTuple):
    """How things are: the parents by name, the leaves that have come true, and what
    expressions may name of the run. `peeked`: all that came before was looked for."""

    parents: Mapping[str, ParentOutput]
    satisfied: Mapping[Key, bool]
    facts: Mapping[str, Any]
    peeked: bool = False


def trees(task: TaskShape) -> dict[str, Condition]:
    """The conditions of a task by slot."""
    found = {slot: getattr(task, slot) for slot in SLOTS}
    return {slot: from_dict(data) for slot, data in found.items() if data is not None}


def leaves(conditions: Trees) -> dict[Key, Leaf]:
    """All single conditions, by slot and number."""
    return {
        (slot, number): leaf
        for slot, tree in conditions.items()
        for number, leaf in enumerate(tree.leaves())
    }


def decide(name: str, conditions: Trees, now: Situation) -> Decision:
    """What is to be done with a task run of this name, as things are."""
    statuses = [parent.status for parent in now.parents.values()]
    if statuses and all(status == TaskRunStatus.SKIPPED for status in statuses):
        what = "its parent was" if len(statuses) == 1 else "all its parents were"
        return Decision(
            Action.SKIP, f'Task "{name}" was skipped because {what} skipped.'
        )
    values = {slot: _values(slot, tree, now) for slot, tree in conditions.items()}
    results = {slot: evaluate(conditions[slot], values[slot]) for slot in conditions}
    for slot, action, done in (
        (SKIP_IF, Action.SKIP, "skipped"),
        (CANCEL_IF, Action.CANCEL, "cancelled"),
    ):
        if results.get(slot):
            why = _listed(held(conditions[slot], values[slot]).values())
            return Decision(action, f'Task "{name}" was {done} by {slot}: {why}.')
    waiting = results.get(WAIT_FOR, True)
    if waiting is False:
        failing = _listed(_failing(conditions[WAIT_FOR], values[WAIT_FOR]))
        return Decision(
            Action.SKIP,
            f'Task "{name}" was skipped because its wait_for can no longer hold: '
            f"{failing}.",
        )
    if waiting is None:
        return Decision(Action.HOLD)
    if not now.peeked and any(_looks_back(conditions, results)):
        return Decision(Action.PEEK)
    return Decision(Action.RUN)


def handle(name: str, failed: int, remaining: int) -> Decision:
    """What is to be done with the task that handles the failure of its run.

    `failed` tasks of the run have failed, and `remaining` have not ended, itself among
    them.
    """
    if failed:
        return Decision(Action.RUN)
    if remaining > 1:
        return Decision(Action.HOLD)
    return Decision(
        Action.SKIP, f'Task "{name}" was skipped because no task of the run failed.'
    )


def _values(slot: str, tree: Condition, now: Situation) -> dict[int, bool | None]:
    return {
        number: _holds(leaf, now)
        if isinstance(leaf, ParentCondition)
        else now.satisfied.get((slot, number)) or None
        for number, leaf in enumerate(tree.leaves())
    }


def _holds(leaf: ParentCondition, now: Situation) -> bool:
    parent = now.parents.get(leaf.parent_name)
    if parent is None:
        return False
    if leaf.expression == "true":
        return True
    output = None if parent.output is None else loads(parent.output)
    return cel.holds(leaf.expression, {**now.facts, "output": output})


def _looks_back(
    conditions: Trees, results: Mapping[str, bool | None]
) -> Sequence[bool]:
    """Of `skip_if` and `cancel_if`: which conditions may hold by what came before."""
    return [
        isinstance(leaf, EventCondition) and leaf.lookback is not None
        for slot in (SKIP_IF, CANCEL_IF)
        if slot in conditions and results[slot] is None
        for leaf in conditions[slot].leaves()
    ]


def _failing(tree: Condition, values: Mapping[int, bool | None]) -> list[Leaf]:
    return [leaf for n, leaf in enumerate(tree.leaves()) if values.get(n) is False]


def _listed(found: Any) -> str:
    return " and ".join(leaf.describe() for leaf in found)
