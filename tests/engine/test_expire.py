"""Expire and time out: what waited for too long, and what ran for too long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.engine.cancel import cancel
from orchestrator.engine.expire import GRACE, expire, time_out
from orchestrator.engine.give_back import give_back
from orchestrator.engine.promote import promote
from orchestrator.engine.rescue import rescue
from orchestrator.engine.retry import retry
from tests.engine.lab import AT_ONCE, LATER, Lab, task

REASON = 'Task "{}" was not started within its schedule timeout of {} s.'


def test_what_was_not_started_in_time_is_cancelled(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=10))
    lab.main.travel(seconds=9.9)
    assert expire(lab.session) == 0
    lab.main.travel(seconds=0.2)
    assert expire(lab.session) == 1
    state = lab.state(run_id)
    assert state[:2] == ("CANCELLED", REASON.format("one", 10))
    assert state.tasks[0][:3] == ("one", "CANCELLED", REASON.format("one", 10))
    assert lab.attempts(run_id) == []
    run, task_run = lab.run(run_id), lab.task_run(run_id)
    assert (run["started_at"], task_run["started_at"]) == (None, None)
    assert task_run["attempts"] == 0
    assert lab.main.claim() == []
    assert lab.violations(at_rest=True) == []
    assert lab.count("deadline") == 0


def test_its_descendants_end_with_it(lab: Lab) -> None:
    shape = lab.shape(
        "tree",
        task("a", schedule_timeout=1),
        task("b", "a"),
        task("c", "b"),
        "other",
    )
    run_id = lab.enqueue_one(shape)
    lab.main.travel(seconds=2)
    assert expire(lab.session) == 1
    assert lab.statuses(run_id) == {
        "a": "CANCELLED",
        "b": "CANCELLED",
        "c": "CANCELLED",
        "other": None,
    }
    assert lab.main.drain() == 1
    assert lab.state(run_id)[:2] == ("CANCELLED", REASON.format("a", 1))


def test_several_tasks_of_one_run_expire_together(lab: Lab) -> None:
    shape = lab.shape(
        "wide", *[task(f"t{n}", schedule_timeout=1) for n in range(5)], task("j", "t0")
    )
    run_ids = lab.enqueue(shape, 3)
    lab.main.travel(seconds=2)
    assert expire(lab.session) == 15
    assert {lab.status(run_id) for run_id in run_ids} == {"CANCELLED"}
    assert lab.violations(at_rest=True) == []


def test_the_deadline_of_a_claimed_task_does_nothing(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=1))
    claim = lab.main.claim_one()
    lab.main.travel(seconds=5)
    assert expire(lab.session) == 1
    assert lab.places(run_id) == {"one": "leased"}
    assert lab.count("deadline") == 0
    lab.main.complete(claim)
    assert lab.status(run_id) == "COMPLETED"


def test_the_deadline_of_an_ended_run_is_cleared_away(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=1))
    lab.main.drain()
    lab.main.travel(seconds=5)
    assert expire(lab.session) == 1
    assert lab.count("deadline") == 0
    assert lab.status(run_id) == "COMPLETED"


def test_a_limit_is_kept_and_the_rest_follows(lab: Lab) -> None:
    lab.enqueue(lab.shape("one", schedule_timeout=1), 25)
    lab.main.travel(seconds=5)
    assert [expire(lab.session, limit=10) for _ in range(4)] == [10, 10, 5, 0]
    assert lab.violations(at_rest=True) == []


def test_a_task_that_is_not_started_again_in_time_after_a_backoff(lab: Lab) -> None:
    shape = lab.shape("one", schedule_timeout=100, retries=LATER)
    run_id = lab.enqueue_one(shape)
    lab.main.fail(lab.main.claim_one())
    lab.main.travel(seconds=110)  # the first deadline, while it backs off
    assert expire(lab.session) == 1
    assert lab.places(run_id) == {"one": "backoff"}
    promote(lab.session)
    lab.main.travel(seconds=99)
    assert expire(lab.session) == 0
    lab.main.travel(seconds=2)
    assert expire(lab.session) == 1
    assert lab.status(run_id) == "CANCELLED"
    task_run = lab.task_run(run_id)
    assert task_run["attempts"] == 1
    assert lab.attempts(run_id) == [(1, "FAILED")]
    assert lab.run(run_id)["started_at"] is not None
    assert lab.violations(at_rest=True) == []


def test_a_retry_at_once_has_a_deadline_of_its_own(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=10, retries=AT_ONCE))
    claim = lab.main.claim_one()
    lab.main.travel(seconds=9)
    lab.main.fail(claim)
    lab.main.travel(seconds=5)
    assert expire(lab.session) == 0
    lab.main.travel(seconds=6)
    assert expire(lab.session) == 1
    assert lab.status(run_id) == "CANCELLED"


def test_what_was_given_back_has_a_deadline_of_its_own(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=10))
    claim = lab.main.claim_one()
    lab.main.travel(seconds=9)
    held = [(claim.run_id, claim.task_run_id, claim.attempt)]
    give_back(lab.session, lab.main.worker_id, held)
    lab.main.travel(seconds=5)
    assert expire(lab.session) == 0
    lab.main.travel(seconds=6)
    expire(lab.session)
    assert lab.status(run_id) == "CANCELLED"


def test_what_was_rescued_has_a_deadline_of_its_own(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=10))
    dead = lab.hand()
    dead.claim_one()
    lab.main.travel(seconds=60)
    rescue(lab.session, dead.worker_id)
    assert expire(lab.session) == 0
    lab.main.travel(seconds=11)
    expire(lab.session)
    assert lab.status(run_id) == "CANCELLED"
    assert lab.attempts(run_id) == [(1, "LOST")]


def test_what_a_parent_frees_has_a_deadline_from_then_on(lab: Lab) -> None:
    shape = lab.shape("chain", "a", task("b", "a", schedule_timeout=10))
    run_id = lab.enqueue_one(shape)
    claim = lab.main.claim_one()
    lab.main.travel(seconds=60)
    lab.main.complete(claim)
    assert expire(lab.session) == 0
    lab.main.travel(seconds=11)
    assert expire(lab.session) == 1
    assert lab.statuses(run_id) == {"a": "COMPLETED", "b": "CANCELLED"}
    assert lab.status(run_id) == "CANCELLED"


def test_what_expired_can_be_retried_and_has_a_new_deadline(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=10))
    lab.main.travel(seconds=11)
    expire(lab.session)
    assert retry(lab.session, run_id) == 1
    assert expire(lab.session) == 0
    claim = lab.main.claim_one()
    assert claim.attempt == 1
    lab.main.complete(claim)
    assert lab.status(run_id) == "COMPLETED"
    assert lab.violations(at_rest=True) == []


def test_a_cancelled_run_has_no_deadline_left(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=10))
    cancel(lab.session, [run_id], reason="no")
    assert lab.count("deadline") == 0


def test_a_locked_run_expires_the_next_time(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one", schedule_timeout=1), 2)
    lab.main.travel(seconds=5)
    other = lab.connect()
    with other.transaction():
        other.execute(
            "SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [run_ids[0]]
        )
        assert expire(lab.session) == 1
    assert expire(lab.session) == 1
    assert {lab.status(run_id) for run_id in run_ids} == {"CANCELLED"}


def test_a_scheduled_run_does_not_expire_before_it_is_due(lab: Lab) -> None:
    shape = lab.shape("one", schedule_timeout=1)
    run_id = lab.enqueue_one(shape, run_after=datetime.now(UTC) + timedelta(minutes=1))
    lab.main.travel(seconds=30)
    assert expire(lab.session) == 0
    assert lab.status(run_id) == "QUEUED"


# Attempts that run for too long, and whose worker does not end them.


def test_an_attempt_beyond_its_timeout_and_grace_is_ended(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", execution_timeout=10))
    claim = lab.main.claim_one()
    lab.main.travel(seconds=10 + GRACE - 0.1)
    assert time_out(lab.session) == 0
    lab.main.travel(seconds=0.2)
    assert time_out(lab.session) == 1
    state = lab.state(run_id)
    assert state.status == "FAILED"
    assert state.tasks[0].error == {
        "type": "orchestrator.exceptions.TaskTimedOut",
        "message": "The task exceeded its execution timeout of 10 s.",
        "traceback": "",
    }
    assert lab.attempts(run_id) == [(1, "TIMED_OUT")]
    late = lab.completed(claim)
    assert lab.main.exchange([late]).refused == [late]
    [(seconds,)] = lab.rows("SELECT finished_at - started_at FROM orchestrator_attempt")
    assert abs(seconds.total_seconds() - (10 + GRACE + 0.1)) < 0.5
    assert lab.violations(at_rest=True) == []


def test_a_timeout_is_retried_by_the_tasks_policy(lab: Lab) -> None:
    shape = lab.shape("one", execution_timeout=1, retries=AT_ONCE)
    run_id = lab.enqueue_one(shape)
    for outcome in ("queued", None):
        lab.main.claim_one()
        lab.main.travel(seconds=1 + GRACE + 1)
        assert time_out(lab.session) == 1
        assert lab.places(run_id) == ({"one": outcome} if outcome else {})
    assert lab.attempts(run_id) == [(1, "TIMED_OUT"), (2, "TIMED_OUT")]
    assert lab.status(run_id) == "FAILED"


def test_timeouts_of_several_workers_are_ended_together(lab: Lab) -> None:
    shape = lab.shape("one", execution_timeout=1)
    lab.enqueue(shape, 30)
    hands = [lab.hand() for _ in range(3)]
    for hand in hands:
        hand.claim(10)
    lab.main.travel(seconds=100)
    assert time_out(lab.session) == 30
    assert lab.violations(at_rest=True) == []


def test_a_limit_of_timeouts_is_kept(lab: Lab) -> None:
    lab.enqueue(lab.shape("one", execution_timeout=1), 5)
    lab.main.claim()
    lab.main.travel(seconds=100)
    assert [time_out(lab.session, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_no_timeout_is_no_end(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    lab.main.claim_one()
    lab.main.travel(days=300)
    assert time_out(lab.session) == 0
    assert lab.status(run_id) == "RUNNING"


@pytest.mark.parametrize("seconds", [0.001, 86_400 * 20])
def test_timeouts_may_be_very_short_and_very_long(lab: Lab, seconds: float) -> None:
    shape = lab.shape("one", execution_timeout=seconds, schedule_timeout=seconds)
    run_id = lab.enqueue_one(shape)
    lab.main.claim_one()
    lab.main.travel(seconds=seconds + GRACE + 1)
    assert time_out(lab.session) == 1
    assert lab.status(run_id) == "FAILED"
