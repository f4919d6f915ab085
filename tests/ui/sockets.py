"""Open pages: websockets as a browser opens them, on the sample's ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.db import connection
from django.test import Client

from orchestrator_ui.feed import FEED_PATH, hub, tokens
from orchestrator_ui.feed.topics import Topic
from sample_project.asgi import application

ORIGIN = "http://localhost"
PATIENCE = 10.0  # seconds


class Page:
    """One socket and what it has received."""

    def __init__(
        self,
        client: Client | None,
        token: str,
        origins: Collection[str] = (ORIGIN,),
        *,
        app: Any = application,
        host: str = "localhost",
    ) -> None:
        headers = [(b"host", host.encode())]
        headers += [(b"origin", origin.encode()) for origin in origins]
        if client is not None and "sessionid" in client.cookies:
            cookie = f"sessionid={client.cookies['sessionid'].value}"
            headers.append((b"cookie", cookie.encode()))
        path = f"/{FEED_PATH}?t={quote(token)}"
        self.socket = WebsocketCommunicator(app, path, headers=headers)

    async def open(self) -> bool:
        """Whether the handshake succeeds."""
        accepted, _ = await self.socket.connect(timeout=PATIENCE)
        return bool(accepted)

    async def message(self, timeout: float = PATIENCE) -> str:
        """The next message."""
        output = await self.socket.receive_output(timeout)
        assert output["type"] == "websocket.send", output
        return str(output["text"])

    async def message_with(self, text: str) -> str:
        """The next message that contains a text."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await self.message()
                if text in message:
                    return message

    async def closing_code(self) -> int:
        """The code that the server closes with; what comes before is discarded."""
        async with asyncio.timeout(PATIENCE):
            while True:
                output = await self.socket.receive_output(PATIENCE)
                if output["type"] == "websocket.close":
                    return int(output["code"])

    async def is_silent(self, seconds: float = 0.7) -> bool:
        """Whether nothing comes for some seconds, more than two renderings."""
        return await self.socket.receive_nothing(timeout=seconds, interval=0.05)


@asynccontextmanager
async def opened(
    client: Client, user: Any, topics: Collection[Topic]
) -> AsyncIterator[Page]:
    """A page that has got its first fragments, on a hub that listens."""
    page = Page(client, tokens.dumps(user.pk, topics))
    assert await page.open()
    try:
        if topics:
            await page.message()
        await until(lambda: hub.hub().is_listening)
        await until(lambda: not hub.hub()._dirty)
        yield page
    finally:
        await page.socket.disconnect()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def in_database(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that uses Django's connection."""
    return await sync_to_async(function)(*args)


def listeners() -> list[int]:
    """The server processes of the feed's connections to this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'orchestrator feed'"
        )
        return [pid for (pid,) in cursor.fetchall()]
