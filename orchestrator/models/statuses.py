"""What an unfinished run or task run is doing, read from the live tables.

Those tables are as small as the work in flight, but for the open runs of a backlog:
they are looked up by key, one for each row of a page, or read to find what runs.
"""

from __future__ import annotations

from django.db import models
from django.db.models.lookups import IsNull

from orchestrator.models.live import DelayedItem, Lease, OpenRun, Wait
from orchestrator.states import (
    TERMINAL_RUN,
    TERMINAL_TASK_RUN,
    RunStatus,
    TaskRunStatus,
)

# Where a task run is that is not queued, which is told by its being nowhere else.
PLACES = (
    TaskRunStatus.RUNNING,
    TaskRunStatus.PENDING,
    TaskRunStatus.WAITING,
    TaskRunStatus.SCHEDULED,
    TaskRunStatus.BACKOFF,
)


def run_is(status: str) -> models.Q:
    """The runs that are in `status`."""
    if status in TERMINAL_RUN:
        return models.Q(outcome_status=status)
    unfinished = models.Q(outcome_status__isnull=True)
    if status == RunStatus.RUNNING:
        started = OpenRun.objects.filter(started_at__isnull=False).values("run_id")
        return unfinished & models.Q(
            pk__in=Lease.objects.values("run_id").union(started, all=True)
        )
    return unfinished & ~_leased() & models.Q(_started(False))


def run_status() -> models.Case:
    """The status of each run, as an annotation."""
    running = models.Value(RunStatus.RUNNING.value)
    return models.Case(
        models.When(outcome_status__isnull=False, then=models.F("outcome_status")),
        models.When(_leased(), then=running),
        models.When(_started(True), then=running),
        default=models.Value(RunStatus.QUEUED.value),
        output_field=models.CharField(),
    )


def task_run_is(status: str) -> models.Q:
    """The task runs that are in `status`."""
    if status in TERMINAL_TASK_RUN:
        return models.Q(outcome_status=status)
    return models.Q(outcome_status__isnull=True) & _place(status)


def task_run_status() -> models.Case:
    """The status of each task run, as an annotation."""
    return models.Case(
        models.When(outcome_status__isnull=False, then=models.F("outcome_status")),
        *[
            models.When(_place(status), then=models.Value(status.value))
            for status in PLACES
        ],
        default=models.Value(TaskRunStatus.QUEUED.value),
        output_field=models.CharField(),
    )


def _leased() -> models.Q:
    """The runs of which a task is being executed."""
    return models.Q(pk__in=Lease.objects.values("run_id"))


def _started(wanted: bool) -> IsNull:
    """The runs that count their tasks and of which one has been executed, or not.

    A scalar subquery is always looked up by key; EXISTS may read the whole table.
    """
    open_run = OpenRun.objects.filter(
        run_id=models.OuterRef("pk"), started_at__isnull=False
    )
    return IsNull(models.Subquery(open_run.values("remaining")[:1]), not wanted)


def _place(status: str) -> models.Q:
    """Those held by the live table that `status` stands for."""
    by_key = {"task_run_id": models.OuterRef("pk")}
    match status:
        case TaskRunStatus.RUNNING:
            return models.Q(models.Exists(Lease.objects.filter(**by_key)))
        case TaskRunStatus.PENDING | TaskRunStatus.WAITING:
            suspended = status == TaskRunStatus.WAITING
            waits = Wait.objects.filter(**by_key, suspended=suspended)
            return models.Q(models.Exists(waits))
        case TaskRunStatus.SCHEDULED | TaskRunStatus.BACKOFF:
            return models.Q(
                models.Exists(DelayedItem.objects.filter(**by_key, status=status))
            )
        case TaskRunStatus.QUEUED:
            elsewhere = models.Q()
            for place in PLACES:
                elsewhere |= _place(place)
            return ~elsewhere
        case _:
            return models.Q(pk__in=[])
