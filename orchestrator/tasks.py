"""Standalone tasks: functions with plain arguments, as in `django.tasks`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from asgiref.sync import async_to_sync, sync_to_async

from orchestrator.calls import Call, CallOptions
from orchestrator.codecs import Codec, codec_for
from orchestrator.codecs.arguments import POSITIONAL, Arguments, arguments_codec
from orchestrator.conditions import Condition
from orchestrator.context import Context
from orchestrator.definitions import TaskDefinition, check_function
from orchestrator.dependencies import injected
from orchestrator.exceptions import InvalidInput
from orchestrator.options import check_flag, check_name, check_options
from orchestrator.policies import Idempotency, Retry
from orchestrator.runs import RunHandle
from orchestrator.submission import Prepared, numbered, submit, submit_many
from orchestrator.targets import prepared_call
from orchestrator.workflows import WorkflowDefinition

P = ParamSpec("P")
R = TypeVar("R")

Coroutines = Coroutine[Any, Any, R]


class TaskOptions(TypedDict, total=False):
    """The options of `@task`, besides `takes_context`."""

    name: str | None
    description: str
    queue_name: str
    priority: int
    metadata: Mapping[str, Any] | None
    idempotency: Idempotency | None
    wait_for: Condition | None
    skip_if: Condition | None
    cancel_if: Condition | None
    retries: int | Retry
    execution_timeout: timedelta | None
    schedule_timeout: timedelta | None
    slot_cost: int
    isolated: bool


class TaskTarget(Generic[P, R]):
    """A standalone task with the options of a call: what `using` gives.

    Enqueueing joins the caller's transaction: a rollback leaves nothing.
    """

    definition: WorkflowDefinition[Any]
    options: CallOptions

    def __init__(
        self, definition: WorkflowDefinition[Any], options: CallOptions
    ) -> None:
        self.definition = definition
        self.options = options

    def using(
        self,
        *,
        priority: int | None = None,
        run_after: datetime | None = None,
        queue_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        idempotency_key: str | None = None,
        idempotency_scope: str | None = None,
    ) -> TaskTarget[P, R]:
        """The task with other options, as `WorkflowTarget.using`."""
        options = self.options.using(
            priority=priority,
            run_after=run_after,
            queue_name=queue_name,
            metadata=metadata,
            tenant=tenant,
            idempotency_key=idempotency_key,
            idempotency_scope=idempotency_scope,
        )
        return TaskTarget(self.definition, options)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Create a run; raises InvalidInput where the arguments do not fit.

        With an idempotency key, raises IdempotencyCollision where another run holds
        it, and may wait for another transaction that has claimed it.
        """
        definition = self.definition
        text = definition.encode_input(Arguments(args, kwargs))
        return RunHandle(submit(definition, self.options, text))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """`enqueue` for async callers."""
        return await sync_to_async(self.enqueue)(*args, **kwargs)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """A call to enqueue later; raises InvalidInput as `enqueue` does."""
        text = self.definition.encode_input(Arguments(args, kwargs))
        return Call(self.definition, text, self.options)

    def enqueue_many(self, calls: Iterable[Call[R]]) -> list[RunHandle[R]]:
        """Create a run for each call made by `bind`: all, or none.

        Raises InvalidInput with the index of one that is not of this task, and
        BulkIdempotencyCollision where others hold keys: the rest is made then.
        """
        prepared = list(numbered(calls, self._prepared))
        return [RunHandle(run_id) for run_id in submit_many(self.definition, prepared)]

    async def aenqueue_many(self, calls: Iterable[Call[R]]) -> list[RunHandle[R]]:
        """`enqueue_many` for async callers."""
        return await sync_to_async(self.enqueue_many)(calls)

    def _prepared(self, call: object) -> Prepared:
        if not isinstance(call, Call):
            name = self.definition.name
            raise InvalidInput(f"It is {call!r}; give calls made by {name}.bind(…).")
        return prepared_call(self.definition, self.options, call)


class StandaloneTask(TaskTarget[P, R]):
    """A function with its options: a workflow of one task, which has its name."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        takes_context: bool = False,
        name: str | None = None,
        description: str = "",
        queue_name: str = "default",
        priority: int = 0,
        metadata: Mapping[str, Any] | None = None,
        idempotency: Idempotency | None = None,
        wait_for: Condition | None = None,
        skip_if: Condition | None = None,
        cancel_if: Condition | None = None,
        retries: int | Retry = 0,
        execution_timeout: timedelta | None = None,
        schedule_timeout: timedelta | None = None,
        slot_cost: int = 1,
        isolated: bool = False,
    ) -> None:
        self.function = function = injected(check_function(function))
        self.takes_context = check_flag("takes_context", takes_context)
        self.is_async = inspect.iscoroutinefunction(function)
        self.name = check_name(function.__name__ if name is None else name, "task")
        codec = arguments_codec(
            function, takes_context=takes_context, codec_for=codec_for
        )
        task = _PlainTask[R](
            function,
            workflow=self.name,
            ordinal=0,
            input_codec=codec,
            name=self.name,
            takes_context=takes_context,
            wait_for=wait_for,
            skip_if=skip_if,
            cancel_if=cancel_if,
            retries=retries,
            execution_timeout=execution_timeout,
            schedule_timeout=schedule_timeout,
            slot_cost=slot_cost,
            isolated=isolated,
        )
        self.definition = WorkflowDefinition(
            self.name,
            module=function.__module__,
            input_codec=codec,
            description=description or _first_line(function),
            queue_name=queue_name,
            priority=priority,
            metadata=metadata,
            idempotency=idempotency,
            standalone=True,
        )
        self.definition.add(task)
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<StandaloneTask {self.name}>"

    @property
    def options(self) -> CallOptions:  # type: ignore[override]
        """The options of calls without `using`."""
        return self.definition.options

    def call(self, *args: Any, **kwargs: Any) -> R:
        """Call the function here and now, without a run; an async one to its end.

        A function that takes the context is given it as the first argument.
        """
        if self.is_async:
            function = cast("Callable[..., Coroutines[R]]", self.function)
            return async_to_sync(function)(*args, **kwargs)
        return cast("R", self.function(*args, **kwargs))

    async def acall(self, *args: Any, **kwargs: Any) -> R:
        """`call` for async callers; a sync function is called in a thread."""
        if self.is_async:
            return cast("R", await self.function(*args, **kwargs))
        return cast("R", await sync_to_async(self.function)(*args, **kwargs))


class _PlainTask(TaskDefinition[Any, R]):
    """The only task of a standalone task's workflow: it unpacks the arguments."""

    plain = True  # its input is arguments

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        workflow: str,
        ordinal: int,
        input_codec: Codec,
        takes_context: bool,
        **task_options: Any,
    ) -> None:
        super().__init__(
            function,
            workflow=workflow,
            ordinal=ordinal,
            input_codec=input_codec,
            **task_options,
        )
        self.takes_context = takes_context

    def data(self) -> dict[str, Any]:
        """The node as data of its version's shape; conditions name its arguments."""
        if not self.conditions:
            return super().data()
        parameters = list(inspect.signature(self.function).parameters.values())
        names = [p.name for p in parameters if p.kind in POSITIONAL]
        return {**super().data(), "arguments": names[self.takes_context :]}

    def invoke(self, ctx: Context[Any]) -> Any:
        arguments: Arguments = ctx.input
        if self.takes_context:
            return self.function(ctx, *arguments.args, **arguments.kwargs)
        return self.function(*arguments.args, **arguments.kwargs)


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


class StandaloneDecorator(Protocol):
    """What `task(…)` gives: it makes a StandaloneTask of a function."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutines[R]], /
    ) -> StandaloneTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> StandaloneTask[P, R]: ...


class ContextDecorator(Protocol):
    """What `task(takes_context=True)` gives; callers do not pass the context."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context[Any], P], Coroutines[R]], /
    ) -> StandaloneTask[P, R]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context[Any], P], R], /
    ) -> StandaloneTask[P, R]: ...


@overload
def task(function: Callable[P, Coroutines[R]], /) -> StandaloneTask[P, R]: ...


@overload
def task(function: Callable[P, R], /) -> StandaloneTask[P, R]: ...


@overload
def task(
    *, takes_context: Literal[True], **task_options: Unpack[TaskOptions]
) -> ContextDecorator: ...


@overload
def task(
    *, takes_context: Literal[False] = ..., **task_options: Unpack[TaskOptions]
) -> StandaloneDecorator: ...


def task(function: Any = None, /, **task_options: Any) -> Any:
    """Declare a standalone task: `@task`, or `@task(retries=3, …)`.

    Arguments and result are JSON by their annotations. With `takes_context` the
    function takes a Context before its arguments. `queue_name`, `priority`,
    `metadata` and `idempotency` are as in `workflow`; the rest is as in
    `WorkflowDefinition.task`. In expressions `input` has the arguments by name.

    Raises InvalidDefinition.
    """

    known = ("takes_context", *TaskOptions.__annotations__)
    check_options("task", task_options, known)

    def decorate(function: Callable[..., Any]) -> StandaloneTask[Any, Any]:
        return StandaloneTask(function, **task_options)

    return decorate if function is None else decorate(function)
