from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import TextField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast
from django.utils import timezone

from orchestrator import (
    IllegalTransition,
    InvalidInput,
    RunHandle,
    RunNotFound,
    ids,
    operations,
    registry,
    task,
)
from orchestrator.engine import enqueue, sessions
from orchestrator.exceptions import InvalidFilter
from orchestrator.models import AuditEntry, QueueItem, Run, Workflow
from orchestrator.operations import AlreadyDone, Changed, RunFilter
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
    named = RunFilter(workflows=["halve"])
    done = operations.cancel_runs(named, reason="no longer needed", actor=actor)
    # The workflow is known by its name once it is registered.
    assert done == []
    assert not AuditEntry.objects.exists()
    drain(limit=0)
    done = operations.cancel_runs(named, reason="no longer needed", actor=actor)
    assert done == [handle.id for handle in handles]
    run = Run.objects.get(pk=handles[0].id)
    assert run.status_reason == f"Cancelled by {actor.username}: no longer needed"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target_type, entry.actor) == ("cancel", "runs", actor)
    assert (entry.target_repr, entry.reason) == ("2 runs", "no longer needed")
    assert entry.data == {
        "filter": {"workflows": ["halve"]},
        "children": True,
        "changed": 2,
        "failed": 0,
        "problems": [],
        "runs": [str(handle.id) for handle in handles],
    }


def test_the_entry_of_one_run_names_it(halve: Any) -> None:
    handle = halve.enqueue(1)
    drain(limit=0)
    operations.cancel_runs(RunFilter(ids=[handle.id]), reason="x")
    entry = AuditEntry.objects.get()
    assert (entry.target_type, entry.target_id) == ("run", str(handle.id))
    assert entry.target_repr == f"halve {handle.id}"


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
    assert (entry.action, entry.data["tasks"]) == ("retry", "failed")
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
        new = operations.rerun_run(old.id)
        drain()
        run = Run.objects.get(pk=new)
        workflow = Workflow.objects.get(name="halve")
        assert run.version_id == workflow.current_version_id
        assert run.version_id != Run.objects.get(pk=old.id).version_id
        assert run.priority == 3
    with pytest.raises(RunNotFound):
        operations.rerun_run(uuid.uuid4())


def test_reprioritise_moves_what_waits(halve: Any) -> None:
    first, second = halve.enqueue(1), halve.enqueue(2)
    operations.reprioritise_runs(RunFilter(ids=[second.id]), priority=50)
    items = QueueItem.objects.order_by("position").values_list("run_id", flat=True)
    assert list(items) == [second.id, first.id]
    assert AuditEntry.objects.get().data["priority"] == 50
    with pytest.raises(ValueError, match="out of range"):
        operations.reprioritise_runs(RunFilter(ids=[second.id]), priority=101)


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


# Each run by itself.


def test_a_run_that_cannot_be_changed_is_reported_and_stops_nothing(halve: Any) -> None:
    one, other = halve.enqueue(0), halve.enqueue(0)
    drain()
    Run.objects.filter(pk=one.id).update(version_id=1)
    gone = uuid.uuid4()
    done = operations.retry_runs(RunFilter(ids=[gone, one.id, other.id]))
    assert done == [other.id]
    assert isinstance(done, Changed)
    said = dict(done.problems)
    assert "not registered" in said[one.id]
    assert "no run" in said[gone]
    entry = AuditEntry.objects.get()
    assert (entry.data["changed"], entry.data["failed"]) == (1, 2)


def test_a_call_with_a_key_is_carried_out_once(halve: Any) -> None:
    handle = halve.enqueue(1)
    drain()
    key = uuid.uuid4()
    operations.rerun_runs(RunFilter(ids=[handle.id]), key=key)
    with pytest.raises(AlreadyDone):
        operations.rerun_runs(RunFilter(ids=[handle.id]), key=key)
    assert Run.objects.count() == 2
    assert AuditEntry.objects.get().pk == key


def test_a_rerun_with_another_input_is_checked_like_enqueue(halve: Any) -> None:
    handles = halve.enqueue_many([halve.bind(1), halve.bind(2)])
    drain()
    both = RunFilter(ids=[handle.id for handle in handles])
    with pytest.raises(InvalidInput):
        operations.rerun_runs(both, input="four")
    assert Run.objects.count() == 2
    new = operations.rerun_runs(both, input=halve.bind(4))
    assert isinstance(new, Changed)
    drain()
    assert [RunHandle.get(run_id).result() for run_id in new] == [0.25, 0.25]
    data = AuditEntry.objects.get().data
    assert data["edited"] is True
    assert "inputs" not in data

    @task
    def other() -> None: ...

    with pytest.raises(InvalidInput, match="bind the target"):
        operations.rerun_run(handles[0].id, input=other.bind())


def test_a_rerun_keeps_every_digit_of_its_input(halve: Any) -> None:
    @task
    def echo(value: Any) -> Any:
        return value

    old = echo.enqueue(1)
    Run.objects.filter(pk=old.id).update(
        input=RawSQL("'{\"value\": 12345678901234567890.125}'::jsonb", [])
    )
    new = operations.rerun_run(old.id)
    texts: Any = Run.objects.annotate(text=Cast("input", TextField()))
    assert texts.get(pk=new).text == texts.get(pk=old.id).text


# The tree.


def test_cancel_takes_children_along_or_not(halve: Any) -> None:
    parents = halve.enqueue_many([halve.bind(1), halve.bind(2)])
    children = [spawned(halve, parent.id) for parent in parents]
    parents[0].cancel("stop")
    parents[1].cancel("stop", children=False)
    statuses = [RunHandle.get(child).status for child in children]
    assert statuses == ["CANCELLED", "QUEUED"]


def spawned(halve: Any, run_id: uuid.UUID) -> uuid.UUID:
    parent = ids.task_run_id(run_id, 0)
    child = ids.child_run_id(parent, 0)
    shape = halve.definition.shape
    enqueue.enqueue(
        sessions.django_session(),
        shape,
        ['{"x": 1}'],
        run_ids=[child],
        parents=[parent],
    )
    return child
