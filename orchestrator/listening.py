"""Listening: what the tasks of a run say, read from any process.

Polls, so that it works through every pooler: every 20 ms while chunks come, more and
more seldom while none do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from orchestrator.conf import settings
from orchestrator.engine import outcome, says, sessions, versions
from orchestrator.engine.says import LogLine
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import RunNotFound, WaitingInTransaction
from orchestrator.states import TERMINAL_RUN

FIRST_POLL, LAST_POLL = 0.020, 0.500  # seconds between two looks; they double
MOST_LINES = 10_000


class Stream:
    """One reader of a run's stream: it knows what it has read."""

    def __init__(self, run_id: UUID) -> None:
        self.run_id = run_id
        self.seen: dict[UUID, says.Cursor] = {}
        self.pause = FIRST_POLL

    def look(self) -> tuple[list[Any], bool]:
        """The next chunks, and whether these were the last.

        The end of the run is looked up first: what was said before it has been written
        before it.
        """
        session = sessions.django_session()
        status, shape = _run(self.run_id)
        if not self.seen:
            self.seen = says.unseen(self.run_id, shape)
        ended = status in TERMINAL_RUN
        chunks, more = says.chunks(session, self.run_id, self.seen)
        if not ended and not more and connections[settings.database].in_atomic_block:
            raise WaitingInTransaction(
                f"Run {self.run_id} is {status}, and this transaction cannot wait for "
                "what it says. Read the stream after the `atomic` block; in a test, "
                "call orchestrator.testing.drain() first."
            )
        if chunks:
            self.pause = 0.0 if more else FIRST_POLL
        else:
            self.pause = min(max(2 * self.pause, FIRST_POLL), LAST_POLL)
        return chunks, ended and not more

    def __iter__(self) -> Iterator[Any]:
        while True:
            chunks, ended = self.look()
            yield from chunks
            if ended:
                return
            time.sleep(self.pause)

    async def __aiter__(self) -> AsyncIterator[Any]:
        look = sync_to_async(self.look)
        while True:
            chunks, ended = await look()
            for chunk in chunks:
                yield chunk
            if ended:
                return
            await asyncio.sleep(self.pause)


def logs(run_id: UUID, *, task: str | None, limit: int) -> list[LogLine]:
    """What the tasks of a run have logged so far, in the order of time.

    Raises RunNotFound.
    """
    _, shape = _run(run_id)
    found = says.lines(sessions.django_session(), run_id, shape, limit=limit)
    return [line for line in found if task is None or line.task == task][:limit]


def _run(run_id: UUID) -> tuple[str, Shape]:
    session = sessions.django_session()
    state = outcome.status(session, run_id)
    shape = None if state is None else versions.shape(session, state[1])
    if state is None or shape is None:
        raise RunNotFound(
            f"There is no run {run_id}; the id is wrong, its transaction was rolled "
            "back, or its history has been dropped."
        )
    return state[0], shape
