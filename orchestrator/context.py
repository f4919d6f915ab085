"""Context: what a task is handed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from orchestrator.definitions import TaskDefinition
from orchestrator.engine import outcome, sessions
from orchestrator.engine.claim import Claim
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import TaskCancelled, TaskFailed, UnknownTask
from orchestrator.serialization import loads
from orchestrator.states import TaskRunStatus

Input_co = TypeVar("Input_co", covariant=True)
Output = TypeVar("Output")


class Context(Generic[Input_co]):
    """What a task knows of its run: `def index(ctx: Context[Shelf]) -> int`.

    `attempt` counts from 1 and is never reset. `version` is the digest of the shape
    that the run is bound to. `metadata`, `tenant` and `priority` are the run's.
    """

    def __init__(
        self,
        *,
        input: Any,
        definition: TaskDefinition[Any, Any],
        parents: Mapping[str, ParentOutput],
        run_id: UUID,
        task_run_id: UUID,
        version: str,
        version_id: int,
        attempt: int,
        metadata: dict[str, Any],
        tenant: str,
        priority: int,
        worker_id: UUID | None,
    ) -> None:
        self.input: Input_co = input
        self.run_id = run_id
        self.task_run_id = task_run_id
        self.workflow = definition.workflow
        self.task = definition.name
        self.version = version
        self.attempt = attempt
        self.metadata = metadata
        self.tenant = tenant
        self.priority = priority
        self.worker_id = worker_id
        self._version_id = version_id
        self._definition = definition
        self._parents = parents
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<Context {self.workflow}: {self.task}, run {self.run_id}>"

    def output(self, parent: TaskDefinition[Any, Output]) -> Output:
        """What a parent returned; None where it was skipped or returned None.

        Raises UnknownTask where `parent` is not among this task's parents.
        """
        text = self._parent(parent).output
        if text is None:
            return cast("Output", None)
        return parent.decode_output(loads(text))

    def was_skipped(self, parent: TaskDefinition[Any, Any]) -> bool:
        """Whether a parent was skipped rather than executed.

        Raises UnknownTask where `parent` is not among this task's parents.
        """
        return self._parent(parent).status == TaskRunStatus.SKIPPED

    @property
    def errors(self) -> dict[str, TaskFailed]:
        """The errors of the run's failed tasks so far, read from the database now."""
        states = outcome.task_states(
            sessions.django_session(), self.run_id, self._version_id
        )
        return {
            state.name: TaskFailed.of(state.name, state.error, state.status_reason)
            for state in states
            if state.status == TaskRunStatus.FAILED
        }

    @property
    def is_cancelled(self) -> bool:
        """Whether the task run was cancelled or timed out meanwhile: stop soon."""
        return self._cancelled

    def check_cancelled(self) -> None:
        """End the task here if `is_cancelled`; raises TaskCancelled."""
        if self._cancelled:
            raise TaskCancelled

    def mark_cancelled(self) -> None:
        """Let the task know; called by the worker, from any thread."""
        self._cancelled = True

    def _parent(self, parent: TaskDefinition[Any, Any]) -> ParentOutput:
        if parent not in self._definition.parents:
            known = ", ".join(repr(task.name) for task in self._definition.parents)
            raise UnknownTask(
                f"{getattr(parent, 'name', parent)!r} is not a parent of "
                f"{self.task!r}; its parents are {known or 'none'}. Add it to parents= "
                "to read its output."
            )
        # A parent that the run's version did not have yet never ran in it.
        return self._parents.get(parent.name, _ABSENT)


_ABSENT = ParentOutput(TaskRunStatus.SKIPPED, None)


def build(
    definition: TaskDefinition[Any, Any],
    claim: Claim,
    shape: Shape,
    parents: Mapping[str, ParentOutput],
    worker_id: UUID | None,
) -> Context[Any]:
    """The context of a claimed attempt.

    Raises InvalidInput where the stored input no longer fits its type.
    """
    return Context(
        input=definition.decode_input(claim.input),
        definition=definition,
        parents=parents,
        run_id=claim.run_id,
        task_run_id=claim.task_run_id,
        version=shape.digest,
        version_id=shape.version_id,
        attempt=claim.attempt,
        metadata=loads(claim.metadata),
        tenant=claim.tenant,
        priority=claim.priority,
        worker_id=worker_id,
    )
