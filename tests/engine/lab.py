"""The engine in a test tube: shapes, workers with a connection each, and results."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg

from orchestrator import ids
from orchestrator.engine import (
    enqueue,
    exchange,
    inspect,
    outcome,
    register,
    sessions,
    verdict,
    workers,
)
from orchestrator.engine.claim import Claim, Demand, WorkerKey
from orchestrator.engine.exchange import Exchanged
from orchestrator.engine.outcome import RunState
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import Shape, queue_id
from orchestrator.states import AttemptOutcome
from tests.engine.pool import ROWS, Pool

NO_RETRY = {"attempts": 0}
AT_ONCE = {"attempts": 1, "initial": 0, "factor": 2, "max": 1, "jitter": False}
LATER = {"attempts": 2, "initial": 60, "factor": 2, "max": 600, "jitter": False}


def task(name: str, *parents: str, **options: Any) -> dict[str, Any]:
    """One node of a shape's dictionary."""
    return {"name": name, "parents": list(parents), **options}


class Hand:
    """One worker process with one child, speaking on a connection of its own."""

    def __init__(self, lab: Lab, connection: psycopg.Connection[Any]) -> None:
        self.lab = lab
        self.connection = connection
        self.session = sessions.WorkerSession(connection)
        self.key = WorkerKey(uuid4(), 1)

    @property
    def worker_id(self) -> UUID:
        return self.key.worker_id

    def sign_up(self) -> Hand:
        """Write the Worker row, as a supervisor does."""
        workers.register_worker(
            self.session,
            self.worker_id,
            name="hand",
            hostname="lab",
            pid=1,
            queues=["default"],
            labels={},
            tasks=[],
            slots=1,
            processes=1,
        )
        return self

    def travel(self, **delta: float) -> None:
        """Move this connection's clock; it then stands still there."""
        self.connection.execute(
            "SELECT set_config('orchestrator.now', (orchestrator_now() + %s)::text,"
            " false)",
            [timedelta(**delta)],
        )

    def demand(
        self,
        limit: int = 100,
        *,
        queues: Sequence[str] = ("default",),
        shapes: Iterable[Shape] | None = None,
    ) -> Demand:
        known = self.lab.shapes if shapes is None else shapes
        return Demand(
            tuple(queue_id(name) for name in queues),
            {
                node.lane: (
                    None
                    if node.execution_timeout is None
                    else round(node.execution_timeout * 1000)
                )
                for shape in known
                for node in shape.tasks
            },
            limit,
        )

    def claim(self, limit: int = 100, **options: Any) -> list[Claim]:
        """Claim from queue `default`, whatever task of the lab's shapes."""
        return self.exchange([], self.demand(limit, **options)).claims

    def claim_one(self, **options: Any) -> Claim:
        [claim] = self.claim(1, **options)
        return claim

    def exchange(
        self, results: Sequence[Result], demand: Demand | None = None
    ) -> Exchanged:
        return exchange.exchange(self.session, self.key, results, demand)

    def complete(self, *claims: Claim, output: Any = None) -> Exchanged:
        return self.exchange([self.lab.completed(c, output=output) for c in claims])

    def fail(self, *claims: Claim, **options: Any) -> Exchanged:
        return self.exchange([self.lab.failed(c, **options) for c in claims])

    def drain(self) -> int:
        """Complete all that is ready, and all that this makes ready."""
        done = 0
        results: list[Result] = []
        while True:
            exchanged = self.exchange(results, self.demand())
            assert exchanged.accepted == len(results)
            results = [self.lab.completed(claim) for claim in exchanged.claims]
            done += len(results)
            if not results:
                return done


class Lab:
    """Shapes that are registered, and hands that work on them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.shapes: list[Shape] = []
        self.connections: list[psycopg.Connection[Any]] = []
        self.main = self.hand()

    # Making things.

    def connect(self, *, fresh: bool = False) -> psycopg.Connection[Any]:
        """A connection to use until the end of the test."""
        self.connections.append(self.pool.take(fresh=fresh))
        return self.connections[-1]

    def hand(self, *, fresh: bool = False) -> Hand:
        return Hand(self, self.connect(fresh=fresh))

    @property
    def session(self) -> sessions.WorkerSession:
        return self.main.session

    def shape(
        self, workflow: str, *tasks: Mapping[str, Any] | str, **options: Any
    ) -> Shape:
        """Build and register a workflow; without tasks it has one of its own name."""
        nodes = [task(n) if isinstance(n, str) else dict(n) for n in tasks]
        if not nodes:
            own = ("retries", "schedule_timeout", "execution_timeout")
            nodes = [task(workflow, **{k: options.pop(k) for k in own if k in options})]
        data = {"workflow": workflow, "tasks": nodes, **options}
        shape = Shape.build(workflow, data)
        register.register(self.session, [shape])
        self.shapes.append(shape)
        return shape

    def diamond(self, workflow: str = "diamond", **options: Any) -> Shape:
        """a → b, c → d; `options` go to every task."""
        return self.shape(
            workflow,
            task("a", **options),
            task("b", "a", **options),
            task("c", "a", **options),
            task("d", "b", "c", **options),
        )

    def enqueue(
        self, shape: Shape, inputs: int | Sequence[str] = 1, **options: Any
    ) -> list[UUID]:
        texts = ["null"] * inputs if isinstance(inputs, int) else inputs
        return enqueue.enqueue(self.session, shape, texts, **options)

    def enqueue_one(self, shape: Shape, **options: Any) -> UUID:
        [run_id] = self.enqueue(shape, 1, **options)
        return run_id

    def renew(self) -> None:
        """Go on with another connection, where the one at hand may be broken."""
        self.main = self.hand()

    def forget(self) -> None:
        """Delete all rows but definitions, behind the guards' back."""
        connection = self.main.connection
        with connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")
            for table in ROWS:
                connection.execute(f"DELETE FROM orchestrator_{table}".encode())

    # Results.

    def node(self, claim: Claim) -> Any:
        nodes = {n.id: n for shape in self.shapes for n in shape.tasks}
        return nodes[claim.task_id]

    def name(self, claim: Claim) -> str:
        return str(self.node(claim).name)

    def completed(self, claim: Claim, *, output: Any = None) -> Result:
        now = time.monotonic()
        return Result(
            claim,
            AttemptOutcome.COMPLETED,
            now - 0.25,
            now,
            output=None if output is None else json.dumps(output),
        )

    def failed(
        self, claim: Claim, message: str = "boom", *, retryable: bool = True
    ) -> Result:
        now = time.monotonic()
        error = {"type": "builtins.ValueError", "message": message, "traceback": ""}
        return verdict.failed(
            claim,
            self.node(claim),
            error,
            started=now - 0.25,
            finished=now,
            retryable=retryable,
        )

    # Looking.

    def rows(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.main.connection.execute(statement.encode(), params).fetchall()

    def value(self, statement: str, *params: Any) -> Any:
        [[value]] = self.rows(statement, *params)
        return value

    def count(self, table: str) -> int:
        return int(self.value(f"SELECT count(*) FROM orchestrator_{table}"))

    def state(self, run_id: UUID) -> RunState:
        state = outcome.run_state(self.session, run_id)
        assert state is not None
        return state

    def status(self, run_id: UUID) -> str:
        return self.state(run_id).status

    def statuses(self, run_id: UUID) -> dict[str, str | None]:
        """By task name, the outcomes so far; None for what has not ended."""
        state = self.state(run_id)
        return {
            node.name: node.status
            for node in outcome.task_states(self.session, run_id, state.version_id)
        }

    def places(self, run_id: UUID) -> dict[str, str]:
        """By task name, the live table that holds each unfinished task run."""
        rows = self.rows(PLACES, *[run_id] * 4)
        return dict(rows)

    def task_statuses(self, run_id: UUID) -> dict[str, str | None]:
        """By task name, what each task run is now: its outcome, or its place."""
        ended = {k: v for k, v in self.statuses(run_id).items() if v is not None}
        return {**ended, **{k: STATUS_OF[v] for k, v in self.places(run_id).items()}}

    def task_run(self, run_id: UUID, ordinal: int = 0) -> dict[str, Any]:
        return self._row("task_run", ids.task_run_id(run_id, ordinal))

    def run(self, run_id: UUID) -> dict[str, Any]:
        return self._row("run", run_id)

    def attempts(self, run_id: UUID, ordinal: int = 0) -> list[tuple[int, str]]:
        """Numbers and outcomes of the attempts on record."""
        return self.rows(
            "SELECT number, outcome FROM orchestrator_attempt"
            " WHERE task_run_id = %s ORDER BY number",
            ids.task_run_id(run_id, ordinal),
        )

    def violations(self, *, at_rest: bool = False) -> list[inspect.Violation]:
        return inspect.violations(self.session, at_rest=at_rest)

    def _row(self, table: str, key: UUID) -> dict[str, Any]:
        cursor = self.main.connection.execute(
            f"SELECT * FROM orchestrator_{table} WHERE id = %s".encode(), [key]
        )
        row = cursor.fetchone()
        assert row is not None
        assert cursor.description is not None
        return {c.name: v for c, v in zip(cursor.description, row, strict=True)}


PLACES = """
    SELECT task.name, place.name
    FROM (
        SELECT task_id, 'queued' AS name FROM orchestrator_queue_item WHERE run_id = %s
        UNION ALL
        SELECT task_id, lower(status) FROM orchestrator_delayed_item WHERE run_id = %s
        UNION ALL
        SELECT task_id, 'leased' FROM orchestrator_lease WHERE run_id = %s
        UNION ALL
        SELECT task_id, 'pending' FROM orchestrator_wait WHERE run_id = %s
    ) AS place
    JOIN orchestrator_task AS task ON task.id = place.task_id
"""

STATUS_OF = {
    "queued": "QUEUED",
    "scheduled": "SCHEDULED",
    "backoff": "BACKOFF",
    "leased": "RUNNING",
    "pending": "PENDING",
}
