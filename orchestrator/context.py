"""Context: what a task is handed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import count
from typing import Any, Generic, NoReturn, TypeVar, cast
from uuid import UUID

from orchestrator.children import Spawning
from orchestrator.definitions import TaskDefinition
from orchestrator.engine import outcome, sessions
from orchestrator.engine.claim import Claim
from orchestrator.engine.journal import Journal
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import TaskCancelled, TaskFailed, UnknownTask
from orchestrator.hosts import Host
from orchestrator.serialization import loads
from orchestrator.states import TaskRunStatus
from orchestrator.voices import Outlet, Voice

Input_co = TypeVar("Input_co", covariant=True)
Output = TypeVar("Output")


class Context(Spawning, Generic[Input_co]):
    """What a task knows of its run: `def index(ctx: Context[Shelf]) -> int`.

    `attempt` counts from 1 and is never reset. `version` is the digest of the shape
    that the run is bound to. `metadata`, `tenant` and `priority` are the run's;
    `event_id` is the event that it was made for, if any.
    """

    # Of the class, so that what few attempts need costs the others nothing.
    cancel_reason: str | None = None  # of `cancel`
    extend: Callable[[float], None] | None = None  # set by the worker
    _cancelled = False
    _voice: Voice | None = None

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
        event_id: UUID | None = None,
        host: Host | None = None,
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
        self.event_id = event_id
        self._host = Host() if host is None else host
        self._number = attempt
        self._spawned = count()
        self._version_id = version_id
        self._definition = definition
        self._parents = parents

    def __repr__(self) -> str:
        return f"<Context {self.workflow}: {self.task}, run {self.run_id}>"

    @property
    def worker_id(self) -> UUID | None:
        """The worker that executes this attempt; None in a test."""
        return self._host.worker_id

    @property
    def worker_labels(self) -> dict[str, str]:
        """The labels of that worker: `runworker --label region=eu`."""
        return self._host.labels

    @property
    def lifespan(self) -> Any:
        """What `ORCHESTRATOR["LIFESPAN"]` gave in this process; None without one."""
        return self._host.lifespan

    @property
    def event_key(self) -> str | None:
        """The key of the event that the run was made for."""
        return None

    @property
    def filter_payload(self) -> dict[str, Any]:
        """The payload of the filter that made the run of its event; {} without one."""
        return {}

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

    def cancel(self, reason: str = "") -> NoReturn:
        """End this task here: it is CANCELLED, and so is all that depends on it.

        Raises TaskCancelled. Whatever the function does afterwards, returns or raises,
        that is how it ends; it is not retried, and is no failure.
        """
        self.cancel_reason = str(reason)
        self._cancelled = True
        raise TaskCancelled(reason)

    def refresh_timeout(self, more: timedelta) -> None:
        """Add to the time that this attempt may take; nothing where it has no limit.

        Raises ValueError where `more` is not a timedelta of more than zero.
        """
        given: object = more
        if not isinstance(given, timedelta) or given <= timedelta(0):
            raise ValueError(
                f"refresh_timeout({more!r}): give a timedelta of more than zero, which "
                "is added to the execution timeout."
            )
        if self.extend is not None:
            self.extend(more.total_seconds())

    # Saying something.

    @property
    def is_replaying(self) -> bool:
        """Whether a durable function is on the way to where it was before.

        What it says there, it has said already: it is not said again.
        """
        return False

    @property
    def voice(self) -> Voice:
        """What this attempt speaks with."""
        if self._voice is None:
            with _first_word:
                if self._voice is None:
                    self._voice = Voice(
                        self._host.outlet, self.run_id, self.task_run_id, self._number
                    )
        return self._voice

    def log(self, message: object, level: str | int = "INFO", **fields: Any) -> None:
        """Say a line, kept with this attempt; `fields` are shown with it.

        Up to 8 KiB, 10,000 lines an attempt. Python's `logging` in a task comes here,
        too. Never fails the task. Stored within a second, or with the end.
        """
        if not self.is_replaying:
            self.voice.log(message, level, fields)

    def progress(
        self, done: float, total: float | None = None, message: str = ""
    ) -> None:
        """Say how far this task is; the latest word is shown until it ends.

        Raises InvalidOutput where `done` or `total` is no finite number.
        """
        if not self.is_replaying:
            self.voice.progress(done, total, message)

    def stream(self, chunk: Any) -> None:
        """Send a chunk, text or other JSON, to whoever reads `handle.stream()`.

        Raises InvalidOutput where it is not JSON, or larger than an output may be.
        """
        if not self.is_replaying:
            self.voice.stream(chunk)

    @property
    def outlet(self) -> Outlet:
        """Where it goes."""
        return self._host.outlet

    def end_of_attempt(self) -> None:
        """Say what is left to say; called by the worker."""
        if self._voice is not None:
            self._voice.close()

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


_first_word = threading.Lock()

_ABSENT = ParentOutput(TaskRunStatus.SKIPPED, None)


def build(
    definition: TaskDefinition[Any, Any],
    claim: Claim,
    shape: Shape,
    parents: Mapping[str, ParentOutput],
    host: Host,
    journal: Journal | None = None,
) -> Context[Any]:
    """The context of a claimed attempt; `journal` is that of a durable task.

    Raises InvalidInput where the stored input no longer fits its type.
    """
    about = describe(definition, claim, shape, parents, host)
    if definition.durable:
        return definition.durable_context(about, journal)
    return Context(**about)


def describe(
    definition: TaskDefinition[Any, Any],
    claim: Claim,
    shape: Shape,
    parents: Mapping[str, ParentOutput],
    host: Host,
) -> dict[str, Any]:
    """What a context is told of its attempt; raises InvalidInput as `build` does."""
    return {
        "input": definition.decode_input(claim.input),
        "definition": definition,
        "parents": parents,
        "run_id": claim.run_id,
        "task_run_id": claim.task_run_id,
        "version": shape.digest,
        "version_id": shape.version_id,
        "attempt": claim.attempt,
        # Most runs have none, and reading it costs as much as the rest of this.
        "metadata": {} if claim.metadata == "{}" else loads(claim.metadata),
        "tenant": claim.tenant,
        "priority": claim.priority,
        "event_id": claim.event_id,
        "host": host,
    }
