"""Two schedulers on one database: half each, nothing twice, and no round is fatal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import psycopg
import pytest
from django.test import override_settings
from django.utils import timezone
from psycopg import errors

from orchestrator import registry
from orchestrator.engine import duties, promote, sessions
from orchestrator.engine.sessions import WorkerSession
from orchestrator.models import (
    DelayedItem,
    Duty,
    QueueItem,
    WaitCondition,
    Worker,
)
from orchestrator.scheduler import duties as scheduler_duties
from orchestrator.scheduler.loop import Scheduler, rescue_lost
from tests.app import conditions, tasks

pytestmark = pytest.mark.django_db(transaction=True)

Connect = Callable[[], psycopg.Connection[Any]]


@pytest.fixture
def scheduler() -> Any:
    made = Scheduler(registry.shapes())
    yield made
    made.link.drop()


def one_round(scheduler: Scheduler) -> float:
    """A round in which everything is due."""
    for chore in scheduler.chores:
        chore.due_at = 0.0
    scheduler.resume_at = 0.0
    return scheduler.round(monotonic())


def schedule(number: int, seconds: float) -> None:
    later = timezone.now() + timedelta(seconds=seconds)
    target = tasks.noop.using(run_after=later)
    target.enqueue_many([target.bind() for _ in range(number)])


def make_due() -> None:
    DelayedItem.objects.update(due_at=timezone.now() - timedelta(seconds=1))


def test_a_round_queues_what_is_due_and_leaves_the_rest(scheduler: Scheduler) -> None:
    schedule(3, 60)
    make_due()
    schedule(2, 60)
    one_round(scheduler)
    assert (QueueItem.objects.count(), DelayedItem.objects.count()) == (3, 2)


def test_more_than_a_batch_is_queued_in_one_round(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule(7, 60)
    make_due()
    chore = scheduler.promote_chore
    chore.do, chore.full = (lambda session: promote.promote(session, 3)), 3
    one_round(scheduler)
    assert QueueItem.objects.count() == 7


def test_it_sleeps_until_the_next_item_is_due(scheduler: Scheduler) -> None:
    schedule(1, 30)
    one_round(scheduler)
    for chore in scheduler.chores:
        chore.due_at = monotonic() + 600
    scheduler.promote_chore.every = 600.0
    scheduler.promote_chore.due_at = 0.0
    assert 0 < scheduler.round(monotonic()) <= 30


def test_it_sleeps_until_the_next_condition_is_due(scheduler: Scheduler) -> None:
    conditions.lies_low.enqueue()
    one_round(scheduler)
    for chore in scheduler.chores:
        chore.due_at = monotonic() + 600
    scheduler.tend_chore.every = 600.0
    scheduler.tend_chore.due_at = 0.0
    assert 20 < scheduler.round(monotonic()) <= 30
    WaitCondition.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    one_round(scheduler)
    assert QueueItem.objects.count() == 1
    assert not WaitCondition.objects.exists()


def test_two_schedulers_queue_each_item_once(second_connection: Connect) -> None:
    schedule(400, 60)
    make_due()
    barrier = threading.Barrier(2)
    moved = [0, 0]

    def promote_all(number: int, session: WorkerSession) -> None:
        barrier.wait(20)
        while count := promote.promote(session, 20):
            moved[number] += count

    threads = [
        threading.Thread(
            target=promote_all, args=(n, WorkerSession(second_connection()))
        )
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(moved) == 400
    assert QueueItem.objects.count() == 400
    assert QueueItem.objects.values("task_run_id").distinct().count() == 400
    assert not DelayedItem.objects.exists()


def test_one_scheduler_at_a_time_has_a_duty(
    second_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(2)
    done: list[str] = []
    duty = scheduler_duties.Duty(
        "once", timedelta(hours=1), lambda session: done.append("done")
    )
    monkeypatch.setattr(scheduler_duties, "DUTIES", (duty,))

    def take(holder: str, session: WorkerSession) -> None:
        barrier.wait(20)
        scheduler_duties.do_due(session, holder)

    threads = [
        threading.Thread(target=take, args=(name, WorkerSession(second_connection())))
        for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == ["done"]
    assert Duty.objects.get().holder in ("a", "b")


def test_a_duty_is_free_again_after_its_time(second_connection: Connect) -> None:
    session = WorkerSession(second_connection())
    hour = timedelta(hours=1)
    assert duties.take(session, "d", "first", hour)
    assert not duties.take(session, "d", "second", hour)
    Duty.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert duties.take(session, "d", "second", hour)


def test_a_lost_worker_whose_rescue_fails_does_not_stand_in_the_others_way(
    second_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.engine import rescue

    seen = []

    def fail_first(session: Any, worker_id: str) -> int:
        seen.append(worker_id)
        if worker_id == "bad":
            raise errors.DeadlockDetected
        return 5

    monkeypatch.setattr(rescue, "find_lost", lambda session: ["bad", "good"])
    monkeypatch.setattr(rescue, "rescue", fail_first)
    with pytest.raises(errors.DeadlockDetected):
        rescue_lost(WorkerSession(second_connection()))
    assert seen == ["bad", "good"]


@pytest.mark.parametrize(
    "error",
    [
        errors.AdminShutdown(),
        errors.DeadlockDetected(),
        errors.QueryCanceled(),
        errors.UndefinedTable("no such table"),
        ValueError("a bug"),
    ],
)
def test_no_trouble_ends_the_loop(scheduler: Scheduler, error: Exception) -> None:
    def fail(session: Any) -> int:
        raise error

    schedule(2, 60)
    make_due()
    whole = scheduler.promote_chore.do
    scheduler.promote_chore.do = fail
    assert 0 < one_round(scheduler) <= 5
    assert QueueItem.objects.count() == 0
    scheduler.promote_chore.do = whole
    scheduler.link._retry_at = 0.0
    one_round(scheduler)
    assert QueueItem.objects.count() == 2


def test_a_round_without_a_database_waits_and_goes_on(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise psycopg.OperationalError("refused")

    with monkeypatch.context() as down:
        down.setattr(sessions, "connect", refuse)
        assert 0 < one_round(scheduler) <= 5
    scheduler.link._retry_at = 0.0
    schedule(1, 60)
    make_due()
    one_round(scheduler)
    assert QueueItem.objects.count() == 1


def test_workers_that_are_silent_are_declared_lost(scheduler: Scheduler) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    Worker.objects.create(
        id="0" * 32,
        name="silent",
        hostname="gone",
        pid=1,
        status="ACTIVE",
        slots=1,
        processes=1,
        heartbeat_at=long_ago,
        started_at=long_ago,
    )
    # For longer than the server of the tests is up, too.
    moment = timedelta(milliseconds=1)
    with override_settings(
        ORCHESTRATOR={"HEARTBEAT": moment, "LOST_AFTER": 9 * moment}
    ):
        one_round(scheduler)
    assert Worker.objects.get().status == "LOST"
