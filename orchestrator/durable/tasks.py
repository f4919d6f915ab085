"""Standalone durable tasks: a workflow of one durable task, which has its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import (
    Any,
    Generic,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from asgiref.sync import sync_to_async

from orchestrator.calls import Call
from orchestrator.codecs import codec_for
from orchestrator.context import Context
from orchestrator.definitions import check_function
from orchestrator.dependencies import injected
from orchestrator.durable.context import DurableContext
from orchestrator.durable.declare import Coroutines, DurableTask
from orchestrator.options import check_name, check_options
from orchestrator.policies import Eviction, Idempotency
from orchestrator.runs import RunHandle
from orchestrator.targets import MISSING, WorkflowTarget
from orchestrator.tasks import TaskOptions
from orchestrator.workflows import WorkflowDefinition

Input = TypeVar("Input")
Output = TypeVar("Output")


class CallKeywords(TypedDict, total=False):
    """What `using` takes."""

    priority: int | None
    run_after: datetime | None
    queue_name: str | None
    metadata: Mapping[str, Any] | None
    tenant: str | None
    idempotency_key: str | None
    idempotency_scope: str | None


class DurableOptions(TaskOptions, total=False):
    """The options of `@durable_task`, besides `input`."""

    eviction: Eviction | None


class DurableTarget(Generic[Input, Output]):
    """A standalone durable task with the options of a call: what `using` gives.

    Enqueueing joins the caller's transaction: a rollback leaves nothing. All of it is
    as with a WorkflowTarget, but for the result, which is what the function returns.
    """

    def __init__(self, target: WorkflowTarget[Input]) -> None:
        self._target = target
        self.definition: WorkflowDefinition[Input] = target.definition

    def using(self, **options: Unpack[CallKeywords]) -> DurableTarget[Input, Output]:
        """The task with other options, as `WorkflowTarget.using`."""
        return DurableTarget(self._target.using(**options))

    @overload
    def enqueue(self: DurableTarget[None, Output]) -> RunHandle[Output]: ...

    @overload
    def enqueue(self, input: Input) -> RunHandle[Output]: ...

    def enqueue(self, input: Any = MISSING) -> RunHandle[Output]:
        """Create a run; raises InvalidInput with the path of what does not fit."""
        return cast("RunHandle[Output]", self._target.enqueue(input))

    @overload
    async def aenqueue(self: DurableTarget[None, Output]) -> RunHandle[Output]: ...

    @overload
    async def aenqueue(self, input: Input) -> RunHandle[Output]: ...

    async def aenqueue(self, input: Any = MISSING) -> RunHandle[Output]:
        """`enqueue` for async callers."""
        return cast("RunHandle[Output]", await self._target.aenqueue(input))

    @overload
    def bind(self: DurableTarget[None, Output]) -> Call[Output]: ...

    @overload
    def bind(self, input: Input) -> Call[Output]: ...

    def bind(self, input: Any = MISSING) -> Call[Output]:
        """A call to enqueue later; raises InvalidInput as `enqueue` does."""
        return cast("Call[Output]", self._target.bind(input))

    def enqueue_many(
        self, inputs: Iterable[Input | Call[Output]]
    ) -> list[RunHandle[Output]]:
        """Create a run for each input, or call made by `bind`: all, or none."""
        made = self._target.enqueue_many(cast("Any", inputs))
        return cast("list[RunHandle[Output]]", made)

    async def aenqueue_many(
        self, inputs: Iterable[Input | Call[Output]]
    ) -> list[RunHandle[Output]]:
        """`enqueue_many` for async callers."""
        return await sync_to_async(self.enqueue_many)(inputs)


class StandaloneDurable(DurableTarget[Input, Output]):
    """A durable function with its options."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        input: Any = None,
        name: str | None = None,
        description: str = "",
        queue_name: str = "default",
        priority: int = 0,
        metadata: Mapping[str, Any] | None = None,
        idempotency: Idempotency | None = None,
        **options: Any,
    ) -> None:
        self.function = function = injected(check_function(function))
        self.name = check_name(function.__name__ if name is None else name, "task")
        text = (inspect.getdoc(function) or "").partition("\n")[0]
        definition: WorkflowDefinition[Input] = WorkflowDefinition(
            self.name,
            module=function.__module__,
            input_codec=None if input is None else codec_for(input),
            description=description or text,
            queue_name=queue_name,
            priority=priority,
            metadata=metadata,
            idempotency=idempotency,
            standalone=True,
        )
        self.task = cast(
            "DurableTask[Input, Output]",
            definition.declare(function, DurableTask, name=self.name, **options),
        )
        super().__init__(definition)
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<StandaloneDurable {self.name}>"

    def call(self, ctx: Context[Input]) -> Output:
        """Call the function here and now, with a context made by `make_context`."""
        return self.task.call(ctx)

    async def acall(self, ctx: Context[Input]) -> Output:
        """`call` for async callers."""
        return await self.task.acall(ctx)


class StandaloneDecorator(Protocol[Input]):
    """What `durable_task(…)` gives: it makes a StandaloneDurable of a function."""

    @overload
    def __call__(
        self, function: Callable[[DurableContext[Input]], Coroutines[Output]], /
    ) -> StandaloneDurable[Input, Output]: ...

    @overload
    def __call__(
        self, function: Callable[[DurableContext[Input]], Output], /
    ) -> StandaloneDurable[Input, Output]: ...


@overload
def durable_task(
    function: Callable[[DurableContext[None]], Coroutines[Output]], /
) -> StandaloneDurable[None, Output]: ...


@overload
def durable_task(
    function: Callable[[DurableContext[None]], Output], /
) -> StandaloneDurable[None, Output]: ...


@overload
def durable_task(
    *, input: None = None, **options: Unpack[DurableOptions]
) -> StandaloneDecorator[None]: ...


@overload
def durable_task(
    *, input: type[Input], **options: Unpack[DurableOptions]
) -> StandaloneDecorator[Input]: ...


def durable_task(function: Any = None, /, **options: Any) -> Any:
    """Declare a standalone durable task: `@durable_task`, or with options.

    The function takes one `ctx: DurableContext[Input]`; `input` is the type of its
    input, as in `workflow`. Its run's result is what it returns. `name`,
    `description`, `queue_name`, `priority`, `metadata` and `idempotency` are as in
    `workflow`, the rest as in `WorkflowDefinition.durable_task`.

    Raises InvalidDefinition.
    """

    check_options("durable_task", options, ("input", *DurableOptions.__annotations__))

    def decorate(function: Callable[..., Any]) -> StandaloneDurable[Any, Any]:
        return StandaloneDurable(function, **options)

    return decorate if function is None else decorate(function)
