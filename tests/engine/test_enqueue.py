"""Enqueue: runs with all their task runs in their places, in the caller's transaction.

Covers reliability F90 (rollback leaves nothing, nothing seen before the commit).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import transaction

from orchestrator import ids
from orchestrator.engine import enqueue, sessions
from orchestrator.engine.shapes import queue_id
from tests.engine.lab import Lab, task
from tests.engine.pool import rolled_back

TABLES = (
    "run",
    "task_run",
    "attempt",
    "queue_item",
    "delayed_item",
    "lease",
    "wait",
    "open_run",
    "deadline",
)


def counts(lab: Lab) -> dict[str, int]:
    return {table: n for table in TABLES if (n := lab.count(table))}


def soon(**delta: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


def test_one_run_of_one_task_is_three_rows(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    assert counts(lab) == {"run": 1, "task_run": 1, "queue_item": 1}
    assert lab.status(run_id) == "QUEUED"
    run = lab.run(run_id)
    assert (run["status"], run["generation"], run["started_at"]) == (None, 1, None)


def test_what_the_caller_says_is_kept(lab: Lab) -> None:
    shape = lab.shape("one")
    [run_id] = lab.enqueue(
        shape, ['{"x": 1}'], priority=7, metadata='{"user": "7"}', tenant="acme"
    )
    run = lab.run(run_id)
    assert run["input"] == {"x": 1}
    assert run["metadata"] == {"user": "7"}
    assert (run["priority"], run["tenant"]) == (7, "acme")
    assert (run["workflow_id"], run["version_id"]) == (
        shape.workflow_id,
        shape.version_id,
    )
    [claim] = lab.main.claim()
    assert (claim.input, claim.metadata) == ('{"x": 1}', '{"user": "7"}')
    assert (claim.priority, claim.tenant, claim.attempt) == (7, "acme", 1)


def test_a_graph_has_every_task_run_from_the_start(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    assert lab.places(run_id) == {
        "a": "queued",
        "b": "pending",
        "c": "pending",
        "d": "pending",
    }
    remaining = lab.rows("SELECT remaining FROM orchestrator_wait ORDER BY position")
    assert remaining == [(1,), (1,), (2,)]
    assert lab.rows("SELECT remaining FROM orchestrator_open_run") == [(4,)]
    assert lab.status(run_id) == "QUEUED"


def test_many_runs_come_back_in_the_order_of_their_inputs(lab: Lab) -> None:
    shape = lab.shape("one")
    run_ids = lab.enqueue(shape, [str(n) for n in range(2_500)])
    assert len(set(run_ids)) == 2_500
    stored = dict(lab.rows("SELECT id, input FROM orchestrator_run"))
    assert [stored[run_id] for run_id in run_ids] == list(range(2_500))
    claims = lab.main.claim(2_500)
    assert sorted(int(claim.input) for claim in claims) == list(range(2_500))


def test_many_graphs_are_cut_into_statements_and_stay_whole(lab: Lab) -> None:
    lab.enqueue(lab.diamond(), 600)
    assert lab.count("task_run") == 2_400
    assert lab.count("wait") == 1_800
    assert lab.count("queue_item") == 600


def test_many_fail_together_where_one_input_is_no_json(lab: Lab) -> None:
    shape = lab.shape("one")
    texts = ["1"] * 2_400 + ["{"]
    with pytest.raises(Exception, match="json"):
        lab.enqueue(shape, texts)
    assert counts(lab) == {}


@pytest.mark.parametrize("text", ["1, 2", "1], [2", "", "{"])
def test_an_input_that_is_not_one_json_value_is_refused(lab: Lab, text: str) -> None:
    """It would shift the inputs of the runs beside it."""
    shape = lab.shape("one")
    for texts in ([text], ["1", text, "3"], ["1"] * 600 + [text]):
        with pytest.raises(psycopg.Error):
            lab.enqueue(shape, texts)
    assert counts(lab) == {}


def test_none_at_all_is_fine(lab: Lab) -> None:
    assert lab.enqueue(lab.shape("one"), []) == []
    assert counts(lab) == {}


def test_a_graph_of_more_tasks_than_a_statement_takes_runs(lab: Lab) -> None:
    names = [f"t{n}" for n in range(1_200)]
    shape = lab.shape("wide", *[task(name) for name in names])
    run_id = lab.enqueue_one(shape)
    claims = lab.main.claim(2_000)
    assert len(claims) == 1_200
    lab.main.complete(*claims)
    assert lab.status(run_id) == "COMPLETED"


def test_run_after_keeps_roots_out_of_the_queue(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.diamond(), run_after=soon(hours=1))
    assert lab.places(run_id) == {
        "a": "scheduled",
        "b": "pending",
        "c": "pending",
        "d": "pending",
    }
    assert lab.main.claim() == []
    assert lab.status(run_id) == "QUEUED"


def test_run_after_in_the_past_is_now(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"), run_after=soon(seconds=-5))
    assert lab.places(run_id) == {"one": "queued"}


def test_run_after_is_judged_by_the_movable_clock(lab: Lab) -> None:
    shape = lab.shape("one")
    lab.main.travel(hours=2)
    run_id = lab.enqueue_one(shape, run_after=soon(hours=1))
    assert lab.places(run_id) == {"one": "queued"}


def test_equal_priorities_are_first_in_first_out(lab: Lab) -> None:
    shape = lab.shape("one")
    for number in range(5):
        lab.enqueue(shape, [str(number)])
    lab.enqueue(shape, [str(number) for number in range(5, 10)])
    order = [int(lab.main.claim_one().input) for _ in range(10)]
    assert order == list(range(10))


def test_larger_priorities_come_first(lab: Lab) -> None:
    shape = lab.shape("one")
    for priority in (0, -100, 100, 1, -1):
        lab.enqueue(shape, [str(priority)], priority=priority)
    order = [int(lab.main.claim_one().input) for _ in range(5)]
    assert order == [100, 1, 0, -1, -100]


def test_a_queue_name_overrides_that_of_every_task(lab: Lab) -> None:
    shape = lab.shape("mixed", task("a", queue_name="slow"), "b")
    usual = lab.enqueue_one(shape)
    moved = lab.enqueue_one(shape, queue_name="other")
    rows = lab.rows(
        "SELECT run_id, array_agg(queue_id ORDER BY ordinal) FROM orchestrator_task_run"
        " GROUP BY run_id"
    )
    assert dict(rows) == {
        usual: [queue_id("slow"), queue_id("default")],
        moved: [queue_id("other")] * 2,
    }
    assert lab.run(moved)["queue_id"] == queue_id("other")


def test_ids_are_a_family_and_lie_at_the_databases_time(lab: Lab) -> None:
    shape = lab.diamond()
    before = lab.value("SELECT extract(epoch FROM clock_timestamp()) * 1000")
    run_id = lab.enqueue_one(shape)
    after = lab.value("SELECT extract(epoch FROM clock_timestamp()) * 1000")
    assert run_id.version == 7
    assert float(before) - 5 <= ids.milliseconds_of(run_id) <= float(after) + 5
    keys = [row[0] for row in lab.rows("SELECT id FROM orchestrator_task_run")]
    assert set(keys) == {ids.task_run_id(run_id, n) for n in range(4)}
    assert {key.int >> 80 for key in keys} == {run_id.int >> 80}
    lab.main.drain()
    for [attempt] in lab.rows("SELECT id FROM orchestrator_attempt"):
        assert attempt.int >> 80 == run_id.int >> 80


def test_a_travelling_clock_does_not_move_ids(lab: Lab) -> None:
    shape = lab.shape("one")
    lab.main.travel(days=400)
    run_id = lab.enqueue_one(shape)
    now = lab.value("SELECT extract(epoch FROM clock_timestamp()) * 1000")
    assert abs(ids.milliseconds_of(run_id) - float(now)) < 60_000
    assert lab.run(run_id)["created_at"] > datetime.now(UTC) + timedelta(days=399)


def test_a_rollback_leaves_nothing(lab: Lab) -> None:
    shapes = [lab.shape("one", schedule_timeout=60), lab.diamond()]
    with rolled_back(lab.session.transaction()):
        for shape in shapes:
            lab.enqueue(shape, 3)
            lab.enqueue(shape, 3, run_after=soon(hours=1))
    assert counts(lab) == {}


def test_nothing_is_seen_before_the_commit(lab: Lab) -> None:
    shape = lab.shape("one")
    other = lab.hand()
    with lab.session.transaction():
        run_id = lab.enqueue_one(shape)
        assert other.claim() == []
        assert other.connection.execute(
            "SELECT count(*) FROM orchestrator_run"
        ).fetchone() == (0,)
    assert [claim.run_id for claim in other.claim()] == [run_id]


def test_a_savepoint_takes_back_its_own_runs_alone(lab: Lab) -> None:
    shape = lab.shape("one")
    with lab.session.transaction():
        kept = lab.enqueue_one(shape)
        with rolled_back(lab.session.joined()):
            lab.enqueue(shape, 1_500)
    assert lab.rows("SELECT id FROM orchestrator_run") == [(kept,)]
    assert lab.count("queue_item") == 1


def test_djangos_atomic_is_the_callers_transaction(lab: Lab) -> None:
    shape = lab.shape("one")
    session = sessions.django_session()
    with transaction.atomic():
        [kept] = enqueue.enqueue(session, shape, ["1"])
        with rolled_back(transaction.atomic()):
            enqueue.enqueue(session, shape, ["2"] * 1_200)
        rows = session.fetch(b"SELECT id FROM orchestrator_run", {})
        assert rows == [(kept,)]
    # The test's own transaction has not committed: workers see nothing.
    assert lab.count("run") == 0


def test_a_schedule_timeout_gives_what_is_queued_a_deadline(lab: Lab) -> None:
    shape = lab.diamond(schedule_timeout=1.5)
    run_id = lab.enqueue_one(shape)
    [(task_run_id, seconds)] = lab.rows(
        "SELECT d.task_run_id, extract(epoch FROM d.expires_at - r.created_at)::float8"
        " FROM orchestrator_deadline d JOIN orchestrator_run r ON r.id = d.run_id"
    )
    assert (task_run_id, seconds) == (ids.task_run_id(run_id, 0), 1.5)


def test_a_scheduled_run_has_no_deadline_yet(lab: Lab) -> None:
    shape = lab.shape("one", schedule_timeout=1)
    lab.enqueue(shape, run_after=soon(hours=1))
    assert lab.count("deadline") == 0
