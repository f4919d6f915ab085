"""How full the queues are: counts that stop at a cap, however long a queue is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import (
    BigIntegerField,
    Count,
    Exists,
    OuterRef,
    Subquery,
    UUIDField,
)

from orchestrator import ids
from orchestrator.models import DelayedItem, Lease, Queue, QueueItem, Task
from orchestrator_ui.views.coverage import Coverage, Gap

CAP = 10_000


class CappedCount(Subquery):
    """How many rows a sliced query has."""

    template = "(SELECT count(*) FROM (%(subquery)s) AS capped)"
    output_field = BigIntegerField()


@dataclass(frozen=True)
class Depth:
    """What a queue holds now. `ready` and `delayed` stop at CAP + 1."""

    ready: int = 0
    delayed: int = 0
    running: int = 0
    oldest: datetime | None = None  # when the oldest run of what is ready was made


def capped(count: int) -> str:
    """A count, or the cap and a plus."""
    return f"{CAP:,}+" if count > CAP else f"{count:,}"


def depths(queues: Collection[Queue]) -> dict[int, Depth]:
    """What these queues hold, by id; three queries.

    The age is exact up to the cap; of a longer queue it is that of its next rows.
    """
    ready = QueueItem.objects.order_by().filter(queue_id=OuterRef("pk"))
    first = ready.values("run_id")[: CAP + 1]
    rows: Any = (
        Queue.objects.order_by()
        .filter(pk__in=[queue.pk for queue in queues])
        .annotate(
            ready=CappedCount(ready.values("lane")[: CAP + 1]),
            oldest=_Least(first),
        )
        .values_list("pk", "ready", "oldest")
    )
    delayed = _delayed()
    running = dict(
        Lease.objects.order_by()
        .values_list("queue_id")
        .annotate(running=Count("task_run_id"))
    )
    return {
        pk: Depth(
            ready=count,
            delayed=delayed.get(pk, 0),
            running=running.get(pk, 0),
            oldest=None if oldest is None else _created(oldest),
        )
        for pk, count, oldest in rows
    }


def uncovered(queue: Queue) -> list[tuple[Task, Gap]]:
    """Tasks that wait in a queue and that no live worker takes from it.

    Three queries; every lane of a task is looked into by its key.
    """
    waiting = QueueItem.objects.filter(queue_id=queue.pk, lane=OuterRef("lane"))
    tasks = list(
        Task.objects.filter(Exists(waiting)).select_related("workflow").order_by("pk")
    )
    coverage = Coverage.read()
    found = [(task, coverage.gap(task.pk, queue.name)) for task in tasks]
    return [(task, gap) for task, gap in found if gap]


class _Least(Subquery):
    """The least id of a sliced query; PostgreSQL has no min() of UUIDs before 18."""

    template = "(SELECT run_id FROM (%(subquery)s) AS capped ORDER BY run_id LIMIT 1)"
    output_field = UUIDField()


def _delayed() -> dict[int, int]:
    """Delayed items by queue, of the next so many: a scan that ends at the cap."""
    rows: Any = (
        DelayedItem.objects.filter(
            pk__in=DelayedItem.objects.order_by("due_at").values("pk")[: CAP + 1]
        )
        .order_by()
        .values_list("queue_id")
        .annotate(delayed=Count("task_run_id"))
    )
    return dict(rows)


def _created(run_id: Any) -> datetime:
    return datetime.fromtimestamp(ids.milliseconds_of(run_id) / 1000, tz=UTC)
