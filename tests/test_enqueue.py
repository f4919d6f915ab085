from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from django.db import transaction
from django.utils import timezone

from orchestrator import (
    Context,
    InvalidInput,
    workflow,
)
from orchestrator.engine.sessions import DjangoSession
from orchestrator.engine.shapes import queue_id
from orchestrator.models import DelayedItem, Queue, QueueItem, Run, TaskRun, Wait

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


@pytest.mark.django_db
def test_enqueue_writes_the_run_and_the_places_of_its_tasks() -> None:
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
def test_a_rollback_leaves_nothing() -> None:
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
        (
            (Shelf(cast(Any, 3)),),
            r"Input of index: \$\.path should be a string, not int 3",
        ),
        (({"path": "docs"},), r"should be a Shelf, not dict"),
        ((Shelf("a\0"),), r"\$\.path contains NUL"),
        ((), r"Input of index is missing; give a Shelf"),
        ((None,), r"should be a Shelf, not None"),
        ((Shelf("x" * 1024 * 1024),), "more than the 1,048,576 allowed"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_at_enqueue(
    value: Any, words: Any
) -> None:
    wf = make()
    with pytest.raises(InvalidInput, match=words):
        wf.enqueue(*value)
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_a_workflow_without_input_takes_none() -> None:
    wf = workflow("none")
    wf.task(name="a")(lambda ctx: None)
    assert Run.objects.get(pk=wf.enqueue().id).input is None
    with pytest.raises(InvalidInput, match="takes none"):
        wf.enqueue(3)  # type: ignore[call-overload]


@pytest.mark.django_db
def test_enqueue_many_makes_a_run_for_each_input_in_order() -> None:
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
def test_enqueue_many_takes_calls_with_options_of_their_own() -> None:
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
def test_enqueue_many_refuses_all_for_one_bad_input_and_names_its_index() -> None:
    wf = make()
    with pytest.raises(InvalidInput, match=r"Item 2: .*\$\.path") as raised:
        wf.enqueue_many([Shelf("a"), Shelf("b"), Shelf(3)])  # type: ignore[arg-type]
    assert raised.value.path == "$.path"
    with pytest.raises(InvalidInput, match="Item 1: It is bound to 'other'"):
        wf.enqueue_many([Shelf("a"), make("other").bind(Shelf("b"))])
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_using_sets_the_options_of_the_run() -> None:
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
def test_a_queue_that_only_the_caller_names_is_there_for_all_to_see() -> None:
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
def test_using_refuses_what_cannot_be_used(options: Any, words: Any) -> None:
    with pytest.raises(InvalidInput, match=words):
        make().using(**options)


def test_using_does_not_know_other_options() -> None:
    with pytest.raises(TypeError, match="queue"):
        make().using(queue="slow")


@pytest.mark.django_db
def test_enqueue_is_one_statement_without_a_lookup(monkeypatch: Any) -> None:
    wf = make()
    wf.enqueue(Shelf("warm"))
    sent = []
    real = DjangoSession.send

    def send(self: DjangoSession, statement: bytes, params: Any) -> Any:
        sent.append(statement)
        return real(self, statement, params)

    monkeypatch.setattr(DjangoSession, "send", send)
    wf.enqueue(Shelf("a"))
    assert len(sent) == 1


async def _enqueue_all(wf: Any) -> list[Any]:
    one = await wf.aenqueue(Shelf("a"))
    return [one, *await wf.using(priority=1).aenqueue_many([Shelf("b"), Shelf("c")])]


@pytest.mark.django_db
def test_async_twins_do_the_same() -> None:
    from asgiref.sync import async_to_sync

    handles = async_to_sync(_enqueue_all)(make())
    runs = [Run.objects.get(pk=handle.id) for handle in handles]
    assert [(run.input["path"], run.priority) for run in runs] == [
        ("a", 0),
        ("b", 1),
        ("c", 1),
    ]
