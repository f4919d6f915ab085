"""Verbs over more runs than one call changes: in chunks, by whoever comes along."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.utils import timezone

from orchestrator import Context, operations, task, workflow
from orchestrator.engine import sessions
from orchestrator.models import AuditEntry, BulkOperation, Run, TaskRun
from orchestrator.operations import AlreadyDone, RunFilter, acts, bulk, verbs
from orchestrator.scheduler import bulk as scheduling
from orchestrator.testing import drain

pytestmark = [pytest.mark.usefixtures("own_definitions"), pytest.mark.django_db]

QUEUED = RunFilter(statuses=["QUEUED"])


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "LIMIT", 3)
    monkeypatch.setattr(bulk, "CHUNK", 4)


@pytest.fixture
def echo() -> Any:
    @task
    def echo(n: int) -> int:
        return n

    return echo


def many(target: Any, count: int = 10) -> list[Any]:
    found: list[Any] = target.enqueue_many([target.bind(n) for n in range(count)])
    return found


def asked(**options: Any) -> BulkOperation:
    """A bulk operation that cancels all that is queued."""
    found = operations.cancel_runs(QUEUED, **{"reason": "stop", **options})
    assert isinstance(found, BulkOperation)
    return found


def user(*permissions: str) -> User:
    found = User.objects.create_user("ada")
    found.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return User.objects.get(pk=found.pk)


def cancelled() -> int:
    return Run.objects.with_status("CANCELLED").count()


def test_it_is_worked_off_chunk_by_chunk_with_its_progress(echo: Any) -> None:
    many(echo)
    operation = asked()
    assert (operation.status, operation.total, cancelled()) == ("QUEUED", 10, 0)
    assert operations.work_off() == 4
    operation.refresh_from_db()
    assert (operation.status, operation.done, cancelled()) == ("RUNNING", 4, 4)
    assert operation.started_at is not None
    assert [operations.work_off() for _ in range(3)] == [4, 2, 0]
    operation.refresh_from_db()
    assert (operation.status, operation.done, cancelled()) == ("COMPLETED", 10, 10)
    assert operation.is_finished
    assert operation.problems == []


def test_a_drain_works_it_off_and_wait_returns(echo: Any) -> None:
    many(echo)
    operation = asked()
    assert drain() == 0
    assert operation.wait(timeout=0).done == 10
    assert cancelled() == 10


def test_waiting_for_nobody_ends_in_time(echo: Any) -> None:
    many(echo)
    with pytest.raises(TimeoutError, match="Is a scheduler running"):
        asked().wait(timeout=0)


def test_it_leaves_one_audit_entry_and_says_who_and_why(echo: Any) -> None:
    many(echo)
    ada = user("cancel_run")
    operation = asked(actor=ada, reason="not needed")
    drain()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.reason) == ("cancel", ada, "not needed")
    assert entry.target_type == "bulk operation"
    assert entry.target_id == str(operation.pk)
    assert entry.data == {
        "filter": {"statuses": ["QUEUED"]},
        "children": True,
        "matched": 10,
    }
    said = set(Run.objects.values_list("status_reason", flat=True))
    assert said == {"Cancelled by ada: not needed"}


def test_runs_that_come_later_are_not_meant(echo: Any) -> None:
    many(echo)
    drain()
    names = RunFilter(workflows=["echo"])
    operation = operations.rerun_runs(names)
    assert isinstance(operation, BulkOperation)
    late = many(echo, 2)
    drain()
    assert operation.wait(timeout=0).done == 10
    assert Run.objects.count() == 22
    assert len(late) == 2


def test_what_cannot_be_changed_is_counted_and_the_first_are_named(
    echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_PROBLEMS", 2)
    handles = many(echo)
    drain()
    broken = [handle.id for handle in handles[:3]]
    Run.objects.filter(pk__in=broken).update(version_id=1)
    operation = operations.retry_runs(RunFilter(workflows=["echo"]), tasks="all")
    assert isinstance(operation, BulkOperation)
    drain()
    operation.wait(timeout=0)
    assert (operation.done, operation.failed) == (7, 3)
    assert [problem["run"] for problem in operation.problems] == [
        str(run_id) for run_id in broken[:2]
    ]
    assert "not registered" in operation.problems[0]["message"]


def test_a_stop_leaves_the_rest_as_it_is(echo: Any) -> None:
    many(echo)
    operation = asked()
    operations.work_off()
    ada = user("cancel_run")
    operations.stop_bulk(operation, ada, reason="enough")
    assert (operation.status, operation.done) == ("STOPPED", 4)
    assert operations.work_off() == 0
    assert cancelled() == 4
    entry = AuditEntry.objects.first()
    assert entry
    assert (entry.action, entry.actor, entry.reason) == ("stop", ada, "enough")
    operations.stop_bulk(operation.pk)
    assert AuditEntry.objects.count() == 2


def test_a_stop_needs_the_permission_of_the_verb(echo: Any) -> None:
    many(echo)
    operation = asked()
    with pytest.raises(PermissionDenied):
        operations.stop_bulk(operation, user("retry_run"))
    assert not BulkOperation.objects.get().is_finished


def test_a_key_that_was_used_asks_for_nothing_more(echo: Any) -> None:
    many(echo)
    first = asked()
    with pytest.raises(AlreadyDone):
        asked(key=first.pk)
    assert BulkOperation.objects.count() == 1


def test_a_chunk_that_breaks_off_leaves_nothing_and_is_done_again(
    echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(echo)
    operation = asked()
    operations.work_off()

    def crash(*args: Any) -> Any:
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_problems", crash)
        with pytest.raises(SystemError):
            operations.work_off()
    operation.refresh_from_db()
    assert (operation.done, cancelled()) == (4, 4)
    drain()
    assert operation.wait(timeout=0).done == 10


def test_a_chunk_ends_when_its_time_is_over(
    echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(echo)
    drain()
    monkeypatch.setattr(bulk, "CHUNK_SECONDS", 0.0)
    operation = operations.rerun_runs(RunFilter(workflows=["echo"]))
    assert isinstance(operation, BulkOperation)
    operations.work_off()
    operation.refresh_from_db()
    assert operation.done == 1
    drain()
    assert operation.wait(timeout=0).done == 10
    assert Run.objects.count() == 20


def test_batches_are_no_bound(echo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "BATCH", 3)
    monkeypatch.setattr(verbs, "LIMIT", 50)
    handles = many(echo)
    done = operations.cancel_runs(QUEUED, reason="")
    assert done == [handle.id for handle in handles]


def test_several_are_worked_off_one_after_the_other(echo: Any) -> None:
    many(echo)
    drain()
    filter = RunFilter(workflows=["echo"], until=timezone.now() + timedelta(hours=1))
    first = operations.retry_runs(filter, tasks="all")
    second = operations.rerun_runs(filter)
    assert isinstance(first, BulkOperation)
    assert isinstance(second, BulkOperation)
    drain()
    assert (first.wait(0).done, second.wait(0).done) == (10, 10)
    assert first.finished_at
    assert second.started_at
    assert first.finished_at <= second.started_at


# Schedulers.


@pytest.fixture
def session(second_connection: Callable[[], psycopg.Connection[Any]]) -> Any:
    return sessions.WorkerSession(second_connection())


@pytest.mark.django_db(transaction=True)
def test_a_scheduler_works_it_off_in_turns(
    echo: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scheduling.work_off(session) == 0
    many(echo)
    asked()
    monkeypatch.setattr(scheduling, "TURN", 0.0)
    assert scheduling.work_off(session) == 0
    monkeypatch.setattr(scheduling, "TURN", 60.0)
    assert scheduling.work_off(session) == 10
    assert cancelled() == 10


@pytest.mark.django_db(transaction=True)
def test_two_schedulers_share_it_and_do_nothing_twice(echo: Any) -> None:
    many(echo, 40)
    drain()
    operation = operations.rerun_runs(RunFilter(workflows=["echo"]))
    barrier = threading.Barrier(2)

    def work() -> None:
        barrier.wait(10)
        while not BulkOperation.objects.get().is_finished:
            operations.work_off()
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert isinstance(operation, BulkOperation)
    assert operation.wait(timeout=0).done == 40
    assert Run.objects.count() == 80


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_held_elsewhere_is_reported_and_the_rest_is_done(
    echo: Any,
    second_connection: Callable[[], psycopg.Connection[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "LOCK_TIMEOUT", "50ms")
    handles = many(echo, 5)
    operation = asked()
    holder = second_connection()
    with holder.transaction():
        holder.execute(
            "SELECT FROM orchestrator_run WHERE id = %s FOR UPDATE", [handles[1].id]
        )
        while operations.work_off():
            pass
    operation.refresh_from_db()
    assert (operation.status, operation.done, operation.failed) == ("COMPLETED", 4, 1)
    assert "held by another transaction" in operation.problems[0]["message"]
    assert operation.problems[0]["run"] == str(handles[1].id)


# Scenario: all that failed of three workflows is retried by a filter.


@pytest.fixture(params=[500, 50], ids=["at once", "in the background"])
def limit(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(verbs, "LIMIT", request.param)
    monkeypatch.setattr(bulk, "CHUNK", 200)
    return request.param  # type: ignore[no-any-return]


def test_all_198_failed_runs_are_retried_by_a_filter(limit: int) -> None:
    def failing(name: str) -> Any:
        made = workflow(name, input=dict)

        @made.task
        def work(ctx: Context[dict[str, Any]]) -> int:
            if ctx.attempt == 1:
                raise ValueError("the first time fails")
            return ctx.attempt

        return made

    counts = {"one": 101, "two": 49, "three": 48}
    started = timezone.now() - timedelta(seconds=5)
    for name, count in counts.items():
        made = failing(name).using(metadata={"test": "bulk"})
        made.enqueue_many([{} for _ in range(count)])
    drain()
    assert Run.objects.with_status("FAILED").count() == 198
    done = operations.retry_runs(
        RunFilter(workflows=list(counts), since=started, metadata={"test": "bulk"})
    )
    if isinstance(done, BulkOperation):
        assert limit == 50
        drain()
        assert done.wait(timeout=0).done == 198
    else:
        assert len(done) == 198
        drain()
    assert Run.objects.with_status("COMPLETED").count() == 198
    assert set(TaskRun.objects.values_list("attempts", flat=True)) == {2}
    for name, count in counts.items():
        assert Run.objects.filter(workflow__name=name).count() == count
