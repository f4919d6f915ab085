"""Durable tasks where they meet what users do besides."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
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
    NonRetryable,
    RunFailed,
    durable_task,
    events,
    task,
    workflow,
)
from orchestrator.durable.stillness import waits_for_others
from orchestrator.engine import inspect, resume, sessions
from orchestrator.models import Attempt, JournalEntry, Run, WaitCondition
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


def outcomes() -> list[str]:
    attempts = Attempt.objects.order_by("number")
    return list(attempts.values_list("outcome", flat=True))


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


# Async functions.


def test_a_function_that_is_busy_is_not_suspended_because_a_branch_waits() -> None:
    @durable_task
    async def busy(ctx: DurableContext[None]) -> int:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.asleep(DAY))
            await asyncio.sleep(0.3)
            await Group.objects.aget_or_create(name="after the request")
            number = await ctx.astep(lambda: 5, name="five")
        return number

    handle = busy.enqueue()
    drain()
    assert Group.objects.count() == 1
    assert sorted(JournalEntry.objects.values_list("kind", flat=True)) == [
        "STEP",
        "WAIT",
    ]
    with travel(2 * DAY):
        drain()
    assert handle.result() == 5
    assert outcomes() == ["SUSPENDED", "COMPLETED"]


def test_branches_that_wait_for_each_other_hold_no_slot() -> None:
    @durable_task
    async def few(ctx: DurableContext[None]) -> list[int]:
        two = asyncio.Semaphore(2)

        async def one(number: int) -> int:
            async with two:
                await ctx.asleep(DAY)
                return await ctx.arun(double, number)

        return await asyncio.gather(*[one(number) for number in range(4)])

    handle = few.enqueue()
    drain()
    assert WaitCondition.objects.count() == 2
    with travel(2 * DAY):
        drain()
        assert handle.refresh().status == "RUNNING"
    with travel(4 * DAY):
        drain()
    assert handle.result() == [0, 2, 4, 6]


@pytest.mark.parametrize(
    "how", ["shield", "wait_for", "as_completed", "timeout", "queue", "nested"]
)
def test_branches_are_awaited_by_any_means(how: str) -> None:
    @durable_task(name="edges-means")
    async def means(ctx: DurableContext[None]) -> int:
        async def five() -> int:
            await ctx.asleep(DAY)
            return 5

        if how == "shield":
            return await asyncio.shield(asyncio.create_task(five()))
        if how == "wait_for":
            return await asyncio.wait_for(five(), 60)
        if how == "as_completed":
            for one in asyncio.as_completed([five(), ctx.asleep(DAY)]):
                await one
            return 5
        if how == "timeout":
            async with asyncio.timeout(60):
                return await five()
        if how == "queue":
            queue: asyncio.Queue[int] = asyncio.Queue()

            async def put() -> None:
                await queue.put(await five())

            async with asyncio.TaskGroup() as group:
                group.create_task(put())
                return await queue.get()

        async with asyncio.TaskGroup() as group:
            made = group.create_task(asyncio.wait_for(five(), 60))
        return made.result()

    handle = means.enqueue()
    drain()
    assert outcomes() == ["SUSPENDED"]
    with travel(2 * DAY):
        drain()
    assert handle.result() == 5


@pytest.mark.parametrize("kind", ["change", "final"])
def test_what_is_not_to_be_retried_is_not_in_a_group_either(kind: str) -> None:
    names = iter("abc")

    @durable_task(name="edges-group", retries=2)
    async def grouped(ctx: DurableContext[None]) -> None:
        async def fails() -> None:
            if kind == "final":
                raise NonRetryable("never")
            await ctx.astep(lambda: 1, name=next(names))
            await ctx.asleep(DAY)

        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    handle = grouped.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.refresh().status == "FAILED"
    assert outcomes().count("FAILED") == 1


def test_a_function_that_exits_fails_its_attempt_alone() -> None:
    @durable_task
    async def exits(ctx: DurableContext[None]) -> None:
        sys.exit(3)

    handle = exits.enqueue()
    drain()
    assert handle.refresh().status == "FAILED"
    assert "SystemExit(3)" in handle.status_reason


def test_results_of_gather_are_not_seen_by_a_function_that_is_suspended() -> None:
    seen: list[Any] = []

    @durable_task
    async def gathers(ctx: DurableContext[None]) -> int:
        results = await asyncio.gather(
            ctx.asleep(DAY), ctx.asleep(2 * DAY), return_exceptions=True
        )
        seen.append(results)
        return len(results)

    handle = gathers.enqueue()
    drain()
    for days in (1.5, 3):
        with travel(days * DAY):
            drain()
    assert handle.result() == 2
    assert seen == [[None, None]]


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


def test_a_thousand_branches_are_replayed_without_looking_at_all_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[object] = []

    def counted(*args: Any) -> bool:
        looks.append(args[1])
        return waits_for_others(*args)

    monkeypatch.setattr("orchestrator.durable.branches.waits_for_others", counted)

    @durable_task
    async def many(ctx: DurableContext[None]) -> int:
        return len(await asyncio.gather(*[ctx.asleep(DAY) for _ in range(1_000)]))

    handle = many.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == 1_000
    assert len(looks) < 10


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_step_that_is_given_up_does_not_keep_the_function_awake(how: str) -> None:
    @durable_task(name="edges-given-up")
    async def gives_up(ctx: DurableContext[None]) -> str:
        def slow() -> int:
            time.sleep(0.3)
            return 1

        if how == "timeout":
            try:
                async with asyncio.timeout(0.05):
                    await ctx.astep(slow, name="slow")
            except TimeoutError:
                pass
        else:
            branch = asyncio.create_task(ctx.astep(slow, name="slow"))
            await asyncio.sleep(0.05)
            branch.cancel()
        await ctx.asleep(DAY)
        return "done"

    handle = gives_up.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == "done"
    assert outcomes() == ["SUSPENDED", "COMPLETED"]
