"""Who did what to which run, and why."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class AuditEntry(models.Model):
    """One operator action, written in the transaction of its effect, never changed.

    `data["runs"]` are the runs that it changed, up to as many as one call changes.
    """

    id = models.UUIDField(primary_key=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    action = models.CharField(max_length=50)
    target_type = models.CharField(max_length=50)
    target_id = models.CharField(max_length=64)
    target_repr = models.CharField(max_length=200)
    reason = models.TextField(blank=True)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_audit_entry"
        ordering = ["-id"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(
                fields=["target_type", "target_id"], name="orchestrator_audit_target"
            ),
            GinIndex(
                fields=["data"],
                opclasses=["jsonb_path_ops"],
                name="orchestrator_audit_data",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_repr}"
