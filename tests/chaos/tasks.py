"""What the soak enqueues: every way in which a task can end, and some that try not to.

A task that has effects writes two rows in one transaction of its own: `chaos_trace`
tells of each execution, `chaos_effect` has one row for each key, however often the task
is executed. It is patient, since the soak cuts its connection, too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import timedelta
from typing import Any, TypedDict

from asgiref.sync import sync_to_async
from django.db import connection, transaction

from orchestrator import (
    Context,
    DurableContext,
    EventCondition,
    NonRetryable,
    ParentCondition,
    Retry,
    SleepCondition,
    task,
    workflow,
)

TABLES = """
CREATE TABLE IF NOT EXISTS chaos_effect (
    key text PRIMARY KEY, task_run_id uuid NOT NULL, attempt int NOT NULL
);
CREATE TABLE IF NOT EXISTS chaos_trace (
    task_run_id uuid NOT NULL, attempt int NOT NULL, worker_id uuid NOT NULL,
    pid int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS chaos_step (key text NOT NULL, number int NOT NULL);
CREATE INDEX IF NOT EXISTS chaos_trace_task_run ON chaos_trace (task_run_id);
"""

PATIENT = Retry(
    20, initial=timedelta(milliseconds=100), max=timedelta(seconds=2), jitter=False
)
SOON = Retry(3, initial=timedelta(milliseconds=200))


def record(ctx: Context[Any]) -> str:
    """Write the rows of one execution; the key of its effect."""
    key = f"{ctx.run_id}:{ctx.task}"
    row = (ctx.task_run_id, ctx.attempt)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO chaos_trace (task_run_id, attempt, worker_id, pid) "
            "VALUES (%s, %s, %s, %s)",
            (*row, ctx.worker_id, os.getpid()),
        )
        cursor.execute(
            "INSERT INTO chaos_effect (key, task_run_id, attempt) VALUES (%s, %s, %s) "
            "ON CONFLICT (key) DO NOTHING",
            (key, *row),
        )
    return key


@task(name="soak-noop")
def noop() -> None:
    """Nothing."""


@task(name="soak-anoop", queue_name="bulk")
async def anoop() -> None:
    """Nothing, on the loop."""


@task(name="soak-effect", takes_context=True, retries=PATIENT, queue_name="effects")
def effect(ctx: Context[Any], before: float, after: float) -> str:
    """Have an effect between two sleeps."""
    time.sleep(before)
    key = record(ctx)
    time.sleep(after)
    return key


@task(name="soak-aeffect", takes_context=True, retries=PATIENT, queue_name="effects")
async def aeffect(ctx: Context[Any], before: float, after: float) -> str:
    """`effect` on the loop."""
    await asyncio.sleep(before)
    key = await sync_to_async(record)(ctx)
    await asyncio.sleep(after)
    return key


@task(name="soak-alone", takes_context=True, retries=PATIENT, isolated=True)
def alone(ctx: Context[Any], seconds: float) -> str:
    """`effect` in a process of its own."""
    time.sleep(seconds)
    return record(ctx)


@task(name="soak-flaky", takes_context=True, retries=SOON)
def flaky(ctx: Context[Any], failures: int) -> int:
    """Fail in the first attempts."""
    if ctx.attempt <= failures:
        raise ValueError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


@task(name="soak-hopeless", retries=2)
def hopeless() -> None:
    """Fail in every attempt."""
    raise ValueError("always")


@task(name="soak-refuse", retries=5, queue_name="bulk")
async def refuse() -> None:
    """Fail for good."""
    raise NonRetryable("never again")


@task(name="soak-aoverrun", retries=1, execution_timeout=timedelta(seconds=0.5))
async def aoverrun() -> None:
    """Take too long, on the loop."""
    await asyncio.sleep(60)


@task(name="soak-overrun", execution_timeout=timedelta(seconds=0.5))
def overrun(seconds: float) -> None:
    """Take too long, in a thread that nobody can stop."""
    time.sleep(seconds)


@task(name="soak-overrun_alone", isolated=True, execution_timeout=timedelta(seconds=1))
def overrun_alone() -> None:
    """Take too long, and listen to nobody."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


@task(name="soak-hurry", schedule_timeout=timedelta(seconds=1.5), queue_name="bulk")
def hurry() -> None:
    """Be of no use after a while."""


@task(name="soak-poison")
def poison() -> None:
    """Take the process along, each time."""
    os.kill(os.getpid(), signal.SIGKILL)


class Number(TypedDict):
    """What a graph starts from."""

    number: int


diamond = workflow("soak-diamond", input=Number)


@diamond.task
def split(ctx: Context[Number]) -> int:
    """Start with the input."""
    return ctx.input["number"]


@diamond.task(parents=[split], retries=PATIENT)
def left(ctx: Context[Number]) -> int:
    """Add one, and have an effect."""
    record(ctx)
    return ctx.output(split) + 1


@diamond.task(parents=[split])
async def right(ctx: Context[Number]) -> int:
    """Add two, on the loop."""
    return ctx.output(split) + 2


@diamond.task(parents=[left, right], retries=PATIENT, queue_name="effects")
def join(ctx: Context[Number]) -> int:
    """Add both, and have an effect."""
    record(ctx)
    return ctx.output(left) + ctx.output(right)


chain = workflow("soak-chain", input=Number, queue_name="bulk")


@chain.task(name="link-1", retries=SOON)
def link_1(ctx: Context[Number]) -> int:
    """Fail once, then start with the input."""
    if ctx.attempt == 1:
        raise ValueError("the first attempt fails")
    return ctx.input["number"]


@chain.task(name="link-2", parents=[link_1])
async def link_2(ctx: Context[Number]) -> int:
    """Add one, on the loop."""
    return ctx.output(link_1) + 1


@chain.task(name="link-3", parents=[link_2], retries=PATIENT)
def link_3(ctx: Context[Number]) -> int:
    """Add one, and have an effect."""
    record(ctx)
    return ctx.output(link_2) + 1


@chain.task(name="link-4", parents=[link_3], queue_name="effects")
async def link_4(ctx: Context[Number]) -> int:
    """Add one, on the loop, in another queue."""
    return ctx.output(link_3) + 1


broken = workflow("soak-broken", input=Number)


@broken.task
def begin(ctx: Context[Number]) -> int:
    """Start with the input."""
    return ctx.input["number"]


@broken.task(parents=[begin], retries=1)
def fail(ctx: Context[Number]) -> int:
    """Fail, twice."""
    raise ValueError(f"{ctx.input['number']} is never right")


@broken.task(parents=[begin])
async def go_on(ctx: Context[Number]) -> int:
    """Be of another branch."""
    return ctx.output(begin)


@broken.task(parents=[fail])
def follow(ctx: Context[Number]) -> int:
    """Never be executed."""
    return ctx.output(fail)


@broken.task(parents=[go_on, follow])
def end(ctx: Context[Number]) -> int:
    """Never be executed, either."""
    return ctx.output(go_on) + ctx.output(follow)


choice = workflow("soak-choice", input=Number)


@choice.task
async def choose(ctx: Context[Number]) -> int:
    """Start with the input."""
    return ctx.input["number"]


@choice.task(
    parents=[choose],
    retries=PATIENT,
    skip_if=ParentCondition(choose, "output % 2 == 1"),
)
def even(ctx: Context[Number]) -> int:
    """Have an effect where the number is even."""
    record(ctx)
    return ctx.output(choose)


@choice.task(
    parents=[choose],
    retries=PATIENT,
    skip_if=ParentCondition(choose, "output % 2 == 0"),
)
def odd(ctx: Context[Number]) -> int:
    """Have an effect where the number is odd."""
    record(ctx)
    return ctx.output(choose)


@choice.task(parents=[even, odd], wait_for=SleepCondition(timedelta(milliseconds=300)))
async def later(ctx: Context[Number]) -> bool:
    """Wait a little, and see who was skipped."""
    return ctx.was_skipped(even)


GO = "soak:go"

waiting = workflow("soak-waiting", input=Number)


@waiting.task(
    retries=PATIENT,
    wait_for=EventCondition(GO, "payload.number % 3 == input.number % 3")
    | SleepCondition(timedelta(seconds=3)),
)
def gone(ctx: Context[Number]) -> str:
    """Wait for an event, not for ever, and have an effect."""
    return record(ctx)


handled = workflow("soak-handled", input=Number)


@handled.task(retries=1)
def stumble(ctx: Context[Number]) -> int:
    """Fail, twice."""
    raise ValueError(f"{ctx.input['number']} is never right")


@handled.on_failure
def tidy(ctx: Context[Number]) -> str:
    """Have an effect since the other one failed."""
    return record(ctx)


def step(key: str, number: int) -> int:
    """What a durable task does once: nothing keeps it from doing it twice."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO chaos_step (key, number) VALUES (%s, %s)", (key, number)
        )
    return number


durable = workflow("soak-durable", input=Number)


@durable.durable_task(retries=PATIENT)
def proceed(ctx: DurableContext[Number]) -> int:
    """Steps, a sleep, a child and an event, one after the other."""
    total = ctx.step(step, str(ctx.task_run_id), 1)
    ctx.sleep(timedelta(milliseconds=200))
    total += ctx.step(step, str(ctx.task_run_id), 2)
    total += ctx.run(count_up, 3)
    ctx.wait_for(
        EventCondition(GO, "payload.number % 2 == input.number % 2")
        | SleepCondition(timedelta(seconds=2))
    )
    return total + ctx.step(step, str(ctx.task_run_id), 4)


@durable.durable_task(parents=[proceed], retries=PATIENT)
async def branch(ctx: DurableContext[Number]) -> int:
    """Two branches side by side."""

    async def left_hand() -> int:
        await ctx.asleep(timedelta(milliseconds=100))
        return await ctx.arun(count_up, 5)

    async def right_hand() -> int:
        number = await ctx.arun(count_up, 6)
        return number + await ctx.astep(step, str(ctx.task_run_id), 7)

    return sum(await asyncio.gather(left_hand(), right_hand()))


@task(name="soak-count-up", retries=PATIENT)
def count_up(number: int) -> int:
    """A child."""
    time.sleep(0.02)
    return number
