"""An operator's retry of durable tasks, and of the children that they died of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import (
    DurableContext,
    RunFailed,
    RunHandle,
    durable_task,
    task,
)
from orchestrator.engine import inspect, sessions
from orchestrator.models import Run
from orchestrator.states import RunStatus
from orchestrator.tasks import StandaloneTask
from orchestrator.testing import drain

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]

broken: set[int] = set()
called: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_is_broken(db: None) -> Iterator[None]:
    broken.clear()
    called.clear()
    yield
    assert inspect.violations(sessions.django_session()) == []


def child() -> StandaloneTask[[int], int]:
    @task(name="retries-child")
    def one(number: int) -> int:
        called.append(number)
        if number in broken:
            raise ValueError(f"{number} is broken")
        return number

    return one


def children(handle: RunHandle[Any]) -> list[str]:
    run = Run.objects.get(pk=handle.id)
    rows = run.children().values_list("outcome_status", flat=True)
    return sorted(str(status) for status in rows)


def test_a_retry_retries_the_child_that_the_task_died_of() -> None:
    one = child()

    @durable_task(name="retries-parent", input=int)
    def parent(ctx: DurableContext[int]) -> int:
        return sum(ctx.run_many([one.bind(n) for n in range(ctx.input)]))

    broken.add(2)
    handle = parent.enqueue(4)
    drain()
    with pytest.raises(RunFailed, match="2 is broken"):
        handle.result()
    handle.retry()
    drain()
    with pytest.raises(RunFailed):  # it is still broken
        handle.result()
    broken.clear()
    handle.retry()
    drain()
    assert handle.result() == 0 + 1 + 2 + 3
    assert sorted(called) == [0, 1, 2, 2, 2, 3]
    assert children(handle) == [RunStatus.COMPLETED] * 4


def test_a_child_that_an_operator_retried_before_is_asked_again() -> None:
    one = child()

    @durable_task(name="retries-parent", input=int)
    def parent(ctx: DurableContext[int]) -> int:
        return ctx.run(one, ctx.input)

    broken.add(7)
    handle = parent.enqueue(7)
    drain()
    broken.clear()
    (run,) = Run.objects.get(pk=handle.id).children()
    RunHandle.get(run.pk).retry()
    drain()
    handle.retry()
    drain()
    assert handle.result() == 7
    assert called == [7, 7]


def test_a_failure_that_the_task_has_dealt_with_stays() -> None:
    one = child()
    down = [True]

    @durable_task(name="retries-parent", input=int)
    def parent(ctx: DurableContext[int]) -> str:
        try:
            ctx.run(one, ctx.input)
        except RunFailed:
            ctx.step(called.append, 0)
            if down[0]:
                raise RuntimeError("and then something else") from None
            return "made good"
        return "fine"

    broken.add(7)
    handle = parent.enqueue(7)
    drain()
    broken.clear()
    down.clear()
    down.append(False)
    handle.retry()
    drain()
    assert handle.result() == "made good"
    assert called == [7, 0]
    assert children(handle) == [RunStatus.FAILED]


def test_a_retry_after_a_cancel_takes_the_children_along() -> None:
    one = child()

    @durable_task(name="retries-parent", input=int)
    def parent(ctx: DurableContext[int]) -> int:
        return ctx.run(one.using(queue_name="elsewhere"), ctx.input)

    handle = parent.enqueue(7)
    drain(limit=1)
    handle.cancel(reason="not now")
    drain()
    assert handle.status == RunStatus.CANCELLED
    handle.retry()
    drain()
    assert handle.result() == 7
    assert children(handle) == [RunStatus.COMPLETED]


def test_without_its_journal_a_task_runs_other_children() -> None:
    one = child()

    @durable_task(name="retries-parent", input=int)
    def parent(ctx: DurableContext[int]) -> int:
        return ctx.run(one, ctx.input)

    handle = parent.enqueue(7)
    drain()
    handle.retry(tasks="all", keep_journal=False)
    drain()
    assert handle.result() == 7
    assert children(handle) == [RunStatus.COMPLETED] * 2
