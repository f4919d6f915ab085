"""The guards themselves: each one stops what it is there for."""

from __future__ import annotations

import psycopg
import pytest

from orchestrator.states import TASK_RUN_TRANSITIONS, TaskRunStatus
from tests.engine import guards
from tests.engine.lab import AT_ONCE, Lab

COLUMNS = (
    "task_run_id, run_id, task_id, queue_id, lane, position, schedule_timeout_ms,"
    " attempt, failures, losses"
)


def stopped(lab: Lab, *statements: str, match: str) -> None:
    """The statements, as one transaction, are refused by a guard."""

    def attempt() -> None:
        with lab.main.connection.transaction():
            for statement in statements:
                assert lab.main.connection.execute(statement.encode()).rowcount > 0

    with pytest.raises(psycopg.errors.RaiseException, match=match):
        attempt()


def test_a_task_run_cannot_lose_its_place(lab: Lab) -> None:
    lab.enqueue_one(lab.diamond())
    stopped(lab, "DELETE FROM orchestrator_queue_item", match=r"is in \{\}")
    stopped(lab, "DELETE FROM orchestrator_wait", match=r"is in \{\}")


def test_a_task_run_cannot_be_in_two_places(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    stopped(
        lab,
        f"INSERT INTO orchestrator_wait ({COLUMNS}, remaining)"
        f" SELECT {COLUMNS}, 1 FROM orchestrator_queue_item",
        match=r"is in \{QUEUED,PENDING\}",
    )


def test_a_queue_item_cannot_leave_its_coordinates(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    stopped(
        lab,
        "UPDATE orchestrator_queue_item SET position = position + 1",
        match=r"is in \{\}",
    )


def test_an_ended_task_run_has_no_place(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    stopped(
        lab,
        "UPDATE orchestrator_task_run SET status = 'CANCELLED', finished_at = now()",
        match=r"\(CANCELLED\) is in \{QUEUED\}",
    )


def test_a_task_run_cannot_skip_a_state(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    stopped(
        lab,
        "DELETE FROM orchestrator_queue_item",
        "UPDATE orchestrator_task_run SET status = 'COMPLETED', finished_at = now()",
        match="from QUEUED .* to COMPLETED",
    )


def test_what_has_ended_cannot_be_changed_or_reopened_in_silence(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    lab.main.drain()
    for table in ("run", "task_run"):
        stopped(
            lab,
            f"UPDATE orchestrator_{table} SET status = 'FAILED'",
            match="had ended and is changed",
        )
        stopped(
            lab,
            f"UPDATE orchestrator_{table} SET status = NULL, finished_at = NULL",
            match="without a new generation",
        )


def test_attempts_cannot_be_changed_or_deleted(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    lab.main.drain()
    for statement in (
        "UPDATE orchestrator_attempt SET outcome = 'FAILED'",
        "DELETE FROM orchestrator_attempt",
    ):
        stopped(lab, statement, match="attempt .* is changed")


def test_a_worker_cannot_come_back(lab: Lab) -> None:
    lab.main.sign_up()
    lab.main.connection.execute("UPDATE orchestrator_worker SET status = 'LOST'")
    stopped(
        lab,
        "UPDATE orchestrator_worker SET status = 'ACTIVE'",
        match="from LOST to ACTIVE",
    )


def test_moves_are_those_of_the_states() -> None:
    same = {(b, a) for kind, b, a in guards.moves() if kind == "same"}
    for before in TaskRunStatus:
        for after in TaskRunStatus:
            legal = after in TASK_RUN_TRANSITIONS[before]
            through_the_queue = (
                after == TaskRunStatus.RUNNING
                and TaskRunStatus.QUEUED in TASK_RUN_TRANSITIONS[before]
            )
            assert ((before, after) in same) == (legal or through_the_queue)
