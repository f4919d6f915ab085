"""Events: what the application says has happened, and what is still to be routed."""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from orchestrator.models.fields import key


class Event(models.Model):
    """One event. Appended in the transaction of whoever pushed it, never changed.

    `scope` is empty for none. `xid` is the number of that transaction, by which a wait
    knows whether the event was committed before it began.
    """

    id = models.UUIDField(primary_key=True)
    key = models.CharField(max_length=200)
    scope = models.CharField(max_length=200, blank=True)
    payload = models.JSONField(encoder=DjangoJSONEncoder, null=True)
    metadata = models.JSONField(encoder=DjangoJSONEncoder)
    tenant = models.CharField(max_length=200, blank=True)
    priority = models.SmallIntegerField(null=True)
    xid = models.BigIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_event"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["key", "created_at"], name="orchestrator_event_key"),
            models.Index(
                fields=["key", "scope", "created_at"],
                condition=~models.Q(scope=""),
                name="orchestrator_event_scope",
            ),
        ]

    def __str__(self) -> str:
        return self.key


class EventItem(models.Model):
    """An event that is still to be routed: deleted by the transaction that does it."""

    event = key("orchestrator.Event")

    class Meta:
        db_table = "orchestrator_event_item"

    def __str__(self) -> str:
        return str(self.event_id)
