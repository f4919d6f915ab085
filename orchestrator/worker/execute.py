"""Execute: from a claim to its result.

Decode the input, build the context, call the function, encode what it returns, and say
what it came to. Threads, the event loop, isolated processes and `testing.drain()` all
go through here. Nothing that a task raises gets past: it becomes the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from orchestrator import context, serialization
from orchestrator.conf import settings
from orchestrator.durable.context import DurableContext
from orchestrator.durable.keepers import DatabaseKeeper
from orchestrator.engine import journal, verdict
from orchestrator.engine.claim import Claim
from orchestrator.engine.journal import Journal
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.sessions import Session
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import Shape, TaskShape
from orchestrator.engine.waits import Request
from orchestrator.exceptions import (
    InvalidInput,
    LeaseLost,
    NonDeterminism,
    NonRetryable,
    TaskCancelled,
)
from orchestrator.hosts import Host
from orchestrator.states import AttemptOutcome
from orchestrator.voices import speaker

COMPLETED = AttemptOutcome.COMPLETED


class Work:
    """One claim on its way through a slot.

    `timeout` is seconds or None. The engine thread owns `closed`: a result that comes
    after it was set is dropped. `timed_out` and `cancelled` say why the function is
    being stopped; `started` is `time.monotonic()`, 0.0 before the start.
    """

    __slots__ = (
        "cancelled",
        "claim",
        "closed",
        "context",
        "definition",
        "expiry",
        "handle",
        "host",
        "isolated",
        "journal",
        "members",
        "node",
        "parents",
        "replaced",
        "result",
        "shape",
        "slot",
        "started",
        "timed_out",
        "timeout",
    )

    def __init__(
        self,
        claim: Claim,
        definition: Any,
        shape: Shape,
        node: TaskShape,
        parents: Mapping[str, ParentOutput],
        host: Host,
    ) -> None:
        self.claim = claim
        self.definition = definition
        self.shape = shape
        self.node = node
        self.parents = parents
        self.host = host
        self.journal: Journal | None = None  # of a durable task
        self.timeout = node.execution_timeout
        # The last chances of what was lost before are spent in a process of its own,
        # where it can take no neighbour with it, nor be taken.
        self.isolated = node.isolated or (
            claim.losses > 0 and claim.losses >= settings.lost_budget - 1
        )
        self.context: context.Context[Any] | None = None
        self.handle: Any = None  # what can be cancelled or killed
        self.expiry: asyncio.TimerHandle | None = None
        self.members: tuple[Work, ...] = ()  # of a batch, itself the first
        self.slot = -1
        self.result: Result | None = None
        self.started = 0.0
        self.timed_out = False
        self.cancelled = False
        self.closed = False
        self.replaced = False

    def stop(self) -> None:
        """Let the function know, where it asks, that nobody waits for it any more."""
        if self.context is not None:
            self.context.mark_cancelled()

    def extend(self, seconds: float) -> None:
        """Let the function take longer, where it has a limit; in any thread."""
        if self.timeout is not None:
            self.timeout += seconds
            if self.context is not None:
                self.context.voice.more(seconds)


def start(
    claim: Claim,
    definition: Any,
    shape: Shape,
    parents: Mapping[str, ParentOutput],
    host: Host | None = None,
) -> Work:
    """Prepare a claim for a slot; `parents` are its parents' outputs by task name."""
    node = shape.task(claim.task_id)
    if node is None:
        raise LookupError(f"{shape.workflow}: no task {claim.task_id} in its version.")
    return Work(claim, definition, shape, node, parents, host or Host())


def load_journals(session: Session, works: Sequence[Work]) -> None:
    """Fetch what durable functions have done in earlier attempts."""
    again = [w for w in works if w.definition.durable and w.claim.attempt > 1]
    if not again:
        return
    worker_id = again[0].host.worker_id
    found = journal.load(session, worker_id, [work.claim for work in again])
    for work in again:
        work.journal = found.get(work.claim.task_run_id)


def run_sync(work: Work) -> Result:
    """Execute in this thread; an async function gets an event loop of its own."""
    definition = work.definition
    if definition.is_async:
        return asyncio.run(run_async(work))
    if work.cancelled:
        return cancelled(work)
    work.started = started = monotonic()
    try:
        ctx = _begin(work)
        said = speaker.set(ctx)
        try:
            output = definition.encode_output(definition.invoke(ctx))
        finally:
            speaker.reset(said)
            ctx.end_of_attempt()
    except BaseException as error:
        return failed(work, error)
    if suspends(work):
        return suspended(work)
    if ctx.cancel_reason is not None:
        return cancelled(work)
    finished = monotonic()
    if work.timed_out or overran(work, finished):
        return timed_out(work)
    return Result(work.claim, COMPLETED, started, finished, output)


async def run_async(work: Work) -> Result:
    """Execute on this event loop; its execution timeout cancels it."""
    definition = work.definition
    if work.cancelled:
        return cancelled(work)
    work.started = started = monotonic()
    try:
        if work.timeout is not None:
            work.expiry = asyncio.get_running_loop().call_later(
                work.timeout, _expire, work, asyncio.current_task()
            )
        ctx = _begin(work)
        said = speaker.set(ctx)
        try:
            output = definition.encode_output(await definition.invoke(ctx))
        finally:
            speaker.reset(said)
            ctx.end_of_attempt()
    except BaseException as error:
        return failed(work, error)
    finally:
        if work.expiry is not None:
            work.expiry.cancel()
    if suspends(work):
        return suspended(work)
    if ctx.cancel_reason is not None:
        return cancelled(work)
    finished = monotonic()
    if work.timed_out or overran(work, finished):
        return timed_out(work)
    return Result(work.claim, COMPLETED, started, finished, output)


def _begin(work: Work) -> context.Context[Any]:
    work.context = ctx = context.build(
        work.definition,
        work.claim,
        work.shape,
        work.parents,
        work.host,
        work.journal,
    )
    if work.timeout is not None:
        ctx.extend = work.extend
    if work.cancelled:  # meanwhile
        ctx.mark_cancelled()
    return ctx


def overran(work: Work, now: float) -> bool:
    """Whether the time is over, if nobody noticed: the machine may have been asleep."""
    return work.timeout is not None and now - work.started > work.timeout


def _expire(work: Work, task: asyncio.Task[Any] | None) -> None:
    left = work.started + (work.timeout or 0.0) - monotonic()
    if left > 0.001:  # more time was asked for
        loop = asyncio.get_running_loop()
        work.expiry = loop.call_later(left, _expire, work, task)
        return
    work.timed_out = True
    work.stop()
    if task is not None:
        task.cancel()


def failed(work: Work, error: BaseException) -> Result:
    """What an exception that left the function comes to."""
    if work.timed_out:
        return timed_out(work)
    if suspends(work):
        return suspended(work)
    gone = work.cancelled or isinstance(error, TaskCancelled | LeaseLost)
    if gone or (work.context is not None and work.context.cancel_reason is not None):
        return cancelled(work)
    # An input that does not fit never will; one that the function itself passed on may.
    unfit = isinstance(error, InvalidInput) and work.context is None
    hopeless = unfit or _holds(error, (NonRetryable, NonDeterminism))
    return failure(work, serialization.error_dict(error), retryable=not hopeless)


def _holds(error: BaseException, kinds: tuple[type[Exception], ...]) -> bool:
    """Whether it is of these kinds, or a group of a TaskGroup with one of them."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kinds) is not None
    return isinstance(error, kinds)


def failure(work: Work, error: dict[str, str], *, retryable: bool = True) -> Result:
    """A failed attempt: another one follows as long as the retry policy has any."""
    now = monotonic()
    return verdict.failed(
        work.claim,
        work.node,
        error,
        started=work.started or now,
        finished=now,
        retryable=retryable,
    )


def timed_out(work: Work) -> Result:
    """The attempt exceeded its execution timeout; it counts as a failure."""
    now = monotonic()
    return verdict.timed_out(
        work.claim, work.node, started=work.started or now, finished=now
    )


def suspends(work: Work) -> bool:
    """Whether the function has to wait: whatever it returned or raised is dropped."""
    ctx = work.context
    return isinstance(ctx, DurableContext) and ctx.suspended is not None


def suspended(work: Work) -> Result:
    """The attempt ended in a durable wait; another one follows when it is over."""
    now = monotonic()
    ctx = work.context
    waits: list[Request] = []
    if isinstance(ctx, DurableContext) and isinstance(ctx.keeper, DatabaseKeeper):
        waits = ctx.keeper.requests(ctx.suspended or ())
    return Result(
        work.claim,
        AttemptOutcome.SUSPENDED,
        work.started or now,
        now,
        final=False,
        waits=waits,
    )


def cancelled(work: Work) -> Result:
    """The attempt was stopped. The fence refuses it where a cancel came first."""
    now = monotonic()
    why = work.context.cancel_reason if work.context is not None else None
    reason = f'Task "{work.node.name}" was cancelled.'
    if why is not None:
        reason = f'Task "{work.node.name}" cancelled itself' + (
            f": {why}" if why else "."
        )
    return Result(
        work.claim,
        AttemptOutcome.CANCELLED,
        work.started or now,
        now,
        reason=serialization.clean(serialization.shortened(reason, 2_000)),
    )


def lost(work: Work, why: str) -> Result:
    """The process that executed it died: charged to the budget for lost workers."""
    now = monotonic()
    return verdict.lost(
        work.claim,
        work.node,
        f"The process that executed the task died: {why}.",
        started=work.started or now,
        finished=now,
    )


def refused_by_database(work: Work, error: BaseException) -> Result:
    """The result holds a value that PostgreSQL refuses: the attempt fails with that."""
    text = serialization.clean(str(error).split("\n", 1)[0])
    return failure(
        work,
        {
            "type": "orchestrator.exceptions.InvalidOutput",
            "message": f"The database refused the task's result: {text}",
            "traceback": "",
        },
    )
