"""Durable tasks that run children and wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import (
    DurableContext,
    RunCancelled,
    RunFailed,
    RunHandle,
    durable_task,
    task,
    workflow,
)
from orchestrator.engine import inspect, sessions
from orchestrator.models import (
    Attempt,
    Run,
    TaskRun,
)
from orchestrator.testing import drain, travel

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Order:
    """What most of these tasks take."""

    number: int


@pytest.fixture(autouse=True)
def _nothing_is_broken(db: None) -> Iterator[None]:
    yield
    assert inspect.violations(sessions.django_session()) == []


def outcomes() -> list[str]:
    return list(Attempt.objects.order_by("number").values_list("outcome", flat=True))


# Children.


@task(name="durable-double")
def double(number: int) -> int:
    """A child."""
    if number == 13:
        raise ValueError("unlucky")
    return 2 * number


def test_e4_outputs_of_children_come_in_the_order_of_the_calls() -> None:
    @durable_task
    def fan(ctx: DurableContext[None]) -> list[int]:
        return ctx.run_many(double.bind(n) for n in range(10))

    handle = fan.enqueue()
    assert drain() == 12
    assert handle.result() == [2 * n for n in range(10)]
    assert Run.objects.get(pk=handle.id).children().count() == 10
    assert TaskRun.objects.get(run_id=handle.id).children().count() == 10
    assert outcomes().count("SUSPENDED") == 1


def test_a_child_that_fails_raises_the_same_at_each_replay_and_can_be_caught() -> None:
    seen: list[str] = []

    @durable_task
    def parent(ctx: DurableContext[None]) -> str:
        try:
            ctx.run(double, 13)
        except RunFailed as error:
            seen.append(str(error.errors["durable-double"]))
        ctx.sleep(DAY)
        return "went on"

    handle = parent.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    assert handle.result() == "went on"
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert "unlucky" in seen[0]


def test_a_child_that_fails_fails_its_parent_with_its_message() -> None:
    @durable_task
    def parent(ctx: DurableContext[None]) -> int:
        return ctx.run(double, 13)

    handle = parent.enqueue()
    drain()
    with pytest.raises(RunFailed) as caught:
        handle.result()
    assert "unlucky" in caught.value.errors["parent"].message


def test_a_cancelled_child_raises_in_its_parent() -> None:
    @durable_task
    def parent(ctx: DurableContext[None]) -> str:
        try:
            ctx.run(double.using(run_after=ctx.now() + DAY), 1)
        except RunCancelled:
            return "cancelled"
        return "done"

    handle = parent.enqueue()
    drain()
    RunHandle.get(Run.objects.get(pk=handle.id).children().get().pk).cancel("test")
    drain()
    assert handle.result() == "cancelled"


pair = workflow("durable-pair", input=Order)


@pair.task
def left(ctx: Any) -> int:
    """One of two."""
    return int(ctx.input.number)


@pair.task
def right(ctx: Any) -> int:
    """The other one."""
    return -int(ctx.input.number)


def test_e18_children_of_several_tasks_give_the_outputs_of_all() -> None:
    @durable_task
    def fan(ctx: DurableContext[None]) -> list[Any]:
        return ctx.run_many([pair.bind(Order(n)) for n in range(20)])

    handle = fan.enqueue()
    drain()
    expected = [{"left": n, "right": -n} for n in range(20)]
    assert handle.result() == expected
    handle.retry(tasks="all")
    drain()
    assert handle.result() == expected
    assert Run.objects.filter(parent_task_run_id__isnull=False).count() == 20


def test_children_with_keys_are_the_same_run() -> None:
    @durable_task
    def parent(ctx: DurableContext[None]) -> list[int]:
        return [ctx.run(double, 1, key="a"), ctx.run(double, 2, key="a")]

    handle = parent.enqueue()
    drain()
    assert handle.result() == [2, 2]
    assert Run.objects.filter(parent_task_run_id__isnull=False).count() == 1
