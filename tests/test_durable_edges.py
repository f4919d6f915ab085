"""Durable tasks where they meet what users do besides."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from orchestrator import (
    DurableContext,
    RunFailed,
    durable_task,
    events,
    task,
    workflow,
)
from orchestrator.engine import inspect, resume, sessions
from orchestrator.models import JournalEntry, Run
from orchestrator.testing import drain, travel

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _nothing_is_broken(db: None) -> Iterator[None]:
    yield
    assert inspect.violations(sessions.django_session()) == []


@dataclass
class Parcel:
    """What a step gives."""

    weight: int
    label: str | None = None


@task(name="edges-double")
def double(number: int) -> int:
    """A child."""
    return 2 * number


# Children.


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_child_spawned_in_a_step_takes_no_number_of_those_beside_it(
    kind: str,
) -> None:
    if kind == "sync":

        @durable_task(name="edges-spawns")
        def spawns(ctx: DurableContext[None]) -> None:
            ctx.step(lambda: str(ctx.spawn(double, 1).id), name="spawn")
            ctx.sleep(DAY)
            ctx.spawn(double, 2)

    else:

        @durable_task(name="edges-spawns")
        async def spawns(ctx: DurableContext[None]) -> None:
            async def one() -> str:
                return str((await ctx.aspawn(double, 1)).id)

            await ctx.astep(one, name="spawn")
            await ctx.asleep(DAY)
            await ctx.aspawn(double, 2)

    spawns.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    children = Run.objects.filter(parent_task_run_id__isnull=False)
    inputs = [child.input["args"] for child in children.order_by("input")]
    assert inputs == [[1], [2]]


def test_no_calls_are_no_wait_and_equal_keys_are_one_child() -> None:
    @durable_task
    def runs(ctx: DurableContext[None]) -> list[Any]:
        none: list[Any] = ctx.run_many([])
        same = ctx.run_many([double.bind(1), double.bind(2)], keys=["k", "k"])
        again = ctx.run(double, 3, key="k")
        return [none, same, again]

    handle = runs.enqueue()
    drain()
    assert handle.result() == [[], [2, 2], 2]
    assert Run.objects.count() == 2


def test_a_key_that_changes_is_found_out_before_it_makes_another_child() -> None:
    keys = iter(["a", "b"])

    @durable_task(name="edges-keys")
    async def runs(ctx: DurableContext[None]) -> None:
        later = double.using(run_after=timezone.now() + 9 * DAY)
        key = next(keys)
        await asyncio.gather(
            ctx.arun(later.bind(1), key=key), ctx.await_for_event("go")
        )

    handle = runs.enqueue()
    drain()
    events.push("go")
    drain()
    assert handle.refresh().status == "FAILED"
    assert "NonDeterminism" in handle.status_reason
    assert Run.objects.count() == 2


def test_outputs_of_children_are_written_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resume, "MOST", 250)

    @task(name="edges-long")
    def long(number: int) -> str:
        return str(number) * 100

    @durable_task
    def runs(ctx: DurableContext[None]) -> list[str]:
        return ctx.run_many([long.bind(n) for n in range(7)])

    handle = runs.enqueue()
    drain()
    assert handle.result() == [str(n) * 100 for n in range(7)]


# Steps.


def test_steps_give_none_and_dataclasses_and_take_any_arguments() -> None:
    def pack(weights: dict[Any, int]) -> Parcel:
        return Parcel(sum(weights.values()))

    def nothing() -> None:
        Group.objects.create(name="nothing")

    @durable_task
    def packs(ctx: DurableContext[None]) -> list[Any]:
        parcel = ctx.step(pack, {1: 2, "a": 3})
        empty = ctx.step(nothing)
        ctx.sleep(DAY)
        return [parcel.weight, parcel.label, empty]

    handle = packs.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == [5, None, None]
    assert Group.objects.count() == 1


def test_a_step_keeps_nothing_in_memory_that_its_function_holds() -> None:
    held: list[weakref.ref[Parcel]] = []

    @durable_task
    def holds(ctx: DurableContext[None]) -> int:
        parcel = Parcel(7)
        held.append(weakref.ref(parcel))

        def weigh() -> int:
            return parcel.weight

        return ctx.step(weigh)

    handle = holds.enqueue()
    drain()
    assert handle.result() == 7
    gc.collect()
    assert held[0]() is None


def test_a_step_may_be_anything_that_can_be_called() -> None:
    @dataclass
    class Adds:
        number: int

        def __call__(self, other: int) -> int:
            return self.number + other

        def twice(self) -> int:
            return 2 * self.number

    @durable_task
    def calls(ctx: DurableContext[None]) -> list[int]:
        adds = Adds(2)
        return [
            ctx.step(adds, 3, name="adds"),
            ctx.step(adds.twice),
            ctx.step(partial(adds, 5), name="adds 5"),
            ctx.step(abs, -4),
        ]

    handle = calls.enqueue()
    drain()
    assert handle.result() == [5, 4, 7, 4]


# Branches.


def test_a_branch_keeps_a_failure_that_lies_before_its_position() -> None:
    tried: list[int] = []
    undone: list[int] = []

    @task(name="edges-refuses")
    def refuses(number: int) -> int:
        tried.append(number)
        if len(tried) == 1:
            raise ValueError("no")
        return number

    @durable_task(name="edges-compensates")
    def compensates(ctx: DurableContext[None]) -> str:
        try:
            ctx.run(refuses, 1)
        except RunFailed:
            ctx.step(undone.append, 1, name="undo")
            return "undone"
        return "done"

    handle = compensates.enqueue()
    drain()
    assert handle.result() == "undone"
    handle.branch("edges-compensates", 2)
    drain()
    assert handle.result() == "undone"
    assert (tried, undone) == ([1], [1, 1])
    handle.branch("edges-compensates", 1)
    drain()
    assert handle.result() == "done"
    assert tried == [1, 1]


def test_a_branch_executes_durable_tasks_that_depend_on_it_from_their_start() -> None:
    flow = workflow("edges-branches")
    numbers = iter([1, 2])

    @flow.durable_task
    def first(ctx: DurableContext[None]) -> int:
        number: int = ctx.step(lambda: next(numbers), name="number")
        return number

    @flow.durable_task(parents=[first])
    def second(ctx: DurableContext[None]) -> int:
        parent = ctx.output(first)
        return ctx.step(lambda: 10 * parent, name=f"ten times {parent}")

    handle = flow.enqueue()
    drain()
    assert handle.result() == {"first": 1, "second": 10}
    handle.branch("first", 1)
    drain()
    assert handle.result() == {"first": 2, "second": 20}


def test_a_branch_of_a_run_cancelled_in_its_wait_waits_anew() -> None:
    @durable_task(name="edges-waits")
    def waits(ctx: DurableContext[None]) -> Any:
        ctx.step(lambda: 1, name="one")
        return ctx.wait_for_event("edges")

    handle = waits.enqueue()
    drain()
    handle.cancel()
    for position in (3, 2, 1):
        handle.branch("edges-waits", position)
        drain()
        assert handle.refresh().status == "RUNNING"
        if position > 1:
            handle.cancel()
    events.push("edges", 7)
    drain()
    assert handle.result() == 7


# Times.


def test_times_far_away_are_waited_for_or_refused() -> None:
    @durable_task(name="edges-far")
    def far(ctx: DurableContext[None]) -> None:
        ctx.sleep_until(datetime.min.replace(tzinfo=UTC))
        ctx.sleep_until(datetime.max.replace(tzinfo=UTC))

    handle = far.enqueue()
    drain()
    assert handle.refresh().status == "RUNNING"
    assert JournalEntry.objects.count() == 2
