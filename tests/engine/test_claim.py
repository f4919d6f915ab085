"""Claim: lanes are chosen, rows are never filtered, and nobody waits."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator import ids
from orchestrator.engine.claim import Demand, WorkerKey
from orchestrator.engine.sessions import statements
from orchestrator.engine.shapes import Shape, queue_id
from tests.engine.lab import Hand, Lab, task
from tests.engine.pool import rolled_back
from tests.engine.races import together


def inputs(hand: Hand, limit: int = 100, **options: object) -> list[int]:
    """The inputs of what is claimed at once, in the order of their priority."""
    return sorted(int(c.input) for c in hand.claim(limit, **options))


def one_by_one(hand: Hand, count: int, **options: object) -> list[int]:
    return [int(hand.claim_one(**options).input) for _ in range(count)]


def test_a_claim_opens_a_lease_and_empties_the_queue(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    claim = lab.main.claim_one()
    assert lab.places(run_id) == {"one": "leased"}
    assert lab.status(run_id) == "RUNNING"
    assert claim.task_run_id == ids.task_run_id(run_id, 0)
    assert (claim.attempt, claim.failures, claim.losses) == (1, 0, 0)
    rows = lab.rows("SELECT worker_id, child_id, attempt FROM orchestrator_lease")
    assert rows == [(lab.main.worker_id, 1, 1)]


def test_history_is_not_touched_by_a_claim(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    before = lab.rows("SELECT ctid, xmin FROM orchestrator_run")
    before += lab.rows("SELECT ctid, xmin FROM orchestrator_task_run")
    lab.main.claim_one()
    after = lab.rows("SELECT ctid, xmin FROM orchestrator_run")
    after += lab.rows("SELECT ctid, xmin FROM orchestrator_task_run")
    assert before == after
    assert lab.run(run_id)["started_at"] is None


def test_an_empty_queue_gives_nothing(lab: Lab) -> None:
    lab.shape("one")
    assert lab.main.claim() == []


@pytest.mark.parametrize("limit", [1, 2, 7, 10, 11, 50])
def test_never_more_than_asked_for(lab: Lab, limit: int) -> None:
    for name in ("one", "two", "three"):
        lab.enqueue(lab.shape(name), 5)
    assert len(lab.main.claim(limit)) == min(limit, 15)
    assert lab.count("lease") == min(limit, 15)
    assert lab.count("queue_item") == 15 - min(limit, 15)


def test_a_worker_that_knows_nothing_claims_nothing(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    assert lab.main.claim(shapes=[]) == []


def test_a_limit_of_zero_is_no_claim(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    assert lab.main.claim(0) == []


def test_unknown_lanes_are_never_visited(lab: Lab) -> None:
    """The lanes before, between and behind the known ones, all in the same queue."""
    shapes = [lab.shape(f"w{n}") for n in range(9)]
    shapes.sort(key=lambda shape: shape.tasks[0].lane)
    for number, shape in enumerate(shapes):
        lab.enqueue(shape, [str(number)] * 2, priority=100 if number % 2 else 0)
    known = [shapes[n] for n in (1, 4, 7)]
    assert inputs(lab.main, shapes=known) == [1, 1, 4, 4, 7, 7]
    assert lab.main.claim(shapes=known) == []
    assert lab.count("queue_item") == 12


def test_a_known_lane_may_be_empty_among_full_unknown_ones(lab: Lab) -> None:
    shapes = sorted(
        (lab.shape(f"w{n}") for n in range(6)), key=lambda s: s.tasks[0].lane
    )
    for shape in shapes[::2]:
        lab.enqueue(shape, 2)
    assert lab.main.claim(shapes=shapes[1::2]) == []


def test_queues_are_served_in_strict_order(lab: Lab) -> None:
    shape = lab.shape("one")
    lab.enqueue(shape, ["1", "2", "3"], queue_name="first", priority=-100)
    lab.enqueue(shape, ["4", "5", "6"], queue_name="second", priority=100)
    order = one_by_one(lab.main, 6, queues=("first", "second"))
    assert order == [1, 2, 3, 4, 5, 6]


def test_a_batch_takes_from_the_first_queue_before_the_second(lab: Lab) -> None:
    one, two = lab.shape("one"), lab.shape("two")
    lab.enqueue(one, ["1", "2"], queue_name="first", priority=-100)
    lab.enqueue(two, ["3", "4"], queue_name="first", priority=-100)
    lab.enqueue(one, ["5", "6"], queue_name="second", priority=100)
    assert inputs(lab.main, 5, queues=("first", "second")) == [1, 2, 3, 4, 5]
    assert inputs(lab.main, 5, queues=("first", "second")) == [6]


def test_a_queue_that_is_not_asked_for_is_left_alone(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"), queue_name="other")
    assert lab.main.claim(queues=("default", "third")) == []
    assert len(lab.main.claim(queues=("other",))) == 1


def test_naming_a_queue_twice_changes_nothing(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 3)
    lab.enqueue(lab.shape("two"), 3)
    assert len(lab.main.claim(4, queues=("default", "default"))) == 4
    assert len(lab.main.claim(4, queues=("default", "default"))) == 2


def test_priorities_hold_across_the_lanes_of_a_queue(lab: Lab) -> None:
    one, two, three = (lab.shape(name) for name in ("one", "two", "three"))
    for number, (shape, priority) in enumerate(
        [(one, 0), (two, 50), (three, -50), (one, 50), (two, 0), (three, 100)]
    ):
        lab.enqueue(shape, [str(number)], priority=priority)
    assert one_by_one(lab.main, 6) == [5, 1, 3, 0, 4, 2]


def test_a_batch_takes_the_best_of_all_lanes(lab: Lab) -> None:
    shapes = [lab.shape(f"w{n}") for n in range(4)]
    for shape_number, shape in enumerate(shapes):
        for rank in range(5):
            # Priorities 0…19, spread over the lanes.
            priority = 19 - (rank * 4 + shape_number)
            lab.enqueue(shape, [str(priority)], priority=priority)
    assert inputs(lab.main, 7) == [13, 14, 15, 16, 17, 18, 19]
    assert inputs(lab.main, 7) == [6, 7, 8, 9, 10, 11, 12]


def test_equals_in_several_lanes_are_first_in_first_out(lab: Lab) -> None:
    shapes = [lab.shape(f"w{n}") for n in range(3)]
    for number in range(9):
        lab.enqueue(shapes[number % 3], [str(number)])
    assert one_by_one(lab.main, 9) == list(range(9))


def test_a_task_of_a_graph_waits_in_its_own_queue(lab: Lab) -> None:
    shape = lab.shape("mixed", task("a"), task("b", "a", queue_name="slow"))
    lab.enqueue_one(shape)
    lab.main.complete(lab.main.claim_one())
    assert lab.main.claim() == []
    assert lab.name(lab.main.claim_one(queues=("slow",))) == "b"


def test_a_lease_ends_at_the_execution_timeout_of_its_task(lab: Lab) -> None:
    timed = lab.shape("timed", execution_timeout=2.5)
    free = lab.shape("free")
    lab.enqueue_one(timed)
    lab.enqueue_one(free)
    assert len(lab.main.claim()) == 2
    rows = dict(
        lab.rows("SELECT task_id, timeout_at - claimed_at FROM orchestrator_lease")
    )
    assert rows == {
        timed.tasks[0].id: timedelta(seconds=2.5),
        free.tasks[0].id: None,
    }


def test_each_lane_has_its_own_timeout_in_one_claim(lab: Lab) -> None:
    shapes = [lab.shape(f"w{n}", execution_timeout=float(n + 1)) for n in range(5)]
    for shape in shapes:
        lab.enqueue(shape, 2)
    assert len(lab.main.claim()) == 10
    for task_id, timeout in lab.rows(
        "SELECT task_id, timeout_at - claimed_at FROM orchestrator_lease"
    ):
        [shape] = [s for s in shapes if s.tasks[0].id == task_id]
        assert timeout.total_seconds() == shape.tasks[0].execution_timeout


def test_large_inputs_arrive_whole(lab: Lab) -> None:
    text = '"' + "ü" * 500_000 + '"'
    lab.enqueue(lab.shape("one"), [text])
    assert lab.main.claim_one().input == text


def test_what_another_session_has_locked_is_passed_over(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one"), 4)
    other = lab.connect()
    with other.transaction():
        other.execute(
            "SELECT FROM orchestrator_queue_item WHERE run_id = %s FOR UPDATE",
            [run_ids[0]],
        )
        claims = lab.main.claim(2)
    assert [c.run_id for c in claims] == run_ids[1:3]
    assert sorted(c.run_id for c in lab.main.claim(9)) == sorted(
        [run_ids[0], run_ids[3]]
    )


def test_a_claim_that_rolls_back_leaves_the_queue_as_it_was(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), ["1", "2"])
    demand = lab.main.demand(2)
    with rolled_back(lab.session.transaction()):
        rows = lab.session.fetch(
            statements("claim")["claim"], demand.params(lab.main.key)
        )
        assert len(rows) == 2
    assert (lab.count("lease"), lab.count("queue_item")) == (0, 2)


@pytest.mark.parametrize("lanes", [1, 4])
def test_two_claimers_at_once_share_and_never_overlap(lab: Lab, lanes: int) -> None:
    shapes = [lab.shape(f"w{n}") for n in range(lanes)]
    hands = [lab.hand(), lab.hand()]
    for _ in range(25):
        for shape in shapes:
            lab.enqueue(shape, 60 // lanes)
        first, second = together(lambda: hands[0].claim(40), lambda: hands[1].claim(40))
        left = lab.count("queue_item")
        taken = [c.task_run_id for c in first] + [c.task_run_id for c in second]
        assert len(set(taken)) == len(taken)
        assert len(taken) + left == 60
        assert len(first) <= 40
        assert len(second) <= 40
        while more := hands[0].claim(60):
            taken += [c.task_run_id for c in more]
        assert len(set(taken)) == len(taken) == 60
        lab.forget()


def test_the_parameters_name_each_lane_once_and_in_order() -> None:
    shape = Shape.build(
        "w",
        {
            "tasks": [
                {"name": f"t{n}", "execution_timeout": n or None} for n in range(9)
            ]
        },
    )
    lanes = {
        node.lane: None
        if node.execution_timeout is None
        else round(node.execution_timeout * 1000)
        for node in shape.tasks
    }
    params = Demand((queue_id("q"),), lanes, 5).params(WorkerKey(UUID(int=1), 2))
    known = [int(text) for text in params["lanes"][1:-1].split(",")]
    assert known == sorted(lanes)
    timed = [int(text) for text in params["timed_lanes"][1:-1].split(",")]
    timeouts = [int(text) for text in params["timeouts"][1:-1].split(",")]
    assert dict(zip(timed, timeouts, strict=True)) == {
        lane: timeout for lane, timeout in lanes.items() if timeout is not None
    }
