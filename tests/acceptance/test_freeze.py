"""A worker that is frozen for longer than its lease, and comes back."""

from __future__ import annotations

import os
import signal
import time
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
    assert handle.result(timeout=60) == "task"
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
    assert tasks.work.enqueue(str(trace), "again").result(timeout=60) == "again"
    assert "declared lost" in frozen.log


def test_a_long_task_keeps_its_lease_while_its_worker_lives(
    harness: Harness, trace: Path
) -> None:
    harness.scheduler()
    harness.worker()
    handle = tasks.work.enqueue(str(trace), "long", 7)  # twice LOST_AFTER
    assert handle.result(timeout=60) == "long"
    assert trace.read_text().count("start long") == 1


def test_a_child_that_stalls_is_killed_and_replaced(
    harness: Harness, trace: Path
) -> None:
    harness.options["CHILD_STALL"] = 2.0
    worker = harness.worker()
    handle = tasks.work.enqueue(str(trace), "task", 1)
    harness.wait_until(lambda: "start task" in trace.read_text(), "it has started")
    os.kill(int(trace.read_text().split()[2]), signal.SIGSTOP)
    assert handle.result(timeout=60) == "task"
    assert "has stalled" in worker.log
    assert Worker.objects.get().status == "ACTIVE"


def test_a_loop_that_is_blocked_claims_no_more_and_is_replaced(
    harness: Harness, trace: Path
) -> None:
    harness.options["CHILD_STALL"] = 3.0
    harness.worker("--async-slots", "5")
    blocking = tasks.ablock.enqueue(str(trace), 60)
    harness.wait_until(lambda: "start block" in trace.read_text(), "it blocks the loop")
    others = [tasks.awork.enqueue(str(trace), f"a{n}") for n in range(20)]
    sync = tasks.work.enqueue(str(trace), "sync")
    assert sync.result(timeout=10) == "sync"
    harness.wait_until(
        lambda: trace.read_text().count("start block") >= 2, "the child is replaced"
    )
    blocking.cancel()
    for number, handle in enumerate(others):
        assert handle.result(timeout=60) == f"a{number}"


def test_a_child_whose_supervisor_is_frozen_claims_no_more(
    harness: Harness, trace: Path
) -> None:
    harness.options["LOST_AFTER"] = 15.0  # a third of which it waits
    worker = harness.worker()
    tasks.work.enqueue(str(trace), "before").result(timeout=60)
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(6)
    handle = tasks.work.enqueue(str(trace), "during")
    time.sleep(2)
    assert "during" not in trace.read_text()
    os.kill(worker.pid, signal.SIGCONT)
    assert handle.result(timeout=60) == "during"
    assert not Attempt.objects.filter(outcome="LOST").exists()
