"""What each verb does to runs that are at hand: each run by itself.

One that cannot be changed is a problem to report, and stops nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Q, TextField
from django.db.models.functions import Cast

from orchestrator.conf import settings
from orchestrator.engine import (
    cancel,
    enqueue,
    notify,
    reprioritise,
    retry,
    sessions,
    versions,
)
from orchestrator.engine.faults import Fault, kind_of
from orchestrator.exceptions import IllegalTransition, OrchestratorError
from orchestrator.operations.filters import rows
from orchestrator.states import RunStatus

if TYPE_CHECKING:
    from orchestrator.models import Run
    from orchestrator.models.runs import RunQuerySet

BATCH = 100  # runs that are cancelled or moved together


class Problem(NamedTuple):
    """A run that could not be changed, and why."""

    run_id: UUID
    message: str


class Changed(list[UUID]):
    """The runs that a verb has changed, in order; of `rerun_runs`, the new ones.

    `problems` are those that could not be changed. What had nothing to do is neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[Problem] = []
        self.old: list[UUID] = []  # those that were looked at and changed, or rerun
        self.last: UUID | None = None  # the last one that was looked at


@dataclass(frozen=True)
class Verb:
    """One thing that an operator does to runs.

    `affects` says which runs it can change at all, given its options; `act` does it to
    some of them in one go, `act_alone` to one, and returns what the caller is told.
    """

    name: str
    permission: str
    affects: Callable[[Mapping[str, Any]], Q]
    prepare: Callable[[RunQuerySet], RunQuerySet]
    act_together: Callable[[Sequence[Run], Mapping[str, Any], str], list[UUID]] | None
    act_alone: Callable[[Run, Mapping[str, Any], str], UUID | None]

    def matching(self, runs: RunQuerySet, options: Mapping[str, Any]) -> RunQuerySet:
        """Those of the runs that it can change."""
        return runs.filter(self.affects(options))

    def act(
        self,
        keys: Sequence[UUID],
        options: Mapping[str, Any],
        reason: str,
        *,
        seconds: float | None = None,
    ) -> Changed:
        """Do it to all of these runs, in the order given.

        `reason` is what the runs say. Joins the caller's transaction. With `seconds`
        it stops between two runs when that time is over; `last` says where.
        """
        changed = Changed()
        end = math.inf if seconds is None else time.monotonic() + seconds
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            runs = list(self.prepare(_rows(batch)))
            if not self._together(runs, options, reason, changed):
                for run in runs:
                    self._alone(run, options, reason, changed)
                    if time.monotonic() > end:
                        return changed
            if time.monotonic() > end:
                return changed
        return changed

    def _together(
        self,
        batch: Sequence[Run],
        options: Mapping[str, Any],
        reason: str,
        changed: Changed,
    ) -> bool:
        if self.act_together is None:
            return False
        try:
            with transaction.atomic(using=settings.database):
                done = self.act_together(batch, options, reason)
        except (OrchestratorError, DatabaseError) as error:
            if not _concerns_runs(error):
                raise
            return False
        changed.extend(done)
        changed.old.extend(done)
        changed.last = batch[-1].pk if batch else changed.last
        return True

    def _alone(
        self, run: Run, options: Mapping[str, Any], reason: str, changed: Changed
    ) -> None:
        try:
            with transaction.atomic(using=settings.database):
                done = self.act_alone(run, options, reason)
        except (OrchestratorError, DatabaseError) as error:
            if not _concerns_runs(error):
                raise
            changed.problems.append(Problem(run.pk, _said(run, error)))
        else:
            if done is not None:
                changed.append(done)
                changed.old.append(run.pk)
        changed.last = run.pk


def _rows(keys: Sequence[UUID]) -> Any:
    return rows("Run").filter(pk__in=keys).order_by("pk")


def _concerns_runs(error: Exception) -> bool:
    """Whether another run may fare better."""
    if isinstance(error, OrchestratorError):
        return True
    return kind_of(error) in (Fault.CONTENTION, Fault.DATA)


def _said(run: Run, error: Exception) -> str:
    if isinstance(error, OrchestratorError):
        return str(error)
    if kind_of(error) is Fault.CONTENTION:
        return f"Run {run.pk} is held by another transaction; ask again for it."
    return str(error).splitlines()[0]


# Cancel.


def _cancel(runs: Sequence[Run], options: Mapping[str, Any], reason: str) -> list[UUID]:
    return cancel.cancel(
        sessions.django_session(),
        [run.pk for run in runs],
        reason=reason,
        children=options["children"],
    )


def _cancel_one(run: Run, options: Mapping[str, Any], reason: str) -> UUID | None:
    return next(iter(_cancel([run], options, reason)), None)


def _open(options: Mapping[str, Any]) -> Q:
    return Q(outcome_status__isnull=True)


# Retry.


def _retry(run: Run, options: Mapping[str, Any], reason: str) -> UUID:
    retry.retry(
        sessions.django_session(),
        run.pk,
        tasks=options["tasks"],
        keep_journal=options["keep_journal"],
    )
    return run.pk


def _retriable(options: Mapping[str, Any]) -> Q:
    if options["tasks"] == "failed":
        return Q(outcome_status__in=[RunStatus.FAILED, RunStatus.CANCELLED])
    return Q(outcome_status__isnull=False)


# Rerun.


def _rerun(run: Run, options: Mapping[str, Any], reason: str) -> UUID:
    session = sessions.django_session()
    workflow = rows("Workflow").filter(pk=run.workflow_id).first()
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
        queue = rows("Queue").get(pk=run.queue_id).name
    text = None
    if options["inputs"] is not None:
        text = options["inputs"].get(shape.workflow)
        if text is None:
            raise IllegalTransition(
                f"The workflow of run {run.pk} was not registered when another input "
                "was given, so nobody could say whether it fits. Ask again."
            )
    given: Any = run
    (new,) = enqueue.enqueue(
        session,
        shape,
        [given.input_text if text is None else text],
        queue_name=queue,
        priority=run.priority,
        metadata=given.metadata_text,
        tenant=run.tenant,
    )
    roots = {task.queue_id for task in shape.tasks if not task.parents}
    notify.wake(session, {run.queue_id} if queue else roots)
    if any(task.judged for task in shape.tasks if not task.parents):
        notify.tend(session)
    return new


def _with_texts(runs: RunQuerySet) -> RunQuerySet:
    """Inputs as PostgreSQL prints them, which keeps every digit of a number."""
    return _plain(runs).annotate(
        input_text=Cast("input", TextField()),
        metadata_text=Cast("metadata", TextField()),
    )


# Reprioritise.


def _move(runs: Sequence[Run], options: Mapping[str, Any], reason: str) -> list[UUID]:
    keys = [run.pk for run in runs]
    reprioritise.reprioritise(sessions.django_session(), keys, options["priority"])
    return keys


def _move_one(run: Run, options: Mapping[str, Any], reason: str) -> UUID:
    return _move([run], options, reason)[0]


def _plain(runs: RunQuerySet) -> RunQuerySet:
    """Without what may be big."""
    return runs.defer("input", "metadata")


VERBS = {
    verb.name: verb
    for verb in (
        Verb("cancel", "cancel_run", _open, _plain, _cancel, _cancel_one),
        Verb("retry", "retry_run", _retriable, _plain, None, _retry),
        Verb("rerun", "rerun_run", lambda options: Q(), _with_texts, None, _rerun),
        Verb("reprioritise", "change_run", _open, _plain, _move, _move_one),
    )
}
