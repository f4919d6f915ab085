"""Workers and the duties that schedulers take in turn."""

from __future__ import annotations

from django.db import models

from orchestrator.states import WorkerStatus


class Worker(models.Model):
    """One `runworker` process from its start to its end; a restart is a new row.

    `tasks` lists the ids of the tasks it knows, as strings (they exceed 2⁵³).
    `slots` is the number of tasks that it executes at once, over all its children.
    """

    id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=200)
    hostname = models.CharField(max_length=255)
    pid = models.IntegerField()
    status = models.CharField(max_length=8, choices=WorkerStatus.choices)
    queues = models.JSONField(default=list)
    labels = models.JSONField(default=dict)
    tasks = models.JSONField(default=list)
    slots = models.IntegerField()
    processes = models.IntegerField()
    heartbeat_at = models.DateTimeField()
    started_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "orchestrator_worker"
        ordering = ["-started_at"]
        indexes = [
            models.Index(
                fields=["heartbeat_at"],
                condition=models.Q(stopped_at__isnull=True),
                name="orchestrator_worker_heartbeat",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=WorkerStatus.values),
                name="orchestrator_worker_status",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Duty(models.Model):
    """Work that one scheduler at a time may do; `holder` has it until `expires_at`."""

    name = models.CharField(max_length=100, primary_key=True)
    holder = models.CharField(max_length=200)
    expires_at = models.DateTimeField()
    last_run_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "orchestrator_duty"
        verbose_name_plural = "duties"

    def __str__(self) -> str:
        return self.name
