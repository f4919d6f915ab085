"""Connections that tests share, and the tables that they empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus

from orchestrator.engine import sessions

ROWS = (
    "run",
    "task_run",
    "attempt",
    "queue_item",
    "delayed_item",
    "lease",
    "wait",
    "wait_condition",
    "event",
    "event_item",
    "journal_entry",
    "open_run",
    "deadline",
    "worker",
    "duty",
    "idempotency_key",
    "log_line",
    "stream_chunk",
    "progress",
    "test_seen",
)


USUAL = """
    SELECT set_config('orchestrator.now', '', false),
        set_config('lock_timeout', '10s', false),
        set_config('deadlock_timeout', '1s', false)
"""


class Pool:
    """Connections of the engine's kind that are used by one test after the other."""

    def __init__(self) -> None:
        self.free: list[psycopg.Connection[Any]] = []

    def take(self, *, fresh: bool = False) -> psycopg.Connection[Any]:
        """A connection; a fresh one has not prepared anything yet."""
        if self.free and not fresh:
            return self.free.pop()
        return sessions.connect(application_name="orchestrator-lab")

    def give_back(self, connections: Iterable[psycopg.Connection[Any]]) -> None:
        """Keep those that are whole, with the settings that they had."""
        for connection in connections:
            whole = (
                connection.info.transaction_status is TransactionStatus.IDLE
                and connection.info.pipeline_status is PipelineStatus.OFF
            )
            if whole and not connection.closed:
                connection.execute(USUAL)
                self.free.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        for connection in self.free:
            connection.close()


class _TakeBack(Exception):
    pass


@contextmanager
def rolled_back(transaction: AbstractContextManager[object]) -> Iterator[None]:
    """The block runs in `transaction`, which is rolled back at its end."""
    with suppress(_TakeBack), transaction:
        yield
        raise _TakeBack
