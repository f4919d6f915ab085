"""RunHandle: what a caller holds of a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any, Generic, Literal, Self, TypeVar, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from orchestrator import operations, registry
from orchestrator.calls import Call
from orchestrator.conf import settings
from orchestrator.engine import outcome, sessions, versions
from orchestrator.engine.outcome import RunState
from orchestrator.exceptions import (
    RunCancelled,
    RunFailed,
    RunNotFound,
    TaskFailed,
    WaitingInTransaction,
)
from orchestrator.operations import RunFilter
from orchestrator.serialization import loads
from orchestrator.states import TERMINAL_RUN, RunStatus, TaskRunStatus

Output_co = TypeVar("Output_co", covariant=True)

FIRST_POLL, LAST_POLL = 0.010, 0.500  # seconds between two looks; they double


class _Unchanged:
    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = _Unchanged()

Tasks = Literal["failed", "all"] | Collection[str]


class RunHandle(Generic[Output_co]):
    """A run, by its id. `status` and `status_reason` are what was last read."""

    def __init__(
        self,
        id: UUID,
        status: RunStatus = RunStatus.QUEUED,
        status_reason: str = "",
    ) -> None:
        self.id = id
        self.status = status
        self.status_reason = status_reason

    def __repr__(self) -> str:
        return f"<RunHandle {self.id} {self.status.value}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @classmethod
    def get(cls, id: UUID | str) -> RunHandle[Any]:
        """The handle of a run by its id, read now; raises RunNotFound."""
        try:
            found = id if isinstance(id, UUID) else UUID(id)
        except ValueError:
            raise RunNotFound(
                f"{id!r} is not the id of a run; it is no UUID."
            ) from None
        handle: RunHandle[Any] = RunHandle(found)
        handle.refresh()
        return handle

    def refresh(self) -> Self:
        """Read the status again and return this handle; raises RunNotFound."""
        self._read()
        return self

    def result(self, timeout: float | timedelta | None = None) -> Output_co:
        """Wait for the end, for at most `timeout` seconds, and return the output.

        A standalone task's is what it returned; a workflow's is `{task: output}` of
        the tasks that completed. Reads every 10 ms at first, every 500 ms later.

        Raises RunFailed, a group of the tasks' errors; RunCancelled; RunNotFound;
        TimeoutError; WaitingInTransaction for an unfinished run inside `atomic`.
        """
        for pause in _pauses(timeout):
            state = self._look()
            if state is not None:
                return self._output(state)
            if pause is None:
                break
            time.sleep(pause)
        raise self._too_late(timeout)

    async def aresult(self, timeout: float | timedelta | None = None) -> Output_co:
        """`result` for async callers."""
        look = sync_to_async(self._look)
        for pause in _pauses(timeout):
            state = await look()
            if state is not None:
                return await sync_to_async(self._output)(state)
            if pause is None:
                break
            await asyncio.sleep(pause)
        raise self._too_late(timeout)

    def cancel(self, reason: str = "") -> bool:
        """Cancel the run and all of it that has not ended; False if it had ended.

        Joins the caller's transaction; may wait for another one that holds the run.
        """
        cancelled = operations.cancel_runs(RunFilter(ids=[self.id]), reason=reason)
        self._read()
        return bool(cancelled)

    def retry(self, tasks: Tasks = "failed") -> None:
        """Reopen the ended run: `tasks` are executed again, and what follows them.

        "failed" are those that failed or were cancelled. Joins the caller's
        transaction; may wait for another one that holds the run.

        Raises IllegalTransition where there is nothing to retry.
        """
        operations.retry_run(self.id, tasks=tasks)
        self._read()

    def rerun(self, input: Any = UNCHANGED) -> RunHandle[Output_co]:
        """Enqueue a new run from this one's input, or another, and its options.

        It is bound to the workflow's current version. Raises InvalidInput where an
        `input` does not fit; a standalone task's comes from its `bind`.
        """
        text = None if input is UNCHANGED else self._encoded(input)
        (new,) = operations.rerun_runs(RunFilter(ids=[self.id]), input=text)
        return RunHandle(new)

    async def arefresh(self) -> Self:
        """`refresh` for async callers."""
        return await sync_to_async(self.refresh)()

    async def acancel(self, reason: str = "") -> bool:
        """`cancel` for async callers."""
        return await sync_to_async(self.cancel)(reason)

    async def aretry(self, tasks: Tasks = "failed") -> None:
        """`retry` for async callers."""
        await sync_to_async(self.retry)(tasks)

    async def arerun(self, input: Any = UNCHANGED) -> RunHandle[Output_co]:
        """`rerun` for async callers."""
        return await sync_to_async(self.rerun)(input)

    @classmethod
    async def aget(cls, id: UUID | str) -> RunHandle[Any]:
        """`get` for async callers."""
        return await sync_to_async(cls.get)(id)

    def _read(self) -> RunState:
        state = outcome.run_state(sessions.django_session(), self.id)
        if state is None:
            raise RunNotFound(
                f"There is no run {self.id}; the id is wrong, its transaction was "
                "rolled back, or its history has been dropped."
            )
        self.status = RunStatus(state.status)
        self.status_reason = state.status_reason
        return state

    def _look(self) -> RunState | None:
        """The state of the ended run, or None; raises where waiting cannot help."""
        state = self._read()
        if self.status in TERMINAL_RUN:
            return state
        if connections[settings.database].in_atomic_block:
            raise WaitingInTransaction(
                f"Run {self.id} is {self.status.value}, and this transaction cannot "
                "wait for it: workers see it after the commit. Ask for the result "
                "after the `atomic` block; in a test, call "
                "orchestrator.testing.drain() first."
            )
        return None

    def _output(self, state: RunState) -> Output_co:
        if self.status == RunStatus.FAILED:
            raise RunFailed(
                state.status_reason or f"Run {self.id} failed.", _errors(state)
            )
        if self.status == RunStatus.CANCELLED:
            raise RunCancelled(state.status_reason or f"Run {self.id} was cancelled.")
        shape = versions.shape(sessions.django_session(), state.version_id)
        workflow = shape.workflow if shape else ""
        definition = registry.workflows().get(workflow)
        outputs: dict[str, Any] = {}
        for task in state.tasks:
            if task.status == TaskRunStatus.COMPLETED:
                value = None if task.output is None else loads(task.output)
                known = definition.tasks.get(task.name) if definition else None
                if value is not None and known is not None:
                    value = known.decode_output(value)
                outputs[task.name] = value
        if shape is not None and shape.standalone:
            return cast("Output_co", outputs.get(workflow))
        return cast("Output_co", outputs)

    def _encoded(self, input: Any) -> str:
        if isinstance(input, Call):
            return input.input
        state = self._read()
        shape = versions.shape(sessions.django_session(), state.version_id)
        return registry.workflow(shape.workflow if shape else "").encode_input(input)

    def _too_late(self, timeout: float | timedelta | None) -> TimeoutError:
        return TimeoutError(
            f"Run {self.id} did not end within {_seconds(timeout):g} s and is "
            f"{self.status.value}. Is a worker running that serves its queue?"
        )


def _errors(state: RunState) -> list[TaskFailed]:
    errors = [
        TaskFailed.of(task.name, task.error, task.status_reason)
        for task in state.tasks
        if task.status == TaskRunStatus.FAILED
    ]
    # A group cannot be empty, even where the failed task's rows are gone.
    return errors or [TaskFailed.of("run", None, state.status_reason)]


def _seconds(timeout: float | timedelta | None) -> float:
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    return timeout or 0.0


def _pauses(timeout: float | timedelta | None) -> Iterator[float | None]:
    """Seconds to wait after each look; None after the last one."""
    end = None if timeout is None else time.monotonic() + _seconds(timeout)
    pause = FIRST_POLL
    while True:
        left = pause if end is None else end - time.monotonic()
        if left <= 0:
            yield None
        yield min(pause, left)
        pause = min(2 * pause, LAST_POLL)
