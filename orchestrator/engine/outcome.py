"""Outcome: where a run is now, and what its tasks came to."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import versions
from orchestrator.engine.sessions import Session, array, statements
from orchestrator.states import TERMINAL_RUN, TaskRunStatus


class TaskState(NamedTuple):
    """One task of an ended run: its output as JSON text, its last attempt's error."""

    name: str
    status: str | None
    status_reason: str
    output: str | None
    error: dict[str, Any] | None


class RunState(NamedTuple):
    """A run as it is now; `tasks` are read once it has ended."""

    status: str
    status_reason: str
    version_id: int
    tasks: tuple[TaskState, ...]


def run_state(session: Session, run_id: UUID) -> RunState | None:
    """Where a run is; None where there is no such run."""
    steps = statements("outcome")
    rows = session.fetch(steps["run"], {"run_id": run_id})
    if not rows:
        return None
    status, reason, version_id = rows[0]
    tasks: tuple[TaskState, ...] = ()
    if status in TERMINAL_RUN:
        tasks = task_states(session, run_id, version_id)
    return RunState(status, reason, version_id, tasks)


def status(session: Session, run_id: UUID) -> tuple[str, int] | None:
    """A run's status and version alone; None where there is no such run."""
    rows = session.fetch(statements("outcome")["run"], {"run_id": run_id})
    return (rows[0][0], rows[0][2]) if rows else None


def task_states(
    session: Session, run_id: UUID, version_id: int
) -> tuple[TaskState, ...]:
    """What the tasks of a run came to so far; the status is None until their end."""
    shape = versions.shape(session, version_id)
    if shape is None:
        return ()
    steps = statements("outcome")
    keys = [ids.task_run_id(run_id, task.ordinal) for task in shape.tasks]
    rows = session.fetch(steps["tasks"], {"task_run_ids": array(keys)})
    failed = [
        ids.attempt_id(row[0], row[5])
        for row in rows
        if row[2] == TaskRunStatus.FAILED and row[5]
    ]
    errors: dict[UUID, dict[str, Any]] = {}
    if failed:
        for task_run_id, text in session.fetch(
            steps["errors"], {"attempt_ids": array(failed)}
        ):
            errors[task_run_id] = json.loads(text)
    return tuple(
        TaskState(
            shape.tasks[ordinal].name, status, reason, output, errors.get(task_run_id)
        )
        for task_run_id, ordinal, status, reason, output, _ in rows
    )
