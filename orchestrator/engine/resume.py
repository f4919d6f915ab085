"""Resume: what durable functions wait for has come true, so they go on.

Found by an index, whoever marked it: journal entries are completed with what came, and
a task run that is suspended is queued again as soon as one awaiting call has all that
it waits for. One that kept its slot finds its entries completed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator import ids
from orchestrator.conditions import evaluate, from_dict
from orchestrator.engine import failpoints, notify, versions, waits
from orchestrator.engine.sessions import Session, array, documents, statements, uuids
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import TaskFailed
from orchestrator.states import ConditionKind, RunStatus, TaskRunStatus

BATCH = 1_000  # conditions in one transaction
MOST = 16_000_000  # characters in one statement: the server takes 268 MB of JSON


class Due(NamedTuple):
    """A condition that has come true."""

    id: int
    task_run_id: UUID
    entry_id: UUID
    group: int
    kind: str
    child_run_id: UUID | None


class Outcome(NamedTuple):
    """What an entry came to, as JSON texts."""

    output: str | None
    error: str | None = None


def resume(session: Session, limit: int = BATCH) -> int:
    """Draw the consequences of conditions that have come true; how many there were.

    A durable transaction. Runs that are locked elsewhere are left for the next time.
    """
    steps = statements("resume")
    failpoints.hit("resume.before")
    with session.transaction():
        rows = session.fetch(steps["pick"], {"limit": limit})
        if not rows:
            return 0
        params = {"condition_ids": array(row[0] for row in rows)}
        due = [Due(*row) for row in session.fetch(steps["take"], params)]
        if not due:
            return 0
        touched = _children(session, due) | _waits(session, due)
        still_open = waits.open_among(session, touched)
        over = {task_run for task_run, group in touched - still_open}
        if over:
            notify.wake(session, release(session, over))
    failpoints.hit("resume.after")
    return len(due)


def release(session: Session, task_run_ids: set[UUID]) -> set[int]:
    """Queue those of the task runs that are suspended; the ids of their queues.

    In the caller's transaction, which holds the locks of their Runs.
    """
    params = {"task_run_ids": uuids(sorted(task_run_ids))}
    return {row[0] for row in session.fetch(statements("resume")["release"], params)}


# Children.


def _children(session: Session, due: Sequence[Due]) -> set[tuple[UUID, int]]:
    """Complete the entries of children that have ended."""
    ours = [d for d in due if d.kind == ConditionKind.CHILD]
    if not ours:
        return set()
    steps = statements("resume")
    outcomes = run_outcomes(session, {d.child_run_id for d in ours if d.child_run_id})
    ended = [d for d in ours if d.child_run_id in outcomes]
    reopened = [d.id for d in ours if d.child_run_id not in outcomes]
    if reopened:
        session.send(steps["mistaken"], {"condition_ids": array(reopened)})
    if not ended:
        return set()
    found = {d.entry_id: outcomes[d.child_run_id] for d in ended if d.child_run_id}
    _complete(session, found)
    session.send(steps["gone"], {"condition_ids": array(d.id for d in ended)})
    return {(d.task_run_id, d.group) for d in ended}


def run_outcomes(session: Session, run_ids: set[UUID]) -> dict[UUID, Outcome]:
    """What those of the runs came to that have ended, as a parent is told."""
    steps = statements("resume")
    rows = session.fetch(steps["children"], {"run_ids": uuids(sorted(run_ids))})
    ended = {row[0]: row[1:] for row in rows if row[1] is not None}
    shapes: dict[UUID, Shape] = {}
    keys: list[UUID] = []
    for run_id, (_, _, version_id) in ended.items():
        shape = versions.shape(session, version_id)
        if shape is not None:
            shapes[run_id] = shape
            keys += [ids.task_run_id(run_id, task.ordinal) for task in shape.tasks]
    tasks: dict[UUID, list[tuple[Any, ...]]] = {run_id: [] for run_id in ended}
    for row in session.fetch(steps["tasks"], {"task_run_ids": uuids(keys)}):
        tasks[row[1]].append(row)
    errors = _errors(session, [row for rows in tasks.values() for row in rows])
    return {
        run_id: _outcome(status, reason, shapes.get(run_id), tasks[run_id], errors)
        for run_id, (status, reason, _) in ended.items()
    }


def _errors(session: Session, tasks: Sequence[tuple[Any, ...]]) -> dict[UUID, Any]:
    failed = [
        ids.attempt_id(row[0], row[6])
        for row in tasks
        if row[3] == TaskRunStatus.FAILED and row[6]
    ]
    if not failed:
        return {}
    rows = session.fetch(statements("resume")["errors"], {"attempt_ids": uuids(failed)})
    return {task_run_id: json.loads(text) for task_run_id, text in rows}


def _outcome(
    status: str,
    reason: str,
    shape: Shape | None,
    tasks: Sequence[tuple[Any, ...]],
    errors: Mapping[UUID, Any],
) -> Outcome:
    if status == RunStatus.CANCELLED:
        return Outcome(None, json.dumps({"cancelled": True, "message": reason}))
    names = {task.ordinal: task.name for task in shape.tasks} if shape else {}
    if status == RunStatus.FAILED:
        failed = [
            TaskFailed.of(names.get(ordinal, "?"), errors.get(task_run), why)
            for task_run, _, ordinal, state, why, _, _ in tasks
            if state == TaskRunStatus.FAILED
        ] or [TaskFailed.of("run", None, reason)]
        told = [
            {
                "task": error.task,
                "type": error.error_type,
                "message": error.message,
                "traceback": error.traceback,
            }
            for error in failed
        ]
        return Outcome(None, json.dumps({"message": reason, "tasks": told}))
    outputs = {
        names.get(ordinal, "?"): output or "null"
        for _, _, ordinal, state, _, output, _ in tasks
        if state == TaskRunStatus.COMPLETED
    }
    if shape is not None and shape.standalone:
        return Outcome(next(iter(outputs.values()), None))
    pairs = [f"{json.dumps(name)}:{output}" for name, output in outputs.items()]
    return Outcome("{" + ",".join(pairs) + "}")


# Events and times.


def _waits(session: Session, due: Sequence[Due]) -> set[tuple[UUID, int]]:
    """Complete the entries whose conditions hold."""
    ours = [d for d in due if d.kind != ConditionKind.CHILD]
    if not ours:
        return set()
    steps = statements("resume")
    session.send(steps["judged"], {"condition_ids": array(d.id for d in ours)})
    entries = {d.entry_id: d for d in ours}
    came: dict[UUID, list[tuple[Any, ...]]] = {}
    for row in session.fetch(steps["waits"], _entries(list(entries.values()))):
        came.setdefault(row[0], []).append(row)
    found = {}
    for entry_id, rows in came.items():
        outcome = _held(rows[0][1], rows)
        if outcome is not None:
            found[entry_id] = outcome
    if not found:
        return set()
    _complete(session, found)
    over = [entries[entry_id] for entry_id in found]
    session.send(steps["done"], _entries(over))
    return {(d.task_run_id, d.group) for d in over}


def _held(asked: str, rows: Sequence[tuple[Any, ...]]) -> Outcome | None:
    """What a wait came to, or None while it does not hold."""
    tree = waits.condition_of(asked)
    if tree is None:  # a sleep
        return Outcome(None)
    condition = from_dict(tree)
    if not evaluate(condition, {row[2]: True for row in rows}):
        return None
    labels = [leaf.label for leaf in condition.leaves()]
    pairs = [[labels[row[2]], json.loads(row[4] or "null")] for row in rows]
    return Outcome(json.dumps(pairs))


def _entries(due: Sequence[Due]) -> dict[str, Any]:
    return {
        "task_run_ids": uuids(d.task_run_id for d in due),
        "groups": array(d.group for d in due),
        "entry_ids": uuids(d.entry_id for d in due),
    }


def _complete(session: Session, found: Mapping[UUID, Outcome]) -> None:
    part: dict[UUID, Outcome] = {}
    size = 0
    for entry_id, outcome in found.items():
        length = len(outcome.output or "") + len(outcome.error or "")
        if part and size + length > MOST:
            _write(session, part)
            part, size = {}, 0
        part[entry_id] = outcome
        size += length
    _write(session, part)


def _write(session: Session, found: Mapping[UUID, Outcome]) -> None:
    session.send(
        statements("resume")["complete"],
        {
            "entry_ids": uuids(found),
            "outputs": documents([outcome.output for outcome in found.values()]),
            "errors": documents([outcome.error for outcome in found.values()]),
        },
    )
