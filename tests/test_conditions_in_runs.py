"""What conditions mean, rule by rule, in whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from orchestrator import (
    Context,
    EventCondition,
    ParentCondition,
    SleepCondition,
    events,
    task,
    workflow,
)
from orchestrator.engine import inspect, sessions
from orchestrator.testing import drain, travel
from tests.drained import Ctx, after, check, reason, seconds, statuses, target

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("own_definitions"),
]


@pytest.fixture(autouse=True)
def _check() -> Iterator[None]:
    yield
    check()


def test_all_parents_skipped_skips_and_some_skipped_runs() -> None:
    wf = workflow("w")

    @wf.task
    def a(ctx: Ctx) -> int:
        return 1

    @wf.task(parents=[a], skip_if=ParentCondition(a))
    def b(ctx: Ctx) -> int:
        return 2

    @wf.task(parents=[b], cancel_if=EventCondition("never"))
    def only(ctx: Ctx) -> int:
        return 3

    @wf.task(parents=[a, b])
    def some(ctx: Ctx) -> list[bool]:
        return [ctx.was_skipped(a), ctx.was_skipped(b)]

    handle = wf.enqueue()
    drain()
    assert statuses(handle) == {
        "a": "COMPLETED",
        "b": "SKIPPED",
        "only": "SKIPPED",
        "some": "COMPLETED",
    }
    assert handle.result()["some"] == [False, True]


def test_skip_wins_against_cancel_and_cancel_against_run() -> None:
    yes = "output == 1"
    for options, status in (
        ({"skip_if": yes, "cancel_if": yes, "wait_for": yes}, "SKIPPED"),
        ({"cancel_if": yes, "wait_for": yes}, "CANCELLED"),
        ({"wait_for": yes}, "COMPLETED"),
    ):
        wf = workflow(f"w{status}")
        start = wf.task(name="start")(lambda ctx: 1)
        conditions: dict[str, Any] = {
            option: ParentCondition(start, text) for option, text in options.items()
        }
        wf.task(name="b", parents=[start], **conditions)(lambda ctx: 2)
        handle = wf.enqueue()
        drain()
        assert statuses(handle)["b"] == status


def test_or_across_a_parent_a_sleep_and_an_event_is_a_true_or() -> None:
    for number, holds in ((1, True), (0, False)):
        wf = workflow(f"w{number}")

        @wf.task
        def start(ctx: Ctx, number: int = number) -> int:
            return number

        @wf.task(
            parents=[start],
            wait_for=ParentCondition(start, "output > 0")
            | SleepCondition(seconds(10))
            | EventCondition("go"),
        )
        def b(ctx: Ctx) -> int:
            return 2

        handle = wf.enqueue()
        drain()
        assert statuses(handle)["b"] == ("COMPLETED" if holds else "PENDING")
        after(11)
        assert handle.result()["b"] == 2


def test_a_wait_for_that_can_no_longer_hold_skips() -> None:
    wf = workflow("w")
    start = wf.task(name="start")(lambda ctx: 1)
    wf.task(
        name="b",
        parents=[start],
        wait_for=ParentCondition(start, "output > 1") & EventCondition("go"),
    )(lambda ctx: 2)
    handle = wf.enqueue()
    drain()
    assert statuses(handle)["b"] == "SKIPPED"
    assert reason(handle, "b") == (
        'Task "b" was skipped because its wait_for can no longer hold: output > 1 of '
        'parent "start".'
    )


def test_skip_if_on_an_event_without_a_wait_does_not_hold_the_task() -> None:
    wf = target(
        workflow("w"),
        skip_if=EventCondition("no"),
        cancel_if=SleepCondition(seconds(1)),
    )
    handle = wf.enqueue()
    drain()
    assert statuses(handle)["target"] == "COMPLETED"


def test_skip_if_looks_back_before_the_task_starts() -> None:
    wf = target(
        workflow("w"), skip_if=EventCondition("no", lookback=timedelta(hours=1))
    )
    handle = wf.enqueue()
    drain()
    assert statuses(handle)["target"] == "COMPLETED"
    events.push("no")
    with travel(timedelta(minutes=59)):
        handle = wf.enqueue()
        drain()
        assert statuses(handle)["target"] == "SKIPPED"
    with travel(timedelta(minutes=61)):
        handle = wf.enqueue()
        drain()
        assert statuses(handle)["target"] == "COMPLETED"


def test_an_expression_that_cannot_be_evaluated_is_false(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wf = workflow("w")
    start = wf.task(name="start")(lambda ctx: {"a": 1})
    wf.task(name="b", parents=[start], skip_if=ParentCondition(start, "output.b == 1"))(
        lambda ctx: 2
    )
    handle = wf.enqueue()
    drain()
    assert statuses(handle)["b"] == "COMPLETED"
    assert "counts as false" in caplog.text


def test_expressions_know_the_run() -> None:
    wf = workflow("names", input=dict)

    @wf.task
    def start(ctx: Context[dict[str, Any]]) -> int:
        return 1

    @wf.task(
        parents=[start],
        wait_for=EventCondition(
            "go",
            "payload.id == input.id && metadata.user == '7' && tenant == 'acme'"
            " && workflow == 'names' && key == 'go' && run_id == payload.run",
        ),
    )
    def b(ctx: Context[dict[str, Any]]) -> int:
        return 2

    @wf.task(
        parents=[start],
        skip_if=ParentCondition(
            start,
            "output == 1 && input.id == 3 && metadata.user == '7' &&"
            " tenant == 'acme' && workflow == 'names' && size(run_id) == 36",
        ),
    )
    def c(ctx: Context[dict[str, Any]]) -> int:
        return 2

    handle = wf.using(metadata={"user": "7"}, tenant="acme").enqueue({"id": 3})
    drain()
    assert statuses(handle)["c"] == "SKIPPED"
    events.push("go", {"id": 4, "run": str(handle.id)})
    events.push("go", None)
    drain()
    assert statuses(handle)["b"] == "PENDING"
    events.push("go", {"id": 3, "run": str(handle.id)})
    drain()
    assert statuses(handle)["b"] == "COMPLETED"


def test_a_scope_is_met_by_that_scope_alone_and_no_scope_by_any() -> None:
    wf = workflow("w")
    wf.task(name="mine", wait_for=EventCondition("go", scope="me"))(lambda ctx: 1)
    wf.task(name="any", wait_for=EventCondition("go"))(lambda ctx: 1)
    handle = wf.enqueue()
    drain()
    events.push("go", scope="you")
    drain()
    assert statuses(handle) == {"mine": "PENDING", "any": "COMPLETED"}
    events.push("go")
    drain()
    assert statuses(handle)["mine"] == "PENDING"
    events.push("go", scope="me")
    drain()
    assert statuses(handle)["mine"] == "COMPLETED"


def test_events_before_the_wait_count_with_a_look_back_alone() -> None:
    wf = workflow("w")
    wf.task(name="plain", wait_for=EventCondition("go"))(lambda ctx: 1)
    wf.task(name="back", wait_for=EventCondition("go", lookback=timedelta(minutes=1)))(
        lambda ctx: 1
    )
    events.push("go")
    with travel(seconds(30)):
        handle = wf.enqueue()
        drain()
        assert statuses(handle) == {"plain": "PENDING", "back": "COMPLETED"}


def test_the_wait_begins_when_the_parents_have_ended() -> None:
    wf = workflow("w")
    first = wf.task(name="first", wait_for=SleepCondition(seconds(100)))(lambda ctx: 1)
    wf.task(name="b", parents=[first], wait_for=SleepCondition(seconds(10)))(
        lambda ctx: 2
    )
    handle = wf.enqueue()
    drain()
    with travel(seconds(105)):
        drain()
        assert statuses(handle) == {"first": "COMPLETED", "b": "PENDING"}
        after(9)
        assert statuses(handle)["b"] == "PENDING"
        after(11)
        assert statuses(handle)["b"] == "COMPLETED"


def test_a_run_that_is_scheduled_begins_to_wait_at_its_time() -> None:
    wf = workflow("w")
    wf.task(name="a", wait_for=EventCondition("go") | SleepCondition(seconds(10)))(
        lambda ctx: 1
    )
    handle = wf.using(run_after=timezone.now() + seconds(60)).enqueue()
    drain()
    events.push("go")
    after(20)
    assert statuses(handle) == {"a": "PENDING"}
    with travel(seconds(61)):
        drain()
        assert statuses(handle) == {"a": "PENDING"}
        after(9)
        assert statuses(handle) == {"a": "PENDING"}
        events.push("go")
        drain()
        assert statuses(handle) == {"a": "COMPLETED"}


def test_a_standalone_task_waits_and_is_skipped() -> None:
    @task(wait_for=SleepCondition(seconds(10)), skip_if=EventCondition("never mind"))
    def later(x: int) -> int:
        return x + 1

    handle, other = later.enqueue(1), later.enqueue(2)
    drain()
    assert handle.refresh().status == "QUEUED"
    with travel(seconds(11)):
        drain()
        assert handle.result() == 2
        assert other.result() == 3
    skipped = later.enqueue(3)
    drain()
    events.push("never mind")
    drain()
    assert skipped.refresh().status == "COMPLETED"
    assert skipped.result() is None


def test_a_schedule_timeout_counts_from_when_the_task_is_ready() -> None:
    wf = workflow("w")
    calls: list[datetime] = []
    wf.task(
        name="a",
        wait_for=SleepCondition(timedelta(days=14)),
        schedule_timeout=timedelta(minutes=1),
    )(lambda ctx: calls.append(timezone.now()))
    handle = wf.enqueue()
    drain()
    after(3600)
    with travel(timedelta(days=14, seconds=1)):
        drain()
        assert handle.refresh().status == "COMPLETED"


def test_a_cancelled_run_waits_for_nothing() -> None:
    handle = target(workflow("w"), wait_for=EventCondition("go")).enqueue()
    drain()
    handle.cancel("enough")
    events.push("go")
    drain()
    assert statuses(handle)["target"] == "CANCELLED"
    assert inspect.violations(sessions.django_session(), at_rest=True) == []


def test_a_retry_waits_anew() -> None:
    wf = target(
        workflow("w"),
        wait_for=EventCondition("go"),
        cancel_if=EventCondition("stop"),
    )
    handle = wf.enqueue()
    drain()
    events.push("stop")
    drain()
    assert handle.refresh().status == "CANCELLED"
    handle.retry()
    drain()
    assert statuses(handle) == {"start": "COMPLETED", "target": "PENDING"}
    events.push("go")
    drain()
    assert handle.result()["target"] == {"random_number": 5}
