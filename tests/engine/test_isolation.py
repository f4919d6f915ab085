"""Callers whose transactions are stricter than the engine's (reliability F35).

What they enqueue is enqueued. Where the run has moved since their snapshot, they are
told to try again, and nothing of what they asked for is done by half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator.engine.cancel import cancel
from orchestrator.engine.claim import Claim
from orchestrator.engine.enqueue import enqueue
from orchestrator.engine.promote import promote
from orchestrator.engine.reprioritise import reprioritise
from orchestrator.engine.retry import retry
from orchestrator.engine.sessions import Session, WorkerSession
from tests.engine.lab import LATER, Lab, task

LEVELS = [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE]


@pytest.fixture(params=LEVELS, ids=lambda level: level.name.lower())
def strict(lab: Lab, request: pytest.FixtureRequest) -> Iterator[WorkerSession]:
    connection = lab.connect()
    connection.isolation_level = request.param
    yield WorkerSession(connection)
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED


def test_what_is_enqueued_is_enqueued(lab: Lab, strict: WorkerSession) -> None:
    shapes = [lab.shape("one"), lab.diamond()]
    with strict.transaction():
        for shape in shapes:
            enqueue(strict, shape, ["1"] * 300)
    assert lab.main.drain() == 300 + 1_200


def test_a_run_at_rest_can_be_cancelled_moved_and_retried(
    lab: Lab, strict: WorkerSession
) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    with strict.transaction():
        assert reprioritise(strict, [run_id], 7) == 1
        assert cancel(strict, [run_id], reason="stop") == [run_id]
    with strict.transaction():
        assert retry(strict, run_id) == 4
    assert lab.main.drain() == 4
    assert lab.violations(at_rest=True) == []


def claim(lab: Lab, claims: list[Claim]) -> None:
    lab.main.claim_one()


def settle(lab: Lab, claims: list[Claim]) -> None:
    lab.main.complete(*claims)


def fail(lab: Lab, claims: list[Claim]) -> None:
    lab.main.fail(*claims)


def come_due(lab: Lab, claims: list[Claim]) -> None:
    lab.main.travel(hours=1)
    assert promote(lab.session) == 1


Move = Callable[[Lab, list[Claim]], None]

# Whether the run is for later, whether its first task is held, and what then happens.
MOVES: dict[str, tuple[bool, bool, Move]] = {
    "claimed": (False, False, claim),
    "settled": (False, True, settle),
    "backing off": (False, True, fail),
    "due": (True, False, come_due),
}
VERBS: dict[str, Callable[[Session, UUID], Any]] = {
    "cancel": lambda session, run_id: cancel(session, [run_id], reason=""),
    "reprioritise": lambda session, run_id: reprioritise(session, [run_id], 9),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("move", MOVES)
def test_a_run_that_moved_meanwhile_is_left_alone(
    lab: Lab, strict: WorkerSession, verb: str, move: str
) -> None:
    delayed, held, happen = MOVES[move]
    later = datetime.now(UTC) + timedelta(minutes=1) if delayed else None
    shape = lab.shape("w", task("a", retries=LATER), task("b", "a"))
    run_id = lab.enqueue_one(shape, run_after=later)
    claims = lab.main.claim(1) if held else []

    def try_it() -> None:
        with strict.transaction():
            strict.fetch(b"SELECT count(*) FROM orchestrator_run", {})
            happen(lab, claims)
            VERBS[verb](strict, run_id)

    with pytest.raises(psycopg.errors.SerializationFailure):
        try_it()
    places = lab.places(run_id)
    assert places["a" if move != "settled" else "b"] in ("leased", "queued", "backoff")
    for table in ("queue_item", "wait", "lease", "delayed_item", "task_run"):
        for [position] in lab.rows(f"SELECT position FROM orchestrator_{table}"):
            assert 100 - (position >> 55) == 0
    assert lab.status(run_id) != "CANCELLED"
    # The second try sees the run as it is.
    with strict.transaction():
        VERBS[verb](strict, run_id)
