"""What can go wrong, by name. A class's first docstring line is its default message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured


class OrchestratorError(Exception):
    """The orchestrator could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(type(self)._default() if message is None else message)

    @classmethod
    def _default(cls) -> str:
        return (cls.__doc__ or cls.__name__).strip().partition("\n")[0]


class SettingsError(OrchestratorError, ImproperlyConfigured):
    """The ORCHESTRATOR setting is not valid."""


class DatabaseTooOld(OrchestratorError):
    """The PostgreSQL server is older than version 15; upgrade it."""


class InvalidDefinition(OrchestratorError):
    """A workflow or a task is declared in a way that cannot work."""


class InvalidExpression(InvalidDefinition):
    """A CEL expression has a mistake in it, or names what its place does not have."""


class ExpressionFailed(OrchestratorError):
    """A CEL expression could not be evaluated with the values at hand."""


class InvalidValue(OrchestratorError):
    """The value cannot be stored as JSON.

    `path` names the place, `$` being the whole value: `$.lines[3].sku`.
    """

    def __init__(self, message: str | None = None, *, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class InvalidInput(InvalidValue):
    """The input does not fit what the workflow takes."""


class InvalidOutput(InvalidValue):
    """The output of a task cannot be stored as JSON."""


class IdempotencyCollision(OrchestratorError):
    """Another run holds the idempotency key.

    `run_id` is that run, `scope` and `key` what it holds; `index` is the place of the
    call in `enqueue_many`, from 0.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        run_id: UUID,
        scope: str = "",
        key: str = "",
        index: int = 0,
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.scope = scope
        self.key = key
        self.index = index

    @classmethod
    def of(cls, index: int, scope: str, key: str, run_id: UUID) -> IdempotencyCollision:
        """With the message that says who holds the key."""
        return cls(
            f"Run {run_id} holds the idempotency key {key!r} in the scope {scope!r}. "
            "Take that one: RunHandle.get(error.run_id).",
            run_id=run_id,
            scope=scope,
            key=key,
            index=index,
        )


class BulkIdempotencyCollision(OrchestratorError):
    """Other runs hold some of the idempotency keys; the rest of the runs was made.

    `created` are the handles of those, `collisions` an IdempotencyCollision for each
    of the others, both in the order of the calls.
    """

    def __init__(
        self, created: Sequence[Any], collisions: Sequence[IdempotencyCollision]
    ) -> None:
        super().__init__(
            f"{len(created)} runs were made; {len(collisions)} were not, since other "
            f"runs hold their idempotency keys. The first: {collisions[0]}"
        )
        self.created = list(created)
        self.collisions = list(collisions)


class UnknownWorkflow(OrchestratorError):
    """No workflow of that name is declared; check the name and INSTALLED_APPS."""


class UnknownTask(OrchestratorError):
    """The workflow has no task of that name."""


class RunNotFound(OrchestratorError):
    """There is no such run: its id is wrong, or its history has been dropped."""


class IllegalTransition(OrchestratorError):
    """The run is not in a state that allows this."""


class InvalidFilter(OrchestratorError):
    """The filter does not say which runs."""


class WaitingInTransaction(OrchestratorError):
    """A transaction cannot wait for a run that it has not committed.

    Ask for the result after the `atomic` block, or test with
    `orchestrator.testing.drain()` first.
    """


class TaskFailed(OrchestratorError):
    """A task of the run failed; `task` is its name, the rest describes its error."""

    def __init__(
        self, task: str, error_type: str, message: str, traceback: str = ""
    ) -> None:
        super().__init__(f"{task}: {error_type}: {message}")
        self.task = task
        self.error_type = error_type
        self.message = message
        self.traceback = traceback

    @classmethod
    def of(
        cls, task: str, error: Mapping[str, str] | None, reason: str = ""
    ) -> TaskFailed:
        """From a stored error; where there is none, `reason` says why it failed."""
        stored = error or {}
        return cls(
            task,
            stored.get("type", "Failed"),
            stored.get("message", reason),
            stored.get("traceback", ""),
        )


class RunFailed(OrchestratorError, ExceptionGroup[TaskFailed]):
    """The run failed; its exceptions are the errors of its failed tasks."""

    def __new__(cls, message: str, exceptions: Sequence[TaskFailed]) -> RunFailed:
        """An exception group, which takes the message and the exceptions."""
        return super().__new__(cls, message, exceptions)

    def __init__(self, message: str, exceptions: Sequence[TaskFailed]) -> None:
        super().__init__(message)

    @property
    def errors(self) -> dict[str, TaskFailed]:
        """The errors by the names of their tasks."""
        return {
            error.task: error
            for error in self.exceptions
            if isinstance(error, TaskFailed)
        }

    def derive(self, excs: Sequence[TaskFailed]) -> RunFailed:  # type: ignore[override]
        """Keep the class when `except*` or `split` takes a part of the group."""
        return type(self)(self.message, excs)


class RunCancelled(OrchestratorError):
    """The run was cancelled."""


class NonDeterminism(OrchestratorError):
    """A durable function asked for something else than its journal has on record.

    `position` is that of the call in the journal, from 1; `recorded` and `asked` are
    what it was and what it is. Another attempt would find the same, so it ends the
    attempt without retries unless it is caught.
    """

    def __init__(self, position: int, recorded: str, asked: str) -> None:
        super().__init__(
            f"Non-determinism at position {position} of the journal: on record is "
            f"{recorded!r}, asked for is {asked!r}. Take what may change between two "
            "executions from ctx.now(), ctx.step(…) or the input, or start a new "
            f"branch: handle.branch(task, {position})."
        )
        self.position = position
        self.recorded = recorded
        self.asked = asked


class NonRetryable(OrchestratorError):
    """The task failed in a way that another attempt cannot mend.

    Raise it in a task, or a subclass of it: the task run fails at once.
    """


class LeaseLost(OrchestratorError):
    """The task run no longer belongs to this attempt; what it reports has no effect."""


class WorkerLost(OrchestratorError):
    """The worker died too often while it executed this task."""


class TaskTimedOut(OrchestratorError):
    """The task exceeded its execution timeout."""


class TaskCancelled(BaseException):
    """The task run was cancelled while it was executed.

    Raised by `ctx.check_cancelled()` and `ctx.cancel()`, and in an isolated process.
    Control flow, so it passes `except Exception`.
    """


class Suspend(BaseException):
    """A durable function has to wait: its attempt ends here and another one follows.

    Control flow, so it passes `except Exception`. Let it pass.
    """
