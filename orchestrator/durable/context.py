"""DurableContext: what a durable function is handed.

Each call is recorded in the journal of the task run. When the function is executed
again, after a wait, a failure or the loss of its worker, what is on record is returned
at once and not done again; what lies between the calls is executed again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from functools import partial
from inspect import iscoroutinefunction
from itertools import count
from typing import Any, ParamSpec, TypeVar, overload

from asgiref.sync import async_to_sync
from django.utils import timezone

from orchestrator.calls import Call
from orchestrator.conditions import (
    Condition,
    EventCondition,
    ParentCondition,
    SleepCondition,
    WaitResult,
    check_condition,
)
from orchestrator.context import Context, Input_co
from orchestrator.durable import asked, outcomes
from orchestrator.durable.calls import INSIDE_STEP, Ask, Keeper, Positions
from orchestrator.durable.children import Running
from orchestrator.engine.journal import Entry, Journal
from orchestrator.exceptions import InvalidInput
from orchestrator.states import EntryKind

P = ParamSpec("P")
T = TypeVar("T")


class DurableContext(Running, Context[Input_co]):
    """A context whose calls are recorded: `def ship(ctx: DurableContext[Order])`.

    Durable waits hold no slot. `attempt` counts from 1 and goes on after a wait.
    Async functions use the twins with an `a`: `await ctx.asleep(…)`.

    All calls raise NonDeterminism where the journal has something else on record, and
    TaskCancelled where the task run was cancelled meanwhile.
    """

    def __init__(
        self,
        *,
        journal: Journal | None = None,
        keeper: Keeper,
        attempt: int,
        **about: Any,
    ) -> None:
        journal = Journal() if journal is None else journal
        super().__init__(attempt=attempt, **about)
        self.attempt = attempt - journal.suspensions
        self.positions = Positions(journal)
        self.keeper = keeper
        self.branches = None
        self.suspended = None

    @property
    def is_replaying(self) -> bool:
        return self.positions.reached < self.positions.recorded

    # Steps.

    @overload
    def step(
        self, function: Callable[..., T], /, *args: Any, name: str, **kwargs: Any
    ) -> T: ...

    @overload
    def step(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    def step(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `function` once: its writes and its record commit in one transaction.

        What it returns has to fit into JSON and comes back from there, the first time,
        too. Its exception is not recorded: the attempt fails, and another one may
        call it again. `name=` says what it is called in the journal.
        """
        self._refuse_async("step")
        name, ask, call = self._step(function, args, kwargs)
        recorded = self.positions.entries([ask])
        entry = recorded[0] if recorded else self.keeper.step(ask, call, _nobody)
        self.positions.learn([entry])
        return outcomes.decode_step(function, name, entry.output)

    @overload
    async def astep(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        name: str,
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def astep(
        self,
        function: Callable[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...

    @overload
    async def astep(
        self, function: Callable[..., T], /, *args: Any, name: str, **kwargs: Any
    ) -> T: ...

    @overload
    async def astep(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def astep(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`step` for async functions; `function` may be sync or async.

        It is called in a thread of its own, where an async function's use of the ORM
        joins the transaction.
        """
        name, ask, call = self._step(function, args, kwargs)
        entry = await self._branches().record(ask, partial(self.keeper.step, ask, call))
        return outcomes.decode_step(function, name, entry.output)

    def now(self) -> datetime:
        """The time of the database when this call was first made."""
        self._refuse_async("now")
        ask = self._ask(EntryKind.NOW, "now", asked.NOW)
        recorded = self.positions.entries([ask])
        entry = recorded[0] if recorded else self.keeper.now(ask, _nobody)
        self.positions.learn([entry])
        return entry.created_at

    async def anow(self) -> datetime:
        """`now` for async functions."""
        ask = self._ask(EntryKind.NOW, "now", asked.NOW)
        entry = await self._branches().record(ask, partial(self.keeper.now, ask))
        return entry.created_at

    # Waits.

    def sleep(self, duration: timedelta) -> None:
        """Wait for `duration`, from when this call was first made."""
        self._wait([self._sleep(duration)])

    async def asleep(self, duration: timedelta) -> None:
        """`sleep` for async functions."""
        await self._await([self._sleep(duration)])

    def sleep_until(self, moment: datetime) -> None:
        """Wait until `moment`, an aware datetime that is the same at each replay."""
        self._wait([self._sleep_until(moment)])

    async def asleep_until(self, moment: datetime) -> None:
        """`sleep_until` for async functions."""
        await self._await([self._sleep_until(moment)])

    def wait_for(self, condition: Condition) -> WaitResult:
        """Wait until `condition` holds; what came true, by the names of its parts.

        Events count from when this call was first made, or as far back as `lookback`
        says. A ParentCondition has no place here.
        """
        ask, listens = self._wait_for(condition)
        if listens:
            ask.snapshot = self.keeper.snapshot()
        [entry] = self._wait([ask])
        return outcomes.wait_result(entry)

    async def await_for(self, condition: Condition) -> WaitResult:
        """`wait_for` for async functions."""
        ask, listens = self._wait_for(condition)
        if listens:
            ask.snapshot = await self.keeper.in_thread(self.keeper.snapshot)
        [entry] = await self._await([ask])
        return outcomes.wait_result(entry)

    def wait_for_event(
        self,
        key: str,
        expression: str = "true",
        *,
        scope: str | None = None,
        lookback: timedelta | None = None,
    ) -> Any:
        """Wait for an event, as an EventCondition of that kind; its payload."""
        condition = EventCondition(key, expression, scope=scope, lookback=lookback)
        return self.wait_for(condition)[condition.label]

    async def await_for_event(
        self,
        key: str,
        expression: str = "true",
        *,
        scope: str | None = None,
        lookback: timedelta | None = None,
    ) -> Any:
        """`wait_for_event` for async functions."""
        condition = EventCondition(key, expression, scope=scope, lookback=lookback)
        return (await self.await_for(condition))[condition.label]

    # Children.

    def run_many(
        self, calls: Iterable[Call[T]], keys: Iterable[str] | None = None
    ) -> list[T]:
        """Run each of the calls as a child and wait for all; their outputs in order.

        Raises the error of the first that failed or was cancelled, as `run` does,
        once all have ended.
        """
        asks, definitions = self._children(calls, keys)
        entries = self._wait(asks) if asks else []
        return [
            outcomes.child_output(definition, entry)
            for definition, entry in zip(definitions, entries, strict=True)
        ]

    async def arun_many(
        self, calls: Iterable[Call[T]], keys: Iterable[str] | None = None
    ) -> list[T]:
        """`run_many` for async functions."""
        asks, definitions = self._children(calls, keys)
        entries = await self._await(asks) if asks else []
        return [
            outcomes.child_output(definition, entry)
            for definition, entry in zip(definitions, entries, strict=True)
        ]

    def mark_cancelled(self) -> None:
        """Let the function know, also where it waits with its slot."""
        super().mark_cancelled()
        self.keeper.stop()

    def end_of_attempt(self) -> None:
        """Say what is left to say, and wait for nothing more."""
        self.keeper.end()
        super().end_of_attempt()

    # How a call is made.

    def _next_number(self) -> int:
        numbers = INSIDE_STEP.get()
        return super()._next_number() if numbers is None else next(numbers)

    def _step(
        self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> tuple[str, Ask, Callable[[], str | None]]:
        name = asked.step_name(function, kwargs.pop("name", None))
        ask = self._ask(EntryKind.STEP, name, asked.step(name, args, kwargs))

        place = self.positions.journal.branch << 32 | ask.position

        def call() -> str | None:
            token = INSIDE_STEP.set(count(place << 32))
            try:
                if iscoroutinefunction(function):
                    value = async_to_sync(function)(*args, **kwargs)
                else:
                    value = function(*args, **kwargs)
            finally:
                INSIDE_STEP.reset(token)
            return outcomes.encode_step(function, name, value)

        return name, ask, call

    def _sleep(self, duration: timedelta) -> Ask:
        condition = SleepCondition(duration)  # checks it
        return self._ask(
            EntryKind.WAIT,
            condition.label,
            asked.sleep(duration),
            condition=condition.to_dict(),
        )

    def _sleep_until(self, moment: datetime) -> Ask:
        given: object = moment
        if not isinstance(given, datetime) or timezone.is_naive(given):
            raise InvalidInput(
                f"sleep_until({given!r}) takes an aware datetime, such as "
                "ctx.now() + timedelta(days=1)."
            )
        return self._ask(
            EntryKind.WAIT, "sleep", asked.sleep_until(moment), until=moment
        )

    def _wait_for(self, condition: Condition) -> tuple[Ask, bool]:
        if check_condition(condition, "wait_for") is None:
            raise InvalidInput("wait_for(None) would wait for nothing; leave it out.")
        if any(isinstance(leaf, ParentCondition) for leaf in condition.leaves()):
            raise InvalidInput(
                "A ParentCondition has no place in ctx.wait_for: parents have ended "
                "before a task begins. Use ctx.output(parent)."
            )
        leaves = list(condition.leaves())
        name = " ".join(leaf.label for leaf in leaves)[:200]
        ask = self._ask(
            EntryKind.WAIT, name, asked.wait(condition), condition=condition.to_dict()
        )
        listens = any(isinstance(leaf, EventCondition) for leaf in leaves)
        return ask, listens and not ask.recorded


def _nobody(entry: Entry) -> None:
    """Who is told of the end of a step that its caller waits for."""
