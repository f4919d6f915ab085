"""Promote: what is due moves into its queue, once, whoever looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.engine.cancel import cancel
from orchestrator.engine.promote import next_due, promote
from tests.engine.lab import LATER, Lab, task


def later(**delta: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


def test_nothing_moves_before_its_time(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"), run_after=later(seconds=100))
    lab.main.travel(seconds=95)
    assert promote(lab.session) == 0
    assert lab.places(run_id) == {"one": "scheduled"}
    lab.main.travel(seconds=5)
    assert promote(lab.session) == 1
    assert lab.places(run_id) == {"one": "queued"}
    assert lab.main.drain() == 1
    assert lab.violations(at_rest=True) == []


def test_what_is_due_first_moves_first(lab: Lab) -> None:
    shape = lab.shape("one")
    for minutes in (3, 1, 2):
        lab.enqueue(shape, [str(minutes)], run_after=later(minutes=minutes))
    lab.main.travel(minutes=10)
    for minutes in (1, 2, 3):
        assert promote(lab.session, limit=1) == 1
        assert lab.main.claim_one().input == str(minutes)
    assert promote(lab.session, limit=1) == 0


def test_a_limit_is_kept_and_the_rest_follows(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 25, run_after=later(minutes=1))
    lab.main.travel(minutes=2)
    assert [promote(lab.session, limit=10) for _ in range(4)] == [10, 10, 5, 0]
    assert len(lab.main.claim()) == 25


def test_it_keeps_its_turn_among_what_is_queued(lab: Lab) -> None:
    """Its position is that of its enqueue: it has waited all the while."""
    shape = lab.shape("one")
    early = lab.enqueue_one(shape, run_after=later(minutes=1))
    usual = lab.enqueue_one(shape)
    lab.main.travel(minutes=2)
    promote(lab.session)
    assert [lab.main.claim_one().run_id for _ in range(2)] == [early, usual]


def test_attempts_and_budgets_survive_a_backoff(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one", retries=LATER))
    lab.main.fail(lab.main.claim_one())
    lab.main.travel(minutes=5)
    promote(lab.session)
    claim = lab.main.claim_one()
    assert (claim.attempt, claim.failures, claim.losses) == (2, 1, 0)


def test_a_schedule_timeout_begins_when_it_is_due(lab: Lab) -> None:
    shape = lab.shape("one", schedule_timeout=10)
    lab.enqueue_one(shape, run_after=later(minutes=1))
    lab.main.travel(minutes=5)
    promote(lab.session)
    [(seconds,)] = lab.rows(
        "SELECT extract(epoch FROM expires_at - orchestrator_now())::float8"
        " FROM orchestrator_deadline"
    )
    assert seconds == 10


def test_the_roots_of_a_graph_move_and_its_children_wait(lab: Lab) -> None:
    shape = lab.shape("two", "a", "b", task("c", "a", "b"))
    run_id = lab.enqueue_one(shape, run_after=later(minutes=1))
    lab.main.travel(minutes=2)
    assert promote(lab.session) == 2
    assert lab.places(run_id) == {"a": "queued", "b": "queued", "c": "pending"}


def test_a_locked_run_is_passed_over_until_the_next_time(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one"), 3, run_after=later(minutes=1))
    lab.main.travel(minutes=2)
    other = lab.connect()
    with other.transaction():
        other.execute(
            "SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [run_ids[1]]
        )
        assert promote(lab.session) == 2
    assert promote(lab.session) == 1


def test_what_is_cancelled_never_becomes_due(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"), run_after=later(minutes=1))
    cancel(lab.session, [run_id], reason="no")
    lab.main.travel(minutes=2)
    assert promote(lab.session) == 0
    assert lab.violations(at_rest=True) == []


def test_next_due_says_when(lab: Lab) -> None:
    assert next_due(lab.session) is None
    shape = lab.shape("one")
    lab.enqueue_one(shape, run_after=later(seconds=100))
    lab.enqueue_one(shape, run_after=later(seconds=50))
    seconds = next_due(lab.session)
    assert seconds is not None
    assert 45 < seconds <= 50
    lab.main.travel(seconds=80)
    overdue = next_due(lab.session)
    assert overdue is not None
    assert -35 < overdue < -25


def test_what_is_promoted_is_told_to_the_workers_of_its_queue(lab: Lab) -> None:
    shape = lab.shape("one")
    lab.enqueue_one(shape, run_after=later(minutes=1))
    listener = lab.connect()
    listener.execute("LISTEN orchestrator_queue")
    lab.main.travel(minutes=2)
    promote(lab.session)
    heard = [n.payload for n in listener.notifies(timeout=5, stop_after=1)]
    listener.execute("UNLISTEN *")
    assert heard == [str(shape.queue_id)]
