"""Settle: what attempts came to, and everything that follows from it.

A report has an effect only where its lease is still that worker's: completion,
retries, children, the end of a run. The same step serves the worker that reports, and
the scheduler that reports for one that is gone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import psycopg

from orchestrator import ids
from orchestrator.engine import versions
from orchestrator.engine.claim import Claim
from orchestrator.engine.sessions import Session, array, documents, statements, uuids
from orchestrator.engine.shapes import Shape, TaskShape
from orchestrator.states import AttemptOutcome, TaskRunStatus

if TYPE_CHECKING:
    from orchestrator.engine.waits import Request

STATUS_OF = {
    AttemptOutcome.COMPLETED: TaskRunStatus.COMPLETED,
    AttemptOutcome.CANCELLED: TaskRunStatus.CANCELLED,
    AttemptOutcome.FAILED: TaskRunStatus.FAILED,
    AttemptOutcome.TIMED_OUT: TaskRunStatus.FAILED,
    AttemptOutcome.LOST: TaskRunStatus.FAILED,
}


class Result(NamedTuple):
    """What one attempt came to.

    `started` and `finished` are `time.monotonic()` seconds of this process. With
    `final` the task run ends; otherwise another attempt follows, after `retry_in` or
    at once. `executed` is false for what ends without an attempt, such as a task run
    that waited for too long; `skipped` is for what ends SKIPPED instead. `output` and
    `error` are JSON texts. `waits` are what a suspended attempt waits for.
    """

    claim: Claim
    outcome: AttemptOutcome
    started: float
    finished: float
    output: str | None = None
    error: str | None = None
    reason: str = ""
    final: bool = True
    retry_in: timedelta | None = None
    executed: bool = True
    skipped: bool = False
    waits: Sequence[Request] | None = None


@dataclass
class Settled:
    """What became of a batch of results.

    `deferred` could not be locked and belong into the next batch; `refused` had lost
    their lease; `rejected` hold a value that the database refuses, with its error.
    `judge`: there is something for `engine.judge` to decide.
    """

    accepted: int = 0
    deferred: list[Result] = field(default_factory=list)
    refused: list[Result] = field(default_factory=list)
    rejected: list[tuple[Result, Exception]] = field(default_factory=list)
    queues: set[int] = field(default_factory=set)
    judge: bool = False

    def add(self, other: Settled) -> None:
        """What became of more results."""
        self.accepted += other.accepted
        self.deferred += other.deferred
        self.refused += other.refused
        self.rejected += other.rejected
        self.queues |= other.queues
        self.judge = self.judge or other.judge


class Pending(NamedTuple):
    """Results sent, whose answer is still to be read."""

    results: Sequence[Result]
    cursor: psycopg.Cursor[Any]
    children: bool = False


def settle(session: Session, worker_id: UUID, results: Sequence[Result]) -> Settled:
    """Report results of one worker inside the transaction at hand."""
    settled = Settled()
    for pending in send(session, worker_id, results):
        read(pending, settled)
    return settled


def send(session: Session, worker_id: UUID, results: Sequence[Result]) -> list[Pending]:
    """Send the statements that settle `results`; to be read with `read`."""
    plain: list[Result] = []
    graph: list[tuple[Result, Shape]] = []
    durable: list[tuple[Result, TaskShape]] = []
    for result in results:
        shape = versions.shape(session, result.claim.version_id)
        if shape is None:  # claims are only made of versions that are registered
            raise LookupError(f"Version {result.claim.version_id} is not registered.")
        node = shape.task(result.claim.task_id)
        if node is not None and node.durable:
            durable.append((result, node))
        first_and_last = result.final and result.claim.attempt == 1
        if shape.single and first_and_last and result.executed:
            plain.append(result)
        else:
            graph.append((result, shape))
    steps = statements("settle")
    sent = []
    if plain:
        cursor = session.send(steps["plain"], _reports(worker_id, plain))
        sent.append(Pending(plain, cursor))
    if graph:
        reported = [result for result, _ in graph]
        params = _reports(worker_id, reported) | _graph(graph)
        sent.append(Pending(reported, session.send(steps["graph"], params)))
        session.send(steps["swept"], params)
    over = [r.claim.task_run_id for r, node in durable if r.final]
    if over:
        session.send(statements("waits")["left"], {"waiting": uuids(over)})
    ended = [r.claim.run_id for r in results if r.final and r.claim.child]
    if ended:
        cursor = session.send(
            statements("children")["ended"], {"run_ids": uuids(ended)}
        )
        sent.append(Pending((), cursor, children=True))
    return sent


def read(pending: Pending, settled: Settled) -> None:
    """Add the answer to what was sent to `settled`."""
    rows = pending.cursor.fetchall()
    if pending.children:
        settled.judge = settled.judge or bool(rows)
        return
    accepted, deferred_runs, accepted_ids, queues, judge = rows[0]
    settled.judge = settled.judge or judge
    settled.accepted += accepted
    settled.queues.update(queues or ())
    if accepted_ids is None:
        return
    done = set(accepted_ids)
    elsewhere = set(deferred_runs)
    for result in pending.results:
        claim = result.claim
        if ids.attempt_id(claim.task_run_id, claim.attempt) in done:
            continue
        if claim.run_id in elsewhere:
            settled.deferred.append(result)
        else:
            settled.refused.append(result)


def _reports(worker_id: UUID, results: Sequence[Result]) -> dict[str, Any]:
    now = time.monotonic()
    claims = [result.claim for result in results]
    run_ids = [claim.run_id for claim in claims]
    task_run_ids = [claim.task_run_id for claim in claims]
    outputs = [result.output for result in results]
    errors = [result.error for result in results]
    reasons = [
        json.dumps(result.reason) if result.reason else None for result in results
    ]
    return {
        "worker_id": worker_id,
        "low": min(run_ids),
        "high": max(run_ids),
        "task_run_ids": uuids(task_run_ids),
        "run_ids": uuids(run_ids),
        "attempt_ids": array(
            [ids.attempt_hex(c.task_run_id, c.attempt) for c in claims]
        ),
        "attempts": array([claim.attempt for claim in claims]),
        "outcomes": array([result.outcome.value for result in results]),
        "statuses": array([_status(result).value for result in results]),
        "outputs": documents(outputs),
        "errors": documents(errors),
        "reasons": documents(reasons),
        "started": array([now - result.started for result in results]),
        "finished": array([now - result.finished for result in results]),
    }


def _graph(graph: Sequence[tuple[Result, Shape]]) -> dict[str, Any]:
    edges: list[tuple[UUID, UUID]] = []
    doomed: list[tuple[UUID, UUID]] = []
    for result, shape in graph:
        node = shape.task(result.claim.task_id)
        if not result.final or node is None:
            continue
        fine = result.skipped or result.outcome == AttemptOutcome.COMPLETED
        affected = shape.children if fine else shape.descendants
        pairs = edges if fine else doomed
        for ordinal in affected[node.ordinal]:
            pairs.append(
                (
                    result.claim.task_run_id,
                    ids.task_run_id(result.claim.run_id, ordinal),
                )
            )
    handled = {
        (result.claim.run_id, ids.task_run_id(result.claim.run_id, shape.handler))
        for result, shape in graph
        if result.final and shape.handler is not None
    }
    results = [result for result, _ in graph]
    return {
        "finals": array([result.final for result in results]),
        "executed": array([result.executed for result in results]),
        "retry_ins": array(
            [
                result.retry_in.total_seconds() if result.retry_in else None
                for result in results
            ]
        ),
        "failures": array([r.claim.failures + _failed(r) for r in results]),
        "losses": array([r.claim.losses + _lost(r) for r in results]),
        "handled_runs": uuids([run_id for run_id, _ in handled]),
        "handlers": uuids([task_run for _, task_run in handled]),
        "singles": array([shape.single for _, shape in graph]),
        "edge_parents": uuids([parent for parent, _ in edges]),
        "edge_children": uuids([child for _, child in edges]),
        "doom_causes": uuids([cause for cause, _ in doomed]),
        "doomed": uuids([task_run for _, task_run in doomed]),
    }


def _status(result: Result) -> TaskRunStatus:
    return TaskRunStatus.SKIPPED if result.skipped else STATUS_OF[result.outcome]


def _failed(result: Result) -> int:
    return int(result.outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT))


def _lost(result: Result) -> int:
    return int(result.outcome == AttemptOutcome.LOST)
