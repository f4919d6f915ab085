"""The tree that a run is in: who spawned it, and what its tasks have spawned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from orchestrator import ids
from orchestrator.models import Run, TaskRun
from orchestrator_ui.views import definitions
from orchestrator_ui.views.rows import RunRow, for_list, read

SHOWN = 10  # children of one run that its page names
CAP = 10_000  # children whose states are counted

# The states in which children are counted: what has not ended is not looked into.
OPEN = "OPEN"


@dataclass(frozen=True)
class Parent:
    """The task run that spawned a run."""

    run_id: UUID
    task_run_id: UUID
    workflow: str
    task: str


@dataclass(frozen=True)
class Children:
    """What the tasks of a run have spawned: counts by state, and the newest ones."""

    counts: tuple[tuple[str, int], ...]
    total: int
    is_capped: bool
    rows: Sequence[RunRow]

    @property
    def others(self) -> int:
        """How many are not named."""
        return self.total - len(self.rows)


ORDER = ("FAILED", "CANCELLED", OPEN, "COMPLETED")


def parent_of(run: Run) -> Parent | None:
    """Who spawned a run; two queries, none for a run that nobody did."""
    if run.parent_task_run_id is None:
        return None
    found = TaskRun.objects.filter(pk=run.parent_task_run_id).only("run", "task")
    task_run = found.first()
    if task_run is None:
        return None
    names = definitions.task_names([task_run.task_id]).get(task_run.task_id)
    workflow, task = names or ("", "")
    return Parent(task_run.run_id, task_run.pk, workflow, task)


def children_of(run_id: UUID, task_run_keys: Sequence[UUID]) -> Children | None:
    """What these task runs of a run have spawned; None where it is nothing."""
    low, high = ids.family_bounds(run_id)
    spawned = Run.objects.filter(
        parent_task_run_id__in=task_run_keys, pk__gte=low, pk__lte=high
    ).order_by()
    found = list(spawned.values_list("outcome_status", flat=True)[: CAP + 1])
    if not found:
        return None
    states = Counter(status or OPEN for status in found[:CAP])
    rows = read(list(for_list(spawned.order_by("-pk")[:SHOWN])))
    return Children(
        counts=tuple((name, states[name]) for name in ORDER if states[name]),
        total=min(len(found), CAP),
        is_capped=len(found) > CAP,
        rows=rows,
    )


def task_run_ids(parent: UUID) -> list[UUID]:
    """The task runs of a run, or the one task run of that id."""
    version = Run.objects.filter(pk=parent).values_list("version_id", flat=True).first()
    if version is None:
        return [parent]
    shape = definitions.shapes([version]).get(version)
    return [ids.task_run_id(parent, t.ordinal) for t in shape.tasks] if shape else []
