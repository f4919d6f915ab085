"""Give back and reconcile: claims that were never started cost nothing."""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator.engine import leases
from orchestrator.engine.claim import Claim, WorkerKey
from orchestrator.engine.give_back import give_back
from orchestrator.engine.leases import reconcile
from orchestrator.engine.reprioritise import reprioritise
from tests.engine.lab import AT_ONCE, Hand, Lab


def held(*claims: Claim) -> list[tuple[UUID, UUID, int]]:
    return [(c.run_id, c.task_run_id, c.attempt) for c in claims]


def returned(hand: Hand, *claims: Claim) -> set[UUID]:
    return give_back(hand.session, hand.worker_id, held(*claims))


def test_it_is_as_if_it_had_never_been_claimed(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    before = lab.rows("SELECT i::text FROM orchestrator_queue_item i")
    claim = lab.main.claim_one()
    assert returned(lab.main, claim) == {claim.task_run_id}
    assert lab.rows("SELECT i::text FROM orchestrator_queue_item i") == before
    assert lab.status(run_id) == "QUEUED"
    assert lab.attempts(run_id) == []
    again = lab.main.claim_one()
    assert (again.attempt, again.failures, again.losses) == (1, 0, 0)
    lab.main.complete(again)
    assert lab.violations(at_rest=True) == []


def test_it_comes_back_to_its_old_turn(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one"), 3)
    claim = lab.main.claim_one()
    returned(lab.main, claim)
    assert [lab.main.claim_one().run_id for _ in range(3)] == run_ids


def test_it_comes_back_at_the_priority_that_it_was_given_meanwhile(lab: Lab) -> None:
    first, second = lab.enqueue(lab.shape("one"), 2)
    claims = lab.main.claim(2)
    reprioritise(lab.session, [second], 10)
    returned(lab.main, *claims)
    assert [lab.main.claim_one().run_id for _ in range(2)] == [second, first]


def test_a_later_attempt_keeps_its_number_and_its_budgets(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    lab.main.fail(lab.main.claim_one())
    claim = lab.main.claim_one()
    returned(lab.main, claim)
    again = lab.main.claim_one()
    assert (again.attempt, again.failures, again.losses) == (2, 1, 0)


def test_another_workers_lease_stays_where_it_is(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    claim = lab.main.claim_one()
    assert returned(lab.hand(), claim) == set()
    assert lab.count("lease") == 1


def test_another_attempts_lease_stays_where_it_is(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    old = lab.main.claim_one()
    lab.main.fail(old)
    new = lab.main.claim_one()
    assert returned(lab.main, old) == set()
    assert returned(lab.main, new._replace(attempt=3)) == set()
    assert lab.count("lease") == 1


def test_giving_back_twice_gives_back_once(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    claim = lab.main.claim_one()
    returned(lab.main, claim)
    assert returned(lab.main, claim) == set()
    assert lab.count("queue_item") == 1


def test_what_is_settled_cannot_be_given_back(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    claim = lab.main.claim_one()
    lab.main.complete(claim)
    assert returned(lab.main, claim) == set()
    assert lab.status(run_id) == "COMPLETED"


def test_a_locked_run_is_passed_over_and_left_leased(lab: Lab) -> None:
    locked, free = lab.enqueue(lab.shape("one"), 2)
    claims = lab.main.claim()
    other = lab.connect()
    with other.transaction():
        other.execute("SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [locked])
        done = returned(lab.main, *claims)
    assert done == {c.task_run_id for c in claims if c.run_id == free}
    assert lab.places(locked) == {"one": "leased"}


def test_nothing_is_given_back_for_nothing(lab: Lab) -> None:
    assert returned(lab.main) == set()


def test_a_new_deadline_begins(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one", schedule_timeout=10))
    lab.main.travel(seconds=8)
    returned(lab.main, lab.main.claim_one())
    [(left,)] = lab.rows(
        "SELECT extract(epoch FROM expires_at - orchestrator_now())::float8"
        " FROM orchestrator_deadline"
    )
    assert left == 10


# Leases.


def test_held_lists_the_leases_of_a_worker_or_of_one_child(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 5)
    first = lab.main.claim(2)
    sibling = lab.hand()
    sibling.key = WorkerKey(lab.main.worker_id, 2)
    second = sibling.claim(3)
    found = leases.held(lab.session, lab.main.worker_id)
    assert {h.task_run_id for h in found} == {c.task_run_id for c in first + second}
    found = leases.held(lab.session, *sibling.key)
    assert {h.task_run_id for h in found} == {c.task_run_id for c in second}
    by_id = {c.task_run_id: c for c in second}
    for lease in found:
        claim = by_id[lease.task_run_id]
        assert (lease.run_id, lease.task_id, lease.queue_id, lease.attempt) == (
            claim.run_id,
            claim.task_id,
            claim.queue_id,
            claim.attempt,
        )
        assert lease.child_id == 2


def test_a_claim_whose_reply_was_lost_returns_uncharged(lab: Lab) -> None:
    """The commit arrived and the rows did not (reliability F18)."""
    lab.enqueue(lab.shape("one"), 4)
    known = lab.main.claim(2)
    lab.main.claim(2)  # of which the child has never heard
    gone = reconcile(lab.session, lab.main.key, {c.task_run_id for c in known})
    assert gone == set()
    assert lab.count("lease") == 2
    assert [c.attempt for c in lab.main.claim()] == [1, 1]


def test_leases_that_are_gone_are_told(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 3)
    claims = lab.main.claim()
    lab.main.complete(claims[0])
    memory = {c.task_run_id for c in claims}
    assert reconcile(lab.session, lab.main.key, memory) == {claims[0].task_run_id}
    assert lab.count("lease") == 2


def test_reconciling_one_child_leaves_the_others_alone(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 2)
    lab.main.claim(1)
    sibling = lab.hand()
    sibling.key = WorkerKey(lab.main.worker_id, 2)
    sibling.claim(1)
    reconcile(lab.session, sibling.key, [])
    assert [h.child_id for h in leases.held(lab.session, lab.main.worker_id)] == [1]


@pytest.mark.parametrize("count", [0, 1, 150])
def test_all_that_is_unknown_returns(lab: Lab, count: int) -> None:
    lab.enqueue(lab.shape("one"), count)
    lab.main.claim(count)
    assert reconcile(lab.session, lab.main.key, []) == set()
    assert (lab.count("lease"), lab.count("queue_item")) == (0, count)


def test_strays_are_children_that_hold_leases_and_do_not_live(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 4)
    lab.main.claim(1)
    for child_id in (2, 3):
        sibling = lab.hand()
        sibling.key = WorkerKey(lab.main.worker_id, child_id)
        sibling.claim(1)
    lab.hand().claim(1)  # another worker's
    session, worker_id = lab.session, lab.main.worker_id
    assert leases.strays(session, worker_id, [1, 2, 3]) == []
    assert sorted(leases.strays(session, worker_id, [2, 7])) == [1, 3]
    assert sorted(leases.strays(session, worker_id, [])) == [1, 2, 3]
