"""Settle a run of one task: its outcome, its retries and its end."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from orchestrator import ids
from orchestrator.engine import verdict
from orchestrator.engine.promote import promote
from orchestrator.engine.settle import Result
from orchestrator.states import AttemptOutcome
from tests.engine.lab import AT_ONCE, LATER, Lab

SECOND = timedelta(seconds=1)


def test_a_completed_task_ends_its_run(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    exchanged = lab.main.complete(lab.main.claim_one(), output={"words": 7})
    assert exchanged.accepted == 1
    state = lab.state(run_id)
    assert (state.status, state.status_reason) == ("COMPLETED", "")
    assert state.tasks[0].output == '{"words": 7}'
    assert lab.attempts(run_id) == [(1, "COMPLETED")]
    assert lab.violations(at_rest=True) == []


def test_times_are_those_of_the_attempt_by_the_databases_clock(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    claim = lab.main.claim_one()
    now = time.monotonic()
    result = Result(claim, AttemptOutcome.COMPLETED, now - 90, now - 30)
    lab.main.exchange([result])
    [(started, finished, clock)] = lab.rows(
        "SELECT started_at, finished_at, now() FROM orchestrator_attempt"
    )
    assert abs(finished - started - 60 * SECOND) < SECOND / 100
    assert abs(clock - finished - 30 * SECOND) < 5 * SECOND
    for row in (lab.run(run_id), lab.task_run(run_id)):
        assert (row["started_at"], row["finished_at"]) == (started, finished)


def test_no_output_and_a_json_null_are_the_same(lab: Lab) -> None:
    none, null = lab.enqueue(lab.shape("one"), 2)
    claims = {claim.run_id: claim for claim in lab.main.claim()}
    now = time.monotonic()
    lab.main.exchange(
        [
            Result(claims[none], AttemptOutcome.COMPLETED, now, now),
            Result(claims[null], AttemptOutcome.COMPLETED, now, now, output="null"),
        ]
    )
    assert lab.state(none).tasks[0].output is None
    assert lab.state(null).tasks[0].output is None


def test_a_failed_task_fails_its_run_and_says_why(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    lab.main.fail(lab.main.claim_one(), message="no such file\nreally")
    state = lab.state(run_id)
    assert state.status == "FAILED"
    assert state.status_reason == 'Task "one" failed: ValueError: no such file'
    assert state.tasks[0].error == {
        "type": "builtins.ValueError",
        "message": "no such file\nreally",
        "traceback": "",
    }
    assert lab.attempts(run_id) == [(1, "FAILED")]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (AttemptOutcome.COMPLETED, "COMPLETED"),
        (AttemptOutcome.FAILED, "FAILED"),
        (AttemptOutcome.TIMED_OUT, "FAILED"),
        (AttemptOutcome.LOST, "FAILED"),
        (AttemptOutcome.CANCELLED, "CANCELLED"),
    ],
)
@pytest.mark.parametrize("tasks", [1, 2])
def test_each_outcome_has_its_status(
    lab: Lab, outcome: AttemptOutcome, status: str, tasks: int
) -> None:
    shape = lab.shape("w", *[f"t{n}" for n in range(tasks)])
    run_id = lab.enqueue_one(shape)
    now = time.monotonic()
    claims = lab.main.claim()
    lab.main.exchange([Result(c, outcome, now, now, reason="why") for c in claims])
    assert lab.status(run_id) == status
    assert lab.task_run(run_id)["status"] == status
    assert lab.attempts(run_id) == [(1, outcome.value)]
    assert lab.violations(at_rest=True) == []


def test_a_batch_of_many_settles_at_once(lab: Lab) -> None:
    shape = lab.shape("one")
    lab.enqueue(shape, 300)
    claims = lab.main.claim(300)
    bad, good = claims[::3], claims[1::3] + claims[2::3]
    exchanged = lab.main.exchange(
        [lab.failed(c) for c in bad] + [lab.completed(c, output=1) for c in good]
    )
    assert exchanged.accepted == 300
    rows = lab.rows(
        "SELECT status, count(*) FROM orchestrator_run GROUP BY status ORDER BY status"
    )
    assert rows == [("COMPLETED", 200), ("FAILED", 100)]
    assert lab.violations(at_rest=True) == []


def test_what_is_settled_along_with_a_claim_is_one_transaction(lab: Lab) -> None:
    shape = lab.shape("one")
    lab.enqueue(shape, 4)
    claims = lab.main.claim(2)
    exchanged = lab.main.exchange(
        [lab.completed(claim) for claim in claims], lab.main.demand(5)
    )
    assert exchanged.accepted == 2
    assert len(exchanged.claims) == 2
    [(attempts, leases)] = lab.rows(
        "SELECT (SELECT array_agg(xmin) FROM orchestrator_attempt),"
        " (SELECT array_agg(xmin) FROM orchestrator_lease)"
    )
    assert len(set(attempts) | set(leases)) == 1


# Retries.


def test_a_retry_without_a_delay_is_queued_at_once(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    exchanged = lab.main.exchange([lab.failed(lab.main.claim_one())], None)
    assert exchanged.queues == {lab.shapes[0].queue_id}
    assert lab.places(run_id) == {"one": "queued"}
    assert lab.status(run_id) == "RUNNING"
    claim = lab.main.claim_one()
    assert (claim.attempt, claim.failures, claim.losses) == (2, 1, 0)
    lab.main.complete(claim, output=2)
    assert lab.status(run_id) == "COMPLETED"
    assert lab.attempts(run_id) == [(1, "FAILED"), (2, "COMPLETED")]
    assert lab.task_run(run_id)["attempts"] == 2
    assert lab.violations(at_rest=True) == []


def test_a_retry_may_be_claimed_by_the_very_exchange_that_reports_it(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    first = lab.main.claim_one()
    exchanged = lab.main.exchange([lab.failed(first)], lab.main.demand())
    assert [claim.attempt for claim in exchanged.claims] == [2]


def test_a_backoff_holds_the_task_until_it_is_due(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=LATER))
    lab.main.fail(lab.main.claim_one())
    assert lab.places(run_id) == {"one": "backoff"}
    assert lab.status(run_id) == "RUNNING"
    [(wait,)] = lab.rows(
        "SELECT due_at - orchestrator_now() FROM orchestrator_delayed_item"
    )
    assert 58 * SECOND < wait <= 60 * SECOND
    assert promote(lab.session) == 0
    lab.main.travel(seconds=61)
    assert promote(lab.session) == 1
    lab.main.fail(lab.main.claim_one())
    [(wait,)] = lab.rows(
        "SELECT due_at - orchestrator_now() FROM orchestrator_delayed_item"
    )
    assert wait == 120 * SECOND


def test_the_retries_of_the_policy_are_used_up(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=LATER))
    for _ in range(3):
        lab.main.fail(lab.main.claim_one())
        lab.main.travel(minutes=20)
        promote(lab.session)
    assert lab.status(run_id) == "FAILED"
    assert lab.attempts(run_id) == [(1, "FAILED"), (2, "FAILED"), (3, "FAILED")]
    assert lab.main.claim() == []
    assert lab.violations(at_rest=True) == []


def test_what_another_attempt_cannot_mend_is_not_retried(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=LATER))
    lab.main.fail(lab.main.claim_one(), retryable=False)
    assert lab.status(run_id) == "FAILED"
    assert lab.attempts(run_id) == [(1, "FAILED")]
    assert lab.violations(at_rest=True) == []


def test_a_run_started_at_its_first_attempt_and_ended_with_its_last(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    now = time.monotonic()
    [first] = lab.main.claim()
    lab.main.exchange([_timed(lab, first, now - 100, now - 90)])
    [second] = lab.main.claim()
    now = time.monotonic()
    lab.main.exchange([Result(second, AttemptOutcome.COMPLETED, now - 2, now)])
    run, task_run = lab.run(run_id), lab.task_run(run_id)
    assert run["finished_at"] - run["started_at"] > 95 * SECOND
    assert task_run["finished_at"] - task_run["started_at"] < 5 * SECOND


def _timed(lab: Lab, claim: object, started: float, finished: float) -> Result:
    result = lab.failed(claim)  # type: ignore[arg-type]
    return result._replace(started=started, finished=finished)


def test_failures_and_losses_are_counted_apart(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one", retries={**AT_ONCE, "attempts": 9}))
    for outcome in ("fail", "lose", "lose", "fail", "time out"):
        claim = lab.main.claim_one()
        now = time.monotonic()
        node = lab.node(claim)
        if outcome == "lose":
            result = verdict.lost(claim, node, "gone", started=now, finished=now)
        else:
            result = verdict.failed(
                claim,
                node,
                {"type": "E", "message": "", "traceback": ""},
                started=now,
                finished=now,
                outcome=(
                    AttemptOutcome.FAILED
                    if outcome == "fail"
                    else AttemptOutcome.TIMED_OUT
                ),
            )
        assert not result.final
        lab.main.exchange([result])
    claim = lab.main.claim_one()
    assert (claim.attempt, claim.failures, claim.losses) == (6, 3, 2)


@pytest.mark.parametrize("attempts", [0, 1, 5])
def test_a_policy_of_many_retries_makes_as_many_attempts(
    lab: Lab, attempts: int
) -> None:
    run_id = lab.enqueue_one(
        lab.shape("one", retries={**AT_ONCE, "attempts": attempts})
    )
    made = 0
    while claims := lab.main.claim():
        lab.main.fail(*claims)
        made += 1
    assert made == attempts + 1
    assert lab.status(run_id) == "FAILED"
    keys = [row[0] for row in lab.rows("SELECT id FROM orchestrator_attempt")]
    task_run_id = ids.task_run_id(run_id, 0)
    assert set(keys) == {ids.attempt_id(task_run_id, n) for n in range(1, made + 1)}


def test_a_claim_of_a_version_that_nobody_knows_is_refused_loudly(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    claim = lab.main.claim_one()
    result = lab.completed(claim._replace(version_id=1))
    with pytest.raises(LookupError, match="not registered"):
        lab.main.exchange([result])
    assert lab.main.complete(claim).accepted == 1
