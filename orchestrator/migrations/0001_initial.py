"""The whole schema. One migration until 1.0."""

from __future__ import annotations

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
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(NOW, "DROP FUNCTION orchestrator_now()"),
        migrations.RunSQL(
            "CREATE SEQUENCE orchestrator_position",
            "DROP SEQUENCE orchestrator_position",
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
            name="Run",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
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
            name="Task",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200)),
                ("lane", models.BigIntegerField(unique=True)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "orchestrator_task",
                "ordering": ["workflow", "name"],
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
        migrations.AddField(
            model_name="run",
            name="queue",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="orchestrator.queue",
            ),
        ),
        CreatePartitionedModel(
            name="TaskRun",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("ordinal", models.SmallIntegerField()),
                ("lane", models.BigIntegerField()),
                ("position", models.BigIntegerField()),
                (
                    "outcome_status",
                    models.CharField(db_column="status", max_length=9, null=True),
                ),
                ("status_reason", models.TextField(blank=True)),
                ("generation", models.IntegerField()),
                ("attempts", models.IntegerField()),
                (
                    "output",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        null=True,
                    ),
                ),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
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
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.task",
                    ),
                ),
            ],
            options={
                "db_table": "orchestrator_task_run",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="QueueItem",
            fields=[
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
            ],
            options={
                "db_table": "orchestrator_queue_item",
            },
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
        CreatePartitionedModel(
            name="Attempt",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("number", models.IntegerField()),
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
            ],
            options={
                "db_table": "orchestrator_attempt",
                "ordering": ["-id"],
            },
        ),
        migrations.AddField(
            model_name="task",
            name="workflow",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="tasks",
                to="orchestrator.workflow",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="workflow",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="orchestrator.workflow",
            ),
        ),
        migrations.CreateModel(
            name="WorkflowVersion",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("number", models.IntegerField()),
                ("digest", models.CharField(max_length=64)),
                ("shape", models.JSONField()),
                ("created_at", models.DateTimeField()),
                (
                    "workflow",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="versions",
                        to="orchestrator.workflow",
                    ),
                ),
            ],
            options={
                "db_table": "orchestrator_workflow_version",
                "ordering": ["-number"],
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
        migrations.AddField(
            model_name="run",
            name="version",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="orchestrator.workflowversion",
            ),
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("action", models.CharField(max_length=50)),
                ("target_type", models.CharField(max_length=50)),
                ("target_id", models.CharField(max_length=64)),
                ("target_repr", models.CharField(max_length=200)),
                ("reason", models.TextField(blank=True)),
                ("data", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField()),
                (
                    "actor",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "audit entries",
                "db_table": "orchestrator_audit_entry",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        fields=["target_type", "target_id"],
                        name="orchestrator_audit_target",
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
                ("expires_at", models.DateTimeField()),
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
            ],
            options={
                "db_table": "orchestrator_deadline",
            },
        ),
        migrations.CreateModel(
            name="DelayedItem",
            fields=[
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
            ],
            options={
                "db_table": "orchestrator_delayed_item",
            },
        ),
        migrations.CreateModel(
            name="Lease",
            fields=[
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
                ("child_id", models.IntegerField()),
                ("claimed_at", models.DateTimeField()),
                ("timeout_at", models.DateTimeField(null=True)),
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
                    "worker",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="orchestrator.worker",
                    ),
                ),
            ],
            options={
                "db_table": "orchestrator_lease",
            },
        ),
        migrations.CreateModel(
            name="Wait",
            fields=[
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
            ],
            options={
                "db_table": "orchestrator_wait",
            },
        ),
        migrations.AddConstraint(
            model_name="taskrun",
            constraint=models.CheckConstraint(
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
        ),
        migrations.AddConstraint(
            model_name="taskrun",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("finished_at__isnull", True), ("outcome_status__isnull", True)
                    ),
                    models.Q(
                        ("finished_at__isnull", False),
                        ("outcome_status__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="orchestrator_task_run_finished",
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.CheckConstraint(
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
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.UniqueConstraint(
                fields=("workflow", "name"), name="orchestrator_task_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="workflowversion",
            constraint=models.UniqueConstraint(
                fields=("workflow", "number"), name="orchestrator_version_number"
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("outcome_status__isnull", True)),
                fields=["id"],
                name="orchestrator_run_open",
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("outcome_status__in", ["FAILED", "CANCELLED"])),
                fields=["finished_at", "id"],
                name="orchestrator_run_unsuccessful",
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                fields=["workflow", "id"], name="orchestrator_run_workflow"
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=django.contrib.postgres.indexes.GinIndex(
                condition=models.Q(orchestrator.models.fields.NotEmpty("metadata")),
                fields=["metadata"],
                name="orchestrator_run_metadata",
                opclasses=["jsonb_path_ops"],
            ),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("outcome_status__isnull", True),
                    ("outcome_status__in", ["CANCELLED", "COMPLETED", "FAILED"]),
                    _connector="OR",
                ),
                name="orchestrator_run_status",
            ),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("finished_at__isnull", True), ("outcome_status__isnull", True)
                    ),
                    models.Q(
                        ("finished_at__isnull", False),
                        ("outcome_status__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="orchestrator_run_finished",
            ),
        ),
        migrations.AddIndex(
            model_name="deadline",
            index=models.Index(
                fields=["expires_at"], name="orchestrator_deadline_expires"
            ),
        ),
        migrations.AddIndex(
            model_name="delayeditem",
            index=models.Index(fields=["due_at"], name="orchestrator_delayed_due"),
        ),
        migrations.AddConstraint(
            model_name="delayeditem",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["SCHEDULED", "BACKOFF"])),
                name="orchestrator_delayed_status",
            ),
        ),
        migrations.AddIndex(
            model_name="lease",
            index=models.Index(fields=["worker"], name="orchestrator_lease_worker"),
        ),
        migrations.AddIndex(
            model_name="lease",
            index=models.Index(
                condition=models.Q(("timeout_at__isnull", False)),
                fields=["timeout_at"],
                name="orchestrator_lease_timeout",
            ),
        ),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
        migrations.RunPython(make_partitions, migrations.RunPython.noop),
    ]
