"""Cancel: a run ends now, wherever its task runs are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestrator.engine import leases, notify
from orchestrator.engine.cancel import cancel
from orchestrator.engine.promote import promote
from orchestrator.engine.rescue import rescue
from tests.engine.lab import AT_ONCE, LATER, Lab, task
from tests.engine.pool import rolled_back


def test_a_queued_run_leaves_its_queue(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    assert cancel(lab.session, [run_id], reason="Not needed.") == [run_id]
    state = lab.state(run_id)
    assert state[:2] == ("CANCELLED", "Not needed.")
    assert state.tasks[0][:3] == ("one", "CANCELLED", "Not needed.")
    run = lab.run(run_id)
    assert run["started_at"] is None
    assert run["finished_at"] is not None
    assert lab.main.claim() == []
    assert lab.violations(at_rest=True) == []


def test_a_scheduled_run_never_becomes_due(lab: Lab) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    run_id = lab.enqueue_one(lab.diamond(), run_after=later)
    cancel(lab.session, [run_id], reason="")
    assert set(lab.statuses(run_id).values()) == {"CANCELLED"}
    lab.main.travel(minutes=5)
    assert promote(lab.session) == 0
    assert lab.violations(at_rest=True) == []


def test_a_leased_attempt_is_cancelled_here_and_now(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    claim = lab.main.claim_one()
    cancel(lab.session, [run_id], reason="stop")
    assert lab.status(run_id) == "CANCELLED"
    assert lab.attempts(run_id) == [(1, "CANCELLED")]
    assert lab.task_run(run_id)["attempts"] == 1
    late = lab.completed(claim, output=1)
    assert lab.main.exchange([late]).refused == [late]
    assert lab.task_run(run_id)["output"] is None
    assert lab.violations(at_rest=True) == []


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_run_that_was_being_executed_had_started(lab: Lab, tasks: int) -> None:
    run_id = lab.enqueue_one(lab.shape("w", *[f"t{n}" for n in range(tasks)]))
    lab.main.claim(1)
    [(claimed,)] = lab.rows("SELECT claimed_at FROM orchestrator_lease")
    cancel(lab.session, [run_id], reason="stop")
    assert lab.run(run_id)["started_at"] == claimed


def test_a_run_that_began_long_ago_keeps_its_start(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("chain", "a", task("b", "a")))
    lab.main.complete(lab.main.claim_one())
    [(first,)] = lab.rows("SELECT started_at FROM orchestrator_attempt")
    lab.main.claim_one()
    cancel(lab.session, [run_id], reason="stop")
    assert lab.run(run_id)["started_at"] == first


def test_a_backoff_ends_and_its_attempts_stay_counted(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=LATER))
    lab.main.fail(lab.main.claim_one())
    assert lab.places(run_id) == {"one": "backoff"}
    cancel(lab.session, [run_id], reason="stop")
    assert lab.status(run_id) == "CANCELLED"
    assert lab.task_run(run_id)["attempts"] == 1
    assert lab.run(run_id)["started_at"] is not None
    assert lab.attempts(run_id) == [(1, "FAILED")]
    assert lab.violations(at_rest=True) == []


def test_what_is_queued_again_ends_and_its_attempts_stay_counted(lab: Lab) -> None:
    shape = lab.shape("one", retries={**AT_ONCE, "attempts": 5})
    run_id = lab.enqueue_one(shape)
    for _ in range(3):
        lab.main.fail(lab.main.claim_one())
    dead = lab.hand()
    dead.claim_one()
    rescue(lab.session, dead.worker_id)
    assert lab.places(run_id) == {"one": "queued"}
    cancel(lab.session, [run_id], reason="stop")
    assert lab.task_run(run_id)["attempts"] == 4
    assert lab.violations(at_rest=True) == []


def test_a_graph_ends_in_every_place_at_once(lab: Lab) -> None:
    shape = lab.shape(
        "all",
        "done",
        task("backing", retries=LATER),
        "running",
        "queued",
        task("waiting", "queued"),
    )
    run_id = lab.enqueue_one(shape)
    claims = {lab.name(c): c for c in lab.main.claim(3)}
    lab.main.complete(claims["done"], output=7)
    lab.main.fail(claims["backing"])
    assert lab.places(run_id) == {
        "backing": "backoff",
        "running": "leased",
        "queued": "queued",
        "waiting": "pending",
    }
    cancel(lab.session, [run_id], reason="stop")
    assert lab.places(run_id) == {}
    assert lab.statuses(run_id) == {
        "done": "COMPLETED",
        "backing": "CANCELLED",
        "running": "CANCELLED",
        "queued": "CANCELLED",
        "waiting": "CANCELLED",
    }
    assert lab.state(run_id).tasks[0].output == "7"
    assert lab.violations(at_rest=True) == []


def test_a_run_of_which_a_task_has_failed_can_be_cancelled(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("two", "a", "b"))
    claims = lab.main.claim()
    lab.main.fail(claims[0])
    cancel(lab.session, [run_id], reason="stop")
    assert lab.state(run_id)[:2] == ("CANCELLED", "stop")
    assert lab.violations(at_rest=True) == []


def test_many_runs_of_several_workflows_end_together(lab: Lab) -> None:
    run_ids = [
        run_id
        for shape in (lab.diamond(), lab.shape("one"), lab.shape("two", "a", "b"))
        for run_id in lab.enqueue(shape, 40)
    ]
    lab.main.claim(50)
    assert sorted(cancel(lab.session, run_ids, reason="all")) == sorted(run_ids)
    assert {lab.status(run_id) for run_id in run_ids} == {"CANCELLED"}
    assert lab.violations(at_rest=True) == []


def test_other_runs_are_left_alone(lab: Lab) -> None:
    mine, others = lab.enqueue(lab.diamond(), 2)
    cancel(lab.session, [mine], reason="")
    assert lab.main.drain() == 4
    assert lab.status(others) == "COMPLETED"


def test_what_has_ended_stays_as_it_is(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    lab.main.drain()
    before = lab.run(run_id)
    assert cancel(lab.session, [run_id, uuid4()], reason="late") == []
    assert cancel(lab.session, [], reason="none") == []
    assert lab.run(run_id) == before


def test_cancelling_twice_is_cancelling_once(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    assert cancel(lab.session, [run_id, run_id], reason="first") == [run_id]
    assert cancel(lab.session, [run_id], reason="second") == []
    assert lab.state(run_id).status_reason == "first"


def test_it_joins_the_callers_transaction(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    claim = lab.main.claim_one()
    with rolled_back(lab.session.transaction()):
        cancel(lab.session, [run_id], reason="oops")
    assert lab.places(run_id) == {
        "a": "leased",
        "b": "pending",
        "c": "pending",
        "d": "pending",
    }
    assert lab.main.complete(claim).accepted == 1


def test_the_worker_finds_that_its_lease_is_gone(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    claim = lab.main.claim_one()
    cancel(lab.session, [run_id], reason="stop")
    gone = leases.reconcile(lab.session, lab.main.key, [claim.task_run_id])
    assert gone == {claim.task_run_id}


def test_workers_are_told_only_where_something_is_executed(lab: Lab) -> None:
    queued, leased = lab.enqueue(lab.shape("one"), 2)
    lab.main.claim(1)
    listener = lab.connect()
    listener.execute(f"LISTEN {notify.CONTROL_CHANNEL}".encode())
    cancel(lab.session, [leased], reason="")
    cancel(lab.session, [queued], reason="")
    heard = [n.payload for n in listener.notifies(timeout=0.3)]
    listener.execute("UNLISTEN *")
    assert heard == ["cancel"]
