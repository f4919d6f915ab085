"""Workflows that wait, for the acceptance tests of conditions."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import (
    Context,
    EventCondition,
    ParentCondition,
    SleepCondition,
    task,
    workflow,
)

Ctx = Context[None]


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


branches = workflow("branches")


@branches.task
def start(ctx: Ctx) -> int:
    return 42


@branches.task(parents=[start], wait_for=SleepCondition(seconds(2)))
def sleeps(ctx: Ctx) -> int:
    return 7


@branches.task(
    parents=[start],
    wait_for=SleepCondition(seconds(120)),
    skip_if=EventCondition("branches:skip"),
)
def skipped_by_event(ctx: Ctx) -> int:
    raise AssertionError("never")


@branches.task(
    parents=[start],
    wait_for=SleepCondition(seconds(120)) | EventCondition("branches:go"),
)
def by_event(ctx: Ctx) -> int:
    return 13


@branches.task(parents=[sleeps], skip_if=ParentCondition(sleeps, "output > 5"))
def left(ctx: Ctx) -> int:
    raise AssertionError("never")


@branches.task(parents=[sleeps], skip_if=ParentCondition(sleeps, "output <= 5"))
def right(ctx: Ctx) -> int:
    return 11


@branches.task(parents=[start, sleeps, skipped_by_event, by_event, left, right])
def total(ctx: Ctx) -> int:
    assert ctx.was_skipped(skipped_by_event)
    assert ctx.was_skipped(left)
    return sum(ctx.output(each) for each in (start, sleeps, by_event, right))


stoppable = workflow("stoppable")


@stoppable.task
def begin(ctx: Ctx) -> int:
    return 1


@stoppable.task(
    parents=[begin],
    wait_for=EventCondition("stoppable:go", "payload.id == run_id"),
    cancel_if=EventCondition("stoppable:stop", "payload.id == run_id"),
)
def go(ctx: Ctx) -> int:
    return 5


broken = workflow("broken-with-handler")


@broken.task
def step1(ctx: Ctx) -> None:
    raise ValueError("step1 failed")


@broken.on_failure
def on_failure(ctx: Ctx) -> str:
    return ctx.errors["step1"].message


@task(wait_for=SleepCondition(seconds(30)))
def lies_low() -> int:
    return 1
