"""Events: what can be pushed, and how it joins the caller's transaction."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import override_settings

from orchestrator import EventCondition, InvalidInput, events, task
from orchestrator.engine import push as engine
from orchestrator.engine import sessions
from orchestrator.models import Event
from orchestrator.models.events import EventItem
from orchestrator.testing import drain

pytestmark = pytest.mark.django_db


def test_an_event_has_what_was_pushed() -> None:
    event_id = events.push(
        "order:paid",
        {"order": 7, "lines": [1, "ü", None]},
        scope="shop-3",
        metadata={"user": "7"},
        priority=-5,
        tenant="acme",
    )
    event = Event.objects.get()
    assert event.pk == event_id
    assert event_id.version == 7
    assert (event.key, event.scope, event.tenant) == ("order:paid", "shop-3", "acme")
    assert event.payload == {"order": 7, "lines": [1, "ü", None]}
    assert event.metadata == {"user": "7"}
    assert event.priority == -5
    assert EventItem.objects.filter(event_id=event_id).exists()


def test_what_is_not_given_is_empty() -> None:
    events.push("tick")
    event = Event.objects.get()
    assert (event.payload, event.scope, event.tenant) == (None, "", "")
    assert (event.metadata, event.priority) == ({}, None)


@pytest.mark.parametrize("payload", [0, False, "", [], {}, "text", 1.5, True, [[1]]])
def test_a_payload_is_any_json(payload: Any) -> None:
    events.push("tick", payload)
    assert Event.objects.get().payload == payload


def test_a_rollback_leaves_nothing() -> None:
    with transaction.atomic():
        events.push("tick")
        transaction.set_rollback(True)
    assert Event.objects.count() == EventItem.objects.count() == 0


def test_many_are_pushed_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CHUNK", 2)
    ids = events.push_many(
        [events.Event("tick", n, scope=f"s{n % 2}", tenant="t") for n in range(5)]
    )
    assert ids == sorted(ids)
    rows = Event.objects.order_by("id").values_list("id", "payload", "scope")
    assert list(rows) == [(key, n, f"s{n % 2}") for n, key in enumerate(ids)]
    assert events.push_many([]) == []


def test_many_large_ones_take_several_statements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "CHUNK_SIZE", 1_000)
    payloads = ["x" * 600, "y" * 5_000, "z", "z", "x" * 900]
    parts = list(engine._parts(payloads))
    assert [(part.start, part.stop) for part in parts] == [(0, 1), (1, 2), (2, 5)]
    ids = events.push_many([events.Event("big", text) for text in payloads])
    rows = Event.objects.order_by("id").values_list("id", "payload")
    assert list(rows) == list(zip(ids, payloads, strict=True))


def test_async_callers_have_their_twins() -> None:
    async def push() -> None:
        await events.apush("one", 1, scope="s", priority=3)
        await events.apush_many([events.Event("two", 2), events.Event("three", 3)])

    async_to_sync(push)()
    keys = Event.objects.order_by("id").values_list("key", "payload", "priority")
    assert list(keys) == [("one", 1, 3), ("two", 2, None), ("three", 3, None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": ""}, "name of a pushed event is ''"),
        ({"key": 7}, "name of a pushed event is 7; give a string"),
        ({"key": "a\nb"}, "printable"),
        ({"key": "k" * 201}, "at most 200"),
        ({"key": "k", "scope": ""}, "name of a scope is ''"),
        ({"key": "k", "scope": 3}, "name of a scope is 3"),
        ({"key": "k", "payload": {"a": {1, 2}}}, r"event 'k': \$\.a is of type set"),
        ({"key": "k", "payload": "\0"}, "contains NUL"),
        ({"key": "k", "payload": float("nan")}, "which JSON does not have"),
        ({"key": "k", "payload": "x" * 2**20}, "more than the 1,048,576 allowed"),
        ({"key": "k", "metadata": [1]}, "is not a dictionary"),
        ({"key": "k", "metadata": {"x": "y" * 70_000}}, "65,536 allowed"),
        ({"key": "k", "priority": 101}, "out of range"),
        ({"key": "k", "tenant": " "}, "name of a tenant"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        events.push(**options)
    assert Event.objects.count() == 0


def test_the_index_of_what_does_not_fit_is_told() -> None:
    good = events.Event("good")
    with pytest.raises(InvalidInput, match="Item 1: Payload of the event 'bad'"):
        events.push_many([good, events.Event("bad", object())])
    with pytest.raises(InvalidInput, match=r"Item 0 is 'good'; give events\.Event"):
        events.push_many(["good"])  # type: ignore[list-item]
    assert Event.objects.count() == 0


def test_a_push_is_one_statement() -> None:
    sent: list[bytes] = []
    send = sessions.DjangoSession.send

    def counted(self: Any, statement: bytes, params: Any) -> Any:
        sent.append(statement)
        return send(self, statement, params)

    events.push("warm")  # the clock may be read once
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions.DjangoSession, "send", counted)
        events.push("tick")
    assert len(sent) == 1


@override_settings(ORCHESTRATOR={"LISTEN": True})
@pytest.mark.usefixtures("own_definitions")
def test_the_hint_is_sent_after_the_commit(
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        events.push("tick")
    assert len(callbacks) == 1


@pytest.mark.usefixtures("own_definitions")
def test_an_event_reaches_who_waits_for_it() -> None:
    @task(wait_for=EventCondition("go", "payload.n == 2", scope="s"))
    def waiter() -> int:
        return 1

    handle = waiter.enqueue()
    drain()
    events.push("go", {"n": 2})
    events.push("go", {"n": 1}, scope="s")
    drain()
    assert handle.refresh().status == "QUEUED"
    events.push("go", {"n": 2}, scope="s")
    drain()
    assert handle.result() == 1
    assert EventItem.objects.count() == 0
