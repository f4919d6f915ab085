"""Races of what is due, returns or moves: promote, expire, give back, reprioritise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.engine.cancel import cancel
from orchestrator.engine.expire import expire
from orchestrator.engine.give_back import give_back
from orchestrator.engine.promote import promote
from orchestrator.engine.reprioritise import reprioritise
from orchestrator.engine.sessions import statements
from tests.engine.lab import AT_ONCE, LATER, Lab, task
from tests.engine.races import Background, interleaved, lockstep, wait_until_blocked
from tests.engine.test_races import report, slow

ROUNDS = 60


# Promote: two schedulers on one due row.


@pytest.mark.parametrize("limit", [1, 1_000])
def test_two_schedulers_promote_each_item_once(lab: Lab, limit: int) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    other = lab.hand()
    lab.enqueue(lab.shape("one"), ROUNDS, run_after=later)
    for hand in (lab.main, other):
        hand.travel(minutes=2)
    moved = lockstep(
        ROUNDS,
        lambda _: promote(lab.session, limit=limit),
        lambda _: promote(other.session, limit=limit),
    )
    assert sum(a + b for a, b in moved) + lab.count("delayed_item") == ROUNDS
    while promote(lab.session):
        pass
    assert lab.count("queue_item") == ROUNDS


@pytest.mark.parametrize("quick", ["promote", "cancel", "reprioritise"])
def test_a_promotion_with_an_old_snapshot_sees_what_happened(
    lab: Lab, quick: str
) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=5), run_after=later)
    other = lab.hand()
    for hand in (lab.main, other):
        hand.travel(minutes=2)
    usual = dict(statements("promote"))

    def ungated() -> int:
        found: Any = statements("promote")
        gated = dict(found)
        found.update(usual)
        try:
            return promote(other.session)
        finally:
            found.update(gated)

    calls: dict[str, Callable[[], Any]] = {
        "promote": ungated,
        "cancel": lambda: cancel(other.session, [run_id], reason=""),
        "reprioritise": lambda: reprioritise(other.session, [run_id], 33),
    }
    moved, _ = interleaved(
        lab.connect(),
        lab.connect(),
        ("promote", "promote", lab.main.connection, lambda: promote(lab.session)),
        calls[quick],
    )
    assert moved == (1 if quick == "reprioritise" else 0)
    if quick != "cancel":
        assert lab.places(run_id) == {"one": "queued"}


def test_a_promotion_that_meets_a_lock_passes_over(lab: Lab) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    other = lab.hand()
    lab.enqueue(lab.shape("one"), 3, run_after=later)
    for hand in (lab.main, other):
        hand.travel(minutes=2)
    with lab.session.transaction():
        params = {"limit": 1}
        rows = lab.session.fetch(statements("promote")["promote"], params)
        assert len(rows) == 1
        assert promote(other.session) == 2
    assert promote(other.session) == 0


# Give back.


def test_giving_back_and_settling_at_once_count_once(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), ROUNDS)
    claims = lab.main.claim(ROUNDS)
    twin = lab.hand()
    twin.key = lab.main.key
    settled = lockstep(
        ROUNDS,
        lambda n: report(lab.main, lab.completed(claims[n])),
        lambda n: len(
            give_back(
                twin.session,
                twin.worker_id,
                [(claims[n].run_id, claims[n].task_run_id, claims[n].attempt)],
            )
        ),
    )
    assert {a + b for a, b in settled} == {1}
    lab.main.drain()
    assert lab.violations(at_rest=True) == []


# Expire against claim.


def test_a_claim_and_an_expiry_at_once(lab: Lab) -> None:
    shape = lab.shape("one", schedule_timeout=10)
    other = lab.hand()
    run_ids = lab.enqueue(shape, ROUNDS)
    lab.main.travel(seconds=11)
    found = lockstep(
        ROUNDS, lambda _: expire(lab.session, limit=1), lambda _: other.claim(1)
    )
    while expire(lab.session):
        pass
    claims = [claim for _, batch in found for claim in batch]
    for claim in claims:
        assert lab.status(claim.run_id) == "RUNNING"
        assert other.complete(claim).accepted == 1
    claimed = {claim.run_id for claim in claims}
    for run_id in set(run_ids) - claimed:
        assert lab.status(run_id) == "CANCELLED"
    assert lab.violations(at_rest=True) == []


def test_an_expiry_that_meets_an_open_claim_lets_it_be(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", schedule_timeout=10))
    lab.main.travel(seconds=11)
    other = lab.hand()
    with other.session.transaction():
        params = other.demand(1).params(other.key)
        assert len(other.session.fetch(statements("claim")["claim"], params)) == 1
        expiring = Background(lambda: expire(lab.session))
        assert wait_until_blocked(lab.connect(), lab.main.connection)
    expiring.result()
    assert lab.places(run_id) == {"one": "leased"}


@pytest.mark.parametrize("quick", ["reprioritise", "cancel", "retry at once"])
def test_an_expiry_with_an_old_snapshot_sees_what_happened(
    lab: Lab, quick: str
) -> None:
    shape = lab.shape("one", schedule_timeout=10, retries=AT_ONCE)
    run_id = lab.enqueue_one(shape)
    other = lab.hand()
    claim = other.claim_one() if quick == "retry at once" else None
    for hand in (lab.main, other):
        hand.travel(seconds=11)
    calls: dict[str, Callable[[], Any]] = {
        "cancel": lambda: cancel(other.session, [run_id], reason="stop"),
        "reprioritise": lambda: reprioritise(other.session, [run_id], 33),
        "retry at once": lambda: other.fail(claim) if claim else None,
    }
    step = next(name for name, text in statements("expire").items() if b"SKIP" in text)
    interleaved(
        lab.connect(),
        lab.connect(),
        ("expire", step, lab.main.connection, lambda: expire(lab.session)),
        calls[quick],
    )
    if quick == "retry at once":
        assert lab.places(run_id) == {"one": "queued"}
        assert lab.count("deadline") == 1
    else:
        expire(lab.session)
        assert lab.status(run_id) == "CANCELLED"
        reason = "stop" if quick == "cancel" else "not started"
        assert reason in lab.state(run_id).status_reason


# Reprioritise against claim; `test_reprioritise.py` has the forced order.


def test_a_claim_and_a_new_priority_at_once(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one"), ROUNDS)
    other = lab.hand()
    found = lockstep(
        ROUNDS,
        lambda n: reprioritise(lab.session, [run_ids[n]], n % 7),
        lambda _: other.claim(1),
    )
    claims = [claim for _, batch in found for claim in batch]
    assert len({claim.task_run_id for claim in claims}) == len(claims)
    assert len(claims) + lab.count("queue_item") == ROUNDS
    assert lab.violations() == []


@pytest.mark.parametrize("policy", [AT_ONCE, LATER])
def test_a_settle_with_an_old_snapshot_keeps_the_new_priority(
    lab: Lab, policy: dict[str, Any]
) -> None:
    run_id = lab.enqueue_one(
        lab.shape("two", task("a", retries=policy), task("b", "a"))
    )
    hand = lab.hand()
    claim = hand.claim_one()
    interleaved(
        lab.connect(),
        lab.connect(),
        slow(hand, lab.failed(claim)),
        lambda: reprioritise(lab.session, [run_id], 44),
    )
    for table in ("queue_item", "delayed_item", "wait", "task_run"):
        for [position] in lab.rows(f"SELECT position FROM orchestrator_{table}"):
            assert 100 - (position >> 55) == 44
    assert lab.violations() == []
