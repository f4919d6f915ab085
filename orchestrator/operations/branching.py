"""Branching: executing a durable task again from a position of its journal."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from orchestrator.conf import settings
from orchestrator.engine import branch, sessions
from orchestrator.operations.audit import Actor, check_permission, record


def branch_run(
    run_id: UUID,
    task: str,
    position: int,
    *,
    reason: str = "",
    actor: Actor | None = None,
) -> None:
    """Reopen an ended run from a position, from 1, of a durable task's journal.

    Needs `orchestrator.retry_run`. Raises RunNotFound; IllegalTransition, saying why
    it cannot be done.
    """
    check_permission(actor, "retry_run")
    with transaction.atomic(using=settings.database):
        branch.branch(sessions.django_session(), run_id, task, position)
        record(
            "branch",
            target=("run", str(run_id), f"{task} of run {run_id}"),
            actor=actor,
            reason=reason,
            data={"task": task, "position": position},
        )
