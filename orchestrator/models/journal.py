"""What task runs leave behind while they are executed: journals, logs and streams."""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from orchestrator.models.fields import key, reference
from orchestrator.states import EntryKind


class JournalEntry(models.Model):
    """One durable call of a task run, and what it came to.

    `position` counts the calls from 1, in each `branch`; the id is derived from these,
    so no call is recorded twice. `asked` is what was called, by which a function that
    does something else when it is executed again is found out. `completed_order` is
    the order in which waits were over: it is the same at each replay.
    """

    id = models.UUIDField(primary_key=True)
    task_run = reference("orchestrator.TaskRun")
    branch = models.SmallIntegerField()
    position = models.IntegerField()
    kind = models.CharField(max_length=5)
    name = models.CharField(max_length=200, blank=True)
    asked = models.TextField()
    attempt = models.IntegerField()
    child_run_id = models.UUIDField(null=True)
    output = models.JSONField(encoder=DjangoJSONEncoder, null=True)
    error = models.JSONField(encoder=DjangoJSONEncoder, null=True)
    completed_order = models.BigIntegerField(null=True)
    created_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "orchestrator_journal_entry"
        ordering = ["branch", "position"]
        verbose_name_plural = "journal entries"
        indexes = [
            models.Index(
                fields=["task_run", "branch", "position"],
                name="orchestrator_journal_order",
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind__in=EntryKind.values),
                name="orchestrator_journal_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}: {self.asked}"


class LogLine(models.Model):
    """One line that an attempt said. `number` counts from 1 in each attempt."""

    id = models.UUIDField(primary_key=True)
    task_run = reference("orchestrator.TaskRun")
    attempt = models.IntegerField()
    number = models.IntegerField()
    level = models.CharField(max_length=8)
    logger = models.CharField(max_length=200, blank=True)
    message = models.TextField()
    fields = models.JSONField(encoder=DjangoJSONEncoder, null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_log_line"
        ordering = ["attempt", "number"]
        indexes = [
            models.Index(
                fields=["task_run", "attempt", "number"], name="orchestrator_log_order"
            )
        ]

    def __str__(self) -> str:
        return self.message


class StreamChunk(models.Model):
    """One chunk of a run's stream. `number` counts from 1 in each attempt."""

    id = models.UUIDField(primary_key=True)
    run = reference("orchestrator.Run")
    task_run = reference("orchestrator.TaskRun")
    attempt = models.IntegerField()
    number = models.IntegerField()
    data = models.JSONField(encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_stream_chunk"
        ordering = ["task_run", "attempt", "number"]
        indexes = [
            models.Index(
                fields=["run", "task_run", "attempt", "number"],
                name="orchestrator_stream_order",
            )
        ]

    def __str__(self) -> str:
        return f"chunk {self.number}"


class Progress(models.Model):
    """How far a task run says it is: its latest word, gone when it ends."""

    task_run = key("orchestrator.TaskRun")
    run = reference("orchestrator.Run")
    done = models.FloatField()
    total = models.FloatField(null=True)
    message = models.CharField(max_length=500, blank=True)
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_progress"

    def __str__(self) -> str:
        return f"{self.done} of {self.total}" if self.total else str(self.done)
