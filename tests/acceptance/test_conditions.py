"""Conditions, events and handlers with real workers and schedulers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import RunCancelled, RunFailed, RunHandle, events
from orchestrator.engine import inspect, sessions
from orchestrator.models import Run, WaitCondition
from tests.acceptance.harness import Harness
from tests.app import conditions

pytestmark = pytest.mark.acceptance


@pytest.fixture(autouse=True)
def _nothing_is_broken(harness: Harness) -> Iterator[None]:
    yield
    for process in harness.processes:
        if process.running:
            process.stop()
    assert inspect.violations(sessions.django_session()) == []


def statuses(handle: RunHandle[Any]) -> dict[str, str]:
    run = Run.objects.get(pk=handle.id)
    return {task_run.name: task_run.status for task_run in run.task_runs()}


def test_waits_of_every_kind(harness: Harness) -> None:
    """Scenario B1, with shorter sleeps."""
    harness.worker()
    harness.scheduler()
    handle = conditions.branches.enqueue()
    harness.wait_until(
        lambda: statuses(handle)["start"] == "COMPLETED", "it starts", timeout=60
    )
    for _ in range(2):
        events.push("branches:skip")
        events.push("branches:go")
        time.sleep(0.3)
    assert handle.result(timeout=60)["total"] == 42 + 7 + 13 + 11
    assert statuses(handle)["skipped_by_event"] == "SKIPPED"
    assert statuses(handle)["left"] == "SKIPPED"


def test_events_without_a_scheduler_are_routed_at_once(harness: Harness) -> None:
    """Scenarios B6 and B9; workers hear of events by themselves."""
    harness.worker()
    goes, stops = [conditions.stoppable.enqueue() for _ in range(2)]
    harness.wait_until(
        lambda: WaitCondition.objects.count() == 4, "both wait", timeout=60
    )
    began = time.monotonic()
    events.push("stoppable:go", {"id": str(goes.id)})
    events.push("stoppable:stop", {"id": str(stops.id)})
    assert goes.result(timeout=60)["go"] == 5
    with pytest.raises(RunCancelled):
        stops.result(timeout=60)
    assert time.monotonic() - began < 10


def test_waits_survive_those_who_were_to_look_after_them(harness: Harness) -> None:
    worker, scheduler = harness.worker(), harness.scheduler()
    handle = conditions.stoppable.enqueue()
    harness.wait_until(
        lambda: WaitCondition.objects.count() == 2, "it waits", timeout=60
    )
    worker.kill()
    scheduler.kill()
    events.push("stoppable:go", {"id": str(handle.id)})
    harness.worker()
    harness.scheduler()
    assert handle.result(timeout=60)["go"] == 5


def test_on_failure_is_executed_and_the_run_stays_failed(harness: Harness) -> None:
    """Scenario C2."""
    harness.worker()
    handle = conditions.broken.enqueue()
    with pytest.raises(RunFailed) as failure:
        handle.result(timeout=60)
    assert "step1 failed" in str(failure.value.exceptions[0])
    assert statuses(handle) == {"step1": "FAILED", "on_failure": "COMPLETED"}
