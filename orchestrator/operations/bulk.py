"""Bulk: a verb over more runs than one call changes, worked off by schedulers.

Each chunk and its progress commit together, so a crash loses nothing and repeats
nothing, and any scheduler goes on with it. The runs are those that existed when it was
asked for: a retry or a rerun never meets what it has made itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import IntegrityError, connections, transaction
from django.db.models import F

from orchestrator.conf import settings
from orchestrator.engine import notify, sessions
from orchestrator.exceptions import IllegalTransition
from orchestrator.operations.acts import VERBS, Changed, Verb
from orchestrator.operations.audit import (
    Actor,
    AlreadyDone,
    because,
    check_permission,
    new_id,
    now,
    record,
)
from orchestrator.operations.filters import RunFilter, rows
from orchestrator.states import BulkStatus

if TYPE_CHECKING:
    from orchestrator.models import BulkOperation
    from orchestrator.models.runs import RunQuerySet

CHUNK = 200  # runs that are looked at in one transaction
CHUNK_SECONDS = 2.0  # after which a chunk ends, between two runs
LOCK_TIMEOUT = "1s"  # for a run that another transaction holds
MAX_PROBLEMS = 20  # that are kept; all are counted

WORDS = {"cancel": "Cancelled", "retry": "Retried", "rerun": "Rerun"}


def start(
    verb: Verb,
    filter: RunFilter,
    options: Mapping[str, Any],
    *,
    reason: str,
    actor: Actor | None,
    key: UUID | None = None,
) -> BulkOperation:
    """Have schedulers do it to all that the filter matches now; an audit entry.

    Joins the caller's transaction. Raises AlreadyDone where `key` is taken.
    """
    operations = rows("BulkOperation")
    bound = new_id()
    runs = verb.matching(filter.runs().filter(pk__lt=bound), options)
    try:
        with transaction.atomic(using=settings.database):
            operation: BulkOperation = operations.create(
                id=key or bound,
                verb=verb.name,
                filter=filter.dump(),
                options={**options, "before": str(bound)},
                reason=reason,
                actor_id=None if actor is None else actor.pk,
                status=BulkStatus.QUEUED,
                total=runs.count(),
                created_at=now(),
            )
    except IntegrityError:
        if key is not None and operations.filter(pk=key).exists():
            raise AlreadyDone from None
        raise
    operation.refresh_from_db()
    record(
        verb.name,
        target=("bulk operation", str(operation.pk), f"{operation.total} runs"),
        actor=actor,
        reason=reason,
        data={**told(options, filter), "matched": operation.total},
    )
    return operation


def told(options: Mapping[str, Any], filter: RunFilter) -> dict[str, Any]:
    """What an audit entry says of a call. An input is a payload and stays out of it."""
    said = {name: value for name, value in options.items() if name != "inputs"}
    if options.get("inputs") is not None:
        said["edited"] = True
    return {**said, "filter": filter.dump()}


def work_off() -> int:
    """Work off one chunk of the oldest operation that nobody else is at; how many runs
    were looked at, or 1 where that was its end. 0 where there is nothing to do.

    A durable transaction, in which no run is waited for longer than a second.
    """
    alias = settings.database
    unfinished = rows("BulkOperation").filter(finished_at__isnull=True)
    if not unfinished.exists():
        return 0
    with transaction.atomic(using=alias, durable=True):
        with connections[alias].cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        waiting = unfinished.order_by("created_at", "pk")
        operation = waiting.select_for_update(skip_locked=True).first()
        seen = 0 if operation is None else _work_off_chunk(operation)
        with connections[alias].cursor() as cursor:
            # A test's transaction goes on after this.
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    return seen


def stop_bulk(
    operation: BulkOperation | UUID, actor: Actor | None = None, *, reason: str = ""
) -> None:
    """Stop an operation after the chunk at hand; what was done stays done.

    Needs the permission of its verb. Nothing happens where it has ended already. Waits
    for the chunk. Raises IllegalTransition where there is no such operation.
    """
    key = operation if isinstance(operation, UUID) else operation.pk
    with transaction.atomic(using=settings.database):
        found = rows("BulkOperation").filter(pk=key).select_for_update().first()
        if found is None:
            raise IllegalTransition(f"There is no bulk operation {key}.")
        check_permission(actor, VERBS[found.verb].permission)
        if found.finished_at is None:
            rows("BulkOperation").filter(pk=key).update(
                status=BulkStatus.STOPPED, finished_at=now()
            )
            record(
                "stop",
                target=("bulk operation", str(key), str(found)),
                actor=actor,
                reason=reason,
                data={"done": found.done, "failed": found.failed},
            )
    if not isinstance(operation, UUID):
        operation.refresh_from_db()


def _work_off_chunk(operation: BulkOperation) -> int:
    verb, options = VERBS[operation.verb], operation.options
    keys = list(_left(verb, operation)[:CHUNK].values_list("pk", flat=True))
    said = because(WORDS.get(verb.name, verb.name), _actor(operation), operation.reason)
    changed = verb.act(keys, options, said, seconds=CHUNK_SECONDS)
    progress: dict[str, Any] = {
        "status": BulkStatus.RUNNING,
        "done": F("done") + len(changed),
        "failed": F("failed") + len(changed.problems),
        "problems": _problems(operation, changed),
        "cursor": changed.last or (keys[-1] if keys else operation.cursor),
    }
    if operation.started_at is None:
        progress["started_at"] = now()
    if len(keys) < CHUNK and progress["cursor"] == (
        keys[-1] if keys else operation.cursor
    ):
        progress |= {"status": BulkStatus.COMPLETED, "finished_at": now()}
    rows("BulkOperation").filter(pk=operation.pk).update(**progress)
    session = sessions.django_session()
    session.on_commit(lambda: notify.feed(session, keys))
    return max(1, len(keys))


def _left(verb: Verb, operation: BulkOperation) -> RunQuerySet:
    runs = RunFilter.load(operation.filter).runs()
    runs = runs.filter(
        pk__lt=UUID(operation.options["before"]), created_at__lte=operation.created_at
    )
    if operation.cursor is not None:
        runs = runs.filter(pk__gt=operation.cursor)
    return verb.matching(runs, operation.options)


def _actor(operation: BulkOperation) -> Actor | None:
    return operation.actor if operation.actor_id is not None else None


def _problems(operation: BulkOperation, changed: Changed) -> list[dict[str, str]]:
    new = [
        {"run": str(problem.run_id), "message": problem.message}
        for problem in changed.problems
    ]
    return [*operation.problems, *new][:MAX_PROBLEMS]
