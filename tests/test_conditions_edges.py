"""Conditions where they are easily misunderstood: arguments, clocks that stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import (
    Context,
    DurableContext,
    EventCondition,
    SleepCondition,
    durable_task,
    events,
    task,
    workflow,
)
from orchestrator.testing import drain, travel
from tests.drained import Ctx, check, seconds, statuses

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("own_definitions"),
]


@pytest.fixture(autouse=True)
def _check() -> Iterator[None]:
    yield
    check()


def test_while_the_clock_stands_still_an_event_counts_once_and_not_before_the_run() -> (
    None
):
    wf = workflow("w")

    @wf.task(wait_for=EventCondition("go"))
    def a(ctx: Ctx) -> int:
        return 1

    @durable_task
    def ticks(ctx: DurableContext[None]) -> int:
        for _ in range(2):
            ctx.wait_for_event("tick")
        return 2

    with travel(seconds(60)):
        events.push("go")
        before, loop = wf.enqueue(), ticks.enqueue()
        drain()
        assert statuses(before) == {"a": "PENDING"}
        after = wf.enqueue()
        events.push("go")
        events.push("tick")
        drain()
        assert statuses(before) == statuses(after) == {"a": "COMPLETED"}
        assert loop.refresh().status == "RUNNING"
        events.push("tick")
        drain()
        assert loop.result() == 2


def test_expressions_know_the_arguments_of_a_standalone_task_by_name() -> None:
    mine = EventCondition("paid", "payload.order == input.order")

    @task(wait_for=mine)
    def ship(order: int) -> int:
        return order

    @task(takes_context=True, wait_for=SleepCondition(seconds(10)), skip_if=mine)
    def remind(ctx: Context[Any], order: int, *, loudly: bool = False) -> int:
        return order

    shipped, reminded = ship.enqueue(7), remind.enqueue(order=7, loudly=True)
    other = remind.enqueue(8)
    drain()
    events.push("paid", {"order": 7})
    drain()
    assert shipped.result() == 7
    assert reminded.result() is None
    assert other.refresh().status == "QUEUED"
