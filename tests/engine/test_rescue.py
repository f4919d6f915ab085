"""Rescue: what a dead worker held, from a budget of its own (reliability F01, F12)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import override_settings

from orchestrator.engine import rescue, workers
from orchestrator.engine.claim import WorkerKey
from orchestrator.states import WorkerStatus
from tests.engine.lab import AT_ONCE, Hand, Lab, task
from tests.engine.races import Background, wait_until_blocked


def rescued(lab: Lab, hand: Hand, **options: Any) -> int:
    return rescue.rescue(lab.session, hand.worker_id, **options)


def test_a_started_task_is_charged_to_the_budget_for_lost_workers(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    dead = lab.hand()
    claim = dead.claim_one()
    assert rescued(lab, dead, started=[claim.task_run_id]) == 1
    assert lab.attempts(run_id) == [(1, "LOST")]
    again = lab.main.claim_one()
    assert (again.attempt, again.failures, again.losses) == (2, 0, 1)
    lab.main.complete(again)
    assert lab.status(run_id) == "COMPLETED"
    assert lab.violations(at_rest=True) == []


def test_an_unstarted_task_returns_uncharged(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    dead = lab.hand()
    dead.claim_one()
    assert rescued(lab, dead, started=[]) == 1
    assert lab.attempts(run_id) == []
    again = lab.main.claim_one()
    assert (again.attempt, again.losses) == (1, 0)


def test_each_is_charged_by_what_is_known_of_it(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 6)
    dead = lab.hand()
    claims = dead.claim()
    started = {c.task_run_id for c in claims[::2]}
    assert rescued(lab, dead, started=started) == 6
    again = lab.main.claim()
    assert {c.task_run_id for c in again if c.losses} == started
    assert {c.attempt for c in again if c.losses} == {2}
    assert {c.attempt for c in again if not c.losses} == {1}


def test_where_nothing_is_known_all_are_charged(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 3)
    dead = lab.hand()
    dead.claim()
    assert rescued(lab, dead) == 3
    assert [(c.attempt, c.losses) for c in lab.main.claim()] == [(2, 1)] * 3


def test_a_dead_childs_siblings_keep_what_they_have(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 2)
    dead, alive = lab.hand(), lab.hand()
    alive.key = WorkerKey(dead.worker_id, 2)
    dead.claim_one()
    claim = alive.claim_one()
    assert rescued(lab, dead, child_id=1) == 1
    assert alive.complete(claim).accepted == 1


def test_retries_are_not_used_by_lost_workers(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    for _ in range(3):
        dead = lab.hand()
        dead.claim_one()
        rescued(lab, dead)
    lab.main.fail(lab.main.claim_one())
    claim = lab.main.claim_one()
    assert (claim.attempt, claim.failures, claim.losses) == (5, 1, 3)
    lab.main.fail(claim)
    assert lab.status(run_id) == "FAILED"


@pytest.mark.parametrize("budget", [0, 1, 3])
@pytest.mark.parametrize("tasks", [1, 2])
def test_too_many_losses_fail_the_task(lab: Lab, budget: int, tasks: int) -> None:
    shape = lab.shape("w", "a", *[task("b", "a")] * (tasks - 1))
    run_id = lab.enqueue_one(shape)
    with override_settings(
        ORCHESTRATOR={"PARTITION_BY": "none", "LOST_BUDGET": budget}
    ):
        for _ in range(budget + 1):
            dead = lab.hand()
            dead.claim_one()
            assert rescued(lab, dead, detail="Killed by signal 9.") == 1
    state = lab.state(run_id)
    assert state.status == "FAILED"
    assert state.status_reason == 'Task "a" failed: WorkerLost: Killed by signal 9.'
    error = state.tasks[0].error
    assert error is not None
    assert error["type"] == "orchestrator.exceptions.WorkerLost"
    assert lab.attempts(run_id) == [(n, "LOST") for n in range(1, budget + 2)]
    assert lab.violations(at_rest=True) == []


def test_a_task_of_a_graph_returns_and_its_children_go_on_waiting(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    dead = lab.hand()
    dead.claim_one()
    rescued(lab, dead)
    assert lab.places(run_id) == {
        "a": "queued",
        "b": "pending",
        "c": "pending",
        "d": "pending",
    }
    assert lab.main.drain() == 4
    assert lab.status(run_id) == "COMPLETED"


def test_rescuing_twice_charges_once(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    dead = lab.hand()
    dead.claim_one()
    assert rescued(lab, dead) == 1
    assert rescued(lab, dead) == 0
    assert lab.main.claim_one().losses == 1


def test_more_than_a_batch_is_rescued(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 1_100)
    dead = lab.hand()
    dead.claim(1_100)
    assert rescued(lab, dead) == 1_100
    assert lab.count("queue_item") == 1_100


def test_what_is_locked_for_a_moment_is_rescued_all_the_same(lab: Lab) -> None:
    """A child of a living worker dies: nobody looks for its leases a second time."""
    locked, *_ = lab.enqueue(lab.shape("one"), 3)
    dead = lab.hand()
    dead.claim()
    other = lab.connect()
    with other.transaction():
        other.execute("SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [locked])
        rescuing = Background(lambda: rescued(lab, dead, child_id=1, started=[]))
        wait_until_blocked(lab.connect(), lab.main.connection, unless=rescuing)
    assert rescuing.result() == 3
    assert lab.count("lease") == 0


def test_a_lost_attempt_began_when_it_was_claimed(lab: Lab) -> None:
    """By the database's clock alone: this machine's may be wrong (F51)."""
    lab.enqueue_one(lab.shape("one"))
    lab.main.travel(hours=3)
    dead = lab.hand()
    dead.connection.execute(
        "SELECT set_config('orchestrator.now', %s, false)",
        [lab.value("SELECT current_setting('orchestrator.now')")],
    )
    dead.claim_one()
    lab.main.travel(seconds=40)
    rescued(lab, dead)
    [(seconds,)] = lab.rows("SELECT finished_at - started_at FROM orchestrator_attempt")
    assert abs(seconds - timedelta(seconds=40)) < timedelta(seconds=1)


# Finding them.


def test_a_worker_without_a_heartbeat_is_lost(lab: Lab) -> None:
    lab.enqueue(lab.shape("one"), 2)
    dead, alive = lab.hand().sign_up(), lab.hand().sign_up()
    dead.claim(1)
    alive.claim(1)
    assert rescue.find_lost(lab.session) == []
    lab.main.travel(seconds=31)
    alive.travel(seconds=31)
    assert workers.heartbeat(alive.session, alive.worker_id)
    assert rescue.find_lost(lab.session) == [dead.worker_id]
    assert status(lab, dead) == "LOST"
    assert status(lab, alive) == "ACTIVE"
    assert not workers.heartbeat(dead.session, dead.worker_id)


def test_silence_while_the_server_was_down_loses_nobody(lab: Lab) -> None:
    hand = lab.hand().sign_up()
    lab.rows("UPDATE orchestrator_worker SET heartbeat_at = '2020-01-01' RETURNING id")
    up = lab.value("SELECT clock_timestamp() - pg_postmaster_start_time()")
    with override_settings(ORCHESTRATOR={"LOST_AFTER": up + timedelta(seconds=60)}):
        assert rescue.find_lost(lab.session) == []
        assert status(lab, hand) == "ACTIVE"
        lab.main.travel(seconds=61)
        rescue.find_lost(lab.session)
    assert status(lab, hand) == "LOST"


def test_a_lost_worker_is_found_until_it_holds_nothing(lab: Lab) -> None:
    """Level-triggered: a rescue that failed half-way is done again (F11)."""
    lab.enqueue(lab.shape("one"), 2)
    dead = lab.hand().sign_up()
    dead.claim()
    lab.main.travel(seconds=31)
    assert rescue.find_lost(lab.session) == [dead.worker_id]
    assert rescue.find_lost(lab.session) == [dead.worker_id]
    rescued(lab, dead)
    assert rescue.find_lost(lab.session) == []


def test_a_worker_that_stopped_with_leases_is_found(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    gone = lab.hand().sign_up()
    gone.claim_one()
    workers.stop(gone.session, gone.worker_id)
    assert rescue.find_lost(lab.session) == [gone.worker_id]


def test_leases_without_a_worker_row_are_found(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    nobody = lab.hand()
    nobody.claim_one()
    assert rescue.find_lost(lab.session) == [nobody.worker_id]


@pytest.mark.parametrize(
    "living", [WorkerStatus.ACTIVE, WorkerStatus.PAUSED, WorkerStatus.DRAINING]
)
def test_every_living_status_can_be_lost(lab: Lab, living: WorkerStatus) -> None:
    hand = lab.hand().sign_up()
    workers.set_status(hand.session, hand.worker_id, living)
    lab.main.travel(seconds=31)
    rescue.find_lost(lab.session)
    assert status(lab, hand) == "LOST"


def test_a_stopped_worker_is_not_declared_lost(lab: Lab) -> None:
    hand = lab.hand().sign_up()
    workers.stop(hand.session, hand.worker_id)
    lab.main.travel(seconds=31)
    assert rescue.find_lost(lab.session) == []
    assert status(lab, hand) == "STOPPED"


def test_a_healthy_task_outlives_the_lease_time_many_times(lab: Lab) -> None:
    """Liveness is the heartbeat, never the age of the lease (F02)."""
    lab.enqueue_one(lab.shape("one"))
    hand = lab.hand().sign_up()
    claim = hand.claim_one()
    for _ in range(10):
        hand.travel(seconds=25)
        lab.main.travel(seconds=25)
        assert workers.heartbeat(hand.session, hand.worker_id)
        assert rescue.find_lost(lab.session) == []
    assert hand.complete(claim).accepted == 1


def test_rescuing_an_unknown_worker_does_nothing(lab: Lab) -> None:
    assert rescue.rescue(lab.session, uuid4()) == 0


def status(lab: Lab, hand: Hand) -> str:
    return str(
        lab.value(
            "SELECT status FROM orchestrator_worker WHERE id = %s", hand.worker_id
        )
    )
