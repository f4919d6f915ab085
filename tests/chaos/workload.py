"""The load of a soak: a producer that enqueues, and an operator who interferes.

Both go through the public API on Django's connection, which the soak cuts: whatever
raises is of unknown outcome if the commit had been asked for, else it must have left
nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any

from asgiref.sync import async_to_sync
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.utils import timezone

from orchestrator import events, operations
from orchestrator.exceptions import IllegalTransition, RunNotFound
from orchestrator.operations import RunFilter
from tests.chaos.journal import KINDS, Entry, Journal
from tests.chaos.tasks import GO

MOST_OPEN = 800  # unfinished runs above which the producer waits
UNFINISHED = "SELECT count(*) FROM orchestrator_run WHERE status IS NULL"


class ChangedMind(Exception):
    """Rolls a transaction back."""


class Actor(threading.Thread):
    """A thread that does one thing after the other, whatever becomes of the database.

    `pause` is the mean of the seconds between two of them.
    """

    def __init__(
        self, name: str, act: Callable[[], None], random: Random, pause: float
    ):
        super().__init__(name=name, daemon=True)
        self.act = act
        self.random = random
        self.pause = pause
        self.stopping = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Act until told to stop."""
        try:
            while not self.stopping.wait(self.random.expovariate(1 / self.pause)):
                try:
                    self.act()
                except DatabaseError:
                    connection.close()
        except BaseException as error:
            self.failure = error
        finally:
            connection.close()

    def stop(self) -> None:
        """Finish what it is doing; raises what ended it before."""
        self.stopping.set()
        self.join(60)
        if self.failure is not None:
            raise self.failure


class Producer:
    """Enqueues runs of all kinds, singly, in bulk, and in transactions."""

    def __init__(self, journal: Journal, random: Random) -> None:
        self.journal = journal
        self.random = random
        self.names = list(KINDS)
        self.shares = [KINDS[name].share for name in self.names]
        self.looked_at = 0.0
        self.full = False

    def act(self) -> None:
        """Enqueue something, unless the workers have enough."""
        if self._enough():
            return
        how = self.random.choices(
            (
                self.single,
                self.bulk,
                self.together,
                self.regretted,
                self.partly,
                self.push,
            ),
            (30, 25, 15, 10, 5, 15),
        )[0]
        how()

    def _enough(self) -> bool:
        now = time.monotonic()
        if now - self.looked_at > 0.5:
            with connection.cursor() as cursor:
                cursor.execute(UNFINISHED)
                self.full = cursor.fetchone()[0] > MOST_OPEN
            self.looked_at = now
        return self.full

    def single(self) -> None:
        """One run in its own transaction."""
        with self._outcome(self._entry(1)) as entry:
            self._enqueue(entry)

    def bulk(self) -> None:
        """Many runs of one kind in one statement."""
        most = 300 if self.random.random() < 0.15 else 50
        with self._outcome(self._entry(self.random.randint(5, most))) as entry:
            self._enqueue(entry)

    def together(self) -> None:
        """Several kinds in one transaction."""
        entries = [self._entry(self.random.randint(1, 5)) for _ in range(3)]
        with self._outcomes(entries):
            for entry in entries:
                self._enqueue(entry)

    def push(self) -> None:
        """Events that some wait for, and others that nobody does."""
        numbers = [
            self.random.randint(1, 100) for _ in range(self.random.randint(1, 5))
        ]
        events.push_many(
            [
                events.Event(GO if number % 4 else "soak:nothing", {"number": number})
                for number in numbers
            ]
        )

    def regretted(self) -> None:
        """A transaction that is rolled back."""
        entries = [self._entry(self.random.randint(1, 20)) for _ in range(2)]
        try:
            with self._outcomes(entries):
                for entry in entries:
                    self._enqueue(entry)
                raise ChangedMind
        except ChangedMind:
            pass

    def partly(self) -> None:
        """A transaction with a savepoint that is rolled back."""
        kept, regretted = self._entry(2), self._entry(3)
        with self._outcomes([kept]):
            self._enqueue(kept)
            try:
                with transaction.atomic():
                    self._enqueue(regretted)
                    raise ChangedMind
            except ChangedMind:
                regretted.committed, regretted.run_ids = False, ()

    @contextmanager
    def _outcome(self, entry: Entry) -> Iterator[Entry]:
        yield entry  # what raises leaves it unknown
        entry.committed = True

    @contextmanager
    def _outcomes(self, entries: list[Entry]) -> Iterator[None]:
        reached_commit = False
        try:
            with transaction.atomic():
                yield
                reached_commit = True
        except BaseException:
            for entry in entries:
                entry.committed = None if reached_commit else False
                entry.run_ids = ()
            raise
        for entry in entries:
            entry.committed = True

    def _entry(self, count: int) -> Entry:
        name = self.random.choices(self.names, self.shares)[0]
        return self.journal.entry(name, count if KINDS[name].many else 1)

    def _enqueue(self, entry: Entry) -> None:
        random, kind = self.random, KINDS[entry.kind]
        target = kind.target.using(**self._options(entry))
        inputs = [kind.arguments(random, entry.number) for _ in range(entry.count)]
        if entry.count == 1:
            handles = [target.enqueue(*inputs[0])]
        else:
            calls = [target.bind(*arguments) for arguments in inputs]
            if random.random() < 0.8:
                handles = target.enqueue_many(calls)
            else:
                handles = async_to_sync(target.aenqueue_many)(calls)
        entry.run_ids = tuple(handle.id for handle in handles)

    def _options(self, entry: Entry) -> dict[str, Any]:
        random = self.random
        options: dict[str, Any] = {"tenant": entry.tenant}
        if random.random() < 0.3:
            options["priority"] = random.randint(-100, 100)
        if random.random() < 0.15:
            later = timedelta(seconds=random.uniform(-1, 4))
            options["run_after"] = timezone.now() + later
        if random.random() < 0.1:
            options["queue_name"] = random.choice(["default", "bulk", "effects"])
        return options


class Operator:
    """Cancels, retries and reprioritises runs that were enqueued lately."""

    def __init__(self, journal: Journal, random: Random) -> None:
        self.journal = journal
        self.random = random

    def act(self) -> None:
        """Interfere with one run."""
        run_id = self.journal.some_run(self.random)
        if run_id is None:
            return
        what = self.random.choices(("cancel", "retry", "priority"), (5, 4, 3))[0]
        done: bool | None = None
        try:
            done = self._do(what, RunFilter(ids=[run_id]))
        except (IllegalTransition, RunNotFound):
            done = False
        finally:
            self.journal.ask(run_id, what, done)

    def _do(self, what: str, which: RunFilter) -> bool:
        random = self.random
        if what == "cancel":
            return bool(operations.cancel_runs(which, reason="chaos"))
        if what == "retry":
            tasks = "all" if random.random() < 0.3 else "failed"
            return bool(operations.retry_runs(which, tasks=tasks))
        priority = random.randint(-100, 100)
        return bool(operations.reprioritise_runs(which, priority=priority))
