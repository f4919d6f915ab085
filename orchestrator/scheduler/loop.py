"""The loop of a scheduler: promote, expire, time out, rescue, and its duties.

Schedulers are equal. Row work is taken with SKIP LOCKED, so that two of them do half
each and nothing twice; a duty is taken by one of them for a time. Each round looks at
the database again, so what one round could not do, the next one does.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import Any

from orchestrator.engine import expire, partitions, promote, register, rescue, ripen
from orchestrator.engine.faults import Backoff, Fault, kind_of
from orchestrator.engine.links import Link
from orchestrator.engine.sessions import Session
from orchestrator.engine.shapes import Shape
from orchestrator.engine.tend import tend
from orchestrator.scheduler import bulk, duties

logger = logging.getLogger("orchestrator")

ROUND = 0.5  # seconds between two looks at what is due, at most
EVERY_TIMEOUTS = 0.5  # seconds between two looks at timeouts
EVERY_RESCUE = 1.0  # seconds between two looks for lost workers
EVERY_DUTIES = 60.0  # seconds between two looks at the duties


class Chore:
    """One kind of work, done until nothing is left of it, every so many seconds."""

    def __init__(self, do: Callable[[Session], int], every: float, full: int) -> None:
        self.do = do
        self.every = every
        self.full = full
        self.due_at = 0.0


class Scheduler:
    """One scheduler, from its start to its end. One thread, one connection."""

    def __init__(self, shapes: list[Shape]) -> None:
        self.shapes = shapes
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.link = Link("Scheduler")
        self.stopping = False
        self.prepared = False
        self.trouble = Backoff(0.1, 5.0)
        self.resume_at = 0.0
        self._complaint = ""
        self.promote_chore = Chore(promote.promote, ROUND, promote.BATCH)
        self.tend_chore = Chore(tend, ROUND, 1)
        self.chores = (
            self.promote_chore,
            self.tend_chore,
            Chore(expire.expire, EVERY_TIMEOUTS, expire.BATCH),
            Chore(expire.time_out, EVERY_TIMEOUTS, expire.BATCH),
            Chore(rescue_lost, EVERY_RESCUE, 1),
            Chore(bulk.work_off, ROUND, 1_000_000),  # one turn each time
            Chore(lambda s: duties.do_due(s, self.name), EVERY_DUTIES, 1_000),
        )

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; the round at hand is finished first."""
        with ExitStack() as stack:
            wakeup = stack.enter_context(_Signals(self))
            stack.callback(self.link.drop)
            logger.info("Scheduler %s has started.", self.name)
            while not self.stopping:
                wakeup.sleep(self.round(monotonic()))
        logger.info("Scheduler %s has stopped.", self.name)

    def round(self, now: float) -> float:
        """Do everything that is due once; seconds until the next round."""
        if now < self.resume_at:
            return self.resume_at - now
        if not self.link.restore():
            return max(0.01, self.link.retry_in)
        try:
            self.work(self.link.session, now)
        except Exception as error:
            return self.failed(error)
        self.trouble.reset()
        self.link.proved()
        self._complaint = ""
        return max(0.0, min(chore.due_at for chore in self.chores) - monotonic())

    def work(self, session: Session, now: float) -> None:
        """Each chore that is due, until nothing is left of it."""
        if not self.prepared:
            register.register(session, self.shapes)
            partitions.ensure(session)
            self.prepared = True
        for chore in self.chores:
            if now < chore.due_at:
                continue
            while chore.do(session) >= chore.full and not self.stopping:
                pass
            chore.due_at = now + chore.every * random.uniform(0.8, 1.0)  # noqa: S311
        for chore, due in (
            (self.promote_chore, promote.next_due(session)),
            (self.tend_chore, ripen.next_due(session)),
        ):
            if due is not None:
                chore.due_at = min(chore.due_at, monotonic() + max(0.02, due))

    def failed(self, error: Exception) -> float:
        """Log the trouble; seconds until it is tried again."""
        kind = kind_of(error)
        if kind is Fault.CONNECTION:
            self.link.drop(error)
            return max(0.01, self.link.retry_in)
        delay = self.trouble.next()
        self.resume_at = monotonic() + delay
        if kind is Fault.SCHEMA:
            self.link.drop()
            text = (
                "The database does not have this release's tables "
                f"({str(error).splitlines()[0]}). Run manage.py migrate."
            )
            if text != self._complaint:
                logger.error("%s", text)
            self._complaint = text
        elif kind is not Fault.CONTENTION:
            logger.error("Scheduler: trouble (%s).", kind.value, exc_info=error)
        return delay


def rescue_lost(session: Session) -> int:
    """Take back what lost workers hold; how many leases that were.

    A worker whose rescue fails does not stand in the way of the next one: all are
    found again in the next round.
    """
    taken = 0
    trouble: Exception | None = None
    for worker_id in rescue.find_lost(session):
        try:
            taken += rescue.rescue(session, worker_id)
        except Exception as error:
            if kind_of(error) is Fault.CONNECTION:
                raise
            trouble = error
    if trouble is not None:
        raise trouble
    return 0 if taken == 0 else taken


class _Signals:
    """SIGTERM and SIGINT end the sleep and stop the scheduler after its round."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def __enter__(self) -> _Signals:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before = {
            number: signal.signal(number, self._stop)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        self._wakeup = signal.set_wakeup_fd(
            self._writer.fileno(), warn_on_full_buffer=False
        )
        return self

    def __exit__(self, *_: Any) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def sleep(self, seconds: float) -> None:
        """Sleep, unless a signal comes or has come."""
        if not self.scheduler.stopping:
            select.select([self._reader], [], [], seconds)

    def _stop(self, number: int, frame: Any) -> None:
        self.scheduler.stopping = True
