"""The names of the API, and what they take: a table, compared with the code.

A name, a kind or a default that changes here breaks what users have written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_type_hints

import pytest

import orchestrator
from orchestrator import events, operations, testing
from orchestrator.batches import BatchOptions, BatchTask
from orchestrator.context import Context
from orchestrator.durable.context import DurableContext
from orchestrator.durable.declare import DurableTask
from orchestrator.durable.tasks import CallKeywords, DurableOptions, DurableTarget
from orchestrator.operations import UNCHANGED
from orchestrator.runs import RunHandle
from orchestrator.targets import MISSING, WorkflowTarget
from orchestrator.tasks import StandaloneTask, TaskOptions, TaskTarget
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
    testing.said: "ctx",
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
@pytest.mark.parametrize(
    ("decorator", "wrong", "meant"),
    [
        ("durable_task", {"retires": 3}, "did you mean 'retries'"),
        ("durable_task", {"handles": "failure"}, "use name, parents"),
        ("on_failure", {"parents": []}, "use name, retries"),
        ("on_success", {"retry": 3}, "did you mean 'retries'"),
    ],
)
def test_a_decorator_refuses_what_is_no_option_of_its(
    decorator: str, wrong: dict[str, Any], meant: str
) -> None:
    wf = orchestrator.workflow("w")
    with pytest.raises(TypeError, match=f"@{decorator} has no option .*{meant}"):
        getattr(wf, decorator)(**wrong)


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
