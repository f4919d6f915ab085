"""Submission: from calls to runs in the database, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchestrator.calls import CallOptions
from orchestrator.engine import enqueue, notify, register, sessions
from orchestrator.engine.sessions import Session
from orchestrator.engine.shapes import queue_id
from orchestrator.exceptions import InvalidInput

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
    """Enqueue one run; `text` is its input as JSON. One statement, no lookup."""
    session = sessions.django_session()
    return _send(session, definition, options, [text])[0]


def submit_many(
    definition: WorkflowDefinition[Any], calls: Iterable[Prepared]
) -> list[UUID]:
    """Enqueue many runs, all or none; one statement for each 250 task runs."""
    session = sessions.django_session()
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


def _send(
    session: Session,
    definition: WorkflowDefinition[Any],
    options: CallOptions,
    texts: list[str],
) -> list[UUID]:
    queues = _queues(session, definition, options.queue_name)
    run_ids = enqueue.enqueue(
        session,
        definition.shape,
        texts,
        queue_name=options.queue_name,
        priority=options.priority,
        run_after=options.run_after,
        metadata=options.metadata,
        tenant=options.tenant,
    )
    if options.run_after is None:
        notify.wake(session, queues)
    return run_ids


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
