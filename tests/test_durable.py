"""Durable tasks under `drain()` and `travel()`: what users test with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group

from orchestrator import (
    DurableContext,
    EventCondition,
    RunFailed,
    SleepCondition,
    durable_task,
    events,
)
from orchestrator.engine import inspect, sessions
from orchestrator.models import (
    Attempt,
    JournalEntry,
    Lease,
    TaskRun,
    Wait,
    WaitCondition,
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


# Steps.


def test_a_step_is_done_once_however_often_the_function_is_executed() -> None:
    calls: list[int] = []

    def charge(number: int) -> dict[str, int]:
        calls.append(number)
        Group.objects.create(name=f"charge {number}")
        return {"number": number}

    @durable_task(input=Order, retries=2)
    def pay(ctx: DurableContext[Order]) -> int:
        charged = ctx.step(charge, ctx.input.number)
        if ctx.attempt < 3:
            raise ValueError("after the step")
        return charged["number"]

    handle = pay.enqueue(Order(7))
    assert drain() == 3
    assert handle.result() == 7
    assert calls == [7]
    assert Group.objects.filter(name="charge 7").count() == 1
    assert outcomes() == ["FAILED", "FAILED", "COMPLETED"]
    [entry] = JournalEntry.objects.all()
    assert (entry.kind, entry.position, entry.attempt) == ("STEP", 1, 1)
    assert entry.output == {"number": 7}


def test_a_sleep_of_two_weeks_holds_no_slot() -> None:
    @durable_task
    def nap(ctx: DurableContext[None]) -> list[int]:
        ctx.sleep(14 * DAY)
        return [ctx.attempt]

    handle = nap.enqueue()
    assert drain() == 1
    assert not Lease.objects.exists()
    assert Wait.objects.get().suspended
    task_run = TaskRun.objects.get()
    assert task_run.status == "WAITING"
    assert handle.refresh().status == "RUNNING"
    with travel(13 * DAY):
        assert drain() == 0
    with travel(14 * DAY):
        assert drain() == 1
    assert handle.result() == [1]
    assert outcomes() == ["SUSPENDED", "COMPLETED"]
    assert not WaitCondition.objects.exists()


def test_e13_now_is_the_same_time_at_each_replay() -> None:
    seen: list[Any] = []

    @durable_task
    def remember(ctx: DurableContext[None]) -> None:
        seen.append(ctx.now())
        ctx.sleep_until(ctx.now() + DAY)
        seen.append(ctx.now())

    remember.enqueue()
    drain()
    with travel(2 * DAY):
        drain()
    first, again, later = seen
    assert first == again
    assert later - first > DAY


def test_steps_take_and_give_what_json_can_hold() -> None:
    def build(order: Order, *, twice: bool) -> Order:
        return Order(order.number * (2 if twice else 1))

    @durable_task(input=Order)
    def make(ctx: DurableContext[Order]) -> Order:
        return ctx.step(build, ctx.input, twice=True)

    handle = make.enqueue(Order(2))
    drain()
    assert handle.result() == Order(4)


def test_a_step_that_fails_leaves_nothing_and_is_done_again() -> None:
    calls: list[int] = []

    def shaky() -> str:
        calls.append(1)
        Group.objects.create(name=f"group {len(calls)}")
        if len(calls) == 1:
            raise OSError("the first time")
        return "fine"

    @durable_task(retries=1)
    def labour(ctx: DurableContext[None]) -> str:
        return ctx.step(shaky)

    handle = labour.enqueue()
    drain()
    assert handle.result() == "fine"
    assert list(Group.objects.values_list("name", flat=True)) == ["group 2"]


def test_a_durable_call_inside_a_step_is_refused() -> None:
    @durable_task
    def labour(ctx: DurableContext[None]) -> None:
        ctx.step(lambda: ctx.sleep(DAY), name="nap")

    handle = labour.enqueue()
    drain()
    with pytest.raises(RunFailed, match="failed") as caught:
        handle.result()
    assert "inside a step" in str(caught.value.exceptions[0])


# Waits.


@pytest.mark.parametrize("how", ["event", "time"])
def test_whichever_comes_first_ends_a_wait(how: str) -> None:
    @durable_task
    def wait(ctx: DurableContext[None]) -> list[Any]:
        result = ctx.wait_for(EventCondition("paid") | SleepCondition(DAY, name="late"))
        return [result.first, dict(result)]

    handle = wait.enqueue()
    assert drain() == 1
    if how == "event":
        events.push("paid", {"amount": 3})
        assert drain() == 1
        assert handle.result() == ["paid", {"paid": {"amount": 3}}]
    else:
        with travel(2 * DAY):
            assert drain() == 1
        assert handle.result() == ["late", {"late": None}]
    assert not WaitCondition.objects.exists()


def test_all_of_several_conditions_are_waited_for_in_any_order() -> None:
    @durable_task
    def wait(ctx: DurableContext[None]) -> list[str]:
        return list(ctx.wait_for(EventCondition("a") & EventCondition("b")))

    handle = wait.enqueue()
    drain()
    events.push("b")
    assert drain() == 0
    events.push("a")
    assert drain() == 1
    assert handle.result() == ["b", "a"]


def test_an_event_is_waited_for_by_scope_and_expression() -> None:
    @durable_task(input=Order)
    def wait(ctx: DurableContext[Order]) -> Any:
        return ctx.wait_for_event("paid", "payload.n == input.number", scope="shop")

    handle = wait.enqueue(Order(2))
    drain()
    events.push("paid", {"n": 2})
    events.push("paid", {"n": 1}, scope="shop")
    assert drain() == 0
    events.push("paid", {"n": 2, "by": "me"}, scope="shop")
    assert drain() == 1
    assert handle.result() == {"n": 2, "by": "me"}


def test_e14_an_event_that_came_before_is_found_by_looking_back() -> None:
    @durable_task
    def wait(ctx: DurableContext[None]) -> Any:
        return ctx.wait_for_event(
            "user:create",
            "payload.user_id == 1234",
            scope="user:1234",
            lookback=timedelta(minutes=1),
        )

    payload = {"order": "first", "user_id": 1234}
    events.push("user:create", payload, scope="user:1234")
    drain()
    handle = wait.enqueue()
    assert drain() == 2
    assert handle.result()["order"] == "first"


@pytest.mark.parametrize("welcomed", [True, False])
def test_e23_an_event_right_after_the_start_counts(welcomed: bool) -> None:
    @durable_task(input=Order)
    def welcome(ctx: DurableContext[Order]) -> dict[str, bool]:
        result = ctx.wait_for(
            SleepCondition(timedelta(seconds=5))
            | EventCondition("open", scope="7", lookback=timedelta(seconds=5))
        )
        return {"welcome_sent": "open" in result, "follow_up": "open" not in result}

    handle = welcome.enqueue(Order(7))
    if welcomed:
        events.push("open", scope="7")
    drain()
    with travel(timedelta(seconds=6)):
        drain()
    assert handle.result() == {"welcome_sent": welcomed, "follow_up": not welcomed}
