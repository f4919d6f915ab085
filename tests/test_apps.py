from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection

from orchestrator import submission, task
from orchestrator.apps import register_definitions
from orchestrator.engine import partitions
from orchestrator.engine.shapes import queue_id
from orchestrator.models import Queue, Task, Workflow, WorkflowVersion

pytestmark = [
    pytest.mark.usefixtures("own_definitions"),
    pytest.mark.django_db,
]


def test_migrating_registers_what_the_project_declares() -> None:
    @task(queue_name="brand-new")
    def fresh() -> None:
        """Said in a line."""

    call_command("migrate", verbosity=0)
    workflow = Workflow.objects.get(name="fresh")
    shape = fresh.definition.shape
    assert workflow.pk == shape.workflow_id
    assert workflow.current_version_id == shape.version_id
    assert workflow.description == "Said in a line."
    assert Queue.objects.filter(name="brand-new").exists()
    assert Task.objects.get(workflow=workflow).pk == shape.tasks[0].id
    register_definitions(using="default")
    assert WorkflowVersion.objects.filter(workflow=workflow).count() == 1


def test_a_queue_that_only_callers_name_is_there_again_after_a_flush() -> None:
    @task
    def fresh() -> None: ...

    name = "only-named-by-a-caller"
    submission._made.add(queue_id(name))
    register_definitions(using="default")
    fresh.using(queue_name=name).enqueue()
    assert Queue.objects.filter(name=name).exists()


def test_migrating_makes_partitions_ahead(monkeypatch: Any) -> None:
    asked: list[str] = []

    def ensure(session: Any) -> None:
        asked.append(session.alias)
        raise OperationalError("canceling statement due to lock timeout")

    monkeypatch.setattr(partitions, "ensure", ensure)
    call_command("migrate", verbosity=0)
    assert asked == ["default"]


def test_another_database_is_none_of_its_business() -> None:
    @task
    def fresh() -> None: ...

    register_definitions(using="replica")
    assert not Workflow.objects.filter(name="fresh").exists()


def test_a_database_without_the_tables_is_left_alone() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE orchestrator_task RENAME TO elsewhere")
    register_definitions(using="default")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE elsewhere RENAME TO orchestrator_task")


def test_a_table_that_a_later_migration_completes_stops_nothing(caplog: Any) -> None:
    @task
    def fresh() -> None: ...

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE orchestrator_workflow RENAME description TO d")
    register_definitions(using="default")
    assert "Definitions were not registered yet" in caplog.text
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE orchestrator_workflow RENAME d TO description")
    register_definitions(using="default")
    assert Workflow.objects.filter(name="fresh").exists()
