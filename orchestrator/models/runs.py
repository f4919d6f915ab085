"""History: runs, their task runs and attempts, kept until their partition is dropped.

The terminal `status` column is null until the end; what an unfinished row is doing is
read from the live table that holds it, so the two cannot disagree. Ids come in
families (`orchestrator.ids`): what belongs to a run is found by computed keys.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.postgres.indexes import GinIndex
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from orchestrator import ids
from orchestrator.models.definitions import WorkflowVersion
from orchestrator.models.fields import NotEmpty, reference
from orchestrator.models.live import DelayedItem, Lease, QueueItem, Wait
from orchestrator.models.statuses import (
    run_is,
    run_status,
    task_run_is,
    task_run_status,
)
from orchestrator.models.timeline import Moment, timeline
from orchestrator.states import (
    TERMINAL_RUN,
    TERMINAL_TASK_RUN,
    AttemptOutcome,
    RunStatus,
)


class RunQuerySet(models.QuerySet["Run"]):
    """Runs, filterable by the status that they have now."""

    def with_status(self, *statuses: str) -> RunQuerySet:
        """Those whose status is one of `statuses`, live ones included."""
        wanted = models.Q(pk__in=[])
        for status in statuses:
            wanted |= run_is(status)
        return self.filter(wanted)

    def with_live_status(self) -> RunQuerySet:
        """Read `status` along with the rows, at no further query a row."""
        return self.annotate(live_status=run_status())

    def unfinished(self) -> RunQuerySet:
        """Those that have not ended."""
        return self.filter(outcome_status__isnull=True)

    def metadata_contains(self, pairs: dict[str, Any]) -> RunQuerySet:
        """Those whose metadata has all of `pairs`, by the metadata index."""
        return self.filter(NotEmpty("metadata"), metadata__contains=pairs)


class Run(models.Model):
    """One enqueue of a workflow."""

    id = models.UUIDField(primary_key=True)
    workflow = reference("orchestrator.Workflow")
    version = reference("orchestrator.WorkflowVersion")
    queue = reference("orchestrator.Queue")
    outcome_status = models.CharField(max_length=9, null=True, db_column="status")
    status_reason = models.TextField(blank=True)
    generation = models.IntegerField()
    input = models.JSONField(encoder=DjangoJSONEncoder)
    metadata = models.JSONField(encoder=DjangoJSONEncoder)
    tenant = models.CharField(max_length=200, blank=True)
    priority = models.SmallIntegerField()
    parent_task_run_id = models.UUIDField(null=True)
    event_id = models.UUIDField(null=True)
    cron_trigger_id = models.BigIntegerField(null=True)
    idempotency_key = models.CharField(max_length=200, null=True)
    created_at = models.DateTimeField()
    run_after = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = models.Manager.from_queryset(RunQuerySet)()

    class Meta:
        db_table = "orchestrator_run"
        ordering = ["-id"]
        permissions = [
            ("cancel_run", "Can cancel runs"),
            ("retry_run", "Can retry runs"),
            ("rerun_run", "Can rerun runs"),
            ("view_payload", "Can see inputs, outputs and metadata"),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=models.Q(outcome_status__isnull=True),
                name="orchestrator_run_open",
            ),
            models.Index(
                fields=["finished_at", "id"],
                condition=models.Q(
                    outcome_status__in=[RunStatus.FAILED, RunStatus.CANCELLED]
                ),
                name="orchestrator_run_unsuccessful",
            ),
            models.Index(fields=["workflow", "id"], name="orchestrator_run_workflow"),
            models.Index(
                fields=["parent_task_run_id", "id"],
                condition=models.Q(parent_task_run_id__isnull=False),
                name="orchestrator_run_parent",
            ),
            GinIndex(
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=models.Q(NotEmpty("metadata")),
                name="orchestrator_run_metadata",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(outcome_status__isnull=True)
                | models.Q(outcome_status__in=sorted(TERMINAL_RUN)),
                name="orchestrator_run_status",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    outcome_status__isnull=True, finished_at__isnull=True
                )
                | models.Q(outcome_status__isnull=False, finished_at__isnull=False),
                name="orchestrator_run_finished",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def status(self) -> str:
        """What the run is now: its outcome, or RUNNING, or QUEUED."""
        if self.outcome_status is not None:
            return self.outcome_status
        live = getattr(self, "live_status", None)
        if live is None:
            row = type(self).objects.with_live_status().get(pk=self.pk)
            live = vars(row)["live_status"]
        return str(live)

    def task_runs(self) -> TaskRunQuerySet:
        """Its task runs in the order of the workflow, found by computed keys."""
        shape = WorkflowVersion.objects.values_list("shape", flat=True).get(
            pk=self.version_id
        )
        keys = [ids.task_run_id(self.id, n) for n in range(len(shape["tasks"]))]
        return TaskRun.objects.filter(pk__in=keys).order_by("ordinal")

    def children(self) -> RunQuerySet:
        """The runs that its tasks have spawned, in the order of their ids."""
        keys = self.task_runs().values_list("pk", flat=True).order_by()
        return _children(self.id, list(keys))


class TaskRunQuerySet(models.QuerySet["TaskRun"]):
    """Task runs, filterable by the status that they have now."""

    def with_status(self, *statuses: str) -> TaskRunQuerySet:
        """Those whose status is one of `statuses`, live ones included."""
        wanted = models.Q(pk__in=[])
        for status in statuses:
            wanted |= task_run_is(status)
        return self.filter(wanted)

    def with_live_status(self) -> TaskRunQuerySet:
        """Read `status` along with the rows, at no further query a row."""
        return self.annotate(live_status=task_run_status())


class TaskRun(models.Model):
    """One node of one run. Its queue, lane and position are its place for life.

    `branch` is the branch of its journal that is in use, `suspensions` how many of its
    attempts ended in a durable wait.
    """

    id = models.UUIDField(primary_key=True)
    run = reference("orchestrator.Run")
    task = reference("orchestrator.Task")
    ordinal = models.SmallIntegerField()
    queue = reference("orchestrator.Queue")
    lane = models.BigIntegerField()
    position = models.BigIntegerField()
    outcome_status = models.CharField(max_length=9, null=True, db_column="status")
    status_reason = models.TextField(blank=True)
    generation = models.IntegerField()
    attempts = models.IntegerField()
    branch = models.SmallIntegerField(db_default=1)
    suspensions = models.IntegerField(db_default=0)
    output = models.JSONField(encoder=DjangoJSONEncoder, null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = models.Manager.from_queryset(TaskRunQuerySet)()

    class Meta:
        db_table = "orchestrator_task_run"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(outcome_status__isnull=True)
                | models.Q(outcome_status__in=sorted(TERMINAL_TASK_RUN)),
                name="orchestrator_task_run_status",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    outcome_status__isnull=True, finished_at__isnull=True
                )
                | models.Q(outcome_status__isnull=False, finished_at__isnull=False),
                name="orchestrator_task_run_finished",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def name(self) -> str:
        """The name of its task."""
        return str(self.task.name)

    @property
    def status(self) -> str:
        """What the task run is now: its outcome, or the place that holds it."""
        if self.outcome_status is not None:
            return self.outcome_status
        live = getattr(self, "live_status", None)
        if live is None:
            row = type(self).objects.with_live_status().get(pk=self.pk)
            live = vars(row)["live_status"]
        return str(live)

    def children(self) -> RunQuerySet:
        """The runs that it has spawned, in the order of their ids."""
        return _children(self.id, [self.id])

    def attempt_rows(self, last: int | None = None) -> models.QuerySet[Attempt]:
        """Its attempts so far, the first one first, found by computed keys.

        `last` is the number of the latest attempt, where the caller knows it.
        """
        if last is None:
            last = self.attempts
            if self.outcome_status is None:
                last = max(last, self._live_attempt())
        keys = [ids.attempt_id(self.id, number) for number in range(1, last + 1)]
        return Attempt.objects.filter(pk__in=keys).order_by("number")

    def _live_attempt(self) -> int:
        for place in (Lease, DelayedItem, Wait):
            number = (
                place.objects.filter(task_run_id=self.id)
                .values_list("attempt", flat=True)
                .first()
            )
            if number is not None:
                return int(number)
        return _queued_attempt(self)

    def timeline(self) -> list[Moment]:
        """What happened to it so far, in order: attempts, durable calls, waits."""
        return timeline(self)

    @property
    def error(self) -> dict[str, str] | None:
        """The error of its last attempt: type, message and traceback; else None."""
        last = self.attempt_rows().last()
        return last.error if last else None


def _children(family: UUID, parents: list[UUID]) -> RunQuerySet:
    """Those that were spawned by one of `parents`, read in their partition alone."""
    low, high = ids.family_bounds(family)
    spawned = Run.objects.filter(
        parent_task_run_id__in=parents, id__gte=low, id__lte=high
    )
    return spawned.order_by("id")


def _queued_attempt(task_run: TaskRun) -> int:
    rows = QueueItem.objects.filter(
        queue_id=task_run.queue_id,
        lane=task_run.lane,
        position=task_run.position,
    )
    return rows.values_list("attempt", flat=True).first() or 0


class Attempt(models.Model):
    """One execution of a task run. Written once, when it ends."""

    id = models.UUIDField(primary_key=True)
    task_run = reference("orchestrator.TaskRun")
    number = models.IntegerField()
    worker = reference("orchestrator.Worker")
    outcome = models.CharField(max_length=9)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    error = models.JSONField(encoder=DjangoJSONEncoder, null=True)

    class Meta:
        db_table = "orchestrator_attempt"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(outcome__in=AttemptOutcome.values),
                name="orchestrator_attempt_outcome",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}"
