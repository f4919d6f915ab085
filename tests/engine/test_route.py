"""Route: every event reaches all that wait for it, the first one counts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import cel
from orchestrator.conditions import EventCondition
from orchestrator.engine import route as module
from orchestrator.engine.push import push as push_texts
from orchestrator.engine.route import route
from orchestrator.engine.tend import tend
from tests.engine.lab import Lab
from tests.engine.races import Background
from tests.engine.signals import push, registered, satisfied, text, waiter, waiting


def test_an_event_satisfies_all_that_match_and_leaves_no_item(lab: Lab) -> None:
    run_ids = waiting(lab, count=3)
    others = waiting(lab, EventCondition("other"), name="other")
    event_id = push(lab.session)
    assert route(lab.session) > 0
    assert satisfied(lab) == dict.fromkeys(run_ids, event_id)
    assert others[0] not in satisfied(lab)
    assert lab.count("event_item") == 0
    assert route(lab.session) == 0


def test_an_event_that_nobody_waits_for_is_routed_all_the_same(lab: Lab) -> None:
    push(lab.session)
    assert route(lab.session) == 1
    assert (lab.count("event"), lab.count("event_item")) == (1, 0)


def test_the_first_event_satisfies(lab: Lab) -> None:
    [run_id] = waiting(lab)
    first = push(lab.session)
    push(lab.session)
    route(lab.session)
    assert satisfied(lab) == {run_id: first}


def test_the_first_event_whose_expression_is_true_satisfies(lab: Lab) -> None:
    [run_id] = waiting(lab, EventCondition("go", "payload.n > 1"))
    events = [push(lab.session, payload={"n": n}) for n in (0, 1, 2, 3)]
    push(lab.session, payload=None)
    route(lab.session)
    assert satisfied(lab) == {run_id: events[2]}


def test_the_time_is_that_of_the_event_and_not_of_the_routing(lab: Lab) -> None:
    waiting(lab)
    event_id = push(lab.session)
    lab.main.travel(hours=1)
    route(lab.session)
    assert lab.value(
        "SELECT condition.satisfied_at = event.created_at"
        " FROM orchestrator_wait_condition AS condition"
        " JOIN orchestrator_event AS event ON event.id = condition.event_id"
        " WHERE event.id = %s",
        event_id,
    )


@pytest.mark.parametrize(
    ("wanted", "pushed", "expected"),
    [
        (None, "", True),
        (None, "me", True),
        ("me", "me", True),
        ("me", "", False),
        ("me", "you", False),
    ],
)
@pytest.mark.parametrize("expression", ["true", "payload == null"])
def test_scopes(
    lab: Lab, wanted: str | None, pushed: str, expected: bool, expression: str
) -> None:
    waiting(lab, EventCondition("go", expression, scope=wanted))
    push(lab.session, scope=pushed)
    route(lab.session)
    assert bool(satisfied(lab)) is expected


def test_an_event_of_before_the_wait_does_not_count(lab: Lab) -> None:
    for expression in ("true", "payload == null"):
        push(lab.session)
        waiting(lab, EventCondition("go", expression), name=f"w{len(expression)}")
    route(lab.session)
    # The second event is later than the first wait.
    assert len(satisfied(lab)) == 1


def test_an_event_of_the_transaction_that_made_the_wait_counts_from_then_on(
    lab: Lab,
) -> None:
    """Pushed before the enqueue it does not count, after it it does."""
    shapes = [waiter(lab, EventCondition(key), name=key) for key in ("early", "late")]
    with lab.session.transaction():
        push(lab.session, "early")
        early = lab.enqueue_one(shapes[0])
    with lab.session.transaction():
        late = lab.enqueue_one(shapes[1])
        push(lab.session, "late")
    tend(lab.session)
    assert lab.places(early) == {"a": "pending"}
    assert lab.places(late) == {"a": "queued"}


def test_expressions_are_evaluated_where_there_are_any(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    holds = cel.holds

    def counted(source: str, values: Any) -> bool:
        asked.append(source)
        return holds(source, values)

    monkeypatch.setattr(cel, "holds", counted)
    waiting(lab, count=5)
    waiting(lab, EventCondition("go", "key == 'go'"), 2, name="asking")
    push(lab.session)
    route(lab.session)
    assert asked == ["key == 'go'"] * 2
    assert len(satisfied(lab)) == 7


def test_an_expression_that_fails_stands_in_nobodys_way(lab: Lab) -> None:
    waiting(lab, EventCondition("go", "payload.nothing == 1"), name="broken")
    [fine] = waiting(lab, EventCondition("go", "payload == null"), name="fine")
    push(lab.session)
    route(lab.session)
    assert set(satisfied(lab)) == {fine}
    assert lab.count("event_item") == 0


def test_a_crowd_is_satisfied_a_part_at_a_time_and_keeps_its_event(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CROWD", 4)
    monkeypatch.setattr(module, "PAGE", 5)
    run_ids = waiting(lab, count=12)
    asking = waiting(lab, EventCondition("go", "true || false"), 7, name="asking")
    push(lab.session, "quiet")
    first = push(lab.session)
    push(lab.session)
    assert route(lab.session) == 1  # the one before the crowd
    left = []
    while route(lab.session):
        left.append(len(satisfied(lab)))
    assert left[:2] == [5, 10]
    assert satisfied(lab) == dict.fromkeys([*run_ids, *asking], first)
    assert lab.count("event_item") == 0


def test_expressions_are_evaluated_for_a_second_at_a_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is asked once, by a process that does not die meanwhile."""
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    monkeypatch.setattr(module, "PAGE", 3)
    asked: list[str] = []
    holds = cel.holds

    def counted(source: str, values: Any) -> bool:
        asked.append(source)
        return holds(source, values)

    monkeypatch.setattr(cel, "holds", counted)
    waiting(lab, EventCondition("go", "payload.n == 1"), 5, name="no")
    [run_id] = waiting(lab, EventCondition("go", "payload.n == 2"), name="yes")
    waiting(lab, EventCondition("go", "payload.n == 3"), 4, name="neither")
    event_id = push(lab.session, payload={"n": 2})
    left = [lab.count("event_item") for _ in range(4) if route(lab.session)]
    assert left == [1, 1, 1, 0]
    assert satisfied(lab) == {run_id: event_id}
    assert len(asked) == 10
    assert module._progress == {}


def test_many_events_with_scopes_are_routed_in_one_batch(lab: Lab) -> None:
    for number in range(5):
        waiting(lab, EventCondition("go", scope=f"s{number}"), name=f"w{number}")
    push_texts(lab.session, [text("go", n, scope=f"s{n}") for n in range(200)])
    assert route(lab.session) == 205
    assert len(set(satisfied(lab).values())) == 5


def test_evaluation_stops_after_a_while_and_goes_on_with_the_next_event(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    waiting(lab, EventCondition("go", "payload.n == 2"))
    push_texts(lab.session, [text("go", {"n": n}) for n in range(4)])
    rounds = 0
    while route(lab.session):
        rounds += 1
    assert rounds == 4
    assert len(satisfied(lab)) == 1


# Locks.


def test_a_condition_that_is_held_elsewhere_keeps_its_event(
    lab: Lab,
) -> None:
    for expression in ("true", "payload == null"):
        waiting(lab, EventCondition("go", expression), 2, name=f"w{len(expression)}")
    push(lab.session)
    other = lab.connect()
    held = "SELECT id FROM orchestrator_wait_condition ORDER BY id LIMIT 1 FOR UPDATE"
    with other.transaction():
        other.execute(held.encode())
        while route(lab.session):
            pass
        assert lab.count("event_item") == 1
    while route(lab.session):
        pass
    assert len(satisfied(lab)) == 4
    assert lab.count("event_item") == 0


def test_two_routers_take_different_events(lab: Lab) -> None:
    run_ids = waiting(lab, count=2)
    first, second = push(lab.session), push(lab.session)
    other = lab.hand()
    with other.session.transaction():
        [row] = other.connection.execute(
            b"SELECT event_id FROM orchestrator_event_item ORDER BY event_id LIMIT 1"
            b" FOR UPDATE"
        ).fetchall()
        assert row == (first,)
        routing = Background(lambda: route(lab.session))
        assert routing.result() > 0
    assert satisfied(lab) == dict.fromkeys(run_ids, second)
    assert route(lab.session) == 1
    assert satisfied(lab) == dict.fromkeys(run_ids, second)


def test_what_was_dropped_with_its_partition_is_routed_to_nobody(lab: Lab) -> None:
    event_id = push(lab.session)
    lab.main.connection.execute(
        b"DELETE FROM orchestrator_event WHERE id = %s", [event_id]
    )
    assert route(lab.session) == 1
    assert lab.count("event_item") == 0


def test_unchecked_conditions_are_met_by_new_events_too(lab: Lab) -> None:
    [run_id] = registered(lab)
    event_id = push(lab.session)
    route(lab.session)
    assert satisfied(lab) == {run_id: event_id}


def test_an_event_of_long_ago_is_no_reason_to_look_at_a_new_wait(lab: Lab) -> None:
    """The router was down for an hour; the wait began before it was back."""
    push(lab.session)
    lab.main.travel(hours=1)
    waiting(lab)
    route(lab.session)
    assert satisfied(lab) == {}
