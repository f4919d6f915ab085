"""Definitions: small tables, written by registration, read by the admin."""

from __future__ import annotations

from django.db import models


class Queue(models.Model):
    """A named line of work; its id derives from its name."""

    id = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=200, unique=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_queue"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Workflow(models.Model):
    """A workflow known to this database; its id derives from its name."""

    id = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=200, unique=True)
    description = models.TextField(blank=True)
    queue_name = models.CharField(max_length=200)
    current_version = models.ForeignKey(
        "orchestrator.WorkflowVersion",
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_constraint=False,
    )
    created_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_workflow"
        ordering = ["name"]
        permissions = [
            ("trigger_workflow", "Can enqueue a run of a workflow"),
            ("pause_workflow", "Can pause and resume a workflow"),
        ]

    def __str__(self) -> str:
        return self.name


class WorkflowVersion(models.Model):
    """The whole shape of a workflow at one deploy. Never changed once written.

    `shape` is the dictionary that `orchestrator.engine.shapes.Shape` reads; the id
    derives from the workflow's name and `digest`, the SHA-256 of the shape.
    """

    id = models.BigIntegerField(primary_key=True)
    workflow = models.ForeignKey(
        Workflow, on_delete=models.CASCADE, related_name="versions"
    )
    number = models.IntegerField()
    digest = models.CharField(max_length=64)
    shape = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_workflow_version"
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow", "number"],
                name="orchestrator_version_number",
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.number}"


class Task(models.Model):
    """A node of a workflow, whatever the version; its id derives from both names."""

    id = models.BigIntegerField(primary_key=True)
    workflow = models.ForeignKey(
        Workflow, on_delete=models.CASCADE, related_name="tasks"
    )
    name = models.CharField(max_length=200)
    lane = models.BigIntegerField(unique=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_task"
        ordering = ["workflow", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow", "name"], name="orchestrator_task_name"
            ),
        ]

    def __str__(self) -> str:
        return self.name
