"""Listening: hints from PostgreSQL that runs have changed, on one connection."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from asgiref.sync import sync_to_async
from django.db import connections

from orchestrator.conf import settings
from orchestrator.engine import notify, sessions

logger = logging.getLogger(__name__)

MAX_DELAY = 10.0  # seconds between two attempts to connect


@dataclass(frozen=True)
class Hint:
    """What may have changed: these runs (None: any), and that something is new."""

    run_ids: frozenset[UUID] | None
    enqueued: bool

    @classmethod
    def read(cls, channel: str, payload: str) -> Hint:
        """A hint that cannot be read may mean anything."""
        if channel == notify.QUEUE_CHANNEL:
            return cls(frozenset(), enqueued=True)
        try:
            ids = frozenset(UUID(text) for text in payload.split(",") if text)
        except ValueError:  # "*", or a later version's
            return ANYTHING
        return cls(ids, enqueued=False)


ANYTHING = Hint(None, enqueued=True)


async def listen(heard: Callable[[Hint], None], state: Callable[[bool], None]) -> None:
    """Call `heard` with each hint until cancelled, connecting again when it breaks.

    `state` is told whether there is a connection. What was missed meanwhile is not
    replayed: after each connect comes ANYTHING.
    """
    failures = 0
    while True:
        try:
            connection = await _connect()
            async with connection:
                failures = 0
                state(True)
                heard(ANYTHING)
                async for notification in connection.notifies():
                    heard(Hint.read(notification.channel, notification.payload))
        except psycopg.Error as error:
            failures += 1
            logger.warning("The feed lost its connection and tries again: %s", error)
        finally:
            state(False)
        delay = min(MAX_DELAY, 0.25 * 2**failures)
        await asyncio.sleep(random.uniform(0.5, 1) * delay)  # noqa: S311 - jitter


async def _connect() -> psycopg.AsyncConnection[Any]:
    parameters = await sync_to_async(_parameters)()
    connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
    try:
        for channel in (notify.FEED_CHANNEL, notify.QUEUE_CHANNEL):
            await connection.execute(f'LISTEN "{channel}"'.encode())
    except BaseException:
        await connection.close()
        raise
    return connection


def _parameters() -> dict[str, Any]:
    """Those of the engine's own connections, for an asynchronous one."""
    alias = settings.listen_database or settings.database
    parameters = dict(connections[alias].get_connection_params())
    for name in ("cursor_factory", "context", "pool", "prepare_threshold"):
        parameters.pop(name, None)
    return {
        **sessions.DEFAULT_PARAMETERS,
        **parameters,
        "application_name": "orchestrator feed",
    }
