"""Slots: where functions run. Threads for sync ones, an event loop for async ones.

Both take work in batches from the engine thread and hand it back through the mailbox.
A noop pays for an append, a pop and a context; waking a thread is paid by the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

from orchestrator.engine.settle import Result
from orchestrator.worker import execute, hygiene
from orchestrator.worker.board import Board
from orchestrator.worker.execute import Work
from orchestrator.worker.mailbox import Mailbox

logger = logging.getLogger("orchestrator")

LINGER = 1.0  # seconds that a function gets to notice its timeout or its cancel


class Slots(Protocol):
    """What the engine thread knows of either kind. Only it calls these."""

    size: int  # how many it executes at once
    lost: int  # how many of these are held by functions that nobody waits for

    def submit(self, works: Sequence[Work]) -> None:
        """Take work; it starts as soon as slots are free."""

    def withdraw(self) -> list[Work]:
        """Give back what has not started."""

    def overdue(self, now: float) -> list[Work]:
        """What has outlived its execution timeout and will not stop by itself."""

    def stop(self, work: Work) -> None:
        """Ask one function to stop, as far as that is possible."""

    def silence(self, now: float) -> float:
        """Seconds for which the slots have not even answered; 0 where they have."""


def _emptied(line: deque[Work]) -> list[Work]:
    """What could be taken out of a line from which others take, too."""
    taken = []
    with contextlib.suppress(IndexError):
        while True:
            taken.append(line.pop())
    return taken


class Seat:
    """One thread: its number on the board, and what it is doing."""

    __slots__ = ("lock", "number", "work")

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.Lock()
        self.lock.acquire()
        self.work: Work | None = None


class Threads:
    """`size` threads that share one line of work; whoever is free takes the next."""

    def __init__(
        self,
        size: int,
        board: Board,
        first_cell: int,
        mailbox: Mailbox,
        run: Callable[[Work], Result],
    ) -> None:
        self.size = size
        self.lost = 0
        self.mailbox = mailbox
        self._board = board
        self._run = run
        self._line: deque[Work] = deque()
        self._idle: list[Seat] = []
        self._seats = [Seat(first_cell + index) for index in range(size)]
        for seat in self._seats:
            threading.Thread(
                target=self._serve,
                args=(seat,),
                name=f"slot-{seat.number}",
                daemon=True,
            ).start()

    def submit(self, works: Sequence[Work]) -> None:
        """Take work; it starts as soon as slots are free."""
        self._line.extend(works)
        idle = self._idle
        for _ in range(min(len(works), len(idle))):
            try:
                seat = idle.pop()
            except IndexError:
                return  # a thread found the work by itself
            seat.lock.release()

    def withdraw(self) -> list[Work]:
        """Give back what has not started."""
        return _emptied(self._line)

    def overdue(self, now: float) -> list[Work]:
        """What has outlived its execution timeout; isolated work is killed instead."""
        found = []
        for seat in self._seats:
            work = seat.work
            if work is None or work.timeout is None or work.closed or not work.started:
                continue
            spare = LINGER if work.isolated else 0.0
            if now - work.started >= work.timeout + spare:
                found.append(work)
        return found

    def stop(self, work: Work) -> None:
        """Set the flag that the function may read; a process is told, then killed."""
        work.stop()
        process = work.handle
        if process is not None:
            process.stop_while(work)

    def silence(self, now: float) -> float:
        """Threads are independent of each other: none makes the others silent."""
        return 0.0

    def _serve(self, seat: Seat) -> None:
        line, mailbox, board, run = self._line, self.mailbox, self._board, self._run
        opened = hygiene.adopt_thread()
        while True:
            try:
                work = line.popleft()
            except IndexError:
                self._rest(seat, opened)
                continue
            for each in work.members or (work,):
                board.mark(seat.number, each.claim.task_run_id)
            work.slot = seat.number
            seat.work = work
            try:
                work.result = copy_context().run(run, work)
            except BaseException as error:
                work.result = execute.failed(work, error)
            seat.work = None
            if opened:
                hygiene.tidy(opened)
            mailbox.put(work)

    def _rest(self, seat: Seat, opened: list[BaseDatabaseWrapper]) -> None:
        self._idle.append(seat)
        if self._line:
            # Work came between the look at the line and the word that this is idle.
            try:
                self._idle.remove(seat)
            except ValueError:
                pass  # the engine thread has chosen this seat: its release is coming
            else:
                return
        self.mailbox.dry()
        if opened and not seat.lock.acquire(timeout=hygiene.IDLE_CLOSE):
            hygiene.close(opened)
            seat.lock.acquire()
        elif not opened:
            seat.lock.acquire()


class Loop:
    """An event loop in a thread of its own that executes `size` functions at once."""

    def __init__(
        self, size: int, board: Board, first_cell: int, mailbox: Mailbox
    ) -> None:
        self.size = size
        self.lost = 0
        self.mailbox = mailbox
        self._asked_at: float | None = None
        self._board = board
        self._cells = list(range(first_cell, first_cell + size))
        self._line: deque[Work] = deque()
        self._running: set[Work] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._serve, name="slot-loop", daemon=True).start()

    def submit(self, works: Sequence[Work]) -> None:
        """Take work; one call into the loop starts all that fits."""
        self._line.extend(works)
        self._loop.call_soon_threadsafe(self._start)

    def withdraw(self) -> list[Work]:
        """Give back what has not started."""
        return _emptied(self._line)

    def overdue(self, now: float) -> list[Work]:
        """What was cancelled at its timeout and has not ended since."""
        return [
            work
            for work in self._running.copy()
            if work.timeout is not None
            and not work.closed
            and work.started
            and now - work.started >= work.timeout + LINGER
        ]

    def stop(self, work: Work) -> None:
        """Cancel the function."""
        work.stop()
        if work.handle is not None:
            self._loop.call_soon_threadsafe(work.handle.cancel)

    def call(self, coroutine: Coroutine[Any, Any, None]) -> Future[None]:
        """Run a coroutine on the loop, beside the slots."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def silence(self, now: float) -> float:
        """How long the loop has not answered the question asked here before."""
        asked = self._asked_at
        if asked is not None:
            return now - asked
        if self._running or self._line:
            self._asked_at = now
            self._loop.call_soon_threadsafe(self._answer)
        return 0.0

    def _answer(self) -> None:
        self._asked_at = None

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._loop.is_closed():
            try:
                self._loop.run_forever()
            except BaseException:
                # asyncio lets SystemExit out of a task that a function has made. The
                # task has ended with it; the other functions go on.
                logger.exception("A task has left the event loop by an exception.")

    def _start(self) -> None:
        hygiene.arm_elsewhere()
        self._fill()

    def _fill(self) -> None:
        line, running, create_task = self._line, self._running, self._loop.create_task
        while line and len(running) < self.size:
            try:
                work = line.popleft()
            except IndexError:
                return  # withdrawn meanwhile
            running.add(work)
            work.handle = create_task(self._execute(work))

    async def _execute(self, work: Work) -> None:
        cell = self._cells.pop()
        for each in work.members or (work,):
            self._board.mark(cell, each.claim.task_run_id)
        try:
            work.result = await execute.run_async(work)
        except BaseException as error:
            work.result = execute.failed(work, error)
        work.handle = None
        self._running.discard(work)
        self._cells.append(cell)
        self.mailbox.put(work)
        if self._line:
            self._fill()
        elif not self._running:
            self.mailbox.dry()
