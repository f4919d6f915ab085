"""The names of the API that are there, their async twins and their limits.

`test_api_names.py` has what they take.
"""

from __future__ import annotations

import dataclasses
import inspect
from datetime import timedelta
from typing import Any

import pytest

import orchestrator
from orchestrator import conf, events, exceptions, models, operations, testing
from orchestrator.conditions import WaitResult
from orchestrator.context import Context
from orchestrator.durable.context import DurableContext
from orchestrator.durable.tasks import DurableTarget
from orchestrator.runs import RunHandle
from orchestrator.targets import WorkflowTarget
from orchestrator.tasks import TaskTarget
from orchestrator.voices.lines import MAX_BYTES
from orchestrator.voices.voice import MAX_LINES
from tests.test_api_names import parameters

# Names that are there.

EXPORTED = """
    workflow task durable_task batch_task SleepCondition EventCondition ParentCondition
    Retry NonRetryable Idempotency Eviction Depends Context DurableContext WaitResult
    RunHandle UNCHANGED IdempotencyCollision BulkIdempotencyCollision RunFailed
    TaskFailed RunCancelled WaitingInTransaction NonDeterminism InvalidInput
    InvalidOutput InvalidDefinition IllegalTransition RunNotFound OrchestratorError
"""

ATTRIBUTES: dict[type, str] = {
    Context: """
        input output was_skipped errors run_id task_run_id workflow task version attempt
        metadata tenant priority event_id event_key filter_payload worker_id
        worker_labels lifespan is_cancelled check_cancelled cancel log progress stream
        refresh_timeout spawn spawn_many
    """,
    RunHandle: """
        id status status_reason refresh result cancel retry rerun branch stream logs
    """,
    models.Run: """
        id workflow version status status_reason generation input metadata tenant
        priority queue parent_task_run_id event_id idempotency_key created_at run_after
        started_at finished_at task_runs children
    """,
    models.TaskRun: """
        id run task name status status_reason output error attempts started_at
        finished_at timeline attempt_rows children
    """,
    models.Attempt: """
        id task_run number outcome worker_id started_at finished_at error
    """,
    models.Worker: """
        id name hostname pid status labels queues slots heartbeat_at
    """,
    models.BulkOperation: """
        id verb status total done failed problems wait is_finished
    """,
    orchestrator.TaskFailed: "task error_type message traceback",
    orchestrator.NonDeterminism: "position recorded asked",
    orchestrator.IdempotencyCollision: "run_id",
    orchestrator.BulkIdempotencyCollision: "created collisions",
    orchestrator.InvalidInput: "path",
    orchestrator.InvalidOutput: "path",
    WaitResult: "first",
}


def test_the_package_exports_them() -> None:
    assert set(orchestrator.__all__) == set(EXPORTED.split())


def words(kind: type) -> str:
    """What an instance has: by its class, or set when it is made."""
    made = [
        inspect.getsource(vars(base)["__init__"])
        for base in kind.__mro__
        if "orchestrator" in base.__module__ and "__init__" in vars(base)
    ]
    return "\n".join(made)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, names in ATTRIBUTES.items() for name in names.split()],
)
def test_a_name_is_there(kind: type, name: str) -> None:
    assert (
        hasattr(kind, name)
        or f"self.{name} = " in words(kind)
        or (f"self.{name}: " in words(kind))
    )


# Async twins.

TWINS: dict[Any, str] = {
    WorkflowTarget: "enqueue enqueue_many",
    TaskTarget: "enqueue enqueue_many",
    DurableTarget: "enqueue enqueue_many",
    RunHandle: "get refresh result cancel retry rerun branch stream logs",
    Context: "spawn spawn_many",
    DurableContext: """
        step sleep sleep_until now wait_for wait_for_event run run_many spawn spawn_many
    """,
    events: "push push_many",
    testing: "drain",
}


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, names in TWINS.items() for name in names.split()],
)
def test_a_call_has_an_async_twin_that_takes_the_same(owner: Any, name: str) -> None:
    twin = getattr(owner, f"a{name}")
    assert parameters(twin) == parameters(getattr(owner, name))
    if name != "stream":  # an iterator itself
        assert inspect.iscoroutinefunction(twin)


# Limits and times.

LIMITS = {
    "max_input_bytes": 1024 * 1024,
    "max_output_bytes": 1024 * 1024,
    "max_metadata_bytes": 64 * 1024,
    "max_error_bytes": 64 * 1024,
    "max_nesting": 64,
    "max_number_digits": 40,
    "heartbeat": timedelta(seconds=5),
    "lost_after": timedelta(seconds=30),
    "grace": timedelta(seconds=25),
    "lost_budget": 3,
    "poll_interval": timedelta(milliseconds=500),
    "listen": True,
    "lifespan": None,
    "execution_timeout": None,
    "schedule_timeout": None,
}


def test_limits_and_times_have_their_defaults() -> None:
    defaults = {
        field.name: field.default for field in dataclasses.fields(conf.Settings)
    }
    assert {name: defaults[name] for name in LIMITS} == LIMITS
    assert (MAX_BYTES, MAX_LINES) == (8 * 1024, 10_000)
    assert operations.LIMIT == 500  # runs that are changed at once


# What they do, where a signature does not say it.


def test_the_errors_of_a_run_are_a_group() -> None:
    one = orchestrator.TaskFailed("charge", "ValueError", "no", "Traceback …")
    group = orchestrator.RunFailed("Run failed.", [one])
    assert isinstance(group, ExceptionGroup)
    assert group.exceptions == (one,)
    assert group.errors == {"charge": one}
    assert (one.task, one.error_type, one.message) == (
        "charge",
        "ValueError",
        "no",
    )
    with pytest.raises(orchestrator.OrchestratorError):
        raise group


def test_every_error_is_the_orchestrators_own() -> None:
    for name in orchestrator.__all__:
        found = getattr(orchestrator, name)
        if isinstance(found, type) and issubclass(found, Exception):
            assert issubclass(found, exceptions.OrchestratorError), name


@pytest.mark.django_db
@pytest.mark.usefixtures("own_definitions")
def test_many_children_are_found_in_the_order_of_their_calls() -> None:
    @orchestrator.task
    def double(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return 2 * number

    @orchestrator.durable_task
    def all_of_them(ctx: DurableContext[None]) -> list[int]:
        return ctx.run_many([double.bind(n) for n in (5, 3, 4)], keys=["a", "c", "b"])

    @orchestrator.durable_task
    def with_a_failure(ctx: DurableContext[None]) -> list[str]:
        try:
            ctx.run_many(double.bind(n) for n in range(4))
        except orchestrator.RunFailed as failed:
            [error] = failed.exceptions
            assert isinstance(error, orchestrator.TaskFailed)
            return [error.task, error.error_type, error.message]
        return []

    handles = [all_of_them.enqueue(), with_a_failure.enqueue()]
    testing.drain()
    assert [RunHandle.get(str(handle.id)).result() for handle in handles] == [
        [10, 6, 8],
        ["double", "ValueError", "two"],
    ]


@pytest.mark.django_db
@pytest.mark.usefixtures("own_definitions")
def test_a_retry_takes_the_names_of_tasks_and_gives_up_a_journal() -> None:
    executed: list[str] = []
    wf = orchestrator.workflow("w")

    @wf.durable_task
    def one(ctx: DurableContext[None]) -> None:
        ctx.step(executed.append, "step", name="note")
        executed.append("one")

    @wf.task(parents=[one])
    def two(ctx: Context[None]) -> None:
        executed.append("two")

    handle = wf.enqueue()
    again: list[dict[str, Any]] = [
        {"tasks": ["two"]},
        {"tasks": "all"},
        {"tasks": "all", "keep_journal": False},
    ]
    testing.drain()
    seen = [executed[:]]
    for options in again:
        executed.clear()
        handle.retry(**options)
        testing.drain()
        seen.append(executed[:])
    assert seen == [
        ["step", "one", "two"],
        ["two"],
        ["one", "two"],
        ["step", "one", "two"],
    ]
    executed.clear()
    handle.branch("one", 1)
    testing.drain()
    assert executed == ["step", "one", "two"]
    assert handle.refresh().status == "COMPLETED"


def test_what_ended_a_wait_is_a_mapping_whose_first_is_named() -> None:
    result = WaitResult({"paid": {"number": 7}, "late": None})
    assert (result.first, result["paid"], dict(result)["late"]) == (
        "paid",
        {"number": 7},
        None,
    )
