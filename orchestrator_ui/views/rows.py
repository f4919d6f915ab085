"""Rows of the run list: five queries a page, whatever its length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import OuterRef, Subquery
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Left

from orchestrator import ids
from orchestrator.models import Attempt, OpenRun, Run, TaskRun
from orchestrator.models.runs import RunQuerySet
from orchestrator.states import TERMINAL_RUN, TaskRunStatus
from orchestrator_ui.views import definitions, places
from orchestrator_ui.views.places import (
    Place,
    ended_attempts,
    executions,
    with_places,
)

# Task runs that are read for one row; of a wider run only its counts are shown.
MAX_TASKS = 50
MAX_LINE = 200


@dataclass(frozen=True)
class RunRow:
    """One run as the list shows it. No input, output or metadata is in it."""

    run: Run
    workflow: str
    queue: str
    tasks: int  # in its version, 0 where that is not registered
    ended: int  # of these
    attempts: int | None  # executions so far; None where it has too many tasks
    started_at: datetime | None
    due_at: datetime | None  # when something of it is due, if nothing is before
    line: str  # why it is where it is, or its last error


def for_list(runs: RunQuerySet, *, metadata: bool = False) -> RunQuerySet:
    """What a row needs of a run: its live status, and no column that may be big.

    `metadata` reads the metadata along, for those who may see payloads.
    """
    open_run = OpenRun.objects.filter(run_id=OuterRef("pk"))
    return (
        runs.with_live_status()
        .annotate(
            remaining=Subquery(open_run.values("remaining")),
            opened_at=Subquery(open_run.values("started_at")),
        )
        .defer("input", *([] if metadata else ["metadata"]))
    )


def read(runs: Sequence[Run]) -> list[RunRow]:
    """The rows of runs read with `for_list`, in their order; four queries."""
    shapes = definitions.shapes({run.version_id for run in runs})
    workflows = definitions.workflow_names(runs)
    queues = definitions.queue_names({run.queue_id for run in runs})
    sizes = {
        run.pk: len(shapes[run.version_id].tasks) if run.version_id in shapes else 0
        for run in runs
    }
    task_runs = _task_runs({pk: n for pk, n in sizes.items() if 0 < n <= MAX_TASKS})
    errors = _last_errors([t for of_run in task_runs.values() for t in of_run])
    return [
        RunRow(
            run=run,
            workflow=workflows.get(run.workflow_id, ""),
            queue=queues.get(run.queue_id, ""),
            tasks=sizes[run.pk],
            ended=_ended(run, sizes[run.pk]),
            attempts=(
                sum(executions(t) for t in task_runs[run.pk])
                if run.pk in task_runs
                else None
            ),
            started_at=_started(run, task_runs.get(run.pk, ())),
            due_at=min(
                filter(None, (Place.of(t).due_at for t in task_runs.get(run.pk, ()))),
                default=None,
            ),
            line=_line(run, task_runs.get(run.pk, ()), errors),
        )
        for run in runs
    ]


def _ended(run: Run, tasks: int) -> int:
    if run.outcome_status is not None:
        return tasks
    remaining: int | None = getattr(run, "remaining", None)
    return 0 if remaining is None else max(0, tasks - remaining)


def _started(run: Run, task_runs: Collection[TaskRun]) -> datetime | None:
    opened_at: datetime | None = getattr(run, "opened_at", None)
    starts = [places.started_at(t) for t in task_runs]
    return run.started_at or opened_at or min(filter(None, starts), default=None)


def _task_runs(sizes: dict[UUID, int]) -> dict[UUID, list[TaskRun]]:
    keys = [
        ids.task_run_id(run_id, ordinal)
        for run_id, size in sizes.items()
        for ordinal in range(size)
    ]
    found: dict[UUID, list[TaskRun]] = defaultdict(list)
    rows = with_places(TaskRun.objects.filter(pk__in=keys).order_by()).defer("output")
    for task_run in rows:
        found[task_run.run_id].append(task_run)
    return found


def _last_errors(task_runs: Collection[TaskRun]) -> dict[UUID, str]:
    """Why the next attempt of an open task run is not its first, by task run id."""
    keys = [
        ids.attempt_id(task_run.pk, ended_attempts(task_run))
        for task_run in task_runs
        if task_run.outcome_status is None and ended_attempts(task_run) > 0
    ]
    rows = Attempt.objects.filter(pk__in=keys).values_list(
        "task_run_id",
        KeyTextTransform("type", "error"),
        Left(KeyTextTransform("message", "error"), MAX_LINE),
    )
    return {pk: one_line(kind, message) for pk, kind, message in rows if kind}


def one_line(kind: str | None, message: str | None) -> str:
    """An error in one line: the class without its module, and its message's start."""
    name = (kind or "").rpartition(".")[2]
    lines = (message or "").strip().splitlines()
    return f"{name}: {lines[0][:MAX_LINE]}" if lines else name


def _line(run: Run, task_runs: Collection[TaskRun], errors: dict[UUID, str]) -> str:
    if run.status in TERMINAL_RUN:
        return run.status_reason
    for task_run in task_runs:
        error = errors.get(task_run.pk)
        if error and task_run.status == TaskRunStatus.BACKOFF:
            return error
    return next((errors[t.pk] for t in task_runs if t.pk in errors), "")
