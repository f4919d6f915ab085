"""SIGTERM to a worker that is idle, busy, busy for too long; and twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from orchestrator.models import Attempt, Lease, QueueItem, Worker
from tests.acceptance.harness import Harness
from tests.app import tasks

pytestmark = pytest.mark.acceptance


def test_an_idle_worker_ends_at_once(harness: Harness) -> None:
    worker = harness.worker()
    tasks.noop.enqueue().result(timeout=60)
    asked = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - asked < 6
    assert Worker.objects.get().status == "STOPPED"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_busy_worker_finishes_what_runs_and_returns_the_rest(
    harness: Harness, trace: Path, number: signal.Signals
) -> None:
    worker = harness.worker("--slots", "1")
    running = tasks.work.enqueue(str(trace), "running", 2)
    harness.wait_until(lambda: "start running" in trace.read_text(), "it has started")
    waiting = tasks.work.enqueue(str(trace), "waiting", 0)
    worker.signal(number)
    harness.wait_until(
        lambda: Worker.objects.get().status == "DRAINING", "it shows that it drains"
    )
    assert worker.wait() == 0
    assert running.result() == "running"
    waiting.refresh()
    assert waiting.status == "QUEUED"
    assert "waiting" not in trace.read_text()
    assert not Lease.objects.exists()


def test_what_outlives_the_grace_is_queued_again_uncharged(
    harness: Harness, trace: Path
) -> None:
    worker = harness.worker("--grace", "1")
    sync = tasks.work.enqueue(str(trace), "sync", 60)
    on_loop = tasks.awork.enqueue(str(trace), "async", 60)
    alone = tasks.work_alone.enqueue(str(trace), "alone", 60)
    harness.wait_until(
        lambda: trace.read_text().count("start") == 3, "all have started"
    )
    asked = time.monotonic()
    assert worker.stop() == 0
    assert 1 <= time.monotonic() - asked < 8
    for handle in (sync, on_loop, alone):
        handle.refresh()
        assert handle.status == "QUEUED"
    assert not Attempt.objects.exists()
    assert {item.losses for item in QueueItem.objects.all()} == {0}
    assert {item.attempt for item in QueueItem.objects.all()} == {1}


def test_a_second_signal_ends_it_at_once(harness: Harness, trace: Path) -> None:
    worker = harness.worker("--grace", "60")
    handle = tasks.work.enqueue(str(trace), "long", 60)
    harness.wait_until(lambda: "start long" in trace.read_text(), "it has started")
    worker.terminate()
    harness.wait_until(lambda: "draining" in worker.log, "it drains")
    asked = time.monotonic()
    worker.terminate()
    assert worker.wait() == 0
    assert time.monotonic() - asked < 6
    handle.refresh()
    assert handle.status == "QUEUED"
    assert Worker.objects.get().status == "STOPPED"


def test_a_signal_during_the_start_ends_it(harness: Harness) -> None:
    worker = harness.worker("--processes", "2")
    harness.wait_until(worker.children, "a child is being started")
    assert worker.stop() == 0


def test_a_scheduler_ends_on_sigterm(harness: Harness) -> None:
    scheduler = harness.scheduler()
    harness.wait_until(lambda: "has started" in scheduler.log, "it has started")
    asked = time.monotonic()
    assert scheduler.stop() == 0
    assert time.monotonic() - asked < 5
