"""The page of one run: read whole with a constant number of queries.

No payload is in it: input, outputs and metadata are read apart, for those who may.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Q, Subquery
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Left
from django.template.loader import render_to_string

from orchestrator import ids
from orchestrator.engine.shapes import Shape, TaskShape
from orchestrator.models import Attempt, AuditEntry, OpenRun, Progress, Run, TaskRun
from orchestrator.states import AttemptOutcome, TaskRunStatus
from orchestrator_ui import graph
from orchestrator_ui.views import conditions, definitions, places, records, tree
from orchestrator_ui.views.conditions import Waitings
from orchestrator_ui.views.coverage import Coverage, Gap
from orchestrator_ui.views.places import (
    Place,
    ended_attempts,
    executions,
    with_places,
)

MAX_TASKS = 300  # listed on one page
MAX_ATTEMPTS = 20  # the latest of one task; all are a link away
MAX_MESSAGE = 2_000  # characters of an error message; the traceback has all
MAX_AUDIT = 20


@dataclass(frozen=True)
class AttemptView:
    """One execution that has ended."""

    row: Attempt
    worker: str
    error_type: str
    message: str
    traceback: str  # of the last one that failed; the others' are a link away

    @property
    def error_name(self) -> str:
        """The class without its module."""
        return self.error_type.rpartition(".")[2]


@dataclass(frozen=True)
class TaskView:
    """One task of the run; `task_run` is None where its row is gone."""

    shape: TaskShape
    parents: tuple[str, ...]
    task_run: TaskRun | None
    queue: str
    holder: str
    attempts: tuple[AttemptView, ...]
    gap: Gap
    waiting: Waitings | None = None
    progress: Progress | None = None

    @property
    def status(self) -> str:
        return self.task_run.status if self.task_run else ""

    @property
    def target(self) -> str:
        """The id of its section, which the graph links to."""
        return f"task-{self.shape.ordinal}"

    @property
    def executions(self) -> int:
        return executions(self.task_run) if self.task_run else 0

    @property
    def ends_with_error(self) -> bool:
        """Whether its last attempt says why it failed, so that no reason need."""
        return bool(self.attempts and self.attempts[-1].error_type)

    @property
    def hidden_attempts(self) -> int:
        ended = ended_attempts(self.task_run) if self.task_run else 0
        return max(0, ended - len(self.attempts))

    @property
    def started_at(self) -> datetime | None:
        if self.task_run is None:
            return None
        return places.started_at(self.task_run)


@dataclass(frozen=True)
class RunPage:
    """Everything that the page shows and the feed keeps up to date."""

    run: Run
    shape: Shape | None
    workflow: str
    queue: str
    tasks: tuple[TaskView, ...]
    audit: Sequence[AuditEntry]
    started_at: datetime | None = None
    gaps: tuple[TaskView, ...] = field(default=())
    parent: tree.Parent | None = None
    children: tree.Children | None = None
    records: str = ""  # differs once there is more of journal, log or stream

    @property
    def is_open(self) -> bool:
        return self.run.outcome_status is None

    @property
    def ended(self) -> int:
        """How many of its tasks have ended."""
        return sum(
            task.task_run is not None and task.task_run.outcome_status is not None
            for task in self.tasks
        )

    @cached_property
    def layout(self) -> graph.Layout | None:
        """The drawing; None for a single task or too many."""
        if self.shape is None or not 1 < len(self.shape.tasks) <= graph.MAX_TASKS:
            return None
        return graph.of_tasks(self.shape.tasks)

    @property
    def nodes(self) -> list[tuple[graph.Node, TaskView]]:
        """The boxes of the drawing with their tasks."""
        if self.layout is None:
            return []
        by_ordinal = {task.shape.ordinal: task for task in self.tasks}
        return [
            (node, by_ordinal[node.key])
            for node in self.layout.nodes
            if node.key in by_ordinal
        ]

    @property
    def listed(self) -> tuple[TaskView, ...]:
        """The tasks that have a section: in the order of the graph."""
        return self.tasks[:MAX_TASKS]


def read(run_id: UUID) -> RunPage | None:
    """The page of a run; None where there is no such run."""
    open_run = OpenRun.objects.filter(run_id=OuterRef("pk")).values("started_at")
    run = (
        Run.objects.filter(pk=run_id)
        .with_live_status()
        .annotate(opened_at=Subquery(open_run))
        .defer("input", "metadata")
        .first()
    )
    if run is None:
        return None
    shape = definitions.shapes([run.version_id]).get(run.version_id)
    tasks = _tasks(run, shape) if shape else ()
    claims = [t.started_at for t in tasks if t.started_at]
    return RunPage(
        run=run,
        shape=shape,
        workflow=definitions.workflow_names([run]).get(run.workflow_id, ""),
        queue=definitions.queue_names([run.queue_id]).get(run.queue_id, ""),
        tasks=tasks,
        audit=audit_of(run_id),
        started_at=run.started_at
        or getattr(run, "opened_at", None)
        or min(claims, default=None),
        gaps=tuple(task for task in tasks if task.gap),
        parent=tree.parent_of(run),
        children=tree.children_of(run_id, task_run_keys(run_id, shape))
        if shape
        else None,
        records=records.signature(names(run_id, shape)) if shape else "",
    )


def fragments(run_id: UUID) -> dict[str, str]:
    """The parts of the page that change, by target id; none where the run is gone."""
    page = read(run_id)
    if page is None:
        return {}
    parts: dict[str, str] = {
        f"run-{name}": render_to_string(
            f"orchestrator_ui/run/{name}.html", {"page": page, "run": page.run}
        )
        for name in ("header", "notices", "graph", "tree", "audit", "outputs_signal")
    }
    for task in page.listed:
        parts[task.target] = render_to_string(
            "orchestrator_ui/run/task.html", {"page": page, "task": task}
        )
    return parts


def audit_of(run_id: UUID) -> list[AuditEntry]:
    """What operators did to a run, the latest first; one query."""
    named = Q(target_type="run", target_id=str(run_id))
    among = Q(data__contains={"runs": [str(run_id)]})
    found = AuditEntry.objects.filter(named | among).select_related("actor")
    return list(found.order_by("-pk")[:MAX_AUDIT])


def task_run_keys(run_id: UUID, shape: Shape) -> list[UUID]:
    """The ids of a run's task runs, in the order of its version."""
    return [ids.task_run_id(run_id, task.ordinal) for task in shape.tasks]


def names(run_id: UUID, shape: Shape) -> dict[UUID, str]:
    """The names of a run's tasks, by the ids of its task runs."""
    return {ids.task_run_id(run_id, task.ordinal): task.name for task in shape.tasks}


def _tasks(run: Run, shape: Shape) -> tuple[TaskView, ...]:
    keys = task_run_keys(run.pk, shape)
    rows = with_places(TaskRun.objects.filter(pk__in=keys).order_by())
    found = {task_run.ordinal: task_run for task_run in rows.defer("output")}
    ordinals = graph.order(tuple(task.parents for task in shape.tasks))
    # What handles the run's failure comes after all that may fail.
    ordinals.sort(key=lambda ordinal: shape.tasks[ordinal].handles is not None)
    shown = [found[n] for n in ordinals[:MAX_TASKS] if n in found]
    attempts = _attempts(shown)
    holders = definitions.worker_names(Place.of(t).holder_id for t in shown)
    queues = definitions.queue_names({t.queue_id for t in found.values()})
    waiting = [t for t in found.values() if t.status == TaskRunStatus.QUEUED]
    open_keys = [t.pk for t in found.values() if t.outcome_status is None]
    waits = conditions.waitings(open_keys) if open_keys else {}
    progress = Progress.objects.in_bulk(open_keys) if open_keys else {}
    coverage = Coverage.read() if run.outcome_status is None else None
    views = []
    for ordinal in ordinals:
        task = shape.tasks[ordinal]
        task_run = found.get(ordinal)
        queue = queues.get(task_run.queue_id, "") if task_run else task.queue_name
        holder = Place.of(task_run).holder_id if task_run else None
        views.append(
            TaskView(
                shape=task,
                parents=tuple(shape.tasks[parent].name for parent in task.parents),
                task_run=task_run,
                queue=queue,
                holder=holders.get(holder, ""),
                attempts=attempts.get(task_run.pk, ()) if task_run else (),
                gap=coverage.gap(task.id, queue)
                if coverage and task_run in waiting
                else "",
                waiting=waits.get(task_run.pk) if task_run else None,
                progress=progress.get(task_run.pk) if task_run else None,
            )
        )
    return tuple(views)


def _attempts(task_runs: Collection[TaskRun]) -> dict[UUID, tuple[AttemptView, ...]]:
    """The latest attempts of each task run by its id, found by computed keys."""
    keys = []
    for task_run in task_runs:
        last = ended_attempts(task_run)
        first = max(1, last - MAX_ATTEMPTS + 1)
        keys += [ids.attempt_id(task_run.pk, n) for n in range(first, last + 1)]
    rows: list[Any] = list(
        Attempt.objects.filter(pk__in=keys)
        .order_by("number")
        .defer("error")
        .annotate(
            error_type=KeyTextTransform("type", "error"),
            message=Left(KeyTextTransform("message", "error"), MAX_MESSAGE),
        )
    )
    workers = definitions.worker_names(row.worker_id for row in rows)
    tracebacks = _tracebacks(rows)
    found: dict[UUID, list[AttemptView]] = defaultdict(list)
    for row in rows:
        found[row.task_run_id].append(
            AttemptView(
                row,
                workers.get(row.worker_id, ""),
                row.error_type or "",
                row.message or "",
                tracebacks.get(row.pk, ""),
            )
        )
    return {key: tuple(views) for key, views in found.items()}


def _tracebacks(rows: Collection[Any]) -> dict[UUID, str]:
    """The traceback of the last failed attempt of each task run; one query."""
    last = {row.task_run_id: row.pk for row in rows if _failed(row)}
    texts = Attempt.objects.filter(pk__in=last.values()).values_list(
        "pk", KeyTextTransform("traceback", "error")
    )
    return {pk: text for pk, text in texts if text}


def _failed(row: Attempt) -> bool:
    return row.outcome in (
        AttemptOutcome.FAILED,
        AttemptOutcome.TIMED_OUT,
        AttemptOutcome.LOST,
    )
