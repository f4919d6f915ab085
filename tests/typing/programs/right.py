"""A program that is right: `mypy --strict` finds nothing in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict, assert_type

from orchestrator import (
    Context,
    DurableContext,
    Eviction,
    Retry,
    RunHandle,
    SleepCondition,
    durable_task,
    task,
    workflow,
)
from orchestrator.calls import Call
from orchestrator.definitions import TaskDefinition
from orchestrator.tasks import StandaloneTask
from orchestrator.testing import make_context
from orchestrator.workflows import WorkflowDefinition


@dataclass(frozen=True)
class Shelf:
    path: str


@dataclass(frozen=True)
class Report:
    words: int


class Options(TypedDict):
    depth: int


index = workflow("index", input=Shelf)
assert_type(index, WorkflowDefinition[Shelf])


@index.task
def discover(ctx: Context[Shelf]) -> list[str]:
    assert_type(ctx.input, Shelf)
    return [ctx.input.path]


assert_type(discover, TaskDefinition[Shelf, list[str]])


@index.task(
    parents=[discover], retries=Retry(3), execution_timeout=timedelta(minutes=5)
)
async def parse(ctx: Context[Shelf]) -> Report:
    assert_type(ctx.output(discover), list[str])
    return Report(len(ctx.output(discover)))


assert_type(parse, TaskDefinition[Shelf, Report])


@index.task(parents=[discover, parse], retries=3)
def write(ctx: Context[Shelf]) -> None:
    assert_type(ctx.output(parse), Report)
    assert_type(ctx.was_skipped(parse), bool)


# A task may ask for less than the workflow gives.
@index.task
def careless(ctx: Context[object]) -> int:
    return 1


def handles() -> None:
    assert_type(index.enqueue(Shelf("a")), RunHandle[dict[str, Any]])
    assert_type(index.enqueue(Shelf("a")).result(timeout=3), dict[str, Any])
    index.using(priority=3, metadata={"user": "7"}).enqueue(Shelf("a"))
    index.enqueue_many([Shelf("a"), index.bind(Shelf("b"))])
    index.enqueue_many(Shelf(path) for path in "abc")


empty = workflow("empty")
assert_type(empty, WorkflowDefinition[None])
anything = workflow("anything", input=dict)
options = workflow("options", input=Options)


@empty.task()
def nothing(ctx: Context[None]) -> None: ...


@options.task
def deep(ctx: Context[Options]) -> int:
    assert_type(ctx.input["depth"], int)
    return ctx.input["depth"]


@task
def add(x: int, y: int = 2) -> int:
    return x + y


@task(retries=3, queue_name="mail")
async def send(to: str, *, copies: int = 1) -> Report:
    return Report(copies)


@task(takes_context=True)
def tell(ctx: Context[Any], word: str) -> list[str]:
    return [word]


assert_type(send.enqueue("a", copies=2), RunHandle[Report])
assert_type(tell.enqueue("a"), RunHandle[list[str]])


async def callers() -> None:
    empty.enqueue()
    anything.enqueue({"a": [1]})
    options.enqueue({"depth": 3})
    assert_type(add.enqueue(1).result(), int)
    assert_type(await send.enqueue("a").aresult(), Report)
    assert_type(send.call("a"), Report)
    add.enqueue_many([add.bind(1), add.using(priority=3).bind(1, y=3)])
    assert_type(await add.aenqueue(1, y=3), RunHandle[int])
    await index.aenqueue(Shelf("a"))
    await empty.aenqueue()
    handle = add.enqueue(1)
    assert_type(handle.rerun(), RunHandle[int])
    handle.retry(tasks=["add"])
    await handle.acancel("why")


def tests() -> None:
    context = make_context(parse, Shelf("a"), outputs={discover: ["a"]})
    assert_type(context, Context[Shelf])
    assert_type(parse.call(context), Report)


kept: StandaloneTask[..., int] = add


# Children and durable tasks.


@index.durable_task(parents=[parse], eviction=Eviction(timedelta(minutes=1)))
def publish(ctx: DurableContext[Shelf]) -> int:
    assert_type(ctx.input, Shelf)
    assert_type(ctx.output(parse), Report)
    assert_type(ctx.step(add.call, 1, y=2), int)
    assert_type(ctx.step(add.call, 1, name="plus"), int)
    assert_type(ctx.now(), datetime)
    assert_type(ctx.run(add, 1), int)
    assert_type(ctx.run(add.bind(1, 2)), int)
    assert_type(ctx.run(index, Shelf("a")), dict[str, Any])
    assert_type(ctx.run(empty), dict[str, Any])
    assert_type(ctx.run(order, Shelf("a"), key="o"), Report)
    assert_type(ctx.run_many([send.bind("a"), send.bind("b")]), list[Report])
    assert_type(ctx.spawn(order, Shelf("a")), RunHandle[Report])
    assert_type(ctx.spawn_many([send.bind("a")], keys=["a"]), list[RunHandle[Report]])
    first: str = ctx.wait_for(SleepCondition(timedelta(1))).first
    return len(first)


@durable_task(input=Shelf, retries=3)
async def order(ctx: DurableContext[Shelf]) -> Report:
    async def note(word: str) -> bytes:
        return word.encode()

    await ctx.asleep(timedelta(days=14))
    assert_type(await ctx.astep(note, "a"), bytes)
    assert_type(await ctx.astep(add.call, 1, name="plus"), int)
    assert_type(await ctx.arun(send, "a"), Report)
    assert_type(await ctx.arun_many([add.bind(1)]), list[int])
    return Report(1)


@durable_task
def tidy(ctx: DurableContext[None]) -> None:
    ctx.sleep(timedelta(1))


assert_type(order.enqueue(Shelf("a")), RunHandle[Report])
assert_type(order.using(priority=3).bind(Shelf("a")), Call[Report])
assert_type(tidy.enqueue(), RunHandle[None])
assert_type(make_context(order, Shelf("a"), answers=[1]), DurableContext[Shelf])
assert_type(make_context(publish, Shelf("a")), DurableContext[Shelf])
