"""Children: runs that a task spawns, each of them once."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from orchestrator import Context, InvalidInput, RunHandle, ids, task, workflow
from orchestrator.engine import sessions, spawn
from orchestrator.models import Run, TaskRun
from orchestrator.testing import drain

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]


@dataclass(frozen=True)
class Batch:
    """How many children are wanted."""

    size: int


@task(name="children-upper")
def upper(text: str) -> str:
    """A child."""
    return text.upper()


fan = workflow("children-fan", input=Batch)


@fan.task
def begin(ctx: Context[Batch]) -> int:
    """Of a child with two tasks."""
    return ctx.input.size


@fan.task(parents=[begin])
def end(ctx: Context[Batch]) -> int:
    """Of a child with two tasks."""
    return ctx.output(begin) + 1


def children() -> list[Run]:
    return list(Run.objects.filter(parent_task_run_id__isnull=False).order_by("id"))


@pytest.mark.parametrize("size", [2, 12])
def test_d1_a_task_spawns_workflows_by_key(size: int) -> None:
    @task(takes_context=True)
    def parent(ctx: Context[Any], size: int) -> list[str]:
        handles = ctx.spawn_many(
            (fan.bind(Batch(n)) for n in range(size)),
            keys=(f"child{n}" for n in range(size)),
        )
        return [str(handle.id) for handle in handles]

    handle = parent.enqueue(size)
    drain()
    results = [RunHandle.get(run_id).result() for run_id in handle.result()]
    assert results == [{"begin": n, "end": n + 1} for n in range(size)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_d2_metadata_and_tenant_are_inherited(kind: str) -> None:
    if kind == "sync":

        @task(takes_context=True, name="parent")
        def parent(ctx: Context[Any]) -> None:
            ctx.spawn(fan.using(metadata={"own": 1, "test_run_id": "mine"}), Batch(1))
            ctx.spawn(upper, "a")

    else:

        @task(takes_context=True, name="parent")
        async def parent(ctx: Context[Any]) -> None:
            await ctx.aspawn(
                fan.using(metadata={"own": 1, "test_run_id": "mine"}), Batch(1)
            )
            await ctx.aspawn(upper, "a")

    handle = parent.using(
        metadata={"test_run_id": "tid", "user": 7}, tenant="acme"
    ).enqueue()
    drain()
    task_run = TaskRun.objects.get(run_id=handle.id)
    found = {run.workflow.name: run for run in task_run.children()}
    assert found["children-upper"].metadata == {"test_run_id": "tid", "user": 7}
    assert found["children-fan"].metadata == {
        "test_run_id": "mine",
        "user": 7,
        "own": 1,
    }
    assert {run.tenant for run in found.values()} == {"acme"}
    assert set(Run.objects.get(pk=handle.id).children()) == set(found.values())
    assert found["children-fan"].task_runs().count() == 2


def test_a_retry_finds_the_children_of_the_attempt_before() -> None:
    @task(takes_context=True, retries=2)
    def parent(ctx: Context[Any]) -> list[str]:
        # By order and by key; the input of the first attempt stays.
        handles = [ctx.spawn(upper, f"{ctx.attempt}-{n}") for n in range(3)]
        handles.append(ctx.spawn(upper, f"{ctx.attempt}-key", key="key"))
        handles += ctx.spawn_many(upper.bind(f"{ctx.attempt}-{n}") for n in range(2))
        if ctx.attempt < 3:
            raise ValueError("again")
        return [str(handle.id) for handle in handles]

    handle = parent.enqueue()
    drain()
    results = [RunHandle.get(run_id).result() for run_id in handle.result()]
    assert results == ["1-0", "1-1", "1-2", "1-KEY", "1-0", "1-1"]
    assert len(children()) == 6


def test_children_lie_beside_their_parent_in_its_family() -> None:
    @task(takes_context=True)
    def parent(ctx: Context[Any]) -> str:
        return str(ctx.spawn(upper, "a").id)

    handle = parent.enqueue()
    drain()
    task_run_id = ids.task_run_id(handle.id, 0)
    assert handle.result() == str(ids.child_run_id(task_run_id, 0))
    low, high = ids.family_bounds(handle.id)
    assert low <= ids.child_run_id(task_run_id, 0) <= high


def test_spawning_joins_the_transaction_of_the_caller() -> None:
    @task(takes_context=True)
    def parent(ctx: Context[Any]) -> None:
        with transaction.atomic():
            ctx.spawn(upper, "gone")
            transaction.set_rollback(True)
        ctx.spawn(upper, "kept", key="kept")

    parent.enqueue()
    drain()
    assert [run.input["args"] for run in children()] == [["kept"]]


def test_what_cannot_be_spawned_is_refused() -> None:
    context = Context.__new__(Context)
    wrong: list[tuple[Any, Any]] = [
        (upper.bind("a"), {"input": "b"}),
        (len, {"input": "b"}),
        (upper.using(idempotency_key="k"), {"input": "b"}),
        (upper, {"input": "b", "key": ""}),
    ]
    for target, given in wrong:
        with pytest.raises(InvalidInput):
            context.spawn(target, **given)
    context._spawned = iter([])
    for keys in ([], ["a", "b"]):
        with pytest.raises(InvalidInput, match="keys than calls"):
            context.spawn_many([upper.bind("a")], keys=keys)


def test_a_thousand_children_are_made_in_one_transaction_and_little_memory() -> None:
    size = 5_000
    peak: list[int] = []

    @task(takes_context=True)
    def parent(ctx: Context[Any]) -> int:
        tracemalloc.start()
        handles = ctx.spawn_many(upper.bind(f"{n}") for n in range(size))
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        return len(handles)

    parent.enqueue()
    drain(limit=1)
    assert len(children()) == size
    # A hundred thousand in 300 MB would be 3 kB for each.
    assert peak[0] < size * 1_500 + 10_000_000


def test_a_child_of_the_same_id_is_made_once() -> None:
    session = sessions.django_session()
    shape = upper.definition.shape
    parent = ids.task_run_id(ids.uuid7(), 0)
    child = spawn.Child(
        ids.child_run_id(parent, 0), parent, shape.version_id, '{"args": ["a"]}'
    )
    assert spawn.spawn(session, [child, child]) == {child.run_id}
    assert spawn.spawn(session, [child]) == set()
    assert Run.objects.filter(pk=child.run_id).count() == 1


def test_run_after_and_priority_are_those_of_the_call() -> None:
    later = timezone.now() + timedelta(days=1)

    @task(takes_context=True)
    def parent(ctx: Context[Any]) -> None:
        ctx.spawn(upper.using(run_after=later, priority=5, queue_name="late"), "a")

    parent.using(priority=50).enqueue()
    drain()
    [child] = children()
    assert (child.priority, child.run_after, child.queue.name) == (5, later, "late")
    assert child.status == "QUEUED"
