"""Look back: what came before a condition was committed satisfies it, once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.conditions import EventCondition
from orchestrator.engine import look_back as module
from orchestrator.engine.cancel import cancel
from orchestrator.engine.judge import judge
from orchestrator.engine.look_back import look_back
from orchestrator.engine.route import route
from tests.engine.lab import Lab
from tests.engine.signals import MINUTE, push, registered, satisfied, waiter, waiting

EXPRESSIONS = ["true", "payload == null"]


def routed(lab: Lab, *args: Any, **options: Any) -> UUID:
    """An event that no router will ever look at again."""
    event_id = push(lab.session, *args, **options)
    while route(lab.session):
        pass
    return event_id


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_was_pushed_between_the_opening_and_the_writing_counts(
    lab: Lab, expression: str
) -> None:
    [run_id] = lab.enqueue(waiter(lab, EventCondition("go", expression)))
    event_id = routed(lab)
    routed(lab)
    judge(lab.session)
    assert satisfied(lab) == {}
    assert look_back(lab.session) == 1
    assert satisfied(lab) == {run_id: event_id}
    assert look_back(lab.session) == 0


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_was_pushed_before_the_wait_opened_does_not_count(
    lab: Lab, expression: str
) -> None:
    routed(lab)
    waiting(lab, EventCondition("go", expression))
    assert satisfied(lab) == {}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_look_back_takes_the_latest_of_its_time(lab: Lab, expression: str) -> None:
    routed(lab)
    lab.main.travel(seconds=30)
    latest = routed(lab)
    lab.main.travel(seconds=50)
    condition = EventCondition("go", expression, lookback=MINUTE)
    [run_id] = waiting(lab, condition)
    assert satisfied(lab) == {run_id: latest}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_look_back_ends(lab: Lab, expression: str) -> None:
    routed(lab)
    lab.main.travel(seconds=61)
    waiting(lab, EventCondition("go", expression, lookback=MINUTE))
    assert satisfied(lab) == {}


@pytest.mark.parametrize("lookback", [None, MINUTE])
@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(
    ("wanted", "pushed", "expected"),
    [(None, "", 1), (None, "me", 1), ("me", "me", 1), ("me", "", 0), ("me", "you", 0)],
)
def test_scopes(
    lab: Lab,
    lookback: timedelta | None,
    expression: str,
    wanted: str | None,
    pushed: str,
    expected: int,
) -> None:
    condition = EventCondition("go", expression, scope=wanted, lookback=lookback)
    lab.enqueue(waiter(lab, condition))
    routed(lab, scope=pushed)
    routed(lab, "other", scope=wanted or "")
    judge(lab.session)
    look_back(lab.session)
    assert len(satisfied(lab)) == expected


@pytest.mark.parametrize("lookback", [None, MINUTE])
def test_expressions_are_asked_page_by_page(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, lookback: timedelta | None
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    condition = EventCondition(
        "go", "payload.n > 3 && payload.n < 7", lookback=lookback
    )
    [run_id] = lab.enqueue(waiter(lab, condition))
    events = [routed(lab, payload={"n": n}) for n in range(9)]
    judge(lab.session)
    look_back(lab.session)
    assert satisfied(lab) == {run_id: events[4 if lookback is None else 6]}


def test_no_more_than_so_many_events_are_asked_about(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    monkeypatch.setattr(module, "MOST", 4)
    lab.enqueue(waiter(lab, EventCondition("go", "payload.n > 3")))
    for n in range(9):
        routed(lab, payload={"n": n})
    judge(lab.session)
    assert look_back(lab.session) == 1
    assert satisfied(lab) == {}


def test_a_condition_that_was_met_meanwhile_keeps_its_event(lab: Lab) -> None:
    [run_id] = registered(lab)
    event_id = routed(lab)
    routed(lab)
    assert look_back(lab.session) == 1
    assert satisfied(lab) == {run_id: event_id}


def test_what_is_held_elsewhere_is_left_for_later(lab: Lab) -> None:
    registered(lab, count=2)
    other = lab.connect()
    with other.transaction():
        other.execute(
            b"SELECT id FROM orchestrator_wait_condition ORDER BY id LIMIT 1 FOR UPDATE"
        )
        assert look_back(lab.session) == 1
    assert look_back(lab.session) == 1


def test_a_limit_is_kept(lab: Lab) -> None:
    registered(lab, count=7)
    assert [look_back(lab.session, limit=3) for _ in range(4)] == [3, 3, 1, 0]


def test_expressions_are_evaluated_for_a_second_at_a_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    registered(lab, EventCondition("go", "payload == null"), 3)
    assert [look_back(lab.session) for _ in range(4)] == [1, 1, 1, 0]


def test_children_that_have_ended_already_are_found(lab: Lab) -> None:
    ended, running = lab.enqueue(lab.shape("child"), 2)
    lab.main.complete(lab.main.claim_one())
    [waiter_id] = lab.enqueue(waiter(lab), 1)
    judge(lab.session)
    lab.main.connection.execute(b"DELETE FROM orchestrator_wait_condition")
    for child in (ended, running):
        lab.main.connection.execute(
            b"INSERT INTO orchestrator_wait_condition (run_id, task_run_id, entry_id,"
            b' "group", slot, leaf, kind, key, scope, expression, snapshot, checked,'
            b" child_run_id)"
            b" SELECT run_id, task_run_id, %s, 1, 'durable', 0, 'CHILD', '', '', '',"
            b" '', false, %s FROM orchestrator_wait WHERE run_id = %s",
            [uuid4(), child, waiter_id],
        )
    assert look_back(lab.session) == 2
    assert lab.rows(
        "SELECT child_run_id = %s, satisfied_at = run.finished_at"
        " FROM orchestrator_wait_condition AS condition"
        " JOIN orchestrator_run AS run ON run.id = condition.child_run_id"
        " WHERE satisfied_at IS NOT NULL",
        ended,
    ) == [(True, True)]
    lab.main.connection.execute(b"DELETE FROM orchestrator_wait_condition")
    cancel(lab.session, [waiter_id], reason="stop")
