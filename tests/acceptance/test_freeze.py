"""A worker that is frozen for longer than its lease, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.models import Attempt, TaskRun, Worker
from tests.acceptance.harness import Harness
from tests.app import tasks

pytestmark = pytest.mark.acceptance


def test_the_late_report_of_a_frozen_worker_is_refused(
    harness: Harness, trace: Path
) -> None:
    harness.scheduler()
    frozen = harness.worker()
    handle = tasks.work.enqueue(str(trace), "task", 2)
    harness.wait_until(lambda: "start task" in trace.read_text(), "it has started")
    frozen.freeze()
    other = harness.worker()
    harness.wait_until(
        lambda: trace.read_text().count("start task") == 2, "another worker has it"
    )
    frozen.thaw()  # its function ends before the other worker's does
    assert handle.result(timeout=30) == "task"
    harness.wait_until(
        lambda: Worker.objects.filter(pid=frozen.pid, status="ACTIVE").exists(),
        "the frozen worker starts over under a new id",
    )
    attempts = Attempt.objects.order_by("number")
    assert [attempt.outcome for attempt in attempts] == ["LOST", "COMPLETED"]
    assert attempts[1].worker_id == Worker.objects.get(pid=other.pid).id
    assert TaskRun.objects.get().attempts == 2
    # And it works again.
    assert other.stop() == 0
    assert tasks.work.enqueue(str(trace), "again").result(timeout=30) == "again"
    assert "declared lost" in frozen.log


def test_a_long_task_keeps_its_lease_while_its_worker_lives(
    harness: Harness, trace: Path
) -> None:
    harness.scheduler()
    harness.worker()
    handle = tasks.work.enqueue(str(trace), "long", 7)  # twice LOST_AFTER
    assert handle.result(timeout=30) == "long"
    assert trace.read_text().count("start long") == 1
