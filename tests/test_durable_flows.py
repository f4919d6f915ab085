"""Durable tasks among other tasks of a workflow, and what operators do to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction

from orchestrator import (
    Context,
    DurableContext,
    EventCondition,
    IllegalTransition,
    RunCancelled,
    RunFailed,
    RunHandle,
    SleepCondition,
    durable_task,
    events,
    task,
    workflow,
)
from orchestrator.engine import inspect, sessions
from orchestrator.models import Attempt, Run, TaskRun, Wait, WaitCondition
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


def states(handle: RunHandle[Any]) -> dict[str, str]:
    run = Run.objects.get(pk=handle.id)
    rows = TaskRun.objects.filter(pk__in=[t.pk for t in run.task_runs()])
    return {row.task.name: row.status for row in rows.select_related("task")}


def test_durable_tasks_of_one_run_wait_side_by_side() -> None:
    flow = workflow("flows-diamond")

    @flow.task
    def begin(ctx: Context[None]) -> int:
        return 1

    @flow.durable_task(parents=[begin])
    def left(ctx: DurableContext[None]) -> int:
        ctx.sleep(DAY)
        return ctx.output(begin) + 1

    @flow.durable_task(parents=[begin])
    async def right(ctx: DurableContext[None]) -> Any:
        return await ctx.await_for_event("right")

    @flow.durable_task(parents=[left, right])
    def end(ctx: DurableContext[None]) -> list[Any]:
        ctx.sleep(DAY)
        return [ctx.output(left), ctx.output(right)]

    handle = flow.enqueue()
    drain()
    assert Wait.objects.filter(suspended=True).count() == 2
    events.push("right", 5)
    drain()
    with travel(1.5 * DAY):
        drain()
        assert handle.refresh().status == "RUNNING"
    with travel(3 * DAY):
        drain()
    assert handle.result()["end"] == [2, 5]


def test_the_failure_of_a_durable_task_that_waited_is_handled() -> None:
    flow = workflow("flows-failure")

    @flow.durable_task
    def breaks(ctx: DurableContext[None]) -> None:
        ctx.sleep(DAY)
        raise ValueError("broken")

    @flow.task(parents=[breaks])
    def never(ctx: Context[None]) -> None: ...

    @flow.on_failure
    def handler(ctx: Context[None]) -> str:
        return ctx.errors["breaks"].message

    handle = flow.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.refresh().status == "FAILED"
    assert TaskRun.objects.filter(outcome_status="COMPLETED").count() == 1


def test_conditions_of_the_start_do_not_touch_what_waits_afterwards() -> None:
    flow = workflow("flows-conditions")

    @flow.durable_task(
        wait_for=EventCondition("go") | SleepCondition(5 * DAY),
        cancel_if=EventCondition("stop"),
        skip_if=EventCondition("skip"),
    )
    def starts(ctx: DurableContext[None]) -> Any:
        ctx.sleep(DAY)
        return ctx.wait_for_event("go")

    handle = flow.enqueue()
    drain()
    events.push("go", 1)
    drain()
    for key in ("stop", "skip"):
        events.push(key)
    drain()
    with travel(2 * DAY):
        drain()
        assert handle.refresh().status == "RUNNING"
        events.push("go", 2)
        drain()
    assert handle.result() == {"starts": 2}
    assert not WaitCondition.objects.exists()


def test_a_cancel_in_one_branch_cancels_the_task() -> None:
    @durable_task
    async def stops(ctx: DurableContext[None]) -> None:
        async def stop() -> None:
            await ctx.astep(Group.objects.count, name="count")
            ctx.cancel("enough")

        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.asleep(DAY))
            group.create_task(stop())

    handle = stops.enqueue()
    drain()
    with pytest.raises(RunCancelled, match="enough"):
        handle.result()
    assert not WaitCondition.objects.exists()


def test_what_is_written_around_a_wait_is_written_once_it_is_over() -> None:
    @durable_task
    def writes(ctx: DurableContext[None]) -> None:
        with transaction.atomic():
            Group.objects.create(name="around")
            ctx.sleep(DAY)

    handle = writes.enqueue()
    drain()
    assert not Group.objects.exists()
    with travel(2 * DAY):
        drain()
    assert handle.refresh().status == "COMPLETED"
    assert Group.objects.count() == 1


def test_a_child_that_is_retried_by_hand_is_waited_for_while_its_parent_sleeps() -> (
    None
):
    tried: list[int] = []

    @task(name="flows-child")
    def shaky(number: int) -> int:
        tried.append(number)
        if len(tried) == 1:
            raise ValueError("no")
        return number

    @durable_task
    def parent(ctx: DurableContext[None]) -> int:
        ctx.spawn(shaky, 4, key="k")
        ctx.sleep(DAY)
        return ctx.run(shaky, 4, key="k")

    handle = parent.enqueue()
    drain()
    child = Run.objects.get(parent_task_run_id__isnull=False)
    assert child.status == "FAILED"
    RunHandle[Any](child.pk).retry()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == 4


def test_an_open_run_is_neither_retried_nor_branched() -> None:
    @durable_task(name="flows-open")
    def waits(ctx: DurableContext[None]) -> None:
        ctx.sleep(DAY)

    handle = waits.enqueue()
    drain()
    with pytest.raises(IllegalTransition):
        handle.branch("flows-open", 1)
    with pytest.raises(IllegalTransition):
        handle.retry()
    handle.cancel()
    again = handle.rerun()
    drain()
    assert again.refresh().status == "RUNNING"
    assert states(again) == {"flows-open": "WAITING"}


def test_retries_go_on_counting_over_waits() -> None:
    seen: list[int] = []

    @durable_task(retries=2)
    def fails(ctx: DurableContext[None]) -> None:
        ctx.sleep(DAY)
        seen.append(ctx.attempt)
        ctx.wait_for_event(f"go {ctx.attempt}") if ctx.attempt == 1 else None
        raise ValueError("no")

    handle = fails.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
        events.push("go 1")
        drain()
    with travel(3 * DAY):
        drain()
    with pytest.raises(RunFailed):
        handle.result()
    outcomes = list(
        Attempt.objects.order_by("number").values_list("outcome", flat=True)
    )
    assert outcomes == ["SUSPENDED", "SUSPENDED", "FAILED", "FAILED", "FAILED"]
    assert seen == [1, 1, 2, 3]


def test_an_execution_timeout_does_not_count_what_is_waited_without_a_slot() -> None:
    @durable_task(execution_timeout=timedelta(seconds=30))
    def waits(ctx: DurableContext[None]) -> str:
        ctx.sleep(DAY)
        return "in time"

    handle = waits.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == "in time"


def test_a_schedule_timeout_ends_a_function_that_does_not_get_to_go_on() -> None:
    @durable_task(name="flows-late", schedule_timeout=timedelta(hours=1))
    async def late(ctx: DurableContext[None]) -> None:
        await asyncio.gather(ctx.asleep(DAY), ctx.asleep(9 * DAY))

    handle = late.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
        assert handle.refresh().status == "RUNNING"
    with travel(10 * DAY):
        drain()
    assert handle.refresh().status == "COMPLETED"


def test_a_huge_output_of_a_child_comes_whole_and_one_too_large_fails() -> None:
    @task(name="flows-huge")
    def huge(size: int) -> str:
        return "x" * size

    @durable_task
    def reads(ctx: DurableContext[None]) -> list[Any]:
        size = len(ctx.run(huge, 1_000_000))
        try:
            ctx.run(huge, 2_000_000)
        except RunFailed as failure:
            return [size, "InvalidOutput" in repr(failure.exceptions[0])]
        return [size]

    handle = reads.enqueue()
    drain()
    assert handle.result() == [1_000_000, True]


@pytest.mark.parametrize("how", ["branch", "retry"])
def test_a_run_that_never_began_has_one_journal(how: str) -> None:
    called: list[int] = []

    @durable_task(name="flows-never-began")
    def waits(ctx: DurableContext[None]) -> None:
        ctx.step(called.append, 1, name="note")
        ctx.sleep(DAY)

    handle = waits.enqueue()
    handle.cancel()
    if how == "branch":
        handle.branch("flows-never-began", 1)
    else:
        handle.retry(tasks="all", keep_journal=False)
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.refresh().status == "COMPLETED"
    assert called == [1]


def test_a_completed_task_is_replayed_with_the_failure_that_it_caught() -> None:
    tried: list[int] = []

    @task(name="flows-refuses")
    def refuses(number: int) -> int:
        tried.append(number)
        if len(tried) == 1:
            raise ValueError("no")
        return number

    @durable_task
    def catches(ctx: DurableContext[None]) -> str:
        try:
            ctx.run(refuses, 1)
        except RunFailed:
            return "caught"
        return "fine"

    handle = catches.enqueue()
    drain()
    handle.retry(tasks="all")
    drain()
    assert handle.result() == "caught"
    assert tried == [1]


def test_a_branch_goes_on_waiting_for_the_child_that_it_keeps() -> None:
    @task(name="flows-later")
    def later(number: int) -> int:
        return number

    @durable_task(name="flows-keeps")
    def keeps(ctx: DurableContext[None]) -> int:
        moment = ctx.now() + DAY
        return ctx.run(later.using(run_after=moment).bind(3))

    handle = keeps.enqueue()
    drain()
    handle.cancel()
    handle.branch("flows-keeps", 3)
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == 3
    assert Run.objects.count() == 2
