"""Workflows: declaring them and their tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal, TypeVar, overload

from orchestrator import options, registry
from orchestrator.calls import CallOptions, dump_metadata
from orchestrator.codecs import Codec, codec_for, verify
from orchestrator.conditions import Condition
from orchestrator.conf import settings
from orchestrator.context import Context
from orchestrator.definitions import (
    TaskDefinition,
    check_conditions,
    check_parents,
    check_takes_context,
)
from orchestrator.durable.declare import Durables
from orchestrator.engine import versions
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import InvalidDefinition, InvalidInput
from orchestrator.handlers import Handlers, TaskDecorator
from orchestrator.idempotency import check as check_idempotency
from orchestrator.policies import Idempotency, Retry
from orchestrator.serialization import Misfit, dumps, invalid
from orchestrator.targets import MISSING, WorkflowTarget

Input = TypeVar("Input")
Output = TypeVar("Output")

Coroutines = Coroutine[Any, Any, Output]


class WorkflowDefinition(Handlers[Input], Durables[Input], WorkflowTarget[Input]):
    """A workflow: a name, a type of input, and tasks that form a graph.

    Made by `workflow(…)`; `task` declares its tasks, in an order where parents come
    first, so a cycle cannot be written.
    """

    def __init__(
        self,
        name: str,
        *,
        module: str,
        input_codec: Codec | None,
        description: str = "",
        queue_name: str = "default",
        priority: int = 0,
        metadata: Mapping[str, Any] | None = None,
        idempotency: Idempotency | None = None,
        standalone: bool = False,
    ) -> None:
        self.definition = self
        self.name = options.check_name(name, "workflow")
        self.module = module
        self.input_codec = input_codec
        self.description = description
        self.queue_name = options.check_name(queue_name, "queue")
        self.priority = options.check_priority(priority)
        self.metadata = options.check_metadata(metadata)
        self.idempotency = check_idempotency(idempotency, name)
        self.standalone = standalone
        self.tasks: dict[str, TaskDefinition[Input, Any]] = {}
        registry.add(self)

    def __repr__(self) -> str:
        return f"<WorkflowDefinition {self.name}>"

    @cached_property
    def options(self) -> CallOptions:  # type: ignore[override]
        """The options of calls without `using`."""
        return CallOptions(
            priority=self.priority, metadata=dump_metadata(self.metadata)
        )

    @overload
    def task(
        self, function: Callable[[Context[Input]], Coroutines[Output]], /
    ) -> TaskDefinition[Input, Output]: ...

    @overload
    def task(
        self, function: Callable[[Context[Input]], Output], /
    ) -> TaskDefinition[Input, Output]: ...

    @overload
    def task(
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
    ) -> TaskDecorator[Input]: ...

    def task(
        self,
        function: Any = None,
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
    ) -> Any:
        """Declare a task: `@wf.task`, or `@wf.task(parents=[…], retries=3, …)`.

        The function takes `ctx`. It is executed once its `parents` have completed and
        `wait_for` holds, unless `skip_if` or `cancel_if` does: each is one condition;
        `retries` is a number or a Retry; an attempt may take `execution_timeout` and a
        ready task may wait for `schedule_timeout`; `isolated` executes in a process
        of its own, killed at its timeout; `slot_cost` is how many slots it takes.

        Raises InvalidDefinition.
        """

        def decorate(function: Callable[..., Any]) -> TaskDefinition[Input, Any]:
            return self.declare(
                function,
                name=name,
                parents=parents,
                wait_for=wait_for,
                skip_if=skip_if,
                cancel_if=cancel_if,
                retries=retries,
                execution_timeout=execution_timeout,
                schedule_timeout=schedule_timeout,
                queue_name=queue_name,
                slot_cost=slot_cost,
                isolated=isolated,
            )

        return decorate if function is None else decorate(function)

    def declare(
        self,
        function: Callable[..., Any],
        kind: type[TaskDefinition[Any, Any]] = TaskDefinition,
        **options: Any,
    ) -> TaskDefinition[Input, Any]:
        """Make a task of a function and take it into the workflow.

        Raises InvalidDefinition.
        """
        task = kind(
            function,
            workflow=self.name,
            ordinal=len(self.tasks),
            input_codec=self.input_codec,
            **options,
        )
        check_takes_context(task.function)
        self.add(task)
        return task

    def add(self, task: TaskDefinition[Input, Any]) -> None:
        """Take a task into the workflow; raises InvalidDefinition."""
        if task.name in self.tasks:
            raise InvalidDefinition(
                f"Two tasks of {self.name!r} are named {task.name!r}; give one of them "
                "another name=."
            )
        check_parents(self.name, task.name, task.parents, self.tasks)
        check_conditions(task)
        self.tasks[task.name] = task
        self.connect_success()
        self._forget("shape", "root_queues")
        registry.changed()

    def _forget(self, *names: str) -> None:
        for name in names:
            self.__dict__.pop(name, None)

    @cached_property
    def shape(self) -> Shape:
        """What the engine knows of the workflow.

        Raises InvalidDefinition where it has no tasks.
        """
        self.check_handlers()
        data = {
            "workflow": self.name,
            "description": self.description,
            "standalone": self.standalone,
            "queue_name": self.queue_name,
            "priority": self.priority,
            "tasks": [task.data() for task in self.tasks.values()],
        }
        if self.idempotency is not None:
            data["idempotency"] = self.idempotency.to_dict()
        shape = Shape.build(self.name, data)
        versions.remember(shape)
        return shape

    @cached_property
    def root_queues(self) -> frozenset[int]:
        """The queues where the first tasks of a run are ready at once."""
        return frozenset(
            task.queue_id
            for task in self.shape.tasks
            if not task.parents and not task.judged
        )

    def verify(self) -> None:
        """Look at all that is only read when needed; raises InvalidDefinition."""
        codecs = [task.output_codec for task in self.tasks.values()]
        if self.input_codec is not None:
            codecs.append(self.input_codec)
        for codec in codecs:
            verify(codec)
        try:
            self.options  # noqa: B018 - reads the metadata
        except InvalidInput as error:
            raise InvalidDefinition(str(error)) from None
        self.shape  # noqa: B018 - raises without tasks

    def encode_input(self, input: Any = MISSING) -> str:
        """The input as JSON text; raises InvalidInput with the path."""
        limit = settings.max_input_bytes
        if self.input_codec is not None:
            text = self.input_codec.shortcut(input)
            if text is not None and len(text) <= limit:
                return text
        what = f"Input of {self.name}"
        if self.input_codec is None:
            if input is not MISSING and input is not None:
                raise InvalidInput(
                    f"{what}: it takes none; declare input= to take one."
                )
            return "null"
        if input is MISSING:
            raise InvalidInput(f"{what} is missing; give {self.input_codec.name}.")
        try:
            plain = self.input_codec.encode(input)
        except Misfit as misfit:
            raise invalid(misfit, what=what) from None
        return dumps(plain, limit=limit, what=what)


@overload
def workflow(
    name: str,
    *,
    input: None = None,
    description: str = "",
    queue_name: str = "default",
    priority: int = 0,
    metadata: Mapping[str, Any] | None = None,
    idempotency: Idempotency | None = None,
    versioning: Literal["latest"] = "latest",
) -> WorkflowDefinition[None]: ...


@overload
def workflow(
    name: str,
    *,
    input: type[Input],
    description: str = "",
    queue_name: str = "default",
    priority: int = 0,
    metadata: Mapping[str, Any] | None = None,
    idempotency: Idempotency | None = None,
    versioning: Literal["latest"] = "latest",
) -> WorkflowDefinition[Input]: ...


def workflow(
    name: str,
    *,
    input: Any = None,
    description: str = "",
    queue_name: str = "default",
    priority: int = 0,
    metadata: Mapping[str, Any] | None = None,
    idempotency: Idempotency | None = None,
    versioning: Literal["latest"] = "latest",
) -> WorkflowDefinition[Any]:
    """Declare a workflow, in a `workflows` or `tasks` module of an installed app.

    `input` is the type of its input (a dataclass, TypedDict, pydantic model, or dict
    for any JSON object), None for none. `queue_name`, `priority` (-100 to 100, larger
    is first) and `metadata` are what its runs get unless `using` says otherwise;
    `idempotency` makes no second run of the same key. Any
    worker that knows a task may execute it, whatever the version of the run.

    Raises InvalidDefinition.
    """
    if versioning != "latest":
        raise InvalidDefinition(f"versioning={versioning!r} is unknown; use 'latest'.")
    return WorkflowDefinition(
        name,
        module=sys._getframe(1).f_globals.get("__name__", "?"),
        input_codec=None if input is None else codec_for(input),
        description=description,
        queue_name=queue_name,
        priority=priority,
        metadata=metadata,
        idempotency=idempotency,
    )
