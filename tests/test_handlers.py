"""`on_failure` and `on_success` in whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import (
    EventCondition,
    ParentCondition,
    RunFailed,
    SleepCondition,
    events,
    workflow,
)
from orchestrator.testing import drain
from tests.drained import Ctx, after, check, reason, seconds, statuses

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("own_definitions"),
]


@pytest.fixture(autouse=True)
def _check() -> Iterator[None]:
    yield
    check()


def test_on_failure_is_executed_and_the_run_stays_failed() -> None:
    wf = workflow("w")
    seen: dict[str, Any] = {}

    @wf.task
    def step1(ctx: Ctx) -> None:
        raise ValueError("step1 failed")

    @wf.on_failure
    def on_failure(ctx: Ctx) -> str:
        seen.update(ctx.errors)
        return "handled"

    handle = wf.enqueue()
    drain()
    assert statuses(handle) == {"step1": "FAILED", "on_failure": "COMPLETED"}
    with pytest.raises(RunFailed) as failure:
        handle.result()
    assert "step1 failed" in str(failure.value.exceptions[0])
    assert seen["step1"].message == "step1 failed"
    assert handle.refresh().status == "FAILED"


def test_on_failure_does_not_wait_for_the_rest_of_the_run() -> None:
    wf = workflow("w")

    @wf.task
    def broken(ctx: Ctx) -> None:
        raise ValueError("no")

    @wf.task(wait_for=SleepCondition(seconds(60)))
    def late(ctx: Ctx) -> int:
        return 1

    @wf.on_failure
    def report(ctx: Ctx) -> list[str]:
        return list(ctx.errors)

    handle = wf.enqueue()
    drain()
    assert statuses(handle) == {
        "broken": "FAILED",
        "late": "PENDING",
        "report": "COMPLETED",
    }
    after(61)
    assert statuses(handle)["late"] == "COMPLETED"
    assert handle.refresh().status == "FAILED"


def test_on_failure_comes_after_the_last_retry_and_has_retries_of_its_own() -> None:
    wf = workflow("w")
    calls: list[str] = []

    @wf.task(retries=1)
    def broken(ctx: Ctx) -> None:
        calls.append("broken")
        raise ValueError("no")

    @wf.on_failure(retries=1)
    def report(ctx: Ctx) -> str:
        calls.append("report")
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return "told"

    handle = wf.enqueue()
    drain()
    assert calls == ["broken", "broken", "report", "report"]
    assert statuses(handle) == {"broken": "FAILED", "report": "COMPLETED"}


def test_on_failure_is_skipped_where_nothing_failed() -> None:
    wf = workflow("w")
    wf.task(name="fine")(lambda ctx: 1)
    wf.on_failure(name="report")(lambda ctx: 2)
    handle = wf.enqueue()
    drain()
    assert statuses(handle) == {"fine": "COMPLETED", "report": "SKIPPED"}
    assert reason(handle, "report") == (
        'Task "report" was skipped because no task of the run failed.'
    )
    assert handle.result() == {"fine": 1}


def test_on_failure_is_skipped_where_a_task_was_cancelled() -> None:
    wf = workflow("w")
    start = wf.task(name="start")(lambda ctx: 1)
    wf.task(name="b", parents=[start], cancel_if=ParentCondition(start))(lambda ctx: 2)
    wf.on_failure(name="report")(lambda ctx: 2)
    handle = wf.enqueue()
    drain()
    assert statuses(handle)["report"] == "SKIPPED"
    assert handle.refresh().status == "CANCELLED"


def test_a_failed_handler_fails_no_more_than_the_run() -> None:
    wf = workflow("w")

    @wf.task
    def broken(ctx: Ctx) -> None:
        raise ValueError("first")

    @wf.on_failure
    def report(ctx: Ctx) -> None:
        raise ValueError("second")

    handle = wf.enqueue()
    drain()
    with pytest.raises(RunFailed) as failure:
        handle.result()
    assert set(failure.value.errors) == {"broken", "report"}


def test_a_retry_of_what_failed_skips_the_handler_that_had_run() -> None:
    wf = workflow("w")
    broken = [True]

    @wf.task
    def flaky(ctx: Ctx) -> int:
        if broken:
            raise ValueError("no")
        return 3

    wf.on_failure(name="report")(lambda ctx: 2)
    handle = wf.enqueue()
    drain()
    assert statuses(handle) == {"flaky": "FAILED", "report": "COMPLETED"}
    broken.clear()
    handle.retry()
    drain()
    assert statuses(handle) == {"flaky": "COMPLETED", "report": "SKIPPED"}
    assert handle.result() == {"flaky": 3}


def test_a_retry_of_the_handler_alone() -> None:
    wf = workflow("w")
    calls: list[int] = []

    @wf.task
    def broken(ctx: Ctx) -> None:
        raise ValueError("no")

    wf.on_failure(name="report")(lambda ctx: calls.append(1))
    handle = wf.enqueue()
    drain()
    handle.retry(tasks=["report"])
    drain()
    assert len(calls) == 2
    assert handle.refresh().status == "FAILED"


def test_on_success_comes_last_and_not_after_a_failure() -> None:
    wf = workflow("w")
    broken: list[int] = []

    @wf.task
    def a(ctx: Ctx) -> int:
        return 1

    @wf.on_success
    def done(ctx: Ctx) -> int:
        return ctx.output(b) + ctx.output(c)

    @wf.task(parents=[a])
    def b(ctx: Ctx) -> int:
        return 2

    @wf.task(parents=[a])
    def c(ctx: Ctx) -> int:
        if broken:
            raise ValueError("no")
        return 3

    handle = wf.enqueue()
    drain()
    assert handle.result()["done"] == 5
    broken.append(1)
    handle = wf.enqueue()
    drain()
    assert statuses(handle)["done"] == "CANCELLED"
    assert handle.refresh().status == "FAILED"


def test_on_success_is_skipped_where_all_leaves_were() -> None:
    wf = workflow("w")

    @wf.task
    def a(ctx: Ctx) -> int:
        return 1

    wf.task(name="b", parents=[a], skip_if=ParentCondition(a))(lambda ctx: 2)
    wf.on_success(name="done")(lambda ctx: 3)
    handle = wf.enqueue()
    drain()
    assert statuses(handle) == {"a": "COMPLETED", "b": "SKIPPED", "done": "SKIPPED"}
    assert reason(handle, "done") == (
        'Task "done" was skipped because its parent was skipped.'
    )
    assert handle.refresh().status == "COMPLETED"


def test_a_run_says_what_failed_and_not_what_was_cancelled_before() -> None:
    wf = workflow("w")

    @wf.task
    def gone(ctx: Ctx) -> None:
        ctx.cancel("enough")

    @wf.task(wait_for=EventCondition("go"))
    def late(ctx: Ctx) -> None:
        raise ValueError("too late")

    @wf.on_failure
    def clean(ctx: Ctx) -> list[str]:
        return sorted(ctx.errors)

    handle = wf.enqueue()
    drain()
    assert statuses(handle)["gone"] == "CANCELLED"
    events.push("go")
    drain()
    assert statuses(handle) == {
        "gone": "CANCELLED",
        "late": "FAILED",
        "clean": "COMPLETED",
    }
    assert handle.refresh().status_reason == 'Task "late" failed: ValueError: too late'
