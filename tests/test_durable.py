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
    NonDeterminism,
    RunCancelled,
    RunFailed,
    SleepCondition,
    durable_task,
    events,
    task,
    workflow,
)
from orchestrator.engine import inspect, sessions
from orchestrator.models import (
    Attempt,
    JournalEntry,
    Lease,
    Run,
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
