"""Dependencies: parameters that the engine fills in, once an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Annotated, Any

import pytest
from asgiref.sync import async_to_sync

from orchestrator import (
    Context,
    Depends,
    InvalidDefinition,
    InvalidInput,
    RunFailed,
    task,
    workflow,
)
from orchestrator.dependencies import INJECTED
from orchestrator.testing import drain, make_context

pytestmark = pytest.mark.usefixtures("own_definitions")

told: list[str] = []


@pytest.fixture(autouse=True)
def _quiet() -> None:
    told.clear()


def plain() -> str:
    told.append("plain")
    return "plain"


async def waited() -> str:
    await asyncio.sleep(0)
    told.append("waited")
    return "waited"


def tenant(ctx: Context[Any]) -> str:
    return f"{ctx.tenant}/{ctx.attempt}"


@contextmanager
def ledger(name: Annotated[str, Depends(plain)]) -> Iterator[str]:
    told.append("ledger opens")
    try:
        yield f"ledger of {name}"
    except BaseException as error:
        told.append(f"ledger fails: {type(error).__name__}")
        raise
    finally:
        told.append("ledger closes")


@asynccontextmanager
async def client(
    book: Annotated[str, Depends(ledger)], name: Annotated[str, Depends(plain)]
) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    told.append("client opens")
    yield f"client of {book} and {name}"
    told.append("client closes")
    assert asyncio.get_running_loop() is loop


def by_yield() -> Iterator[int]:
    told.append("yields")
    yield 7
    told.append("has yielded")


async def by_async_yield() -> AsyncIterator[int]:
    told.append("yields")
    yield 8
    told.append("has yielded")


class Connection:
    def __init__(self, name: Annotated[str, Depends(plain)], size: int = 3) -> None:
        self.name = f"{name} {size}"

    def __enter__(self) -> Connection:
        told.append("connected")
        return self

    def __exit__(self, *_: Any) -> None:
        told.append("disconnected")


Book = Annotated[str, Depends(ledger)]


@pytest.mark.django_db
def test_plain_arguments_are_the_calls_and_the_rest_is_filled_in() -> None:
    @task
    def settle(
        order: int,
        book: Book = INJECTED,
        *,
        who: Annotated[str, Depends(tenant)] = INJECTED,
    ) -> list[Any]:
        told.append("task")
        return [order, book, who]

    handle = settle.using(tenant="t").enqueue(7)
    [bound] = settle.enqueue_many([settle.bind(order=8)])
    drain()
    assert handle.result() == [7, "ledger of plain", "t/1"]
    assert bound.result() == [8, "ledger of plain", "/1"]
    assert told[:4] == ["plain", "ledger opens", "task", "ledger closes"]
    with pytest.raises(InvalidInput):
        settle.enqueue(7, "a book")


@pytest.mark.django_db
@pytest.mark.parametrize("on_loop", [False, True])
def test_all_kinds_work_in_sync_and_async_tasks_and_are_left_in_reverse(
    *, on_loop: bool
) -> None:
    if on_loop:

        @task(takes_context=True)
        async def use(
            ctx: Context[Any],
            value: Annotated[str, Depends(waited)] = INJECTED,
            web: Annotated[str, Depends(client)] = INJECTED,
            seven: Annotated[int, Depends(by_yield)] = INJECTED,
            eight: Annotated[int, Depends(by_async_yield)] = INJECTED,
            link: Annotated[Connection, Depends(Connection)] = INJECTED,
        ) -> list[Any]:
            told.append("task")
            return [value, web, seven, eight, link.name]

    else:

        @task(takes_context=True)
        def use(
            ctx: Context[Any],
            value: Annotated[str, Depends(waited)] = INJECTED,
            web: Annotated[str, Depends(client)] = INJECTED,
            seven: Annotated[int, Depends(by_yield)] = INJECTED,
            eight: Annotated[int, Depends(by_async_yield)] = INJECTED,
            link: Annotated[Connection, Depends(Connection)] = INJECTED,
        ) -> list[Any]:
            told.append("task")
            return [value, web, seven, eight, link.name]

    handle = use.enqueue()
    drain()
    assert handle.result() == [
        "waited",
        "client of ledger of plain and plain",
        7,
        8,
        "plain 3",
    ]
    assert told == [
        "waited",
        "plain",
        "ledger opens",
        "client opens",
        "yields",
        "yields",
        "connected",
        "task",
        "disconnected",
        "has yielded",
        "has yielded",
        "client closes",
        "ledger closes",
    ]


@pytest.mark.django_db
def test_they_are_made_again_for_each_attempt_and_hear_of_its_failure() -> None:
    @task(retries=1)
    def fail(book: Book = INJECTED) -> None:
        raise KeyError

    handle = fail.enqueue()
    drain()
    with pytest.raises(RunFailed, match="fail"):
        handle.result()
    assert told.count("plain") == 2
    assert told.count("ledger fails: KeyError") == told.count("ledger closes") == 2


@pytest.mark.django_db
def test_one_that_fails_fails_the_attempt_and_leaves_what_was_entered() -> None:
    def broken(book: Annotated[str, Depends(ledger)]) -> int:
        raise LookupError("no such thing")

    @task
    def never(thing: Annotated[int, Depends(broken)] = INJECTED) -> None:
        told.append("task")

    handle = never.enqueue()
    drain()
    with pytest.raises(RunFailed) as caught:
        handle.result()
    assert caught.value.errors["never"].error_type == "LookupError"
    assert told == [
        "plain",
        "ledger opens",
        "ledger fails: LookupError",
        "ledger closes",
    ]


@pytest.mark.django_db
def test_a_manager_that_swallows_an_error_does_not_make_a_success_of_it() -> None:
    @contextmanager
    def swallowing() -> Iterator[int]:
        with suppress(ValueError):
            yield 1

    @task
    def fail(one: Annotated[int, Depends(swallowing)] = INJECTED) -> None:
        raise ValueError("still")

    @task
    async def afail(one: Annotated[int, Depends(swallowing)] = INJECTED) -> None:
        raise ValueError("still")

    handles = [fail.enqueue(), afail.enqueue()]
    drain()
    for handle in handles:
        with pytest.raises(RunFailed):
            handle.result()


@pytest.mark.django_db
def test_tasks_of_workflows_take_them_behind_the_context() -> None:
    wf = workflow("wf", input=dict)

    @wf.task
    def first(ctx: Context[dict[str, Any]], book: Book = INJECTED) -> str:
        return book

    @wf.task(parents=[first])
    async def second(ctx: Context[dict[str, Any]], book: Book = INJECTED) -> str:
        return ctx.output(first) + " and " + book

    handle = wf.enqueue({})
    drain()
    assert handle.result()["second"] == "ledger of plain and ledger of plain"


def test_a_test_calls_a_task_with_or_without_its_own() -> None:
    wf = workflow("wf")

    @wf.task
    def who(
        ctx: Context[None], name: Annotated[str, Depends(tenant)] = INJECTED
    ) -> str:
        return name

    @task
    async def which(book: Book = INJECTED) -> str:
        return book

    @task
    def needy(name: Annotated[str, Depends(tenant)] = INJECTED) -> str:
        return name

    assert who.call(make_context(who, tenant="t", attempt=3)) == "t/3"
    assert which.call() == "ledger of plain"
    assert async_to_sync(which.acall)(book="my own") == "my own"
    assert needy.call(name="mine") == "mine"
    with pytest.raises(TypeError, match=r"by drain\(\)"):
        needy.call()


def test_a_circle_is_refused_where_the_task_is_declared() -> None:
    def chicken(egg: Annotated[int, Depends(lambda: 1)]) -> int:
        return 1

    def egg(chicken: Annotated[int, Depends(chicken)]) -> int:
        return 1

    chicken.__annotations__["egg"] = Annotated[int, Depends(egg)]
    with pytest.raises(InvalidDefinition, match="egg → chicken → egg"):

        @task
        def hatch(one: Annotated[int, Depends(egg)]) -> None: ...


def test_what_cannot_be_filled_in_is_refused_where_the_task_is_declared() -> None:
    def two(ctx: Any, other: int) -> int:
        return 1

    with pytest.raises(InvalidDefinition, match="nothing fills in: ctx, other"):

        @task
        def greedy(x: Annotated[int, Depends(two)]) -> None: ...

    with pytest.raises(InvalidDefinition, match="give a function"):

        @task
        def odd(x: Annotated[int, Depends(7)]) -> None: ...

    with pytest.raises(InvalidDefinition, match="put what callers give first"):

        @task
        def order(x: Annotated[int, Depends(plain)], y: int) -> None: ...

    with pytest.raises(InvalidDefinition, match="cannot be read"):

        @task
        def unknown(x: Annotated[int, Depends(nobody)]) -> None: ...  # noqa: F821


def test_a_task_without_any_is_left_as_it_is() -> None:
    def function(x: int, y: Annotated[str, "a note"] = "") -> None: ...

    assert task(function).function is function
