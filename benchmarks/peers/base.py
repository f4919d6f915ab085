"""What a peer must do to be measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

from benchmarks.processes import Processes
from benchmarks.stamps import VARIABLE

Kind = Literal["async", "sync", "chain", "diamond", "durable", "event", "sleep"]
"""What a task is: a coroutine, a plain function, three in a row, or four of which two
are side by side (whose first stamps); a durable function with a step and a child, one
that waits for an event, and one that sleeps. Names the peer's task, queue or entry
point."""

URL = "BENCH_URL"


class Peer(ABC):
    """One system, driven through what it offers to its users.

    The harness calls, for every measure and round: ``prepare`` once per template
    database, then ``connect``, ``enqueue_…``, ``start_workers``, ``wait_done`` and
    ``stop``. Enqueueing returns when the tasks are committed.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[Kind]] = frozenset({"async", "sync"})
    on_postgres: ClassVar[bool] = True
    bulk: ClassVar[bool] = True
    pace: ClassVar[Literal["fast", "slow"]] = "fast"
    """A slow peer drains fewer tasks, so that a round does not take minutes."""

    def __init__(self, directory: Path, stamps: Path, url: str) -> None:
        """``directory`` is its own, ``url`` its database's in this run."""
        self.directory = directory
        self.url = url
        self.environment = {URL: url, VARIABLE: str(stamps), **self.own_environment()}
        self.processes = Processes(directory, self.environment)

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here, or an empty text."""
        return ""

    def own_environment(self) -> dict[str, str]:
        """What its processes and its client need besides the database's address."""
        return {}

    @abstractmethod
    def version(self) -> str:
        """For the report, with the settings that matter."""

    @abstractmethod
    def prepare(self) -> None:
        """Make its tables in its empty database; leave no connection behind."""

    @abstractmethod
    def connect(self) -> None:
        """Be ready to enqueue; remember what is already there as not its own."""

    @abstractmethod
    def enqueue_one(self, kind: Kind, number: int) -> None:
        """Enqueue one task in a commit of its own."""

    @abstractmethod
    def enqueue_many(self, kind: Kind, numbers: range) -> None:
        """Enqueue all in one call and one commit."""

    @abstractmethod
    def start_workers(self, kind: Kind, processes: int) -> None:
        """Start workers for tasks of that kind, as the peer's users start them."""

    @abstractmethod
    def wait_done(self, deadline: float) -> bool:
        """Wait until each task enqueued since ``connect`` is durably done.

        Asks the peer's own tables. Returns False if the deadline (monotonic
        seconds) came first.
        """

    def backlog(self, rows: int) -> None:
        """Put ``rows`` tasks in the way of a worker for async tasks.

        A third is due tomorrow, a third lies in another queue, a third is of a
        task that the worker does not know in its own queue. Asked of peers with async
        tasks; Celery, which has none, has no counterpart to it either.
        """
        raise LookupError(f"{self.name} has no backlog")

    def burst(self, kind: Kind, numbers: range) -> None:
        """Put many tasks at once in front of idle workers: none may start before
        all are there."""
        self.enqueue_many(kind, numbers)

    def stop(self) -> None:
        """Stop the workers and close the connections."""
        self.processes.stop()

    def close(self) -> None:
        """Stop everything for good, also what ``prepare`` started."""
        self.stop()
