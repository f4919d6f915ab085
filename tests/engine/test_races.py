"""Races, forced: two sessions on the same rows at the same moment, many times.

Where the order matters it is imposed: one waits for the other's lock, or has taken its
snapshot before the other commits. After each test the guards and the inspection have
nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from orchestrator.engine.cancel import cancel
from orchestrator.engine.claim import Claim
from orchestrator.engine.expire import time_out
from orchestrator.engine.reprioritise import reprioritise
from orchestrator.engine.rescue import rescue
from orchestrator.engine.retry import retry
from orchestrator.engine.sessions import statements
from orchestrator.engine.settle import Result, settle
from orchestrator.engine.shapes import Shape
from orchestrator.exceptions import IllegalTransition
from tests.engine.lab import AT_ONCE, Hand, Lab, task
from tests.engine.races import interleaved, lockstep

ROUNDS = 60


def report(hand: Hand, result: Result) -> int:
    """Report it again while it is deferred, as a worker does; how often it counted."""
    accepted = 0
    results = [result]
    while results:
        exchanged = hand.exchange(results)
        accepted += exchanged.accepted
        results = exchanged.deferred
    return accepted


def slow(hand: Hand, result: Result, step: str = "graph") -> Any:
    return ("settle", step, hand.connection, lambda: report(hand, result))


def join(lab: Lab) -> Shape:
    """b, c → d; b and c are in queues of their own."""
    return lab.shape(
        "join",
        task("b", queue_name="left"),
        task("c", queue_name="right"),
        task("d", "b", "c"),
    )


def siblings(lab: Lab, count: int) -> tuple[Hand, list[Claim], list[Claim]]:
    """Of so many runs, all b in the hands of one worker and all c of another."""
    lab.enqueue(join(lab), count)
    other = lab.hand()
    left = lab.main.claim(count, queues=["left"])
    right = {c.run_id: c for c in other.claim(count, queues=["right"])}
    return other, left, [right[claim.run_id] for claim in left]


# Two last siblings settle at once (reliability F64).


def test_two_last_siblings_at_once_free_their_child_exactly_once(lab: Lab) -> None:
    rounds = 300
    other, left, right = siblings(lab, rounds)
    settled = lockstep(
        rounds,
        lambda n: report(lab.main, lab.completed(left[n])),
        lambda n: report(other, lab.completed(right[n])),
    )
    assert settled == [(1, 1)] * rounds
    assert lab.count("wait") == 0
    assert lab.main.drain() == rounds
    assert lab.violations(at_rest=True) == []


def test_two_last_siblings_in_batches_free_all_their_children(lab: Lab) -> None:
    rounds, size = 8, 50
    other, left, right = siblings(lab, rounds * size)

    def batches(hand: Hand, claims: list[Claim]) -> Callable[[int], None]:
        def batch(number: int) -> None:
            part = claims[number * size : (number + 1) * size]
            results = [lab.completed(claim) for claim in part]
            while results:
                exchanged = hand.exchange(results)
                assert exchanged.refused == []
                results = exchanged.deferred

        return batch

    # In opposite orders: each locks what it can and defers the rest.
    lockstep(rounds, batches(lab.main, left), batches(other, right[::-1]))
    assert lab.main.drain() == rounds * size
    assert lab.violations(at_rest=True) == []


OUTCOMES = [
    ("complete", "complete", {"b": "COMPLETED", "c": "COMPLETED", "d": None}),
    ("complete", "fail", {"b": "COMPLETED", "c": "FAILED", "d": "CANCELLED"}),
    ("fail", "complete", {"b": "FAILED", "c": "COMPLETED", "d": "CANCELLED"}),
    ("fail", "fail", {"b": "FAILED", "c": "FAILED", "d": "CANCELLED"}),
]


def result_of(lab: Lab, claim: Claim, how: str) -> Result:
    return lab.completed(claim) if how == "complete" else lab.failed(claim)


@pytest.mark.parametrize(("b", "c", "expected"), OUTCOMES)
@pytest.mark.parametrize("first", ["b", "c"])
def test_a_sibling_that_meets_the_others_lock_is_deferred(
    lab: Lab, b: str, c: str, expected: dict[str, str | None], first: str
) -> None:
    other, [left], [right] = siblings(lab, 1)
    one = (lab.main, result_of(lab, left, b))
    two = (other, result_of(lab, right, c))
    (early, result), (late, second) = (one, two) if first == "b" else (two, one)
    with early.session.transaction():
        assert settle(early.session, early.worker_id, [result]).accepted == 1
        assert late.exchange([second]).deferred == [second]
    assert late.exchange([second]).accepted == 1
    assert lab.statuses(left.run_id) == expected


@pytest.mark.parametrize(("b", "c", "expected"), OUTCOMES)
@pytest.mark.parametrize("first", ["b", "c"])
def test_a_sibling_with_an_old_snapshot_sees_what_the_other_did(
    lab: Lab, b: str, c: str, expected: dict[str, str | None], first: str
) -> None:
    other, [left], [right] = siblings(lab, 1)
    one = (lab.main, result_of(lab, left, b))
    two = (other, result_of(lab, right, c))
    (early, result), (late, second) = (one, two) if first == "b" else (two, one)

    # The gate is in the statement of both: the quick one has it in a transaction
    # of its own whose text was taken before.
    usual = dict(statements("settle"))

    def quick() -> int:
        return early_settle(lab, early, result, usual)

    assert interleaved(lab.connect(), lab.connect(), slow(late, second), quick) == (
        1,
        1,
    )
    assert lab.statuses(left.run_id) == expected


def early_settle(lab: Lab, hand: Hand, result: Result, usual: dict[str, bytes]) -> int:
    """Settle with the statements as they are without a gate."""
    found: Any = statements("settle")
    gated = dict(found)
    found.update(usual)
    try:
        return hand.exchange([result]).accepted
    finally:
        found.update(gated)


# One report, twice.


@pytest.mark.parametrize("tasks", [1, 2], ids=["plain", "graph"])
def test_one_report_from_two_sessions_counts_once(lab: Lab, tasks: int) -> None:
    """A child sends again, on a new connection, what may have arrived (F17)."""
    lab.enqueue(lab.shape("w", *[f"t{n}" for n in range(tasks)]), ROUNDS)
    claims = lab.main.claim(ROUNDS * tasks)
    twin = lab.hand()
    twin.key = lab.main.key
    settled = lockstep(
        len(claims),
        lambda n: report(lab.main, lab.completed(claims[n], output=1)),
        lambda n: report(twin, lab.completed(claims[n], output=2)),
    )
    assert {a + b for a, b in settled} == {1}
    assert lab.violations(at_rest=True) == []


def test_one_failure_from_two_sessions_is_retried_once(lab: Lab) -> None:
    lab.enqueue(lab.shape("one", retries=AT_ONCE), ROUNDS)
    claims = lab.main.claim(ROUNDS)
    twin = lab.hand()
    twin.key = lab.main.key
    settled = lockstep(
        ROUNDS,
        lambda n: report(lab.main, lab.failed(claims[n])),
        lambda n: report(twin, lab.failed(claims[n])),
    )
    assert {a + b for a, b in settled} == {1}
    assert lab.count("queue_item") == ROUNDS


# A worker that is declared lost, and its own late report.


def test_a_report_and_a_rescue_at_once_count_once(lab: Lab) -> None:
    shape = lab.shape("one")
    hand = lab.hand()
    for n in range(ROUNDS):
        run_id = lab.enqueue_one(shape, priority=1)
        hand.key = type(hand.key)(UUID(int=n + 1), 1)
        [claim] = hand.claim(1)
        assert claim.run_id == run_id
        [(accepted, taken)] = lockstep(
            1,
            lambda _, c=claim: report(hand, lab.completed(c)),  # type: ignore[misc]
            lambda _: rescue(lab.session, hand.worker_id),
        )
        assert accepted + taken == 1
        outcome = "COMPLETED" if accepted else "LOST"
        assert lab.attempts(run_id) == [(1, outcome)]
        reprioritise(lab.session, [run_id], 0)


def test_two_rescuers_of_one_worker_charge_it_once(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 4 * ROUNDS)
    other = lab.hand()
    dead = lab.hand()
    for n in range(ROUNDS // 3):
        dead.key = type(dead.key)(UUID(int=n + 1), 1)
        dead.claim(10)
        [taken] = lockstep(
            1,
            lambda _: rescue(lab.session, dead.worker_id),
            lambda _: rescue(other.session, dead.worker_id),
        )
        assert sum(taken) == 10
    assert lab.rows("SELECT DISTINCT outcome FROM orchestrator_attempt") == [("LOST",)]


def test_an_attempt_and_its_timeout_at_once_count_once(lab: Lab) -> None:
    lab.enqueue(lab.shape("one", execution_timeout=1), ROUNDS)
    hand = lab.hand()
    claims = hand.claim(ROUNDS)
    lab.main.travel(minutes=1)
    settled = lockstep(
        ROUNDS,
        lambda n: report(hand, lab.completed(claims[n])),
        lambda _: time_out(lab.session, limit=1),
    )
    assert sum(a + b for a, b in settled) == ROUNDS
    while time_out(lab.session):
        pass
    assert lab.violations(at_rest=True) == []


# Retry against rescue.


def test_a_retry_against_the_rescue_that_ends_the_run(lab: Lab) -> None:
    """The last attempt of its budget is lost while an operator asks for a retry."""
    other = lab.hand()
    for n in range(ROUNDS // 2):
        run_id = lab.enqueue_one(lab.shape("one"))
        dead = UUID(int=n + 1)
        other.key = type(other.key)(dead, 1)
        for attempt in range(4):
            [claim] = other.claim(1)
            assert claim.run_id == run_id
            if attempt < 3:
                rescue(lab.session, dead)
        [(_, reopened)] = lockstep(
            1,
            lambda _, w=dead: rescue(lab.session, w),  # type: ignore[misc]
            lambda _, r=run_id: _retried(other, r),  # type: ignore[misc]
        )
        if not reopened:
            assert _retried(other, run_id)
        # The dead worker's name does not reach the attempt that follows.
        [claim] = lab.main.claim(1)
        assert claim.attempt == 5
        assert rescue(other.session, dead) == 0
        assert lab.main.complete(claim).accepted == 1
        assert lab.status(run_id) == "COMPLETED"


def _retried(hand: Hand, run_id: UUID) -> bool:
    try:
        return retry(hand.session, run_id) > 0
    except IllegalTransition:
        return False


def test_two_retries_at_once_reopen_the_run_once(lab: Lab) -> None:
    """A double click (reliability F70)."""
    other = lab.hand()
    run_ids = lab.enqueue(lab.diamond(), ROUNDS)
    cancel(lab.session, run_ids, reason="")
    reopened = lockstep(
        ROUNDS,
        lambda n: _retried(lab.main, run_ids[n]),
        lambda n: _retried(other, run_ids[n]),
    )
    assert all(sorted(pair) == [False, True] for pair in reopened)
    assert lab.rows("SELECT DISTINCT generation FROM orchestrator_run") == [(2,)]
