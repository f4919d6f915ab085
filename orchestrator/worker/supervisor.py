"""The supervisor: the process of `runworker` that keeps children and runs no task.

One thread with one connection, so that nothing a task does can stop its heartbeat. It
starts children, wakes them when a queue has news, replaces those that die and says
which task runs died with them. Nothing that happens to the database ends it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from orchestrator import ids
from orchestrator.conf import settings
from orchestrator.engine import notify, partitions, register, rescue, workers
from orchestrator.engine.faults import Backoff, Fault, kind_of
from orchestrator.engine.links import Link
from orchestrator.engine.shapes import Shape
from orchestrator.states import WorkerStatus
from orchestrator.worker import boot
from orchestrator.worker.child import RECONCILE, WAKE, queues_of
from orchestrator.worker.engine import REPLACE_ME
from orchestrator.worker.process import Child, WorkerOptions

logger = logging.getLogger("orchestrator")

BEAT = 1.0  # seconds between two beats on the boards
LAST_WORDS = 2.0  # seconds that children get to settle what has finished
FEED_WANTED = 60.0  # seconds for which one request makes children send hints
HEALTHY = 30.0  # seconds after which a child's end is not the fault of its start
HOUR = 3600.0


@dataclass(frozen=True)
class Dead:
    """A child that has ended, whose leases are still to be taken back."""

    worker_id: UUID
    child_id: int
    started: frozenset[UUID]  # those that are charged
    detail: str


class Supervisor:
    """One worker, from its start to its end."""

    def __init__(self, options: WorkerOptions, shapes: list[Shape]) -> None:
        self.options = options
        self.shapes = shapes
        self.worker_id = ids.uuid7()
        self.link = Link("Worker", listen=True)
        self.children: list[Child] = []
        self.next_child = 1
        self.dead: list[Dead] = []
        self.registered = False
        self.served = {str(q) for q in queues_of(options.queues, shapes)}
        self.heartbeat_at = 0.0
        self.partitions_at = 0.0
        self.restarts = Backoff(0.1, 30.0)
        self.start_at = 0.0
        self.stopping_at: float | None = None  # when grace is over
        self.killing_at: float | None = None
        self.news: set[str] = set()
        self.selector = selectors.DefaultSelector()
        self._socket: int | None = None
        self._complaint = ""

    def run(self) -> int:
        """Serve until a signal ends it; the exit code."""
        with self.signals():
            logger.info(
                "Worker %s: %d process(es) of %d slots, queues %s.",
                self.options.name,
                self.options.processes,
                self.options.slots,
                ", ".join(self.options.queues) or "all",
            )
            while not self.ended():
                self.keep_house(monotonic())
                self.listen(self.timeout(monotonic()))
            self.say_goodbye()
        return 0

    def keep_house(self, now: float) -> None:
        """Everything that is due, once round."""
        for child in self.children:
            child.board.beat_supervisor()
        self.reap(now)
        self.attempt(self.tend)
        self.wake_children()
        self.replace_children(now)
        self.enforce_grace(now)

    def ended(self) -> bool:
        """Whether it was told to stop and nothing of it is left."""
        return self.stopping_at is not None and not self.children

    # What comes from outside.

    @contextlib.contextmanager
    def signals(self) -> Any:
        """Signals arrive as bytes in the loop; their handlers do nothing."""
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD)
        before = {number: signal.signal(number, _noticed) for number in wanted}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self.selector.register(reader, selectors.EVENT_READ, self.signalled)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self.selector.close()
            reader.close()
            writer.close()
            self.link.drop()

    def listen(self, timeout: float) -> None:
        """Wait for signals, children and notifications."""
        for key, _ in self.selector.select(max(0.0, timeout)):
            key.data(key.fileobj)

    def timeout(self, now: float) -> float:
        """Seconds until something is due."""
        due = [now + BEAT]
        if self.link.is_open:
            due.append(self.heartbeat_at)
        else:
            due.append(now + max(self.link.retry_in, 0.01))
        if len(self.children) < self.options.processes and self.registered:
            due.append(self.start_at)
        due += [at for at in (self.stopping_at, self.killing_at) if at is not None]
        later = [at for at in due if at > now]
        return min(later) - now if later else 0.01

    def signalled(self, reader: socket.socket) -> None:
        """Act on the numbers of the signals that came."""
        for number in reader.recv(64):
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stop()
            elif number == signal.SIGQUIT:
                self.stop()
                self.stop()

    def stop(self) -> None:
        """First: finish what runs, claim no more. Again: end at once."""
        now = monotonic()
        if self.stopping_at is None:
            self.stopping_at = now + self.options.grace
            logger.info(
                "Worker %s: draining; what runs has %g s. Again to end at once.",
                self.options.name,
                self.options.grace,
            )
            for child in self.children:
                child.drain()
            self.attempt(self.show_draining)
        elif self.killing_at is None or self.killing_at > now:
            for child in self.children:
                child.stop_now()
            self.stopping_at, self.killing_at = now, now + 0.5

    def show_draining(self) -> None:
        """Let operators see it."""
        if self.registered:
            workers.set_status(self.link.session, self.worker_id, WorkerStatus.DRAINING)

    def readable(self, _: Any) -> None:
        """Take notifications from the connection."""
        self.attempt(self.take_news)

    def take_news(self) -> None:
        """Read what has arrived, without waiting."""
        connection = self.link.connection
        if connection is None:
            return
        connection.pgconn.consume_input()
        while (note := connection.pgconn.notifies()) is not None:
            self.noted(note.relname.decode(), note.extra.decode())

    def noted(self, channel: str, payload: str) -> None:
        """Remember one notification until the loop comes round."""
        if channel == notify.QUEUE_CHANNEL:
            if payload in self.served:
                self.news.add("wake")
        elif channel == notify.CONTROL_CHANNEL:
            self.news.add(payload)

    def wake_children(self) -> None:
        """Pass on what was noted."""
        news, self.news = self.news, set()
        for child in self.children if news else ():
            if "wake" in news:
                child.say(WAKE)
            if "cancel" in news:
                child.say(RECONCILE)
            if "feed" in news:
                child.board.want_feed(FEED_WANTED)

    # What it says to the database.

    def attempt(self, step: Any) -> None:
        """Take a step; trouble with the database is logged and tried again."""
        try:
            step()
        except Exception as error:
            kind = kind_of(error)
            if kind is Fault.SCHEMA:
                self.complain(
                    "The database does not have this release's tables "
                    f"({str(error).splitlines()[0]}). Run manage.py migrate."
                )
            elif kind is not Fault.CONNECTION:
                logger.error("Worker: trouble (%s).", kind.value, exc_info=error)
            self.disconnect(error)
        else:
            self._complaint = "" if self.registered else self._complaint

    def complain(self, text: str) -> None:
        """Say something once, not at every try."""
        if text != self._complaint:
            self._complaint = text
            logger.error("%s", text)

    def disconnect(self, error: BaseException | None = None) -> None:
        """Drop the connection; the loop opens another one."""
        if self._socket is not None:
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(self._socket)
            self._socket = None
        self.link.drop(error)

    def connect(self) -> bool:
        """Whether there is a connection; a new one listens, and wakes the children."""
        if self.link.is_open:
            return True
        if not self.link.restore():
            return False
        connection = self.link.connection
        assert connection is not None  # noqa: S101
        connection.add_notify_handler(lambda n: self.noted(n.channel, n.payload))
        if settings.listen:
            for channel in (notify.QUEUE_CHANNEL, notify.CONTROL_CHANNEL):
                connection.execute(f"LISTEN {channel}".encode())
            self.news.add("wake")
        self._socket = connection.fileno()
        self.selector.register(self._socket, selectors.EVENT_READ, self.readable)
        self.heartbeat_at = 0.0
        return True

    def tend(self) -> None:
        """Register, take back what dead children held, and say that it is alive."""
        if not self.connect():
            return
        session, now = self.link.session, monotonic()
        if not self.registered:
            self.register()
        while self.dead:
            dead = self.dead[0]
            rescue.rescue(
                session, dead.worker_id, dead.child_id, dead.started, dead.detail
            )
            self.dead.pop(0)
        if now >= self.heartbeat_at:
            if not workers.heartbeat(session, self.worker_id):
                self.start_over()
                return
            self.heartbeat_at = now + settings.heartbeat.total_seconds()
            self.link.proved()
        if now >= self.partitions_at:
            self.partitions_at = now + HOUR
            partitions.ensure(session)
        self.take_news()

    def register(self) -> None:
        """Write the definitions and the worker's row."""
        session = self.link.session
        register.register(session, self.shapes)
        partitions.ensure(session)
        self.partitions_at = monotonic() + HOUR
        options = self.options
        workers.register_worker(
            session,
            self.worker_id,
            name=options.name,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queues=options.queues,
            labels=dict(options.labels),
            tasks=[task.id for shape in self.shapes for task in shape.tasks],
            slots=options.slots * options.processes,
            processes=options.processes,
        )
        self.registered = True

    def start_over(self) -> None:
        """It was declared lost: others have its work. Begin anew under a new id."""
        logger.warning(
            "Worker %s was declared lost after %s without a heartbeat; what it held "
            "runs elsewhere. It starts over.",
            self.options.name,
            settings.lost_after,
        )
        for child in self.children:
            child.kill()
            child.close_watch(self.selector)
            child.close()
        self.children.clear()
        self.dead.clear()
        self.worker_id = ids.uuid7()
        self.registered = False
        if self.stopping_at is None:
            self.register()

    def say_goodbye(self) -> None:
        """Take back what is left and stop the row; gives up after a few seconds."""
        deadline = monotonic() + LAST_WORDS
        while self.registered and monotonic() < deadline:
            self.attempt(self.last_words)
            if self.link.is_open:
                break
            signal.sigtimedwait((), 0.1)
        logger.info("Worker %s has stopped.", self.options.name)

    def last_words(self) -> None:
        """Leave nothing behind in the database."""
        self.tend()
        if self.link.is_open:
            workers.stop(self.link.session, self.worker_id)

    # Its children.

    def reap(self, now: float) -> None:
        """Take note of children that have ended, and end those that hang."""
        for child in list(self.children):
            if not child.ended():
                if child.stalled(settings.child_stall.total_seconds()):
                    logger.error("Child %d has stalled; it is killed.", child.id)
                    child.kill()
                continue
            self.children.remove(child)
            self.bury(child, now)

    def bury(self, child: Child, now: float) -> None:
        """Arrange for the rescue of what a dead child held, and for its successor."""
        code = child.process.returncode
        started = frozenset(child.board.started())
        how = boot.exit_text(code)
        expected = child.draining or code == REPLACE_ME
        if expected:
            started = frozenset()  # a deploy costs no budget
        else:
            logger.error(
                "Child %d died (%s) with %d started task(s).",
                child.id,
                how,
                len(started),
            )
        detail = f"The process that executed the task died: {how}."
        self.dead.append(Dead(child.worker_id, child.id, started, detail))
        child.close_watch(self.selector)
        if child.age > HEALTHY or expected:
            self.restarts.reset()
            self.start_at = now
        else:
            self.start_at = now + self.restarts.next()
        child.close()

    def replace_children(self, now: float) -> None:
        """Start what is missing, unless it stops or the database is away."""
        if self.stopping_at is not None or not self.registered or self.dead:
            return
        while len(self.children) < self.options.processes and now >= self.start_at:
            child = Child(self.next_child, self.worker_id, self.options)
            self.next_child += 1
            self.children.append(child)
            child.watch(self.selector)

    def enforce_grace(self, now: float) -> None:
        """When grace is over: last words, then the end."""
        if self.stopping_at is None or now < self.stopping_at:
            return
        if self.killing_at is None:
            self.killing_at = now + LAST_WORDS
            for child in self.children:
                child.stop_now()
        elif now >= self.killing_at:
            for child in self.children:
                child.kill()


def _noticed(number: int, frame: Any) -> None:
    """Wake the loop, which finds the number in its socket."""
