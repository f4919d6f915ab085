"""Runs in a test's own transaction: what a worker makes of them, and how they stand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection

from orchestrator import Context, RunHandle
from orchestrator.engine import inspect, sessions
from orchestrator.models import Run, TaskRun
from orchestrator.testing import drain, travel
from orchestrator.workflows import WorkflowDefinition

Ctx = Context[None]
Handle = RunHandle[Any]


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def after(count: float) -> None:
    """What a worker does by then."""
    with travel(seconds(count)):
        drain()


def task_runs(handle: Handle) -> dict[str, TaskRun]:
    run = Run.objects.get(pk=handle.id)
    return {task_run.name: task_run for task_run in run.task_runs()}


def statuses(handle: Handle) -> dict[str, str]:
    return {name: task_run.status for name, task_run in task_runs(handle).items()}


def reason(handle: Handle, name: str) -> str:
    return task_runs(handle)[name].status_reason


def check() -> None:
    """Nothing is as it must never be; to be asked at the end of a test."""
    connection.check_constraints()
    assert inspect.violations(sessions.django_session()) == []


def target(wf: WorkflowDefinition[None], **options: Any) -> WorkflowDefinition[None]:
    @wf.task
    def start(ctx: Ctx) -> int:
        return 1

    @wf.task(name="target", parents=[start], **options)
    def target(ctx: Ctx) -> dict[str, int]:
        return {"random_number": 5}

    return wf
