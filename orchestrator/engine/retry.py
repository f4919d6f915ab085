"""Retry: reopen an ended run, so that some of its tasks are executed again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal
from uuid import UUID

from orchestrator import ids
from orchestrator.engine import notify, versions
from orchestrator.engine.sessions import Session, array, statements
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import IllegalTransition, RunNotFound
from orchestrator.states import TaskRunStatus

Which = Literal["failed", "all"] | Collection[str]


def retry(
    session: Session,
    run_id: UUID,
    *,
    tasks: Which = "failed",
    keep_journal: bool = True,
    branched: UUID | None = None,
) -> int:
    """Reopen an ended run and return how many of its task runs are executed again.

    `tasks` are those that failed or were cancelled, all, or those named and all that
    depend on them. The run keeps its id, its input and its version; its generation and
    that of the reopened task runs rise by one, and their budgets start anew. Durable
    tasks replay their journals, and a child run whose failure they ended with is
    retried as well; without `keep_journal` they begin another branch, with nothing in
    it, and with `branched` all do but that task run, whose failures stay.

    Joins the caller's transaction, and may wait for another one that holds the Run.
    Raises RunNotFound; IllegalTransition where the run has not ended, nothing of it
    failed, or a name is not a task of it.
    """
    steps = statements("retry")
    with session.joined():
        rows = session.fetch(steps["lock"], {"run_id": run_id})
        if not rows:
            raise RunNotFound(f"There is no run {run_id}. It may have been dropped.")
        version_id, status, started_at = rows[0]
        if status is None:
            raise IllegalTransition(
                f"Run {run_id} has not ended. Wait for its end, or cancel it first."
            )
        shape = versions.shape(session, version_id)
        if shape is None:
            raise IllegalTransition(
                f"The version of run {run_id} is not registered here. Run "
                f"`manage.py migrate`, which registers definitions."
            )
        keys = [ids.task_run_id(run_id, task.ordinal) for task in shape.tasks]
        read = session.fetch(steps["read"], {"task_run_ids": array(keys)})
        reopened = _reopened(shape, {row[0]: row[1] for row in read}, tasks)
        chosen = sorted(reopened)
        params = {
            "run_id": run_id,
            "tasks": len(chosen),
            "started_at": started_at,
            # A single task without an attempt yet ends as uncounted as a new one.
            "counted": not shape.single or read[0][3] > 0,
            **_staying([row[1:3] for row in read if row[0] not in reopened]),
            "task_run_ids": array(keys[ordinal] for ordinal in chosen),
            "remaining": array(
                len(reopened.intersection(shape.tasks[ordinal].parents))
                + (ordinal == shape.handler and len(chosen) > 1)
                for ordinal in chosen
            ),
            "judged": array(shape.tasks[ordinal].judged for ordinal in chosen),
            "schedule_timeouts": array(
                shape.tasks[ordinal].schedule_timeout_ms for ordinal in chosen
            ),
        }
        durable = [keys[n] for n in chosen if shape.tasks[n].durable]
        if branched is not None:
            _forget(session, [key for key in durable if key != branched])
            _retry_children(session, [branched], told=False)
        elif keep_journal:
            _retry_children(session, durable, told=True)
        else:
            _forget(session, durable)
        queued = session.fetch(steps["reopen"], params)
        notify.wake(session, {row[0] for row in queued})
        if any(shape.tasks[ordinal].judged for ordinal in chosen):
            notify.tend(session)
    return len(chosen)


def _forget(session: Session, task_run_ids: Sequence[UUID]) -> None:
    if task_run_ids:
        params = {"task_run_ids": array(task_run_ids)}
        session.send(statements("retry")["forget"], params)


def _retry_children(
    session: Session, task_run_ids: Sequence[UUID], *, told: bool
) -> None:
    """Reopen the child runs of which these task runs died, and wait for them again.

    Not `told`: only those whose end they were not told of.
    """
    if not task_run_ids:
        return
    steps = statements("retry")
    params = {"task_run_ids": array(task_run_ids), "told": told}
    rows = session.fetch(steps["died_of"], params)
    forgotten = []
    for entry_id, child_run_id, unsuccessful in rows:
        try:
            if unsuccessful:
                retry(session, child_run_id)
        except (IllegalTransition, RunNotFound):
            continue  # its failure stands
        forgotten.append(entry_id)
    if forgotten:
        session.send(steps["unlearn"], {"entry_ids": array(forgotten)})


def _staying(ended: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What the run has to answer for besides, of statuses and reasons that stay."""
    failed = [reason for status, reason in ended if status == TaskRunStatus.FAILED]
    cancelled = [
        reason for status, reason in ended if status == TaskRunStatus.CANCELLED
    ]
    return {
        "failed": len(failed),
        "cancelled": len(cancelled),
        "reason": next(iter([*failed, *cancelled]), ""),
    }


def _reopened(shape: Shape, states: dict[int, str], tasks: Which) -> set[int]:
    ordinals = range(len(shape.tasks))
    if tasks == "all":
        return set(ordinals)
    if tasks == "failed":
        unsuccessful = {TaskRunStatus.FAILED.value, TaskRunStatus.CANCELLED.value}
        chosen = {n for n in ordinals if states[n] in unsuccessful}
        if not chosen:
            raise IllegalTransition(
                'No task of this run failed. Use tasks="all" to execute all of them '
                "again."
            )
    else:
        names = {task.name: task.ordinal for task in shape.tasks}
        unknown = [name for name in tasks if name not in names]
        if unknown or not tasks:
            known = ", ".join(names)
            raise IllegalTransition(
                f'This run has no task "{", ".join(unknown)}". Its tasks are {known}.'
            )
        chosen = {names[name] for name in tasks}
    reopened = chosen.union(*(shape.descendants[ordinal] for ordinal in chosen))
    if shape.handler is not None:
        reopened.add(shape.handler)
    _refuse_without_parents(shape, states, reopened)
    return reopened


def _refuse_without_parents(
    shape: Shape, states: dict[int, str], reopened: set[int]
) -> None:
    fine = {TaskRunStatus.COMPLETED.value, TaskRunStatus.SKIPPED.value}
    for ordinal in sorted(reopened):
        for parent in shape.tasks[ordinal].parents:
            if parent not in reopened and states[parent] not in fine:
                raise IllegalTransition(
                    f'Task "{shape.tasks[ordinal].name}" cannot be executed again: its '
                    f'parent "{shape.tasks[parent].name}" did not complete. Retry that '
                    f"one, and this one follows."
                )
