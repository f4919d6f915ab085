"""Async durable tasks: the same calls, awaited, and branches side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group

from orchestrator import DurableContext, EventCondition, durable_task, events, task
from orchestrator.engine import inspect, sessions
from orchestrator.models import Attempt, JournalEntry, Lease, Run, Wait, WaitCondition
from orchestrator.testing import drain, make_context, travel

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _nothing_is_broken(db: None) -> Iterator[None]:
    yield
    assert inspect.violations(sessions.django_session()) == []


@task(name="durable-triple")
async def triple(number: int) -> int:
    """A child."""
    return 3 * number


def asked() -> list[str]:
    entries = JournalEntry.objects.order_by("position")
    return [text.split(" ")[0] for text in entries.values_list("asked", flat=True)]


def test_an_async_function_does_what_a_sync_one_does() -> None:
    async def charge(number: int) -> int:
        await Group.objects.acreate(name=f"charge {number}")
        return number

    def larger(a: int, b: int) -> int:
        return max(a, b)

    @durable_task
    async def order(ctx: DurableContext[None]) -> list[Any]:
        began = await ctx.anow()
        first = await ctx.astep(charge, 5)
        second = await ctx.astep(larger, 1, 2, name="max")
        await ctx.asleep(DAY)
        result = await ctx.await_for(EventCondition("paid"))
        output = await ctx.arun(triple, 3)
        outputs = await ctx.arun_many([triple.bind(n) for n in range(3)])
        payload = await ctx.await_for_event("sent")
        await ctx.asleep_until(began + 3 * DAY)
        return [first, second, result.first, output, outputs, payload, ctx.attempt]

    handle = order.enqueue()
    drain()
    assert not Lease.objects.exists()
    with travel(2 * DAY):
        drain()
        events.push("paid")
        drain()
        events.push("sent", [1])
        drain()
        assert Wait.objects.get().suspended
    with travel(4 * DAY):
        drain()
    assert handle.result() == [5, 2, "paid", 9, [0, 3, 6], [1], 1]
    assert Group.objects.count() == 1


def test_a_function_can_be_called_alone_with_answers() -> None:
    @durable_task
    async def alone(ctx: DurableContext[None]) -> list[Any]:
        async def branch() -> int:
            await ctx.asleep(DAY)
            return await ctx.arun(triple, 3)

        first, payload = await asyncio.gather(branch(), ctx.await_for_event("paid"))
        return [first, payload, await ctx.astep(len, "abc"), (await ctx.anow()).year]

    ctx = make_context(alone, answers=["paid by ada", 9])
    assert alone.call(ctx)[:3] == [9, "paid by ada", 3]
    with pytest.raises(AssertionError, match="no answer left"):
        alone.call(make_context(alone))


def test_sync_calls_are_refused_in_an_async_function() -> None:
    @durable_task
    async def confused(ctx: DurableContext[None]) -> str:
        try:
            ctx.sleep(DAY)
        except Exception as error:
            return str(error)
        return ""

    handle = confused.enqueue()
    drain()
    assert "async" in handle.result()


def test_branches_wait_side_by_side_and_go_on_as_each_is_over() -> None:
    seen: list[str] = []

    @durable_task
    async def race(ctx: DurableContext[None]) -> list[int]:
        async def branch(hours: int) -> int:
            await ctx.asleep(hours * HOUR)
            await ctx.astep(seen.append, f"after {hours}", name=f"note {hours}")
            await ctx.asleep(hours * HOUR)
            return hours

        return list(await asyncio.gather(branch(3), branch(1), branch(2)))

    handle = race.enqueue()
    assert drain() == 1
    for passed in (1, 2, 3, 4, 6):
        with travel(passed * HOUR + timedelta(seconds=1)):
            drain()
    assert handle.result() == [3, 1, 2]
    assert seen == ["after 1", "after 2", "after 3"]
    assert not WaitCondition.objects.exists()


def test_branches_are_replayed_in_their_recorded_order() -> None:
    """What ends in one order is delivered in that order, whatever the code's is."""

    @durable_task
    async def race(ctx: DurableContext[None]) -> list[str]:
        order: list[str] = []

        async def branch(name: str) -> None:
            await ctx.await_for_event(name)
            order.append(name)
            await ctx.astep(len, name, name=f"first {name}")
            await ctx.astep(len, name, name=f"second {name}")

        await asyncio.gather(*(branch(name) for name in "abc"))
        await ctx.asleep(DAY)
        return order

    handle = race.enqueue()
    drain()
    for name in "cab":
        events.push(name)
        drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == ["c", "a", "b"]
    names = [
        entry.name for entry in JournalEntry.objects.filter(kind="STEP").order_by("id")
    ]
    assert len(names) == 6
    before = list(
        JournalEntry.objects.values_list("position", "asked").order_by("position")
    )
    handle.retry(tasks="all")
    drain()
    assert handle.result() == ["c", "a", "b"]
    after = list(
        JournalEntry.objects.values_list("position", "asked").order_by("position")
    )
    assert before == after


def test_ends_that_came_together_are_delivered_one_by_one_as_later_on() -> None:
    @durable_task
    async def race(ctx: DurableContext[None]) -> list[str]:
        order: list[str] = []

        async def branch(name: str) -> None:
            await ctx.await_for_event(name)
            for number in range(3):
                await ctx.astep(len, name, name=f"{name}{number}")
                order.append(f"{name}{number}")

        await asyncio.gather(*(branch(name) for name in "abcd"))
        return order

    handle = race.enqueue()
    drain()
    events.push_many([events.Event(name) for name in "dbca"])
    drain()
    first = handle.result()
    handle.retry(tasks="all")
    drain()
    assert handle.result() == first
    assert sorted(first) == sorted(f"{n}{i}" for n in "abcd" for i in range(3))


def test_a_task_group_is_suspended_and_its_finally_blocks_run() -> None:
    cleaned: list[str] = []

    @durable_task
    async def grouped(ctx: DurableContext[None]) -> str:
        async def branch(name: str) -> None:
            try:
                await ctx.asleep(DAY)
            finally:
                cleaned.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(branch("a"))
            group.create_task(branch("b"))
        return "done"

    handle = grouped.enqueue()
    drain()
    assert cleaned == ["a", "b"]
    with travel(2 * DAY):
        drain()
    assert handle.result() == "done"


def test_what_a_function_returns_after_it_was_suspended_is_dropped() -> None:
    @durable_task
    async def stubborn(ctx: DurableContext[None]) -> str:
        try:
            await ctx.asleep(DAY)
        except BaseException:
            return "wrong"
        return "right"

    @durable_task(name="stubborn-sync")
    def stubborn_sync(ctx: DurableContext[None]) -> str:
        try:
            ctx.sleep(DAY)
        except BaseException:
            return "wrong"
        return "right"

    handles = [stubborn.enqueue(), stubborn_sync.enqueue()]
    drain()
    assert [handle.refresh().status for handle in handles] == ["RUNNING"] * 2
    with travel(2 * DAY):
        drain()
    assert [handle.result() for handle in handles] == ["right"] * 2


def test_the_first_of_two_branches_can_end_the_function() -> None:
    @durable_task
    async def first(ctx: DurableContext[None]) -> Any:
        waits = [
            asyncio.create_task(ctx.await_for_event("a")),
            asyncio.create_task(ctx.await_for_event("b")),
        ]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in pending:
            one.cancel()
        return [one.result() for one in done]

    handle = first.enqueue()
    drain()
    events.push("b", 2)
    drain()
    assert handle.result() == [2]
    assert not WaitCondition.objects.exists()


def test_what_is_not_durable_keeps_the_function_awake() -> None:
    @durable_task
    async def busy(ctx: DurableContext[None]) -> int:
        async def other() -> int:
            await asyncio.sleep(0.3)
            return 1

        results = await asyncio.gather(ctx.asleep(DAY), other())
        return results[1]

    handle = busy.enqueue()
    drain()
    [attempt] = Attempt.objects.all()
    assert attempt.outcome == "SUSPENDED"
    assert (attempt.finished_at - attempt.started_at).total_seconds() >= 0.3
    with travel(2 * DAY):
        drain()
    assert handle.result() == 1


def test_what_is_waited_for_begins_although_another_branch_is_busy() -> None:
    seen: list[int] = []

    @durable_task
    async def busy(ctx: DurableContext[None]) -> int:
        async def other() -> None:
            await asyncio.sleep(0.5)
            seen.append(await Run.objects.acount())

        output, _ = await asyncio.gather(ctx.arun(triple, 3), other())
        return output

    handle = busy.enqueue()
    drain()
    assert seen[0] == 2
    assert handle.result() == 9
    assert Run.objects.count() == 2


def test_an_exception_of_one_branch_fails_the_attempt() -> None:
    @durable_task
    async def fails(ctx: DurableContext[None]) -> None:
        def boom() -> None:
            raise ValueError("boom")

        await asyncio.gather(ctx.asleep(DAY), ctx.astep(boom))

    handle = fails.enqueue()
    drain()
    assert handle.refresh().status == "FAILED"
    assert not WaitCondition.objects.exists()
    assert asked() == []
