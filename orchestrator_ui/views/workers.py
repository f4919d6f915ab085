"""Workers as they are: what each holds, and which have fallen silent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count

from orchestrator.models import Lease, Worker
from orchestrator.states import WorkerStatus
from orchestrator_ui.views import coverage

MAX_LEASES = 100
# Alive by its row, but without a heartbeat for longer than LOST_AFTER: a scheduler
# will declare it lost.
SILENT = "SILENT"

ALIVE = (WorkerStatus.ACTIVE, WorkerStatus.PAUSED, WorkerStatus.DRAINING)


@dataclass(frozen=True)
class WorkerState:
    """What a worker's row does not say itself."""

    status: str
    silent_for: timedelta | None  # since the last heartbeat; None once it has ended
    busy: int  # leases that it holds


def states(workers: Collection[Worker]) -> dict[UUID, WorkerState]:
    """The state of these workers by id; two queries."""
    keys = [worker.pk for worker in workers]
    silence: dict[UUID, timedelta] = dict(
        Worker.objects.filter(pk__in=keys)
        .annotate(silent_for=coverage.silence())
        .values_list("pk", "silent_for")
    )
    busy: dict[UUID, int] = dict(
        Lease.objects.order_by()
        .filter(worker_id__in=keys)
        .values_list("worker_id")
        .annotate(busy=Count("task_run_id"))
    )
    return {
        worker.pk: _state(worker, silence.get(worker.pk), busy.get(worker.pk, 0))
        for worker in workers
    }


def leases(worker: Worker) -> list[Any]:
    """What a worker executes now, the oldest first; one query."""
    return list(
        Lease.objects.filter(worker_id=worker.pk).order_by("claimed_at")[:MAX_LEASES]
    )


def _state(worker: Worker, silent_for: timedelta | None, busy: int) -> WorkerState:
    if worker.status not in ALIVE or silent_for is None:
        return WorkerState(worker.status, None, busy)
    silent = coverage.is_silent(silent_for)
    return WorkerState(SILENT if silent else worker.status, silent_for, busy)
