"""Who may do what, and the one entry that each call of a verb leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import DateTimeField, Func

from orchestrator.conf import settings
from orchestrator.engine import clock, sessions
from orchestrator.exceptions import OrchestratorError
from orchestrator.operations.filters import rows


class Actor(Protocol):
    """Who acts: a user of django.contrib.auth."""

    pk: Any

    def has_perm(self, perm: str, obj: Any = ..., /) -> bool:
        """Whether the user has the permission."""

    def get_username(self) -> str:
        """What to call the user in a reason."""


class AlreadyDone(OrchestratorError):
    """What has this key has been carried out before; nothing more happened."""


def check_permission(actor: Actor | None, permission: str) -> None:
    """Raises PermissionDenied where an actor is given who lacks it."""
    if actor is not None and not actor.has_perm(f"orchestrator.{permission}"):
        raise PermissionDenied(
            f"{actor.get_username() or 'An anonymous user'} lacks the permission "
            f"orchestrator.{permission}; an administrator can grant it."
        )


def because(what: str, actor: Actor | None, reason: str) -> str:
    """The sentence that a run is to say: what happened to it, by whom and why."""
    by = f" by {actor.get_username()}" if actor is not None else ""
    return f"{what}{by}: {reason}" if reason else f"{what}{by}."


def now() -> Func:
    """The database's time, as a value to insert."""
    return Func(function="orchestrator_now", output_field=DateTimeField())


def new_id() -> UUID:
    """An id for an entry or an operation, which begins with the time."""
    return clock.new_run_ids(sessions.django_session(), 1)[0]


def refuse_repetition(key: UUID | None) -> None:
    """Raises AlreadyDone where an entry or an operation has this key. Two calls at
    once both pass; the primary key then lets one of them through."""
    if key is None:
        return
    for model in ("AuditEntry", "BulkOperation"):
        if rows(model).filter(pk=key).exists():
            raise AlreadyDone


def record(
    action: str,
    *,
    target: tuple[str, str, str],
    actor: Actor | None,
    reason: str,
    data: Mapping[str, Any],
    key: UUID | None = None,
) -> None:
    """Write the entry of one call: `target` is type, id and how it is called.

    Raises AlreadyDone where there is one with this `key`.
    """
    entries = rows("AuditEntry")
    target_type, target_id, target_repr = target
    try:
        with transaction.atomic(using=settings.database):
            entries.bulk_create(
                [
                    entries.model(
                        id=key or new_id(),
                        actor_id=None if actor is None else actor.pk,
                        action=action,
                        target_type=target_type,
                        target_id=target_id,
                        target_repr=target_repr[:200],
                        reason=reason,
                        data=dict(data),
                        created_at=now(),
                    )
                ]
            )
    except IntegrityError:
        if key is not None and entries.filter(pk=key).exists():
            raise AlreadyDone from None
        raise
