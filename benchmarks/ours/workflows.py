"""Tasks that do nothing: one of each kind, a chain of three, a diamond of four."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from benchmarks.stamps import stamp
from orchestrator import Context, DurableContext, durable_task, task, workflow


@task(name="noop-async", queue_name="async")
async def noop(number: int) -> None:
    stamp(number)


@task(name="noop-sync", queue_name="sync")
def noop_sync(number: int) -> None:
    stamp(number)


chain = workflow("chain", input=dict[str, Any], queue_name="chain")


@chain.task
async def first(ctx: Context[dict[str, Any]]) -> None:
    stamp(ctx.input["number"])


@chain.task(parents=[first])
async def second(ctx: Context[dict[str, Any]]) -> None:
    """Its start is not measured."""


@chain.task(parents=[second])
async def third(ctx: Context[dict[str, Any]]) -> None:
    """Its start is not measured."""


diamond = workflow("diamond", input=dict[str, Any], queue_name="diamond")


@diamond.task
async def top(ctx: Context[dict[str, Any]]) -> None:
    stamp(ctx.input["number"])


@diamond.task(parents=[top])
async def left(ctx: Context[dict[str, Any]]) -> None:
    """Its start is not measured."""


@diamond.task(parents=[top])
async def right(ctx: Context[dict[str, Any]]) -> None:
    """Its start is not measured."""


@diamond.task(parents=[left, right])
async def bottom(ctx: Context[dict[str, Any]]) -> None:
    """Its start is not measured."""


@task(name="child", queue_name="durable")
def child(number: int) -> int:
    return number


@durable_task(name="durable", input=int, queue_name="durable")
def durable(ctx: DurableContext[int]) -> int:
    ctx.step(_begin, ctx.input)
    return ctx.run(child, ctx.input)


def _begin(number: int) -> None:
    stamp(number)


@durable_task(name="wait-for-event", input=int, queue_name="event")
def wait_for_event(ctx: DurableContext[int]) -> None:
    ctx.wait_for_event("bench:go", scope=str(ctx.input))


@durable_task(name="sleep", input=int, queue_name="sleep")
def sleep(ctx: DurableContext[int]) -> None:
    ctx.sleep(timedelta(days=30))
