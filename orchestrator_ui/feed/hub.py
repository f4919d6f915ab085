"""The hub: renders each topic once for all who look, and gives each what changed.

One hub for each event loop, which is one for each web process. It works while somebody
looks: the last one to leave ends its tasks and its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import connections

from orchestrator.conf import settings
from orchestrator.engine import notify, sessions
from orchestrator_ui.feed import topics as topics_
from orchestrator_ui.feed.listening import ANYTHING, Hint, listen
from orchestrator_ui.feed.mailbox import Mailbox
from orchestrator_ui.feed.topics import Fragments, Topic

logger = logging.getLogger(__name__)

INTERVAL = 0.25  # seconds between two renderings
LISTS_INTERVAL = 0.5  # seconds from a hint to counting what is new in lists
BATCH = 200  # topics a rendering, so that one crowd does not hold up the others
# Everything is read again so often: for what no hint tells, such as a lost worker.
RESYNC = 10.0
RESYNC_DEAF = 2.0  # where LISTEN has no connection
WANT_HINTS = 3.0  # seconds between two requests to workers for hints


class Hub:
    """Who looks at what, and what has changed since they got it."""

    def __init__(self) -> None:
        self.watchers: dict[Topic, set[Mailbox]] = {}
        self.is_listening = False
        self._by_run: dict[UUID, set[Topic]] = defaultdict(set)
        self._sent: dict[Topic, dict[str, int]] = {}  # hashes by target id
        self._new: dict[Topic, set[Mailbox]] = defaultdict(set)  # to be sent all
        self._dirty: dict[Topic, None] = {}  # in the order in which they became so
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._lists: asyncio.TimerHandle | None = None

    # Who looks.

    def join(self, mailbox: Mailbox, topics: Collection[Topic]) -> None:
        """Send a mailbox all fragments of its topics soon, and then what changes."""
        for topic in topics:
            self.watchers.setdefault(topic, set()).add(mailbox)
            self._new[topic].add(mailbox)
            if topic.run_id is not None:
                self._by_run[topic.run_id].add(topic)
        self._mark(topics)
        if not self._tasks:
            self._start()

    def leave(self, mailbox: Mailbox, topics: Collection[Topic]) -> None:
        """Send a mailbox nothing more. The last one to leave ends the hub's tasks."""
        for topic in topics:
            watching = self.watchers.get(topic, set())
            watching.discard(mailbox)
            if not watching:
                self._forget(topic)
        if not self.watchers:
            self._stop()

    # What changes.

    def heard(self, hint: Hint) -> None:
        """Render what a hint may have changed."""
        if hint.run_ids is None:
            self._mark(self.watchers)
            return
        for run_id in hint.run_ids:
            self._mark(self._by_run.get(run_id, ()))
        if self._lists is None:
            loop = asyncio.get_running_loop()
            self._lists = loop.call_later(LISTS_INTERVAL, self._mark_lists)

    def _mark_lists(self) -> None:
        """What is new in lists; any change of a run may add one to a filtered list."""
        self._lists = None
        self._mark([topic for topic in self.watchers if topic.run_id is None])

    def _mark(self, topics: Iterable[Topic]) -> None:
        self._dirty.update(dict.fromkeys(topics))
        if self._dirty:
            self._wake.set()

    async def publish(self) -> None:
        """Render what is dirty and give it to those who look."""
        batch = list(islice(self._dirty, BATCH))
        for topic in batch:
            del self._dirty[topic]
        rendered = await in_database_thread(topics_.render, batch)
        for topic, fragments in rendered.items():
            self._deliver(topic, fragments)

    def _deliver(self, topic: Topic, fragments: Fragments) -> None:
        watching = self.watchers.get(topic)
        if not watching:  # all left while it was rendered
            return
        before = self._sent.get(topic, {})
        now = {target: hash(html) for target, html in fragments.items()}
        self._sent[topic] = now
        changed = {
            target: html
            for target, html in fragments.items()
            if before.get(target) != now[target]
        }
        new = self._new.pop(topic, set())
        for mailbox in watching:
            mailbox.put(fragments if mailbox in new else changed)

    def _forget(self, topic: Topic) -> None:
        self.watchers.pop(topic, None)
        self._sent.pop(topic, None)
        self._new.pop(topic, None)
        self._dirty.pop(topic, None)
        if topic.run_id is not None:
            of_run = self._by_run[topic.run_id]
            of_run.discard(topic)
            if not of_run:
                del self._by_run[topic.run_id]

    # Its tasks.

    def _start(self) -> None:
        loops: list[Callable[[], Any]] = [self._publishing, self._resyncing]
        if settings.listen:
            loops += [self._wanting_hints, self._listening]
        self._tasks = [asyncio.create_task(loop()) for loop in loops]

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        if self._lists is not None:
            self._lists.cancel()
            self._lists = None
        self.is_listening = False

    async def _listening(self) -> None:
        await listen(self.heard, self._set_listening)

    def _set_listening(self, value: bool) -> None:
        self.is_listening = value

    async def _publishing(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                try:
                    await self.publish()
                except Exception:
                    # The database is away, or a row is odd: the next resync tries
                    # again. One bad topic must not end the feed for everyone.
                    logger.exception("The feed could not read what has changed.")
                await asyncio.sleep(INTERVAL)

    async def _resyncing(self) -> None:
        while True:
            await asyncio.sleep(RESYNC if self.is_listening else RESYNC_DEAF)
            self.heard(ANYTHING)

    async def _wanting_hints(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the next one will do
                await in_database_thread(_want_hints)
            await asyncio.sleep(WANT_HINTS)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())


async def in_database_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function on the thread that this process's consumers read with.

    Its connection is kept, unlike `database_sync_to_async`, which would connect anew
    for each rendering; it is closed after an error, so that a restart of the database
    costs one failure.
    """
    return await sync_to_async(_reading, thread_sensitive=True)(function, *args)


def _reading(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception:
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()
        raise


def _want_hints() -> None:
    notify.control(sessions.django_session(), "feed")
