"""Handlers: the tasks of a workflow that its failure or its success releases."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Generic, Protocol, TypedDict, TypeVar, Unpack, overload

from orchestrator.context import Context
from orchestrator.definitions import TaskDefinition
from orchestrator.exceptions import InvalidDefinition
from orchestrator.options import check_options
from orchestrator.policies import Retry

Input = TypeVar("Input")
Output = TypeVar("Output")

Coroutines = Coroutine[Any, Any, Output]

FAILURE, SUCCESS = "failure", "success"


class HandlerOptions(TypedDict, total=False):
    """The options of `on_failure` and `on_success`."""

    name: str | None
    retries: int | Retry
    execution_timeout: timedelta | None
    schedule_timeout: timedelta | None
    queue_name: str | None
    slot_cost: int
    isolated: bool


class TaskDecorator(Protocol[Input]):
    """What `workflow.task(…)` gives, and a handler's: it makes a TaskDefinition."""

    @overload
    def __call__(
        self, function: Callable[[Context[Input]], Coroutines[Output]], /
    ) -> TaskDefinition[Input, Output]: ...

    @overload
    def __call__(
        self, function: Callable[[Context[Input]], Output], /
    ) -> TaskDefinition[Input, Output]: ...


class Handlers(Generic[Input]):
    """The part of a workflow that declares its handlers."""

    name: str
    tasks: dict[str, TaskDefinition[Input, Any]]

    def declare(
        self, function: Callable[..., Any], **options: Any
    ) -> TaskDefinition[Input, Any]:
        """Make a task of a function and take it into the workflow."""
        raise TypeError(f"{type(self).__name__} declares no tasks.")

    @overload
    def on_failure(
        self, function: Callable[[Context[Input]], Coroutines[Output]], /
    ) -> TaskDefinition[Input, Output]: ...

    @overload
    def on_failure(
        self, function: Callable[[Context[Input]], Output], /
    ) -> TaskDefinition[Input, Output]: ...

    @overload
    def on_failure(
        self, /, **options: Unpack[HandlerOptions]
    ) -> TaskDecorator[Input]: ...

    def on_failure(self, function: Any = None, /, **options: Any) -> Any:
        """Declare what is executed once a task of a run has failed for good.

        At once, while other tasks may still run; `ctx.errors` has what has failed by
        then. The run stays FAILED. Where no task fails it is SKIPPED. It has options
        of its own, and is the parent of no task.

        Raises InvalidDefinition, also where there is one already.
        """
        return self._handler(FAILURE, "on_failure", function, options)

    @overload
    def on_success(
        self, function: Callable[[Context[Input]], Coroutines[Output]], /
    ) -> TaskDefinition[Input, Output]: ...

    @overload
    def on_success(
        self, function: Callable[[Context[Input]], Output], /
    ) -> TaskDefinition[Input, Output]: ...

    @overload
    def on_success(
        self, /, **options: Unpack[HandlerOptions]
    ) -> TaskDecorator[Input]: ...

    def on_success(self, function: Any = None, /, **options: Any) -> Any:
        """Declare what is executed once all other tasks of a run have completed.

        A task whose parents are all those that are no parent of another one, also of
        those declared later: cancelled where one of them fails or is cancelled, skipped
        where all of them were.

        Raises InvalidDefinition, also where there is one already.
        """
        return self._handler(SUCCESS, "on_success", function, options)

    def _handler(
        self, handles: str, option: str, function: Any, options: dict[str, Any]
    ) -> Any:
        check_options(option, options, tuple(HandlerOptions.__annotations__))

        def decorate(function: Callable[..., Any]) -> TaskDefinition[Input, Any]:
            if any(task.handles == handles for task in self.tasks.values()):
                raise InvalidDefinition(
                    f"{self.name!r} has an {option} already; a workflow has one."
                )
            return self.declare(function, handles=handles, **options)

        return decorate if function is None else decorate(function)

    def check_handlers(self) -> None:
        """Raises InvalidDefinition where there is nothing to handle."""
        if self.tasks and all(task.handles for task in self.tasks.values()):
            raise InvalidDefinition(
                f"{self.name!r} has no task besides its handlers. Add one with "
                "@workflow.task."
            )

    def connect_success(self) -> None:
        """Make `on_success` wait for the tasks that no other one waits for."""
        plain = [task for task in self.tasks.values() if not task.handles]
        awaited = {parent for task in plain for parent in task.parents}
        for task in self.tasks.values():
            if task.handles == SUCCESS:
                task.parents = tuple(leaf for leaf in plain if leaf not in awaited)
