"""The shape of a workflow at one deploy: its tasks, their options and their edges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from orchestrator import ids
from orchestrator.exceptions import InvalidDefinition
from orchestrator.policies import Retry


@dataclass(frozen=True)
class TaskShape:
    """One node. Times are seconds; `parents` are ordinals in the same shape.

    `wait_for`, `skip_if` and `cancel_if` are conditions as data. `judged`: it may come
    to be skipped or held, by its own conditions or because a parent was, so that
    `engine.judge` decides about it and not the settling of its last parent. `handles`
    is "failure" for the task that a run's failure releases. `arguments` are the names
    of positional ones, where the input is that of a function with plain arguments.
    """

    id: int
    name: str
    ordinal: int
    lane: int
    queue_name: str
    queue_id: int
    parents: tuple[int, ...]
    retries: Retry
    execution_timeout: float | None
    schedule_timeout: float | None
    isolated: bool
    slot_cost: int
    wait_for: Mapping[str, Any] | None = None
    skip_if: Mapping[str, Any] | None = None
    cancel_if: Mapping[str, Any] | None = None
    judged: bool = False
    handles: str | None = None
    durable: bool = False
    eviction: Mapping[str, Any] | None = None
    batch: Mapping[str, Any] | None = None
    arguments: tuple[str, ...] | None = None

    @cached_property
    def schedule_timeout_ms(self) -> int | None:
        """The schedule timeout in whole milliseconds, as the places carry it."""
        if self.schedule_timeout is None:
            return None
        return max(1, round(self.schedule_timeout * 1000))


@dataclass(frozen=True)
class Shape:
    """A workflow version as the engine reads it; equal to any of the same digest."""

    workflow: str
    workflow_id: int
    version_id: int
    digest: str
    queue_name: str
    queue_id: int
    standalone: bool
    description: str
    data: Mapping[str, Any]
    tasks: tuple[TaskShape, ...]
    children: tuple[tuple[int, ...], ...]
    descendants: tuple[tuple[int, ...], ...]

    @classmethod
    def build(cls, workflow: str, data: Mapping[str, Any]) -> Shape:
        """Read the dictionary of a definition, or of `WorkflowVersion.shape`.

        Raises InvalidDefinition where the tasks form a cycle, two share a name, or a
        parent is not among them.
        """
        names = [task["name"] for task in data["tasks"]]
        _refuse_bad_graph(workflow, names, data["tasks"])
        number = {name: ordinal for ordinal, name in enumerate(names)}
        queue_name = data.get("queue_name", "default")
        tasks = tuple(
            _task(workflow, ordinal, task, number, queue_name)
            for ordinal, task in enumerate(data["tasks"])
        )
        tasks = _with_judged(tasks)
        children = tuple(
            tuple(t.ordinal for t in tasks if parent.ordinal in t.parents)
            for parent in tasks
        )
        text = json.dumps(
            {key: value for key, value in data.items() if key != "description"},
            sort_keys=True,
            separators=(",", ":"),
        )
        digest = hashlib.sha256(text.encode()).hexdigest()
        return cls(
            workflow=workflow,
            workflow_id=ids.definition_id("workflow", workflow),
            version_id=ids.definition_id("version", workflow, digest),
            digest=digest,
            queue_name=queue_name,
            queue_id=queue_id(queue_name),
            standalone=bool(data.get("standalone", False)),
            description=data.get("description", ""),
            data=data,
            tasks=tasks,
            children=children,
            descendants=tuple(_closure(children, task.ordinal) for task in tasks),
        )

    @cached_property
    def handler(self) -> int | None:
        """The ordinal of the task that a failure of the run releases, if any."""
        return next((t.ordinal for t in self.tasks if t.handles == "failure"), None)

    @cached_property
    def starts_judged(self) -> bool:
        """Whether something of a new run is to be judged before it can start."""
        return any(
            task.judged and not task.parents and task.handles is None
            for task in self.tasks
        )

    @property
    def single(self) -> bool:
        """Whether its runs have one task, so that nothing needs to be counted."""
        return len(self.tasks) == 1

    def task(self, task_id: int) -> TaskShape | None:
        """The node of that task, or None where this version has none."""
        return self._by_id.get(task_id)

    @cached_property
    def _by_id(self) -> dict[int, TaskShape]:
        return {task.id: task for task in self.tasks}


def queue_id(name: str) -> int:
    """The id of a queue, which derives from its name."""
    return ids.definition_id("queue", name)


def task_id(workflow: str, name: str) -> int:
    """The id of a task, which derives from its workflow's name and its own."""
    return ids.definition_id("task", workflow, name)


def _task(
    workflow: str,
    ordinal: int,
    task: Mapping[str, Any],
    number: Mapping[str, int],
    default_queue: str,
) -> TaskShape:
    identity = task_id(workflow, task["name"])
    queue_name = task.get("queue_name") or default_queue
    return TaskShape(
        id=identity,
        name=task["name"],
        ordinal=ordinal,
        lane=ids.lane_of(identity),
        queue_name=queue_name,
        queue_id=queue_id(queue_name),
        parents=tuple(number[name] for name in task.get("parents", ())),
        retries=(
            Retry.from_dict(task["retries"]) if task.get("retries") else Retry.of(0)
        ),
        execution_timeout=task.get("execution_timeout"),
        schedule_timeout=task.get("schedule_timeout"),
        isolated=bool(task.get("isolated", False)),
        slot_cost=int(task.get("slot_cost", 1)),
        wait_for=task.get("wait_for"),
        skip_if=task.get("skip_if"),
        cancel_if=task.get("cancel_if"),
        handles=task.get("handles"),
        durable=bool(task.get("durable", False)),
        eviction=task.get("eviction"),
        batch=task.get("batch"),
        arguments=tuple(task["arguments"]) if "arguments" in task else None,
    )


def _with_judged(tasks: tuple[TaskShape, ...]) -> tuple[TaskShape, ...]:
    """Mark what may come to be skipped or held, and all that depends on it."""
    judged = {
        task.ordinal
        for task in tasks
        if task.wait_for or task.skip_if or task.cancel_if or task.handles
    }
    found = -1
    while found < len(judged):
        found = len(judged)
        judged |= {task.ordinal for task in tasks if judged.intersection(task.parents)}
    return tuple(replace(task, judged=task.ordinal in judged) for task in tasks)


def _refuse_bad_graph(
    workflow: str, names: list[str], tasks: list[Mapping[str, Any]]
) -> None:
    if not names:
        raise InvalidDefinition(
            f'Workflow "{workflow}" has no tasks. Add one with @workflow.task.'
        )
    for name in names:
        if names.count(name) > 1:
            raise InvalidDefinition(
                f'Workflow "{workflow}" has two tasks named "{name}". Give one of them '
                f"another name=."
            )
    graph = {task["name"]: list(task.get("parents", ())) for task in tasks}
    for name, parents in graph.items():
        for parent in parents:
            if parent not in graph:
                raise InvalidDefinition(
                    f'Task "{name}" of workflow "{workflow}" has the parent '
                    f'"{parent}", which is not a task of that workflow. Declare it '
                    f"there, or take it out of parents=."
                )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        path = " → ".join(error.args[1])
        raise InvalidDefinition(
            f'The tasks of workflow "{workflow}" wait for each other: {path}. Take one '
            f"of these out of the other's parents=."
        ) from None


def _closure(children: tuple[tuple[int, ...], ...], start: int) -> tuple[int, ...]:
    seen: set[int] = set()
    stack = list(children[start])
    while stack:
        ordinal = stack.pop()
        if ordinal not in seen:
            seen.add(ordinal)
            stack.extend(children[ordinal])
    return tuple(sorted(seen))
