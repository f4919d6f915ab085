"""Keys that runs hold, and operations over many runs at once."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from orchestrator.models.fields import reference
from orchestrator.states import BulkStatus


class IdempotencyKey(models.Model):
    """A key that a run holds until `expires_at`, or until it ends if that is sooner.

    `scope` is the workflow's name unless the caller gave another one.
    """

    pk = models.CompositePrimaryKey("scope", "key")
    scope = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    run = reference("orchestrator.Run")
    until_finished = models.BooleanField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_idempotency_key"
        indexes = [
            models.Index(fields=["expires_at"], name="orchestrator_idempotency_end")
        ]

    def __str__(self) -> str:
        return f"{self.scope}: {self.key}"


class BulkOperation(models.Model):
    """A verb over many runs, worked off in chunks by the scheduler.

    `cursor` is the last run id that was looked at; `problems` are the first of the
    runs that could not be changed, with the reason.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    verb = models.CharField(max_length=20)
    filter = models.JSONField(encoder=DjangoJSONEncoder)
    options = models.JSONField(encoder=DjangoJSONEncoder)
    reason = models.TextField(blank=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    status = models.CharField(max_length=9)
    total = models.IntegerField(null=True)
    done = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    cursor = models.UUIDField(null=True)
    problems = models.JSONField(encoder=DjangoJSONEncoder, default=list)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "orchestrator_bulk_operation"
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=BulkStatus.values),
                name="orchestrator_bulk_status",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} of {self.total or '?'} runs"
