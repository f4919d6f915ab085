from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from orchestrator import (
    NonRetryable,
    OrchestratorError,
    Retry,
    RunCancelled,
    RunFailed,
    task,
)
from orchestrator.models import Attempt, DelayedItem, Lease, QueueItem
from orchestrator.testing import (
    adrain,
    drain,
    travel,
)

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]


HOUR = timedelta(hours=1)


def failing(**options: Any) -> Any:
    @task(**options)  # type: ignore[untyped-decorator]
    def fail() -> None:
        raise ValueError("always")

    return fail


def test_drain_executes_all_that_is_due_and_counts() -> Any:
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


def test_drain_stops_at_its_limit() -> None:
    @task
    def nothing() -> None: ...

    nothing.enqueue_many([nothing.bind()] * 5)
    assert drain(limit=2) == 2
    assert QueueItem.objects.count() == 3
    assert not Lease.objects.exists()
    assert drain() == 3


def test_drain_follows_priority_and_then_age() -> None:
    order: list[str] = []

    @task
    def note(name: str) -> None:
        order.append(name)

    for name, priority in (("b", 0), ("c", 0), ("a", 1), ("d", -1)):
        note.using(priority=priority).enqueue(name)
    drain()
    assert order == ["a", "b", "c", "d"]


def test_drain_serves_every_queue() -> None:
    @task(queue_name="one")
    def nothing() -> None: ...

    nothing.enqueue()
    nothing.using(queue_name="nobody-declared-this").enqueue()
    assert drain() == 2


def test_retries_at_once_are_executed_by_one_drain() -> None:
    fail = failing(retries=2)
    handle = fail.enqueue()
    assert drain() == 3
    with pytest.raises(RunFailed):
        handle.result()
    assert Attempt.objects.count() == 3


def test_retries_with_a_delay_wait_for_the_clock() -> None:
    fail = failing(retries=Retry(1, initial=HOUR, max=HOUR, jitter=False))
    handle = fail.enqueue()
    assert drain() == 1
    with travel(timedelta(minutes=59)):
        assert drain() == 0
    with travel(timedelta(minutes=61)):
        assert drain() == 1
    with pytest.raises(RunFailed):
        handle.result()


def test_nonretryable_ends_it() -> None:
    @task(retries=5)
    def fail() -> None:
        raise NonRetryable("never")

    handle = fail.enqueue()
    assert drain() == 1
    with pytest.raises(RunFailed, match="never"):
        handle.result()


def test_scheduled_runs_wait_for_the_clock() -> None:
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


def test_schedule_timeouts_expire_by_the_clock() -> None:
    @task(schedule_timeout=timedelta(minutes=5))
    def late() -> None: ...

    handle = late.enqueue()
    with travel(timedelta(minutes=6)):
        assert drain() == 0
    with pytest.raises(RunCancelled, match="schedule timeout"):
        handle.result()


def test_async_tasks_use_the_connection_of_the_test() -> Any:
    @task
    async def create(name: str) -> int:
        await Group.objects.acreate(name=name)
        return await sync_to_async(Group.objects.count)()

    handle = create.enqueue("a")
    drain()
    assert handle.result() == 1
    assert Group.objects.get().name == "a"


def test_an_async_task_is_ended_at_its_execution_timeout() -> None:
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


def test_isolated_tasks_are_executed_here() -> None:
    here: list[int] = []

    @task(isolated=True)
    def alone() -> None:
        here.append(1)

    alone.enqueue()
    assert drain() == 1
    assert here == [1]


def test_a_task_that_breaks_the_transaction_fails_alone() -> Any:
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
def test_nothing_that_a_task_raises_escapes(error: Any) -> None:
    @task
    def leave() -> None:
        raise error

    handle = leave.enqueue()
    assert drain() == 1
    with pytest.raises(RunFailed) as raised:
        handle.result()
    assert raised.value.errors["leave"].error_type == type(error).__name__


def test_drain_inside_atomic_is_refused() -> None:
    with (
        transaction.atomic(),
        pytest.raises(OrchestratorError, match="after the block"),
    ):
        drain()


def test_async_tests_have_a_twin() -> Any:
    @task
    def nothing() -> None: ...

    async def story() -> int:
        await nothing.aenqueue()
        return await adrain()

    assert async_to_sync(story)() == 1
