"""Retry: an ended run is opened again, in a new generation."""

from __future__ import annotations

from uuid import uuid4

import pytest

from orchestrator import ids
from orchestrator.engine.cancel import cancel
from orchestrator.engine.rescue import rescue
from orchestrator.engine.retry import retry
from orchestrator.engine.settle import Result
from orchestrator.exceptions import IllegalTransition, RunNotFound
from tests.engine.lab import AT_ONCE, LATER, Lab, task
from tests.engine.pool import rolled_back


def finish(lab: Lab, *failing: str) -> None:
    """Execute all there is; the tasks named fail."""
    results: list[Result] = []
    while True:
        claims = lab.main.exchange(results, lab.main.demand()).claims
        results = [
            lab.failed(c, retryable=False)
            if lab.name(c) in failing
            else lab.completed(c, output=f"{lab.name(c)} {c.attempt}")
            for c in claims
        ]
        if not results:
            return


def test_a_failed_run_is_executed_again(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    finish(lab, "one")
    assert retry(lab.session, run_id) == 1
    assert lab.places(run_id) == {"one": "queued"}
    run, task_run = lab.run(run_id), lab.task_run(run_id)
    assert (run["status"], run["status_reason"], run["generation"]) == (None, "", 2)
    assert run["finished_at"] is None
    assert (task_run["status"], task_run["generation"]) == (None, 2)
    claim = lab.main.claim_one()
    assert (claim.attempt, claim.failures, claim.losses) == (2, 0, 0)
    lab.main.complete(claim)
    assert lab.status(run_id) == "COMPLETED"
    assert lab.attempts(run_id) == [(1, "FAILED"), (2, "COMPLETED")]
    assert lab.violations(at_rest=True) == []


def test_only_what_failed_and_what_depends_on_it_is_executed_again(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    finish(lab, "b")
    assert retry(lab.session, run_id) == 2
    assert lab.places(run_id) == {"b": "queued", "d": "pending"}
    assert lab.statuses(run_id) == {
        "a": "COMPLETED",
        "b": None,
        "c": "COMPLETED",
        "d": None,
    }
    finish(lab)
    state = lab.state(run_id)
    assert state.status == "COMPLETED"
    assert [t.output for t in state.tasks] == ['"a 1"', '"b 2"', '"c 1"', '"d 1"']
    generations = lab.rows(
        "SELECT generation FROM orchestrator_task_run ORDER BY ordinal"
    )
    assert generations == [(1,), (2,), (1,), (2,)]
    assert lab.violations(at_rest=True) == []


def test_all_of_it_can_be_executed_again(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    finish(lab)
    assert retry(lab.session, run_id, tasks="all") == 4
    assert lab.places(run_id) == {
        "a": "queued",
        "b": "pending",
        "c": "pending",
        "d": "pending",
    }
    assert lab.state(run_id).tasks == ()
    finish(lab)
    assert lab.status(run_id) == "COMPLETED"
    for ordinal in range(4):
        assert lab.attempts(run_id, ordinal) == [(1, "COMPLETED"), (2, "COMPLETED")]
    assert lab.violations(at_rest=True) == []


def test_named_tasks_bring_what_depends_on_them(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    finish(lab)
    assert retry(lab.session, run_id, tasks=["c"]) == 2
    assert lab.places(run_id) == {"c": "queued", "d": "pending"}
    assert lab.rows("SELECT remaining FROM orchestrator_wait") == [(1,)]
    finish(lab)
    assert lab.status(run_id) == "COMPLETED"


def test_a_cancelled_run_goes_on_where_it_was(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("chain", "a", task("b", "a"), task("c", "b")))
    lab.main.complete(lab.main.claim_one())
    cancel(lab.session, [run_id], reason="stop")
    assert retry(lab.session, run_id) == 2
    assert lab.places(run_id) == {"b": "queued", "c": "pending"}
    finish(lab)
    assert lab.status(run_id) == "COMPLETED"
    assert lab.violations(at_rest=True) == []


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_run_that_was_cancelled_before_it_began_can_be_retried(
    lab: Lab, tasks: int
) -> None:
    shape = lab.shape("w", *[f"t{n}" for n in range(tasks)])
    run_id = lab.enqueue_one(shape)
    for generation in range(1, 4):
        cancel(lab.session, [run_id], reason="not now")
        assert retry(lab.session, run_id) == tasks
        assert lab.run(run_id)["generation"] == generation + 1
    finish(lab)
    assert lab.status(run_id) == "COMPLETED"
    assert lab.violations(at_rest=True) == []
    assert retry(lab.session, run_id, tasks="all") == tasks
    finish(lab)
    assert lab.violations(at_rest=True) == []


@pytest.mark.parametrize("place", ["backoff", "queued"])
def test_a_run_that_was_cancelled_between_two_attempts_can_be_retried(
    lab: Lab, place: str
) -> None:
    policy = LATER if place == "backoff" else AT_ONCE
    run_id = lab.enqueue_one(lab.shape("one", retries=policy))
    lab.main.fail(lab.main.claim_one())
    assert lab.places(run_id) == {"one": place}
    cancel(lab.session, [run_id], reason="stop")
    retry(lab.session, run_id)
    claim = lab.main.claim_one()
    assert (claim.attempt, claim.failures) == (2, 0)
    exchanged = lab.main.complete(claim)
    assert (exchanged.accepted, exchanged.rejected) == (1, [])
    assert lab.attempts(run_id) == [(1, "FAILED"), (2, "COMPLETED")]


def test_a_run_that_was_cancelled_in_an_attempt_can_be_retried(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    old = lab.main.claim_one()
    cancel(lab.session, [run_id], reason="stop")
    retry(lab.session, run_id)
    new = lab.main.claim_one()
    assert new.attempt == 2
    late = lab.completed(old, output="old")
    assert lab.main.exchange([late]).refused == [late]
    lab.main.complete(new, output="new")
    assert lab.task_run(run_id)["output"] == "new"
    assert lab.attempts(run_id) == [(1, "CANCELLED"), (2, "COMPLETED")]


def test_a_retry_of_a_retry_goes_on_counting(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    for generation in range(1, 5):
        lab.main.fail(lab.main.claim_one())
        lab.main.fail(lab.main.claim_one())
        assert lab.status(run_id) == "FAILED"
        assert lab.run(run_id)["generation"] == generation
        retry(lab.session, run_id)
    finish(lab)
    assert lab.status(run_id) == "COMPLETED"
    assert [number for number, _ in lab.attempts(run_id)] == list(range(1, 10))
    assert lab.task_run(run_id)["attempts"] == 9
    assert lab.violations(at_rest=True) == []


def test_budgets_begin_anew(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    for _ in range(4):
        dead = lab.hand()
        dead.claim_one()
        rescue(lab.session, dead.worker_id)
    assert lab.status(run_id) == "FAILED"
    retry(lab.session, run_id)
    claim = lab.main.claim_one()
    assert (claim.attempt, claim.failures, claim.losses) == (5, 0, 0)


def test_a_branch_that_is_not_retried_still_counts(lab: Lab) -> None:
    """x succeeds at last, y stays failed: so does the run."""
    run_id = lab.enqueue_one(lab.shape("two", "x", "y", task("z", "y")))
    finish(lab, "x", "y")
    reason = lab.task_run(run_id, 1)["status_reason"]
    assert retry(lab.session, run_id, tasks=["x"]) == 1
    finish(lab)
    assert lab.statuses(run_id) == {"x": "COMPLETED", "y": "FAILED", "z": "CANCELLED"}
    assert lab.state(run_id)[:2] == ("FAILED", reason)
    assert lab.violations(at_rest=True) == []
    assert retry(lab.session, run_id) == 2
    finish(lab)
    assert lab.status(run_id) == "COMPLETED"


def test_a_cancelled_branch_that_is_not_retried_still_counts(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("two", "x", "y"))
    cancel(lab.session, [run_id], reason="stop")
    retry(lab.session, run_id, tasks=["x"])
    finish(lab)
    assert lab.state(run_id)[:2] == ("CANCELLED", "stop")
    assert lab.violations(at_rest=True) == []


def test_the_start_of_the_run_stays_that_of_its_first_attempt(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    finish(lab, "one")
    started = lab.run(run_id)["started_at"]
    retry(lab.session, run_id)
    assert lab.status(run_id) == "RUNNING"
    finish(lab)
    assert lab.run(run_id)["started_at"] == started


def test_a_task_that_waits_again_has_not_started(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    finish(lab, "one")
    retry(lab.session, run_id)
    task_run = lab.task_run(run_id)
    assert (task_run["started_at"], task_run["finished_at"]) == (None, None)
    assert (task_run["output"], task_run["status_reason"]) == (None, "")


def test_parents_that_did_not_complete_refuse_their_child(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    finish(lab, "b")
    with pytest.raises(IllegalTransition, match='parent "b" did not complete'):
        retry(lab.session, run_id, tasks=["d"])
    assert lab.status(run_id) == "FAILED"
    assert retry(lab.session, run_id, tasks=["d", "b"]) == 2


@pytest.mark.parametrize("moment", ["queued", "leased", "backoff"])
def test_a_run_that_has_not_ended_is_refused(lab: Lab, moment: str) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=LATER))
    if moment != "queued":
        claim = lab.main.claim_one()
        if moment == "backoff":
            lab.main.fail(claim)
    with pytest.raises(IllegalTransition, match="has not ended"):
        retry(lab.session, run_id, tasks="all")
    assert lab.places(run_id) == {"one": moment}


def test_a_run_of_which_nothing_failed_is_refused(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    finish(lab)
    with pytest.raises(IllegalTransition, match="No task of this run failed"):
        retry(lab.session, run_id)
    assert lab.status(run_id) == "COMPLETED"


@pytest.mark.parametrize("names", [["nope"], ["a", "nope"], []])
def test_a_task_that_the_run_does_not_have_is_refused(
    lab: Lab, names: list[str]
) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    finish(lab, "a")
    with pytest.raises(IllegalTransition, match="Its tasks are a, b, c, d"):
        retry(lab.session, run_id, tasks=names)


def test_a_run_that_is_not_there_is_not_found(lab: Lab) -> None:
    run_id = uuid4()
    with pytest.raises(RunNotFound, match=str(run_id)):
        retry(lab.session, run_id)


def test_it_joins_the_callers_transaction(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    finish(lab, "c")
    before = lab.run(run_id)
    with rolled_back(lab.session.transaction()):
        retry(lab.session, run_id)
    assert lab.run(run_id) == before
    assert lab.places(run_id) == {}


def test_an_old_version_is_retried_as_it_was(lab: Lab) -> None:
    """The workflow has lost a task since; the run has not (reliability F86)."""
    run_id = lab.enqueue_one(lab.shape("w", "a", task("b", "a")))
    finish(lab, "a")
    lab.shape("w", "a")
    assert retry(lab.session, run_id) == 2
    finish(lab)
    assert lab.statuses(run_id) == {"a": "COMPLETED", "b": "COMPLETED"}


def test_attempt_ids_go_on_from_those_on_record(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    finish(lab, "one")
    retry(lab.session, run_id)
    finish(lab)
    keys = {row[0] for row in lab.rows("SELECT id FROM orchestrator_attempt")}
    task_run_id = ids.task_run_id(run_id, 0)
    assert keys == {ids.attempt_id(task_run_id, number) for number in (1, 2)}
