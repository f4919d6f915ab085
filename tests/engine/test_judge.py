"""Judge: what waits is executed, skipped, cancelled or held, and says why."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from orchestrator.conditions import (
    EventCondition,
    ParentCondition,
)
from orchestrator.engine import cases, facts
from orchestrator.engine.cancel import cancel
from orchestrator.engine.judge import judge
from orchestrator.engine.ripen import ripen
from orchestrator.engine.sessions import statements
from orchestrator.engine.settle import settle
from orchestrator.engine.tend import tend
from tests.engine.lab import Lab, task
from tests.engine.signals import GO, NAP, conditions, push, waiter, waiting

YES = ParentCondition("p", "output == 1")


def test_what_is_held_is_written_down(lab: Lab) -> None:
    shape = lab.shape(
        "w",
        task(
            "a",
            wait_for=(NAP | GO).to_dict(),
            skip_if=EventCondition("no", "payload.x", scope="s").to_dict(),
        ),
    )
    run_id = lab.enqueue_one(shape)
    assert judge(lab.session) == 1
    assert judge(lab.session) == 0
    assert conditions(lab) == [
        ("skip_if", 0, "EVENT", False, False, False),
        ("wait_for", 0, "SLEEP", True, False, False),
        ("wait_for", 1, "EVENT", False, False, False),
    ]
    assert lab.places(run_id) == {"a": "pending"}
    assert lab.value("SELECT remaining FROM orchestrator_wait") == 1


def test_what_is_decided_leaves_no_condition(lab: Lab) -> None:
    run_id = waiting(lab, NAP | GO)[0]
    push(lab.session)
    assert tend(lab.session) > 0
    assert lab.places(run_id) == {"a": "queued"}
    assert conditions(lab) == []
    assert lab.main.drain() == 1
    assert lab.violations(at_rest=True) == []


def test_what_is_not_enough_is_seen_once(lab: Lab) -> None:
    [run_id] = waiting(lab, NAP & GO)
    push(lab.session)
    tend(lab.session)
    assert conditions(lab) == [
        ("wait_for", 0, "SLEEP", True, False, False),
        ("wait_for", 1, "EVENT", True, True, True),
    ]
    assert tend(lab.session) == 0
    lab.main.travel(minutes=1)
    tend(lab.session)
    assert lab.places(run_id) == {"a": "queued"}


def test_a_schedule_timeout_begins_when_the_task_is_queued(lab: Lab) -> None:
    lab.enqueue(waiter(lab, NAP, schedule_timeout=30))
    tend(lab.session)
    assert lab.count("deadline") == 0
    lab.main.travel(minutes=2)
    tend(lab.session)
    assert lab.value(
        "SELECT expires_at - orchestrator_now() = interval '30 seconds'"
        " FROM orchestrator_deadline"
    )


def skipped_chain(lab: Lab) -> UUID:
    shape = lab.shape(
        "chain",
        "p",
        task("a", "p", skip_if=YES.to_dict()),
        task("b", "a"),
        task("c", "b", "p"),
    )
    run_id = lab.enqueue_one(shape)
    lab.main.complete(lab.main.claim_one(), output=1)
    return run_id


def test_what_is_skipped_has_no_attempt_and_its_children_are_judged(lab: Lab) -> None:
    run_id = skipped_chain(lab)
    tend(lab.session)
    assert lab.task_statuses(run_id) == {
        "p": "COMPLETED",
        "a": "SKIPPED",
        "b": "SKIPPED",
        "c": "QUEUED",
    }
    row = lab.task_run(run_id, 1)
    assert (row["attempts"], row["started_at"], row["output"]) == (0, None, None)
    assert lab.attempts(run_id, 1) == []
    lab.main.drain()
    assert lab.status(run_id) == "COMPLETED"
    assert lab.violations(at_rest=True) == []


def test_what_is_cancelled_takes_its_descendants_along(lab: Lab) -> None:
    shape = lab.shape(
        "w", "p", task("a", "p", cancel_if=YES.to_dict()), task("b", "a"), "c"
    )
    run_id = lab.enqueue_one(shape)
    claims = {lab.name(claim): claim for claim in lab.main.claim()}
    lab.main.complete(claims["p"], output=1)
    tend(lab.session)
    statuses = {"p": "COMPLETED", "a": "CANCELLED", "b": "CANCELLED", "c": "RUNNING"}
    assert lab.task_statuses(run_id) == statuses
    lab.main.complete(claims["c"])
    why = 'Task "a" was cancelled by cancel_if: output == 1 of parent "p".'
    assert lab.state(run_id)[:2] == ("CANCELLED", why)


def test_a_run_of_one_task_that_is_skipped_ends_completed(lab: Lab) -> None:
    shape = lab.shape("w", task("a", wait_for=NAP.to_dict(), skip_if=GO.to_dict()))
    run_id = lab.enqueue_one(shape)
    tend(lab.session)
    push(lab.session)
    tend(lab.session)
    assert lab.status(run_id) == "COMPLETED"
    assert lab.statuses(run_id) == {"a": "SKIPPED"}
    assert lab.violations(at_rest=True) == []


def test_a_batch_is_decided_together(lab: Lab) -> None:
    """Some are held, some run, some are skipped, some are cancelled, in one pass."""
    shape = lab.shape(
        "w",
        "p",
        task("held", "p", wait_for=GO.to_dict()),
        task("run", "p", wait_for=YES.to_dict()),
        task("skip", "p", skip_if=YES.to_dict()),
        task("cancel", "p", cancel_if=YES.to_dict()),
    )
    run_ids = lab.enqueue(shape, 20)
    lab.main.complete(*lab.main.claim(), output=1)
    assert judge(lab.session) == 80
    for run_id in run_ids:
        assert lab.task_statuses(run_id) == {
            "p": "COMPLETED",
            "held": "PENDING",
            "run": "QUEUED",
            "skip": "SKIPPED",
            "cancel": "CANCELLED",
        }


def test_expressions_are_evaluated_for_a_second_at_a_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "PATIENCE", -1.0)
    monkeypatch.setattr(facts, "MOST", 2)
    lab.enqueue(lab.shape("w", "p", task("a", "p", skip_if=YES.to_dict())), 5)
    lab.main.complete(*lab.main.claim(), output=1)
    assert [judge(lab.session) for _ in range(4)] == [2, 2, 1, 0]


def test_a_limit_is_kept(lab: Lab) -> None:
    lab.enqueue(waiter(lab, GO), 7)
    assert [judge(lab.session, limit=3) for _ in range(4)] == [3, 3, 1, 0]


# Locks and crashes.


def test_a_run_that_is_locked_elsewhere_is_left_for_later(lab: Lab) -> None:
    first, second = waiting(lab, GO, 2)
    push(lab.session)
    other = lab.connect()
    with other.transaction():
        other.execute(b"SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [first])
        tend(lab.session)
        assert lab.places(second) == {"a": "queued"}
        assert lab.places(first) == {"a": "pending"}
    tend(lab.session)
    assert lab.places(first) == {"a": "queued"}


@pytest.mark.parametrize("step", ["find", "hold", "decided", "run", "end"])
def test_a_judge_that_dies_leaves_what_it_had_to_do(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    shape = lab.shape(
        "w",
        "p",
        task("held", "p", wait_for=GO.to_dict()),
        task("run", "p", wait_for=YES.to_dict()),
        task("skip", "p", skip_if=YES.to_dict()),
    )
    run_id = lab.enqueue_one(shape)
    lab.main.complete(lab.main.claim_one(), output=1)
    dying = lab.hand(fresh=True)
    send = dying.session.send

    def dies(statement: bytes, params: Any) -> Any:
        cursor = send(statement, params)
        if statement == statements("judge")[step]:
            raise ConnectionError
        return cursor

    monkeypatch.setattr(dying.session, "send", dies)
    with pytest.raises(ConnectionError):
        judge(dying.session)
    assert set(lab.places(run_id).values()) == {"pending"}
    tend(lab.session)
    assert lab.task_statuses(run_id) == {
        "p": "COMPLETED",
        "held": "PENDING",
        "run": "QUEUED",
        "skip": "SKIPPED",
    }


def test_what_a_cancel_took_away_is_not_judged(lab: Lab) -> None:
    [run_id] = waiting(lab, NAP)
    lab.main.travel(minutes=2)
    ripen(lab.session)
    assert cancel(lab.session, [run_id], reason="stop") == [run_id]
    assert tend(lab.session) == 0
    assert lab.violations(at_rest=True) == []


def test_a_condition_that_nobody_waits_for_is_looked_at_once(lab: Lab) -> None:
    [run_id] = waiting(lab, GO)
    push(lab.session)
    with lab.session.transaction():
        lab.main.connection.execute(
            b"UPDATE orchestrator_wait_condition SET satisfied_at = now(),"
            b" task_run_id = gen_random_uuid()"
        )
    assert judge(lab.session) == 1
    assert judge(lab.session) == 0
    rules = [violation.rule for violation in lab.violations()]
    assert rules == ["conditions", "held"]
    cancel(lab.session, [run_id], reason="stop")
    lab.main.connection.execute(b"DELETE FROM orchestrator_wait_condition")


def test_a_settle_says_that_there_is_something_to_judge(lab: Lab) -> None:
    shape = lab.shape("w", "p", task("a", "p", wait_for=NAP.to_dict()))
    lab.enqueue_one(shape)
    claim = lab.main.claim_one()
    with lab.session.transaction():
        settled = settle(lab.session, lab.main.worker_id, [lab.completed(claim)])
    assert settled.judge


def test_a_stored_condition_that_is_refused_today_stands_in_nobodys_way(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    stored = {**GO.to_dict(), "expression": "payload ="}
    lab.enqueue(lab.shape("old", task("a", wait_for=stored)))
    [run_id] = lab.enqueue(waiter(lab))
    tend(lab.session)
    push(lab.session)
    tend(lab.session)
    assert lab.places(run_id) == {"a": "queued"}
    assert 'Task "a" cannot be judged' in caplog.text
    assert judge(lab.session) == 0
