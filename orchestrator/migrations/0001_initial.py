"""The whole schema. One migration until 1.0."""

from __future__ import annotations

import uuid
from typing import Any

import django.contrib.postgres.indexes
import django.core.serializers.json
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import orchestrator.models.fields
from orchestrator.engine import partitions
from orchestrator.engine.sessions import DjangoSession
from orchestrator.migrations._partitioned import CreatePartitionedModel

NOW = """
CREATE FUNCTION orchestrator_now() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        nullif(current_setting('orchestrator.now', true), '')::timestamptz,
        statement_timestamp()
    )
$$
"""

# Rows live for milliseconds: vacuum by count, at full speed, whatever the size.
STORAGE = """
ALTER TABLE orchestrator_queue_item SET ({vacuum});
ALTER TABLE orchestrator_delayed_item SET ({vacuum});
ALTER TABLE orchestrator_lease SET ({vacuum});
ALTER TABLE orchestrator_deadline SET ({vacuum});
ALTER TABLE orchestrator_wait SET (fillfactor = 70, {vacuum});
ALTER TABLE orchestrator_wait_condition SET (fillfactor = 70, {vacuum});
ALTER TABLE orchestrator_event_item SET ({vacuum});
ALTER TABLE orchestrator_progress SET (fillfactor = 50, {vacuum});
ALTER TABLE orchestrator_open_run SET (fillfactor = 70, {vacuum});
ALTER TABLE orchestrator_worker SET (fillfactor = 50, {vacuum});
""".format(
    vacuum="autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,"
    " autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,"
    " autovacuum_analyze_threshold = 10000"
)


def make_partitions(apps: Any, schema_editor: Any) -> None:
    """Make the first partitions, as workers and schedulers do later on."""
    partitions.ensure(DjangoSession(schema_editor.connection.alias))


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "__first__"),
    ]

    operations = [
        migrations.RunSQL(NOW, "DROP FUNCTION orchestrator_now()"),
        migrations.RunSQL(
            "CREATE SEQUENCE orchestrator_position",
            "DROP SEQUENCE orchestrator_position",
        ),
        migrations.RunSQL(
            "CREATE SEQUENCE orchestrator_order", "DROP SEQUENCE orchestrator_order"
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200)),
                ("hostname", models.CharField(max_length=255)),
                ("pid", models.IntegerField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("ACTIVE", "Active"),
                            ("PAUSED", "Paused"),
                            ("DRAINING", "Draining"),
                            ("STOPPED", "Stopped"),
                            ("LOST", "Lost"),
                        ],
                        max_length=8,
                    ),
                ),
                ("queues", models.JSONField(default=list)),
                ("labels", models.JSONField(default=dict)),
                ("tasks", models.JSONField(default=list)),
                ("slots", models.IntegerField()),
                ("processes", models.IntegerField()),
                ("heartbeat_at", models.DateTimeField()),
                ("started_at", models.DateTimeField()),
                ("stopped_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "orchestrator_worker",
                "ordering": ["-started_at"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("stopped_at__isnull", True)),
                        fields=["heartbeat_at"],
                        name="orchestrator_worker_heartbeat",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "status__in",
                                ["ACTIVE", "PAUSED", "DRAINING", "STOPPED", "LOST"],
                            )
                        ),
                        name="orchestrator_worker_status",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "actor",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("action", models.CharField(max_length=50)),
                ("target_type", models.CharField(max_length=50)),
                ("target_id", models.CharField(max_length=64)),
                ("target_repr", models.CharField(max_length=200)),
                ("reason", models.TextField(blank=True)),
                ("data", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "audit entries",
                "db_table": "orchestrator_audit_entry",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        fields=["target_type", "target_id"],
                        name="orchestrator_audit_target",
                    ),
                    django.contrib.postgres.indexes.GinIndex(
                        fields=["data"],
                        name="orchestrator_audit_data",
                        opclasses=["jsonb_path_ops"],
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BulkOperation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, primary_key=True, serialize=False
                    ),
                ),
                ("verb", models.CharField(max_length=20)),
                (
                    "filter",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder
                    ),
                ),
                (
                    "options",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder
                    ),
                ),
                ("reason", models.TextField(blank=True)),
                (
                    "actor",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("status", models.CharField(max_length=9)),
                ("total", models.IntegerField(null=True)),
                ("done", models.IntegerField(default=0)),
                ("failed", models.IntegerField(default=0)),
                ("cursor", models.UUIDField(null=True)),
                (
                    "problems",
                    models.JSONField(
                        default=list,
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "orchestrator_bulk_operation",
                "ordering": ["-created_at"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("finished_at__isnull", True)),
                        fields=["created_at"],
                        name="orchestrator_bulk_open",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "status__in",
                                ["QUEUED", "RUNNING", "COMPLETED", "STOPPED"],
                            )
                        ),
                        name="orchestrator_bulk_status",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Queue",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200, unique=True)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_queue",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Duty",
            fields=[
                (
                    "name",
                    models.CharField(max_length=100, primary_key=True, serialize=False),
                ),
                ("holder", models.CharField(max_length=200)),
                ("expires_at", models.DateTimeField()),
                ("last_run_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name_plural": "duties",
                "db_table": "orchestrator_duty",
            },
        ),
        CreatePartitionedModel(
            name="Event",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("key", models.CharField(max_length=200)),
                ("scope", models.CharField(blank=True, max_length=200)),
                (
                    "payload",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        null=True,
                    ),
                ),
                (
                    "metadata",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder
                    ),
                ),
                ("tenant", models.CharField(blank=True, max_length=200)),
                ("priority", models.SmallIntegerField(null=True)),
                ("xid", models.BigIntegerField()),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_event",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        fields=["key", "created_at"], name="orchestrator_event_key"
                    ),
                    models.Index(
                        condition=models.Q(("scope", ""), _negated=True),
                        fields=["key", "scope", "created_at"],
                        name="orchestrator_event_scope",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Workflow",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200, unique=True)),
                ("description", models.TextField(blank=True)),
                ("queue_name", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_workflow",
                "ordering": ["name"],
                "permissions": [
                    ("trigger_workflow", "Can enqueue a run of a workflow"),
                    ("pause_workflow", "Can pause and resume a workflow"),
                ],
            },
        ),
        migrations.CreateModel(
            name="EventItem",
            fields=[
                (
                    "event",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="orchestrator.event",
                    ),
                ),
            ],
            options={
                "db_table": "orchestrator_event_item",
            },
        ),
        migrations.CreateModel(
            name="Task",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                (
                    "workflow",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tasks",
                        to="orchestrator.workflow",
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                ("lane", models.BigIntegerField(unique=True)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_task",
                "ordering": ["workflow", "name"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("workflow", "name"), name="orchestrator_task_name"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="WorkflowVersion",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                (
                    "workflow",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="versions",
                        to="orchestrator.workflow",
                    ),
                ),
                ("number", models.IntegerField()),
                ("digest", models.CharField(max_length=64)),
                ("shape", models.JSONField()),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_workflow_version",
                "ordering": ["-number"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("workflow", "number"),
                        name="orchestrator_version_number",
                    )
                ],
            },
        ),
        CreatePartitionedModel(
            name="Run",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "workflow",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.workflow",
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.workflowversion",
                    ),
                ),
                (
                    "queue",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.queue",
                    ),
                ),
                (
                    "outcome_status",
                    models.CharField(db_column="status", max_length=9, null=True),
                ),
                ("status_reason", models.TextField(blank=True)),
                ("generation", models.IntegerField()),
                (
                    "input",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder
                    ),
                ),
                (
                    "metadata",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder
                    ),
                ),
                ("tenant", models.CharField(blank=True, max_length=200)),
                ("priority", models.SmallIntegerField()),
                ("parent_task_run_id", models.UUIDField(null=True)),
                ("event_id", models.UUIDField(null=True)),
                ("cron_trigger_id", models.BigIntegerField(null=True)),
                ("idempotency_key", models.CharField(max_length=200, null=True)),
                ("created_at", models.DateTimeField()),
                ("run_after", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "orchestrator_run",
                "ordering": ["-id"],
                "permissions": [
                    ("cancel_run", "Can cancel runs"),
                    ("retry_run", "Can retry runs"),
                    ("rerun_run", "Can rerun runs"),
                    ("view_payload", "Can see inputs, outputs and metadata"),
                ],
                "indexes": [
                    models.Index(
                        condition=models.Q(("outcome_status__isnull", True)),
                        fields=["id"],
                        name="orchestrator_run_open",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("outcome_status__in", ["FAILED", "CANCELLED"])
                        ),
                        fields=["finished_at", "id"],
                        name="orchestrator_run_unsuccessful",
                    ),
                    models.Index(
                        fields=["workflow", "id"], name="orchestrator_run_workflow"
                    ),
                    models.Index(
                        condition=models.Q(("parent_task_run_id__isnull", False)),
                        fields=["parent_task_run_id", "id"],
                        name="orchestrator_run_parent",
                    ),
                    django.contrib.postgres.indexes.GinIndex(
                        condition=models.Q(
                            orchestrator.models.fields.NotEmpty("metadata")
                        ),
                        fields=["metadata"],
                        name="orchestrator_run_metadata",
                        opclasses=["jsonb_path_ops"],
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("outcome_status__isnull", True),
                            (
                                "outcome_status__in",
                                ["CANCELLED", "COMPLETED", "FAILED"],
                            ),
                            _connector="OR",
                        ),
                        name="orchestrator_run_status",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("finished_at__isnull", True),
                                ("outcome_status__isnull", True),
                            ),
                            models.Q(
                                ("finished_at__isnull", False),
                                ("outcome_status__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="orchestrator_run_finished",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "scope",
                        "key",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("scope", models.CharField(max_length=200)),
                ("key", models.CharField(max_length=200)),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                ("until_finished", models.BooleanField()),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_idempotency_key",
                "indexes": [
                    models.Index(
                        fields=["expires_at"], name="orchestrator_idempotency_end"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OpenRun",
            fields=[
                (
                    "run",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="orchestrator.run",
                    ),
                ),
                ("remaining", models.IntegerField()),
                ("failed", models.IntegerField()),
                ("cancelled", models.IntegerField()),
                ("reason", models.TextField()),
                ("started_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "orchestrator_open_run",
            },
        ),
        CreatePartitionedModel(
            name="TaskRun",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.task",
                    ),
                ),
                ("ordinal", models.SmallIntegerField()),
                (
                    "queue",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.queue",
                    ),
                ),
                ("lane", models.BigIntegerField()),
                ("position", models.BigIntegerField()),
                (
                    "outcome_status",
                    models.CharField(db_column="status", max_length=9, null=True),
                ),
                ("status_reason", models.TextField(blank=True)),
                ("generation", models.IntegerField()),
                ("attempts", models.IntegerField()),
                ("branch", models.SmallIntegerField(db_default=1)),
                ("suspensions", models.IntegerField(db_default=0)),
                (
                    "output",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        null=True,
                    ),
                ),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "orchestrator_task_run",
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("outcome_status__isnull", True),
                            (
                                "outcome_status__in",
                                ["CANCELLED", "COMPLETED", "FAILED", "SKIPPED"],
                            ),
                            _connector="OR",
                        ),
                        name="orchestrator_task_run_status",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("finished_at__isnull", True),
                                ("outcome_status__isnull", True),
                            ),
                            models.Q(
                                ("finished_at__isnull", False),
                                ("outcome_status__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="orchestrator_task_run_finished",
                    ),
                ],
            },
        ),
        CreatePartitionedModel(
            name="Attempt",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "task_run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.taskrun",
                    ),
                ),
                ("number", models.IntegerField()),
                (
                    "worker",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.worker",
                    ),
                ),
                ("outcome", models.CharField(max_length=9)),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                (
                    "error",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        null=True,
                    ),
                ),
            ],
            options={
                "db_table": "orchestrator_attempt",
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "outcome__in",
                                [
                                    "COMPLETED",
                                    "FAILED",
                                    "TIMED_OUT",
                                    "CANCELLED",
                                    "SUSPENDED",
                                    "LOST",
                                ],
                            )
                        ),
                        name="orchestrator_attempt_outcome",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Deadline",
            fields=[
                (
                    "task_run",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="orchestrator.taskrun",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_deadline",
                "indexes": [
                    models.Index(
                        fields=["expires_at"], name="orchestrator_deadline_expires"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="DelayedItem",
            fields=[
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.task",
                    ),
                ),
                (
                    "queue",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.queue",
                    ),
                ),
                ("lane", models.BigIntegerField()),
                ("position", models.BigIntegerField()),
                ("schedule_timeout_ms", models.IntegerField(null=True)),
                ("attempt", models.IntegerField()),
                ("failures", models.SmallIntegerField()),
                ("losses", models.SmallIntegerField()),
                (
                    "task_run",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="orchestrator.taskrun",
                    ),
                ),
                ("status", models.CharField(max_length=9)),
                ("due_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_delayed_item",
                "indexes": [
                    models.Index(fields=["due_at"], name="orchestrator_delayed_due")
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["SCHEDULED", "BACKOFF"])),
                        name="orchestrator_delayed_status",
                    )
                ],
            },
        ),
        CreatePartitionedModel(
            name="JournalEntry",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "task_run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.taskrun",
                    ),
                ),
                ("branch", models.SmallIntegerField()),
                ("position", models.IntegerField()),
                ("kind", models.CharField(max_length=5)),
                ("name", models.CharField(blank=True, max_length=200)),
                ("asked", models.TextField()),
                ("attempt", models.IntegerField()),
                ("child_run_id", models.UUIDField(null=True)),
                (
                    "output",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        null=True,
                    ),
                ),
                (
                    "error",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        null=True,
                    ),
                ),
                ("completed_order", models.BigIntegerField(null=True)),
                ("created_at", models.DateTimeField()),
                ("completed_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name_plural": "journal entries",
                "db_table": "orchestrator_journal_entry",
                "ordering": ["branch", "position"],
                "indexes": [
                    models.Index(
                        fields=["task_run", "branch", "position"],
                        name="orchestrator_journal_order",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("kind__in", ["STEP", "WAIT", "CHILD", "NOW"])
                        ),
                        name="orchestrator_journal_kind",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Lease",
            fields=[
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.task",
                    ),
                ),
                (
                    "queue",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.queue",
                    ),
                ),
                ("lane", models.BigIntegerField()),
                ("position", models.BigIntegerField()),
                ("schedule_timeout_ms", models.IntegerField(null=True)),
                ("attempt", models.IntegerField()),
                ("failures", models.SmallIntegerField()),
                ("losses", models.SmallIntegerField()),
                (
                    "task_run",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="orchestrator.taskrun",
                    ),
                ),
                (
                    "worker",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.worker",
                    ),
                ),
                ("child_id", models.IntegerField()),
                ("claimed_at", models.DateTimeField()),
                ("timeout_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "orchestrator_lease",
                "indexes": [
                    models.Index(fields=["worker"], name="orchestrator_lease_worker"),
                    models.Index(
                        condition=models.Q(("timeout_at__isnull", False)),
                        fields=["timeout_at"],
                        name="orchestrator_lease_timeout",
                    ),
                ],
            },
        ),
        CreatePartitionedModel(
            name="LogLine",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "task_run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.taskrun",
                    ),
                ),
                ("attempt", models.IntegerField()),
                ("number", models.IntegerField()),
                ("level", models.CharField(max_length=8)),
                ("logger", models.CharField(blank=True, max_length=200)),
                ("message", models.TextField()),
                (
                    "fields",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        null=True,
                    ),
                ),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_log_line",
                "ordering": ["attempt", "number"],
                "indexes": [
                    models.Index(
                        fields=["task_run", "attempt", "number"],
                        name="orchestrator_log_order",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Progress",
            fields=[
                (
                    "task_run",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="orchestrator.taskrun",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                ("done", models.FloatField()),
                ("total", models.FloatField(null=True)),
                ("message", models.CharField(blank=True, max_length=500)),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_progress",
            },
        ),
        migrations.CreateModel(
            name="QueueItem",
            fields=[
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.task",
                    ),
                ),
                (
                    "queue",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.queue",
                    ),
                ),
                ("lane", models.BigIntegerField()),
                ("position", models.BigIntegerField()),
                ("schedule_timeout_ms", models.IntegerField(null=True)),
                ("attempt", models.IntegerField()),
                ("failures", models.SmallIntegerField()),
                ("losses", models.SmallIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "queue_id",
                        "lane",
                        "position",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "task_run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.taskrun",
                    ),
                ),
            ],
            options={
                "db_table": "orchestrator_queue_item",
            },
        ),
        CreatePartitionedModel(
            name="StreamChunk",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                (
                    "task_run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.taskrun",
                    ),
                ),
                ("attempt", models.IntegerField()),
                ("number", models.IntegerField()),
                (
                    "data",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder
                    ),
                ),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_stream_chunk",
                "ordering": ["task_run", "attempt", "number"],
                "indexes": [
                    models.Index(
                        fields=["run", "task_run", "attempt", "number"],
                        name="orchestrator_stream_order",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Wait",
            fields=[
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.task",
                    ),
                ),
                (
                    "queue",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.queue",
                    ),
                ),
                ("lane", models.BigIntegerField()),
                ("position", models.BigIntegerField()),
                ("schedule_timeout_ms", models.IntegerField(null=True)),
                ("attempt", models.IntegerField()),
                ("failures", models.SmallIntegerField()),
                ("losses", models.SmallIntegerField()),
                (
                    "task_run",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="orchestrator.taskrun",
                    ),
                ),
                ("remaining", models.IntegerField()),
                ("judged", models.BooleanField(db_default=False)),
                ("suspended", models.BooleanField(db_default=False)),
                ("opened_at", models.DateTimeField(null=True)),
                ("snapshot", models.TextField(null=True)),
                ("xid", models.BigIntegerField(null=True)),
            ],
            options={
                "db_table": "orchestrator_wait",
                "indexes": [
                    models.Index(
                        condition=models.Q(("judged", True), ("remaining__lte", 0)),
                        fields=["task_run"],
                        name="orchestrator_wait_due",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="WaitCondition",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.run",
                    ),
                ),
                (
                    "task_run",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.taskrun",
                    ),
                ),
                ("entry_id", models.UUIDField(null=True)),
                ("group", models.IntegerField()),
                ("slot", models.CharField(max_length=9)),
                ("leaf", models.SmallIntegerField()),
                ("kind", models.CharField(max_length=5)),
                ("key", models.TextField(blank=True)),
                ("scope", models.TextField(blank=True)),
                ("expression", models.TextField(blank=True)),
                ("since", models.DateTimeField(null=True)),
                ("lookback", models.BooleanField(db_default=False)),
                ("snapshot", models.TextField(blank=True)),
                ("xid", models.BigIntegerField(null=True)),
                ("due_at", models.DateTimeField(null=True)),
                ("child_run_id", models.UUIDField(null=True)),
                ("checked", models.BooleanField()),
                ("satisfied_at", models.DateTimeField(null=True)),
                ("event_id", models.UUIDField(null=True)),
                ("judged", models.BooleanField(db_default=False)),
            ],
            options={
                "db_table": "orchestrator_wait_condition",
                "indexes": [
                    models.Index(
                        condition=models.Q(
                            ("kind", "EVENT"), ("satisfied_at__isnull", True)
                        ),
                        fields=["key", "scope", "id"],
                        name="orchestrator_condition_event",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("due_at__isnull", False), ("satisfied_at__isnull", True)
                        ),
                        fields=["due_at"],
                        name="orchestrator_condition_due",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("child_run_id__isnull", False),
                            ("satisfied_at__isnull", True),
                        ),
                        fields=["child_run_id"],
                        name="orchestrator_condition_child",
                    ),
                    models.Index(
                        fields=["task_run", "group"], name="orchestrator_condition_wait"
                    ),
                    models.Index(
                        condition=models.Q(
                            ("judged", False), ("satisfied_at__isnull", False)
                        ),
                        fields=["run"],
                        name="orchestrator_condition_judge",
                    ),
                    models.Index(
                        condition=models.Q(("checked", False)),
                        fields=["id"],
                        name="orchestrator_condition_check",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["EVENT", "SLEEP", "CHILD"])),
                        name="orchestrator_condition_kind",
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="workflow",
            name="current_version",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="orchestrator.workflowversion",
            ),
        ),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
        migrations.RunPython(make_partitions, migrations.RunPython.noop),
    ]
