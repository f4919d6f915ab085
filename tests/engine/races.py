"""Races that are forced: barriers, and a probe for who waits for whose lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg

from orchestrator.engine.sessions import statements

A = TypeVar("A")
B = TypeVar("B")

PATIENCE = 20.0  # seconds after which a race is considered stuck


class Background:
    """A function in a thread of its own; `result()` waits for it and raises for it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(PATIENCE)
        assert self.done, "stuck"
        if self._error is not None:
            raise self._error
        return self._value


def together(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Call both at the same moment, in threads; what they return, or raise."""
    barrier = threading.Barrier(2)

    def at_barrier(function: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            barrier.wait(PATIENCE)
            return function()

        return run

    threads = [Background(at_barrier(first)), Background(at_barrier(second))]
    a, b = (thread.result() for thread in threads)
    return a, b


def wait_until_blocked(
    probe: psycopg.Connection[Any],
    blocked: psycopg.Connection[Any],
    *,
    unless: Background | None = None,
) -> bool:
    """Return once `blocked` waits for a lock; False where `unless` ended before."""
    pid = blocked.info.backend_pid
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        row = probe.execute(
            "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", [pid]
        ).fetchone()
        if row == ("Lock",):
            return True
        if unless is not None and unless.done:
            return False
        time.sleep(0.001)
    raise AssertionError("nobody waits for a lock")


def lockstep(
    rounds: int, first: Callable[[int], A], second: Callable[[int], B]
) -> list[tuple[A, B]]:
    """Call both for each round at the same moment; what they returned, by round."""
    barrier = threading.Barrier(2)

    def loop(function: Callable[[int], Any]) -> list[Any]:
        try:
            found = []
            for number in range(rounds):
                barrier.wait(PATIENCE)
                found.append(function(number))
            return found
        except BaseException:
            barrier.abort()  # or the other one would wait for its patience to end
            raise

    threads = [Background(lambda f=f: loop(f)) for f in (first, second)]  # type: ignore[misc]
    errors = []
    for thread in threads:
        try:
            thread.result()
        except threading.BrokenBarrierError:
            continue
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return list(zip(threads[0].result(), threads[1].result(), strict=True))


# Statements that stop between their snapshot and the locking of their rows.

GATE = 4_711  # the advisory lock that a held statement waits for
GATED = f"(SELECT pg_advisory_xact_lock_shared({GATE})::text) IS NOT NULL"

MARKS = {
    "claim": [("= 1\n", f"= 1 AND {GATED}\n"), ("> 1\n", f"> 1 AND {GATED}\n")],
}
LOCKED = [("WHERE run.id = ANY (", f"WHERE {GATED} AND run.id = ANY (")]


@contextmanager
def held(
    connection: psycopg.Connection[Any], verb: str, step: str
) -> Iterator[Callable[[], None]]:
    """Make a statement stop once it has its snapshot, before it locks anything.

    Yields a function that lets it go on; `connection` holds the gate until then.
    """
    found = cast(dict[str, bytes], statements(verb))
    usual = found[step]
    gated = usual.decode()
    for mark, replacement in MARKS.get(verb, LOCKED):
        assert mark in gated
        gated = gated.replace(mark, replacement, 1)
    connection.execute("SELECT pg_advisory_lock(%s)", [GATE])
    found[step] = gated.encode()

    def open_gate() -> None:
        connection.execute("SELECT pg_advisory_unlock_all()")

    try:
        yield open_gate
    finally:
        found[step] = usual
        open_gate()


def interleaved(
    probe: psycopg.Connection[Any],
    gate: psycopg.Connection[Any],
    slow: tuple[str, str, psycopg.Connection[Any], Callable[[], A]],
    quick: Callable[[], B],
) -> tuple[A, B]:
    """`slow` takes its snapshot, `quick` happens and commits, then `slow` goes on.

    `slow` is a verb, its step, the connection that it speaks on, and the call.
    """
    verb, step, connection, call = slow
    with held(gate, verb, step) as open_gate:
        calling = Background(call)
        assert wait_until_blocked(probe, connection, unless=calling)
        between = quick()
        open_gate()
        return calling.result(), between
