"""Ours: `manage.py runworker`, batches, full history."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import ClassVar
from uuid import UUID

from psycopg import sql

from benchmarks.peers.base import Kind, Peer
from benchmarks.server import wait_until_empty, watch

SETTINGS = "benchmarks.ours.settings"
PER_CALL = 1_000

# The run's status is written when it ends; run ids go up with time.
LEFT = sql.SQL(
    "SELECT EXISTS (SELECT FROM orchestrator_run "
    "WHERE id > %(first)s AND status IS NULL)"
)


class Ours(Peer):
    """Tasks as `@task` functions, chain and diamond as workflows."""

    name: ClassVar[str] = "ours"
    kinds = frozenset({"async", "sync", "chain", "diamond", "durable"})

    def own_environment(self) -> dict[str, str]:
        return {"DJANGO_SETTINGS_MODULE": SETTINGS}

    def version(self) -> str:
        return (
            f"django {version('django')}, psycopg {version('psycopg')}: "
            "runworker as it comes (10 threads, 100 coroutines a process), history kept"
        )

    def prepare(self) -> None:
        self.processes.run(sys.executable, "manage.py", "migrate", "--verbosity", "0")

    def connect(self) -> None:
        os.environ.update(self.environment)
        import django
        from django.apps import apps

        if not apps.ready:
            django.setup()
        from benchmarks.ours import workflows

        self._one: dict[Kind, Callable[[int], object]] = {
            "async": workflows.noop.enqueue,
            "sync": workflows.noop_sync.enqueue,
            "chain": lambda number: workflows.chain.enqueue({"number": number}),
            "diamond": lambda number: workflows.diamond.enqueue({"number": number}),
            "durable": workflows.durable.enqueue,
            "event": workflows.wait_for_event.enqueue,
            "sleep": workflows.sleep.enqueue,
        }
        self._many: dict[Kind, Callable[[range], object]] = {
            "async": lambda numbers: workflows.noop.enqueue_many(
                [workflows.noop.bind(number) for number in numbers]
            ),
            "sync": lambda numbers: workflows.noop_sync.enqueue_many(
                [workflows.noop_sync.bind(number) for number in numbers]
            ),
            "chain": lambda numbers: workflows.chain.enqueue_many(
                [{"number": number} for number in numbers]
            ),
            "diamond": lambda numbers: workflows.diamond.enqueue_many(
                [{"number": number} for number in numbers]
            ),
            "durable": workflows.durable.enqueue_many,
            "event": workflows.wait_for_event.enqueue_many,
            "sleep": workflows.sleep.enqueue_many,
        }
        self._connection = watch(self.url)
        row = self._connection.execute(
            "SELECT id FROM orchestrator_run ORDER BY id DESC LIMIT 1"
        ).fetchone()
        self._first = row[0] if row else UUID(int=0)

    def enqueue_one(self, kind: Kind, number: int) -> None:
        self._one[kind](number)

    def enqueue_many(self, kind: Kind, numbers: range) -> None:
        self._many[kind](numbers)

    def start_workers(self, kind: Kind, processes: int) -> None:
        self.processes.start(
            sys.executable, "manage.py", "runworker",
            "--queues", kind,
            "--processes", str(processes),
        )  # fmt: skip

    def wait_done(self, deadline: float) -> bool:
        return wait_until_empty(
            self._connection, LEFT, {"first": self._first}, deadline
        )

    def start_scheduler(self) -> None:
        """Sleeps are over when a scheduler notices."""
        self.processes.start(sys.executable, "manage.py", "runscheduler")

    def waiting(self) -> int:
        """How many conditions have not come true, or not been seen to."""
        row = self._connection.execute(
            "SELECT count(*) FROM orchestrator_wait_condition"
        ).fetchone()
        return int(str(row[0])) if row else 0

    def push(self, numbers: range) -> None:
        """The events that the waits of these numbers are for, in one commit."""
        from orchestrator import events

        events.push_many(
            [events.Event("bench:go", None, scope=str(number)) for number in numbers]
        )

    def backlog(self, rows: int) -> None:
        from benchmarks.ours.strangers import stranger
        from benchmarks.ours.workflows import noop
        from orchestrator.engine import register, sessions

        # What the release with that task left behind.
        register.register(sessions.django_session(), [stranger.definition.shape])
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        targets = (
            noop.using(run_after=tomorrow),
            noop.using(queue_name="elsewhere"),
            stranger,
        )
        for target in targets:
            call = target.bind(0)
            for start in range(0, rows // 3, PER_CALL):
                target.enqueue_many([call] * min(PER_CALL, rows // 3 - start))

    def stop(self) -> None:
        super().stop()
        if hasattr(self, "_connection"):
            from django.db import connections

            self._connection.close()
            connections.close_all()
