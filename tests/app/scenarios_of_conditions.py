"""The scenarios about conditions; `scenarios.py` has the others."""

from __future__ import annotations

from orchestrator import (
    Context,
    EventCondition,
    ParentCondition,
    SleepCondition,
    task,
    workflow,
)
from tests.app.scenarios import seconds

waits = workflow("b1-waits", input=int)


@waits.task
def start(ctx: Context[int]) -> int:
    """From 1 to 100."""
    return ctx.input


@waits.task(parents=[start], wait_for=SleepCondition(seconds(10)))
def wait_for_sleep(ctx: Context[int]) -> int:
    """After ten seconds."""
    return ctx.input


@waits.task(
    parents=[start, wait_for_sleep], skip_if=ParentCondition(start, "output > 0")
)
def skip_with_multiple_parents(ctx: Context[int]) -> int:
    """Always skipped."""
    return ctx.input


@waits.task(
    parents=[start],
    wait_for=SleepCondition(seconds(30)),
    skip_if=EventCondition("skip_on_event:skip", "payload.run == run_id"),
)
def skip_on_event(ctx: Context[int]) -> int:
    """Skipped by an event."""
    return ctx.input


@waits.task(
    parents=[wait_for_sleep], skip_if=ParentCondition(wait_for_sleep, "output > 50")
)
def left_branch(ctx: Context[int]) -> int:
    """One of two branches."""
    return ctx.input


@waits.task(
    parents=[wait_for_sleep], skip_if=ParentCondition(wait_for_sleep, "output <= 50")
)
def right_branch(ctx: Context[int]) -> int:
    """The other one."""
    return ctx.input


@waits.task(
    parents=[start],
    wait_for=SleepCondition(seconds(60))
    | EventCondition("wait_for_event:start", "payload.run == run_id"),
)
def wait_for_event(ctx: Context[int]) -> int:
    """By an event, or after a minute."""
    return ctx.input


@waits.task(
    parents=[
        start,
        wait_for_sleep,
        wait_for_event,
        skip_on_event,
        left_branch,
        right_branch,
    ]
)
def total(ctx: Context[int]) -> int:
    """Of those that were executed."""
    found = [ctx.output(start), ctx.output(wait_for_event), ctx.output(wait_for_sleep)]
    found += [
        ctx.output(branch)
        for branch in (left_branch, right_branch)
        if not ctx.was_skipped(branch)
    ]
    return sum(found)


cancelled_if = workflow("b2-cancel-if")


@cancelled_if.task
def two(ctx: Context[None]) -> int:
    """More than one."""
    return 2


@cancelled_if.task(parents=[two], cancel_if=ParentCondition(two, "output > 1"))
def child(ctx: Context[None]) -> int:
    """Never executed."""
    return 1


@cancelled_if.task(parents=[child])
def grandchild(ctx: Context[None]) -> int:
    """Nor is this."""
    return 1


@task(
    name="b3-sleep-wins",
    wait_for=EventCondition("b3:never"),
    skip_if=SleepCondition(seconds(12)),
)
def sleep_wins() -> int:
    """Skipped after twelve seconds."""
    return 1


@task(
    name="b6-cancelled-by-event",
    wait_for=SleepCondition(seconds(30)),
    cancel_if=EventCondition("b6:cancel", "payload.run == run_id"),
)
def cancelled_by_event() -> int:
    """Cancelled."""
    return 1


@task(name="b9-woken", wait_for=EventCondition("b9:wake", "payload.run == run_id"))
def woken() -> int:
    """Executed once the event is there."""
    return 5
