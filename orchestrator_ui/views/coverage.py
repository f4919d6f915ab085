"""Whether a live worker would execute a task: what nobody serves waits for ever."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Func

from orchestrator.conf import settings
from orchestrator.models import Worker
from orchestrator.states import WorkerStatus

# Nobody lives at all; nobody knows the task; those who know it serve other queues; an
# operator has paused all that would take it.
Gap = Literal["", "nobody", "unknown", "elsewhere", "paused"]


class DatabaseNow(Func):
    """The engine's time, which tests can move."""

    function = "orchestrator_now"
    arity = 0
    output_field = DateTimeField()


def silence() -> ExpressionWrapper[Any]:
    """How long ago a worker's last heartbeat was."""
    return ExpressionWrapper(
        DatabaseNow() - F("heartbeat_at"), output_field=DurationField()
    )


def is_silent(since_heartbeat: timedelta) -> bool:
    """Whether a worker has missed so many heartbeats that it counts as lost."""
    return since_heartbeat > settings.lost_after


@dataclass(frozen=True)
class _Living:
    tasks: frozenset[str]
    queues: frozenset[str]  # empty: all that are declared
    status: str


@dataclass(frozen=True)
class Coverage:
    """The workers that live now and what they take."""

    living: tuple[_Living, ...]

    @classmethod
    def read(cls) -> Coverage:
        """One query. Workers that drain or are silent take nothing more."""
        rows = (
            Worker.objects.filter(
                stopped_at__isnull=True,
                status__in=[WorkerStatus.ACTIVE, WorkerStatus.PAUSED],
            )
            .annotate(silent_for=silence())
            .filter(silent_for__lte=settings.lost_after)
            .values_list("tasks", "queues", "status")
        )
        return cls(
            tuple(
                _Living(frozenset(map(str, tasks)), frozenset(queues), status)
                for tasks, queues, status in rows
            )
        )

    def gap(self, task_id: int, queue: str) -> Gap:
        """Why no live worker takes a task from a queue; empty where one does."""
        if not self.living:
            return "nobody"
        knowing = [each for each in self.living if str(task_id) in each.tasks]
        if not knowing:
            return "unknown"
        serving = [e for e in knowing if not e.queues or queue in e.queues]
        if not serving:
            return "elsewhere"
        if all(each.status == WorkerStatus.PAUSED for each in serving):
            return "paused"
        return ""

    def unknown(self, task_ids: Collection[int]) -> set[int]:
        """Those of the tasks that no live worker knows."""
        known = {task for each in self.living for task in each.tasks}
        return {task_id for task_id in task_ids if str(task_id) not in known}
