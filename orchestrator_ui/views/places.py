"""Where task runs are now: their live status with what its place says about it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Case, OuterRef, Subquery, When
from django.db.models.functions import Coalesce

from orchestrator.models import DelayedItem, Lease, QueueItem, TaskRun, Wait
from orchestrator.models.runs import TaskRunQuerySet
from orchestrator.states import TaskRunStatus


def with_places(task_runs: TaskRunQuerySet) -> TaskRunQuerySet:
    """Read status and place along with the rows: one statement, one snapshot.

    Adds `next_attempt` (next or under way), `due_at`, `claimed_at`, `holder_id` and
    `awaited` (parents that have not ended); each is None where it has no meaning.
    """
    by_key = {"task_run_id": OuterRef("pk")}
    lease = Lease.objects.filter(**by_key)
    delayed = DelayedItem.objects.filter(**by_key)
    queued = QueueItem.objects.filter(
        queue_id=OuterRef("queue_id"),
        lane=OuterRef("lane"),
        position=OuterRef("position"),
    )
    return task_runs.with_live_status().annotate(
        next_attempt=_while_open(
            Coalesce(
                Subquery(lease.values("attempt")),
                Subquery(delayed.values("attempt")),
                Subquery(queued.values("attempt")),
            )
        ),
        due_at=_while_open(Subquery(delayed.values("due_at"))),
        claimed_at=_while_open(Subquery(lease.values("claimed_at"))),
        holder_id=_while_open(Subquery(lease.values("worker_id"))),
        awaited=_while_open(
            Subquery(Wait.objects.filter(**by_key).values("remaining"))
        ),
    )


class Place(NamedTuple):
    """What `with_places` has read of where a task run is."""

    next_attempt: int | None
    due_at: datetime | None
    claimed_at: datetime | None
    holder_id: UUID | None
    awaited: int | None

    @classmethod
    def of(cls, task_run: TaskRun) -> Place:
        """That of a row; nothing is known of one that was read otherwise."""
        return cls(*(getattr(task_run, name, None) for name in cls._fields))


def started_at(task_run: TaskRun) -> datetime | None:
    """When its latest attempt began, the one under way included."""
    return Place.of(task_run).claimed_at or task_run.started_at


def executions(task_run: TaskRun) -> int:
    """How often a row of `with_places` has been executed, the current time included."""
    if task_run.outcome_status is not None:
        return task_run.attempts
    upcoming = Place.of(task_run).next_attempt
    if upcoming is None:
        return task_run.attempts
    running = task_run.status == TaskRunStatus.RUNNING
    return upcoming if running else upcoming - 1


def ended_attempts(task_run: TaskRun) -> int:
    """The number of the last attempt of a row of `with_places` that has ended."""
    if task_run.outcome_status is None and task_run.status == TaskRunStatus.RUNNING:
        return executions(task_run) - 1
    return executions(task_run)


def _while_open(expression: Any) -> Case:
    """Spare ended rows, which are most of history, a look into the live tables."""
    return Case(When(outcome_status__isnull=True, then=expression), default=None)
