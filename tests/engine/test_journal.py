"""Journal: in which order a function is told what came to be over."""

from __future__ import annotations

from orchestrator.engine import journal, push
from orchestrator.engine.journal import Fence
from orchestrator.engine.tend import tend
from tests.engine.durables import durable_shape, pushed, request, suspend
from tests.engine.lab import Lab


def test_ends_are_numbered_when_they_are_delivered_and_stay_so(lab: Lab) -> None:
    lab.enqueue_one(durable_shape(lab))
    claim = lab.main.claim_one()
    waits = [request(claim, n, event=key) for n, key in enumerate("abc", 1)]
    suspend(lab.main, claim, *waits)
    for key in "ca":
        push.push(lab.session, [pushed(key)])
        tend(lab.session)
    again = lab.main.claim_one()
    worker = lab.main.worker_id
    # A worker that does not hold the lease numbers nothing.
    lost = journal.load(lab.session, lab.hand().worker_id, [again])
    assert {e.order for e in lost[again.task_run_id].entries.values()} == {None}
    [known] = journal.load(lab.session, worker, [again]).values()
    assert known.suspensions == 1
    order = {n: entry.order for n, entry in known.entries.items()}
    assert order[2] is None
    assert order[3] is not None
    assert order[1] is not None
    assert order[3] < order[1]
    # A step comes after both, and what is over while it is executed after that.
    push.push(lab.session, [pushed("b")])
    tend(lab.session)
    fence = Fence(again.task_run_id, again.attempt, worker)
    with lab.session.transaction():
        step, _ = journal.record(
            lab.session, fence, 1, 4, kind="STEP", name="", asked="step", output=None
        )
    [late] = journal.deliver(lab.session, fence, 1, [2])
    assert late.order is not None
    assert order[1] < step < late.order
    [entry] = journal.deliver(lab.session, fence, 1, [2])
    assert entry == late
    assert journal.deliver(lab.session, fence._replace(attempt=1), 1, [2]) == []
    lab.main.complete(again)
