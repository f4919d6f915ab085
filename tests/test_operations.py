from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from orchestrator import IllegalTransition, RunNotFound, operations, registry, task
from orchestrator.exceptions import InvalidFilter, TooManyRuns
from orchestrator.models import AuditEntry, QueueItem, Run, Workflow
from orchestrator.operations import RunFilter
from orchestrator.testing import drain

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]


@pytest.fixture
def halve() -> Any:
    @task
    def halve(x: int) -> float:
        return 1 / x

    return halve


def user(*permissions: str) -> User:
    found = User.objects.create_user(f"user{User.objects.count()}")
    found.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return User.objects.get(pk=found.pk)


CALLS: list[tuple[str, Any]] = [
    ("cancel_run", lambda f, a: operations.cancel_runs(f, reason="x", actor=a)),
    ("retry_run", lambda f, a: operations.retry_runs(f, actor=a)),
    ("retry_run", lambda f, a: operations.retry_run(next(iter(f.ids)), actor=a)),
    ("rerun_run", lambda f, a: operations.rerun_runs(f, actor=a)),
    ("change_run", lambda f, a: operations.reprioritise_runs(f, priority=1, actor=a)),
]


@pytest.mark.parametrize(("permission", "call"), CALLS)
def test_an_actor_needs_the_permission_and_nothing_happens_without(
    halve: Any, permission: Any, call: Any
) -> None:
    handle = halve.enqueue(0)
    others = {name for name, _ in CALLS} - {permission}
    for actor in (user(*others), AnonymousUser()):
        with pytest.raises(PermissionDenied, match=f"orchestrator.{permission}"):
            call(RunFilter(ids=[handle.id]), actor)
    assert Run.objects.get().outcome_status is None
    assert not AuditEntry.objects.exists()


def test_cancel_says_who_and_why_in_one_transaction_with_the_effect(halve: Any) -> None:
    handles = halve.enqueue_many([halve.bind(1), halve.bind(2)])
    actor = user("cancel_run")
    done = operations.cancel_runs(
        RunFilter(workflows=["halve"]), reason="no longer needed", actor=actor
    )
    # The workflow is known by its name once it is registered.
    assert done == []
    drain(limit=0)
    done = operations.cancel_runs(
        RunFilter(workflows=["halve"]), reason="no longer needed", actor=actor
    )
    assert done == [handle.id for handle in handles]
    run = Run.objects.get(pk=done[0])
    assert run.status_reason == f"Cancelled by {actor.username}: no longer needed"
    entries = AuditEntry.objects.order_by("id")
    assert [entry.target_id for entry in entries] == [str(id) for id in done]
    entry = entries[0]
    assert (entry.action, entry.target_type, entry.actor) == ("cancel", "run", actor)
    assert entry.target_repr == f"halve {done[0]}"
    assert entry.reason == "no longer needed"


def test_a_rollback_takes_the_audit_entry_along(halve: Any) -> None:
    handle = halve.enqueue(1)
    with transaction.atomic():
        operations.cancel_runs(RunFilter(ids=[handle.id]), reason="x")
        transaction.set_rollback(True)
    assert Run.objects.get().outcome_status is None
    assert not AuditEntry.objects.exists()


def test_what_has_ended_is_not_cancelled(halve: Any) -> None:
    handle = halve.enqueue(1)
    drain()
    assert operations.cancel_runs(RunFilter(ids=[handle.id]), reason="x") == []
    assert not AuditEntry.objects.exists()


def test_retry_runs_reopens_those_that_failed(halve: Any) -> None:
    failed, fine, queued = halve.enqueue(0), halve.enqueue(1), None
    drain()
    queued = halve.enqueue(0)
    everything = RunFilter(ids=[failed.id, fine.id, queued.id])
    assert operations.retry_runs(everything, reason="again") == [failed.id]
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.data) == ("retry", {"tasks": "failed"})
    assert operations.retry_runs(everything, tasks="all") == [fine.id]
    assert drain() == 3


def test_retry_run_says_why_not(halve: Any) -> None:
    handle = halve.enqueue(1)
    with pytest.raises(IllegalTransition, match="not ended"):
        operations.retry_run(handle.id)
    with pytest.raises(RunNotFound):
        operations.retry_run(uuid.uuid4())
    assert not AuditEntry.objects.exists()


def test_rerun_runs_uses_the_current_version(halve: Any) -> Any:
    old = halve.using(priority=3).enqueue(4)
    drain()
    with registry.isolated():
        registry._workflows.clear()

        @task(name="halve", retries=3)
        def changed(x: int) -> float:
            return x / 2

        drain()
        (new,) = operations.rerun_runs(RunFilter(ids=[old.id]))
        drain()
        run = Run.objects.get(pk=new)
        workflow = Workflow.objects.get(name="halve")
        assert run.version_id == workflow.current_version_id
        assert run.version_id != Run.objects.get(pk=old.id).version_id
        assert run.priority == 3
    with pytest.raises(RunNotFound):
        operations.rerun_runs(RunFilter(ids=[old.id, uuid.uuid4()]))


def test_reprioritise_moves_what_waits(halve: Any) -> None:
    first, second = halve.enqueue(1), halve.enqueue(2)
    operations.reprioritise_runs(RunFilter(ids=[second.id]), priority=50)
    items = QueueItem.objects.order_by("position").values_list("run_id", flat=True)
    assert list(items) == [second.id, first.id]
    assert AuditEntry.objects.get().data == {"priority": 50}


def test_a_filter_matches_what_has_all_that_is_given(halve: Any) -> Any:
    @task
    def other() -> None: ...

    now = timezone.now()
    labelled = halve.using(
        metadata={"user": "7", "team": "docs"}, tenant="acme", queue_name="slow"
    ).enqueue(1)
    plain = halve.enqueue(0)
    third = other.enqueue()
    drain()
    queued = halve.enqueue(1)

    def match(**criteria: Any) -> set[uuid.UUID]:
        return set(RunFilter(**criteria).runs().values_list("id", flat=True))

    everything = {labelled.id, plain.id, third.id, queued.id}
    assert match(workflows=["other"]) == {third.id}
    assert match(workflows=["other", "halve"]) == everything
    assert match(statuses=["FAILED"]) == {plain.id}
    assert match(statuses=["QUEUED", "FAILED"]) == {plain.id, queued.id}
    assert match(queues=["slow"]) == {labelled.id}
    assert match(metadata={"user": "7"}) == {labelled.id}
    assert match(metadata={"user": "8"}) == set()
    assert match(tenant="acme") == {labelled.id}
    assert match(tenant="") == {plain.id, third.id, queued.id}
    assert match(ids=[plain.id, third.id], workflows=["halve"]) == {plain.id}
    assert match(ids=[]) == set()
    hour = timedelta(hours=1)
    assert match(since=now - hour, until=now + hour) == everything
    assert match(since=now + hour) == set()
    assert match(until=now - hour) == set()


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        ({}, "means every run"),
        ({"statuses": ["DONE"]}, "'DONE' is no status"),
        ({"workflows": "halve"}, "give a list"),
        ({"since": datetime(2026, 1, 1)}, "naive"),
    ],
)
def test_a_filter_that_says_nothing_useful_is_refused(
    criteria: Any, words: Any
) -> None:
    with pytest.raises(InvalidFilter, match=words):
        RunFilter(**criteria)


def test_a_filter_of_too_many_runs_changes_nothing(
    halve: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(operations, "LIMIT", 2)
    handles = halve.enqueue_many([halve.bind(1)] * 3)
    with pytest.raises(TooManyRuns, match="more than 2 runs"):
        operations.cancel_runs(RunFilter(statuses=["QUEUED"]), reason="x")
    assert Run.objects.unfinished().count() == 3
    done = operations.cancel_runs(
        RunFilter(ids=[handle.id for handle in handles[:2]]), reason="x"
    )
    assert len(done) == 2
