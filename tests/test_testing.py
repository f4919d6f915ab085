from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from orchestrator import (
    Context,
    InvalidInput,
    NonRetryable,
    OrchestratorError,
    Retry,
    RunCancelled,
    RunFailed,
    registry,
    task,
    workflow,
)
from orchestrator.models import Attempt, DelayedItem, Lease, QueueItem
from orchestrator.testing import (
    adrain,
    assert_enqueued,
    drain,
    make_context,
    travel,
)

pytestmark = [
    pytest.mark.usefixtures("_own_definitions"),
    pytest.mark.django_db,
]


@pytest.fixture
def _own_definitions() -> Iterator[None]:
    with registry.isolated():
        yield


HOUR = timedelta(hours=1)


def failing(**options: Any) -> Any:
    @task(**options)
    def fail() -> None:
        raise ValueError("always")

    return fail


def test_drain_executes_all_that_is_due_and_counts():
    @task
    def spawn(n: int) -> int:
        if n:
            spawn.enqueue(n - 1)
        return n

    spawn.enqueue(3)
    assert drain() == 4
    assert drain() == 0
    assert not QueueItem.objects.exists()
    assert not Lease.objects.exists()


def test_drain_stops_at_its_limit():
    @task
    def nothing() -> None: ...

    nothing.enqueue_many([nothing.bind()] * 5)
    assert drain(limit=2) == 2
    assert QueueItem.objects.count() == 3
    assert not Lease.objects.exists()
    assert drain() == 3


def test_drain_follows_priority_and_then_age():
    order: list[str] = []

    @task
    def note(name: str) -> None:
        order.append(name)

    for name, priority in (("b", 0), ("c", 0), ("a", 1), ("d", -1)):
        note.using(priority=priority).enqueue(name)
    drain()
    assert order == ["a", "b", "c", "d"]


def test_drain_serves_every_queue():
    @task(queue_name="one")
    def nothing() -> None: ...

    nothing.enqueue()
    nothing.using(queue_name="nobody-declared-this").enqueue()
    assert drain() == 2


def test_retries_at_once_are_executed_by_one_drain():
    fail = failing(retries=2)
    handle = fail.enqueue()
    assert drain() == 3
    with pytest.raises(RunFailed):
        handle.result()
    assert Attempt.objects.count() == 3


def test_retries_with_a_delay_wait_for_the_clock():
    fail = failing(retries=Retry(1, initial=HOUR, max=HOUR, jitter=False))
    handle = fail.enqueue()
    assert drain() == 1
    with travel(timedelta(minutes=59)):
        assert drain() == 0
    with travel(timedelta(minutes=61)):
        assert drain() == 1
    with pytest.raises(RunFailed):
        handle.result()


def test_nonretryable_ends_it():
    @task(retries=5)
    def fail() -> None:
        raise NonRetryable("never")

    handle = fail.enqueue()
    assert drain() == 1
    with pytest.raises(RunFailed, match="never"):
        handle.result()


def test_scheduled_runs_wait_for_the_clock():
    @task
    def nothing() -> None: ...

    tomorrow = timezone.now() + timedelta(days=1)
    nothing.using(run_after=tomorrow).enqueue()
    assert drain() == 0
    assert DelayedItem.objects.count() == 1
    with travel(tomorrow - timedelta(seconds=1)):
        assert drain() == 0
    with travel(tomorrow):
        assert drain() == 1


def test_schedule_timeouts_expire_by_the_clock():
    @task(schedule_timeout=timedelta(minutes=5))
    def late() -> None: ...

    handle = late.enqueue()
    with travel(timedelta(minutes=6)):
        assert drain() == 0
    with pytest.raises(RunCancelled, match="schedule timeout"):
        handle.result()


def test_async_tasks_use_the_connection_of_the_test():
    @task
    async def create(name: str) -> int:
        await Group.objects.acreate(name=name)
        return await sync_to_async(Group.objects.count)()

    handle = create.enqueue("a")
    drain()
    assert handle.result() == 1
    assert Group.objects.get().name == "a"


def test_an_async_task_is_ended_at_its_execution_timeout():
    @task(execution_timeout=timedelta(milliseconds=50))
    async def slow() -> None:
        import asyncio

        await asyncio.sleep(30)

    handle = slow.enqueue()
    started = time.monotonic()
    drain()
    assert time.monotonic() - started < 10
    with pytest.raises(RunFailed, match="execution timeout"):
        handle.result()
    assert Attempt.objects.get().outcome == "TIMED_OUT"


def test_isolated_tasks_are_executed_here():
    here: list[int] = []

    @task(isolated=True)
    def alone() -> None:
        here.append(1)

    alone.enqueue()
    assert drain() == 1
    assert here == [1]


def test_a_task_that_breaks_the_transaction_fails_alone():
    @task
    def break_it() -> None:
        Group.objects.create(name="twice")
        connection.cursor().execute(
            "INSERT INTO auth_group (id, name) VALUES (77, 'twice')"
        )

    @task
    def swallow() -> str:
        try:
            with transaction.atomic():
                Group.objects.create(name="once")
                Group.objects.create(name="once")
        except IntegrityError:
            Group.objects.create(name="after")
        return "fine"

    broken, fine = break_it.enqueue(), swallow.enqueue()
    assert drain() == 2
    with pytest.raises(RunFailed, match="IntegrityError"):
        broken.result()
    assert fine.result() == "fine"
    assert [group.name for group in Group.objects.all()] == ["after"]


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), MemoryError()]
)
def test_nothing_that_a_task_raises_escapes(error):
    @task
    def leave() -> None:
        raise error

    handle = leave.enqueue()
    assert drain() == 1
    with pytest.raises(RunFailed) as raised:
        handle.result()
    assert raised.value.exceptions[0].error_type == type(error).__name__


def test_drain_inside_atomic_is_refused():
    with (
        transaction.atomic(),
        pytest.raises(OrchestratorError, match="after the block"),
    ):
        drain()


def test_async_tests_have_a_twin():
    @task
    def nothing() -> None: ...

    async def story() -> int:
        await nothing.aenqueue()
        return await adrain()

    assert async_to_sync(story)() == 1


# The clock.


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT orchestrator_now()")
        found: datetime = cursor.fetchone()[0]
        return found


def test_travel_moves_the_clock_and_brings_it_back():
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with travel(moment) as there:
        assert there == moment == database_now()
        with travel(timedelta(days=1)):
            assert database_now() == moment + timedelta(days=1)
        assert database_now() == moment
    assert abs(database_now() - timezone.now()) < timedelta(minutes=1)


def test_travel_brings_the_clock_back_after_an_error():
    with pytest.raises(ZeroDivisionError), travel(timedelta(days=1)):
        raise ZeroDivisionError
    assert abs(database_now() - timezone.now()) < timedelta(minutes=1)


def test_travel_needs_an_aware_datetime():
    with pytest.raises(ValueError, match="naive"), travel(datetime(2030, 1, 1)):
        raise AssertionError


def test_ids_do_not_travel():
    @task
    def nothing() -> None: ...

    now = timezone.now().timestamp() * 1000
    with travel(timedelta(days=3650)):
        handle = nothing.enqueue()
    assert abs((handle.id.int >> 80) - now) < 60_000


# Assertions and contexts.


def test_assert_enqueued_finds_runs_by_target_input_and_count():
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


def test_make_context_needs_no_run():
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
        make_context(second, [1])  # type: ignore[arg-type]


def test_make_context_serves_async_tasks():
    wf = workflow("index")

    @wf.task
    async def double(ctx: Context[None]) -> int:
        return 2 * ctx.attempt

    assert double.call(make_context(double, attempt=3)) == 6
    assert async_to_sync(double.acall)(make_context(double)) == 2
