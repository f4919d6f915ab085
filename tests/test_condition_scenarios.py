"""Conditions in whole runs: the scenarios that users of the field know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import (
    EventCondition,
    NonRetryable,
    ParentCondition,
    RunCancelled,
    SleepCondition,
    events,
    workflow,
)
from orchestrator.testing import drain
from tests.drained import Ctx, after, check, reason, seconds, statuses, target

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("own_definitions"),
]


@pytest.fixture(autouse=True)
def _check() -> Iterator[None]:
    yield
    check()


def waits(number: int) -> Any:
    wf = workflow("waits")

    @wf.task
    def start(ctx: Ctx) -> dict[str, int]:
        return {"random_number": number}

    @wf.task(parents=[start], wait_for=SleepCondition(seconds(10)))
    def wait_for_sleep(ctx: Ctx) -> dict[str, int]:
        return {"random_number": 7}

    @wf.task(
        parents=[start, wait_for_sleep],
        skip_if=ParentCondition(start, "output.random_number > 0"),
    )
    def skip_with_multiple_parents(ctx: Ctx) -> dict[str, int]:
        raise NonRetryable("never")

    @wf.task(
        parents=[start],
        wait_for=SleepCondition(seconds(30)),
        skip_if=EventCondition("skip_on_event:skip"),
    )
    def skip_on_event(ctx: Ctx) -> dict[str, int]:
        raise NonRetryable("never")

    @wf.task(
        parents=[wait_for_sleep],
        skip_if=ParentCondition(wait_for_sleep, "output.random_number > 50"),
    )
    def left_branch(ctx: Ctx) -> dict[str, int]:
        return {"random_number": 11}

    @wf.task(
        parents=[wait_for_sleep],
        skip_if=ParentCondition(wait_for_sleep, "output.random_number <= 50"),
    )
    def right_branch(ctx: Ctx) -> dict[str, int]:
        raise NonRetryable("never")

    @wf.task(
        parents=[start],
        wait_for=SleepCondition(seconds(60)) | EventCondition("wait_for_event:start"),
    )
    def wait_for_event(ctx: Ctx) -> dict[str, int]:
        return {"random_number": 13}

    @wf.task(
        parents=[start],
        wait_for=(
            SleepCondition(seconds(30), name="first")
            & (
                SleepCondition(seconds(30), name="second")
                | EventCondition("payment:processed")
            )
        ),
    )
    def wait_for_or_groups(ctx: Ctx) -> dict[str, int]:
        return {"random_number": 17}

    @wf.task(
        parents=[
            start,
            wait_for_sleep,
            wait_for_event,
            skip_on_event,
            left_branch,
            right_branch,
        ]
    )
    def sum(ctx: Ctx) -> dict[str, int]:
        parents = (start, wait_for_sleep, wait_for_event, left_branch)
        total = 0
        for parent in parents:
            total += ctx.output(parent)["random_number"]
        assert ctx.was_skipped(skip_on_event)
        assert ctx.was_skipped(right_branch)
        assert ctx.output(right_branch) is None
        assert not ctx.was_skipped(left_branch)
        return {"sum": total}

    return wf


def test_waits_of_every_kind_in_one_run() -> None:
    handle = waits(42).enqueue()
    drain()
    assert statuses(handle) == {
        "start": "COMPLETED",
        **dict.fromkeys(
            ["wait_for_sleep", "skip_with_multiple_parents", "skip_on_event"], "PENDING"
        ),
        **dict.fromkeys(["left_branch", "right_branch", "wait_for_event"], "PENDING"),
        **dict.fromkeys(["wait_for_or_groups", "sum"], "PENDING"),
    }
    for _ in range(2):
        events.push("skip_on_event:skip")
        events.push("wait_for_event:start", {"id": 1})
        drain()
    assert statuses(handle)["wait_for_event"] == "COMPLETED"
    assert statuses(handle)["skip_on_event"] == "SKIPPED"
    after(9)
    assert statuses(handle)["wait_for_sleep"] == "PENDING"
    after(11)
    assert statuses(handle) == {
        **dict.fromkeys(["start", "wait_for_sleep", "wait_for_event"], "COMPLETED"),
        **dict.fromkeys(["left_branch", "sum"], "COMPLETED"),
        **dict.fromkeys(
            ["skip_on_event", "skip_with_multiple_parents", "right_branch"], "SKIPPED"
        ),
        "wait_for_or_groups": "PENDING",
    }
    after(31)
    result = handle.result()
    assert result["sum"] == {"sum": 42 + 7 + 13 + 11}
    assert "skip_on_event" not in result
    assert "right_branch" not in result
    assert handle.status == "COMPLETED"
    assert reason(handle, "skip_on_event") == (
        'Task "skip_on_event" was skipped by skip_if: the event "skip_on_event:skip".'
    )
    assert reason(handle, "right_branch") == (
        'Task "right_branch" was skipped by skip_if: output.random_number <= 50 of '
        'parent "wait_for_sleep".'
    )


# B2, B3, B6, B9.


def test_cancel_if_of_a_parent_cancels_the_run() -> None:
    wf = workflow("w")

    @wf.task
    def start(ctx: Ctx) -> int:
        return 2

    @wf.task(parents=[start], cancel_if=ParentCondition(start, "output > 1"))
    def child(ctx: Ctx) -> None: ...

    @wf.task(parents=[child])
    def grandchild(ctx: Ctx) -> None: ...

    handle = wf.enqueue()
    drain()
    why = 'Task "child" was cancelled by cancel_if: output > 1 of parent "start".'
    assert statuses(handle) == {
        "start": "COMPLETED",
        "child": "CANCELLED",
        "grandchild": "CANCELLED",
    }
    assert handle.refresh().status == "CANCELLED"
    assert handle.status_reason == why
    assert reason(handle, "child") == reason(handle, "grandchild") == why
    with pytest.raises(RunCancelled):
        handle.result()


def test_a_sleep_that_skips_wins_against_an_event_that_does_not_come() -> None:
    wf = target(
        workflow("w"),
        wait_for=EventCondition("go"),
        skip_if=SleepCondition(seconds(12)),
    )
    handle = wf.enqueue()
    drain()
    after(11)
    assert statuses(handle)["target"] == "PENDING"
    after(12.5)
    assert statuses(handle)["target"] == "SKIPPED"
    assert reason(handle, "target").endswith("by skip_if: a sleep of 12s.")
    assert handle.result() == {"start": 1}


def test_an_event_that_cancels_wins_against_a_sleep() -> None:
    wf = target(
        workflow("w"),
        wait_for=SleepCondition(seconds(30)),
        cancel_if=EventCondition("stop"),
    )
    handle = wf.enqueue()
    drain()
    for _ in range(2):
        events.push("stop")
        drain()
    assert handle.refresh().status == "CANCELLED"
    assert handle.status_reason == (
        'Task "target" was cancelled by cancel_if: the event "stop".'
    )


def test_a_task_starts_by_an_event() -> None:
    handle = target(workflow("w"), wait_for=EventCondition("go")).enqueue()
    drain()
    assert handle.refresh().status == "RUNNING"
    events.push("other")
    drain()
    assert statuses(handle)["target"] == "PENDING"
    events.push("go")
    drain()
    assert handle.result()["target"]["random_number"] == 5
