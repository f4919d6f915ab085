from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.utils import timezone

from orchestrator import (
    Context,
    InvalidInput,
    task,
    workflow,
)
from orchestrator.testing import (
    assert_enqueued,
    make_context,
    travel,
)

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]


# The clock.


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT orchestrator_now()")
        found: datetime = cursor.fetchone()[0]
        return found


def test_travel_moves_the_clock_and_brings_it_back() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with travel(moment) as there:
        assert there == moment == database_now()
        with travel(timedelta(days=1)):
            assert database_now() == moment + timedelta(days=1)
        assert database_now() == moment
    assert abs(database_now() - timezone.now()) < timedelta(minutes=1)


def test_travel_brings_the_clock_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), travel(timedelta(days=1)):
        raise ZeroDivisionError
    assert abs(database_now() - timezone.now()) < timedelta(minutes=1)


def test_travel_needs_an_aware_datetime() -> None:
    with pytest.raises(ValueError, match="naive"), travel(datetime(2030, 1, 1)):
        raise AssertionError


def test_ids_do_not_travel() -> None:
    @task
    def nothing() -> None: ...

    now = timezone.now().timestamp() * 1000
    with travel(timedelta(days=3650)):
        handle = nothing.enqueue()
    assert abs((handle.id.int >> 80) - now) < 60_000


# Assertions and contexts.


def test_assert_enqueued_finds_runs_by_target_input_and_count() -> Any:
    @task
    def double(x: int) -> int:
        return 2 * x

    wf = workflow("index", input=dict)
    wf.task(name="a")(lambda ctx: None)
    handles = double.enqueue_many([double.bind(1), double.bind(2), double.bind(1)])
    other = wf.enqueue({"a": 1})
    assert assert_enqueued(double) == handles
    assert assert_enqueued(double, count=3) == handles
    assert assert_enqueued(double.bind(1), count=2) == [handles[0], handles[2]]
    assert assert_enqueued(wf, input={"a": 1}) == [other]
    assert_enqueued(wf, input={"a": 2}, count=0)
    with pytest.raises(AssertionError, match=r"0 runs of 'index' with the input"):
        assert_enqueued(wf, input={"a": 2})
    with pytest.raises(AssertionError, match="3 runs of 'double' were enqueued, not 1"):
        assert_enqueued(double, count=1)


def test_make_context_needs_no_run() -> Any:
    wf = workflow("index", input=dict)

    @wf.task
    def first(ctx: Context[dict[str, Any]]) -> list[int]:
        return [1]

    @wf.task
    def other(ctx: Context[dict[str, Any]]) -> int:
        return 1

    @wf.task(parents=[first, other])
    def second(ctx: Context[dict[str, Any]]) -> str:
        skipped = ctx.was_skipped(other)
        return f"{ctx.input['a']} {ctx.output(first)} {skipped} {ctx.tenant}"

    ctx = make_context(second, {"a": 1}, outputs={first: [1]}, tenant="acme")
    assert second.call(ctx) == "1 [1] True acme"
    with pytest.raises(InvalidInput):
        make_context(second, [1])  # type: ignore[misc]


def test_make_context_serves_async_tasks() -> Any:
    wf = workflow("index")

    @wf.task
    async def double(ctx: Context[None]) -> int:
        return 2 * ctx.attempt

    assert double.call(make_context(double, attempt=3)) == 6
    assert async_to_sync(double.acall)(make_context(double)) == 2
