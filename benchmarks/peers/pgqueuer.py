"""pgqueuer: batches of 100 on asyncpg, log table kept."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Any, ClassVar

import asyncpg
import psycopg
from pgqueuer import Queries
from pgqueuer.db import AsyncpgDriver
from psycopg import sql

from benchmarks.peers.base import Kind, Peer
from benchmarks.processes import script
from benchmarks.server import wait_until_empty, watch

BATCH = 100

# A finished job moves from the queue to the log.
LEFT = sql.SQL("SELECT EXISTS (SELECT FROM pgqueuer WHERE id > %(first)s)")

# The same rows as Queries.enqueue writes, its log included.
BACKLOG = """
    WITH job AS (
        INSERT INTO pgqueuer
            (priority, entrypoint, payload, execute_after, headers, status)
        SELECT 0, entrypoint, convert_to(n::text, 'UTF8'), due, '{}', 'queued'
        FROM generate_series(1, %(third)s) AS n CROSS JOIN (VALUES
            ('async', now() + interval '1 day'),
            ('elsewhere', now()),
            ('stranger', now())
        ) AS kind (entrypoint, due)
        RETURNING id, entrypoint, priority
    )
    INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
    SELECT id, 'queued', entrypoint, priority FROM job
"""


class PgQueuer(Peer):
    """Entry points are its queues and its tasks: two are unknown to the worker."""

    name: ClassVar[str] = "pgqueuer"

    def version(self) -> str:
        return (
            f"pgqueuer {version('pgqueuer')}, asyncpg {version('asyncpg')}: "
            f"batch size {BATCH}, uvloop, log kept; sync by asyncio.to_thread"
        )

    def prepare(self) -> None:
        self.processes.run(script("pgq"), "--pg-dsn", self.url, "install")

    def connect(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._open())
        self._connection = watch(self.url)
        row = self._connection.execute(
            "SELECT coalesce(max(job_id), 0) FROM pgqueuer_log"
        ).fetchone()
        self._first = row[0] if row else 0

    async def _open(self) -> None:
        self._asyncpg: asyncpg.Connection[Any] = await asyncpg.connect(self.url)
        self._queries = Queries(AsyncpgDriver(self._asyncpg))

    def enqueue_one(self, kind: Kind, number: int) -> None:
        self._runner.run(self._queries.enqueue(kind, str(number).encode()))

    def enqueue_many(self, kind: Kind, numbers: range) -> None:
        payloads: list[bytes | None] = [str(number).encode() for number in numbers]
        count = len(payloads)
        self._runner.run(self._queries.enqueue([kind] * count, payloads, [0] * count))

    def start_workers(self, kind: Kind, processes: int) -> None:
        for _ in range(processes):
            self.processes.start(
                sys.executable, "-m", "benchmarks.apps.pgqueuer_app", str(BATCH)
            )

    def wait_done(self, deadline: float) -> bool:
        return wait_until_empty(
            self._connection, LEFT, {"first": self._first}, deadline
        )

    def backlog(self, rows: int) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(BACKLOG, {"third": rows // 3})

    def stop(self) -> None:
        super().stop()
        if hasattr(self, "_runner"):
            self._connection.close()
            self._runner.run(self._asyncpg.close())
            self._runner.close()
            del self._runner
