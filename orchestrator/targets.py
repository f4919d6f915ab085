"""Targets: a workflow with the options of a call, and what enqueues its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from asgiref.sync import sync_to_async

from orchestrator.calls import Call, CallOptions
from orchestrator.exceptions import InvalidInput
from orchestrator.runs import RunHandle
from orchestrator.submission import Prepared, numbered, submit, submit_many

if TYPE_CHECKING:
    from orchestrator.workflows import WorkflowDefinition

Input = TypeVar("Input")

Outputs = dict[str, Any]  # a workflow's: those of its tasks that completed, by name

MISSING: Any = object()  # an input that was not given; None may be one


class WorkflowTarget(Generic[Input]):
    """A workflow with the options of a call: what `using` gives.

    Enqueueing joins the caller's transaction: a rollback leaves nothing.
    """

    definition: WorkflowDefinition[Input]
    options: CallOptions

    def __init__(
        self, definition: WorkflowDefinition[Input], options: CallOptions
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
    ) -> WorkflowTarget[Input]:
        """The workflow with other options for the runs enqueued by it.

        `priority` is -100 to 100, larger is first; `run_after` an aware datetime;
        `queue_name` is for all tasks of the run; `metadata` is laid over what there
        is already; `tenant` labels the run. No other run is made of an
        `idempotency_key` while one holds it: for a day, or as the workflow's
        Idempotency says; `idempotency_scope` shares keys between workflows. Raises
        InvalidInput.
        """
        options = self.options.using(
            priority=priority,
            run_after=run_after,
            queue_name=queue_name,
            metadata=metadata,
            tenant=tenant,
            idempotency_key=idempotency_key,
            idempotency_scope=idempotency_scope,
        )
        return WorkflowTarget(self.definition, options)

    @overload
    def enqueue(self: WorkflowTarget[None]) -> RunHandle[Outputs]: ...

    @overload
    def enqueue(self, input: Input) -> RunHandle[Outputs]: ...

    def enqueue(self, input: Any = MISSING) -> RunHandle[Outputs]:
        """Create a run; raises InvalidInput with the path of what does not fit.

        With an idempotency key, raises IdempotencyCollision where another run holds
        it, and may wait for another transaction that has claimed it.
        """
        return self._enqueue(input)

    @overload
    async def aenqueue(self: WorkflowTarget[None]) -> RunHandle[Outputs]: ...

    @overload
    async def aenqueue(self, input: Input) -> RunHandle[Outputs]: ...

    async def aenqueue(self, input: Any = MISSING) -> RunHandle[Outputs]:
        """`enqueue` for async callers."""
        return await sync_to_async(self._enqueue)(input)

    @overload
    def bind(self: WorkflowTarget[None]) -> Call[Outputs]: ...

    @overload
    def bind(self, input: Input) -> Call[Outputs]: ...

    def bind(self, input: Any = MISSING) -> Call[Outputs]:
        """A call to enqueue later; raises InvalidInput as `enqueue` does."""
        text = self.definition.encode_input(input)
        return Call(self.definition, text, self.options)

    def enqueue_many(
        self, inputs: Iterable[Input | Call[Outputs]]
    ) -> list[RunHandle[Outputs]]:
        """Create a run for each input, or call made by `bind`: all, or none.

        Raises InvalidInput with the index of the one that does not fit, and
        BulkIdempotencyCollision where others hold keys: the rest is made then.
        """
        calls = list(numbered(inputs, self._prepared))
        return [RunHandle(run_id) for run_id in submit_many(self.definition, calls)]

    async def aenqueue_many(
        self, inputs: Iterable[Input | Call[Outputs]]
    ) -> list[RunHandle[Outputs]]:
        """`enqueue_many` for async callers."""
        return await sync_to_async(self.enqueue_many)(inputs)

    def _enqueue(self, input: Any) -> RunHandle[Outputs]:
        definition = self.definition
        text = definition.encode_input(input)
        return RunHandle(submit(definition, self.options, text))

    def _prepared(self, item: Any) -> Prepared:
        if isinstance(item, Call):
            return prepared_call(self.definition, self.options, item)
        return self.options, self.definition.encode_input(item)


def prepared_call(
    definition: WorkflowDefinition[Any], options: CallOptions, call: Call[Any]
) -> Prepared:
    """A call of this workflow, ready to be submitted; raises InvalidInput.

    `options` are those of the target that enqueues it; a call that was bound with
    options of its own keeps them.
    """
    if call.definition is not definition:
        raise InvalidInput(
            f"It is bound to {call.definition.name!r}, not to {definition.name!r}; "
            "enqueue it with its own target."
        )
    own = call.options is not definition.options
    return call.options if own else options, call.input
