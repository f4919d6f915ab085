"""Live tables: one row for each piece of work in flight, and none for the past.

The table that holds a task run is its state: queued, delayed, leased or waiting.
Rows are inserted and deleted by `orchestrator.engine`, never saved through the ORM.
"""

from __future__ import annotations

from django.db import models

from orchestrator.models.fields import key, reference
from orchestrator.states import ConditionKind, TaskRunStatus


class Place(models.Model):
    """What every place carries, so that a task run moves without reading history.

    `attempt` is the number of the attempt that is next or under way; `failures` and
    `losses` are what its retries and its lost workers have used of their budgets.
    """

    run = reference("orchestrator.Run")
    task = reference("orchestrator.Task")
    queue = reference("orchestrator.Queue")
    lane = models.BigIntegerField()
    position = models.BigIntegerField()
    schedule_timeout_ms = models.IntegerField(null=True)
    attempt = models.IntegerField()
    failures = models.SmallIntegerField()
    losses = models.SmallIntegerField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"attempt {self.attempt} at {self.position}"


class QueueItem(Place):
    """Ready to be claimed. The primary key is the claim order and the only index."""

    pk = models.CompositePrimaryKey("queue_id", "lane", "position")
    task_run = reference("orchestrator.TaskRun")

    class Meta:
        db_table = "orchestrator_queue_item"


class DelayedItem(Place):
    """Due later: scheduled by the caller, or backing off after a failed attempt."""

    task_run = key("orchestrator.TaskRun")
    status = models.CharField(max_length=9)
    due_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_delayed_item"
        indexes = [models.Index(fields=["due_at"], name="orchestrator_delayed_due")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(
                    status__in=[TaskRunStatus.SCHEDULED, TaskRunStatus.BACKOFF]
                ),
                name="orchestrator_delayed_status",
            ),
        ]


class Lease(Place):
    """Being executed. Deleting it by task run, attempt and worker is the fence."""

    task_run = key("orchestrator.TaskRun")
    worker = reference("orchestrator.Worker")
    child_id = models.IntegerField()
    claimed_at = models.DateTimeField()
    timeout_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "orchestrator_lease"
        indexes = [
            models.Index(fields=["worker"], name="orchestrator_lease_worker"),
            models.Index(
                fields=["timeout_at"],
                condition=models.Q(timeout_at__isnull=False),
                name="orchestrator_lease_timeout",
            ),
        ]


class Wait(Place):
    """Waiting for `remaining` things to happen: parents to end, conditions to hold.

    At 0 the task run is queued; where it is `judged`, `engine.judge` looks at it then
    and decides. `opened_at` is when it first came to 0: events count from then on. A
    durable task run that is suspended waits here, too, and is `suspended`. `snapshot`
    and `xid` tell which transactions had not committed when it opened, and which one
    opened it: what they push counts, whatever its time.
    """

    task_run = key("orchestrator.TaskRun")
    remaining = models.IntegerField()
    judged = models.BooleanField(db_default=False)
    suspended = models.BooleanField(db_default=False)
    opened_at = models.DateTimeField(null=True)
    snapshot = models.TextField(null=True)
    xid = models.BigIntegerField(null=True)

    class Meta:
        db_table = "orchestrator_wait"
        indexes = [
            models.Index(
                fields=["task_run"],
                condition=models.Q(judged=True, remaining__lte=0),
                name="orchestrator_wait_due",
            ),
        ]


class WaitCondition(models.Model):
    """One thing that a task run waits for: an event, a time, the end of a child run.

    Not a place. `satisfied_at` is set by whoever sees it come true, and `engine.judge`
    draws the consequence. `entry_id` is the journal entry of a durable wait, null for a
    task's conditions; `group` is the position of the awaiting call in the journal.
    `slot` and `leaf` say where it stands in the task's conditions.
    """

    id = models.BigAutoField(primary_key=True)
    run = reference("orchestrator.Run")
    task_run = reference("orchestrator.TaskRun")
    entry_id = models.UUIDField(null=True)
    group = models.IntegerField()
    slot = models.CharField(max_length=9)
    leaf = models.SmallIntegerField()
    kind = models.CharField(max_length=5)
    key = models.TextField(blank=True)
    scope = models.TextField(blank=True)
    expression = models.TextField(blank=True)
    since = models.DateTimeField(null=True)
    lookback = models.BooleanField(db_default=False)
    snapshot = models.TextField(blank=True)
    xid = models.BigIntegerField(null=True)
    due_at = models.DateTimeField(null=True)
    child_run_id = models.UUIDField(null=True)
    checked = models.BooleanField()
    satisfied_at = models.DateTimeField(null=True)
    event_id = models.UUIDField(null=True)
    judged = models.BooleanField(db_default=False)

    class Meta:
        db_table = "orchestrator_wait_condition"
        indexes = [
            models.Index(
                fields=["key", "scope", "id"],
                condition=models.Q(kind=ConditionKind.EVENT, satisfied_at__isnull=True),
                name="orchestrator_condition_event",
            ),
            models.Index(
                fields=["due_at"],
                condition=models.Q(due_at__isnull=False, satisfied_at__isnull=True),
                name="orchestrator_condition_due",
            ),
            models.Index(
                fields=["child_run_id"],
                condition=models.Q(
                    child_run_id__isnull=False, satisfied_at__isnull=True
                ),
                name="orchestrator_condition_child",
            ),
            models.Index(
                fields=["task_run", "group"], name="orchestrator_condition_wait"
            ),
            models.Index(
                fields=["run"],
                condition=models.Q(satisfied_at__isnull=False, judged=False),
                name="orchestrator_condition_judge",
            ),
            models.Index(
                fields=["id"],
                condition=models.Q(checked=False),
                name="orchestrator_condition_check",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind__in=ConditionKind.values),
                name="orchestrator_condition_kind",
            ),
        ]

    def __str__(self) -> str:
        return self.key or self.kind


class OpenRun(models.Model):
    """A run that has begun or will count its tasks: how many of them have not ended.

    Made at enqueue for a run of several tasks, and at the first attempt that is not
    the last one for a run of a single task.
    """

    run = key("orchestrator.Run")
    remaining = models.IntegerField()
    failed = models.IntegerField()
    cancelled = models.IntegerField()
    reason = models.TextField()
    started_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "orchestrator_open_run"

    def __str__(self) -> str:
        return f"{self.remaining} of {self.run_id}"


class Deadline(models.Model):
    """The time by which a queued task run must have been claimed."""

    task_run = key("orchestrator.TaskRun")
    run = reference("orchestrator.Run")
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "orchestrator_deadline"
        indexes = [
            models.Index(fields=["expires_at"], name="orchestrator_deadline_expires")
        ]

    def __str__(self) -> str:
        return f"{self.task_run_id} by {self.expires_at}"
