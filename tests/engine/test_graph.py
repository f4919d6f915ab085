"""Settle in a graph: what becomes ready, what is cancelled, and when a run ends."""

from __future__ import annotations

import pytest

from orchestrator.engine.claim import Claim
from orchestrator.engine.outputs import parent_outputs
from orchestrator.engine.settle import Result
from orchestrator.states import AttemptOutcome
from tests.engine.lab import AT_ONCE, LATER, Lab, task


def by_name(lab: Lab, claims: list[Claim]) -> dict[str, Claim]:
    return {lab.name(claim): claim for claim in claims}


def test_a_diamond_runs_in_its_order(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    order = []
    while claims := lab.main.claim():
        order.append(sorted(lab.name(claim) for claim in claims))
        lab.main.complete(*claims)
    assert order == [["a"], ["b", "c"], ["d"]]
    assert lab.status(run_id) == "COMPLETED"
    assert lab.violations(at_rest=True) == []


def test_a_child_waits_for_the_last_of_its_parents(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    lab.main.complete(*lab.main.claim())
    claims = by_name(lab, lab.main.claim())
    lab.main.complete(claims["b"])
    assert lab.places(run_id) == {"c": "leased", "d": "pending"}
    assert lab.rows("SELECT remaining FROM orchestrator_wait") == [(1,)]
    assert lab.status(run_id) == "RUNNING"
    lab.main.complete(claims["c"])
    assert lab.places(run_id) == {"d": "queued"}


def test_both_parents_in_one_batch_free_their_child_once(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    lab.main.complete(*lab.main.claim())
    assert lab.main.complete(*lab.main.claim()).accepted == 2
    assert lab.places(run_id) == {"d": "queued"}
    assert lab.count("wait") == 0


def test_fan_out_and_fan_in_with_outputs(lab: Lab) -> None:
    branches = [f"part{n}" for n in range(20)]
    shape = lab.shape(
        "fan", "split", *[task(b, "split") for b in branches], task("join", *branches)
    )
    run_id = lab.enqueue_one(shape)
    lab.main.complete(lab.main.claim_one(), output=list(range(20)))
    claims = lab.main.claim()
    assert len(claims) == 20
    outputs = parent_outputs(lab.session, claims)
    assert {outputs[c.task_run_id]["split"].output for c in claims} == {
        str(list(range(20)))
    }
    lab.main.exchange([lab.completed(c, output=lab.name(c)) for c in claims])
    [join] = lab.main.claim()
    parents = parent_outputs(lab.session, [join])[join.task_run_id]
    assert {name: parent.output for name, parent in parents.items()} == {
        branch: f'"{branch}"' for branch in branches
    }
    lab.main.complete(join)
    assert lab.status(run_id) == "COMPLETED"


def test_a_failure_cancels_all_that_depends_on_it(lab: Lab) -> None:
    shape = lab.shape(
        "tree",
        "a",
        task("b", "a"),
        task("c", "b"),
        task("d", "c"),
        task("e", "a"),
    )
    run_id = lab.enqueue_one(shape)
    lab.main.complete(*lab.main.claim())
    claims = by_name(lab, lab.main.claim())
    lab.main.fail(claims["b"], message="broken")
    assert lab.statuses(run_id) == {
        "a": "COMPLETED",
        "b": "FAILED",
        "c": "CANCELLED",
        "d": "CANCELLED",
        "e": None,
    }
    reason = 'Task "b" failed: ValueError: broken'
    assert lab.task_run(run_id, 3)["status_reason"] == reason
    assert lab.status(run_id) == "RUNNING"
    lab.main.complete(claims["e"])
    state = lab.state(run_id)
    assert (state.status, state.status_reason) == ("FAILED", reason)
    assert lab.violations(at_rest=True) == []


def test_a_cancelled_task_cancels_all_that_depends_on_it(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("chain", "a", task("b", "a"), task("c", "b")))
    claim = lab.main.claim_one()
    result = lab.completed(claim)._replace(
        outcome=AttemptOutcome.CANCELLED, reason="stopped"
    )
    lab.main.exchange([result])
    assert set(lab.statuses(run_id).values()) == {"CANCELLED"}
    assert lab.state(run_id)[:2] == ("CANCELLED", "stopped")


def test_failed_outweighs_cancelled(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("two", "a", "b"))
    claims = by_name(lab, lab.main.claim())
    cancelled = lab.completed(claims["a"])._replace(outcome=AttemptOutcome.CANCELLED)
    lab.main.exchange([cancelled])
    lab.main.fail(claims["b"])
    assert lab.status(run_id) == "FAILED"


def test_a_child_of_two_failures_is_cancelled_once(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    lab.main.complete(*lab.main.claim())
    lab.main.fail(*lab.main.claim())
    assert lab.statuses(run_id)["d"] == "CANCELLED"
    assert lab.status(run_id) == "FAILED"
    assert lab.violations(at_rest=True) == []


@pytest.mark.parametrize("failing_first", [False, True])
def test_one_parent_completes_and_one_fails_in_one_batch(
    lab: Lab, failing_first: bool
) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    lab.main.complete(*lab.main.claim())
    claims = by_name(lab, lab.main.claim())
    results = [lab.completed(claims["b"]), lab.failed(claims["c"])]
    lab.main.exchange(results[::-1] if failing_first else results)
    assert lab.statuses(run_id) == {
        "a": "COMPLETED",
        "b": "COMPLETED",
        "c": "FAILED",
        "d": "CANCELLED",
    }
    assert lab.status(run_id) == "FAILED"
    assert lab.violations(at_rest=True) == []


def test_a_parent_that_completes_after_its_sibling_failed(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    lab.main.complete(*lab.main.claim())
    claims = by_name(lab, lab.main.claim())
    lab.main.fail(claims["c"])
    lab.main.complete(claims["b"])
    assert lab.statuses(run_id)["d"] == "CANCELLED"
    assert lab.status(run_id) == "FAILED"
    assert lab.violations(at_rest=True) == []


def test_a_retry_of_a_parent_keeps_its_children_waiting(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond(retries=AT_ONCE))
    lab.main.fail(lab.main.claim_one())
    assert lab.places(run_id)["b"] == "pending"
    lab.main.complete(lab.main.claim_one())
    assert lab.places(run_id) == {"b": "queued", "c": "queued", "d": "pending"}


def test_a_backoff_of_a_parent_keeps_its_children_waiting(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond(retries=LATER))
    lab.main.fail(lab.main.claim_one())
    assert lab.places(run_id) == {
        "a": "backoff",
        "b": "pending",
        "c": "pending",
        "d": "pending",
    }
    assert lab.status(run_id) == "RUNNING"


def test_a_run_starts_with_its_first_attempt_and_ends_with_its_last(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    lab.main.drain()
    run = lab.run(run_id)
    [(first, last)] = lab.rows(
        "SELECT min(started_at), max(finished_at) FROM orchestrator_attempt"
    )
    assert run["started_at"] == first
    assert run["finished_at"] >= last


def test_between_two_tasks_a_run_is_running(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("chain", "a", task("b", "a")))
    assert lab.status(run_id) == "QUEUED"
    claim = lab.main.claim_one()
    assert lab.status(run_id) == "RUNNING"
    lab.main.complete(claim)
    assert lab.places(run_id) == {"b": "queued"}
    assert lab.status(run_id) == "RUNNING"


def test_children_that_become_ready_get_their_deadline_then(lab: Lab) -> None:
    shape = lab.shape("chain", "a", task("b", "a", schedule_timeout=30))
    lab.enqueue_one(shape)
    assert lab.count("deadline") == 0
    lab.main.complete(lab.main.claim_one())
    assert lab.count("deadline") == 1


def test_runs_of_several_workflows_settle_in_one_batch(lab: Lab) -> None:
    shapes = [lab.diamond(), lab.shape("one"), lab.shape("chain", "a", task("b", "a"))]
    run_ids = [run_id for shape in shapes for run_id in lab.enqueue(shape, 10)]
    assert lab.main.drain() == 40 + 10 + 20
    assert {lab.status(run_id) for run_id in run_ids} == {"COMPLETED"}
    assert lab.violations(at_rest=True) == []


# Reports that come twice, in one batch: a slow thread's late one beside that of the
# attempt that followed it, or a buffer that holds one twice.


@pytest.mark.parametrize("copies", [2, 3])
def test_the_same_report_twice_in_a_batch_counts_once(lab: Lab, copies: int) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    lab.main.complete(*[lab.main.claim_one()] * copies)
    assert lab.places(run_id) == {"b": "queued", "c": "queued", "d": "pending"}
    claims = by_name(lab, lab.main.claim())
    lab.main.complete(*[claims["b"]] * copies)
    # d waits for c, however often b was reported.
    assert lab.places(run_id) == {"c": "leased", "d": "pending"}
    assert lab.rows("SELECT remaining FROM orchestrator_wait") == [(1,)]
    lab.main.complete(*[claims["c"]] * copies)
    assert lab.main.drain() == 1
    assert lab.status(run_id) == "COMPLETED"


def test_an_old_attempts_report_beside_the_new_ones_counts_for_nothing(
    lab: Lab,
) -> None:
    run_id = lab.enqueue_one(lab.diamond(retries=AT_ONCE))
    lab.main.complete(lab.main.claim_one())
    claims = by_name(lab, lab.main.claim())
    lab.main.exchange([lab.failed(claims["b"])])
    [again] = lab.main.claim()
    assert again.attempt == 2
    exchanged = lab.main.exchange(
        [lab.completed(claims["b"], output="old"), lab.completed(again, output="new")]
    )
    assert lab.places(run_id) == {"c": "leased", "d": "pending"}
    assert lab.rows("SELECT remaining FROM orchestrator_wait") == [(1,)]
    assert exchanged.accepted == 1
    assert lab.task_run(run_id, 1)["output"] == "new"


def test_an_old_attempts_report_is_refused_though_the_new_one_is_not(lab: Lab) -> None:
    lab.enqueue_one(lab.diamond(retries=AT_ONCE))
    old = lab.main.claim_one()
    lab.main.fail(old)
    new = lab.main.claim_one()
    late, timely = lab.completed(old), lab.completed(new)
    exchanged = lab.main.exchange([late, timely])
    assert exchanged.refused == [late]
    assert exchanged.deferred == []


def test_an_old_failure_beside_the_new_success_dooms_nobody(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond(retries=AT_ONCE))
    old = lab.main.claim_one()
    lab.main.fail(old)
    new = lab.main.claim_one()
    late: Result = lab.failed(old, retryable=False)
    lab.main.exchange([late, lab.completed(new)])
    assert lab.places(run_id) == {"b": "queued", "c": "queued", "d": "pending"}
