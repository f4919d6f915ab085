from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from orchestrator import (
    Context,
    InvalidDefinition,
    Retry,
    registry,
    task,
    workflow,
)

pytestmark = pytest.mark.usefixtures("own_definitions")


@dataclass(frozen=True)
class Shelf:
    path: str
    copies: int = 1


def make(name: str = "index", **options: Any) -> Any:
    wf = workflow(name, input=Shelf, **options)

    @wf.task
    def discover(ctx: Context[Shelf]) -> int:
        return 1

    @wf.task(parents=[discover])
    def report(ctx: Context[Shelf]) -> int:
        return 2

    return wf


def test_a_task_is_declared_with_and_without_parentheses() -> None:
    wf = workflow("w")

    @wf.task
    def a(ctx: Context[None]) -> None: ...

    @wf.task()
    def b(ctx: Context[None]) -> None: ...

    @wf.task(name="third", parents=[a, b], retries=3, isolated=True)
    def c(ctx: Context[None]) -> None: ...

    assert [task.name for task in wf.tasks.values()] == ["a", "b", "third"]
    assert (a.ordinal, b.ordinal, c.ordinal) == (0, 1, 2)
    assert c.parents == (a, b)
    assert c.retries == Retry(3, initial=timedelta(0))
    assert c.isolated


def test_the_shape_has_every_option() -> None:
    wf = workflow("w", queue_name="docs", priority=7, description="Words.")

    @wf.task
    async def a(ctx: Context[None]) -> None: ...

    @wf.task(
        parents=[a],
        retries=Retry(2),
        execution_timeout=timedelta(minutes=1),
        schedule_timeout=timedelta(seconds=1.5),
        queue_name="slow",
        slot_cost=2,
    )
    def b(ctx: Context[None]) -> None: ...

    first, second = wf.shape.tasks
    assert (first.queue_name, second.queue_name) == ("docs", "slow")
    assert second.parents == (0,)
    assert second.retries == Retry(2)
    assert (second.execution_timeout, second.schedule_timeout) == (60.0, 1.5)
    assert second.slot_cost == 2
    assert (first.execution_timeout, first.schedule_timeout) == (None, None)
    assert wf.shape.data["priority"] == 7
    assert a.is_async
    assert not b.is_async


def test_the_digest_follows_the_shape_and_not_the_words() -> None:
    with registry.isolated():
        plain = make().shape
    with registry.isolated():
        described = make(description="Other words.").shape
    with registry.isolated():
        changed = make(queue_name="other").shape
    assert plain.digest == described.digest
    assert plain.digest != changed.digest
    assert plain.workflow_id == changed.workflow_id


def test_a_task_added_later_is_part_of_the_shape() -> None:
    wf = make()
    before = wf.shape
    wf.task(name="later")(lambda ctx: None)
    assert [node.name for node in wf.shape.tasks] == ["discover", "report", "later"]
    assert wf.shape.digest != before.digest


@override_settings(ORCHESTRATOR={"EXECUTION_TIMEOUT": timedelta(seconds=9)})
def test_the_settings_give_tasks_a_timeout_where_they_have_none() -> None:
    wf = make()
    wf.task(name="own", execution_timeout=timedelta(seconds=1))(lambda ctx: None)
    timeouts = [node.execution_timeout for node in wf.shape.tasks]
    assert timeouts == [9.0, 9.0, 1.0]


def refused(words: str) -> Any:
    return pytest.raises(InvalidDefinition, match=words)


def test_two_workflows_of_one_name_are_refused() -> None:
    make("index")
    with refused(rf"Two workflows are named 'index': one in {__name__}.*another name"):
        make("index")
    with refused("Two workflows are named 'index'"):

        @task(name="index")
        def other() -> None: ...


def test_two_tasks_of_one_name_are_refused() -> None:
    wf = make()
    with refused("Two tasks of 'index' are named 'discover'"):
        wf.task(name="discover")(lambda ctx: None)


def test_a_parent_of_another_workflow_is_refused() -> None:
    one, other = make("one"), make("other")
    with refused("'discover', which belongs to 'other'"):
        one.task(name="x", parents=[other.tasks["discover"]])(lambda ctx: None)


def test_a_standalone_task_is_no_parent() -> None:
    @task
    def alone() -> None: ...

    with refused("is no task of a workflow"):
        make().task(name="x", parents=[alone])(lambda ctx: None)


def test_a_cycle_cannot_be_written() -> None:
    # Parents are objects that exist already; a name is refused.
    with refused("is no task of a workflow"):
        make().task(name="x", parents=["report"])(lambda ctx: None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "printable"),
        ({"name": 3}, "give a string"),
        ({"name": "a\nb"}, "printable"),
        ({"name": "x" * 201}, "at most 200"),
        ({"priority": 101}, "-100 to 100"),
        ({"priority": "high"}, "-100 to 100"),
        ({"priority": True}, "-100 to 100"),
        ({"queue_name": ""}, "queue"),
        ({"queue_name": None}, "queue"),
        ({"metadata": [1]}, "not a dictionary"),
        ({"versioning": "pinned"}, "'latest'"),
        ({"input": set}, "no place in JSON"),
    ],
)
def test_a_workflow_that_cannot_work_is_refused(options: Any, words: Any) -> None:
    with refused(words):
        workflow(**{"name": "w", **options})
    assert "w" not in registry.workflows()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": -1}, "retries=-1"),
        ({"retries": "3"}, "retries='3'"),
        ({"execution_timeout": timedelta(0)}, "execution_timeout"),
        ({"execution_timeout": 5}, "timedelta"),
        ({"schedule_timeout": timedelta(seconds=-1)}, "schedule_timeout"),
        ({"schedule_timeout": timedelta(days=25)}, "24 days"),
        ({"slot_cost": 0}, "slot_cost=0"),
        ({"isolated": "yes"}, "True or False"),
        ({"queue_name": " a"}, "queue"),
        ({"name": " "}, "task"),
        ({"parents": "discover"}, "no list of tasks"),
    ],
)
def test_a_task_that_cannot_work_is_refused(options: Any, words: Any) -> None:
    with refused(words):
        make().task(**{"name": "x", **options})(lambda ctx: None)


def test_a_parent_named_twice_is_refused() -> None:
    wf = make()
    parent = wf.tasks["discover"]
    with refused("names a parent twice"):
        wf.task(name="x", parents=[parent, parent])(lambda ctx: None)


def test_a_function_that_cannot_be_a_task_is_refused() -> None:
    wf = make()

    def no_argument() -> None: ...

    def two(ctx: Context[Shelf], more: int) -> None: ...

    def yields(ctx: Context[Shelf]) -> Iterator[int]:
        yield 1

    for function in (no_argument, two):
        with refused("one argument, ctx"):
            wf.task(function)
    with refused("yields"):
        wf.task(yields)
    with refused("not a function"):
        wf.task("name")
    assert list(wf.tasks) == ["discover", "report"]


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="retry"):
        make().task(retry=3)


def test_a_workflow_without_tasks_has_no_shape() -> None:
    with refused('"empty" has no tasks'):
        _ = workflow("empty").shape


def test_verify_finds_what_is_only_read_when_needed() -> Any:
    wf = make(metadata={"a": {1: 2}})
    with refused(r"\$\.a has the key 1"):
        wf.verify()
    wf = workflow("output")

    @wf.task
    def bad(ctx: Context[None]) -> set[int]:
        return set()

    with refused("no place in JSON"):
        wf.verify()
