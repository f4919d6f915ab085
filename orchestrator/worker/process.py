"""A child process as its supervisor sees it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

from orchestrator.conf import settings
from orchestrator.worker import boot
from orchestrator.worker.board import Board
from orchestrator.worker.child import READY, Config
from orchestrator.worker.orders import DRAIN, STOP_NOW

LOADING = 120.0  # seconds in which a child must have loaded the project


@dataclass(frozen=True)
class WorkerOptions:
    """What `runworker` was asked for. `grace` is in seconds.

    `queues` in strict order; empty serves all that the project declares, in turns.
    Slots count for each process.
    """

    name: str
    queues: tuple[str, ...] = ()
    slots: int = 10
    async_slots: int = 100
    durable_slots: int = 10
    durable_async_slots: int = 100
    processes: int = 1
    labels: tuple[tuple[str, str], ...] = ()
    grace: float = 25.0


class Child:
    """One child process, its pipes and its board."""

    def __init__(self, child_id: int, worker_id: UUID, options: WorkerOptions) -> None:
        self.id = child_id
        self.worker_id = worker_id
        self.started_at = monotonic()
        self.ready = False
        self.draining = False
        self.killed = False
        self.board, file = Board.create(
            options.slots
            + options.async_slots
            + options.durable_slots
            + options.durable_async_slots
        )
        self.board.beat_supervisor()
        theirs, self._orders = os.pipe()
        self.answers, back = os.pipe()
        os.set_blocking(self._orders, False)
        os.set_blocking(self.answers, False)
        config = Config(
            worker_id=str(worker_id),
            child_id=child_id,
            parent=os.getpid(),
            orders=theirs,
            answers=back,
            board=file.fileno(),
            slots=options.slots,
            async_slots=options.async_slots,
            durable_slots=options.durable_slots,
            durable_async_slots=options.durable_async_slots,
            queues=options.queues,
            # Several children of an idle worker look no more often than one would.
            longest_pause=settings.poll_interval.total_seconds() * options.processes,
            labels=dict(options.labels),
        )
        try:
            self.process = boot.spawn(
                "orchestrator.worker.child",
                [config.dump()],
                (theirs, back, file.fileno()),
            )
        finally:
            os.close(theirs)
            os.close(back)
            file.close()

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have the loop look when it speaks, or ends."""

        def heard(_: object) -> None:
            if not self.hear():
                self.close_watch(selector)  # SIGCHLD says when it can be buried

        selector.register(self.answers, selectors.EVENT_READ, heard)

    def close_watch(self, selector: selectors.BaseSelector) -> None:
        """The reverse of `watch`."""
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(self.answers)

    def say(self, word: bytes) -> None:
        """Send one word; a child that does not listen has enough of them already."""
        with contextlib.suppress(OSError):
            os.write(self._orders, word)

    def hear(self) -> bool:
        """Take what it has said; False once it has closed its end."""
        try:
            words = os.read(self.answers, 64)
        except BlockingIOError:
            return True
        self.ready = self.ready or READY in words
        return bool(words)

    def drain(self) -> None:
        """Have it finish what it runs; one that still loads has nothing to finish."""
        self.draining = True
        self.hear()
        if self.ready:
            self.say(DRAIN)
        else:
            self.kill()

    def stop_now(self) -> None:
        """Have it settle what has finished, and end."""
        self.say(STOP_NOW)

    def kill(self) -> None:
        """End it whatever it does."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def end_groups(self) -> None:
        """End what its isolated tasks have started, once it has ended itself."""
        for group in self.board.groups():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return monotonic() - self.started_at

    def stalled(self, after: float) -> bool:
        """Whether its engine thread has been silent for so many seconds.

        One that still loads the project has `LOADING` at least.
        """
        if not self.board.has_beaten():
            return self.age > max(after, LOADING)
        return self.board.child_silence() > after

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def close(self) -> None:
        """Give back what the supervisor holds of a child that has ended."""
        self.process.wait()
        self.end_groups()
        os.close(self._orders)
        os.close(self.answers)
        self.board.close()
