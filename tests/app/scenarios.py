"""Workflows of the scenarios that users of other engines know, at their numbers."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

from orchestrator import (
    Context,
    DurableContext,
    EventCondition,
    NonRetryable,
    SleepCondition,
    durable_task,
    task,
    workflow,
)


def seconds(number: float) -> timedelta:
    """Short for a timedelta."""
    return timedelta(seconds=number)


# Basics.


@task(name="a1-hello")
def hello() -> dict[str, str]:
    """A1, as a task."""
    return {"result": "Hello, world!"}


@durable_task(name="a1-hello-durable")
def hello_durable(ctx: DurableContext[None]) -> dict[str, str]:
    """A1, as a durable task."""
    return {"result": "Hello, world!"}


numbers = workflow("a4-numbers")


@numbers.task
def step1(ctx: Context[None]) -> int:
    """One of the two."""
    return 17


@numbers.task
async def step2(ctx: Context[None]) -> int:
    """The other one."""
    return 25


@numbers.task(parents=[step1, step2])
def step3(ctx: Context[None]) -> int:
    """Their sum."""
    return ctx.output(step1) + ctx.output(step2)


@numbers.task(parents=[step1, step3])
async def step4(ctx: Context[None]) -> dict[str, str]:
    """The end."""
    return {"step4": "step4"}


# Failure, timeouts, cancellation.

thrice = workflow("c1-non-retryable")


@thrice.task(retries=1)
def gives_up(ctx: Context[None]) -> None:
    """Fail for good."""
    raise NonRetryable("no retry helps")


@thrice.task(retries=1)
def tries_again(ctx: Context[None]) -> None:
    """Fail twice."""
    raise TypeError("of the wrong type")


@thrice.task(retries=1)
def succeeds(ctx: Context[None]) -> int:
    """Do not."""
    return 1


failing = workflow("c2-on-failure")


@failing.task
def fails(ctx: Context[None]) -> None:
    """Fail."""
    raise ValueError("step1 failed")


@failing.on_failure
def handle_failure(ctx: Context[None]) -> list[str]:
    """Name those that failed."""
    return list(ctx.errors)


@task(name="c3-too-long", execution_timeout=seconds(5))
def too_long() -> None:
    """Sleep for longer than the timeout."""
    time.sleep(30)


@task(name="c3-refreshed", takes_context=True, execution_timeout=seconds(4))
def refreshed(ctx: Context[Any]) -> dict[str, str]:
    """Ask for more time."""
    ctx.refresh_timeout(seconds(10))
    time.sleep(5)
    return {"status": "success"}


cancelling = workflow("c4-cancellation")


@cancelling.task
async def self_cancel(ctx: Context[None]) -> None:
    """Cancel itself after two seconds."""
    await asyncio.sleep(2)
    ctx.cancel("enough")


@cancelling.task
def check_flag(ctx: Context[None]) -> str:
    """Look for three seconds whether somebody cancels this one."""
    for _ in range(30):
        if ctx.is_cancelled:
            return "cancelled"
        time.sleep(0.1)
    return "not cancelled"


# Children.

leaf = workflow("d1-leaf", input=dict[str, Any])


@leaf.task
def process(ctx: Context[dict[str, Any]]) -> str:
    """The first of two."""
    return f"child {ctx.input['a']}"


@leaf.task(parents=[process])
def process2(ctx: Context[dict[str, Any]]) -> str:
    """The second one."""
    return ctx.output(process) + " again"


@durable_task(name="d1-fanout", input=int)
def fanout(ctx: DurableContext[int]) -> list[dict[str, str]]:
    """As many children as asked for, by key."""
    calls = [leaf.bind({"a": str(number)}) for number in range(ctx.input)]
    return ctx.run_many(calls, keys=[f"child{n}" for n in range(ctx.input)])


@durable_task(name="d1-afanout", input=int)
async def afanout(ctx: DurableContext[int]) -> list[dict[str, str]]:
    """The same on the loop."""
    calls = [leaf.bind({"a": str(number)}) for number in range(ctx.input)]
    return await ctx.arun_many(calls)


# Durable.


@durable_task(name="e1-durable")
def e1(ctx: DurableContext[None]) -> dict[str, Any]:
    """A sleep, an event, and whichever of both comes first, twice."""
    began = ctx.now()
    ctx.sleep(seconds(5))
    slept = (ctx.now() - began).total_seconds()
    payload = ctx.wait_for_event("e1:event", "payload.run == run_id")
    event = EventCondition("e1:never", name="event")
    first = ctx.wait_for(SleepCondition(seconds(5), name="sleep") | event)
    early = EventCondition(
        "e1:event",
        "payload.run == run_id",
        lookback=seconds(60),
        scope="e1",
        name="event",
    )
    second = ctx.wait_for(SleepCondition(seconds(30), name="sleep") | early)
    return {
        "slept": slept,
        "id": payload["id"],
        "groups": [first.first, second.first],
    }


@durable_task(name="e2-sleep")
def sleep_five(ctx: DurableContext[None]) -> float:
    """How long a sleep of five seconds took, by this attempt."""
    began = time.monotonic()
    ctx.sleep(seconds(5))
    return time.monotonic() - began


@durable_task(name="e9-non-deterministic")
def non_deterministic(ctx: DurableContext[None]) -> dict[str, Any]:
    """Ask for something else in each generation."""
    from orchestrator import NonDeterminism

    try:
        ctx.sleep(seconds(2 * ctx.attempt))
    except NonDeterminism as error:
        return {"position": error.position, "attempt": ctx.attempt}
    return {"position": None, "attempt": ctx.attempt}


def expensive(message: str) -> str:
    """Take five seconds."""
    time.sleep(5)
    return message


@durable_task(name="e12-memo", input=str)
def memo(ctx: DurableContext[str]) -> str:
    """Do what is expensive once."""
    return ctx.step(expensive, ctx.input)


@durable_task(name="e13-now")
def now(ctx: DurableContext[None]) -> str:
    """When it began."""
    return ctx.now().isoformat()


@durable_task(name="e14-lookback", input=int)
def lookback(ctx: DurableContext[int]) -> str:
    """Find an event that came before."""
    payload = ctx.wait_for_event(
        "user:create",
        "payload.user_id == input",
        scope=f"user_id:{ctx.input}",
        lookback=seconds(60),
    )
    return str(payload["order"])


@durable_task(name="e18-dag-spawn")
async def dag_spawn(ctx: DurableContext[None]) -> list[dict[str, str]]:
    """Twenty children of two tasks each."""
    calls = [leaf.bind({"a": str(number)}) for number in range(20)]
    return await ctx.arun_many(calls)


@durable_task(name="e23-welcome", input=str)
def welcome(ctx: DurableContext[str]) -> dict[str, bool]:
    """Follow up unless the user has done something within five seconds."""
    result = ctx.wait_for(
        EventCondition(
            "user:active", scope=ctx.input, lookback=seconds(300), name="active"
        )
        | SleepCondition(seconds(5), name="silent")
    )
    return {"welcome_sent": True, "follow_up_sent": result.first == "silent"}


# Streams and many runs.


@task(name="i4-stream", takes_context=True)
def chunks(ctx: Context[Any], text: str) -> None:
    """Ten characters at a time, after two seconds, every 0.2 seconds."""
    time.sleep(2)
    for at in range(0, len(text), 10):
        ctx.stream(text[at : at + 10])
        time.sleep(0.2)


@task(name="i3-bulk-1", takes_context=True)
def bulk_1(ctx: Context[Any]) -> int:
    """Fail the first time."""
    return _second_time(ctx)


@task(name="i3-bulk-2", takes_context=True)
async def bulk_2(ctx: Context[Any]) -> int:
    """Fail the first time, on the loop."""
    return _second_time(ctx)


@task(name="i3-bulk-3", takes_context=True)
def bulk_3(ctx: Context[Any]) -> int:
    """Fail the first time."""
    return _second_time(ctx)


def _second_time(ctx: Context[Any]) -> int:
    if ctx.attempt == 1:
        raise ValueError("the first time")
    return ctx.attempt
