"""Exchange: settle what was executed and claim what comes next, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.engine import failpoints, notify, settle, suspend
from orchestrator.engine.claim import Claim, Demand, WorkerKey
from orchestrator.engine.faults import Fault, kind_of
from orchestrator.engine.sessions import Session, statements
from orchestrator.engine.settle import Result, Settled


@dataclass
class Exchanged(Settled):
    """What became of the results, and what was claimed."""

    claims: list[Claim] = field(default_factory=list)


def exchange(
    session: Session,
    worker: WorkerKey,
    results: Sequence[Result],
    demand: Demand | None,
) -> Exchanged:
    """Settle `results` and claim what `demand` asks for; a durable transaction.

    Both are sent in one pipeline, so a batch costs one round trip and one commit. A
    result that the database or its driver refuses (`Fault.DATA`) is found by halving
    the batch and returned in `rejected`; its neighbours settle. Any other error is
    raised and has changed nothing that the fence would not catch the next time.

    Results that wait are suspended before that, in a transaction of their own.
    """
    waiting = [result for result in results if result.waits is not None]
    suspended = Exchanged()
    if waiting:
        results = [result for result in results if result.waits is None]
        _settle(
            lambda part: suspend.suspend(session, worker.worker_id, part),
            waiting,
            suspended,
        )
    exchanged = Exchanged()
    try:
        _exchange(session, worker, results, demand, exchanged)
    except Exception as error:
        if not results or kind_of(error) is not Fault.DATA:
            raise
        exchanged = Exchanged()
        _bisect(
            lambda part: _exchange(session, worker, part, None, Exchanged()),
            results,
            exchanged,
            error,
        )
    exchanged.add(suspended)
    return exchanged


def _exchange(
    session: Session,
    worker: WorkerKey,
    results: Sequence[Result],
    demand: Demand | None,
    exchanged: Exchanged,
) -> Exchanged:
    claimed = None
    if results:
        failpoints.hit("settle.before")
    with session.pipeline():
        session.renew_plans()
        sent = settle.send(session, worker.worker_id, results) if results else []
        if demand is not None and demand.limit > 0:
            claimed = session.send(statements("claim")["claim"], demand.params(worker))
    for pending in sent:
        settle.read(pending, exchanged)
    rows = claimed.fetchall() if claimed is not None else []
    if results:
        failpoints.hit("settle.after")
    exchanged.claims = [Claim(*row) for row in rows]
    if rows:
        failpoints.hit("claim.committed")
    if exchanged.queues:
        _wake_others(session, exchanged, demand)
    if results:
        failpoints.hit("settle.replied")
    return exchanged


def _wake_others(session: Session, exchanged: Exchanged, demand: Demand | None) -> None:
    """Children that this claim could not take are news to other workers."""
    if demand is None or len(exchanged.claims) >= demand.limit:
        others = exchanged.queues
    else:
        others = exchanged.queues.difference(demand.queues)
    if others:
        notify.wake(session, others)


def _settle(
    settle_part: Callable[[Sequence[Result]], Settled],
    results: Sequence[Result],
    settled: Settled,
) -> None:
    try:
        settled.add(settle_part(results))
    except Exception as error:
        if kind_of(error) is not Fault.DATA:
            raise
        _bisect(settle_part, results, settled, error)


def _bisect(
    settle_part: Callable[[Sequence[Result]], Settled],
    results: Sequence[Result],
    settled: Settled,
    error: Exception,
) -> None:
    if len(results) == 1:
        settled.rejected.append((results[0], error))
        return
    middle = len(results) // 2
    for half in (results[:middle], results[middle:]):
        _settle(settle_part, half, settled)
