"""Idempotency: at most one run of a key at a time, and callers learn which it is."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from orchestrator import (
    BulkIdempotencyCollision,
    Context,
    Idempotency,
    IdempotencyCollision,
    InvalidDefinition,
    InvalidInput,
    RunHandle,
    task,
    workflow,
)
from orchestrator.engine.sessions import django_session
from orchestrator.models import IdempotencyKey, Run, TaskRun
from orchestrator.scheduler.duties import DUTIES
from orchestrator.testing import drain, travel

pytestmark = pytest.mark.usefixtures("own_definitions")

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Order:
    number: str
    lines: int = 1


def orders(name: str = "orders", **options: Any) -> Any:
    options.setdefault("idempotency", Idempotency("input.number", ttl=MINUTE))
    wf = workflow(name, input=Order, **options)

    @wf.task
    def ship(ctx: Context[Order]) -> str:
        return f"hello {ctx.input.number}"

    return wf


@pytest.mark.django_db
def test_a_second_run_of_a_key_is_refused_and_the_first_named() -> None:
    wf = orders()
    first = wf.enqueue(Order("1"))
    with pytest.raises(IdempotencyCollision, match=str(first.id)) as caught:
        wf.enqueue(Order("1", lines=2))
    assert caught.value.run_id == first.id
    assert (caught.value.scope, caught.value.key) == ("orders", "1")
    assert Run.objects.count() == TaskRun.objects.count() == 1
    drain()
    assert RunHandle.get(caught.value.run_id).result() == {"ship": "hello 1"}
    assert Run.objects.get().idempotency_key == "1"


@pytest.mark.django_db
def test_a_time_to_live_counts_from_each_run_that_was_made() -> None:
    """Scenario H12 (6): only the trigger within the time of another one collides."""
    wf = orders(idempotency=Idempotency("input.number", ttl=timedelta(seconds=2)))
    made = []
    passed = timedelta()
    for pause in (1.5, 2.5, 3.5, 0):
        with travel(passed):
            try:
                made.append(wf.enqueue(Order("1")))
            except IdempotencyCollision:
                made.append(None)
            drain()
        passed += timedelta(seconds=pause)
    assert [handle is None for handle in made] == [False, True, False, False]
    assert all(h.result() == {"ship": "hello 1"} for h in made if h)


@pytest.mark.django_db
def test_until_finished_frees_the_key_when_the_run_ends() -> None:
    wf = orders(idempotency=Idempotency("input.number", ttl=MINUTE, until="finished"))
    first = wf.enqueue(Order("1"))
    with pytest.raises(IdempotencyCollision):
        wf.enqueue(Order("1"))
    drain()
    second = wf.enqueue(Order("1"))
    assert second != first
    with pytest.raises(IdempotencyCollision) as caught:
        wf.enqueue(Order("1"))
    assert caught.value.run_id == second.id


@pytest.mark.django_db
def test_a_retry_of_the_holder_holds_the_key_again() -> None:
    wf = orders(idempotency=Idempotency("input.number", ttl=MINUTE, until="finished"))
    first = wf.enqueue(Order("1"))
    drain()
    first.retry("all")
    with pytest.raises(IdempotencyCollision):
        wf.enqueue(Order("1"))


@pytest.mark.django_db
def test_many_calls_make_what_does_not_collide_and_report_the_rest() -> None:
    wf = orders()
    held = wf.enqueue(Order("a"))
    with pytest.raises(BulkIdempotencyCollision, match="2 were not") as caught:
        wf.enqueue_many([Order("a"), Order("b"), Order("b"), Order("c")])
    error = caught.value
    assert [c.index for c in error.collisions] == [0, 2]
    created = dict(
        Run.objects.filter(pk__in=[h.id for h in error.created]).values_list(
            "input__number", "pk"
        )
    )
    assert sorted(created) == ["b", "c"]
    assert [c.run_id for c in error.collisions] == [held.id, created["b"]]
    assert Run.objects.count() == 3


@pytest.mark.django_db
def test_the_one_of_many_calls_that_gives_no_key_is_named() -> None:
    wf = workflow("w", input=dict, idempotency=Idempotency("input.id", ttl=MINUTE))
    wf.task(name="a")(lambda ctx: 1)
    with pytest.raises(InvalidInput, match=r"Item 1: .* gave int 3"):
        wf.enqueue_many([{"id": "a"}, {"id": 3}])
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_many_calls_of_different_keys_are_all_made() -> None:
    wf = orders()
    handles = wf.enqueue_many([Order(str(n)) for n in range(600)])
    assert len({handle.id for handle in handles}) == 600
    rows = dict(Run.objects.values_list("pk", "idempotency_key"))
    assert [rows[handle.id] for handle in handles] == [str(n) for n in range(600)]


@pytest.mark.django_db
def test_a_key_of_the_call_wins_and_needs_no_declaration() -> None:
    @task
    def send(to: str) -> None: ...

    first = send.using(idempotency_key="k").enqueue("a")
    with pytest.raises(IdempotencyCollision) as caught:
        send.using(idempotency_key="k").enqueue("b")
    assert caught.value.run_id == first.id
    send.enqueue("c")
    send.using(idempotency_key="k2").enqueue("d")
    drain()
    with travel(timedelta(hours=23)), pytest.raises(IdempotencyCollision):
        send.using(idempotency_key="k").enqueue("e")
    with travel(timedelta(hours=24)):
        send.using(idempotency_key="k").enqueue("e")
    wf = orders()
    wf.enqueue(Order("1"))
    wf.using(idempotency_key="other").enqueue(Order("1"))


@pytest.mark.django_db
def test_bound_calls_bring_their_own_keys() -> None:
    @task
    def send(to: str) -> None: ...

    calls = [send.using(idempotency_key=k).bind(k) for k in ("a", "b", "a")]
    with pytest.raises(BulkIdempotencyCollision) as caught:
        send.enqueue_many([*calls, send.bind("without")])
    assert len(caught.value.created) == 3
    assert Run.objects.filter(idempotency_key=None).count() == 1


@pytest.mark.django_db
def test_scopes_keep_workflows_apart_or_join_them() -> None:
    one, two = orders("one"), orders("two")
    one.enqueue(Order("1"))
    two.enqueue(Order("1"))
    shared = Idempotency("input.number", ttl=MINUTE, scope="shared")
    three, four = (orders(name, idempotency=shared) for name in ("three", "four"))
    holder = three.enqueue(Order("1"))
    for collides in (four, one.using(idempotency_scope="shared")):
        with pytest.raises(IdempotencyCollision) as caught:
            collides.enqueue(Order("1"))
        assert caught.value.run_id == holder.id


@pytest.mark.django_db
def test_the_key_of_plain_arguments_names_them_and_metadata_counts() -> None:
    @task(
        takes_context=True,
        idempotency=Idempotency("input.to + metadata.user + tenant", ttl=MINUTE),
    )
    def send(ctx: Context[Any], to: str, times: int = 1) -> None: ...

    send.using(metadata={"user": "7"}, tenant="t").enqueue("a", times=2)
    send.using(metadata={"user": "8"}, tenant="t").enqueue("a")
    with pytest.raises(IdempotencyCollision, match="a7t"):
        send.using(metadata={"user": "7"}, tenant="t").enqueue(to="a")


@pytest.mark.django_db
def test_an_expression_that_gives_no_key_makes_no_run() -> None:
    wf = orders(idempotency=Idempotency("input.lines", ttl=MINUTE))
    with pytest.raises(InvalidInput, match=r"write string\(input.lines\)"):
        wf.enqueue(Order("1"))
    wf = orders("absent", idempotency=Idempotency("metadata.user", ttl=MINUTE))
    with pytest.raises(InvalidInput, match="idempotency key of absent"):
        wf.enqueue(Order("1"))
    with pytest.raises(InvalidInput, match="201 characters"):
        orders("long").enqueue(Order("x" * 201))
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"expression": "input.id +", "ttl": MINUTE},
        {"expression": "payload.id", "ttl": MINUTE},
        {"expression": "input.id", "ttl": timedelta(0)},
        {"expression": "input.id", "ttl": 60},
        {"expression": "input.id", "ttl": MINUTE, "until": "done"},
        {"expression": "input.id", "ttl": MINUTE, "scope": ""},
    ],
)
def test_a_wrong_declaration_is_refused(options: Any) -> None:
    with pytest.raises(InvalidDefinition):
        orders(idempotency=Idempotency(**options))


@pytest.mark.django_db
def test_a_wrong_key_of_a_call_is_refused() -> None:
    wf = orders()
    for key in ("", "a\0", "\ud800", "x" * 201, 7):
        with pytest.raises(InvalidInput, match="idempotency_key"):
            wf.using(idempotency_key=key)


@pytest.mark.django_db
def test_a_collision_leaves_the_callers_transaction_usable() -> None:
    wf = orders()
    with transaction.atomic():
        wf.enqueue(Order("1"))
        with pytest.raises(IdempotencyCollision):
            wf.enqueue(Order("1"))
        wf.enqueue(Order("2"))
    assert Run.objects.count() == 2


@pytest.mark.django_db
def test_a_rollback_takes_the_key_along_with_the_run() -> None:
    wf = orders()
    with transaction.atomic():
        wf.enqueue(Order("1"))
        transaction.set_rollback(True)
    assert not IdempotencyKey.objects.exists()
    wf.enqueue(Order("1"))


@pytest.mark.django_db
def test_the_policy_is_part_of_the_shape_where_there_is_one() -> None:
    assert "idempotency" not in orders(idempotency=None).shape.data
    assert orders("with").shape.data["idempotency"]["ttl"] == 60


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_exactly_one_is_made() -> None:
    wf = orders()
    barrier = threading.Barrier(4)
    made: list[Any] = []
    refused: list[Any] = []

    def enqueue() -> None:
        barrier.wait(20)
        try:
            made.append(wf.enqueue(Order("1")).id)
        except IdempotencyCollision as error:
            refused.append(error.run_id)
        finally:
            connection.close()

    threads = [threading.Thread(target=enqueue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(made) == 1
    assert refused == made * 3
    assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_expired_keys_are_purged_by_a_duty() -> None:
    orders().enqueue(Order("1"))
    [duty] = [duty for duty in DUTIES if duty.name == "idempotency keys"]
    duty.do(django_session())
    assert IdempotencyKey.objects.count() == 1
    with travel(MINUTE):
        duty.do(django_session())
    assert not IdempotencyKey.objects.exists()
