from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync

from orchestrator import (
    Context,
    InvalidDefinition,
    InvalidInput,
    RunFailed,
    durable_task,
    registry,
    task,
)
from orchestrator.models import QueueItem, Run
from orchestrator.testing import drain

pytestmark = pytest.mark.usefixtures("own_definitions")


@dataclass(frozen=True)
class Document:
    name: str


def declare() -> Any:
    @task(priority=4, queue_name="docs")
    def parse(
        document: Document, *rest: int, depth: int = 1, **names: str
    ) -> list[Any]:
        """Parse a document.

        And more.
        """
        return [document.name, list(rest), depth, names]

    return parse


def test_a_standalone_task_is_a_workflow_of_one_task_of_its_name() -> None:
    parse = declare()
    definition = registry.workflow("parse")
    assert parse.definition is definition
    assert definition.standalone
    assert definition.description == "Parse a document."
    assert definition.priority == 4
    (node,) = definition.shape.tasks
    assert (node.name, node.queue_name) == ("parse", "docs")
    assert registry.task(node.id) is definition.tasks["parse"]
    assert definition.module == __name__


@pytest.mark.django_db
def test_arguments_are_stored_as_they_are_given() -> None:
    parse = declare()
    handle = parse.enqueue(Document("a"), 1, 2, depth=3, x="y")
    run = Run.objects.get(pk=handle.id)
    assert run.input == {
        "args": [{"name": "a"}, 1, 2],
        "kwargs": {"depth": 3, "x": "y"},
    }
    assert run.priority == 4


@pytest.mark.django_db
def test_the_function_gets_its_arguments_back_as_they_were() -> None:
    parse = declare()
    first = parse.enqueue(Document("a"), 1, 2, depth=3, x="y")
    second = parse.enqueue(document=Document("b"))
    drain()
    assert first.result() == ["a", [1, 2], 3, {"x": "y"}]
    assert second.result() == ["b", [], 1, {}]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, r"parse\(.*missing a required argument: 'document'"),
        ((Document("a"),), {"document": Document("b")}, "multiple values"),
        (("a",), {}, r"\$\.document should be a Document, not str"),
        ((Document(cast(Any, 1)),), {}, r"\$\.document\.name should be a string"),
        ((Document("a"), 1, "2"), {}, r"\$\.rest\[1\] should be a whole number"),
        ((Document("a"),), {"depth": "1"}, r"\$\.depth should be a whole number"),
        ((Document("a"),), {"x": 1}, r"\$\.x should be a string"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_enqueue(
    args: Any, kwargs: Any, words: Any
) -> None:
    with pytest.raises(InvalidInput, match=words):
        declare().enqueue(*args, **kwargs)
    assert not Run.objects.exists()


def test_a_call_with_too_many_arguments_is_refused() -> Any:
    @task
    def add(x: int, y: int = 1) -> int:
        return x + y

    with pytest.raises(InvalidInput, match="too many positional arguments"):
        add.bind(1, 2, 3)  # type: ignore[call-arg]
    with pytest.raises(InvalidInput, match="unexpected keyword argument 'z'"):
        add.bind(1, z=3)  # type: ignore[call-arg]

    @task
    def only_named(*, x: int) -> int:
        return x

    with pytest.raises(InvalidInput, match=r"missing a required .*argument: 'x'"):
        only_named.bind()  # type: ignore[call-arg]


@pytest.mark.django_db
def test_enqueue_many_takes_bound_calls() -> None:
    parse = declare()
    handles = parse.enqueue_many(
        [parse.bind(Document("a")), parse.using(priority=9).bind(Document("b"), 1)]
    )
    runs = [Run.objects.get(pk=handle.id) for handle in handles]
    assert [(run.input["args"], run.priority) for run in runs] == [
        ([{"name": "a"}], 4),
        ([{"name": "b"}, 1], 9),
    ]
    with pytest.raises(InvalidInput, match=r"Item 1: It is .*parse\.bind"):
        parse.enqueue_many([parse.bind(Document("a")), Document("b")])
    assert Run.objects.count() == 2


@pytest.mark.django_db
def test_a_task_may_take_the_context_before_its_arguments() -> Any:
    @task(takes_context=True)
    def tell(ctx: Context[Any], word: str) -> list[Any]:
        return [ctx.task, ctx.attempt, str(ctx.run_id), word]

    handle = tell.enqueue("hello")
    drain()
    assert handle.result() == ["tell", 1, str(handle.id), "hello"]


def test_a_task_that_takes_the_context_has_a_place_for_it() -> None:
    with pytest.raises(InvalidDefinition, match="context as its first argument"):

        @task(takes_context=True)  # type: ignore[arg-type]
        def nothing() -> None: ...

    with pytest.raises(InvalidDefinition, match="True or False"):

        @task(takes_context=1)  # type: ignore[call-overload, untyped-decorator]
        def wrong() -> None: ...


@pytest.mark.django_db
def test_an_async_task_is_declared_alike() -> Any:
    @task
    async def double(x: int) -> int:
        return 2 * x

    async def both() -> Any:
        (bound,) = await double.aenqueue_many([double.bind(2)])
        return await double.aenqueue(1), bound

    one, two = async_to_sync(both)()
    drain()
    assert (one.result(), two.result()) == (2, 4)


def test_call_calls_the_function_here_and_now() -> Any:
    @task
    def double(x: int) -> int:
        return 2 * x

    @task
    async def treble(x: int) -> int:
        return 3 * x

    assert (double.call(2), treble.call(2)) == (4, 6)
    assert async_to_sync(double.acall)(2) == 4
    assert async_to_sync(treble.acall)(2) == 6


@pytest.mark.django_db
def test_a_signature_that_has_changed_fails_the_run_without_retries() -> Any:
    @task(retries=5, name="changes")
    def before(x: int) -> int:
        return x

    handle = before.enqueue(1)
    with registry.isolated():
        registry._workflows.clear()

        @task(retries=5, name="changes")
        def after(x: int, y: int) -> int:
            return x

        assert drain() == 1
    with pytest.raises(RunFailed) as raised:
        handle.result()
    error = raised.value.errors["changes"]
    assert error.error_type.endswith("InvalidInput")
    assert "missing a required argument: 'y'" in error.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": -1}, "retries"),
        ({"priority": 200}, "priority"),
        ({"queue_name": ""}, "queue"),
        ({"name": ""}, "name"),
    ],
)
def test_a_task_that_cannot_work_is_refused_and_not_registered(
    options: Any, words: Any
) -> None:
    with pytest.raises(InvalidDefinition, match=words):

        @task(**options)  # type: ignore[untyped-decorator]
        def broken() -> None: ...

    assert "broken" not in registry.workflows()


def test_an_unknown_option_is_a_type_error_that_knows_better() -> None:
    with pytest.raises(TypeError, match="@task has no option 'parents'; use "):
        task(parents=[])(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        task(retry=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"@durable_task .* 'retries'"):
        durable_task(retry=3)  # type: ignore[call-overload]


@pytest.mark.django_db
def test_using_enqueues_with_other_options() -> None:
    parse = declare()
    parse.using(queue_name="slow", tenant="t").enqueue(Document("a"))
    assert Run.objects.get().tenant == "t"
    assert QueueItem.objects.count() == 1


@pytest.mark.django_db
def test_calls_without_options_take_those_of_the_target_that_enqueues_them() -> None:
    parse = declare()
    plain = parse.bind(Document("a"))
    own = parse.using(tenant="own").bind(Document("b"))
    parse.using(tenant="t", priority=7).enqueue_many([plain, own])
    parse.enqueue_many([plain])
    rows = Run.objects.order_by("id").values_list("tenant", "priority")
    assert list(rows) == [("t", 7), ("own", 4), ("", 4)]
