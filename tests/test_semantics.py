"""Random workflows against a simple model of what they mean.

The model knows nothing of tables, locks or batches: it goes through the hours, looks at
each task that is not decided, and says what becomes of it. The engine has to come to
the same end, task by task, hour by hour.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from orchestrator import (
    Context,
    EventCondition,
    ParentCondition,
    SleepCondition,
    events,
    registry,
    workflow,
)
from orchestrator.engine import exchange, inspect, rescue, sessions, shapes
from orchestrator.engine.claim import Demand, WorkerKey
from orchestrator.exceptions import IllegalTransition
from orchestrator.models import Run
from orchestrator.states import RunStatus, TaskRunStatus
from orchestrator.testing import drain, travel

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
HOURS = 4
KEYS = ("a", "b")

COMPLETED = TaskRunStatus.COMPLETED.value
FAILED = TaskRunStatus.FAILED.value
CANCELLED = TaskRunStatus.CANCELLED.value
SKIPPED = TaskRunStatus.SKIPPED.value

# A condition: ("event", key), ("sleep", hours), ("parent", number, least output),
# ("or", left, right), ("and", left, right).
Tree = tuple[Any, ...]
_names = count()


@dataclass(frozen=True)
class Node:
    """A task: what it waits for, what it returns, and how often it fails before."""

    parents: tuple[int, ...]
    output: int
    failures: int
    retries: int
    wait_for: Tree | None
    skip_if: Tree | None
    cancel_if: Tree | None


@dataclass(frozen=True)
class Story:
    """A workflow, and what happens to one run of it, hour by hour."""

    nodes: tuple[Node, ...]
    handler: bool
    pushed: tuple[frozenset[str], ...]
    lost_at: frozenset[int]
    cancelled_at: int | None
    retried_at: int | None


# Stories.


def trees(parents: Sequence[int]) -> st.SearchStrategy[Tree]:
    leaves: list[st.SearchStrategy[Tree]] = [
        st.tuples(st.just("event"), st.sampled_from(KEYS)),
        st.tuples(st.just("sleep"), st.integers(1, HOURS)),
    ]
    if parents:
        leaves.append(
            st.tuples(st.just("parent"), st.sampled_from(parents), st.integers(0, 4))
        )
    return st.recursive(
        st.one_of(leaves),
        lambda part: st.tuples(st.sampled_from(("or", "and")), part, part),
        max_leaves=3,
    )


@st.composite
def stories(draw: st.DrawFn) -> Story:
    nodes = []
    for number in range(draw(st.integers(1, 5))):
        earlier = st.sets(st.integers(0, number - 1)) if number else st.just(set())
        parents = tuple(sorted(draw(earlier)))
        maybe = st.one_of(st.none(), st.none(), trees(parents))
        nodes.append(
            Node(
                parents,
                output=draw(st.integers(0, 4)),
                failures=draw(st.sampled_from((0, 0, 0, 1, 2))),
                retries=draw(st.integers(0, 1)),
                wait_for=draw(maybe),
                skip_if=draw(maybe),
                cancel_if=draw(maybe),
            )
        )
    hours = st.frozensets(st.sampled_from(KEYS))
    return Story(
        tuple(nodes),
        handler=draw(st.booleans()),
        pushed=tuple(draw(hours) for _ in range(HOURS + 1)),
        lost_at=draw(st.frozensets(st.integers(0, HOURS))),
        cancelled_at=draw(st.one_of(st.none(), st.none(), st.integers(0, HOURS))),
        retried_at=draw(st.one_of(st.none(), st.integers(0, HOURS))),
    )


# The model.


@dataclass
class Model:
    """What becomes of the tasks; None for what is not decided."""

    story: Story
    status: list[str | None] = field(default_factory=list)
    opened: dict[int, int] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    handler: str | None = None

    def __post_init__(self) -> None:
        self.status = [None] * len(self.story.nodes)
        self.failures = [node.failures for node in self.story.nodes]

    def pass_hour(self, hour: int) -> None:
        changed = True
        while changed:
            changed = any(self.decide(n, hour) for n in range(len(self.status)))
        if self.story.handler and self.handler is None:
            if FAILED in self.status:
                self.handler = COMPLETED
            elif None not in self.status:
                self.handler = SKIPPED

    def decide(self, number: int, hour: int) -> bool:
        node = self.story.nodes[number]
        above = [self.status[parent] for parent in node.parents]
        if self.status[number] is not None:
            return False
        if FAILED in above or CANCELLED in above:
            self.status[number] = CANCELLED
        elif None not in above:
            self.status[number] = self.judge(number, hour)
        return self.status[number] is not None

    def judge(self, number: int, hour: int) -> str | None:
        node = self.story.nodes[number]
        above = {self.status[parent] for parent in node.parents}
        if above == {SKIPPED}:
            return SKIPPED
        # First by what is known at once; only what is held looks at events and times.
        first = number not in self.opened
        opened = self.opened.setdefault(number, hour)
        verdict = self.verdict(node, opened, None) if first else None
        verdict = verdict or self.verdict(node, opened, hour)
        return self.execute(number) if verdict == COMPLETED else verdict

    def execute(self, number: int) -> str:
        left = self.failures[number]
        self.failures[number] = max(0, left - self.story.nodes[number].retries - 1)
        return FAILED if left > self.story.nodes[number].retries else COMPLETED

    def verdict(self, node: Node, opened: int, hour: int | None) -> str | None:
        holds = [
            None if tree is None else self.holds(tree, opened, hour)
            for tree in (node.skip_if, node.cancel_if, node.wait_for)
        ]
        if holds[0]:
            return SKIPPED
        if holds[1]:
            return CANCELLED
        if node.wait_for is None or holds[2]:
            return COMPLETED
        return SKIPPED if holds[2] is False else None

    def holds(self, tree: Tree, opened: int, hour: int | None) -> bool | None:
        kind = tree[0]
        if kind == "parent":
            parent = self.story.nodes[tree[1]]
            least: int = tree[2]
            return self.status[tree[1]] == COMPLETED and parent.output >= least
        if kind in ("or", "and"):
            parts = {self.holds(part, opened, hour) for part in tree[1:]}
            deciding: bool = kind == "or"
            if deciding in parts:
                return deciding
            return None if None in parts else not deciding
        if hour is None:
            return None
        if kind == "sleep":
            return True if hour >= opened + tree[1] else None
        pushed = self.story.pushed[opened : hour + 1]
        return True if any(tree[1] in keys for keys in pushed) else None

    def cancel(self) -> None:
        if None in (*self.status, self.handler if self.story.handler else COMPLETED):
            self.status = [status or CANCELLED for status in self.status]
            if self.story.handler:
                self.handler = self.handler or CANCELLED

    def retry(self) -> None:
        """Those that failed or were cancelled, and all that depends on them."""
        again = {n for n, s in enumerate(self.status) if s in (FAILED, CANCELLED)}
        handled = self.handler in (FAILED, CANCELLED)
        if self.run_status is None or not (again or handled):
            return
        for number, node in enumerate(self.story.nodes):
            if again.intersection(node.parents):
                again.add(number)
        for number in again:
            self.status[number] = None
            self.opened.pop(number, None)
        self.handler = None

    @property
    def run_status(self) -> str | None:
        ended = [*self.status, *([self.handler] if self.story.handler else [])]
        if None in ended:
            return None
        for worst in (FAILED, CANCELLED):
            if worst in ended:
                return worst
        return COMPLETED


# The real thing.


def declare(story: Story, name: str) -> Any:
    """The workflow of a story; to be called where the registry is isolated."""
    wf = workflow(name)
    tasks: list[Any] = []
    labels = count()

    def condition(tree: Tree | None) -> Any:
        if tree is None:
            return None
        name = f"leaf {next(labels)}"
        match tree:
            case ("event", key):
                return EventCondition(f"{wf.name}:{key}", name=name)
            case ("sleep", hours):
                return SleepCondition(hours * HOUR, name=name)
            case ("parent", number, least):
                return ParentCondition(
                    tasks[number], f"output != null && output >= {least}", name=name
                )
            case ("or", left, right):
                return condition(left) | condition(right)
            case ("and", left, right):
                return condition(left) & condition(right)

    for number, node in enumerate(story.nodes):
        tasks.append(
            wf.task(
                name=f"task {number}",
                parents=[tasks[parent] for parent in node.parents],
                retries=node.retries,
                wait_for=condition(node.wait_for),
                skip_if=condition(node.skip_if),
                cancel_if=condition(node.cancel_if),
            )(_function(node))
        )
    if story.handler:
        wf.on_failure(_handle)
    return wf


def _function(node: Node) -> Callable[[Context[None]], int]:
    executions = count(1)

    def execute(ctx: Context[None]) -> int:
        if next(executions) <= node.failures:
            raise ValueError("as the story wants it")
        return node.output

    return execute


def _handle(ctx: Context[None]) -> int:
    return len(ctx.errors)


def hours(story: Story) -> Iterator[tuple[int, Any]]:
    """Each hour, with the clock at it."""
    start = timezone.now()
    for hour in range(HOURS + 1):
        with travel(start + hour * HOUR):
            yield hour, start


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stories())
def test_each_task_ends_as_the_model_says(story: Story) -> None:
    model = Model(story)
    with registry.isolated():
        # Others have pushed events, at hours that are still to come.
        name = f"story-{next(_names)}"
        wf = declare(story, name)
        handle: Any = None
        for hour, _ in hours(story):
            if handle is None:
                handle = wf.enqueue()
            keys = sorted(story.pushed[hour])
            events.push_many([events.Event(f"{name}:{key}") for key in keys])
            if hour in story.lost_at:
                lose(wf)
            drain()
            model.pass_hour(hour)
            compare(handle, model, hour)
            if story.cancelled_at == hour:
                handle.cancel()
                model.cancel()
                compare(handle, model, hour)
            if story.retried_at == hour:
                with contextlib.suppress(IllegalTransition):
                    handle.retry()
                model.retry()
                drain()
                model.pass_hour(hour)
                compare(handle, model, hour)
        handle.cancel()
        model.cancel()
        compare(handle, model, HOURS)
    assert inspect.violations(sessions.django_session()) == []


def lose(wf: Any) -> None:
    """Have a worker claim what is ready, and die before it starts any of it."""
    session = sessions.django_session()
    worker = WorkerKey(uuid4(), 1)
    queues = (shapes.queue_id("default"),)
    lanes = {task.lane: None for task in wf.shape.tasks}
    exchange.exchange(session, worker, [], Demand(queues, lanes, 100))
    rescue.rescue(session, worker.worker_id)


def compare(handle: Any, model: Model, hour: int) -> None:
    """What has ended has ended alike, and what has not is still open."""
    run = Run.objects.get(pk=handle.id)
    found = [row.outcome_status for row in run.task_runs()]
    wanted = [*model.status, *([model.handler] if model.story.handler else [])]
    note(f"hour {hour}: {found}")
    assert found == wanted, f"after hour {hour}"
    ended = run.outcome_status
    expected = model.run_status
    if ended == RunStatus.CANCELLED and expected == FAILED:
        return  # cancelled by an operator while something else had failed
    assert ended == expected
