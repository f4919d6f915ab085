from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from orchestrator import (
    Context,
    InvalidDefinition,
    InvalidInput,
    Retry,
    registry,
    task,
    workflow,
)
from orchestrator.engine.shapes import queue_id
from orchestrator.models import DelayedItem, Queue, QueueItem, Run, TaskRun, Wait

pytestmark = pytest.mark.usefixtures("_own_definitions")


@pytest.fixture
def _own_definitions() -> Iterator[None]:
    with registry.isolated():
        yield


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


# Declaring.


def test_a_task_is_declared_with_and_without_parentheses():
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


def test_the_shape_has_every_option():
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


def test_the_digest_follows_the_shape_and_not_the_words():
    with registry.isolated():
        plain = make().shape
    with registry.isolated():
        described = make(description="Other words.").shape
    with registry.isolated():
        changed = make(queue_name="other").shape
    assert plain.digest == described.digest
    assert plain.digest != changed.digest
    assert plain.workflow_id == changed.workflow_id


def test_a_task_added_later_is_part_of_the_shape():
    wf = make()
    before = wf.shape
    wf.task(name="later")(lambda ctx: None)
    assert [node.name for node in wf.shape.tasks] == ["discover", "report", "later"]
    assert wf.shape.digest != before.digest


@override_settings(ORCHESTRATOR={"EXECUTION_TIMEOUT": timedelta(seconds=9)})
def test_the_settings_give_tasks_a_timeout_where_they_have_none():
    wf = make()
    wf.task(name="own", execution_timeout=timedelta(seconds=1))(lambda ctx: None)
    timeouts = [node.execution_timeout for node in wf.shape.tasks]
    assert timeouts == [9.0, 9.0, 1.0]


def refused(words: str) -> Any:
    return pytest.raises(InvalidDefinition, match=words)


def test_two_workflows_of_one_name_are_refused():
    make("index")
    with refused(rf"Two workflows are named 'index': one in {__name__}.*another name"):
        make("index")
    with refused("Two workflows are named 'index'"):

        @task(name="index")
        def other() -> None: ...


def test_two_tasks_of_one_name_are_refused():
    wf = make()
    with refused("Two tasks of 'index' are named 'discover'"):
        wf.task(name="discover")(lambda ctx: None)


def test_a_parent_of_another_workflow_is_refused():
    one, other = make("one"), make("other")
    with refused("'discover', which belongs to 'other'"):
        one.task(name="x", parents=[other.tasks["discover"]])(lambda ctx: None)


def test_a_standalone_task_is_no_parent():
    @task
    def alone() -> None: ...

    with refused("is no task of a workflow"):
        make().task(name="x", parents=[alone])(lambda ctx: None)


def test_a_cycle_cannot_be_written():
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
def test_a_workflow_that_cannot_work_is_refused(options, words):
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
def test_a_task_that_cannot_work_is_refused(options, words):
    with refused(words):
        make().task(**{"name": "x", **options})(lambda ctx: None)


def test_a_parent_named_twice_is_refused():
    wf = make()
    parent = wf.tasks["discover"]
    with refused("names a parent twice"):
        wf.task(name="x", parents=[parent, parent])(lambda ctx: None)


def test_a_function_that_cannot_be_a_task_is_refused():
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


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="retry"):
        make().task(retry=3)


def test_a_workflow_without_tasks_has_no_shape():
    with refused('"empty" has no tasks'):
        _ = workflow("empty").shape


def test_verify_finds_what_is_only_read_when_needed():
    wf = make(metadata={"a": {1: 2}})
    with refused(r"\$\.a has the key 1"):
        wf.verify()
    wf = workflow("output")

    @wf.task
    def bad(ctx: Context[None]) -> set[int]:
        return set()

    with refused("no place in JSON"):
        wf.verify()


# Enqueueing.


@pytest.mark.django_db
def test_enqueue_writes_the_run_and_the_places_of_its_tasks():
    wf = make()
    handle = wf.enqueue(Shelf("docs"))
    assert handle.status == "QUEUED"
    run = Run.objects.get(pk=handle.id)
    assert run.input == {"path": "docs", "copies": 1}
    assert run.workflow_id == wf.shape.workflow_id
    assert run.version_id == wf.shape.version_id
    assert TaskRun.objects.filter(run_id=handle.id).count() == 2
    assert QueueItem.objects.filter(run_id=handle.id).count() == 1
    assert Wait.objects.filter(run_id=handle.id).count() == 1


@pytest.mark.django_db
def test_a_rollback_leaves_nothing():
    wf = make()
    with transaction.atomic():
        wf.using(queue_name="only-here").enqueue(Shelf("docs"))
        transaction.set_rollback(True)
    assert not Run.objects.exists()
    assert not QueueItem.objects.exists()
    assert not Queue.objects.filter(name="only-here").exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((Shelf(3),), r"Input of index: \$\.path should be a string, not int 3"),
        (({"path": "docs"},), r"should be a Shelf, not dict"),
        ((Shelf("a\0"),), r"\$\.path contains NUL"),
        ((), r"Input of index is missing; give a Shelf"),
        ((None,), r"should be a Shelf, not None"),
        ((Shelf("x" * 1024 * 1024),), "more than the 1,048,576 allowed"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_at_enqueue(value, words):
    wf = make()
    with pytest.raises(InvalidInput, match=words):
        wf.enqueue(*value)
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_a_workflow_without_input_takes_none():
    wf = workflow("none")
    wf.task(name="a")(lambda ctx: None)
    assert Run.objects.get(pk=wf.enqueue().id).input is None
    with pytest.raises(InvalidInput, match="takes none"):
        wf.enqueue(3)


@pytest.mark.django_db
def test_enqueue_many_makes_a_run_for_each_input_in_order():
    wf = make()
    shelves = [Shelf(str(number)) for number in range(1200)]
    handles = wf.enqueue_many(iter(shelves))
    inputs = dict(Run.objects.values_list("id", "input"))
    assert [inputs[handle.id]["path"] for handle in handles] == [
        shelf.path for shelf in shelves
    ]
    assert QueueItem.objects.count() == 1200
    assert wf.enqueue_many([]) == []


@pytest.mark.django_db
def test_enqueue_many_takes_calls_with_options_of_their_own():
    wf = make()
    handles = wf.enqueue_many(
        [
            Shelf("a"),
            wf.using(priority=5).bind(Shelf("b")),
            wf.using(priority=5, tenant="t").bind(Shelf("c")),
        ]
    )
    runs = [Run.objects.get(pk=handle.id) for handle in handles]
    assert [(run.input["path"], run.priority, run.tenant) for run in runs] == [
        ("a", 0, ""),
        ("b", 5, ""),
        ("c", 5, "t"),
    ]


@pytest.mark.django_db
def test_enqueue_many_refuses_all_for_one_bad_input_and_names_its_index():
    wf = make()
    with pytest.raises(InvalidInput, match=r"Item 2: .*\$\.path") as raised:
        wf.enqueue_many([Shelf("a"), Shelf("b"), Shelf(3)])  # type: ignore[arg-type]
    assert raised.value.path == "$.path"
    with pytest.raises(InvalidInput, match="Item 1: It is bound to 'other'"):
        wf.enqueue_many([Shelf("a"), make("other").bind(Shelf("b"))])
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_using_sets_the_options_of_the_run():
    wf = make(priority=3, metadata={"team": "docs", "user": "1"})
    later = timezone.now() + timedelta(hours=1)
    target = wf.using(priority=-100, metadata={"user": "7"}).using(
        run_after=later, tenant="acme", metadata={"more": [1]}
    )
    run = Run.objects.get(pk=target.enqueue(Shelf("a")).id)
    assert run.priority == -100
    assert run.metadata == {"team": "docs", "user": "7", "more": [1]}
    assert run.tenant == "acme"
    assert run.run_after == later
    assert DelayedItem.objects.get(run_id=run.pk).due_at == later
    plain = Run.objects.get(pk=wf.enqueue(Shelf("a")).id)
    assert (plain.priority, plain.metadata) == (3, {"team": "docs", "user": "1"})


@pytest.mark.django_db
def test_a_queue_that_only_the_caller_names_is_there_for_all_to_see():
    wf = make()
    handle = wf.using(queue_name="only-here").enqueue(Shelf("a"))
    item = QueueItem.objects.get(run_id=handle.id)
    assert item.queue_id == queue_id("only-here")
    assert Run.objects.select_related("queue").get().queue.name == "only-here"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"priority": 101}, "-100 to 100"),
        ({"priority": 1.5}, "-100 to 100"),
        ({"run_after": datetime(2026, 1, 1)}, "naive"),
        ({"run_after": "tomorrow"}, "not a datetime"),
        ({"queue_name": ""}, "queue"),
        ({"metadata": "x"}, "not a dictionary"),
        ({"metadata": {"at": datetime.now(UTC)}}, r"Metadata: \$\.at is of type"),
        ({"metadata": {"x": "y" * 70_000}}, "more than the 65,536"),
        ({"tenant": 7}, "tenant"),
    ],
)
def test_using_refuses_what_cannot_be_used(options, words):
    with pytest.raises(InvalidInput, match=words):
        make().using(**options)


def test_using_does_not_know_other_options():
    with pytest.raises(TypeError, match="queue"):
        make().using(queue="slow")


@pytest.mark.django_db
def test_enqueue_is_one_statement_without_a_lookup(monkeypatch):
    wf = make()
    wf.enqueue(Shelf("warm"))
    from orchestrator.engine.sessions import DjangoSession

    sent = []
    real = DjangoSession.send
    monkeypatch.setattr(
        DjangoSession, "send", lambda *args: sent.append(args[1]) or real(*args)
    )
    wf.enqueue(Shelf("a"))
    assert len(sent) == 1


async def _enqueue_all(wf: Any) -> list[Any]:
    one = await wf.aenqueue(Shelf("a"))
    return [one, *await wf.using(priority=1).aenqueue_many([Shelf("b"), Shelf("c")])]


@pytest.mark.django_db
def test_async_twins_do_the_same():
    from asgiref.sync import async_to_sync

    handles = async_to_sync(_enqueue_all)(make())
    runs = [Run.objects.get(pk=handle.id) for handle in handles]
    assert [(run.input["path"], run.priority) for run in runs] == [
        ("a", 0),
        ("b", 1),
        ("c", 1),
    ]
