"""Cancel against whatever else is happening to the run (reliability F69)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from orchestrator.engine.cancel import cancel
from orchestrator.engine.claim import Claim
from orchestrator.engine.give_back import give_back
from orchestrator.engine.rescue import rescue
from orchestrator.engine.sessions import statements
from orchestrator.engine.settle import settle
from tests.engine.lab import AT_ONCE, LATER, Hand, Lab, task
from tests.engine.races import Background, interleaved, lockstep, wait_until_blocked
from tests.engine.test_races import report

ROUNDS = 60


def cancelled(hand: Hand, run_id: UUID) -> bool:
    return cancel(hand.session, [run_id], reason="stop") == [run_id]


@pytest.mark.parametrize("policy", [AT_ONCE, LATER], ids=["at once", "backoff"])
def test_a_failure_that_is_retried_and_a_cancel_at_once(
    lab: Lab, policy: dict[str, Any]
) -> None:
    run_ids = lab.enqueue(lab.shape("one", retries=policy), ROUNDS)
    claims = {claim.run_id: claim for claim in lab.main.claim(ROUNDS)}
    other = lab.hand()
    found = lockstep(
        ROUNDS,
        lambda n: report(lab.main, lab.failed(claims[run_ids[n]])),
        lambda n: cancelled(other, run_ids[n]),
    )
    for run_id, (accepted, ended) in zip(run_ids, found, strict=True):
        assert ended
        assert lab.state(run_id)[:2] == ("CANCELLED", "stop")
        assert lab.attempts(run_id) == [(1, "FAILED" if accepted else "CANCELLED")]
    assert lab.violations(at_rest=True) == []


def test_a_success_and_a_cancel_at_once_agree_on_who_was_first(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("chain", "a", task("b", "a")), ROUNDS)
    lab.main.complete(*lab.main.claim(ROUNDS))
    claims = {claim.run_id: claim for claim in lab.main.claim(ROUNDS)}
    other = lab.hand()
    found = lockstep(
        ROUNDS,
        lambda n: report(lab.main, lab.completed(claims[run_ids[n]])),
        lambda n: cancelled(other, run_ids[n]),
    )
    for run_id, (accepted, ended) in zip(run_ids, found, strict=True):
        assert bool(accepted) != ended
        assert lab.status(run_id) == ("CANCELLED" if ended else "COMPLETED")
    assert lab.violations(at_rest=True) == []


@pytest.mark.parametrize("policy", [AT_ONCE, LATER], ids=["at once", "backoff"])
def test_a_cancel_waits_for_the_settle_and_then_finds_the_retry(
    lab: Lab, policy: dict[str, Any]
) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=policy))
    claim = lab.main.claim_one()
    other = lab.hand()
    with lab.session.transaction():
        results = [lab.failed(claim)]
        assert settle(lab.session, lab.main.worker_id, results).accepted == 1
        cancelling = Background(lambda: cancelled(other, run_id))
        assert wait_until_blocked(lab.connect(), other.connection)
    assert cancelling.result()
    assert lab.status(run_id) == "CANCELLED"
    assert lab.task_run(run_id)["attempts"] == 1
    assert lab.violations(at_rest=True) == []


def test_a_settle_that_meets_an_open_cancel_is_deferred_and_then_refused(
    lab: Lab,
) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=LATER))
    claim = lab.main.claim_one()
    other = lab.hand()
    result = lab.failed(claim)
    with other.session.transaction():
        assert cancelled(other, run_id)
        assert lab.main.exchange([result]).deferred == [result]
    assert lab.main.exchange([result]).refused == [result]
    assert lab.status(run_id) == "CANCELLED"


@pytest.mark.parametrize("tasks", [1, 2], ids=["plain", "graph"])
@pytest.mark.parametrize("how", ["complete", "fail", "back off"])
def test_a_settle_with_an_old_snapshot_is_refused_after_a_cancel(
    lab: Lab, how: str, tasks: int
) -> None:
    policy = {"retries": LATER} if how == "back off" else {}
    shape = lab.shape("w", *[task(f"t{n}", **policy) for n in range(tasks)])
    run_id = lab.enqueue_one(shape)
    hand = lab.hand()
    claim = hand.claim(1)[0]
    result = lab.completed(claim) if how == "complete" else lab.failed(claim)
    step = "plain" if tasks == 1 and how != "back off" else "graph"
    accepted, ended = interleaved(
        lab.connect(),
        lab.connect(),
        ("settle", step, hand.connection, lambda: report(hand, result)),
        lambda: cancelled(lab.main, run_id),
    )
    assert (accepted, ended) == (0, True)
    assert lab.attempts(run_id) == [(1, "CANCELLED")]
    assert lab.violations(at_rest=True) == []


# Against a claim.


def test_a_claim_and_a_cancel_at_once(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.shape("one"), ROUNDS)
    other = lab.hand()
    found = lockstep(
        ROUNDS, lambda n: cancelled(lab.main, run_ids[n]), lambda _: other.claim(1)
    )
    assert all(ended for ended, _ in found)
    late = [claim for _, claims in found for claim in claims]
    for claim in late:
        result = lab.completed(claim)
        assert other.exchange([result]).refused == [result]
    assert {lab.status(run_id) for run_id in run_ids} == {"CANCELLED"}
    assert lab.violations(at_rest=True) == []


def test_a_cancel_waits_for_an_open_claim_and_then_ends_its_attempt(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    other = lab.hand()
    with other.session.transaction():
        params = other.demand(1).params(other.key)
        [row] = other.session.fetch(statements("claim")["claim"], params)
        cancelling = Background(lambda: cancelled(lab.main, run_id))
        assert wait_until_blocked(lab.connect(), lab.main.connection)
    assert cancelling.result()
    assert lab.attempts(run_id) == [(1, "CANCELLED")]
    result = lab.completed(Claim(*row))
    assert other.exchange([result]).refused == [result]


def test_a_claim_with_an_old_snapshot_takes_nothing_that_is_cancelled(
    lab: Lab,
) -> None:
    first, second = lab.enqueue(lab.shape("one"), 2)
    other = lab.hand()
    claims, _ = interleaved(
        lab.connect(),
        lab.connect(),
        ("claim", "claim", other.connection, lambda: other.claim(2)),
        lambda: cancelled(lab.main, first),
    )
    assert [claim.run_id for claim in claims] == [second]


# Against the rest.


def returned(hand: Hand, claim: Claim) -> int:
    held = [(claim.run_id, claim.task_run_id, claim.attempt)]
    return len(give_back(hand.session, hand.worker_id, held))


@pytest.mark.parametrize("how", ["give back", "rescue"])
def test_what_returns_to_its_queue_while_it_is_cancelled(lab: Lab, how: str) -> None:
    run_ids = lab.enqueue(lab.shape("one"), ROUNDS)
    claims = {claim.run_id: claim for claim in lab.main.claim(ROUNDS)}
    other = lab.hand()
    calls: dict[str, Callable[[int], int]] = {
        "give back": lambda n: returned(lab.main, claims[run_ids[n]]),
        "rescue": lambda n: rescue(lab.session, lab.main.worker_id),
    }
    found = lockstep(ROUNDS, calls[how], lambda n: cancelled(other, run_ids[n]))
    assert all(ended for _, ended in found)
    assert lab.violations(at_rest=True) == []


@pytest.mark.parametrize("quick", ["cancel"])
def test_a_return_with_an_old_snapshot_changes_nothing_after_a_cancel(
    lab: Lab, quick: str
) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    hand = lab.hand()
    claim = hand.claim_one()
    done, _ = interleaved(
        lab.connect(),
        lab.connect(),
        ("give_back", "give_back", hand.connection, lambda: returned(hand, claim)),
        lambda: cancelled(lab.main, run_id),
    )
    assert done == 0
    assert lab.violations(at_rest=True) == []


def test_two_cancels_at_once_end_the_run_once(lab: Lab) -> None:
    run_ids = lab.enqueue(lab.diamond(), ROUNDS)
    lab.main.claim(ROUNDS // 2)
    other = lab.hand()
    found = lockstep(
        ROUNDS,
        lambda n: cancelled(lab.main, run_ids[n]),
        lambda n: cancelled(other, run_ids[n]),
    )
    assert all(sorted(pair) == [False, True] for pair in found)
    assert lab.violations(at_rest=True) == []
