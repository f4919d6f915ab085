"""Groups: which runs of a batch task are gathered with each other.

The queue items of a group lie in a lane of their own, next to the task's plain one, so
that they are found together, and moved, cancelled and expired like any others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from orchestrator import cel
from orchestrator.engine.shapes import Shape, TaskShape
from orchestrator.exceptions import ExpressionFailed

NAMES = frozenset({"input", "metadata", "tenant", "workflow"})

# Lanes of a task: its own, which is that of all without a group key, that of runs whose
# key cannot be evaluated, and those of the keys.
BROKEN = 1
FIRST = 2
LANES = 1 << 31


class NoGroup(Exception):
    """The group key of a run cannot be evaluated, or is no string."""


def group_of(task: TaskShape, workflow: str, values: dict[str, Any]) -> str:
    """The group of a run, by its input, metadata and tenant; raises NoGroup."""
    expression = (task.batch or {}).get("group_key")
    if expression is None:
        return ""
    what = f"failed to parse batch group key expression {expression!r}"
    try:
        key = cel.evaluate(expression, {**values, "workflow": workflow})
    except ExpressionFailed as error:
        raise NoGroup(f"{what}: {error}") from None
    if not isinstance(key, str):
        raise NoGroup(f"{what}: expected a string, got {type(key).__name__} {key!r}")
    return key


def lanes(
    shape: Shape, inputs: Sequence[str], metadata: str, tenant: str
) -> list[int] | None:
    """The lane of each run's only task, where they differ; `inputs` are JSON texts."""
    task = shape.tasks[0]
    if task.batch is None or task.batch.get("group_key") is None:
        return None
    common = {"metadata": json.loads(metadata), "tenant": tenant}
    found = []
    for text in inputs:
        try:
            values = {"input": json.loads(text), **common}
            found.append(task.lane + _offset(group_of(task, shape.workflow, values)))
        except NoGroup:
            found.append(task.lane + BROKEN)  # it fails when it is executed, at once
    return found


def _offset(group: str) -> int:
    digest = blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return FIRST + int.from_bytes(digest, "big") % (LANES - FIRST)
