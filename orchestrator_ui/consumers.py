"""The websocket of the live feed.

It sends fragments and reads nothing: what a page looks at is in its signed token, and
any message of a client closes the socket. Closing codes from 4000 on tell the page not
to try again: 4401 signed out, 4403 not allowed or an old page, 4429 too many pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.signals import user_logged_out
from django.http import HttpRequest

from orchestrator_ui.feed import admission, tokens
from orchestrator_ui.feed.hub import hub, in_database_thread
from orchestrator_ui.feed.mailbox import Mailbox
from orchestrator_ui.feed.topics import Topic

logger = logging.getLogger(__name__)

RECHECK = 20.0  # seconds between two looks at session, user and permissions
LIFETIME = 3600.0  # seconds; the page then connects again
MAX_SOCKETS = 20  # of one user in one process
MAX_SEND = 10.0  # seconds that one message may take to leave

TRY_AGAIN = 1012
POLICY = 1008
SIGNED_OUT = 4401
NOT_ALLOWED = 4403
TOO_MANY = 4429

_sockets: dict[Any, set[FeedConsumer]] = defaultdict(set)


class FeedConsumer(AsyncWebsocketConsumer):
    """One open page."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mailbox = Mailbox()
        self.topics: list[Topic] = []
        self.session_key: str | None = None
        self.user_id: Any = None
        self.loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self) -> None:
        request = admission.handshake(self.scope)
        if not admission.has_own_origin(request):
            await self.close()  # before accept: the handshake fails with 403
            return
        # Accepted first, since only an open socket can say why it closes.
        await self.accept()
        self.session_key = admission.session_key(request)
        user = await in_database_thread(admission.watcher, self.session_key)
        if user is None:
            await self.close(SIGNED_OUT)
            return
        if len(_sockets.get(user.pk, ())) >= MAX_SOCKETS:
            await self.close(TOO_MANY)
            return
        query = parse_qs(self.scope.get("query_string", b"").decode("latin-1"))
        try:
            self.topics = tokens.loads(query.get("t", [""])[0], user.pk)
        except ValueError:
            await self.close(NOT_ALLOWED)
            return
        self.user_id = user.pk
        _sockets[user.pk].add(self)
        hub().join(self.mailbox, self.topics)
        self._run(self._sending())
        self._run(self._rechecking())

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None
    ) -> None:
        await self._ended(POLICY)

    async def disconnect(self, code: int) -> None:
        self._end()

    def signed_out(self) -> None:
        """Close the socket of a session that has ended."""
        self._run(self._ended(SIGNED_OUT))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _end(self) -> None:
        if self.user_id is not None:
            _sockets[self.user_id].discard(self)
            if not _sockets[self.user_id]:
                del _sockets[self.user_id]
            hub().leave(self.mailbox, self.topics)
            self.user_id = None
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()

    async def _ended(self, code: int) -> None:
        self._end()
        await self.close(code)

    async def _sending(self) -> None:
        while True:
            message = await self.mailbox.take()
            try:
                await asyncio.wait_for(self.send(text_data=message), MAX_SEND)
            except TimeoutError:
                await self._ended(TRY_AGAIN)
                return

    async def _rechecking(self) -> None:
        """End the socket of a user who may not look any more, within 30 seconds."""
        opened = self.loop.time()
        while self.loop.time() - opened < LIFETIME:
            await asyncio.sleep(RECHECK * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                user = await in_database_thread(admission.watcher, self.session_key)
            except Exception:  # the database is away: who may look is not known
                logger.exception("The feed could not look whether a user may watch.")
                await self._ended(TRY_AGAIN)
                return
            if user is None or user.pk != self.user_id:
                await self._ended(SIGNED_OUT)
                return
        await self._ended(TRY_AGAIN)


def close_sockets_of_session(
    sender: Any, request: HttpRequest | None, user: Any, **_: Any
) -> None:
    """Close what a session has open in this process, the moment it is signed out."""
    key = getattr(getattr(request, "session", None), "session_key", None)
    if user is None or key is None:
        return
    for socket in list(_sockets.get(user.pk, ())):
        if socket.session_key == key:
            with contextlib.suppress(RuntimeError):  # its loop has ended meanwhile
                socket.loop.call_soon_threadsafe(socket.signed_out)


user_logged_out.connect(
    close_sockets_of_session, dispatch_uid="orchestrator_ui.close_sockets_of_session"
)
