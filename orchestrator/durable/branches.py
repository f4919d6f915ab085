"""Branches: the asyncio tasks of one durable function, executed side by side.

Calls take positions in the journal in the order in which they are made. That order is
the same at each replay only if the ends of calls are delivered in the same order: one
at a time, by their numbers in the journal, each once the branches are still.

The function is suspended when every branch waits for something durable and no step is
under way. What a branch awaits besides, such as an HTTP request, keeps it awake.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from orchestrator.durable.ends import End
from orchestrator.durable.stillness import waits_for_others
from orchestrator.engine.journal import Entry
from orchestrator.exceptions import Suspend

if TYPE_CHECKING:
    from orchestrator.durable.base import Calls
    from orchestrator.durable.calls import Ask

SPINS = 20  # rounds of the loop for which a look is repeated at once
LOOK = 0.005  # seconds between two looks after that
BUSY_LOOK = 0.05  # seconds between two looks at branches that do something else
GRACE = 0.1  # seconds after which an end is delivered although branches move

_current: ContextVar[Branches | None] = ContextVar(
    "orchestrator.branches", default=None
)

Told = Callable[[Entry], None]
Ends = Callable[[Told], object]  # executes a step, and tells of its end


class Branches:
    """What one function awaits. All methods but `arrived` and `evict` are for its loop.

    `ended` is done when the function is to be suspended.
    """

    def __init__(self, ctx: Calls) -> None:
        self.ctx = ctx
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.root: asyncio.Task[Any] | None = None
        self.tasks: set[asyncio.Task[Any]] = set()  # the living ones
        self.ready: list[tuple[int, int, asyncio.Future[Any], Any]] = []
        self.waiting: dict[asyncio.Future[Any], Sequence[Ask]] = {}
        self.blocked: dict[asyncio.Future[Any], asyncio.Task[Any] | None] = {}
        self.moving: set[asyncio.Task[Any]] = set()  # those that are in no call
        self.gathers: set[asyncio.Future[Any]] = set()  # known to be of branches alone
        self.aside: set[asyncio.Task[None]] = set()
        self.steps = 0
        self.kept: set[int] = set()  # groups that are waited for with the slot
        self._numbers = count()
        self._looking = False
        self._since = 0.0

    # Calls.

    async def record(self, ask: Ask, execute: Ends) -> Entry:
        """A step: its entry, on record or executed now."""
        recorded = self.ctx.positions.entries([ask])
        if recorded is not None:
            return (await self._deliver(recorded))[0]
        future = self._future()
        self.steps += 1
        self._aside(self._execute(execute, future))
        entry: Entry = await self._blocking(future)
        self.ctx.positions.learn([entry])
        return entry

    async def wait(self, asks: Sequence[Ask]) -> list[Entry]:
        """A wait for all of the calls."""
        recorded = self.ctx.positions.entries(asks)
        if recorded is not None:
            return await self._deliver(recorded)
        future = self._future()
        self.waiting[future] = asks
        if len(self.tasks) <= 1 and not self.ready and not self.steps:
            self._all_blocked()
        else:
            self._look_soon()
        try:
            entries: list[Entry] = await self._blocking(future)
        finally:
            self.waiting.pop(future, None)
        self.ctx.positions.learn(entries)
        return entries

    async def _deliver(self, entries: list[Entry]) -> list[Entry]:
        """What is on record, in its turn."""
        if len(self.tasks) <= 1 and not self.ready and not self.steps:
            return entries
        future = self._future()
        order = max(entry.order or 0 for entry in entries)
        heapq.heappush(self.ready, (order, next(self._numbers), future, entries))
        self._look_soon()
        delivered: list[Entry] = await self._blocking(future)
        return delivered

    async def _execute(self, execute: Ends, future: asyncio.Future[Any]) -> None:
        def told(entry: Entry) -> None:
            self.loop.call_soon_threadsafe(self._step_done, future, entry)

        try:
            await self.ctx.keeper.in_thread(lambda: execute(told))
        except BaseException as error:
            self._failed(future, error)

    def _step_done(self, future: asyncio.Future[Any], entry: Entry) -> None:
        self.steps -= 1
        self._push(future, entry.order or 0, entry)

    def _failed(self, future: asyncio.Future[Any], error: BaseException) -> None:
        self.steps -= 1
        if not future.done():
            future.set_exception(error)
        self._look_soon()

    def _push(self, future: asyncio.Future[Any], order: int, value: Any) -> None:
        if len(self.tasks) <= 1 and not self.ready:
            if future.done():  # nobody waits for it any more
                self._look_soon()
            else:
                future.set_result(value)
            return
        heapq.heappush(self.ready, (order, next(self._numbers), future, value))
        self._look_soon()

    def _aside(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Execute something of ours, which is no branch."""
        variables = copy_context()
        variables.run(_current.set, None)
        task = self.loop.create_task(coroutine, context=variables)
        self.aside.add(task)
        task.add_done_callback(self.aside.discard)

    def _future(self) -> asyncio.Future[Any]:
        return End(self.loop, self.moves)

    async def _blocking(self, future: asyncio.Future[Any]) -> Any:
        task = asyncio.current_task()
        self.blocked[future] = task
        if not future.done():
            self.moving.discard(cast("asyncio.Task[Any]", task))
        try:
            return await future
        finally:
            self.moves(future)
            self.blocked.pop(future, None)

    def moves(self, future: asyncio.Future[Any]) -> None:
        """Whoever awaits this future is about to go on."""
        task = self.blocked.get(future)
        if task in self.tasks:
            self.moving.add(task)

    # Looking whether all is still.

    def _look_soon(self) -> None:
        self._since = self.loop.time()
        if not self._looking:
            self._looking = True
            self.loop.call_soon(self._look, 0)

    def _look(self, turn: int) -> None:
        if self._is_over():
            return
        if self._is_still():
            self._looking = False
            if self.ready:
                self._deliver_next()
            elif self.waiting and not self.steps:
                self._all_blocked()
        elif turn < SPINS:
            self.loop.call_soon(self._look, turn + 1)
        elif self.ready and self.loop.time() - self._since > GRACE:
            self._looking = False
            self._deliver_next()
        elif self.ready or self.waiting:
            busy = self.loop.time() - self._since > GRACE
            if busy and self._fresh():
                self._begin()
            self.loop.call_later(BUSY_LOOK if busy else LOOK, self._look, turn)
        else:
            self._looking = False

    def _is_over(self) -> bool:
        """Whether the function has ended or is suspended: branches do not count."""
        return self.ended.done() or (self.root is not None and self.root.done())

    def _is_still(self) -> bool:
        for task in self.moving:
            awaited = getattr(task, "_fut_waiter", None)
            if awaited is None or awaited.done():
                return False
            if awaited in self.gathers:
                continue
            if not waits_for_others(task, awaited, self._is_ours):
                return False
            if hasattr(awaited, "_children"):
                self.gathers.add(awaited)
        return True

    def _is_ours(self, awaited: Any) -> bool:
        return awaited in self.blocked or awaited in self.tasks

    def _deliver_next(self) -> None:
        while self.ready:
            _, _, future, value = heapq.heappop(self.ready)
            if not future.done():
                future.set_result(value)
                break
        if self.ready or self.waiting:
            self._look_soon()

    # Waiting with the slot, or without.

    def _all_blocked(self) -> None:
        if not self.ctx.keeper.keeps:
            self.suspend()
            return
        fresh = self._fresh()
        if fresh or not self.kept:
            self._aside(self._keep(fresh))

    def _fresh(self) -> list[Ask]:
        """What is waited for and was not registered yet."""
        asks = [ask for asks in self.waiting.values() for ask in asks]
        return [ask for ask in asks if ask.group not in self.kept]

    def _begin(self) -> None:
        """Begin with what some branches wait for, while others are busy."""
        fresh = self._fresh()
        self.kept.update(ask.group for ask in fresh)
        self.steps += 1  # no suspension meanwhile
        self._aside(self._begun(fresh))

    async def _begun(self, asks: Sequence[Ask]) -> None:
        try:
            await self.ctx.keeper.begin(asks, self)
        except BaseException as error:
            self._refused(error)
        finally:
            self.steps -= 1
            self._look_soon()

    async def _keep(self, asks: Sequence[Ask]) -> None:
        self.kept.update(ask.group for ask in asks)
        try:
            kept = await self.ctx.keeper.keep(asks, self)
        except BaseException as error:
            self._refused(error)
            return
        if not kept:
            self.suspend()

    def _refused(self, error: BaseException) -> None:
        for future in list(self.waiting):
            if not future.done():
                future.set_exception(error)

    def arrived(self, group: int, entries: list[Entry]) -> None:
        """What a group waited for with its slot has come; from any thread."""
        self.loop.call_soon_threadsafe(self._arrived, group, entries)

    def _arrived(self, group: int, entries: list[Entry]) -> None:
        self.kept.discard(group)
        for future, asks in self.waiting.items():
            if asks[0].group == group:
                order = max(entry.order or 0 for entry in entries)
                self._push(future, order, entries)
                return

    def evict(self) -> None:
        """Give the slot back if all branches still wait; from any thread."""
        self.loop.call_soon_threadsafe(self._evict)

    def _evict(self) -> None:
        if not self.ready and not self.steps and self.waiting and self._is_still():
            self.suspend()

    def suspend(self) -> None:
        """End the attempt: each branch is cancelled, and what it returns is dropped."""
        if self._is_over():
            return
        self.ctx.suspend([ask for asks in self.waiting.values() for ask in asks])
        self.ended.set_result(None)
        for future in list(self.waiting):
            if not future.done():
                future.set_exception(Suspend())

    # Tasks.

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """The first branch: the function itself."""
        if self.loop.get_task_factory() is None:
            self.loop.set_task_factory(_make_task)
        token = _current.set(self)
        try:
            self.root = self.loop.create_task(coroutine)
            return self.root
        finally:
            _current.reset(token)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """One more branch."""
        self.tasks.add(task)
        self.moving.add(task)

        def ended(_: object) -> None:
            if not task.cancelled() and isinstance(task.exception(), Suspend):
                pass  # it has been looked at, so nobody is told that it never was
            self.tasks.discard(task)
            self.moving.discard(task)
            self._look_soon()

        task.add_done_callback(ended)


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    """Make a task and remember whose branch it is."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    variables: Variables | None = options.get("context")
    branches = variables.get(_current) if variables is not None else _current.get()
    if branches is not None:
        branches.adopt(task)
    return task
