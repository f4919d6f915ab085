"""Events: what the application says has happened.

    events.push("order:paid", {"order": 7}, scope="shop-3")

An event is a row of the caller's transaction. After the commit the engine routes it to
the tasks that wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from orchestrator import options
from orchestrator.calls import dump_metadata
from orchestrator.conf import settings
from orchestrator.engine import push as engine
from orchestrator.engine import sessions
from orchestrator.exceptions import InvalidInput
from orchestrator.serialization import dumps


@dataclass(frozen=True, slots=True)
class Event:
    """One event of `push_many`; see `push` for what its parts are."""

    key: str
    payload: Any = None
    _: KW_ONLY
    scope: str | None = None
    metadata: Mapping[str, Any] | None = None
    priority: int | None = None
    tenant: str | None = None


def push(
    key: str,
    payload: Any = None,
    *,
    scope: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    priority: int | None = None,
    tenant: str | None = None,
) -> UUID:
    """Push an event and return its id. It joins the caller's transaction.

    `payload` is made of JSON's own types, at most 1 MiB as JSON. With a `scope` it
    meets those who wait for an event of that scope, and those who wait for any. It is
    of effect once the transaction has committed, and locks no row that others use.

    Raises InvalidInput naming what does not fit.
    """
    event = Event(
        key,
        payload,
        scope=scope,
        metadata=metadata,
        priority=priority,
        tenant=tenant,
    )
    return engine.push(sessions.django_session(), [_text(event)])[0]


def push_many(events: Iterable[Event]) -> list[UUID]:
    """Push events, all or none; their ids in order.

    Raises InvalidInput with the index of one that does not fit.
    """
    texts = []
    for index, event in enumerate(events):
        if not isinstance(event, Event):
            raise InvalidInput(f"Item {index} is {event!r}; give events.Event(key, …).")
        try:
            texts.append(_text(event))
        except InvalidInput as error:
            raise InvalidInput(f"Item {index}: {error}", path=error.path) from None
    return engine.push(sessions.django_session(), texts)


async def apush(
    key: str,
    payload: Any = None,
    *,
    scope: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    priority: int | None = None,
    tenant: str | None = None,
) -> UUID:
    """`push` for async callers."""
    return await sync_to_async(push)(
        key,
        payload,
        scope=scope,
        metadata=metadata,
        priority=priority,
        tenant=tenant,
    )


async def apush_many(events: Iterable[Event]) -> list[UUID]:
    """`push_many` for async callers."""
    return await sync_to_async(push_many)(events)


def _text(event: Event) -> str:
    """The event as the JSON text of an object."""
    payload = dumps(
        event.payload,
        limit=settings.max_input_bytes,
        what=f"Payload of the event {event.key!r}",
    )
    priority = event.priority
    if priority is not None:
        options.check_priority(priority, InvalidInput)
    names = {
        "key": options.check_name(event.key, "pushed event", InvalidInput),
        "scope": (
            ""
            if event.scope is None
            else options.check_name(event.scope, "scope", InvalidInput)
        ),
        "tenant": options.check_tenant(event.tenant or "", InvalidInput),
        "priority": priority,
    }
    metadata = dump_metadata(options.check_metadata(event.metadata, InvalidInput))
    head = dumps(names, limit=settings.max_metadata_bytes, what="Names of the event")
    return f'{head[:-1]},"metadata":{metadata},"payload":{payload}}}'
