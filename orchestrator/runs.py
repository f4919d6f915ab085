"""RunHandle: what a caller holds of a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import timedelta
from typing import Any, Generic, Literal, Self, TypeVar, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from orchestrator import listening, operations, registry
from orchestrator.calls import Call
from orchestrator.conf import settings
from orchestrator.engine import outcome, sessions, versions
from orchestrator.engine.outcome import RunState
from orchestrator.engine.says import LogLine
from orchestrator.exceptions import (
    InvalidInput,
    RunCancelled,
    RunFailed,
    RunNotFound,
    TaskFailed,
    WaitingInTransaction,
)
from orchestrator.operations import UNCHANGED as UNCHANGED
from orchestrator.serialization import loads
from orchestrator.states import TERMINAL_RUN, RunStatus, TaskRunStatus

Output_co = TypeVar("Output_co", covariant=True)

FIRST_POLL, LAST_POLL = 0.010, 0.500  # seconds between two looks; they double

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

    def cancel(self, reason: str = "", *, children: bool = True) -> bool:
        """Cancel the run and all of it that has not ended; False if it had ended.

        With `children`, the open runs that it spawned end as well, and theirs. Joins
        the caller's transaction; may wait for another one that holds one of the runs.
        Raises RunNotFound.
        """
        done = operations.cancel_run(self.id, reason=reason, children=children)
        self._read()
        return done

    def retry(self, tasks: Tasks = "failed", *, keep_journal: bool = True) -> None:
        """Reopen the ended run: `tasks` are executed again, and what follows them.

        "failed" are those that failed or were cancelled. Durable tasks replay their
        journals, unless these are not kept. Joins the caller's transaction; may wait
        for another one that holds the run.

        Raises RunNotFound; IllegalTransition where there is nothing to retry.
        """
        operations.retry_run(self.id, tasks=tasks, keep_journal=keep_journal)
        self._read()

    def branch(self, task: str, position: int) -> None:
        """Reopen the ended run from a position, from 1, of a durable task's journal.

        What is on record before it is kept, the rest is executed again, and so are
        all tasks that depend on this one. Joins the caller's transaction; may wait
        for another one that holds the run.

        Raises RunNotFound; IllegalTransition where that is not possible.
        """
        operations.branch_run(self.id, task, position)
        self._read()

    def rerun(self, input: Any = UNCHANGED) -> RunHandle[Output_co]:
        """Enqueue a new run from this one's input, or another, and its options.

        It is bound to the workflow's current version. Raises RunNotFound; InvalidInput
        where an `input` does not fit; a standalone task's comes from its `bind`.
        """
        return RunHandle(operations.rerun_run(self.id, input=input))

    def logs(
        self, *, task: str | None = None, limit: int = listening.MOST_LINES
    ) -> list[LogLine]:
        """What its tasks have logged so far, in the order of time; of one `task` alone.

        Raises RunNotFound.
        """
        return listening.logs(self.id, task=task, limit=limit)

    def stream(self) -> Iterator[Any]:
        """What its tasks say with `ctx.stream`, each chunk once, until the run ends.

        From the first chunk on, whenever and wherever it is read. The chunks of a task
        come in order, those of a failed attempt before those of the next one.

        Raises RunNotFound; WaitingInTransaction for an unfinished run inside `atomic`.
        """
        return iter(listening.Stream(self.id))

    async def alogs(
        self, *, task: str | None = None, limit: int = listening.MOST_LINES
    ) -> list[LogLine]:
        """`logs` for async callers."""
        return await sync_to_async(self.logs)(task=task, limit=limit)

    def astream(self) -> AsyncIterator[Any]:
        """`stream` for async callers."""
        return aiter(listening.Stream(self.id))

    async def arefresh(self) -> Self:
        """`refresh` for async callers."""
        return await sync_to_async(self.refresh)()

    async def acancel(self, reason: str = "", *, children: bool = True) -> bool:
        """`cancel` for async callers."""
        return await sync_to_async(self.cancel)(reason, children=children)

    async def aretry(
        self, tasks: Tasks = "failed", *, keep_journal: bool = True
    ) -> None:
        """`retry` for async callers."""
        await sync_to_async(self.retry)(tasks, keep_journal=keep_journal)

    async def abranch(self, task: str, position: int) -> None:
        """`branch` for async callers."""
        await sync_to_async(self.branch)(task, position)

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

    def _too_late(self, timeout: float | timedelta | None) -> TimeoutError:
        return TimeoutError(
            f"Run {self.id} did not end within {_seconds(timeout):g} s and is "
            f"{self.status.value}. Is a worker running that serves its queue?"
        )


def _encode(workflow: str, input: Any) -> str:
    """An input of a workflow as JSON text, checked as `enqueue` checks it."""
    if isinstance(input, Call):
        if input.definition.name != workflow:
            raise InvalidInput(
                f"The call is one of {input.definition.name!r}, and the run one of "
                f"{workflow!r}; bind the target that the run is of."
            )
        return input.input
    return registry.workflow(workflow).encode_input(input)


operations.use_encoder(_encode)


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
