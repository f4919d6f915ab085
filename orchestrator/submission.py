"""Submission: from calls to runs in the database, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchestrator import idempotency
from orchestrator.calls import CallOptions
from orchestrator.engine import clock, enqueue, keys, notify, register, sessions
from orchestrator.engine.keys import Key
from orchestrator.engine.sessions import Session
from orchestrator.engine.shapes import queue_id
from orchestrator.exceptions import (
    BulkIdempotencyCollision,
    IdempotencyCollision,
    InvalidInput,
)
from orchestrator.runs import RunHandle

if TYPE_CHECKING:
    from orchestrator.workflows import WorkflowDefinition

Prepared = tuple[CallOptions, str]  # a call of a known workflow: how, and its input


_made: set[int] = set()  # queues whose rows are known to be there


def forget_queues() -> None:
    """Make sure of every queue again: the tables may have been emptied."""
    _made.clear()


def submit(
    definition: WorkflowDefinition[Any], options: CallOptions, text: str
) -> UUID:
    """Enqueue one run; `text` is its input as JSON. One statement, no lookup.

    With an idempotency key: one more, in the same transaction. Raises
    IdempotencyCollision where another run holds the key.
    """
    session = sessions.django_session()
    if idempotency.applies(definition, options):
        return _submit_keyed(session, definition, [(options, text)], single=True)[0]
    return _send(session, definition, options, [text])[0]


def submit_many(
    definition: WorkflowDefinition[Any], calls: Iterable[Prepared]
) -> list[UUID]:
    """Enqueue many runs, all or none; one statement for each 250 task runs.

    Raises BulkIdempotencyCollision where others hold keys; the rest is made then.
    """
    session = sessions.django_session()
    calls = list(calls)
    if any(idempotency.applies(definition, options) for options, _ in calls):
        return _submit_keyed(session, definition, calls)
    groups = [
        (options, [text for _, text in group])
        for options, group in groupby(calls, key=lambda call: call[0])
    ]
    if not groups:
        return []
    if len(groups) == 1:
        return _send(session, definition, *groups[0])
    with session.joined():
        return [
            run_id
            for options, texts in groups
            for run_id in _send(session, definition, options, texts)
        ]


def numbered(
    items: Iterable[Any], prepare: Callable[[Any], Prepared]
) -> Iterator[Prepared]:
    """Prepare each item; raises InvalidInput with the index of what does not fit."""
    for index, item in enumerate(items):
        try:
            yield prepare(item)
        except InvalidInput as error:
            raise InvalidInput(f"Item {index}: {error}", path=error.path) from None


def _submit_keyed(
    session: Session,
    definition: WorkflowDefinition[Any],
    calls: list[Prepared],
    *,
    single: bool = False,
) -> list[UUID]:
    """Enqueue the calls whose keys are free; keys and runs commit together."""
    run_ids = clock.new_run_ids(session, len(calls))
    wanted: list[Key | None] = []
    for index, ((options, text), run_id) in enumerate(zip(calls, run_ids, strict=True)):
        try:
            wanted.append(idempotency.key_of(definition, options, text, run_id))
        except InvalidInput as error:
            if single:
                raise
            raise InvalidInput(f"Item {index}: {error}", path=error.path) from None
    with session.joined():
        held = keys.claim(session, [key for key in wanted if key is not None])
        collisions = [
            IdempotencyCollision.of(index, key.scope, key.key, held[run_id])
            for index, (key, run_id) in enumerate(zip(wanted, run_ids, strict=True))
            if key is not None and run_id in held
        ]
        if single and collisions:
            raise collisions[0]  # and let go of what the look at the key has locked
        free = [
            (_keyless(options), text, run_id, key and key.key)
            for (options, text), run_id, key in zip(calls, run_ids, wanted, strict=True)
            if run_id not in held
        ]
        for options, group in groupby(free, key=lambda call: call[0]):
            _, texts, ids, names = zip(*group, strict=True)
            _send(session, definition, options, texts, ids, names)
    if collisions:
        created = [RunHandle[Any](run_id) for _, _, run_id, _ in free]
        raise BulkIdempotencyCollision(created, collisions)
    return run_ids


def _keyless(options: CallOptions) -> CallOptions:
    return replace(options, idempotency_key=None, idempotency_scope=None)


def _send(
    session: Session,
    definition: WorkflowDefinition[Any],
    options: CallOptions,
    texts: Sequence[str],
    run_ids: Sequence[UUID] | None = None,
    idempotency_keys: Sequence[str | None] = (),
) -> list[UUID]:
    queues = _queues(session, definition, options.queue_name)
    made = enqueue.enqueue(
        session,
        definition.shape,
        texts,
        queue_name=options.queue_name,
        priority=options.priority,
        run_after=options.run_after,
        metadata=options.metadata,
        tenant=options.tenant,
        run_ids=run_ids,
        idempotency_keys=idempotency_keys,
    )
    if options.run_after is None:
        notify.wake(session, queues)
    return made


def _queues(
    session: Session, definition: WorkflowDefinition[Any], name: str | None
) -> Collection[int]:
    """Where the first tasks are ready at once; a queue that no definition has is made.

    Remembered after the commit alone: a rollback takes the queue's row along.
    """
    if name is None:
        return definition.root_queues
    queue = queue_id(name)
    if queue not in _made:
        register.register_queue(session, name)
        session.on_commit(lambda: _made.add(queue))
    return (queue,)
