"""What is declared in this process: workflows by name, tasks by id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import autodiscover_modules

from orchestrator.exceptions import InvalidDefinition, UnknownWorkflow

if TYPE_CHECKING:
    from orchestrator.definitions import TaskDefinition
    from orchestrator.engine.shapes import Shape
    from orchestrator.workflows import WorkflowDefinition

MODULES = ("workflows", "tasks")

_workflows: dict[str, WorkflowDefinition[Any]] = {}
_tasks: dict[int, TaskDefinition[Any, Any]] | None = None  # made when first asked for


def add(definition: WorkflowDefinition[Any]) -> None:
    """Declare a workflow.

    Raises InvalidDefinition where another one has its name.
    """
    other = _workflows.get(definition.name)
    if other is not None:
        raise InvalidDefinition(
            f"Two workflows are named {definition.name!r}: one in {other.module}, one "
            f"in {definition.module}. Give one of them another name."
        )
    _workflows[definition.name] = definition
    changed()


def workflows() -> dict[str, WorkflowDefinition[Any]]:
    """The declared workflows by name, standalone tasks among them."""
    return dict(_workflows)


def workflow(name: str) -> WorkflowDefinition[Any]:
    """The declared workflow of that name; raises UnknownWorkflow."""
    try:
        return _workflows[name]
    except KeyError:
        raise UnknownWorkflow(
            f"No workflow named {name!r} is declared in this process; check the name "
            "and that its app is in INSTALLED_APPS."
        ) from None


def shapes() -> list[Shape]:
    """The shapes of all declared workflows.

    Raises InvalidDefinition for a workflow without tasks.
    """
    return [definition.shape for definition in _workflows.values()]


def task(task_id: int) -> TaskDefinition[Any, Any] | None:
    """The task of that id, or None where this process does not know it."""
    global _tasks
    known = _tasks
    if known is None:
        known = {
            node.id: definition.tasks[node.name]
            for definition in _workflows.values()
            for node in definition.shape.tasks
        }
        _tasks = known
    return known.get(task_id)


def changed() -> None:
    """Forget the tasks by id: a workflow or a task has been added."""
    global _tasks
    _tasks = None


def autodiscover() -> None:
    """Import `workflows` and `tasks` of every installed app."""
    autodiscover_modules(*MODULES)


@contextmanager
def isolated() -> Iterator[None]:
    """Undo, at the end, what the block declares: for tests of definitions."""
    before = dict(_workflows)
    try:
        yield
    finally:
        _workflows.clear()
        _workflows.update(before)
        changed()
