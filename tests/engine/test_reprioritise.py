"""Reprioritise: what has not been claimed yet, wherever it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestrator.engine.promote import promote
from orchestrator.engine.reprioritise import reprioritise
from orchestrator.engine.retry import retry
from orchestrator.engine.sessions import statements
from tests.engine.lab import AT_ONCE, LATER, Lab, task
from tests.engine.pool import rolled_back
from tests.engine.races import Background, interleaved, wait_until_blocked

SEQUENCE = (1 << 55) - 1


def priorities(lab: Lab, table: str) -> list[int]:
    rows = lab.rows(f"SELECT position FROM orchestrator_{table} ORDER BY position")
    return [100 - (position >> 55) for [position] in rows]


def test_queued_work_changes_its_turn(lab: Lab) -> None:
    shape = lab.shape("one")
    first, second, third = lab.enqueue(shape, 3)
    assert reprioritise(lab.session, [third], 10) == 1
    assert reprioritise(lab.session, [first], -10) == 1
    assert lab.run(third)["priority"] == 10
    order = [lab.main.claim_one().run_id for _ in range(3)]
    assert order == [third, second, first]


def test_equals_keep_their_order(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one"), 6)
    assert reprioritise(lab.session, list(reversed(run_ids)), 50) == 6
    assert [lab.main.claim_one().run_id for _ in range(6)] == run_ids


def test_the_same_priority_again_changes_nothing(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one"), 3)
    before = lab.rows("SELECT task_run_id, position FROM orchestrator_queue_item")
    assert reprioritise(lab.session, run_ids, 0) == 3
    assert sorted(before) == sorted(
        lab.rows("SELECT task_run_id, position FROM orchestrator_queue_item")
    )
    assert [lab.main.claim_one().run_id for _ in range(3)] == run_ids


def test_the_sequence_stays_and_history_follows(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    before = lab.rows("SELECT position & %s FROM orchestrator_task_run", SEQUENCE)
    reprioritise(lab.session, [run_id], -100)
    assert priorities(lab, "task_run") == [-100] * 4
    assert priorities(lab, "queue_item") == [-100]
    assert priorities(lab, "wait") == [-100] * 3
    after = lab.rows("SELECT position & %s FROM orchestrator_task_run", SEQUENCE)
    assert sorted(before) == sorted(after)


def test_what_waits_has_it_when_it_is_ready(lab: Lab) -> None:
    shape = lab.shape("chain", "a", task("b", "a"))
    low, high = lab.enqueue(shape, 2)
    reprioritise(lab.session, [high], 1)
    lab.main.complete(*lab.main.claim(2))
    assert lab.main.claim_one().run_id == high
    assert lab.main.claim_one().run_id == low


def test_what_is_delayed_has_it_when_it_is_due(lab: Lab) -> None:

    shape = lab.shape("one")
    later = datetime.now(UTC) + timedelta(hours=1)
    low, high = lab.enqueue(shape, 2, run_after=later)
    reprioritise(lab.session, [high], 1)
    lab.main.travel(hours=2)
    assert promote(lab.session) == 2
    assert [lab.main.claim_one().run_id for _ in range(2)] == [high, low]


def test_a_backoff_keeps_it(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=LATER))
    lab.main.fail(lab.main.claim_one())
    reprioritise(lab.session, [run_id], 30)
    assert priorities(lab, "delayed_item") == [30]


def test_what_is_executed_has_it_when_it_is_queued_again(lab: Lab) -> None:
    shape = lab.shape("one", retries=AT_ONCE)
    run_id = lab.enqueue_one(shape)
    claim = lab.main.claim_one()
    assert reprioritise(lab.session, [run_id], 99) == 1
    lab.main.fail(claim)
    assert priorities(lab, "queue_item") == [99]
    assert lab.main.claim_one().priority == 99


def test_ended_and_unknown_runs_are_left_alone(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    lab.main.drain()
    assert reprioritise(lab.session, [run_id, uuid4()], 5) == 0
    assert reprioritise(lab.session, [], 5) == 0
    assert lab.run(run_id)["priority"] == 0


def test_a_retry_has_it_for_tasks_that_had_ended_before(lab: Lab) -> None:

    run_id = lab.enqueue_one(lab.shape("chain", "a", task("b", "a")))
    lab.main.complete(lab.main.claim_one())
    reprioritise(lab.session, [run_id], 70)
    lab.main.fail(lab.main.claim_one())
    retry(lab.session, run_id, tasks="all")
    assert priorities(lab, "queue_item") == [70]
    assert priorities(lab, "wait") == [70]


@pytest.mark.parametrize("priority", [-101, 101, 1000])
def test_a_priority_out_of_range_is_refused(lab: Lab, priority: int) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    with pytest.raises(ValueError, match="out of range"):
        reprioritise(lab.session, [run_id], priority)


def test_it_joins_the_callers_transaction(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    with rolled_back(lab.session.transaction()):
        reprioritise(lab.session, [run_id], 5)
    assert priorities(lab, "queue_item") == [0]


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("priority", [0, 40, -40])
def test_a_claim_under_way_does_not_take_what_moves(
    lab: Lab, priority: int, lanes: int
) -> None:
    """The claim has its snapshot, then the item moves, then the claim locks it.

    It must not take a version of the row that it cannot see and so not delete.
    """
    shapes = [lab.shape(f"w{n}") for n in range(lanes)]
    run_ids = [run_id for shape in shapes for run_id in lab.enqueue(shape, 2)]
    hand = lab.hand()
    claims, count = interleaved(
        lab.connect(),
        lab.connect(),
        ("claim", "claim", hand.connection, lambda: hand.claim(4)),
        lambda: reprioritise(lab.session, run_ids[:1], priority),
    )
    assert count == 1
    taken = {claim.run_id for claim in claims}
    assert taken >= set(run_ids[1:])
    assert lab.violations() == []
    assert lab.count("lease") + lab.count("queue_item") == len(run_ids)
    rest = {claim.run_id for claim in lab.main.claim(4)}
    assert rest == set(run_ids) - taken


def test_a_claim_that_came_first_is_waited_for(lab: Lab) -> None:
    """Reprioritise meets an item that an open claim has deleted: the lease moves."""
    run_id = lab.enqueue_one(lab.shape("one"))
    hand = lab.hand()

    with hand.session.transaction():
        params = hand.demand(1).params(hand.key)
        assert len(hand.session.fetch(statements("claim")["claim"], params)) == 1
        moving = Background(lambda: reprioritise(lab.session, [run_id], 60))
        wait_until_blocked(lab.connect(), lab.main.connection)
    assert moving.result() == 1
    assert priorities(lab, "lease") == [60]
    assert priorities(lab, "task_run") == [60]
