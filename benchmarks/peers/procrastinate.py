"""procrastinate: one task at a time per fetch, a commit per finish, jobs kept."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from benchmarks.peers.base import Kind, Peer
from benchmarks.processes import script
from benchmarks.server import wait_until_empty, watch

CONCURRENCY = {"async": 30, "sync": 10}

LEFT = sql.SQL(
    "SELECT EXISTS (SELECT FROM procrastinate_jobs "
    "WHERE id > %(first)s AND status IN ('todo', 'doing'))"
)
# The same rows as defer_async writes, its triggers included.
BACKLOG = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at)
    SELECT queue, task, jsonb_build_object('number', n), due
    FROM generate_series(1, %(third)s) AS n CROSS JOIN (VALUES
        ('async', 'async', now() + interval '1 day'),
        ('elsewhere', 'async', NULL),
        ('stranger', 'stranger', NULL)
    ) AS kind (queue, task, due)
"""


class Procrastinate(Peer):
    """Async tasks with 30 at a time, sync ones with 10, LISTEN/NOTIFY on.

    A worker picks tasks that its app does not know and fails them, so for this peer
    the third of unknown tasks lies in a second other queue.
    """

    name: ClassVar[str] = "procrastinate"
    pace = "slow"

    def version(self) -> str:
        return (
            f"procrastinate {version('procrastinate')}, psycopg {version('psycopg')}: "
            "concurrency 30 (sync 10), LISTEN/NOTIFY, jobs kept"
        )

    def prepare(self) -> None:
        app = "benchmarks.apps.procrastinate_app.app"
        self.processes.run(script("procrastinate"), "--app", app, "schema", "--apply")

    def connect(self) -> None:
        os.environ.update(self.environment)
        from benchmarks.apps import procrastinate_app

        self._tasks: dict[str, Any] = {
            "async": procrastinate_app.noop,
            "sync": procrastinate_app.noop_sync,
        }
        self._app = procrastinate_app.app
        self._runner = asyncio.Runner()
        self._runner.run(self._open())
        self._connection = watch(self.url)
        row = self._connection.execute(
            "SELECT coalesce(max(id), 0) FROM procrastinate_jobs"
        ).fetchone()
        self._first = row[0] if row else 0

    async def _open(self) -> None:
        await self._app.open_async()

    def enqueue_one(self, kind: Kind, number: int) -> None:
        self._runner.run(self._tasks[kind].defer_async(number=number))

    def enqueue_many(self, kind: Kind, numbers: range) -> None:
        calls = [{"number": number} for number in numbers]
        self._runner.run(self._tasks[kind].batch_defer_async(*calls))

    def start_workers(self, kind: Kind, processes: int) -> None:
        for _ in range(processes):
            self.processes.start(
                script("procrastinate"),
                "--app", "benchmarks.apps.procrastinate_app.app",
                "--log-level", "warning",
                "worker",
                "--queues", kind,
                "--concurrency", str(CONCURRENCY[kind]),
            )  # fmt: skip

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
            self._runner.run(self._app.close_async())
            self._runner.close()
            del self._runner
