"""Batch tasks: many runs that are executed together, in one call."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar, Unpack, overload
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async

from orchestrator import cel
from orchestrator.codecs import ANYTHING, Codec, codec_for
from orchestrator.codecs.base import hints
from orchestrator.definitions import TaskDefinition, check_function
from orchestrator.dependencies import injected
from orchestrator.durable.tasks import DurableTarget
from orchestrator.engine.groups import NAMES
from orchestrator.exceptions import InvalidDefinition
from orchestrator.options import check_flag, check_name, check_timeout
from orchestrator.policies import Idempotency
from orchestrator.workflows import WorkflowDefinition

Key = TypeVar("Key", str, UUID)
Input = TypeVar("Input")
Output = TypeVar("Output")

MAX_SIZE = 10_000

# What a task may have besides what is its workflow's. An execution for many runs is
# not repeated for one of them, and what they wait for is each other.
OPTIONS = ("execution_timeout", "schedule_timeout", "slot_cost")


class BatchOptions(TypedDict, total=False):
    """The options of `@batch_task`, besides those of the batch."""

    name: str | None
    description: str
    queue_name: str
    priority: int
    metadata: Mapping[str, Any] | None
    idempotency: Idempotency | None
    execution_timeout: timedelta | None
    schedule_timeout: timedelta | None
    slot_cost: int


class BatchDefinition(TaskDefinition[Any, Any]):
    """The only task of a batch task's workflow: it takes the inputs of many runs."""

    def __init__(
        self, function: Callable[..., Any], *, batch: dict[str, Any], **options: Any
    ) -> None:
        super().__init__(function, **options)
        self.batch = batch

    def data(self) -> dict[str, Any]:
        """The node as data of its version's shape."""
        return {**super().data(), "batch": self.batch}

    @property
    def broadcast(self) -> bool:
        """Whether the function returns one value for all."""
        return bool(self.batch["broadcast"])

    @cached_property
    def by_uuid(self) -> bool:
        """Whether the function has its inputs by UUID, and not by text."""
        return _types(self.function)[0] is UUID

    @cached_property
    def output_codec(self) -> Codec:
        """The codec of what one run gets; any JSON where nothing is annotated."""
        kind = hints(self.function).get("return", Any)
        if not self.broadcast:
            kind = _item(kind, self.function.__qualname__)
        return ANYTHING if kind is Any else codec_for(kind)


def _types(function: Callable[..., Any]) -> tuple[Any, Any]:
    """The key and the value of the mapping that the function takes."""
    name = next(iter(inspect.signature(function).parameters))
    kind = hints(function).get(name, Any)
    arguments = typing.get_args(kind)
    return arguments if len(arguments) == 2 else (str, Any)


def _item(kind: Any, name: str) -> Any:
    arguments = typing.get_args(kind)
    if kind is Any or kind is dict:
        return Any
    if len(arguments) != 2:
        raise InvalidDefinition(
            f"{name} returns {kind!r}; a batch task returns dict[task run id, output], "
            "or one value for all with broadcast=True."
        )
    return arguments[1]


def _input_codec(function: Callable[..., Any]) -> Codec:
    """The codec of one run's input; the annotation is read at its first use."""
    known: list[Codec] = []

    def inner() -> Codec:
        if not known:
            kind = _types(function)[1]
            known.append(ANYTHING if kind is Any else codec_for(kind))
        return known[0]

    return Codec(
        f"an input of {function.__name__}",
        frozenset(),
        lambda value: inner().encode(value),
        lambda value: inner().decode(value),
        lambda: [inner()],
        lambda value: inner().shortcut(value),
    )


class BatchTask(DurableTarget[Input, Output], Generic[Key, Input, Output]):
    """A function that executes many runs at once, with its options.

    `enqueue(input)` makes a run of its own; its result is its part of what the
    function returns.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        max_size: int,
        max_interval: timedelta | None = None,
        group_key: str | None = None,
        group_max_runs: int | None = None,
        broadcast: bool = False,
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
        unknown = options.keys() - OPTIONS
        if unknown:
            raise InvalidDefinition(
                f"Batch task {self.name!r} cannot have {', '.join(sorted(unknown))}; "
                f"besides those of the batch its options are {', '.join(OPTIONS)}."
            )
        check_timeout("max_interval", max_interval)
        if group_key is not None:
            cel.check(group_key, NAMES, what=f"The group key of {self.name}")
        batch = {
            "max_size": _whole("max_size", max_size),
            "max_interval": max_interval and max_interval.total_seconds(),
            "group_key": group_key,
            "group_max_runs": None
            if group_max_runs is None
            else _whole("group_max_runs", group_max_runs),
            "broadcast": check_flag("broadcast", broadcast),
        }
        if group_max_runs is not None and group_key is None:
            raise InvalidDefinition(
                f"Batch task {self.name!r}: group_max_runs= counts the batches of a "
                "group; give group_key= with it."
            )
        text = (inspect.getdoc(function) or "").partition("\n")[0]
        definition: WorkflowDefinition[Any] = WorkflowDefinition(
            self.name,
            module=function.__module__,
            input_codec=_input_codec(function),
            description=description or text,
            queue_name=queue_name,
            priority=priority,
            metadata=metadata,
            idempotency=idempotency,
            standalone=True,
        )
        self.task = definition.declare(
            function, BatchDefinition, name=self.name, batch=batch, **options
        )
        super().__init__(definition)
        self.is_async = inspect.iscoroutinefunction(function)
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<BatchTask {self.name}>"

    def call(self, inputs: Mapping[Key, Input]) -> Any:
        """Call the function here and now, without runs; an async one to its end."""
        if self.is_async:
            return async_to_sync(self.function)(inputs)
        return self.function(inputs)

    async def acall(self, inputs: Mapping[Key, Input]) -> Any:
        """`call` for async callers; a sync function is called in a thread."""
        if self.is_async:
            return await self.function(inputs)
        return await sync_to_async(self.function)(inputs)


def _whole(name: str, number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidDefinition(f"{name}={number!r} is not a whole number.")
    if not 1 <= number <= MAX_SIZE:
        raise InvalidDefinition(f"{name}={number}: give 1 to {MAX_SIZE:,}.")
    return number


class BatchDecorator(Protocol):
    """What `batch_task(…)` gives: it makes a BatchTask of a function."""

    @overload
    def __call__(
        self,
        function: Callable[
            [dict[Key, Input]], Coroutine[Any, Any, Mapping[Key, Output]]
        ],
        /,
    ) -> BatchTask[Key, Input, Output]: ...

    @overload
    def __call__(
        self, function: Callable[[dict[Key, Input]], Mapping[Key, Output]], /
    ) -> BatchTask[Key, Input, Output]: ...


class BroadcastDecorator(Protocol):
    """What `batch_task(broadcast=True, …)` gives."""

    @overload
    def __call__(
        self, function: Callable[[dict[Key, Input]], Coroutine[Any, Any, Output]], /
    ) -> BatchTask[Key, Input, Output]: ...

    @overload
    def __call__(
        self, function: Callable[[dict[Key, Input]], Output], /
    ) -> BatchTask[Key, Input, Output]: ...


@overload
def batch_task(
    *,
    max_size: int,
    max_interval: timedelta | None = None,
    group_key: str | None = None,
    group_max_runs: int | None = None,
    broadcast: Literal[False] = False,
    **options: Unpack[BatchOptions],
) -> BatchDecorator: ...


@overload
def batch_task(
    *,
    max_size: int,
    max_interval: timedelta | None = None,
    group_key: str | None = None,
    group_max_runs: int | None = None,
    broadcast: Literal[True],
    **options: Unpack[BatchOptions],
) -> BroadcastDecorator: ...


def batch_task(**options: Any) -> Any:
    """Declare a batch task: one execution, in one slot, for many runs.

    The function takes `dict[task run id, input]` and returns `dict[task run id,
    output]` with the same keys, or with `broadcast` one value that all of them get. It
    is called once `max_size` runs wait, or inputs of 4,000,000 bytes, or the oldest has
    waited for `max_interval`. `group_key` is CEL over `input`, `metadata`, `tenant` and
    `workflow` that gives a string: runs are gathered with their own group, of which
    `group_max_runs` batches are executed at once. The rest is as in `task`.

    Raises InvalidDefinition.
    """

    def decorate(function: Callable[..., Any]) -> BatchTask[Any, Any, Any]:
        return BatchTask(function, **options)

    return decorate
