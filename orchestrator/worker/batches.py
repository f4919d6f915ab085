"""Batches: one execution for many claims, and what it comes to for each of them.

The first member's work stands for all in its slot; the results of the others follow
from its own. A batch is looked for when slots are free, as often as one may be due.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Protocol
from uuid import UUID

from orchestrator import serialization
from orchestrator.batches import BatchDefinition
from orchestrator.context import Context
from orchestrator.engine.claim import Claim, WorkerKey
from orchestrator.engine.gather import gather
from orchestrator.engine.groups import NoGroup, group_of
from orchestrator.engine.links import Link
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import TaskShape
from orchestrator.exceptions import InvalidInput, InvalidOutput, OrchestratorError
from orchestrator.states import AttemptOutcome
from orchestrator.worker import execute
from orchestrator.worker.appetite import Appetite, Pool
from orchestrator.worker.execute import Work

FIRST_LOOK = 0.02  # seconds until it looks again; doubles
RUSH = 0.02  # seconds between two looks, however often it is woken


class GroupKeyFailed(OrchestratorError):
    """The group key of a batch task could not be evaluated for this run."""


class BatchCall:
    """The definition of a batch task as the works of one batch see it."""

    durable = False

    def __init__(self, definition: BatchDefinition, works: Sequence[Work]) -> None:
        self.workflow = definition.workflow
        self.name = definition.name
        self.parents: tuple[Any, ...] = ()
        self.is_async = definition.is_async
        self.outputs: dict[UUID, str | None] = {}
        self.failures: dict[UUID, BaseException] = {}
        self.shared_out = False  # whether each member has its own end
        self._definition = definition
        self._works = works

    def decode_input(self, text: str) -> Any:
        """The inputs of all members, by group and task run id.

        What does not fit, or has no group, fails alone.
        """
        groups: dict[str, dict[Any, Any]] = {}
        for work in self._works:
            key = work.claim.task_run_id
            try:
                group = self._group(work)
                value = self._definition.decode_input(work.claim.input)
            except (InvalidInput, GroupKeyFailed) as error:
                self.failures[key] = error
            else:
                named = key if self._definition.by_uuid else str(key)
                groups.setdefault(group, {})[named] = value
        return groups

    def invoke(self, ctx: Context[Any]) -> Any:
        """Call the function for each group, of which there is nearly always one."""
        function = self._definition.function
        if self.is_async:
            return self._awaited(ctx)
        return [(inputs, function(inputs)) for inputs in ctx.input.values()]

    async def _awaited(self, ctx: Context[Any]) -> list[tuple[Any, Any]]:
        calls: list[tuple[Any, Awaitable[Any]]] = [
            (inputs, self._definition.function(inputs)) for inputs in ctx.input.values()
        ]
        return [(inputs, await call) for inputs, call in calls]

    def encode_output(self, value: Any) -> str | None:
        """Give each member its part; the first one's is returned, or raised.

        Raises InvalidOutput where the parts are not those of the members.
        """
        for inputs, answer in value:
            parts = self._parts(inputs, answer)
            for key, part in parts.items():
                try:
                    self.outputs[key] = self._definition.encode_output(part)
                except InvalidOutput as error:
                    self.failures[key] = error
        self.shared_out = True
        first = self._works[0].claim.task_run_id
        if first in self.failures:
            raise self.failures[first]
        return self.outputs.get(first)

    def _parts(self, inputs: dict[Any, Any], answer: Any) -> dict[UUID, Any]:
        wanted = [key if isinstance(key, UUID) else UUID(key) for key in inputs]
        if self._definition.broadcast:
            return dict.fromkeys(wanted, answer)
        name = self.name
        if not isinstance(answer, Mapping):
            raise InvalidOutput(
                f"{name} returned {type(answer).__name__} and not a dict of outputs by "
                "task run id; declare broadcast=True to give one value to all."
            )
        parts = {str(key): part for key, part in answer.items()}
        absent = [str(key) for key in wanted if str(key) not in parts]
        unknown = parts.keys() - {str(key) for key in wanted}
        if absent or unknown:
            raise InvalidOutput(
                f"{name} returned outputs of {len(parts)} task runs: {len(absent)} of "
                f"its {len(wanted)} are missing and {len(unknown)} are not its own. "
                "Return one output for each key of the inputs, under that key."
            )
        return {key: parts[str(key)] for key in wanted}

    def _group(self, work: Work) -> str:
        values = {
            "input": serialization.loads(work.claim.input),
            "metadata": serialization.loads(work.claim.metadata),
            "tenant": work.claim.tenant,
        }
        try:
            return group_of(work.node, self.workflow, values)
        except NoGroup as error:
            raise GroupKeyFailed(str(error)) from None


def batch_of(works: list[Work]) -> Work:
    """The work that stands for a batch of claims of one task."""
    leader = works[0]
    leader.members = tuple(works)
    leader.definition = BatchCall(leader.definition, works)
    leader.isolated = False
    return leader


def members(work: Work) -> tuple[Work, ...]:
    """The works that a work stands for: itself, where it is not a batch."""
    return work.members or (work,)


def share_out(leader: Work) -> tuple[Work, ...]:
    """Give every member of a batch that came back its own result."""
    call, result = leader.definition, leader.result
    if result is None:
        return leader.members
    own = result.outcome in (AttemptOutcome.COMPLETED, AttemptOutcome.FAILED)
    for work in leader.members:
        work.started, work.slot = leader.started, leader.slot
        work.result = _result(work, call, result, own=own and call.shared_out)
    return leader.members


def _result(work: Work, call: BatchCall, result: Result, *, own: bool) -> Result:
    key = work.claim.task_run_id
    if own and key in call.outputs:
        return result._replace(
            claim=work.claim,
            outcome=AttemptOutcome.COMPLETED,
            output=call.outputs[key],
            error=None,
            reason="",
        )
    if key in call.failures:
        error = serialization.error_dict(call.failures[key])
        return execute.failure(work, error, retryable=False)
    return result._replace(claim=work.claim)


class Child(Protocol):
    """What it needs of the engine thread."""

    key: WorkerKey
    link: Link
    appetite: Appetite
    hands: Any

    def prepared(self, claims: Sequence[Claim]) -> Iterable[Work]:
        """Claims as work for the slots."""


class Gatherer:
    """When a child looks for batches, and of which tasks."""

    def __init__(self, tasks: Sequence[tuple[TaskShape, Pool]], longest: float) -> None:
        self._tasks = tasks
        self._longest = longest
        self._pause = FIRST_LOOK
        self._looked_at = 0.0
        self.look_at = 0.0

    def wake(self, now: float) -> None:
        """Something may be there."""
        self._pause = FIRST_LOOK
        self.look_at = min(self.look_at, max(now, self._looked_at + RUSH))

    def wants(self) -> dict[Pool, int]:
        """How many batches each pool could start now."""
        free: dict[Pool, int] = {}
        for task, pool in self._tasks:
            if not pool.silent:
                room = (pool.size - pool.in_hand) // task.slot_cost
                free[pool] = min(free.get(pool, room), room)
        return {pool: room for pool, room in free.items() if room > 0}

    def due(self, now: float, *, woken: bool) -> bool:
        """Whether it looks now."""
        if woken:
            self.wake(now)
        return now >= self.look_at and bool(self.wants())

    def next_look(self) -> float:
        """When it looks again (monotonic seconds); infinite while no slot is free."""
        return self.look_at if self.wants() else float("inf")

    def look(self, child: Child) -> None:
        """Claim the batches that are due, and start them."""
        session, next_in = child.link.session, None
        for pool, room in self.wants().items():
            tasks = [task for task, where in self._tasks if where is pool]
            queues = child.appetite.queues
            found = gather(session, child.key, queues, tasks, room)
            for claims in found.batches:
                works = list(child.prepared(claims))
                if works:
                    child.hands.submit([batch_of(works)])
            if found.next_in is not None:
                next_in = min(
                    found.next_in, float("inf") if next_in is None else next_in
                )
        self._looked(monotonic(), next_in)

    def _looked(self, now: float, next_in: float | None) -> None:
        self._looked_at = now
        if next_in == 0.0:
            self._pause = FIRST_LOOK
            self.look_at = now
            return
        self.look_at = now + self._pause
        if next_in is not None:
            self.look_at = min(self.look_at, now + next_in)
        self._pause = min(2 * self._pause, self._longest)
