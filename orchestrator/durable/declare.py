"""Declaring durable tasks of a workflow."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from asgiref.sync import async_to_sync

from orchestrator.conditions import Condition
from orchestrator.context import Context
from orchestrator.definitions import TaskDefinition
from orchestrator.durable import loops
from orchestrator.durable.context import DurableContext
from orchestrator.durable.keepers import DatabaseKeeper
from orchestrator.engine.journal import Fence, Journal
from orchestrator.exceptions import InvalidDefinition
from orchestrator.options import check_options
from orchestrator.policies import Eviction, Retry

Input = TypeVar("Input")
Output = TypeVar("Output")

Coroutines = Coroutine[Any, Any, Output]

# Those of `durable_task` in a workflow; a type checker reads them there.
OPTIONS = (
    *("name", "parents", "wait_for", "skip_if", "cancel_if", "retries"),
    *("execution_timeout", "schedule_timeout", "queue_name", "slot_cost", "isolated"),
    "eviction",
)

AT_ONCE = Eviction()
LINGER = 1.0  # seconds that the branches of a function get when it is suspended


class DurableTask(TaskDefinition[Input, Output]):
    """A durable task: its function takes a DurableContext."""

    durable = True

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        eviction: Eviction | None = AT_ONCE,
        **options: Any,
    ) -> None:
        super().__init__(function, **options)
        if eviction is not None and not isinstance(eviction, Eviction):
            raise InvalidDefinition(
                f"eviction={eviction!r} of task {self.name!r} is no policy; give "
                "Eviction(…), or None to keep the slot."
            )
        self.eviction = eviction

    def data(self) -> dict[str, Any]:
        """The node as data of its version's shape."""
        policy = None if self.eviction is None else self.eviction.to_dict()
        return {**super().data(), "durable": True, "eviction": policy}

    def call(self, ctx: Context[Input]) -> Output:
        """Call the function here and now, without a run; an async one to its end."""
        if self.is_async:
            return cast("Output", async_to_sync(self.ainvoke)(ctx))
        return super().call(ctx)

    async def acall(self, ctx: Context[Input]) -> Output:
        """`call` for async callers; a sync function is called in a thread."""
        if self.is_async:
            return cast("Output", await self.invoke(ctx))
        return await super().acall(ctx)

    def invoke(self, ctx: Context[Any]) -> Any:
        """Call the function: its result, or a coroutine of it."""
        function = super().invoke
        if not self.is_async:
            return function(ctx)
        assert isinstance(ctx, DurableContext)  # noqa: S101 - for the type alone
        return loops.run(ctx, lambda: function(ctx), LINGER)

    async def ainvoke(self, ctx: Context[Any]) -> Any:
        """Call an async function: its result."""
        return await self.invoke(ctx)

    def durable_context(
        self, about: dict[str, Any], journal: Journal | None
    ) -> DurableContext[Any]:
        """The context of a claimed attempt."""
        journal = Journal() if journal is None else journal
        host = about["host"]
        fence = Fence(about["task_run_id"], about["attempt"], host.worker_id)
        keeper = DatabaseKeeper(
            fence,
            about["run_id"],
            journal.branch,
            self.eviction,
            host.residents,
            host.threads,
        )
        return DurableContext(journal=journal, keeper=keeper, **about)


class DurableDecorator(Protocol[Input]):
    """What `workflow.durable_task(…)` gives: it makes a DurableTask of a function."""

    @overload
    def __call__(
        self, function: Callable[[DurableContext[Input]], Coroutines[Output]], /
    ) -> DurableTask[Input, Output]: ...

    @overload
    def __call__(
        self, function: Callable[[DurableContext[Input]], Output], /
    ) -> DurableTask[Input, Output]: ...


class Durables(Generic[Input]):
    """The part of a workflow that declares its durable tasks."""

    @overload
    def durable_task(
        self, function: Callable[[DurableContext[Input]], Coroutines[Output]], /
    ) -> DurableTask[Input, Output]: ...

    @overload
    def durable_task(
        self, function: Callable[[DurableContext[Input]], Output], /
    ) -> DurableTask[Input, Output]: ...

    @overload
    def durable_task(
        self,
        /,
        *,
        name: str | None = None,
        parents: Sequence[TaskDefinition[Input, Any]] = (),
        wait_for: Condition | None = None,
        skip_if: Condition | None = None,
        cancel_if: Condition | None = None,
        retries: int | Retry = 0,
        execution_timeout: timedelta | None = None,
        schedule_timeout: timedelta | None = None,
        queue_name: str | None = None,
        slot_cost: int = 1,
        isolated: bool = False,
        eviction: Eviction | None = AT_ONCE,
    ) -> DurableDecorator[Input]: ...

    def durable_task(self, function: Any = None, /, **options: Any) -> Any:
        """Declare a durable task: `@wf.durable_task`, or with options.

        The function takes a DurableContext: its calls are recorded, so it goes on
        where it was after a wait, a failure or the loss of its worker. Options are as
        in `task`; `eviction` says when it gives its slot back while it waits, None is
        never. `execution_timeout` starts afresh after each wait without the slot.

        Raises InvalidDefinition.
        """

        check_options("durable_task", options, OPTIONS)

        def decorate(function: Callable[..., Any]) -> Any:
            return self.declare(function, DurableTask, **options)

        return decorate if function is None else decorate(function)

    declare: Callable[..., Any]
