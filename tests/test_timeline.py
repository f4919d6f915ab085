"""The timeline of a task run: attempts, durable calls and waits, in their order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import (
    Context,
    DurableContext,
    EventCondition,
    Retry,
    RunHandle,
    SleepCondition,
    durable_task,
    events,
    task,
    workflow,
)
from orchestrator.engine.cancel import cancel
from orchestrator.engine.sessions import django_session
from orchestrator.models import TaskRun
from orchestrator.testing import drain, travel

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]

DAY = timedelta(days=1)


def task_run_of(handle: RunHandle[Any], ordinal: int = 0) -> TaskRun:
    # Not by the names of tasks, which are written by the first `drain`.
    return TaskRun.objects.get(run_id=handle.id, ordinal=ordinal)


def told(handle: RunHandle[Any], ordinal: int = 0) -> list[tuple[str, int]]:
    """Kinds and attempts, in the order in which they are told."""
    moments = task_run_of(handle, ordinal).timeline()
    return [(moment.kind.value, moment.attempt) for moment in moments]


def test_what_waits_to_be_claimed_was_enqueued_and_no_more() -> None:
    @task
    def nothing() -> None: ...

    handle = nothing.enqueue()
    assert told(handle) == [("ENQUEUED", 0)]
    drain()
    assert told(handle) == [
        ("ENQUEUED", 0),
        ("STARTED", 1),
        ("STOPPED", 1),
        ("ENDED", 1),
    ]
    *_, end = task_run_of(handle).timeline()
    assert (end.text, end.at) == ("COMPLETED.", task_run_of(handle).finished_at)


def test_a_later_start_and_a_backoff_say_when_they_are_due() -> None:
    @task(retries=Retry(1, initial=timedelta(hours=1), max=DAY, jitter=False))
    def moody() -> None:
        raise ValueError("not yet")

    with travel(timedelta(0)) as now:
        handle = moody.using(run_after=now + DAY).enqueue()
    first, due = task_run_of(handle).timeline()
    assert first.text.startswith("The run was enqueued, to start at ")
    assert (due.kind, due.at, due.attempt) == ("DUE", now + DAY, 0)
    assert due.text == "SCHEDULED: attempt 1 is due."
    with travel(now + DAY):
        drain()
    *_, stopped, due = task_run_of(handle).timeline()
    assert stopped.text == "Attempt 1 ended: FAILED, ValueError: not yet."
    assert (due.text, due.attempt) == ("BACKOFF: attempt 2 is due.", 1)
    with travel(now + 2 * DAY):
        drain()
    kinds = [("STARTED", 1), ("STOPPED", 1), ("STARTED", 2), ("STOPPED", 2)]
    assert told(handle) == [("ENQUEUED", 0), *kinds, ("ENDED", 2)]
    assert task_run_of(handle).timeline()[-1].text.startswith("FAILED. ")


def test_a_durable_task_tells_its_calls_between_its_attempts() -> None:
    def charge() -> int:
        return 7

    @task
    def box() -> str:
        return "parcel"

    @durable_task
    def fulfil(ctx: DurableContext[None]) -> None:
        ctx.step(charge)
        ctx.run(box)
        ctx.wait_for(EventCondition("delivered") | SleepCondition(DAY, name="late"))

    handle = fulfil.enqueue()
    drain()
    events.push("delivered")
    drain()
    moments = task_run_of(handle).timeline()
    assert [(m.kind.value, m.attempt, m.position) for m in moments] == [
        ("ENQUEUED", 0, 0),
        ("STARTED", 1, 0),
        ("RECORDED", 1, 1),
        ("CALLED", 1, 2),
        ("STOPPED", 1, 0),
        ("RETURNED", 1, 2),
        ("STARTED", 2, 0),
        ("CALLED", 2, 3),
        ("STOPPED", 2, 0),
        ("RETURNED", 2, 3),
        ("STARTED", 3, 0),
        ("STOPPED", 3, 0),
        ("ENDED", 3, 0),
    ]
    assert [m.at for m in moments] == sorted(m.at for m in moments)
    texts = [moment.text for moment in moments]
    assert "charge" in texts[2]
    assert texts[3:6] == [
        "Call 2, child box, began.",
        "Attempt 1 ended: SUSPENDED.",
        "Call 2, child box, is over.",
    ]
    assert texts[7] == "Call 3, wait for delivered late, began."


def test_a_branch_tells_what_it_keeps_once() -> None:
    def charge() -> int:
        return 7

    @durable_task
    def twice(ctx: DurableContext[None]) -> None:
        ctx.step(charge)
        ctx.step(charge)

    handle = twice.enqueue()
    drain()
    handle.branch("twice", 2)
    drain()
    calls = [m for m in task_run_of(handle).timeline() if m.position]
    assert [(m.attempt, m.position) for m in calls] == [(1, 1), (1, 2), (2, 2)]


def test_conditions_are_told_as_long_as_they_are_waited_for() -> None:
    wf = workflow("w")

    @wf.task
    def first(ctx: Context[None]) -> None: ...

    @wf.task(
        parents=[first],
        wait_for=EventCondition("paid") & EventCondition("packed", scope="shop"),
        cancel_if=SleepCondition(DAY),
    )
    def ship(ctx: Context[None]) -> None: ...

    handle = wf.enqueue()
    assert told(handle, 1) == [("ENQUEUED", 0)]
    drain()
    [_, held] = task_run_of(handle, 1).timeline()
    assert held.kind == "HELD"
    assert 'the event "paid"; the event "packed" of scope "shop"' in held.text
    assert "the time " in held.text
    events.push("paid")
    drain()
    *_, happened = task_run_of(handle, 1).timeline()
    assert happened.text == 'wait_for: the event "paid" has come.'
    events.push("packed", scope="shop")
    drain()
    assert [kind for kind, _ in told(handle, 1)] == [
        "ENQUEUED",
        "STARTED",
        "STOPPED",
        "ENDED",
    ]


def test_a_later_start_of_what_waits_for_an_event_is_told_first() -> None:
    @task(wait_for=EventCondition("k"))
    def wait() -> None: ...

    with travel(timedelta(0)) as now:
        handle = wait.using(run_after=now + DAY).enqueue()
    drain()
    [_, held] = task_run_of(handle).timeline()
    assert held.text.startswith("Waits, and looks out for the time ")
    with travel(now + DAY):
        drain()
        [_, held] = task_run_of(handle).timeline()
    assert held.at == now + DAY
    assert held.text == 'Waits, and looks out for the event "k".'


def test_what_never_ran_says_why() -> None:
    @task(wait_for=EventCondition("never"))
    def wait() -> None: ...

    handle = wait.enqueue()
    drain()
    assert cancel(django_session(), [handle.id], reason="Cancelled by ada: no.")
    *_, end = task_run_of(handle).timeline()
    assert (end.kind, end.text) == ("ENDED", "CANCELLED. Cancelled by ada: no.")
    assert end.attempt == 0
