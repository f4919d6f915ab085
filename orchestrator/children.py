"""Children: runs that a task spawns, from calls to rows.

A child's id comes from its task run and its key, or its number among the spawns of the
attempt. So a retry finds what an earlier attempt has spawned, and makes nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, overload
from uuid import UUID

from asgiref.sync import sync_to_async

from orchestrator import ids
from orchestrator.calls import Call, dump_metadata
from orchestrator.engine import sessions
from orchestrator.engine.spawn import Child, spawn
from orchestrator.exceptions import InvalidInput
from orchestrator.options import check_name
from orchestrator.runs import RunHandle
from orchestrator.serialization import loads
from orchestrator.targets import MISSING

if TYPE_CHECKING:
    from orchestrator.durable.tasks import DurableTarget
    from orchestrator.targets import WorkflowTarget
    from orchestrator.tasks import TaskTarget

CHUNK = 1_000  # children that are made at a time, and held in memory meanwhile

Item = TypeVar("Item")
Input = TypeVar("Input")
Output = TypeVar("Output")


def as_call(target: Any, input: Any = MISSING) -> Call[Any]:
    """What `ctx.spawn` and `ctx.run` take, as a call.

    That is a call made by `bind`, or a workflow or task with its input; a standalone
    task of plain arguments takes the input as its only one. Raises InvalidInput.
    """
    if isinstance(target, Call):
        if input is not MISSING:
            raise InvalidInput(
                f"{target.definition.name}.bind(…) has its input already; give one of "
                "the two."
            )
        call = target
    elif callable(getattr(target, "bind", None)) and hasattr(target, "definition"):
        call = target.bind() if input is MISSING else target.bind(input)
    else:
        raise InvalidInput(
            f"{target!r} cannot be run; give a workflow, a standalone task, or a call "
            "made by its bind(…)."
        )
    if call.options.idempotency_key is not None:
        raise InvalidInput(
            "A child is made once by its own key; give key= instead of "
            "idempotency_key=, or enqueue the run for itself."
        )
    return call


def child(ctx: Spawning, call: Call[Any], run_id: UUID) -> Child:
    """The run of a call as a child of `ctx`: metadata and tenant are inherited."""
    options = call.options
    metadata = options.metadata
    if ctx.metadata:
        metadata = dump_metadata({**ctx.metadata, **loads(metadata)})
    return Child(
        run_id,
        ctx.task_run_id,
        call.definition.shape.version_id,
        call.input,
        options.queue_name,
        options.priority,
        options.run_after,
        metadata,
        options.tenant or ctx.tenant,
    )


def check_key(key: object) -> str:
    """A key that tells a child from its siblings; raises InvalidInput."""
    return check_name(key, "child (key=)", InvalidInput)


def keyed(
    calls: Iterable[Any], keys: Iterable[str] | None
) -> Iterator[tuple[Call[Any], str | None]]:
    """Calls with their keys; raises InvalidInput where they are not as many."""
    if keys is None:
        for call in calls:
            yield as_call(call), None
        return
    more = iter(keys)
    for call in calls:
        key = next(more, None)
        if key is None:
            raise InvalidInput("There are fewer keys than calls; give one for each.")
        yield as_call(call), check_key(key)
    if next(more, None) is not None:
        raise InvalidInput("There are more keys than calls; give one for each.")


class Spawning:
    """The part of a context that spawns."""

    task_run_id: UUID
    metadata: dict[str, Any]
    tenant: str
    _spawned: Iterator[int]  # the numbers of children without a key

    @overload
    def spawn(
        self, target: Call[Output], *, key: str | None = None
    ) -> RunHandle[Output]: ...

    @overload
    def spawn(
        self, target: WorkflowTarget[None], *, key: str | None = None
    ) -> RunHandle[dict[str, Any]]: ...

    @overload
    def spawn(
        self, target: WorkflowTarget[Input], input: Input, *, key: str | None = None
    ) -> RunHandle[dict[str, Any]]: ...

    @overload
    def spawn(
        self, target: TaskTarget[[], Output], *, key: str | None = None
    ) -> RunHandle[Output]: ...

    @overload
    def spawn(
        self,
        target: TaskTarget[[Input], Output],
        input: Input,
        *,
        key: str | None = None,
    ) -> RunHandle[Output]: ...

    @overload
    def spawn(
        self, target: DurableTarget[None, Output], *, key: str | None = None
    ) -> RunHandle[Output]: ...

    @overload
    def spawn(
        self,
        target: DurableTarget[Input, Output],
        input: Input,
        *,
        key: str | None = None,
    ) -> RunHandle[Output]: ...

    def spawn(
        self, target: Any, input: Any = MISSING, *, key: str | None = None
    ) -> RunHandle[Any]:
        """Enqueue a run that belongs to this task run, once however often it is tried.

        `target` is a workflow or a standalone task with its input, or a call made by
        `bind`. The run is found again by its `key`, else by its number among the
        spawns of an attempt: it is returned as it is then, and nothing is made. It
        inherits metadata and tenant. Joins the caller's transaction.

        Raises InvalidInput.
        """
        call = as_call(target, input)
        name = None if key is None else check_key(key)
        [handle] = self._spawn([(call, name)])
        return handle

    def spawn_many(
        self, calls: Iterable[Call[Output]], keys: Iterable[str] | None = None
    ) -> list[RunHandle[Output]]:
        """`spawn` each of the calls, all or none; their handles in order.

        `calls` may be an iterator: a thousand of them are in memory at a time.
        """
        return self._spawn(keyed(calls, keys))

    @overload
    async def aspawn(
        self, target: Call[Output], *, key: str | None = None
    ) -> RunHandle[Output]: ...

    @overload
    async def aspawn(
        self, target: WorkflowTarget[None], *, key: str | None = None
    ) -> RunHandle[dict[str, Any]]: ...

    @overload
    async def aspawn(
        self, target: WorkflowTarget[Input], input: Input, *, key: str | None = None
    ) -> RunHandle[dict[str, Any]]: ...

    @overload
    async def aspawn(
        self, target: TaskTarget[[], Output], *, key: str | None = None
    ) -> RunHandle[Output]: ...

    @overload
    async def aspawn(
        self,
        target: TaskTarget[[Input], Output],
        input: Input,
        *,
        key: str | None = None,
    ) -> RunHandle[Output]: ...

    @overload
    async def aspawn(
        self, target: DurableTarget[None, Output], *, key: str | None = None
    ) -> RunHandle[Output]: ...

    @overload
    async def aspawn(
        self,
        target: DurableTarget[Input, Output],
        input: Input,
        *,
        key: str | None = None,
    ) -> RunHandle[Output]: ...

    async def aspawn(
        self, target: Any, input: Any = MISSING, *, key: str | None = None
    ) -> RunHandle[Any]:
        """`spawn` for async callers."""
        call = as_call(target, input)
        # The number is taken here, in the order of the calls, not in a thread.
        name = self._next_number() if key is None else check_key(key)
        [handle] = await sync_to_async(self._spawn)([(call, name)])
        return handle

    async def aspawn_many(
        self, calls: Iterable[Call[Output]], keys: Iterable[str] | None = None
    ) -> list[RunHandle[Output]]:
        """`spawn_many` for async callers."""
        return await sync_to_async(self.spawn_many)(calls, keys)

    def _next_number(self) -> int:
        """The number of the next child without a key."""
        return next(self._spawned)

    def _spawn(
        self, calls: Iterable[tuple[Call[Any], str | int | None]]
    ) -> list[RunHandle[Any]]:
        """Make those that are not there yet, all or none, a thousand at a time."""
        session = sessions.django_session()
        made: list[RunHandle[Any]] = []
        with session.joined():
            for part in chunks(calls, CHUNK):
                children = []
                for call, key in part:
                    name = self._next_number() if key is None else key
                    run_id = ids.child_run_id(self.task_run_id, name)
                    children.append(child(self, call, run_id))
                spawn(session, children)
                made += [RunHandle(one.run_id) for one in children]
        return made


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one of what is left."""
    source = iter(items)
    while part := list(islice(source, size)):
        yield part
