"""Testing: the real engine on the test's own connection, and a clock that moves.

    handle = index_shelf.enqueue(Shelf("docs"))
    drain()                                     # executes all that is due
    with travel(timedelta(days=14)):
        drain()
    assert handle.result()["report"] == …

It works inside the transaction of a test case. There is no fake store: what happens is
what a worker does, one task after the other, in this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar, overload
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import timezone

from orchestrator import ids, lifespans, operations, registry
from orchestrator.calls import Call
from orchestrator.conf import settings
from orchestrator.context import Context
from orchestrator.definitions import TaskDefinition
from orchestrator.durable.context import DurableContext
from orchestrator.durable.declare import DurableTask
from orchestrator.durable.keepers import TestKeeper
from orchestrator.durable.tasks import DurableTarget, StandaloneDurable
from orchestrator.engine import (
    exchange,
    expire,
    promote,
    register,
    sessions,
)
from orchestrator.engine.claim import Demand, WorkerKey
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.settle import Result
from orchestrator.engine.tend import tend
from orchestrator.exceptions import OrchestratorError
from orchestrator.hosts import Host
from orchestrator.models import Queue, Run
from orchestrator.runs import RunHandle
from orchestrator.states import TaskRunStatus
from orchestrator.targets import WorkflowTarget
from orchestrator.tasks import TaskTarget
from orchestrator.voices import Outbox, captured
from orchestrator.worker import inline

BATCH = 100

_ANY: Any = object()  # an argument that was not given

Input = TypeVar("Input")


def drain(*, limit: int | None = None, lifespan: Any = _ANY) -> int:
    """Execute all that is due, and what follows from it; return how many attempts.

    Delayed items are promoted and schedule timeouts expire by `orchestrator_now()`, so
    `travel` makes them due. With `limit`, at most so many attempts. Isolated tasks are
    executed in this process. A task that breaks the test's transaction is rolled back.

    `lifespan` is `ctx.lifespan` of the tasks; without it, the project's own is set up
    and torn down around them.
    """
    _refuse_atomic()
    if lifespan is not _ANY:
        return _drain(limit, lifespan)
    with lifespans.entered() as value:
        return _drain(limit, value)


def _drain(limit: int | None, lifespan: Any) -> int:
    session = sessions.django_session()
    shapes = registry.shapes()
    register.register(session, shapes)
    lanes = {
        task.lane: None
        if task.execution_timeout is None
        else max(1, round(task.execution_timeout * 1000))
        for shape in shapes
        for task in shape.tasks
        if task.batch is None
    }
    gathered = [t for shape in shapes for t in shape.tasks if t.batch is not None]
    worker = WorkerKey(ids.uuid7(), 0)
    results: list[Result] = []
    executed = 0
    outbox = Outbox()
    host = Host(worker_id=worker.worker_id, outlet=outbox, lifespan=lifespan)
    while True:
        room = BATCH if limit is None else min(BATCH, limit - executed)
        moved = promote.promote(session) + expire.expire(session) + tend(session)
        while looked_at := operations.work_off():
            moved += looked_at
        queues = _queues()
        demand = Demand(queues, lanes, room)
        inline.speak(session, outbox, results)
        reported = len(results)  # what they release is still to be judged
        done = exchange.exchange(session, worker, results, demand)
        results = [*done.deferred, *inline.refused(session, done.rejected)]
        with captured():
            results += inline.run(session, done.claims, host)
            some = gathered if room > 0 else []
            ended = inline.run_batches(session, worker, queues, some, host)
        results += ended
        executed += len(done.claims) + len(ended)
        if not results and not moved and not reported:
            return executed


async def adrain(*, limit: int | None = None, lifespan: Any = _ANY) -> int:
    """`drain` for async tests."""
    return await sync_to_async(drain)(limit=limit, lifespan=lifespan)


@contextmanager
def travel(to: timedelta | datetime) -> Iterator[datetime]:
    """Move the database's clock for the block: by a timedelta, or to a datetime.

    It stands still there. Only `orchestrator_now()` on this connection moves: what is
    due, and the times that the engine writes. `timezone.now()` does not.
    """
    with connections[settings.database].cursor() as cursor:
        cursor.execute("SELECT orchestrator_now(), current_setting(%s, true)", [_NOW])
        now, before = cursor.fetchone()
        moment = now + to if isinstance(to, timedelta) else to
        if timezone.is_naive(moment):
            raise ValueError(f"travel({to!r}) is naive; give an aware datetime.")
        cursor.execute(_SET, [_NOW, moment.isoformat()])
    try:
        yield moment
    finally:
        with connections[settings.database].cursor() as cursor:
            cursor.execute(_SET, [_NOW, before or ""])


_NOW = "orchestrator.now"
_SET = "SELECT set_config(%s, %s, false)"


def assert_enqueued(
    target: WorkflowTarget[Any]
    | TaskTarget[Any, Any]
    | DurableTarget[Any, Any]
    | Call[Any],
    *,
    input: Any = _ANY,
    count: int | None = None,
) -> list[RunHandle[Any]]:
    """Assert that runs of `target` were enqueued, and return them, oldest first.

    `target` may be a call made by `bind`, which has an input; otherwise `input` says
    which. Exactly `count` of them, or at least one. Raises AssertionError.
    """
    definition = target.definition
    wanted = None
    if isinstance(target, Call):
        wanted = json.loads(target.input)
    elif input is not _ANY:
        wanted = json.loads(definition.encode_input(input))
    runs = list(
        Run.objects.using(settings.database)
        .filter(workflow_id=definition.shape.workflow_id)
        .order_by("id")
        .values_list("id", "input")
    )
    anything = not isinstance(target, Call) and input is _ANY
    found = [run_id for run_id, given in runs if anything or given == wanted]
    if len(found) != count if count is not None else not found:
        which = "" if anything else f" with the input {json.dumps(wanted)}"
        others = [json.dumps(given) for _, given in runs][:10]
        raise AssertionError(
            f"{len(found)} runs of {definition.name!r}{which} were enqueued, not "
            f"{'any' if count is None else count}. Its inputs: "
            f"{', '.join(others) or 'none at all'}."
        )
    return [RunHandle.get(run_id) for run_id in found]


@overload
def make_context(
    task: StandaloneDurable[Input, Any] | DurableTask[Input, Any],
    input: Input | None = None,
    *,
    outputs: Mapping[TaskDefinition[Any, Any], Any] | None = None,
    attempt: int = 1,
    metadata: Mapping[str, Any] | None = None,
    tenant: str = "",
    priority: int = 0,
    run_id: UUID | None = None,
    lifespan: Any = None,
    worker_labels: Mapping[str, str] | None = None,
    answers: Sequence[Any] = (),
) -> DurableContext[Input]: ...


@overload
def make_context(
    task: TaskDefinition[Input, Any],
    input: Input | None = None,
    *,
    outputs: Mapping[TaskDefinition[Any, Any], Any] | None = None,
    attempt: int = 1,
    metadata: Mapping[str, Any] | None = None,
    tenant: str = "",
    priority: int = 0,
    run_id: UUID | None = None,
    lifespan: Any = None,
    worker_labels: Mapping[str, str] | None = None,
) -> Context[Input]: ...


def make_context(
    task: TaskDefinition[Any, Any] | StandaloneDurable[Any, Any],
    input: Any = None,
    *,
    outputs: Mapping[TaskDefinition[Any, Any], Any] | None = None,
    attempt: int = 1,
    metadata: Mapping[str, Any] | None = None,
    tenant: str = "",
    priority: int = 0,
    run_id: UUID | None = None,
    lifespan: Any = None,
    worker_labels: Mapping[str, str] | None = None,
    answers: Sequence[Any] = (),
) -> Any:
    """A context for `task.call(ctx)`, without a run and without the database.

    `outputs` are what its parents returned; a parent without one was skipped. Input
    and outputs go through JSON, as they would. In a durable task, steps call their
    functions, sleeps are over at once, and other waits and children give `answers`, in
    order: the payload of an event or the output of a run, raised where it is an
    exception. Of several conditions the first holds; a dict says which, by name.
    """
    if isinstance(task, StandaloneDurable):
        task = task.task
    run_id = run_id or ids.uuid7()
    definition = registry.workflow(task.workflow)
    texts = {
        parent.name: ParentOutput(TaskRunStatus.COMPLETED, parent.encode_output(value))
        for parent, value in (outputs or {}).items()
    }
    about: dict[str, Any] = {
        "input": task.decode_input(definition.encode_input(input)),
        "definition": task,
        "parents": texts,
        "run_id": run_id,
        "task_run_id": ids.task_run_id(run_id, task.ordinal),
        "version": definition.shape.digest,
        "version_id": definition.shape.version_id,
        "attempt": attempt,
        "metadata": dict(metadata or {}),
        "tenant": tenant,
        "priority": priority,
        "host": Host(lifespan=lifespan, labels=worker_labels),
    }
    if task.durable:
        return DurableContext(keeper=TestKeeper(answers), **about)
    return Context(**about)


class Said(NamedTuple):
    """What was said with a context made by `make_context`.

    `logs` are (level, message, fields); `progress` is the last (done, total, message).
    """

    logs: list[tuple[str, str, dict[str, Any]]]
    chunks: list[Any]
    progress: tuple[float, float | None, str] | None


def said(ctx: Context[Any]) -> Said:
    """What a task has said so far with `ctx.log`, `ctx.stream` and `ctx.progress`."""
    outbox = ctx.outlet
    if not isinstance(outbox, Outbox):
        raise TypeError("said() takes a context that was made by make_context().")
    lines, chunks, words = outbox.everything()
    logs = []
    for text in lines:
        line = json.loads(text)
        logs.append((line["level"], line["message"], line["fields"] or {}))
    latest = (words[-1].done, words[-1].total, words[-1].message) if words else None
    return Said(logs, [json.loads(text) for text in chunks], latest)


def _refuse_atomic() -> None:
    blocks = connections[settings.database].atomic_blocks
    if blocks and not getattr(blocks[-1], "_from_testcase", False):
        raise OrchestratorError(
            "drain() is inside an `atomic` block, where no worker would see the runs. "
            "Call it after the block."
        )


def _queues() -> tuple[int, ...]:
    queues = Queue.objects.using(settings.database)
    return tuple(queues.order_by("name").values_list("id", flat=True))
