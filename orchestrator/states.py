"""The states of runs, task runs, attempts and workers, written once.

CHECK constraints, the diagrams in the documentation and the guards of the engine come
from this module; a test compares every status literal in `*.sql` with it.

Transitions are those inside one generation. An operator's retry opens a new
generation of an ended run: that is `RUN_REOPENINGS` and `TASK_RUN_REOPENINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from django.db.models import TextChoices


class RunStatus(TextChoices):
    """Where a run is. It runs from the first start of a task until its end."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class TaskRunStatus(TextChoices):
    """Where a task run is; each unfinished status is the live table that holds it."""

    PENDING = "PENDING"  # parents have not ended: Wait
    SCHEDULED = "SCHEDULED"  # due later, as its caller asked: DelayedItem
    QUEUED = "QUEUED"  # ready to be claimed: QueueItem
    RUNNING = "RUNNING"  # held by a worker: Lease
    BACKOFF = "BACKOFF"  # an attempt failed, another is due later: DelayedItem
    WAITING = "WAITING"  # a durable wait, which holds no slot
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"


class AttemptOutcome(TextChoices):
    """How one execution ended. Written once; an attempt never changes."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    SUSPENDED = "SUSPENDED"  # a durable wait gave the slot back
    LOST = "LOST"  # its worker died; charged to the budget for lost workers


class EntryKind(TextChoices):
    """What a durable call was, in its journal."""

    STEP = "STEP"  # a function whose result is kept
    WAIT = "WAIT"  # for events and times
    CHILD = "CHILD"  # for the end of a run
    NOW = "NOW"  # the time it was


class ConditionKind(TextChoices):
    """What a wait is for."""

    EVENT = "EVENT"
    SLEEP = "SLEEP"
    CHILD = "CHILD"


class TimelineKind(TextChoices):
    """What happened to a task run at a moment of its timeline."""

    ENQUEUED = "ENQUEUED"  # its run was
    HELD = "HELD"  # its parents have ended, and it waits for its conditions
    HAPPENED = "HAPPENED"  # one of these came true
    STARTED = "STARTED"  # an attempt did
    RECORDED = "RECORDED"  # a step of a durable function was done
    CALLED = "CALLED"  # a durable function began to wait, for times, events or a run
    STOPPED = "STOPPED"  # an attempt ended, with its outcome
    RETURNED = "RETURNED"  # what a durable function waited for is over
    DUE = "DUE"  # when it is to be ready, later than now
    ENDED = "ENDED"  # the task run did, with its outcome


class BulkStatus(TextChoices):
    """Where an operation over many runs is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"  # by an operator; what was done stays done


class WorkerStatus(TextChoices):
    """What a worker process is doing."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"  # an operator stopped its claiming
    DRAINING = "DRAINING"  # finishes what it runs and claims nothing
    STOPPED = "STOPPED"
    LOST = "LOST"  # its heartbeat stopped; what it held was given to others


_R, _T, _W = RunStatus, TaskRunStatus, WorkerStatus

RUN_TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = MappingProxyType(
    {
        # A run whose tasks are all skipped or cancelled ends without running.
        _R.QUEUED: frozenset({_R.RUNNING, _R.COMPLETED, _R.FAILED, _R.CANCELLED}),
        # Back to QUEUED when the only claim is returned before it was started.
        _R.RUNNING: frozenset({_R.QUEUED, _R.COMPLETED, _R.FAILED, _R.CANCELLED}),
        _R.COMPLETED: frozenset(),
        _R.FAILED: frozenset(),
        _R.CANCELLED: frozenset(),
    }
)

TASK_RUN_TRANSITIONS: Mapping[TaskRunStatus, frozenset[TaskRunStatus]] = (
    MappingProxyType(
        {
            _T.PENDING: frozenset({_T.QUEUED, _T.CANCELLED, _T.SKIPPED}),
            _T.SCHEDULED: frozenset({_T.QUEUED, _T.CANCELLED}),
            _T.QUEUED: frozenset({_T.RUNNING, _T.CANCELLED}),
            # Back to QUEUED: returned unstarted, retried at once, or worker lost.
            _T.RUNNING: frozenset(
                {
                    _T.QUEUED,
                    _T.BACKOFF,
                    _T.WAITING,
                    _T.COMPLETED,
                    _T.FAILED,
                    _T.CANCELLED,
                }
            ),
            _T.BACKOFF: frozenset({_T.QUEUED, _T.CANCELLED}),
            _T.WAITING: frozenset({_T.QUEUED, _T.CANCELLED}),
            _T.COMPLETED: frozenset(),
            _T.FAILED: frozenset(),
            _T.CANCELLED: frozenset(),
            _T.SKIPPED: frozenset(),
        }
    )
)

WORKER_TRANSITIONS: Mapping[WorkerStatus, frozenset[WorkerStatus]] = MappingProxyType(
    {
        _W.ACTIVE: frozenset({_W.PAUSED, _W.DRAINING, _W.STOPPED, _W.LOST}),
        _W.PAUSED: frozenset({_W.ACTIVE, _W.DRAINING, _W.STOPPED, _W.LOST}),
        _W.DRAINING: frozenset({_W.STOPPED, _W.LOST}),
        _W.STOPPED: frozenset(),
        _W.LOST: frozenset(),
    }
)

TERMINAL_RUN: frozenset[RunStatus] = frozenset(
    status for status, following in RUN_TRANSITIONS.items() if not following
)
TERMINAL_TASK_RUN: frozenset[TaskRunStatus] = frozenset(
    status for status, following in TASK_RUN_TRANSITIONS.items() if not following
)

RUN_REOPENINGS: Mapping[RunStatus, frozenset[RunStatus]] = MappingProxyType(
    {status: frozenset({_R.QUEUED}) for status in RunStatus if status in TERMINAL_RUN}
)
TASK_RUN_REOPENINGS: Mapping[TaskRunStatus, frozenset[TaskRunStatus]] = (
    MappingProxyType(
        {
            status: frozenset({_T.QUEUED, _T.PENDING})
            for status in TaskRunStatus
            if status in TERMINAL_TASK_RUN
        }
    )
)


Status = TypeVar("Status", bound=TextChoices)


def mermaid(transitions: Mapping[Status, frozenset[Status]]) -> str:
    """The Mermaid state diagram of `transitions`, in the order of the enum."""
    lines = ["stateDiagram-v2"]
    for status, following in transitions.items():
        order = list(type(status))
        lines += [
            f"    {status.value} --> {after.value}"
            for after in sorted(following, key=order.index)
        ]
        if not following:
            lines.append(f"    {status.value} --> [*]")
    return "\n".join(lines)
