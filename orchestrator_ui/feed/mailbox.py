"""A mailbox: what one socket is still to be sent, the latest of each fragment."""

from __future__ import annotations

import asyncio

from orchestrator_ui.feed.topics import Fragments


class Mailbox:
    """Latest wins: a slow reader costs one copy of what it looks at, never more."""

    def __init__(self) -> None:
        self._waiting: Fragments = {}
        self._filled = asyncio.Event()

    def put(self, fragments: Fragments) -> None:
        """Replace what waits under the same target ids."""
        if fragments:
            self._waiting.update(fragments)
            self._filled.set()

    async def take(self) -> str:
        """Wait for something, and take all of it as one message."""
        await self._filled.wait()
        self._filled.clear()
        taken, self._waiting = self._waiting, {}
        return "".join(taken.values())
