"""The status of runs and task runs, wherever the live tables have them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.engine.cancel import cancel
from orchestrator.engine.give_back import give_back
from orchestrator.engine.retry import retry
from orchestrator.models import Attempt, Run, TaskRun
from orchestrator.states import RunStatus, TaskRunStatus
from tests.engine.lab import AT_ONCE, LATER, Lab, task


def nothing(lab: Lab, run_id: UUID) -> None:
    """The run stays as it was enqueued."""


def claimed(lab: Lab, run_id: UUID) -> None:
    lab.main.claim_one()


def between(lab: Lab, run_id: UUID) -> None:
    lab.main.complete(lab.main.claim_one())


def failing(lab: Lab, run_id: UUID) -> None:
    lab.main.fail(lab.main.claim_one())


def drained(lab: Lab, run_id: UUID) -> None:
    lab.main.drain()


def cancelled(lab: Lab, run_id: UUID) -> None:
    cancel(lab.session, [run_id], reason="stop")


def reopened(lab: Lab, run_id: UUID) -> None:
    drained(lab, run_id)
    retry(lab.session, run_id, tasks="all")


def given_back(lab: Lab, run_id: UUID) -> None:
    claim = lab.main.claim_one()
    held = [(claim.run_id, claim.task_run_id, claim.attempt)]
    give_back(lab.session, lab.main.worker_id, held)


Step = Callable[[Lab, UUID], None]
CHAIN = ["a", task("b", "a")]

# How a run is made, what happens to it, what it then is, and what its tasks are.
CASES: dict[str, tuple[dict[str, Any], Step, str, list[str]]] = {
    "queued": ({}, nothing, "QUEUED", ["QUEUED"]),
    "executed": ({}, claimed, "RUNNING", ["RUNNING"]),
    "given back": ({}, given_back, "QUEUED", ["QUEUED"]),
    "completed": ({}, drained, "COMPLETED", ["COMPLETED"]),
    "failed": ({}, failing, "FAILED", ["FAILED"]),
    "cancelled": ({}, cancelled, "CANCELLED", ["CANCELLED"]),
    "backing off": ({"retries": LATER}, failing, "RUNNING", ["BACKOFF"]),
    "queued again": ({"retries": AT_ONCE}, failing, "RUNNING", ["QUEUED"]),
    "reopened": ({}, reopened, "RUNNING", ["QUEUED"]),
    "a graph that waits": (
        {"tasks": CHAIN},
        nothing,
        "QUEUED",
        ["QUEUED", "PENDING"],
    ),
    "a graph that began": (
        {"tasks": CHAIN},
        claimed,
        "RUNNING",
        ["RUNNING", "PENDING"],
    ),
    "a graph between two tasks": (
        {"tasks": CHAIN},
        between,
        "RUNNING",
        ["COMPLETED", "QUEUED"],
    ),
    "a graph of which a task failed": (
        {"tasks": CHAIN},
        failing,
        "FAILED",
        ["FAILED", "CANCELLED"],
    ),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(lab: Lab, request: pytest.FixtureRequest) -> tuple[UUID, str, list[str]]:
    """A run among others, and what it and its tasks ought to be."""
    options, step, status, tasks = CASES[request.param]
    shape = lab.shape("w", *options.get("tasks", [task("only", **options)]))
    run_id = lab.enqueue_one(shape, priority=50)
    step(lab, run_id)
    # Others in every other state, which must not be taken for it.
    lab.enqueue(lab.shape("others"), 2)
    lab.enqueue(lab.shapes[-1], run_after=datetime.now(UTC) + timedelta(hours=1))
    return run_id, status, tasks


def test_a_row_knows_its_status(case: tuple[UUID, str, list[str]]) -> None:
    run_id, status, tasks = case
    run = Run.objects.get(pk=run_id)
    assert run.status == status
    assert [task_run.status for task_run in run.task_runs()] == tasks


def test_rows_of_a_list_know_it_without_another_query(
    case: tuple[UUID, str, list[str]], django_assert_num_queries: Any
) -> None:
    run_id, status, tasks = case
    with django_assert_num_queries(1):
        runs = list(Run.objects.with_live_status())
        found = {run.pk: run.status for run in runs}
    assert found[run_id] == status
    assert len(found) == 4
    with django_assert_num_queries(1):
        rows = TaskRun.objects.with_live_status().filter(run_id=run_id)
        assert [row.status for row in rows.order_by("ordinal")] == tasks


def test_a_filter_finds_it_by_that_status_and_no_other(
    case: tuple[UUID, str, list[str]],
) -> None:
    run_id, status, tasks = case
    for wanted in RunStatus:
        found = Run.objects.with_status(wanted).values_list("pk", flat=True)
        assert (run_id in found) == (wanted == status)
    others = [wanted for wanted in RunStatus if wanted != status]
    assert run_id not in Run.objects.with_status(*others).values_list("pk", flat=True)
    assert run_id in Run.objects.with_status(*RunStatus).values_list("pk", flat=True)
    for wanted_task in TaskRunStatus:
        ordinals = TaskRun.objects.with_status(wanted_task).filter(run_id=run_id)
        assert list(ordinals.order_by("ordinal").values_list("ordinal", flat=True)) == [
            n for n, name in enumerate(tasks) if name == wanted_task
        ]


def test_the_statuses_part_all_runs_among_them(lab: Lab) -> None:
    shape = lab.shape("w", task("a", retries=LATER), "b", task("c", "a", "b"))
    lab.enqueue(shape, 12)
    claims = lab.main.claim(9)
    lab.main.exchange(
        [lab.completed(c) if n % 2 else lab.failed(c) for n, c in enumerate(claims)]
    )
    counts = [Run.objects.with_status(status).count() for status in RunStatus]
    assert sum(counts) == Run.objects.count() == 12
    counts = [TaskRun.objects.with_status(status).count() for status in TaskRunStatus]
    assert sum(counts) == TaskRun.objects.count() == 36


def test_a_filter_can_be_narrowed_and_paged(lab: Lab) -> None:
    one, two = lab.shape("one"), lab.shape("two")
    lab.enqueue(one, 3)
    lab.enqueue(two, 3)
    lab.main.claim(4)
    running = Run.objects.with_status("RUNNING").filter(workflow_id=one.workflow_id)
    assert running.count() == 3
    assert len(running.with_live_status()[:2]) == 2
    assert (
        Run.objects.with_status("RUNNING").exclude(workflow_id=one.workflow_id).count()
        == 1
    )


def test_no_status_is_no_run(lab: Lab) -> None:
    lab.enqueue_one(lab.shape("one"))
    assert not Run.objects.with_status().exists()
    assert not TaskRun.objects.with_status().exists()
    assert not TaskRun.objects.with_status("WAITING").exists()


def test_the_unfinished_are_those_without_an_outcome(lab: Lab) -> None:
    shape = lab.shape("one")
    lab.enqueue_one(shape)
    lab.main.drain()
    [open_run] = lab.enqueue(shape)
    assert [run.pk for run in Run.objects.unfinished()] == [open_run]


# What belongs to a run is found by computed keys.


def test_task_runs_are_found_in_the_order_of_the_workflow(
    lab: Lab, django_assert_num_queries: Any
) -> None:
    run_id, _ = lab.enqueue(lab.diamond(), 2)
    run = Run.objects.get(pk=run_id)
    with django_assert_num_queries(2):  # the shape, and the rows
        rows = list(run.task_runs())
    assert [row.ordinal for row in rows] == [0, 1, 2, 3]
    assert {row.run_id for row in rows} == {run_id}
    assert [row.name for row in rows] == ["a", "b", "c", "d"]


def message(task_run: TaskRun) -> str | None:
    error = task_run.error
    return error["message"] if error else None


def test_attempts_are_found_while_the_task_goes_on(lab: Lab) -> None:
    shape = lab.shape("one", retries={**AT_ONCE, "attempts": 3})
    run_id = lab.enqueue_one(shape)
    task_run = Run.objects.get(pk=run_id).task_runs().get()
    assert (list(task_run.attempt_rows()), message(task_run)) == ([], None)
    for number in range(1, 3):
        lab.main.fail(lab.main.claim_one(), message=f"no. {number}")
        assert [a.number for a in task_run.attempt_rows()] == list(range(1, number + 1))
        assert message(task_run) == f"no. {number}"
    lab.main.claim_one()
    assert [a.number for a in task_run.attempt_rows()] == [1, 2]


def test_attempts_of_a_backoff_and_of_an_ended_task_are_found(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=LATER))
    lab.main.fail(lab.main.claim_one())
    task_run = Run.objects.get(pk=run_id).task_runs().get()
    assert [a.outcome for a in task_run.attempt_rows()] == ["FAILED"]
    cancel(lab.session, [run_id], reason="stop")
    task_run.refresh_from_db()
    assert [a.outcome for a in task_run.attempt_rows()] == ["FAILED"]
    assert task_run.attempt_rows(last=1).count() == 1


def test_attempts_of_a_run_that_waits_again_are_found(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("chain", "a", task("b", "a")))
    lab.main.drain()
    retry(lab.session, run_id, tasks="all")
    for task_run in Run.objects.get(pk=run_id).task_runs():
        assert [a.outcome for a in task_run.attempt_rows()] == ["COMPLETED"]


def test_metadata_is_found_by_what_it_contains(lab: Lab) -> None:
    shape = lab.shape("one")
    lab.enqueue(shape, metadata='{"user": 7, "tags": ["a", "b"]}')
    lab.enqueue(shape, metadata='{"user": 8}')
    lab.enqueue(shape)
    assert Run.objects.metadata_contains({"user": 7}).count() == 1
    assert Run.objects.metadata_contains({"tags": ["b"]}).count() == 1
    assert Run.objects.metadata_contains({"user": 9}).count() == 0
    assert Run.objects.metadata_contains({}).count() == 2


def test_rows_say_what_they_are(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one"))
    lab.main.drain()
    assert str(Run.objects.get()) == str(run_id)
    assert str(Attempt.objects.get()) == "attempt 1"
    assert str(TaskRun.objects.get()) == str(TaskRun.objects.get().pk)
