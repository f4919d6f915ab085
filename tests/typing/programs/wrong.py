"""A program that is wrong where it says so: `mypy --strict` finds these lines alone."""

# ruff: noqa: B018, F841
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator import Context, DurableContext, Retry, durable_task, task, workflow


@dataclass(frozen=True)
class Shelf:
    path: str


@dataclass(frozen=True)
class Report:
    words: int


index = workflow("index", input=Shelf)
other = workflow("other", input=Report)
empty = workflow("empty")


@index.task
def discover(ctx: Context[Shelf]) -> list[str]:
    ctx.input.title  # E: attr-defined
    return [ctx.input.path]


@index.task
async def parse(ctx: Context[Shelf]) -> Report:
    number: int = ctx.output(discover)  # E: assignment
    return Report(number)


@other.task
def elsewhere(ctx: Context[Report]) -> int:
    return 1


@index.task  # E: arg-type
def wrong_input(ctx: Context[Report]) -> int:
    return 1


@index.task  # E: arg-type
def no_context() -> int:
    return 1


@index.task(parents=[elsewhere])  # E: list-item
def wrong_parent(ctx: Context[Shelf]) -> None: ...


@index.task(parents=[discover], retries="3")  # E: call-overload
def wrong_retries(ctx: Context[Shelf]) -> None: ...


@index.task(parents=[parse])
def write(ctx: Context[Shelf]) -> None:
    words: str = ctx.output(parse).words  # E: assignment
    ctx.output(parse).pages  # E: attr-defined
    ctx.output("parse")  # E: arg-type
    ctx.nothing  # E: attr-defined


def handles() -> None:
    index.enqueue(7)  # E: arg-type
    index.enqueue()  # E: call-arg
    index.enqueue(Report(1))  # E: arg-type
    index.enqueue_many([Shelf("a"), 7])  # E: list-item
    index.using(priority="high")  # E: arg-type
    index.using(queue="slow")  # E: call-arg
    empty.enqueue(Shelf("a"))  # E: call-overload
    index.enqueue(Shelf("a")).result(timeout="3")  # E: arg-type
    index.enqueue(Shelf("a")).restart()  # E: attr-defined


@task
def add(x: int, y: int = 2) -> int:
    return x + y


@task(retries=Retry(3, 5))  # E: call-arg
async def send(to: str) -> Report:
    return Report(1)


@task(takes_context=True)
def tell(ctx: Context[Any], word: str) -> str:
    return word


@task(retry=3)  # E: call-overload
def misspelt() -> None: ...


async def standalone() -> None:
    add.enqueue("seven")  # E: arg-type
    add.enqueue()  # E: call-arg
    add.enqueue(1, z=2)  # E: call-arg
    add.bind(1, "2")  # E: arg-type
    await add.aenqueue("7")  # E: arg-type
    words: str = add.enqueue(1).result()  # E: assignment
    number: int = await send.enqueue("a").aresult()  # E: assignment
    tell.enqueue(1)  # E: arg-type
    tell.enqueue(None, "word")  # E: call-arg
    add.enqueue_many([add.bind(1), send.bind("a")])  # E: list-item
    add.using(tenant=3).enqueue(1)  # E: arg-type


# Children and durable tasks.


@durable_task(input=Shelf)
def order(ctx: DurableContext[Shelf]) -> int:
    ctx.run(order, "a")  # E: misc
    ctx.run(add, "a")  # E: arg-type
    ctx.step(len, 3)  # E: call-overload
    word: str = ctx.run(order, Shelf("a"))  # E: assignment
    ctx.spawn(index, "a")  # E: misc
    ctx.sleep(3)  # E: arg-type
    return len(word)


order.enqueue("a")  # E: arg-type
order.enqueue()  # E: call-arg
