from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator import Context, InvalidInput, RunFailed, registry, workflow
from orchestrator.exceptions import TaskCancelled, UnknownTask
from orchestrator.testing import drain, make_context

pytestmark = pytest.mark.usefixtures("own_definitions")


@dataclass(frozen=True)
class Shelf:
    path: str


@dataclass(frozen=True)
class Found:
    files: list[str]


@pytest.mark.django_db
def test_a_task_knows_its_run() -> None:
    wf = workflow("index", input=Shelf)
    seen: dict[str, Any] = {}

    @wf.task(retries=1)
    def look(ctx: Context[Shelf]) -> None:
        seen.update({str(ctx.attempt): ctx})
        if ctx.attempt == 1:
            raise ValueError("once more")

    handle = wf.using(priority=5, tenant="acme", metadata={"user": "7"}).enqueue(
        Shelf("docs")
    )
    drain()
    ctx = seen["2"]
    assert ctx.input == Shelf("docs")
    assert (ctx.workflow, ctx.task, ctx.attempt) == ("index", "look", 2)
    assert ctx.run_id == handle.id
    assert ctx.version == wf.shape.digest
    assert (ctx.metadata, ctx.tenant, ctx.priority) == ({"user": "7"}, "acme", 5)
    assert ctx.task_run_id == seen["1"].task_run_id
    assert ctx.worker_id is not None
    assert str(handle.id) in repr(ctx)


@pytest.mark.django_db
def test_outputs_of_parents_have_the_types_that_they_return() -> Any:
    wf = workflow("index", input=Shelf)

    @wf.task
    def discover(ctx: Context[Shelf]) -> Found:
        return Found([ctx.input.path])

    @wf.task
    async def nothing(ctx: Context[Shelf]) -> None: ...

    @wf.task
    def untyped(ctx: Any) -> Any:
        return {"a": (1, 2)}

    @wf.task(parents=[discover, nothing, untyped])
    def collect(ctx: Context[Shelf]) -> list[Any]:
        assert ctx.output(discover) == Found(["docs"])
        assert not ctx.was_skipped(discover)
        return [ctx.output(nothing), ctx.output(untyped)]

    handle = wf.enqueue(Shelf("docs"))
    drain()
    assert handle.result()["collect"] == [None, {"a": [1, 2]}]


@pytest.mark.django_db
def test_the_output_of_what_is_no_parent_is_refused() -> Any:
    wf = workflow("index", input=Shelf)

    @wf.task
    def first(ctx: Context[Shelf]) -> int:
        return 1

    @wf.task(parents=[first])
    def second(ctx: Context[Shelf]) -> int:
        return 2

    @wf.task(parents=[second])
    def third(ctx: Context[Shelf]) -> int:
        return ctx.output(first)

    ctx = make_context(third, Shelf("a"), outputs={second: 2})
    with pytest.raises(UnknownTask, match=r"'first' is not a parent of 'third'"):
        third.call(ctx)
    assert ctx.output(second) == 2


@pytest.mark.django_db
def test_errors_are_those_of_the_run_so_far() -> Any:
    wf = workflow("index")

    @wf.task
    def broken(ctx: Context[None]) -> None:
        raise ValueError("no such shelf")

    @wf.task
    def fine(ctx: Context[None]) -> str:
        return "fine"

    seen: dict[str, Any] = {}

    @wf.task(parents=[fine])
    def after(ctx: Context[None]) -> None:
        seen.update(ctx.errors)

    handle = wf.enqueue()
    drain()
    assert list(seen) == ["broken"]
    assert seen["broken"].message == "no such shelf"
    with pytest.raises(RunFailed):
        handle.result()


@pytest.mark.django_db
def test_an_input_whose_type_has_changed_fails_the_run_without_retries() -> None:
    wf = workflow("index", input=dict)
    wf.task(name="look", retries=5)(lambda ctx: None)
    handle = wf.enqueue({"other": 1})
    with registry.isolated():
        registry._workflows.clear()
        changed = workflow("index", input=Shelf)
        changed.task(name="look", retries=5)(lambda ctx: None)
        assert drain() == 1
    with pytest.raises(RunFailed) as raised:
        handle.result()
    error = raised.value.errors["look"]
    assert error.error_type == f"{InvalidInput.__module__}.InvalidInput"
    assert "Input of index: $ lacks 'path'" in error.message


def test_a_cancelled_task_can_ask_and_can_end() -> None:
    wf = workflow("index")
    look = wf.task(name="look")(lambda ctx: None)
    ctx = make_context(look)
    ctx.check_cancelled()
    before = ctx.is_cancelled
    ctx.mark_cancelled()
    assert (before, ctx.is_cancelled) == (False, True)
    with pytest.raises(TaskCancelled):
        ctx.check_cancelled()


@pytest.mark.django_db
def test_an_output_that_is_not_json_fails_its_attempt_and_names_the_path() -> Any:
    wf = workflow("index")

    @wf.task
    def typed(ctx: Context[None]) -> Found:
        return Found([1])  # type: ignore[list-item]

    @wf.task
    def untyped(ctx: Context[None]) -> dict[str, Any]:
        return {"a": [object()]}

    @wf.task
    def unsafe(ctx: Context[None]) -> str:
        return "nul\0"

    handle = wf.enqueue()
    drain()
    with pytest.raises(RunFailed) as raised:
        handle.result()
    errors = raised.value.errors
    assert set(errors) == {"typed", "untyped"}
    message = errors["typed"].message
    assert "Output of typed: $.files[0] should be a string" in message
    assert "Output of untyped: $.a[0] is of type object" in errors["untyped"].message
