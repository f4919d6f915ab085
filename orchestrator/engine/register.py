"""Register: write definitions, so that runs have a version to be bound to."""

from __future__ import annotations

import json
from collections.abc import Sequence

from orchestrator.engine import versions
from orchestrator.engine.sessions import Session, array, statements
from orchestrator.engine.shapes import Shape, queue_id
from orchestrator.exceptions import InvalidDefinition


def register(session: Session, shapes: Sequence[Shape]) -> list[Shape]:
    """Write what is new of `shapes`; return those that became current versions.

    A digest not seen before becomes its workflow's current version; a known one stays
    what it is, so that a rolling deploy does not flip back and forth. Joins the
    caller's transaction. Locks the workflows' rows, in id order.

    Raises InvalidDefinition where two names share an id (a collision of hashes).
    """
    if not shapes:
        return []
    steps = statements("register")
    shapes = sorted(shapes, key=lambda shape: shape.workflow_id)
    queues = {shape.queue_id: shape.queue_name for shape in shapes}
    nodes = {}
    for shape in shapes:
        for task in shape.tasks:
            queues[task.queue_id] = task.queue_name
            nodes[task.id] = (task.id, shape.workflow_id, task.name, task.lane)
    tasks = [nodes[key] for key in sorted(nodes)]
    params = {
        "queue_ids": array(sorted(queues)),
        "queue_names": [queues[key] for key in sorted(queues)],
        "workflow_ids": array([shape.workflow_id for shape in shapes]),
        "workflow_names": [shape.workflow for shape in shapes],
        "descriptions": [shape.description for shape in shapes],
        "workflow_queues": [shape.queue_name for shape in shapes],
        "version_ids": array([shape.version_id for shape in shapes]),
        "digests": [shape.digest for shape in shapes],
        "shapes": [json.dumps(dict(shape.data)) for shape in shapes],
        "task_ids": array([task[0] for task in tasks]),
        "task_workflows": array([task[1] for task in tasks]),
        "task_names": [task[2] for task in tasks],
        "lanes": array([task[3] for task in tasks]),
    }
    with session.joined():
        for step in ("queues", "workflows"):
            session.send(steps[step], params)
        session.fetch(steps["lock"], params)
        session.send(steps["describe"], params)
        new = {row[0] for row in session.fetch(steps["versions"], params)}
        session.send(steps["tasks"], params)
        for kind, ours, theirs in session.fetch(steps["collisions"], params):
            raise InvalidDefinition(
                f'The {kind} names "{ours}" and "{theirs}" have the same id. Rename '
                f"one of them."
            )
    for shape in shapes:
        versions.remember(shape)
    return [shape for shape in shapes if shape.version_id in new]


def register_queue(session: Session, name: str) -> None:
    """Write a queue that only callers name. Joins the caller's transaction."""
    params = {"queue_ids": array([queue_id(name)]), "queue_names": [name]}
    session.send(statements("register")["queues"], params)
