"""Keys that runs hold, and operations over many runs at once."""

from __future__ import annotations

import time
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
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=models.Q(finished_at__isnull=True),
                name="orchestrator_bulk_open",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=BulkStatus.values),
                name="orchestrator_bulk_status",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} of {'?' if self.total is None else self.total} runs"

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, as of when this row was read."""
        return self.finished_at is not None

    def wait(self, timeout: float | None = None) -> BulkOperation:
        """Read it again until it has ended, for at most `timeout` seconds.

        Raises TimeoutError. A scheduler has to run; in a test, `drain()` does it.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self.refresh_from_db()
            if self.is_finished:
                return self
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(
                    f"{self} did not end within {timeout:g} s: {self.done} are done. "
                    "Is a scheduler running?"
                )
            time.sleep(0.1)
