"""Durable calls: what a function asks for, at which position of its journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from orchestrator.engine.journal import Entry, Journal
from orchestrator.engine.spawn import Child
from orchestrator.exceptions import NonDeterminism
from orchestrator.states import EntryKind

if TYPE_CHECKING:
    from orchestrator.durable.branches import Branches

Value = TypeVar("Value")

# Inside a step: the numbers of the children that it spawns. A replay leaves the step
# out, so those that are spawned beside it are counted for themselves.
INSIDE_STEP: ContextVar[Iterator[int] | None] = ContextVar(
    "orchestrator.step", default=None
)


@dataclass(slots=True)
class Ask:
    """One call. `group` is the position of the first of those that belong together.

    `called` is its `time.monotonic()`.
    """

    position: int
    group: int
    kind: EntryKind
    name: str
    asked: str
    recorded: bool = False
    condition: Mapping[str, Any] | None = None
    until: datetime | None = None
    child: Child | None = None
    snapshot: str | None = None  # what had committed, where an event is waited for
    called: float = field(default_factory=time.monotonic)


Step = Callable[[], str | None]  # calls the function; its output as JSON text
Told = Callable[[Entry], None]  # hears of the end of a step


class Keeper(Protocol):
    """Where the journal of an attempt is kept: a database, a test, or nowhere."""

    keeps: bool  # whether waits may keep the slot

    def step(self, ask: Ask, call: Step, told: Told) -> Entry:
        """Execute a step and record it, in the thread that calls.

        Of two steps the one with the lower order is told first.
        """

    def now(self, ask: Ask, told: Told) -> Entry:
        """Record the time."""

    def wait(self, asks: Sequence[Ask]) -> list[Entry] | None:
        """Wait for all of the calls here; None to wait for them without the slot."""

    async def begin(self, asks: Sequence[Ask], branches: Branches) -> None:
        """Begin to wait for these in any case, while other branches are busy."""

    def snapshot(self) -> str | None:
        """What has committed by now, by which events that come later are known."""

    def end(self) -> None:
        """The attempt is over."""

    def stop(self) -> None:
        """Whoever waits here is to look whether it was cancelled."""

    async def in_thread(self, function: Callable[[], Value]) -> Value:
        """Call `function` where it may use the database."""

    async def keep(self, asks: Sequence[Ask], branches: Branches) -> bool:
        """Begin to wait for these with the slot; False where that is not to be."""


class Positions:
    """The journal of an attempt, and how far its function has come in it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.reached = 0
        self.recorded = max(journal.entries, default=0)
        self.diverged: NonDeterminism | None = None  # the first time

    def ask(self, kind: EntryKind, name: str, asked: str, **what: Any) -> Ask:
        """The next call."""
        return self.ask_many(kind, [(name, asked, what)])[0]

    def ask_many(
        self, kind: EntryKind, calls: Sequence[tuple[str, str, Mapping[str, Any]]]
    ) -> list[Ask]:
        """The next calls, which are waited for together.

        Raises NonDeterminism where something else is on record there.
        """
        first = self.reached + 1
        self.reached += len(calls)
        asks = [
            Ask(first + number, first, kind, name, asked, **what)
            for number, (name, asked, what) in enumerate(calls)
        ]
        for ask in asks:
            entry = self.journal.entries.get(ask.position)
            if entry is None:
                continue
            if entry.kind != kind or entry.asked != ask.asked:
                error = NonDeterminism(ask.position, entry.asked, ask.asked)
                self.diverged = self.diverged or error
                raise error
            ask.recorded = True
        return asks

    def entries(self, asks: Sequence[Ask]) -> list[Entry] | None:
        """What is on record of the calls, if all of them are over."""
        found = [self.journal.entries.get(ask.position) for ask in asks]
        over = [entry for entry in found if entry is not None and is_over(entry)]
        return over if len(over) == len(asks) else None

    def learn(self, entries: Sequence[Entry]) -> None:
        """Remember what was recorded meanwhile."""
        self.journal.entries.update({entry.position: entry for entry in entries})


def is_over(entry: Entry) -> bool:
    """Whether an entry has come to an end, and was delivered in its turn."""
    return entry.order is not None
