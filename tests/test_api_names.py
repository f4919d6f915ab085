"""The names of the API, and what they take: a table, compared with the code.

A name, a kind or a default that changes here breaks what users have written.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_type_hints

import pytest

import orchestrator
from orchestrator import conf, events, exceptions, models, operations, testing
from orchestrator.batches import BatchOptions, BatchTask
from orchestrator.conditions import WaitResult
from orchestrator.context import Context
from orchestrator.durable.context import DurableContext
from orchestrator.durable.declare import DurableTask
from orchestrator.durable.tasks import CallKeywords, DurableOptions, DurableTarget
from orchestrator.operations import UNCHANGED
from orchestrator.runs import RunHandle
from orchestrator.targets import MISSING, WorkflowTarget
from orchestrator.tasks import StandaloneTask, TaskOptions, TaskTarget
from orchestrator.voices.lines import MAX_BYTES
from orchestrator.voices.voice import MAX_LINES
from orchestrator.workflows import WorkflowDefinition

# What stands in the signatures below.
NAMES = {
    "timedelta": timedelta,
    "UNCHANGED": UNCHANGED,
    "MISSING": MISSING,
    "AT_ONCE": orchestrator.Eviction(),
    "ANY": testing._ANY,
    "MOST": 10_000,
}

OF_A_NODE = (
    "name=None, parents=(), wait_for=None, skip_if=None, cancel_if=None, retries=0, "
    "execution_timeout=None, schedule_timeout=None, queue_name=None, slot_cost=1, "
    "isolated=False"
)
OF_A_WORKFLOW = (
    "description='', queue_name='default', priority=0, metadata=None, idempotency=None"
)
USING = (
    "*, priority=None, run_after=None, queue_name=None, metadata=None, tenant=None, "
    "idempotency_key=None, idempotency_scope=None"
)
PUSH = "key, payload=None, *, scope=None, metadata=None, priority=None, tenant=None"
LISTEN = "key, expression='true', *, scope=None, lookback=None"

SIGNATURES: dict[Callable[..., Any], str] = {
    # Declaring.
    orchestrator.workflow: f"name, *, input=None, {OF_A_WORKFLOW}, versioning='latest'",
    WorkflowDefinition.task: f"function=None, /, *, {OF_A_NODE}",
    orchestrator.SleepCondition: "duration, *, name=None",
    orchestrator.EventCondition: f"{LISTEN}, name=None",
    orchestrator.ParentCondition: "parent, expression='true', *, name=None",
    orchestrator.Retry: (
        "attempts, *, initial=timedelta(seconds=1), factor=2, "
        "max=timedelta(minutes=10), jitter=True"
    ),
    orchestrator.Idempotency: "expression, *, ttl, until='expired', scope=None",
    orchestrator.Eviction: "ttl=timedelta(0), *, capacity=True, priority=0",
    orchestrator.Depends: "function",
    # Calling.
    WorkflowTarget.using: USING,
    TaskTarget.using: USING,
    WorkflowTarget.enqueue: "input=MISSING",
    WorkflowTarget.bind: "input=MISSING",
    WorkflowTarget.enqueue_many: "inputs",
    TaskTarget.enqueue_many: "calls",
    DurableTarget.enqueue: "input=MISSING",
    DurableTarget.bind: "input=MISSING",
    DurableTarget.enqueue_many: "inputs",
    RunHandle.get: "id",
    RunHandle.refresh: "",
    RunHandle.result: "timeout=None",
    RunHandle.cancel: "reason='', *, children=True",
    RunHandle.retry: "tasks='failed', *, keep_journal=True",
    RunHandle.rerun: "input=UNCHANGED",
    RunHandle.branch: "task, position",
    RunHandle.stream: "",
    RunHandle.logs: "*, task=None, limit=MOST",
    events.push: PUSH,
    events.Event: PUSH,
    events.push_many: "events",
    # In a task.
    Context.output: "parent",
    Context.was_skipped: "parent",
    Context.check_cancelled: "",
    Context.cancel: "reason=''",
    Context.log: "message, level='INFO', **fields",
    Context.progress: "done, total=None, message=''",
    Context.stream: "chunk",
    Context.refresh_timeout: "more",
    Context.spawn: "target, input=MISSING, *, key=None",
    Context.spawn_many: "calls, keys=None",
    DurableContext.step: "function, /, *args, **kwargs",
    DurableContext.sleep: "duration",
    DurableContext.sleep_until: "moment",
    DurableContext.now: "",
    DurableContext.wait_for: "condition",
    DurableContext.wait_for_event: LISTEN,
    DurableContext.run: "target, input=MISSING, *, key=None",
    DurableContext.run_many: "calls, keys=None",
    # Errors.
    orchestrator.TaskFailed: "task, error_type, message, traceback=''",
    orchestrator.NonDeterminism: "position, recorded, asked",
    orchestrator.BulkIdempotencyCollision: "created, collisions",
    # Operating.
    operations.cancel_runs: "filter, *, reason, actor=None, children=True, key=None",
    operations.retry_runs: (
        "filter, *, tasks='failed', keep_journal=True, reason='', actor=None, key=None"
    ),
    operations.rerun_runs: (
        "filter, *, input=UNCHANGED, reason='', actor=None, key=None"
    ),
    operations.reprioritise_runs: (
        "filter, *, priority, reason='', actor=None, key=None"
    ),
    operations.cancel_run: "run_id, *, reason='', actor=None, children=True",
    operations.retry_run: (
        "run_id, *, tasks='failed', keep_journal=True, reason='', actor=None"
    ),
    operations.rerun_run: "run_id, *, input=UNCHANGED, reason='', actor=None",
    operations.branch_run: "run_id, task, position, *, reason='', actor=None",
    operations.stop_bulk: "operation, actor=None, *, reason=''",
    operations.RunFilter: (
        "*, ids=None, workflows=None, statuses=None, queues=None, metadata=None, "
        "tenant=None, since=None, until=None"
    ),
    # Testing.
    testing.drain: "*, limit=None, lifespan=ANY",
    testing.travel: "to",
    testing.assert_enqueued: "target, *, input=ANY, count=None",
}


def parameters(function: Callable[..., Any]) -> list[tuple[str, str, Any]]:
    """Names, kinds and defaults, without `self`."""
    return [
        (parameter.name, parameter.kind.name, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]


def written(text: str) -> list[tuple[str, str, Any]]:
    return parameters(eval(f"lambda {text}: None", dict(NAMES)))


@pytest.mark.parametrize(
    "function", SIGNATURES, ids=[function.__qualname__ for function in SIGNATURES]
)
def test_a_signature_is_as_it_was_promised(function: Callable[..., Any]) -> None:
    assert parameters(function) == written(SIGNATURES[function])


# Decorators whose options are given by name, and by a class that checks them.

OPTIONS: dict[type, tuple[Any, str]] = {
    StandaloneTask: (
        TaskOptions,
        f"function, *, takes_context=False, name=None, {OF_A_WORKFLOW}, wait_for=None, "
        "skip_if=None, cancel_if=None, retries=0, execution_timeout=None, "
        "schedule_timeout=None, slot_cost=1, isolated=False",
    ),
    BatchTask: (
        BatchOptions,
        "function, *, max_size, max_interval=None, group_key=None, "
        f"group_max_runs=None, broadcast=False, name=None, {OF_A_WORKFLOW}, **options",
    ),
}


@pytest.mark.parametrize("kind", OPTIONS, ids=[kind.__name__ for kind in OPTIONS])
def test_a_decorator_takes_these_options(kind: type) -> None:
    options, text = OPTIONS[kind]
    assert parameters(kind) == written(text)
    own = {"function", "options", "takes_context", *("max_size", "max_interval")}
    own |= {"group_key", "group_max_runs", "broadcast"}
    taken = {name for name, *_ in parameters(kind)} - own
    assert taken <= get_type_hints(options).keys()


def test_a_durable_task_takes_what_a_task_takes_and_its_eviction() -> None:
    options = get_type_hints(DurableOptions).keys()
    assert options == {*get_type_hints(TaskOptions), "eviction"}
    [eviction] = [each for each in parameters(DurableTask) if each[0] == "eviction"]
    assert eviction[2] == orchestrator.Eviction()
    assert get_type_hints(CallKeywords).keys() == {name for name, *_ in written(USING)}


def every(text: str) -> dict[str, Any]:
    """A signature's options with their defaults."""
    return {
        name: default
        for name, kind, default in written(text)
        if kind == "KEYWORD_ONLY" and default is not inspect.Parameter.empty
    }


@pytest.mark.usefixtures("own_definitions")
def test_decorators_of_a_workflow_take_their_options_with_and_without_parentheses() -> (
    None
):
    wf = orchestrator.workflow("w", **every(SIGNATURES[orchestrator.workflow]))
    of_a_node = every(f"*, {OF_A_NODE}")

    @wf.task(**of_a_node)
    def first(ctx: Context[None]) -> None: ...

    @wf.durable_task(**of_a_node, eviction=None)
    def second(ctx: DurableContext[None]) -> None: ...

    @wf.task
    def third(ctx: Context[None]) -> None: ...

    @wf.durable_task
    def fourth(ctx: DurableContext[None]) -> None: ...

    @wf.on_failure
    def tell(ctx: Context[None]) -> None: ...

    @wf.on_success(retries=3, execution_timeout=timedelta(seconds=1))
    def thank(ctx: Context[None]) -> None: ...

    assert list(wf.tasks) == ["first", "second", "third", "fourth", "tell", "thank"]


@pytest.mark.usefixtures("own_definitions")
def test_decorators_of_standalone_tasks_take_their_options() -> None:
    of_a_task = every(f"*, {OPTIONS[StandaloneTask][1].removeprefix('function, *, ')}")

    takes: Any = orchestrator.task(**of_a_task | {"name": "one"})
    one = takes(lambda: None)

    of_a_task.pop("takes_context")

    @orchestrator.durable_task(input=dict, eviction=None, **of_a_task)
    def two(ctx: DurableContext[dict[str, Any]]) -> None: ...

    @orchestrator.batch_task(
        max_size=2, max_interval=None, group_key=None, group_max_runs=None, name="three"
    )
    def batch(inputs: dict[str, int]) -> dict[str, int]:
        return inputs

    assert [each.name for each in (one, two, batch)] == ["one", "two", "three"]


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


def test_what_ended_a_wait_is_a_mapping_whose_first_is_named() -> None:
    result = WaitResult({"paid": {"number": 7}, "late": None})
    assert (result.first, result["paid"], dict(result)["late"]) == (
        "paid",
        {"number": 7},
        None,
    )
