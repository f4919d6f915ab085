"""Inline: execute claims on Django's connection of this thread, as `drain()` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from asgiref.sync import async_to_sync
from django.db import connections
from psycopg.pq import TransactionStatus

from orchestrator import registry
from orchestrator.conf import settings
from orchestrator.engine import gather, outputs, says, versions
from orchestrator.engine.claim import Claim, WorkerKey
from orchestrator.engine.outputs import ParentOutput
from orchestrator.engine.sessions import Session
from orchestrator.engine.settle import Result
from orchestrator.engine.shapes import TaskShape
from orchestrator.hosts import Host
from orchestrator.voices import Outbox
from orchestrator.worker import batches, execute

BATCH = 100


def speak(session: Session, outbox: Outbox, results: list[Result]) -> None:
    """Write what was said, before these results are settled."""
    outbox.forget(result.claim.task_run_id for result in results if result.final)
    while outbox.waiting:
        says.write(session, outbox.take())


def run(session: Session, claims: list[Claim], host: Host) -> list[Result]:
    """Execute claims, one after the other."""
    parents = outputs.parent_outputs(session, claims)
    works = [
        _work(session, claim, parents.get(claim.task_run_id, {}), host)
        for claim in claims
    ]
    execute.load_journals(session, works)
    results = []
    for work in works:
        with _savepoint():
            if work.definition.is_async:
                # On this thread's connection, unlike a loop of its own.
                result = async_to_sync(execute.run_async)(work)
            else:
                result = execute.run_sync(work)
        results.append(result)
    return results


def run_batches(
    session: Session,
    worker: WorkerKey,
    queues: Sequence[int],
    tasks: list[TaskShape],
    host: Host,
) -> list[Result]:
    """Execute all batches that are due; a result for each of their members."""
    results: list[Result] = []
    if not tasks:
        return results
    for claims in gather.gather(session, worker, queues, tasks, BATCH).batches:
        leader = batches.batch_of([_work(session, c, {}, host) for c in claims])
        with _savepoint():
            if leader.definition.is_async:
                leader.result = async_to_sync(execute.run_async)(leader)
            else:
                leader.result = execute.run_sync(leader)
        ended = [work.result for work in batches.share_out(leader)]
        results += [result for result in ended if result is not None]
    return results


def _work(
    session: Session,
    claim: Claim,
    parents: Mapping[str, ParentOutput],
    host: Host | None = None,
) -> execute.Work:
    shape = versions.shape(session, claim.version_id)
    if shape is None:
        raise LookupError(f"Version {claim.version_id} is not registered.")
    definition = registry.task(claim.task_id)
    return execute.start(claim, definition, shape, parents, host)


def refused(session: Session, rejected: list[tuple[Result, Exception]]) -> list[Result]:
    """The results in place of those that the database has refused."""
    return [
        execute.refused_by_database(_work(session, result.claim, {}), error)._replace(
            started=result.started
        )
        for result, error in rejected
    ]


@contextmanager
def _savepoint() -> Iterator[None]:
    """Let a task's database error end the task and not the test's transaction."""
    connection = connections[settings.database]
    savepoint = connection.savepoint() if connection.in_atomic_block else None
    if savepoint is None:
        yield
        return
    yield
    status = connection.connection.info.transaction_status
    if connection.needs_rollback or status == TransactionStatus.INERROR:
        connection.needs_rollback = False
        connection.savepoint_rollback(savepoint)
    else:
        connection.savepoint_commit(savepoint)
