"""Suspend: what is written, what is refused, and what comes in between."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import pytest

from orchestrator.engine import cancel, journal, push, resume, retry, spawn, waits
from orchestrator.engine.journal import Fence
from orchestrator.engine.tend import tend
from orchestrator.exceptions import LeaseLost
from tests.engine.durables import (
    child_of,
    durable_shape,
    entries,
    pushed,
    request,
    suspend,
    suspended,
)
from tests.engine.lab import Hand, Lab
from tests.engine.races import Background, together, wait_until_blocked


def test_a_suspended_task_run_waits_and_its_attempt_is_on_record(lab: Lab) -> None:
    shape = durable_shape(lab)
    run_id = lab.enqueue_one(shape)
    claim = lab.main.claim_one()
    suspend(lab.main, claim, request(claim, seconds=60))
    assert lab.attempts(run_id) == [(1, "SUSPENDED")]
    assert lab.places(run_id) == {"durable": "pending"}
    assert lab.status(run_id) == "RUNNING"
    assert lab.task_run(run_id)["suspensions"] == 1
    assert entries(lab, run_id) == [(1, None, None, False)]
    assert tend(lab.session) == 0
    lab.main.travel(seconds=61)
    assert tend(lab.session) > 0
    assert lab.places(run_id) == {"durable": "queued"}
    assert lab.main.claim_one().attempt == 2
    assert lab.count("wait_condition") == 0


def test_a_stale_attempt_suspends_nothing(lab: Lab) -> None:
    shape = durable_shape(lab)
    run_id = lab.enqueue_one(shape)
    claim = lab.main.claim_one()
    report = suspended(claim, request(claim, child=child_of(claim, shape)))
    lab.main.fail(claim)
    again = lab.main.claim_one()
    exchanged = lab.main.exchange([report])
    assert (exchanged.accepted, exchanged.refused) == (0, [report])
    assert lab.count("run") == 1
    assert entries(lab, run_id) == []
    lab.main.complete(again)
    assert lab.status(run_id) == "COMPLETED"


def test_a_run_that_is_locked_elsewhere_is_deferred(lab: Lab) -> None:
    run_id = lab.enqueue_one(durable_shape(lab))
    claim = lab.main.claim_one()
    report = suspended(claim, request(claim, seconds=1))
    other = lab.connect()
    with other.transaction():
        other.execute("SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [run_id])
        assert lab.main.exchange([report]).deferred == [report]
    assert lab.main.exchange([report]).accepted == 1


def test_a_step_of_a_stale_attempt_is_refused(lab: Lab) -> None:
    run_id = lab.enqueue_one(durable_shape(lab))
    stale = lab.main.claim_one()
    lab.main.fail(stale)
    now = lab.main.claim_one()

    def record(attempt: int, position: int) -> None:
        fence = Fence(now.task_run_id, attempt, lab.main.worker_id)
        with lab.session.transaction():
            journal.record(
                lab.session,
                fence,
                1,
                position,
                kind="STEP",
                name="s",
                asked="step s",
                output="1",
            )

    with pytest.raises(LeaseLost):
        record(stale.attempt, 1)
    record(now.attempt, 1)
    assert entries(lab, run_id) == [(1, 1, None, True)]


def test_a_cancel_waits_for_the_end_of_a_step_and_no_step_follows(lab: Lab) -> None:
    """The record holds the lease until its commit."""
    run_id = lab.enqueue_one(durable_shape(lab))
    claim = lab.main.claim_one()
    fence = Fence(claim.task_run_id, claim.attempt, lab.main.worker_id)
    other = lab.hand()

    def record(position: int) -> None:
        what: dict[str, Any] = {
            "kind": "STEP",
            "name": "",
            "asked": "step",
        }
        journal.record(lab.session, fence, 1, position, output=None, **what)

    with lab.session.transaction():
        record(1)
        stop = Background(lambda: cancel.cancel(other.session, [run_id], reason="no"))
        wait_until_blocked(lab.connect(), other.connection)
    assert stop.result()
    with pytest.raises(LeaseLost), lab.session.transaction():
        record(2)
    assert len(entries(lab, run_id)) == 1


# What comes in between.


class Between:
    """Holds a suspend back after its fence, before what it waits for is written."""

    def __init__(self, lab: Lab, entry_id: UUID) -> None:
        self.lab = lab
        self.blocker = lab.connect()
        self.blocker.execute("BEGIN")
        self.blocker.execute("SET LOCAL session_replication_role = replica")
        self.blocker.execute(
            "INSERT INTO orchestrator_journal_entry (id, task_run_id, branch, position,"
            " kind, name, asked, attempt, created_at)"
            " VALUES (%s, %s, 1, 1, 'WAIT', '', '', 1, now())",
            [entry_id, entry_id],
        )

    def until_blocked(self, hand: Hand) -> None:
        wait_until_blocked(self.lab.connect(), hand.connection)

    def let_go(self) -> None:
        self.blocker.execute("ROLLBACK")


def test_a_child_that_ends_while_its_parent_is_suspended_is_not_missed(
    lab: Lab,
) -> None:
    shape, single = durable_shape(lab), lab.shape("child", standalone=True)
    run_id = lab.enqueue_one(shape)
    claim = lab.main.claim_one(shapes=[shape])
    child = child_of(claim, single)
    spawn.spawn(lab.session, [child])  # by ctx.spawn, before it is waited for
    other = lab.hand()
    theirs = other.claim_one(shapes=[single])
    wait = request(claim, child=child)
    between = Between(lab, wait.entry_id)
    suspending = Background(lambda: suspend(lab.main, claim, wait))
    between.until_blocked(lab.main)
    other.complete(theirs)
    between.let_go()
    suspending.result()
    tend(lab.session)
    assert lab.places(run_id) == {"durable": "queued"}
    assert entries(lab, run_id) == [(1, None, None, True)]


def test_an_event_that_is_pushed_while_a_task_is_suspended_is_not_missed(
    lab: Lab,
) -> None:
    run_id = lab.enqueue_one(durable_shape(lab))
    claim = lab.main.claim_one()
    wait = request(claim, event="paid")
    between = Between(lab, wait.entry_id)
    suspending = Background(lambda: suspend(lab.main, claim, wait))
    between.until_blocked(lab.main)
    other = lab.hand()
    push.push(other.session, [pushed("paid")])
    tend(other.session)
    between.let_go()
    suspending.result()
    tend(lab.session)
    assert lab.places(run_id) == {"durable": "queued"}
    [(_, output, _, over)] = entries(lab, run_id)
    assert over
    assert output == [["paid", None]]


@pytest.mark.parametrize("before", [True, False])
def test_an_event_counts_by_when_it_was_committed_and_not_by_when_it_was_pushed(
    lab: Lab, before: bool
) -> None:
    """It may commit between the call and the suspension."""
    run_id = lab.enqueue_one(durable_shape(lab))
    claim = lab.main.claim_one()
    other = lab.hand()
    with other.session.transaction():
        push.push(other.session, [pushed("paid")])
        snapshot = None if before else waits.snapshot(lab.session)
    tend(other.session)
    if before:
        snapshot = waits.snapshot(lab.session)
    suspend(lab.main, claim, request(claim, event="paid", snapshot=snapshot))
    tend(lab.session)
    assert lab.places(run_id) == {"durable": "pending" if before else "queued"}


def test_a_cancel_and_a_resume_at_once_leave_nothing_behind(lab: Lab) -> None:
    shape = durable_shape(lab)
    other = lab.hand()
    for _ in range(20):
        run_id = lab.enqueue_one(shape)
        claim = lab.main.claim_one()
        suspend(lab.main, claim, request(claim, seconds=0))
        together(
            lambda: tend(lab.session),
            partial(cancel.cancel, other.session, [run_id], reason="no"),
        )
        assert lab.status(run_id) == "CANCELLED"
        assert lab.count("wait_condition") == lab.count("wait") == 0
        assert lab.count("queue_item") == 0


def test_two_that_resume_at_once_queue_it_once(lab: Lab) -> None:
    shape = durable_shape(lab)
    other = lab.hand()
    runs = lab.enqueue(shape, 20)
    for claim in lab.main.claim():
        suspend(lab.main, claim, request(claim, seconds=0))
    together(lambda: tend(lab.session), lambda: tend(other.session))
    tend(lab.session)
    assert len(lab.main.claim()) == len(runs)


# Groups.


def test_a_group_is_over_when_all_of_its_children_are(lab: Lab) -> None:
    shape, single = durable_shape(lab), lab.shape("child", standalone=True)
    run_id = lab.enqueue_one(shape)
    claim = lab.main.claim_one(shapes=[shape])
    waits = [
        request(claim, n, group=1, child=child_of(claim, single, n))
        for n in range(1, 4)
    ]
    suspend(lab.main, claim, *waits)
    for left, theirs in ((2, lab.main.claim_one()), (1, lab.main.claim_one())):
        lab.main.complete(theirs, output=left)
        tend(lab.session)
        assert lab.places(run_id) == {"durable": "pending"}
        assert lab.count("wait_condition") == left
    lab.main.complete(lab.main.claim_one(), output=0)
    tend(lab.session)
    assert lab.places(run_id) == {"durable": "queued"}
    assert sorted(row[1] for row in entries(lab, run_id)) == [0, 1, 2]


def test_another_group_goes_on_waiting(lab: Lab) -> None:
    run_id = lab.enqueue_one(durable_shape(lab))
    claim = lab.main.claim_one()
    suspend(lab.main, claim, request(claim, 1, seconds=0), request(claim, 2, event="e"))
    tend(lab.session)
    again = lab.main.claim_one()
    assert lab.count("wait_condition") == 1
    suspend(lab.main, again, request(again, 2, event="e", recorded=True))
    assert lab.places(run_id) == {"durable": "pending"}
    assert lab.count("wait_condition") == 1
    push.push(lab.session, [pushed("e")])
    tend(lab.session)
    assert lab.places(run_id) == {"durable": "queued"}


def test_what_is_over_before_it_is_suspended_is_queued_at_once(lab: Lab) -> None:
    run_id = lab.enqueue_one(durable_shape(lab))
    claim = lab.main.claim_one()
    suspend(lab.main, claim, request(claim, 1, seconds=0), request(claim, 2, event="e"))
    tend(lab.session)
    again = lab.main.claim_one()
    push.push(lab.session, [pushed("e")])
    tend(lab.session)  # while it is executed
    suspend(lab.main, again, request(again, 2, event="e", recorded=True))
    assert lab.places(run_id) == {"durable": "queued"}


def test_conditions_of_what_nobody_waits_for_any_more_are_dropped(lab: Lab) -> None:
    run_id = lab.enqueue_one(durable_shape(lab))
    claim = lab.main.claim_one()
    suspend(lab.main, claim, request(claim, 1, seconds=0), request(claim, 2, event="e"))
    tend(lab.session)
    lab.main.complete(lab.main.claim_one())
    assert lab.status(run_id) == "COMPLETED"
    assert lab.count("wait_condition") == 0


def test_a_child_that_is_reopened_is_waited_for_again(lab: Lab) -> None:
    shape, single = durable_shape(lab), lab.shape("child", standalone=True)
    run_id = lab.enqueue_one(shape)
    claim = lab.main.claim_one(shapes=[shape])
    child = child_of(claim, single)
    suspend(lab.main, claim, request(claim, child=child))
    lab.main.complete(lab.main.claim_one())
    retry.retry(lab.session, child.run_id, tasks="all")
    resume.resume(lab.session)
    assert lab.places(run_id) == {"durable": "pending"}
    lab.main.complete(lab.main.claim_one(shapes=[single]), output=7)
    tend(lab.session)
    assert [row[1] for row in entries(lab, run_id)] == [7]
