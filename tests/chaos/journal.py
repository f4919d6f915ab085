"""The journal of a soak: what was enqueued and asked for, and how each may end.

The soak knows each run by its tenant, the number of the entry that enqueued it: a
commit whose answer never came leaves no ids, and its runs are found all the same.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from orchestrator.states import RunStatus
from tests.chaos import tasks

COMPLETED = frozenset({RunStatus.COMPLETED.value})
FAILED = frozenset({RunStatus.FAILED.value})
EITHER = frozenset({RunStatus.COMPLETED.value, RunStatus.CANCELLED.value})


@dataclass(frozen=True)
class Kind:
    """What can be enqueued: a target, arguments for it, and how its runs may end.

    `effects` is how many keys a completed run has written. `share` is how often it is
    chosen, `many` whether it may be enqueued in bulk.
    """

    target: Any
    arguments: Callable[[Random, int], tuple[Any, ...]]
    legal: frozenset[str]
    share: float
    effects: int = 0
    many: bool = True


def _none(random: Random, number: int) -> tuple[Any, ...]:
    return ()


def _sleeps(random: Random, number: int) -> tuple[Any, ...]:
    long = random.random() < 0.3
    return (random.uniform(0, 1.0 if long else 0.1), random.uniform(0, 0.1))


def _long(random: Random, number: int) -> tuple[Any, ...]:
    """Longer than a lease lasts without a heartbeat, mostly."""
    return (random.uniform(0, 1), random.uniform(2, 5))


def _alone(random: Random, number: int) -> tuple[Any, ...]:
    return (random.uniform(0, 0.2),)


def _failures(random: Random, number: int) -> tuple[Any, ...]:
    return (random.randint(1, 3),)


def _overrun(random: Random, number: int) -> tuple[Any, ...]:
    return (random.uniform(1, 3),)


def _number(random: Random, number: int) -> tuple[Any, ...]:
    return ({"number": number},)


KINDS = {
    "noop": Kind(tasks.noop, _none, COMPLETED, 20),
    "anoop": Kind(tasks.anoop, _none, COMPLETED, 15),
    "effect": Kind(tasks.effect, _sleeps, COMPLETED, 15, 1),
    "aeffect": Kind(tasks.aeffect, _sleeps, COMPLETED, 10, 1),
    "long": Kind(tasks.effect, _long, COMPLETED, 2, 1, many=False),
    "along": Kind(tasks.aeffect, _long, COMPLETED, 8, 1, many=False),
    "alone": Kind(tasks.alone, _alone, COMPLETED, 3, 1, many=False),
    "diamond": Kind(tasks.diamond, _number, COMPLETED, 10, 2),
    "chain": Kind(tasks.chain, _number, COMPLETED, 8, 1),
    "broken": Kind(tasks.broken, _number, FAILED, 6),
    "choice": Kind(tasks.choice, _number, COMPLETED, 6, 1),
    "waiting": Kind(tasks.waiting, _number, COMPLETED, 4, 1),
    "handled": Kind(tasks.handled, _number, FAILED, 3, 1),
    "durable": Kind(tasks.durable, _number, COMPLETED, 6),
    "flaky": Kind(tasks.flaky, _failures, COMPLETED, 8),
    "hopeless": Kind(tasks.hopeless, _none, FAILED, 4),
    "refuse": Kind(tasks.refuse, _none, FAILED, 3),
    "hurry": Kind(tasks.hurry, _none, EITHER, 6),
    "aoverrun": Kind(tasks.aoverrun, _none, FAILED, 1.5, many=False),
    "overrun": Kind(tasks.overrun, _overrun, FAILED, 0.4, many=False),
    "overrun_alone": Kind(tasks.overrun_alone, _none, FAILED, 0.5, many=False),
    "poison": Kind(tasks.poison, _none, FAILED, 0.15, many=False),
}


@dataclass
class Entry:
    """One enqueueing of runs of one kind. `committed` is None where nobody knows."""

    number: int
    kind: str
    count: int
    committed: bool | None = None
    run_ids: tuple[UUID, ...] = ()

    @property
    def tenant(self) -> str:
        """What its runs are known by."""
        return str(self.number)


@dataclass
class Asked:
    """What operators have asked of one run, in order; `done` is None if unknown."""

    what: str
    done: bool | None


@dataclass
class Journal:
    """Everything that was asked of the engine. Its threads share it."""

    entries: list[Entry] = field(default_factory=list)
    asked: dict[UUID, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    troubles: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def entry(self, kind: str, count: int) -> Entry:
        """A new entry, not committed as far as is known."""
        with self.lock:
            entry = Entry(len(self.entries) + 1, kind, count)
            self.entries.append(entry)
            return entry

    def ask(self, run_id: UUID, what: str, done: bool | None) -> None:
        """Note what an operator did to a run."""
        with self.lock:
            self.asked[run_id].append(Asked(what, done))

    def some_run(self, random: Random, latest: int = 200) -> UUID | None:
        """One of the runs enqueued lately."""
        with self.lock:
            entries = [entry for entry in self.entries[-latest:] if entry.run_ids]
        return random.choice(random.choice(entries).run_ids) if entries else None

    def legal(self, kind: str, run_id: UUID) -> frozenset[str]:
        """How a run may have ended, by its kind and by what was asked."""
        legal = KINDS[kind].legal
        for asked in self.asked.get(run_id, ()):
            if asked.what == "retry" and asked.done:
                legal = KINDS[kind].legal
            elif asked.what == "retry" and asked.done is None:
                legal |= KINDS[kind].legal
            elif asked.what == "cancel" and asked.done:
                legal = frozenset({RunStatus.CANCELLED.value})
            elif asked.what == "cancel" and asked.done is None:
                legal |= {RunStatus.CANCELLED.value}
        return legal
