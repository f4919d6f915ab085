"""A task in code: a function with its options, as a node of a workflow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from asgiref.sync import async_to_sync, sync_to_async

from orchestrator import options
from orchestrator.codecs import ANYTHING, Codec, codec_for
from orchestrator.codecs.base import hints
from orchestrator.conditions import Condition, ParentCondition, check_condition
from orchestrator.conf import settings
from orchestrator.dependencies import injected
from orchestrator.exceptions import InvalidDefinition
from orchestrator.policies import Retry
from orchestrator.serialization import Misfit, dumps, invalid, loads

if TYPE_CHECKING:
    from orchestrator.context import Context
    from orchestrator.engine.journal import Journal

Input = TypeVar("Input")
Output = TypeVar("Output")


class TaskDefinition(Generic[Input, Output]):
    """A node of a workflow: what its decorator leaves in place of the function.

    Pass it as a parent of other tasks and to `ctx.output`. `call(ctx)` calls the
    function directly, as a test may do with `orchestrator.testing.make_context`.
    """

    durable = False  # whether it is handed a DurableContext

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        workflow: str,
        ordinal: int,
        input_codec: Codec | None,
        name: str | None = None,
        parents: Sequence[TaskDefinition[Any, Any]] = (),
        wait_for: Condition | None = None,
        skip_if: Condition | None = None,
        cancel_if: Condition | None = None,
        handles: str | None = None,
        retries: int | Retry = 0,
        execution_timeout: timedelta | None = None,
        schedule_timeout: timedelta | None = None,
        queue_name: str | None = None,
        slot_cost: int = 1,
        isolated: bool = False,
    ) -> None:
        self.function = injected(check_function(function))
        self.name = options.check_name(
            function.__name__ if name is None else name, "task"
        )
        self.workflow = workflow
        self.ordinal = ordinal
        self.input_codec = input_codec
        if not isinstance(parents, list | tuple):
            raise InvalidDefinition(
                f"Task {self.name!r} of {workflow!r}: parents={parents!r} is no list "
                "of tasks."
            )
        self.parents = tuple(parents)
        self.wait_for = check_condition(wait_for, "wait_for")
        self.skip_if = check_condition(skip_if, "skip_if")
        self.cancel_if = check_condition(cancel_if, "cancel_if")
        self.handles = handles
        self.retries = Retry.of(retries)
        self.execution_timeout = options.check_timeout(
            "execution_timeout", execution_timeout
        )
        self.schedule_timeout = options.check_timeout(
            "schedule_timeout", schedule_timeout
        )
        if queue_name is not None:
            options.check_name(queue_name, "queue")
        self.queue_name = queue_name
        self.slot_cost = options.check_slot_cost(slot_cost)
        self.isolated = options.check_flag("isolated", isolated)
        self.is_async = inspect.iscoroutinefunction(function)
        self.__doc__ = function.__doc__

    def __repr__(self) -> str:
        return f"<TaskDefinition {self.workflow}: {self.name}>"

    # For callers.

    def call(self, ctx: Context[Input]) -> Output:
        """Call the function here and now, without a run; an async one to its end."""
        if self.is_async:
            function = cast("Callable[..., Coroutine[Any, Any, Output]]", self.function)
            return async_to_sync(function)(ctx)
        return cast("Output", self.function(ctx))

    async def acall(self, ctx: Context[Input]) -> Output:
        """`call` for async callers; a sync function is called in a thread."""
        if self.is_async:
            return cast("Output", await self.function(ctx))
        return cast("Output", await sync_to_async(self.function)(ctx))

    # For the registry and the engine.

    def data(self) -> dict[str, Any]:
        """The node as data of its version's shape; times in seconds."""
        execution = self.execution_timeout or settings.execution_timeout
        schedule = self.schedule_timeout or settings.schedule_timeout
        return {
            "name": self.name,
            "parents": [parent.name for parent in self.parents],
            "queue_name": self.queue_name,
            "retries": self.retries.to_dict(),
            "execution_timeout": execution and execution.total_seconds(),
            "schedule_timeout": schedule and schedule.total_seconds(),
            "isolated": self.isolated,
            "slot_cost": self.slot_cost,
            **{slot: tree.to_dict() for slot, tree in self.conditions.items()},
            # The success is that of its parents: nothing else releases it.
            **({"handles": self.handles} if self.handles == "failure" else {}),
        }

    @property
    def conditions(self) -> dict[str, Condition]:
        """Its conditions by option."""
        found = {
            "wait_for": self.wait_for,
            "skip_if": self.skip_if,
            "cancel_if": self.cancel_if,
        }
        return {option: tree for option, tree in found.items() if tree is not None}

    # For workers.

    def decode_input(self, text: str) -> Any:
        """The input as the function takes it, from stored JSON.

        Raises InvalidInput where the type has changed since it was stored.
        """
        try:
            return self.decode_plain_input(loads(text))
        except Misfit as misfit:
            raise invalid(misfit, what=f"Input of {self.workflow}") from None

    def decode_plain_input(self, value: Any) -> Any:
        """The input, from JSON's own types; raises Misfit."""
        return None if self.input_codec is None else self.input_codec.decode(value)

    def invoke(self, ctx: Context[Any]) -> Any:
        """Call the function with what it takes: its result, or a coroutine of it."""
        return self.function(ctx)

    def durable_context(
        self, about: dict[str, Any], journal: Journal | None
    ) -> Context[Any]:
        """The context of a durable task; only those have one."""
        raise InvalidDefinition(f"Task {self.name!r} is not durable.")

    @cached_property
    def output_codec(self) -> Codec:
        """The codec of the annotated return type; any JSON where there is none.

        Raises InvalidDefinition where that type has no place in JSON.
        """
        kind = hints(self.function).get("return", Any)
        return ANYTHING if kind is Any else codec_for(kind)

    def encode_output(self, value: Any) -> str | None:
        """What the function returned, as JSON text to store; None stores nothing.

        Raises InvalidOutput with the path of what does not fit.
        """
        what = f"Output of {self.name}"
        try:
            plain = self.output_codec.encode(value)
        except Misfit as misfit:
            raise invalid(misfit, what=what, output=True) from None
        if plain is None:
            return None
        return dumps(plain, limit=settings.max_output_bytes, what=what, sanitise=True)

    def decode_output(self, value: Any) -> Output:
        """An output as the function returned it, from JSON's own types.

        Raises InvalidInput where the return type has changed since it was stored.
        """
        try:
            return cast("Output", self.output_codec.decode(value))
        except Misfit as misfit:
            raise invalid(misfit, what=f"Output of {self.name}") from None


def check_function(function: Any) -> Callable[..., Any]:
    """A function that a task can be made of."""
    if not inspect.isfunction(function):
        raise InvalidDefinition(
            f"{function!r} is not a function; decorate one made with def or async def."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidDefinition(
            f"{function.__qualname__} yields; let it return a list instead."
        )
    return function


def check_takes_context(function: Callable[..., Any]) -> None:
    """A function that can be called with `ctx` alone."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise InvalidDefinition(
            f"{function.__qualname__} should take one argument, ctx; the input is "
            "ctx.input and a parent's output is ctx.output(parent)."
        ) from None


def check_parents(
    workflow: str,
    name: str,
    parents: Sequence[TaskDefinition[Any, Any]],
    known: Mapping[str, object],
) -> None:
    """Parents that are tasks of the same workflow, declared before."""
    for parent in parents:
        if not isinstance(parent, TaskDefinition):
            raise InvalidDefinition(
                f"Task {name!r} of {workflow!r} has the parent {parent!r}, which is no "
                "task of a workflow; give the decorated function itself."
            )
        if known.get(parent.name) is not parent:
            raise InvalidDefinition(
                f"Task {name!r} of {workflow!r} has the parent {parent.name!r}, which "
                f"belongs to {parent.workflow!r}; parents are tasks of the same "
                "workflow."
            )
        if parent.handles:
            raise InvalidDefinition(
                f"Task {name!r} of {workflow!r} has the parent {parent.name!r}, which "
                f"is its on_{parent.handles}; no task can wait for that."
            )
    if len(set(parents)) < len(parents):
        raise InvalidDefinition(
            f"Task {name!r} of {workflow!r} names a parent twice; name it once."
        )


def check_conditions(task: TaskDefinition[Any, Any]) -> None:
    """Conditions that ask for the outputs of parents alone."""
    for option, tree in task.conditions.items():
        for leaf in tree.leaves():
            if not isinstance(leaf, ParentCondition) or leaf.parent in task.parents:
                continue
            raise InvalidDefinition(
                f"Task {task.name!r} of {task.workflow!r}: {option}= has a "
                f"ParentCondition on {leaf.parent_name!r}, which is not among its "
                "parents=. Add it there, as the decorated function itself."
            )
