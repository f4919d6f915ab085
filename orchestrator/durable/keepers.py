"""Keepers: where the journal of an attempt is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.utils import timezone

from orchestrator.conf import settings
from orchestrator.durable.branches import Branches
from orchestrator.durable.calls import Ask, Step, Told
from orchestrator.durable.residents import AsyncResident, Residents, SyncResident
from orchestrator.engine import failpoints, journal, sessions, waits
from orchestrator.engine.journal import Entry, Fence
from orchestrator.engine.waits import Request
from orchestrator.policies import Eviction
from orchestrator.serialization import dumps
from orchestrator.states import EntryKind

Value = TypeVar("Value")


class DatabaseKeeper:
    """The keeper of a claimed attempt.

    What it writes is fenced by the lease. With `residents`, waits keep the slot as the
    policy says; `threads` are where async functions have their steps executed, the
    caller's thread where there are none.
    """

    def __init__(
        self,
        fence: Fence,
        run_id: UUID,
        branch: int,
        policy: Eviction | None,
        residents: Residents | None = None,
        threads: ThreadPoolExecutor | None = None,
    ) -> None:
        self.fence = fence
        self.run_id = run_id
        self.branch = branch
        self.policy = policy
        self.residents = residents
        self.threads = threads
        self.keeps = residents is not None and (policy is None or policy.keeps)
        self._in_order = threading.Lock()  # from a record to the word of it
        self._stopped = False
        self._sync: SyncResident | None = None
        self._async: AsyncResident | None = None

    # What is over at once.

    def step(self, ask: Ask, call: Step, told: Told) -> Entry:
        """Execute a step in a transaction of its own, whose last word is its record."""
        with ExitStack() as stack:
            with transaction.atomic(using=settings.database, durable=True):
                output = call()
                stack.enter_context(self._in_order)
                entry = self._record(ask, output)
            failpoints.hit("journal.after")
            told(entry)
        return entry

    def now(self, ask: Ask, told: Told) -> Entry:
        """Record the time of the database."""
        return self.step(ask, _nothing, told)

    def _record(self, ask: Ask, output: str | None) -> Entry:
        order, moment = journal.record(
            sessions.django_session(),
            self.fence,
            self.branch,
            ask.position,
            kind=ask.kind.value,
            name=ask.name,
            asked=ask.asked,
            output=output,
            alone=len(connections[settings.database].atomic_blocks) == 1,
        )
        return Entry(
            ask.position, ask.kind.value, ask.asked, output, None, order, moment
        )

    # What is waited for.

    def requests(self, asks: Sequence[Ask]) -> list[Request]:
        """The calls as the engine takes them."""
        return [
            Request(
                self.fence.task_run_id,
                self.run_id,
                self.branch,
                self.fence.attempt,
                ask.position,
                ask.group,
                ask.kind,
                ask.name,
                ask.asked,
                ask.called,
                ask.recorded,
                ask.condition,
                ask.until,
                ask.child,
                ask.snapshot,
            )
            for ask in asks
        ]

    def snapshot(self) -> str | None:
        """What has committed by now."""
        return waits.snapshot(sessions.django_session())

    def wait(self, asks: Sequence[Ask]) -> list[Entry] | None:
        """Keep the slot where the policy says so."""
        if self.residents is None or not self.keeps:
            return None
        self._register(asks)
        resident = self._sync = SyncResident(
            self.fence, self.branch, self.policy, self._in_order
        )
        if self._stopped:  # meanwhile
            resident.stop()
        resident.add(asks)
        self.residents.add(resident)
        try:
            return resident.wait()
        finally:
            self._sync = None
            self.residents.remove(resident)

    async def keep(self, asks: Sequence[Ask], branches: Branches) -> bool:
        """Keep the slot where the policy says so."""
        if not self.keeps:
            return False
        await self.begin(asks, branches)
        return True

    async def begin(self, asks: Sequence[Ask], branches: Branches) -> None:
        """Register what is waited for; a worker delivers what is over meanwhile."""
        await self.in_thread(lambda: self._register(asks))
        if self.residents is None:
            return
        if self._async is None:
            self._async = AsyncResident(
                self.fence, self.branch, self.policy, self._in_order
            )
            self._async.branches = branches
        self._async.add(asks)
        self.residents.add(self._async)

    def _register(self, asks: Sequence[Ask]) -> None:
        with transaction.atomic(using=settings.database, durable=True):
            waits.hold(sessions.django_session(), self.fence, self.requests(asks))
        for ask in asks:
            ask.recorded = True

    def stop(self) -> None:
        """Wake the thread that waits here: it was cancelled."""
        self._stopped = True
        resident = self._sync
        if resident is not None:
            resident.stop()

    def end(self) -> None:
        """The attempt is over."""
        if self._async is not None and self.residents is not None:
            self.residents.remove(self._async)

    async def in_thread(self, function: Callable[[], Value]) -> Value:
        """Call `function` in a thread that has a connection."""
        if self.threads is None:
            return await sync_to_async(function)()
        aside = sync_to_async(function, thread_sensitive=False, executor=self.threads)
        return await aside()


class TestKeeper:
    """The keeper of `make_context`: steps call through, and waits have answers.

    `answers` are what waits and children give, in order, an exception being raised; a
    sleep needs none.
    """

    __test__ = False
    keeps = True

    def __init__(self, answers: Sequence[Any] = ()) -> None:
        self._answers: Iterator[Any] = iter(answers)

    def step(self, ask: Ask, call: Step, told: Told) -> Entry:
        """Call the function."""
        entry = self._entry(ask, call())
        told(entry)
        return entry

    def now(self, ask: Ask, told: Told) -> Entry:
        """The time of this machine."""
        return self.step(ask, _nothing, told)

    def wait(self, asks: Sequence[Ask]) -> list[Entry] | None:
        """The next answers."""
        return [self._answered(ask) for ask in asks]

    async def keep(self, asks: Sequence[Ask], branches: Branches) -> bool:
        """The next answers."""
        await self.begin(asks, branches)
        return True

    async def begin(self, asks: Sequence[Ask], branches: Branches) -> None:
        """The next answers."""
        for group in dict.fromkeys(ask.group for ask in asks):
            ours = [ask for ask in asks if ask.group == group]
            branches.arrived(group, [self._answered(ask) for ask in ours])

    def stop(self) -> None:
        """Nobody waits here."""

    def snapshot(self) -> str | None:
        """No event comes."""
        return None

    def end(self) -> None:
        """Nothing is kept."""

    async def in_thread(self, function: Callable[[], Value]) -> Value:
        """Call `function` where Django allows it to use the database."""
        return await sync_to_async(function)()

    def _answered(self, ask: Ask) -> Entry:
        if ask.asked.startswith("sleep"):
            return self._entry(ask, None)
        try:
            answer = next(self._answers)
        except StopIteration:
            raise AssertionError(
                f"make_context(answers=…) has no answer left for {ask.asked!r}."
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        if ask.kind == EntryKind.WAIT:
            names = ask.name.split(" ")
            pairs = answer if isinstance(answer, dict) and len(names) > 1 else None
            answer = list((pairs or {names[0]: answer}).items())
        limit = settings.max_output_bytes
        return self._entry(ask, dumps(answer, limit=limit, what="The answer"))

    def _entry(self, ask: Ask, output: str | None) -> Entry:
        now: datetime = timezone.now()
        return Entry(
            ask.position, ask.kind.value, ask.asked, output, None, ask.position, now
        )


def _nothing() -> None:
    """What is done to know the time."""
