"""When tasks began: a file mapped into the harness and into every worker.

A task calls :func:`stamp` with its number, which costs one clock reading and one
store into shared memory, no system call. ``CLOCK_MONOTONIC`` is the same for all
processes of a machine, so a stamp can be compared with times of the harness.

The file is an array of 64-bit integers: ``PROCESSES`` places where a process writes
its pid with its first stamp, so that the harness knows who works, then a place per
task for the nanoseconds of its start, 0 until then.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

PROCESSES = 4096
CAPACITY = 1_000_000
VARIABLE = "BENCH_STAMPS"

_places: memoryview | None = None


def stamp(number: int) -> None:
    """Record that task ``number`` (from 0) begins now. Any thread or process."""
    (_places or _open())[PROCESSES + number] = time.monotonic_ns()


def _open() -> memoryview:
    global _places
    _places = _map(Path(os.environ[VARIABLE]))
    _places[os.getpid() % PROCESSES] = os.getpid()
    return _places


def _map(path: Path) -> memoryview:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("q")


class Stamps:
    """The harness's side of the file."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        os.truncate(path, 8 * (PROCESSES + CAPACITY))
        self.path = path
        self._places = _map(path)
        self._next = self._scanned = 0

    def clear(self) -> None:
        """Forget all stamps and pids, before a worker starts."""
        self._places[:] = memoryview(bytes(8 * len(self._places))).cast("q")
        self._next = self._scanned = 0

    def take(self, count: int) -> range:
        """Numbers that no task of this worker has had."""
        numbers = range(self._next, self._next + count)
        if numbers.stop > CAPACITY:
            raise OverflowError(
                f"{numbers.stop} tasks in one measure; raise CAPACITY in stamps.py"
            )
        self._next = numbers.stop
        return numbers

    def processes(self) -> int:
        """How many processes have begun a task since :meth:`clear`."""
        return sum(1 for pid in self._places[:PROCESSES] if pid)

    def at(self, number: int) -> int:
        """Monotonic nanoseconds at which the task began, 0 if it has not."""
        return self._places[PROCESSES + number]

    def all_begun(self, numbers: range) -> bool:
        """Whether each has begun. Cheap to ask again: goes on where it stopped."""
        at = max(self._scanned, numbers.start)
        while at < numbers.stop and self._places[PROCESSES + at]:
            at += 1
        self._scanned = at
        return at >= numbers.stop

    def of(self, numbers: range) -> list[int]:
        """The stamps of those tasks that have begun."""
        first = PROCESSES + numbers.start
        return [t for t in self._places[first : PROCESSES + numbers.stop] if t]
