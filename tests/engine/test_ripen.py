"""Ripen: sleeps are over at their time, not before, and whoever is late says when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.conditions import SleepCondition
from orchestrator.engine.judge import judge
from orchestrator.engine.ripen import next_due, ripen
from orchestrator.engine.tend import tend
from tests.engine.lab import Lab
from tests.engine.signals import NAP, conditions, satisfied, waiter, waiting


def test_a_sleep_is_over_at_its_time(lab: Lab) -> None:
    [run_id] = waiting(lab, NAP)
    lab.main.travel(seconds=59)
    assert ripen(lab.session) == 0
    lab.main.travel(seconds=1)
    assert ripen(lab.session) == 1
    assert satisfied(lab) == {run_id: None}
    assert ripen(lab.session) == 0


def test_a_sleep_counts_from_when_the_wait_opened(lab: Lab) -> None:
    lab.enqueue(waiter(lab, NAP))
    lab.main.travel(seconds=50)
    judge(lab.session)
    due = next_due(lab.session)
    assert due is not None
    assert 9 < due <= 10


def test_what_ripens_late_has_the_time_that_it_was_due(lab: Lab) -> None:
    waiting(lab, NAP)
    lab.main.travel(hours=5)
    ripen(lab.session)
    assert lab.value("SELECT satisfied_at = due_at FROM orchestrator_wait_condition")


def test_a_limit_is_kept(lab: Lab) -> None:
    waiting(lab, NAP, 7)
    lab.main.travel(minutes=2)
    assert [ripen(lab.session, limit=3) for _ in range(4)] == [3, 3, 1, 0]


def test_what_is_held_elsewhere_is_left_for_later(lab: Lab) -> None:
    waiting(lab, NAP, 2)
    lab.main.travel(minutes=2)
    other = lab.connect()
    with other.transaction():
        other.execute(
            b"SELECT id FROM orchestrator_wait_condition ORDER BY id LIMIT 1 FOR UPDATE"
        )
        assert ripen(lab.session) == 1
    assert ripen(lab.session) == 1


def test_the_next_time_is_known(lab: Lab) -> None:
    assert next_due(lab.session) is None
    waiting(lab, SleepCondition(timedelta(hours=2)), name="long")
    waiting(lab, SleepCondition(timedelta(minutes=1)), name="short")
    soon = next_due(lab.session)
    assert soon is not None
    assert 50 < soon <= 60
    lab.main.travel(minutes=61)
    ripen(lab.session)
    later = next_due(lab.session)
    assert later is not None
    assert 3_400 < later <= 3_540


def test_a_run_of_later_is_looked_at_at_its_time(lab: Lab) -> None:
    at = datetime.now(UTC) + timedelta(minutes=10)
    [run_id] = lab.enqueue(waiter(lab, NAP), run_after=at)
    assert tend(lab.session) == 0
    assert conditions(lab) == [("start", 0, "SLEEP", True, False, False)]
    lab.main.travel(minutes=11)
    tend(lab.session)
    assert conditions(lab) == [
        ("start", 0, "SLEEP", True, True, True),
        ("wait_for", 0, "SLEEP", True, False, False),
    ]
    due = next_due(lab.session)
    assert due is not None
    assert 50 < due <= 60
    lab.main.travel(minutes=1)
    tend(lab.session)
    assert lab.places(run_id) == {"a": "queued"}
    assert conditions(lab) == []
