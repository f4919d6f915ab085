"""A reference engine in plain Python: what the real one has to agree with.

No database, no batches, no locks: one task at a time, by the rules of the documents.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from orchestrator.engine.shapes import Shape, TaskShape
from orchestrator.states import (
    TERMINAL_TASK_RUN,
    AttemptOutcome,
    RunStatus,
    TaskRunStatus,
)

T = TaskRunStatus


@dataclass
class ModelTask:
    """A task run: `attempt` is the number of the next attempt or that under way."""

    shape: TaskShape
    state: TaskRunStatus
    attempt: int = 1
    failures: int = 0
    losses: int = 0
    due: float = 0.0
    deadline: float | None = None
    outcomes: list[AttemptOutcome] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.state not in TERMINAL_TASK_RUN

    def enqueue(self, now: float) -> None:
        self.state = T.QUEUED
        timeout = self.shape.schedule_timeout
        self.deadline = None if timeout is None else now + timeout


@dataclass
class ModelRun:
    """A run and its tasks, in the order of the workflow."""

    id: UUID
    shape: Shape
    priority: int
    tasks: list[ModelTask]
    lost_budget: int
    generation: int = 1
    cancelled: bool = False

    @classmethod
    def new(
        cls,
        run_id: UUID,
        shape: Shape,
        priority: int,
        now: float,
        due: float | None,
        lost_budget: int,
    ) -> ModelRun:
        tasks = [ModelTask(node, T.PENDING) for node in shape.tasks]
        for task in tasks:
            if task.shape.parents:
                continue
            if due is not None and due > now:
                task.state, task.due = T.SCHEDULED, due
            else:
                task.enqueue(now)
        return cls(run_id, shape, priority, tasks, lost_budget)

    @property
    def ended(self) -> bool:
        return not any(task.open for task in self.tasks)

    @property
    def status(self) -> RunStatus:
        if not self.ended:
            begun = any(task.state == T.RUNNING for task in self.tasks)
            made = any(task.outcomes for task in self.tasks)
            return RunStatus.RUNNING if begun or made else RunStatus.QUEUED
        if self.cancelled:
            return RunStatus.CANCELLED
        states = {task.state for task in self.tasks}
        if T.FAILED in states:
            return RunStatus.FAILED
        return RunStatus.CANCELLED if T.CANCELLED in states else RunStatus.COMPLETED

    # What may happen to one of its tasks.

    def complete(self, ordinal: int, now: float) -> None:
        self._made(ordinal, AttemptOutcome.COMPLETED)
        self.tasks[ordinal].state = T.COMPLETED
        for child in self.shape.children[ordinal]:
            task = self.tasks[child]
            parents = (self.tasks[parent] for parent in task.shape.parents)
            if task.state == T.PENDING and all(
                parent.state == T.COMPLETED for parent in parents
            ):
                task.enqueue(now)

    def fail(self, ordinal: int, now: float, *, retryable: bool) -> None:
        task = self.tasks[ordinal]
        self._made(ordinal, AttemptOutcome.FAILED)
        policy = task.shape.retries
        again = retryable and task.failures < policy.attempts
        delay = policy.delay(task.failures + 1).total_seconds()
        task.failures += 1
        if not again:
            self._end(ordinal, T.FAILED)
            return
        task.attempt += 1
        if delay:
            task.state, task.due = T.BACKOFF, now + delay
        else:
            task.enqueue(now)

    def lose(self, ordinal: int, now: float) -> None:
        task = self.tasks[ordinal]
        self._made(ordinal, AttemptOutcome.LOST)
        again = task.losses < self.lost_budget
        task.losses += 1
        if again:
            task.attempt += 1
            task.enqueue(now)
        else:
            self._end(ordinal, T.FAILED)

    def give_back(self, ordinal: int, now: float) -> None:
        self.tasks[ordinal].enqueue(now)

    def promote(self, now: float) -> None:
        for task in self.tasks:
            if task.state in (T.SCHEDULED, T.BACKOFF) and task.due <= now:
                task.enqueue(now)

    def expire(self, now: float) -> None:
        for ordinal, task in enumerate(self.tasks):
            over = task.deadline is not None and task.deadline <= now
            if task.state == T.QUEUED and over:
                self._end(ordinal, T.CANCELLED)

    # What may happen to all of it.

    def cancel(self) -> bool:
        if self.ended:
            return False
        for ordinal, task in enumerate(self.tasks):
            if task.state == T.RUNNING:
                self._made(ordinal, AttemptOutcome.CANCELLED)
            if task.open:
                task.state = T.CANCELLED
        self.cancelled = True
        return True

    def retry(self, tasks: str | Collection[str], now: float) -> int | None:
        """How many tasks are executed again; None where that is refused."""
        if not self.ended:
            return None
        chosen = self._chosen(tasks)
        if chosen is None:
            return None
        self.generation += 1
        self.cancelled = False
        for ordinal in chosen:
            task = self.tasks[ordinal]
            task.attempt = len(task.outcomes) + 1
            task.failures = task.losses = 0
            task.state = T.PENDING
        for ordinal in chosen:
            task = self.tasks[ordinal]
            if not chosen.intersection(task.shape.parents):
                task.enqueue(now)
        return len(chosen)

    def _chosen(self, tasks: str | Collection[str]) -> set[int] | None:
        ordinals = range(len(self.tasks))
        if tasks == "all":
            return set(ordinals)
        if tasks == "failed":
            names: set[int] = {
                n for n in ordinals if self.tasks[n].state in (T.FAILED, T.CANCELLED)
            }
        else:
            names = {n for n in ordinals if self.tasks[n].shape.name in tasks}
        if not names:
            return None
        chosen = names.union(*(self.shape.descendants[n] for n in names))
        for ordinal in chosen:
            for parent in self.tasks[ordinal].shape.parents:
                if parent not in chosen and self.tasks[parent].state != T.COMPLETED:
                    return None
        return chosen

    def _made(self, ordinal: int, outcome: AttemptOutcome) -> None:
        task = self.tasks[ordinal]
        assert len(task.outcomes) == task.attempt - 1
        task.outcomes.append(outcome)

    def _end(self, ordinal: int, state: TaskRunStatus) -> None:
        self.tasks[ordinal].state = state
        for child in self.shape.descendants[ordinal]:
            if self.tasks[child].open:
                assert self.tasks[child].state == T.PENDING
                self.tasks[child].state = T.CANCELLED
