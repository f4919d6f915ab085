"""What operators do to runs: one function each, for the admin, commands, API and code.

Each checks the permission of `actor` where one is given, lets the engine act, and
writes who did what to which run and why: all in one transaction, which joins the
caller's. Each may wait for another transaction that holds one of the runs.

They raise PermissionDenied (Django's), InvalidFilter, and TooManyRuns where a filter
matches more than `LIMIT` runs; then nothing has changed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import UUID

from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import DateTimeField, Func, Q
from django.utils import timezone

from orchestrator import ids
from orchestrator.conf import settings
from orchestrator.engine import (
    cancel,
    clock,
    enqueue,
    notify,
    reprioritise,
    retry,
    sessions,
    versions,
)
from orchestrator.engine.retry import Which
from orchestrator.engine.sessions import Session
from orchestrator.exceptions import (
    IllegalTransition,
    InvalidFilter,
    RunNotFound,
    TooManyRuns,
)
from orchestrator.states import RunStatus

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from orchestrator.models import Run
    from orchestrator.models.runs import RunQuerySet

LIMIT = 500  # runs that one call changes


class Actor(Protocol):
    """Who acts: a user of django.contrib.auth."""

    pk: Any

    def has_perm(self, perm: str, obj: Any = ..., /) -> bool:
        """Whether the user has the permission."""

    def get_username(self) -> str:
        """What to call the user in a reason."""


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs: those that match everything that is given.

    `workflows` and `queues` are names; `metadata` are pairs that a run has all of;
    `since` (inclusive) and `until` (exclusive) are when it was enqueued, as aware
    datetimes. Raises InvalidFilter, also where nothing is given at all.
    """

    ids: Collection[UUID] | None = None
    workflows: Collection[str] | None = None
    statuses: Collection[str] | None = None
    queues: Collection[str] | None = None
    metadata: Mapping[str, Any] | None = None
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        if all(value is None for value in given.values()):
            raise InvalidFilter("The filter is empty and means every run; narrow it.")
        for name in ("ids", "workflows", "statuses", "queues"):
            if isinstance(given[name], str):
                raise InvalidFilter(f"{name}={given[name]!r} is one; give a list.")
        known = [status.value for status in RunStatus]
        for status in self.statuses or ():
            if status not in known:
                raise InvalidFilter(
                    f"{status!r} is no status of a run; use one of {', '.join(known)}."
                )
        for name in ("since", "until"):
            moment = given[name]
            if moment is not None and timezone.is_naive(moment):
                raise InvalidFilter(
                    f"{name}={moment} is naive; give an aware datetime."
                )

    def runs(self) -> RunQuerySet:
        """The matching runs, oldest first."""
        runs = cast("RunQuerySet", _rows("Run")).order_by("id")
        if self.ids is not None:
            runs = runs.filter(id__in=list(self.ids))
        if self.workflows is not None:
            runs = runs.filter(workflow__name__in=list(self.workflows))
        if self.queues is not None:
            runs = runs.filter(queue__name__in=list(self.queues))
        if self.statuses is not None:
            runs = runs.with_status(*self.statuses)
        if self.metadata:
            runs = runs.metadata_contains(dict(self.metadata))
        if self.tenant is not None:
            runs = runs.filter(tenant=self.tenant)
        # The id begins with the time, so this reads one range of the partitions.
        if self.since is not None:
            runs = runs.filter(id__gte=_first_id(self.since))
        if self.until is not None:
            runs = runs.filter(id__lt=_first_id(self.until))
        return runs


def cancel_runs(
    filter: RunFilter, *, reason: str, actor: Actor | None = None
) -> list[UUID]:
    """Cancel those of the runs that have not ended, and return their ids.

    Needs `orchestrator.cancel_run`. What is being executed ends here and now: what its
    worker reports later has no effect.
    """
    _check_permission(actor, "cancel_run")
    with transaction.atomic(using=settings.database):
        runs = _take(filter.runs().filter(outcome_status__isnull=True))
        text = _because("Cancelled", actor, reason)
        session = sessions.django_session()
        cancelled = set(cancel.cancel(session, list(runs), reason=text))
        done = [run for run in runs.values() if run.pk in cancelled]
        _audit("cancel", done, actor, reason)
    return [run.pk for run in done]


def retry_runs(
    filter: RunFilter,
    *,
    tasks: Which = "failed",
    reason: str = "",
    actor: Actor | None = None,
) -> list[UUID]:
    """Reopen those of the runs that can be retried, and return their ids.

    Needs `orchestrator.retry_run`. `tasks` is as in `retry_run`; with "failed" these
    are the runs that failed or were cancelled, otherwise all that have ended.
    """
    _check_permission(actor, "retry_run")
    ended = Q(outcome_status__isnull=False)
    if tasks == "failed":
        ended = Q(outcome_status__in=[RunStatus.FAILED, RunStatus.CANCELLED])
    with transaction.atomic(using=settings.database):
        runs = _take(filter.runs().filter(ended))
        session = sessions.django_session()
        done = []
        for run in runs.values():
            try:
                retry.retry(session, run.pk, tasks=tasks)
            except IllegalTransition:
                continue  # retried by someone else meanwhile, or without such a task
            done.append(run)
        _audit("retry", done, actor, reason, {"tasks": _named(tasks)})
    return [run.pk for run in done]


def retry_run(
    run_id: UUID,
    *,
    tasks: Which = "failed",
    reason: str = "",
    actor: Actor | None = None,
) -> None:
    """Reopen one ended run.

    Needs `orchestrator.retry_run`. `tasks` are executed again, with all that depend on
    them: "failed" those that failed or were cancelled, "all", or those named. Run and
    version stay the same; the generation rises by one.

    Raises RunNotFound; IllegalTransition, saying why the run cannot be retried.
    """
    _check_permission(actor, "retry_run")
    with transaction.atomic(using=settings.database):
        retry.retry(sessions.django_session(), run_id, tasks=tasks)
        runs = _take(RunFilter(ids=[run_id]).runs())
        _audit("retry", runs.values(), actor, reason, {"tasks": _named(tasks)})


def rerun_runs(
    filter: RunFilter,
    *,
    reason: str = "",
    actor: Actor | None = None,
    input: str | None = None,
) -> list[UUID]:
    """Enqueue a new run for each of the runs, and return the new ids in order.

    Needs `orchestrator.rerun_run`. A new run has the old one's input (or `input`, JSON
    text), metadata, tenant, priority and queue, and its workflow's current version.

    Raises RunNotFound where `ids` are given and one is not there; IllegalTransition
    where a workflow has no registered version.
    """
    _check_permission(actor, "rerun_run")
    with transaction.atomic(using=settings.database):
        runs = _take(filter.runs())
        for run_id in filter.ids or ():
            if run_id not in runs:
                raise RunNotFound(
                    f"There is no run {run_id}, or the filter excludes it."
                )
        session = sessions.django_session()
        new = {run.pk: _rerun(session, run, input) for run in runs.values()}
        for run in runs.values():
            _audit("rerun", [run], actor, reason, {"new_run": str(new[run.pk])})
    return list(new.values())


def reprioritise_runs(
    filter: RunFilter,
    *,
    priority: int,
    reason: str = "",
    actor: Actor | None = None,
) -> list[UUID]:
    """Give those of the runs that have not ended another priority (-100 to 100).

    Needs `orchestrator.change_run`. Returns their ids.
    """
    _check_permission(actor, "change_run")
    with transaction.atomic(using=settings.database):
        runs = _take(filter.runs().filter(outcome_status__isnull=True))
        session = sessions.django_session()
        reprioritise.reprioritise(session, list(runs), priority)
        _audit("reprioritise", runs.values(), actor, reason, {"priority": priority})
    return list(runs)


def _rows(model: str) -> QuerySet[Any]:
    return cast(
        "QuerySet[Any]",
        apps.get_model("orchestrator", model)._default_manager.using(settings.database),
    )


def _first_id(moment: datetime) -> UUID:
    return ids.floor_uuid(int(moment.timestamp() * 1000))


def _check_permission(actor: Actor | None, permission: str) -> None:
    if actor is not None and not actor.has_perm(f"orchestrator.{permission}"):
        raise PermissionDenied(
            f"{actor.get_username() or 'An anonymous user'} lacks the permission "
            f"orchestrator.{permission}; an administrator can grant it."
        )


def _take(runs: RunQuerySet) -> dict[UUID, Run]:
    found = list(runs[: LIMIT + 1])
    if len(found) > LIMIT:
        raise TooManyRuns(
            f"The filter matches more than {LIMIT} runs, as many as one call changes. "
            "Narrow it, by since= and until= for example, and call again."
        )
    return {run.pk: run for run in found}


def _because(what: str, actor: Actor | None, reason: str) -> str:
    by = f" by {actor.get_username()}" if actor is not None else ""
    return f"{what}{by}: {reason}" if reason else f"{what}{by}."


def _named(tasks: Which) -> str | list[str]:
    return tasks if isinstance(tasks, str) else list(tasks)


def _rerun(session: Session, run: Run, input: str | None) -> UUID:
    workflow = _rows("Workflow").filter(pk=run.workflow_id).first()
    current = workflow and workflow.current_version_id
    old = versions.shape(session, run.version_id)
    shape = versions.shape(session, current) if current else old
    if shape is None:
        raise IllegalTransition(
            f"No version of the workflow of run {run.pk} is registered; run "
            "`manage.py migrate`, which registers definitions."
        )
    queue = None
    if old is not None and old.queue_id != run.queue_id:
        queue = _rows("Queue").get(pk=run.queue_id).name
    (new,) = enqueue.enqueue(
        session,
        shape,
        [json.dumps(run.input) if input is None else input],
        queue_name=queue,
        priority=run.priority,
        metadata=json.dumps(run.metadata),
        tenant=run.tenant,
    )
    roots = {task.queue_id for task in shape.tasks if not task.parents}
    notify.wake(session, {run.queue_id} if queue else roots)
    return new


def _audit(
    action: str,
    runs: Iterable[Run],
    actor: Actor | None,
    reason: str,
    data: Mapping[str, Any] | None = None,
) -> None:
    session = sessions.django_session()
    # Not joined to the runs: a workflow may not be registered here yet.
    names = dict(_rows("Workflow").values_list("id", "name"))
    entries = _rows("AuditEntry")
    entries.bulk_create(
        entries.model(
            id=clock.new_run_ids(session, 1)[0],
            actor_id=None if actor is None else actor.pk,
            action=action,
            target_type="run",
            target_id=str(run.pk),
            target_repr=f"{names.get(run.workflow_id, 'run')} {run.pk}"[:200],
            reason=reason,
            data=dict(data or {}),
            created_at=Func(function="orchestrator_now", output_field=DateTimeField()),
        )
        for run in runs
    )
