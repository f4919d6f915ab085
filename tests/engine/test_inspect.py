"""Inspect: each rule finds what it is for, and a healthy engine breaks none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from orchestrator.engine import inspect
from orchestrator.engine.sessions import statements
from tests.engine.lab import AT_ONCE, LATER, Lab, task
from tests.engine.signals import waiting


@pytest.fixture
def damaged(lab: Lab) -> Iterator[Lab]:
    """A lab whose rows may be broken behind the guards' back."""
    lab.main.connection.execute("SET session_replication_role = replica")
    yield lab
    lab.forget()
    lab.main.connection.execute("SET session_replication_role = origin")


def broken(lab: Lab) -> list[str]:
    return [violation.rule for violation in lab.violations()]


def do(lab: Lab, statement: str, *params: object) -> None:
    assert lab.main.connection.execute(statement.encode(), params).rowcount > 0


def leased(lab: Lab) -> UUID:
    run_id = lab.enqueue_one(lab.shape("one"))
    lab.main.claim_one()
    return run_id


def test_a_busy_engine_breaks_no_rule(lab: Lab) -> None:
    shapes = [
        lab.diamond(),
        lab.shape("one", retries=AT_ONCE),
        lab.shape("slow", retries=LATER),
        lab.shape("tree", "a", task("b", "a"), task("c", "a", schedule_timeout=9)),
    ]
    for shape in shapes:
        lab.enqueue(shape, 6)
        lab.enqueue(shape, run_after=datetime.now(UTC) + timedelta(hours=1))
    for _ in range(4):
        claims = lab.main.claim(12)
        lab.main.exchange(
            [lab.completed(c) if n % 3 else lab.failed(c) for n, c in enumerate(claims)]
        )
        lab.main.claim(1)
        assert lab.violations() == []
    assert {v.rule for v in lab.violations(at_rest=True)} == {"rest"}


def test_an_empty_engine_is_at_rest(lab: Lab) -> None:
    assert lab.violations(at_rest=True) == []


def test_there_is_a_step_for_each_rule() -> None:
    assert set(statements("inspect")) == {*inspect.RULES, "rest"}


def test_a_task_run_without_a_place_is_found(damaged: Lab) -> None:
    damaged.enqueue_one(damaged.shape("one"))
    do(damaged, "DELETE FROM orchestrator_queue_item")
    assert broken(damaged) == ["one_place"]


@pytest.mark.parametrize(
    "copy",
    [
        "INSERT INTO orchestrator_queue_item (task_run_id, run_id, task_id, queue_id,"
        " lane, position, schedule_timeout_ms, attempt, failures, losses)"
        " SELECT task_run_id, run_id, task_id, queue_id, lane, position,"
        " schedule_timeout_ms, attempt, failures, losses FROM orchestrator_lease",
        "INSERT INTO orchestrator_delayed_item (task_run_id, run_id, task_id, queue_id,"
        " lane, position, schedule_timeout_ms, attempt, failures, losses, status,"
        " due_at) SELECT task_run_id, run_id, task_id, queue_id, lane, position,"
        " schedule_timeout_ms, attempt, failures, losses, 'BACKOFF', now()"
        " FROM orchestrator_lease",
        "INSERT INTO orchestrator_wait (task_run_id, run_id, task_id, queue_id, lane,"
        " position, schedule_timeout_ms, attempt, failures, losses, remaining)"
        " SELECT task_run_id, run_id, task_id, queue_id, lane, position,"
        " schedule_timeout_ms, attempt, failures, losses, 1 FROM orchestrator_lease",
    ],
    ids=["queued", "delayed", "waiting"],
)
def test_a_task_run_in_two_places_is_found(damaged: Lab, copy: str) -> None:
    leased(damaged)
    do(damaged, copy)
    [violation] = damaged.violations()
    assert violation.rule == "one_place"
    assert " and " in violation.text
    assert "lease" in violation.text


def test_a_place_of_a_task_run_that_has_ended_is_found(damaged: Lab) -> None:
    run_id = leased(damaged)
    for table in ("task_run", "run"):
        do(
            damaged,
            f"UPDATE orchestrator_{table}"
            " SET status = 'CANCELLED', finished_at = now()",
        )
    assert broken(damaged) == ["left_over"]
    assert str(run_id)[:8] in damaged.violations()[0].text


def test_a_place_of_a_task_run_that_does_not_exist_is_found(damaged: Lab) -> None:
    leased(damaged)
    do(damaged, "DELETE FROM orchestrator_task_run")
    do(damaged, "DELETE FROM orchestrator_run")
    assert broken(damaged) == ["left_over"]


@pytest.mark.parametrize("column", ["queue_id", "lane", "position"])
def test_a_queue_item_that_cancel_would_not_find_is_found(
    damaged: Lab, column: str
) -> None:
    damaged.enqueue_one(damaged.shape("one"))
    do(damaged, f"UPDATE orchestrator_queue_item SET {column} = {column} + 1")
    assert broken(damaged) == ["coordinates"]


@pytest.mark.parametrize("status", ["COMPLETED", "CANCELLED"])
def test_a_run_that_does_not_follow_from_its_tasks_is_found(
    damaged: Lab, status: str
) -> None:
    damaged.enqueue_one(damaged.shape("one"))
    damaged.main.fail(damaged.main.claim_one())
    do(damaged, "UPDATE orchestrator_run SET status = %s", status)
    assert broken(damaged) == ["run_status"]


def test_a_run_that_ended_before_its_tasks_is_found(damaged: Lab) -> None:
    leased(damaged)
    do(
        damaged,
        "UPDATE orchestrator_run SET status = 'COMPLETED', finished_at = now()",
    )
    assert broken(damaged) == ["run_status"]


def test_a_run_that_should_have_ended_is_found(damaged: Lab) -> None:
    damaged.enqueue_one(damaged.shape("one"))
    damaged.main.drain()
    do(damaged, "UPDATE orchestrator_run SET status = NULL, finished_at = NULL")
    assert broken(damaged) == ["run_status"]


def test_a_run_without_tasks_is_found(damaged: Lab) -> None:
    leased(damaged)
    do(damaged, "DELETE FROM orchestrator_lease")
    do(damaged, "DELETE FROM orchestrator_task_run")
    assert broken(damaged) == ["run_status"]


@pytest.mark.parametrize("difference", [-1, 1])
def test_an_open_run_that_counts_wrongly_is_found(
    damaged: Lab, difference: int
) -> None:
    damaged.enqueue_one(damaged.diamond())
    do(
        damaged,
        "UPDATE orchestrator_open_run SET remaining = remaining + %s",
        difference,
    )
    assert broken(damaged) == ["open_run"]


def test_a_graph_that_nobody_counts_is_found(damaged: Lab) -> None:
    damaged.enqueue_one(damaged.diamond())
    do(damaged, "DELETE FROM orchestrator_open_run")
    assert broken(damaged) == ["open_run"]


def test_an_open_run_that_is_left_over_is_found(damaged: Lab) -> None:
    run_id = damaged.enqueue_one(damaged.shape("one"))
    damaged.main.drain()
    for remaining in (0, 1):
        do(
            damaged,
            "INSERT INTO orchestrator_open_run (run_id, remaining, failed, cancelled,"
            " reason) VALUES (%s, %s, 0, 0, '')",
            run_id,
            remaining,
        )
        assert broken(damaged) == ["open_run"]
        do(damaged, "DELETE FROM orchestrator_open_run")


def test_a_gap_among_attempts_is_found(damaged: Lab) -> None:
    damaged.enqueue_one(damaged.shape("one", retries=AT_ONCE))
    damaged.main.fail(damaged.main.claim_one())
    damaged.main.complete(damaged.main.claim_one())
    do(damaged, "DELETE FROM orchestrator_attempt WHERE number = 1")
    assert broken(damaged) == ["attempts"]


def test_two_results_of_one_generation_are_found(damaged: Lab) -> None:
    damaged.enqueue_one(damaged.shape("one", retries=AT_ONCE))
    damaged.main.fail(damaged.main.claim_one())
    damaged.main.complete(damaged.main.claim_one())
    do(damaged, "UPDATE orchestrator_attempt SET outcome = 'COMPLETED'")
    assert broken(damaged) == ["attempts"]


def test_a_success_without_an_attempt_is_found(damaged: Lab) -> None:
    damaged.enqueue_one(damaged.shape("one"))
    damaged.main.drain()
    do(damaged, "UPDATE orchestrator_attempt SET outcome = 'FAILED'")
    assert broken(damaged) == ["attempts"]


def test_a_wrong_count_of_attempts_is_found(damaged: Lab) -> None:
    damaged.enqueue_one(damaged.shape("one"))
    damaged.main.drain()
    do(damaged, "UPDATE orchestrator_task_run SET attempts = 2")
    assert broken(damaged) == ["attempts"]


@pytest.mark.parametrize("moment", ["queued", "leased", "delayed", "waiting"])
def test_work_that_is_left_is_found_at_rest(lab: Lab, moment: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    lab.enqueue_one(lab.diamond(), run_after=later if moment == "delayed" else None)
    if moment == "leased":
        lab.main.claim_one()
    found = {v.text.split(" in ")[1] for v in lab.violations(at_rest=True)}
    table = {
        "queued": "orchestrator_queue_item.",
        "leased": "orchestrator_lease.",
        "delayed": "orchestrator_delayed_item.",
        "waiting": "orchestrator_wait.",
    }[moment]
    assert found >= {
        table,
        "orchestrator_wait.",
        "orchestrator_open_run.",
        "orchestrator_run (unfinished).",
    }


def test_what_is_held_for_nothing(damaged: Lab) -> None:
    waiting(damaged)
    assert broken(damaged) == []
    do(damaged, "DELETE FROM orchestrator_wait_condition")
    assert broken(damaged) == ["held"]
