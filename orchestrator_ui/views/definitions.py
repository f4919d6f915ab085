"""Names and shapes of definitions, for rows that carry only their ids.

Definition ids derive from names, and a run may exist before a worker has registered
its workflow: a definition that is missing is shown as such, never joined away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from orchestrator.engine.shapes import Shape
from orchestrator.models import Queue, Run, Task, Worker, Workflow, WorkflowVersion

_shapes: dict[int, Shape] = {}


def shapes(version_ids: Iterable[int]) -> dict[int, Shape]:
    """The shapes of these versions by id, those that are registered.

    At most one query; a version never changes, so a process reads each one once.
    """
    wanted = set(version_ids)
    missing = [version_id for version_id in wanted if version_id not in _shapes]
    if missing:
        rows = WorkflowVersion.objects.filter(pk__in=missing).values_list(
            "pk", "workflow__name", "shape"
        )
        for version_id, workflow, data in rows:
            _shapes[version_id] = Shape.build(workflow, data)
    return {key: _shapes[key] for key in wanted if key in _shapes}


def workflow_names(runs: Collection[Run]) -> dict[int, str]:
    """The names of the workflows of these runs by workflow id; one query."""
    return dict(
        Workflow.objects.filter(pk__in={run.workflow_id for run in runs}).values_list(
            "pk", "name"
        )
    )


def queue_names(queue_ids: Iterable[int]) -> dict[int, str]:
    """The names of these queues by id; one query."""
    return dict(Queue.objects.filter(pk__in=set(queue_ids)).values_list("pk", "name"))


def task_names(task_ids: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Workflow and task name of these tasks by id; one query."""
    rows = Task.objects.filter(pk__in=set(task_ids)).values_list(
        "pk", "workflow__name", "name"
    )
    return {pk: (workflow, name) for pk, workflow, name in rows}


def worker_names(worker_ids: Iterable[UUID | None]) -> dict[UUID | None, str]:
    """The names of these workers by id; one query."""
    wanted = {worker_id for worker_id in worker_ids if worker_id is not None}
    return dict(Worker.objects.filter(pk__in=wanted).values_list("pk", "name"))
