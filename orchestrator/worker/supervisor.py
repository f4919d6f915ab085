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
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from orchestrator import ids
from orchestrator.conf import settings
from orchestrator.engine import (
    leases,
    notify,
    partitions,
    register,
    rescue,
    workers,
)
from orchestrator.engine.faults import Fault, kind_of
from orchestrator.engine.links import Link
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import DatabaseTooOld
from orchestrator.states import WorkerStatus
from orchestrator.worker.board import supervisor_silence
from orchestrator.worker.child import queues_of
from orchestrator.worker.nursery import Dead, Nursery
from orchestrator.worker.process import WorkerOptions

logger = logging.getLogger("orchestrator")

LAST_WORDS = 2.0  # seconds to settle what has finished, and to sign off
AT_ONCE = 0.5  # seconds for the same after a second signal
HOUR = 3600.0

LISTEN = (b"LISTEN orchestrator_queue", b"LISTEN orchestrator_control")


class Supervisor:
    """One worker, from its start to its end."""

    def __init__(self, options: WorkerOptions, shapes: list[Shape]) -> None:
        self.options = options
        self.shapes = shapes
        self.worker_id = ids.uuid7()
        self.registered = False
        self.served = {str(q) for q in queues_of(options.queues, shapes)}
        self.link = Link("Worker", listen=True)
        self.selector = selectors.DefaultSelector()
        self.nursery = Nursery(options, self.selector)
        self.dead: list[Dead] = []
        self.news: set[str] = set()
        self.heartbeat_at = 0.0
        self.partitions_at = 0.0
        self.stopping_at: float | None = None  # when the grace is over
        self.killing_at: float | None = None
        self._socket: int | None = None
        self._complaint = ""

    def run(self) -> int:
        """Serve until a signal ends it; the exit code."""
        options = self.options
        with self.signals():
            logger.info(
                "Worker %s: %d process(es) of %d slots, queues %s.",
                options.name,
                options.processes,
                options.slots,
                ", ".join(options.queues) or "all",
            )
            while self.stopping_at is None or self.nursery.children:
                self.keep_house(monotonic())
                self.listen(self.timeout(monotonic()))
            self.sign_off()
        logger.info("Worker %s has stopped.", options.name)
        return 0

    def keep_house(self, now: float) -> None:
        """Everything that is due, once round."""
        self.dead += self.nursery.reap(now)
        self.attempt(self.tend)
        self.nursery.beat()  # only now: it may have been declared lost while it froze
        self.pass_on()
        if self.stopping_at is not None:
            self.enforce_grace(now)
        elif self.registered:
            self.nursery.fill(self.worker_id, now)

    def timeout(self, now: float) -> float:
        """Seconds until something is due."""
        due = [now + supervisor_silence() / 5]
        if self.link.is_open:
            due.append(self.heartbeat_at)
        else:
            due.append(now + max(self.link.retry_in, 0.01))
        if not self.nursery.complete:
            due.append(self.nursery.start_at)
        due += [at for at in (self.stopping_at, self.killing_at) if at is not None]
        return min((at for at in due if at > now), default=now + 0.01) - now

    # What comes from outside.

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
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
            self.nursery.drain()
            self.attempt(self.show_draining)
        elif self.killing_at is None:
            self.nursery.stop_now()
            self.stopping_at, self.killing_at = now, now + AT_ONCE

    def enforce_grace(self, now: float) -> None:
        """When the grace is over: last words, then the end."""
        if self.killing_at is not None and now >= self.killing_at:
            self.nursery.kill()
        elif self.killing_at is None and now >= (self.stopping_at or now):
            self.killing_at = now + LAST_WORDS
            self.nursery.stop_now()

    def readable(self, _: Any) -> None:
        """The connection has something; the children hear of it at once."""
        self.attempt(self.take_news)
        self.pass_on()

    def take_news(self) -> None:
        """Read the notifications that have arrived, without waiting."""
        connection = self.link.connection
        if connection is None:
            return
        connection.pgconn.consume_input()
        while (note := connection.pgconn.notifies()) is not None:
            self.noted(note.relname.decode(), note.extra.decode())

    def pass_on(self) -> None:
        """Tell the children what was noted."""
        if self.news:
            news, self.news = self.news, set()
            self.nursery.tell(news)

    def noted(self, channel: str, payload: str) -> None:
        """Remember one notification until the loop comes round."""
        if channel == notify.CONTROL_CHANNEL:
            self.news.add(payload)
        elif payload in self.served:
            self.news.add("wake")
        elif not self.options.queues:  # one that no definition has: have it looked up
            self.news.update(("cancel", "wake"))

    # What it says to the database.

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step; trouble with the database is logged and tried again.

        Raises DatabaseTooOld: waiting does not help.
        """
        try:
            step()
        except DatabaseTooOld:
            raise
        except Exception as error:
            kind = kind_of(error)
            if kind is Fault.SCHEMA:
                self.complain(
                    "The database does not have this release's tables "
                    f"({str(error).splitlines()[0]}). Run manage.py migrate."
                )
            elif kind is not Fault.CONNECTION:
                logger.error("Worker: trouble (%s).", kind.value, exc_info=error)
            if self._socket is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self.selector.unregister(self._socket)
                self._socket = None
            self.link.drop(error, broken=kind is Fault.CONNECTION)

    def complain(self, text: str) -> None:
        """Say something once, not at every try."""
        if text != self._complaint:
            self._complaint = text
            logger.error("%s", text)

    def connect(self) -> bool:
        """Whether there is a connection; a new one listens, and wakes the children."""
        if self.link.is_open or not self.link.restore():
            return self.link.is_open
        connection = self.link.session.connection
        connection.add_notify_handler(lambda n: self.noted(n.channel, n.payload))
        self._socket = connection.fileno()
        self.selector.register(self._socket, selectors.EVENT_READ, self.readable)
        self.heartbeat_at = 0.0
        if settings.listen:
            for statement in LISTEN:
                connection.execute(statement)
            self.news.add("wake")  # what came before could not be heard
        return True

    def tend(self) -> None:
        """Register, say that it is alive, and take back what dead children held."""
        if not self.connect():
            return
        now = monotonic()
        if not self.registered:
            if self.stopping_at is not None:
                return
            self.register()
        if now >= self.heartbeat_at:
            if not workers.heartbeat(self.link.session, self.worker_id):
                self.start_over()
                return
            self.heartbeat_at = now + settings.heartbeat.total_seconds()
            self.link.proved()
            self.find_strays()
        self.rescue_dead()
        if now >= self.partitions_at:
            self.partitions_at = now + HOUR
            partitions.ensure(self.link.session)
        self.take_news()

    def register(self) -> None:
        """Write the definitions and the worker's row."""
        session, options = self.link.session, self.options
        register.register(session, self.shapes)
        partitions.ensure(session)
        self.partitions_at = monotonic() + HOUR
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
        self._complaint = ""

    def find_strays(self) -> None:
        """Find claims that were committed after their child was buried: not started."""
        known = [child.id for child in self.nursery.children]
        known += [dead.child_id for dead in self.dead]
        for child_id in leases.strays(self.link.session, self.worker_id, known):
            self.dead.append(Dead(self.worker_id, child_id, frozenset(), ""))

    def rescue_dead(self) -> None:
        """Take back what dead children held; what fails is tried again in its turn."""
        for _ in range(len(self.dead)):
            dead = self.dead.pop(0)
            try:
                rescue.rescue(
                    self.link.session,
                    dead.worker_id,
                    dead.child_id,
                    dead.started,
                    dead.detail,
                )
            except Exception:
                self.dead.append(dead)
                raise

    def start_over(self) -> None:
        """It was declared lost: others have its work. Begin anew under a new id."""
        logger.warning(
            "Worker %s was declared lost after %s without a heartbeat; what it held "
            "runs elsewhere. It starts over.",
            self.options.name,
            settings.lost_after,
        )
        self.nursery.abandon()
        self.dead.clear()
        self.worker_id = ids.uuid7()
        self.registered = False

    def show_draining(self) -> None:
        """Let operators see it."""
        if self.registered:
            workers.set_status(self.link.session, self.worker_id, WorkerStatus.DRAINING)

    def sign_off(self) -> None:
        """Take back what is left and close the row; gives up after a few seconds."""
        deadline = monotonic() + LAST_WORDS
        signed = not self.registered
        self.heartbeat_at = 0.0  # and look for strays
        while not signed and monotonic() < deadline:
            self.attempt(self.tend)
            if self.link.is_open and not self.dead:
                self.attempt(lambda: workers.stop(self.link.session, self.worker_id))
                signed = self.link.is_open
            if not signed:
                self.selector.select(0.1)


def _noticed(number: int, frame: Any) -> None:
    """Wake the loop, which finds the number in its socket."""
