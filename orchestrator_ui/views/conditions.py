"""Conditions in words: what a task is declared to wait for, and what it waits for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.translation import gettext

from orchestrator.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventCondition,
    from_dict,
)
from orchestrator.engine.shapes import TaskShape
from orchestrator.engine.waits import ASKED_WAIT
from orchestrator.models import WaitCondition

MAX_LINES = 20  # conditions shown of one task run
MAX_ROWS = 500  # of one run


def lines(task: TaskShape) -> list[str]:
    """What decides about a task, one line for each of its conditions."""
    found = []
    for data, words in (
        (task.wait_for, gettext("waits for %s")),
        (task.skip_if, gettext("skipped if %s")),
        (task.cancel_if, gettext("cancelled if %s")),
    ):
        if data is not None:
            found.append(words % _say(from_dict(data)))
    return found


def asked(text: str) -> str:
    """What a durable call asked for, a wait in words instead of in JSON."""
    if not text.startswith(ASKED_WAIT):
        return text
    try:
        condition = from_dict(json.loads(text.removeprefix(ASKED_WAIT)))
    except (ValueError, KeyError, TypeError):  # of another release
        return text
    return gettext("wait for %s") % _say(condition)


def _say(condition: Condition) -> str:
    if isinstance(condition, AnyOf | AllOf):
        word = gettext(" or ") if isinstance(condition, AnyOf) else gettext(" and ")
        parts = [
            f"({_say(part)})" if isinstance(part, AnyOf | AllOf) else _say(part)
            for part in condition.parts
        ]
        return word.join(parts)
    (leaf,) = condition.leaves()
    said = leaf.describe()
    if isinstance(leaf, EventCondition) and leaf.expression != "true":
        said += gettext(" where %s") % leaf.expression
    return said


@dataclass(frozen=True)
class Waiting:
    """One thing that a task run waits for, or that has come true already."""

    kind: str
    key: str
    scope: str
    expression: str
    due_at: datetime | None
    child_run_id: UUID | None
    satisfied_at: datetime | None
    slot: str

    @property
    def condition(self) -> str:
        """The expression, where it says anything."""
        return "" if self.expression == "true" else self.expression


@dataclass(frozen=True)
class Waitings:
    """What one task run waits for: the first of it, and how many more there are."""

    shown: tuple[Waiting, ...]
    others: int


def waitings(task_run_ids: Collection[UUID]) -> Mapping[UUID, Waitings]:
    """What these task runs wait for; one query."""
    rows: Any = (
        WaitCondition.objects.filter(task_run_id__in=task_run_ids)
        .order_by("task_run_id", "group", "id")
        .values_list(
            "task_run_id",
            "kind",
            "key",
            "scope",
            "expression",
            "due_at",
            "child_run_id",
            "satisfied_at",
            "slot",
        )[:MAX_ROWS]
    )
    found: dict[UUID, list[Waiting]] = defaultdict(list)
    for task_run_id, *row in rows:
        found[task_run_id].append(Waiting(*row))
    return {
        key: Waitings(tuple(each[:MAX_LINES]), max(0, len(each) - MAX_LINES))
        for key, each in found.items()
    }
