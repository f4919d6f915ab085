"""Conditions against whatever else happens at the same moment.

An event is never lost and never counted twice, wherever its commit falls between the
opening of a wait, the writing of its conditions and the look back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import pytest

from orchestrator.conditions import EventCondition
from orchestrator.engine.cancel import cancel
from orchestrator.engine.judge import judge
from orchestrator.engine.look_back import look_back
from orchestrator.engine.ripen import ripen
from orchestrator.engine.route import route
from orchestrator.engine.sessions import statements
from orchestrator.engine.tend import tend
from tests.engine.lab import Hand, Lab, task
from tests.engine.races import Background, interleaved, lockstep, wait_until_blocked
from tests.engine.signals import GO, NAP, push, registered, satisfied, waiter, waiting
from tests.engine.test_races import report

ROUNDS = 40
PLACES = "SELECT count(*) FROM orchestrator_queue_item"


def everything(function: Callable[[Any], int], session: Any) -> None:
    while function(session):
        pass


# An event that is pushed while a wait is made.

STEPS = ("before it opens", "before it is written", "before the look back", "after it")


@pytest.mark.parametrize("routed", ["at once", "in the end"])
@pytest.mark.parametrize("expression", ["true", "payload == null"])
@pytest.mark.parametrize("pushed", STEPS)
@pytest.mark.parametrize("committed", STEPS)
def test_an_event_counts_once(
    lab: Lab, pushed: str, committed: str, expression: str, routed: str
) -> None:
    if STEPS.index(committed) < STEPS.index(pushed):
        return  # nothing is committed before it is pushed
    producer = lab.hand()
    shape = waiter(lab, EventCondition("go", expression))
    run_ids: list[UUID] = []
    transaction = producer.session.transaction()

    def moment(step: str) -> None:
        if step == pushed:
            transaction.__enter__()
            push(producer.session)
        if step == committed:
            transaction.__exit__(None, None, None)
            if routed == "at once":
                everything(route, lab.session)

    moment(STEPS[0])
    run_ids += lab.enqueue(shape)
    moment(STEPS[1])
    everything(judge, lab.session)
    moment(STEPS[2])
    everything(look_back, lab.session)
    moment(STEPS[3])
    tend(lab.session)
    [run_id] = run_ids
    # What was over before the wait began is the one event that does not count.
    counts = committed != STEPS[0]
    assert lab.places(run_id) == {"a": "queued" if counts else "pending"}
    assert lab.value(PLACES) == int(counts)


def test_an_event_whose_transaction_is_open_for_long(
    lab: Lab,
) -> None:
    """It has an old time and an old id, and is seen for what it is."""
    producer = lab.hand()
    producer.travel(hours=-1)
    with producer.session.transaction():
        push(producer.session)
        [run_id] = waiting(lab)
    tend(lab.session)
    assert lab.places(run_id) == {"a": "queued"}


def test_registering_and_pushing_at_once(lab: Lab) -> None:
    """Whichever is first: each wait is met by the one event of its own."""
    shapes = [
        waiter(lab, EventCondition(f"go{n}"), name=f"w{n}") for n in range(ROUNDS)
    ]
    producer, router = lab.hand(), lab.hand()
    run_ids = [lab.enqueue_one(shape) for shape in shapes]

    def register(number: int) -> int:
        return judge(lab.session) + look_back(lab.session)

    def produce(number: int) -> int:
        push(producer.session, f"go{number}")
        return route(router.session)

    # In each round one event, and whatever the judge has not written yet.
    lockstep(ROUNDS, register, produce)
    tend(lab.session)
    assert all(lab.places(run_id) == {"a": "queued"} for run_id in run_ids)


# Two of a kind.


@pytest.mark.parametrize("verb", [route, ripen, look_back, judge, tend])
def test_two_do_it_at_once_and_it_is_done_once(
    lab: Lab, verb: Callable[[Any], int]
) -> None:
    other = lab.hand()
    run_ids = registered(lab, GO | NAP, ROUNDS)
    for _ in range(5):
        push(lab.session)
    for hand in (lab.main, other):
        hand.travel(minutes=2)
    lockstep(10, lambda _: verb(lab.session), lambda _: verb(other.session))
    tend(lab.session)
    assert lab.value(PLACES) == ROUNDS
    assert all(lab.places(run_id) == {"a": "queued"} for run_id in run_ids)
    assert lab.main.drain() == ROUNDS
    assert lab.violations(at_rest=True) == []


def test_two_judges_with_one_snapshot_decide_once(lab: Lab) -> None:
    [run_id] = waiting(lab)
    push(lab.session)
    route(lab.session)
    slow = lab.hand()
    steps = cast("dict[str, bytes]", statements("judge"))
    usual = steps["find"]

    def quick() -> int:
        steps["find"] = usual  # the slow one has sent its own
        return judge(lab.session)

    late, early = interleaved(
        lab.connect(),
        lab.connect(),
        ("judge", "find", slow.connection, lambda: judge(slow.session)),
        quick,
    )
    assert (late, early) == (0, 1)
    assert lab.places(run_id) == {"a": "queued"}


# Judge against cancel.


def cancelled(hand: Hand, run_id: UUID) -> bool:
    return cancel(hand.session, [run_id], reason="stop") == [run_id]


@pytest.mark.parametrize("skips", [True, False])
def test_a_judge_and_a_cancel_at_once(lab: Lab, skips: bool) -> None:
    options = {"skip_if" if skips else "wait_for": GO.to_dict()}
    if skips:
        options["wait_for"] = NAP.to_dict()
    shape = lab.shape("w", task("a", **options), task("b", "a"))
    run_ids = lab.enqueue(shape, ROUNDS)
    tend(lab.session)
    push(lab.session)
    everything(route, lab.session)
    other = lab.hand()
    found = lockstep(
        ROUNDS,
        lambda n: judge(lab.session, limit=1),
        lambda n: cancelled(other, run_ids[n]),
    )
    tend(lab.session)
    for run_id, (_, ended) in zip(run_ids, found, strict=True):
        if ended:
            assert lab.status(run_id) == "CANCELLED"
        else:
            assert (skips, lab.status(run_id)) == (True, "COMPLETED")
    assert lab.violations(at_rest=True) == []


def test_a_judge_with_an_old_snapshot_finds_nothing_of_a_cancelled_run(
    lab: Lab,
) -> None:
    [run_id] = waiting(lab)
    push(lab.session)
    route(lab.session)
    slow = lab.hand()
    decided, ended = interleaved(
        lab.connect(),
        lab.connect(),
        ("judge", "find", slow.connection, lambda: judge(slow.session)),
        lambda: cancelled(lab.main, run_id),
    )
    assert (decided, ended) == (0, True)
    assert lab.violations(at_rest=True) == []


def test_a_cancel_waits_for_an_open_judge_and_ends_what_it_queued(lab: Lab) -> None:
    [run_id] = waiting(lab)
    push(lab.session)
    route(lab.session)
    other, slow = lab.hand(), lab.connect()
    # A judge that has queued it and does not come to its end.
    with slow.transaction():
        slow.execute(b"SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [run_id])
        cancelling = Background(lambda: cancelled(other, run_id))
        assert wait_until_blocked(lab.connect(), other.connection)
        assert judge(lab.session) == 0
    assert cancelling.result()
    assert tend(lab.session) == 0
    assert lab.violations(at_rest=True) == []


def test_a_router_and_a_cancel_at_once(lab: Lab) -> None:
    run_ids = waiting(lab, GO, ROUNDS)
    other = lab.hand()

    def routing(number: int) -> int:
        push(lab.session)
        return route(lab.session)

    found = lockstep(ROUNDS, routing, lambda n: cancelled(other, run_ids[n]))
    assert all(ended for _, ended in found)
    tend(lab.session)
    assert {lab.status(run_id) for run_id in run_ids} == {"CANCELLED"}
    assert lab.violations(at_rest=True) == []


# Judge against settle.


def test_the_settle_of_the_last_parent_and_a_judge_at_once(lab: Lab) -> None:
    shape = lab.shape(
        "w", "p", "q", task("a", "p", "q", skip_if=GO.to_dict()), task("b", "a")
    )
    run_ids = lab.enqueue(shape, ROUNDS)
    claims: dict[UUID, list[Any]] = {run_id: [] for run_id in run_ids}
    for claim in lab.main.claim(2 * ROUNDS):
        claims[claim.run_id].append(claim)
    other = lab.hand()

    def parents(number: int) -> list[int]:
        pair = claims[run_ids[number]]
        return [report(lab.main, lab.completed(claim)) for claim in pair]

    lockstep(ROUNDS, parents, lambda n: tend(other.session))
    while lab.main.drain() + tend(lab.session):
        pass
    assert {lab.status(run_id) for run_id in run_ids} == {"COMPLETED"}
    assert lab.violations(at_rest=True) == []


def test_a_failure_and_a_judge_of_the_handler_at_once(lab: Lab) -> None:
    shape = lab.shape("w", "p", "q", task("h", handles="failure"))
    run_ids = lab.enqueue(shape, ROUNDS)
    claims: dict[UUID, dict[str, Any]] = {run_id: {} for run_id in run_ids}
    for claim in lab.main.claim(2 * ROUNDS):
        claims[claim.run_id][lab.name(claim)] = claim
    other = lab.hand()

    def ends(number: int) -> int:
        both = claims[run_ids[number]]
        first = lab.completed if number % 2 else lab.failed
        return report(lab.main, first(both["p"])) + report(
            lab.main, lab.completed(both["q"])
        )

    lockstep(ROUNDS, ends, lambda n: tend(other.session))
    while lab.main.drain() + tend(lab.session):
        pass
    for number, run_id in enumerate(run_ids):
        status, handler = (
            ("COMPLETED", "SKIPPED")
            if number % 2
            else (
                "FAILED",
                "COMPLETED",
            )
        )
        assert lab.status(run_id) == status
        assert lab.statuses(run_id)["h"] == handler
    assert lab.violations(at_rest=True) == []


# All at once.


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_ends_with_every_run_where_it_belongs(lab: Lab, seed: int) -> None:
    """Pushes, cancels and three tenders at once: no deadlock, nothing lost."""
    shape = lab.shape(
        "w",
        task("a", wait_for=EventCondition("go", "payload != null").to_dict()),
        task("b", "a", wait_for=(GO | EventCondition("other")).to_dict()),
        task("c", "b", wait_for=GO.to_dict(), skip_if=EventCondition("no").to_dict()),
        task("h", handles="failure"),
    )
    run_ids = lab.enqueue(shape, 30)
    hands = [lab.hand() for _ in range(5)]
    done: list[bool] = []

    def tending(hand: Hand) -> None:
        while not done:
            tend(hand.session)

    def working(hand: Hand) -> None:
        while not done:
            claims = hand.claim(5)
            for claim in claims:
                report(hand, lab.completed(claim))

    def operating() -> None:
        dice = random.Random(seed)
        for _ in range(60):
            push(hands[4].session, dice.choice(["go", "other", "no"]), {"n": 1})
            if dice.random() < 0.2:
                cancelled(hands[4], dice.choice(run_ids))

    threads = [Background(lambda hand=hand: tending(hand)) for hand in hands[:2]]  # type: ignore[misc]
    threads.append(Background(lambda: working(hands[2])))
    Background(operating).result()
    done.append(True)
    for thread in threads:
        thread.result()
    for key in ("go", "go", "go"):
        while lab.main.drain() + tend(lab.session):
            pass
        push(lab.session, key, 1)
    while lab.main.drain() + tend(lab.session):
        pass
    assert {lab.status(run_id) for run_id in run_ids} <= {"COMPLETED", "CANCELLED"}
    assert satisfied(lab) == {}
    assert lab.violations(at_rest=True) == []
