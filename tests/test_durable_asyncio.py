"""Branches of durable tasks where they meet what asyncio does besides."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group

from orchestrator import (
    DurableContext,
    NonRetryable,
    durable_task,
    task,
)
from orchestrator.durable.stillness import waits_for_others
from orchestrator.engine import inspect, sessions
from orchestrator.models import Attempt, JournalEntry, WaitCondition
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


@task(name="asyncio-double")
def double(number: int) -> int:
    """A child."""
    return 2 * number


def outcomes() -> list[str]:
    attempts = Attempt.objects.order_by("number")
    return list(attempts.values_list("outcome", flat=True))


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
    @durable_task(name="asyncio-means")
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

    @durable_task(name="asyncio-group", retries=2)
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
    @durable_task(name="asyncio-given-up")
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
