"""Real processes do real work: each task once, on threads, on the loop, in chains."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from orchestrator.models import Attempt, Run, TaskRun, Worker
from tests.acceptance.harness import Harness
from tests.app import tasks

pytestmark = pytest.mark.acceptance


def test_every_task_is_executed_once_by_two_children(
    harness: Harness, trace: Path
) -> None:
    handles = tasks.work.enqueue_many(
        [tasks.work.bind(str(trace), f"sync-{n}") for n in range(300)]
    )
    handles += tasks.awork.enqueue_many(
        [tasks.awork.bind(str(trace), f"async-{n}") for n in range(300)]
    )
    worker = harness.worker("--processes", "2")
    harness.wait_until(
        lambda: Run.objects.with_status("COMPLETED").count() == len(handles),
        "all runs complete",
    )
    assert worker.stop() == 0
    starts = Counter(
        line.split()[1]
        for line in trace.read_text().splitlines()
        if line.startswith("start")
    )
    assert len(starts) == 600
    assert set(starts.values()) == {1}
    assert handles[0].result() == "sync-0"
    assert Worker.objects.get().status == "STOPPED"


def test_a_chain_passes_outputs_between_threads_and_the_loop(harness: Harness) -> None:
    harness.worker()
    handles = tasks.chain.enqueue_many([{"number": n} for n in range(50)])
    assert [handle.result(timeout=60) for handle in handles] == [
        {"first": n, "second": n + 1, "third": 2 * n + 1} for n in range(50)
    ]


def test_a_failing_task_backs_off_and_succeeds(harness: Harness, trace: Path) -> None:
    harness.scheduler()
    harness.worker()
    handle = tasks.flaky.enqueue(str(trace), 2)
    assert handle.result(timeout=60) == 3
    outcomes = list(
        Attempt.objects.order_by("number").values_list("outcome", "error__message")
    )
    assert outcomes == [
        ("FAILED", "failure 1"),
        ("FAILED", "failure 2"),
        ("COMPLETED", None),
    ]


def test_a_cancelled_task_is_told_within_seconds(harness: Harness, trace: Path) -> None:
    harness.worker()
    handles = [
        tasks.look_out.enqueue(str(trace)),
        tasks.awork.enqueue(str(trace), "async", 60),
        tasks.work_alone.enqueue(str(trace), "alone", 60),
    ]
    harness.wait_until(
        lambda: trace.read_text().count("start") == 3, "all three have started"
    )
    for handle in handles:
        handle.cancel("no longer wanted")
    harness.wait_until(
        lambda: (
            trace.read_text().count("cancelled") == 2
            and _gone(int(_words(trace, "start alone")[2]))
        ),
        "the functions are told, the isolated one is killed",
        timeout=8,
    )
    for handle in handles:
        handle.refresh()
        assert handle.status == "CANCELLED"
    assert not TaskRun.objects.with_status("RUNNING").exists()
    assert "nobody told" not in trace.read_text()


def _words(trace: Path, start: str) -> list[str]:
    return next(
        line.split()
        for line in trace.read_text().splitlines()
        if line.startswith(start)
    )


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_queue_that_only_an_enqueue_has_named_is_served(harness: Harness) -> None:
    harness.worker()
    tasks.noop.enqueue().result(timeout=60)
    handle = tasks.noop.using(queue_name="made-up").enqueue()
    assert handle.result(timeout=10) is None


def test_a_worker_serves_its_queues_in_strict_order_and_no_others(
    harness: Harness, trace: Path
) -> None:
    elsewhere = tasks.work.enqueue(str(trace), "elsewhere")
    for number in range(5):
        tasks.work.using(queue_name="low").enqueue(str(trace), f"low-{number}", 0.1)
        tasks.work.using(queue_name="high").enqueue(str(trace), f"high-{number}", 0.1)
    worker = harness.worker("--queues", "high,low", "--slots", "1")
    harness.wait_until(
        lambda: trace.read_text().count("end low") == 5, "the low ones end"
    )
    starts = [
        line.split()[1].partition("-")[0]
        for line in trace.read_text().splitlines()
        if line.startswith("start")
    ]
    assert starts == ["high"] * 5 + ["low"] * 5
    elsewhere.refresh()
    assert elsewhere.status == "QUEUED"
    assert "No workflow uses the queue 'low'" in worker.log


def test_a_costly_task_waits_for_as_many_slots_as_it_takes(
    harness: Harness, trace: Path
) -> None:
    handles = [tasks.costly.enqueue(str(trace), name, 0.5) for name in ("a", "b")]
    cheap = [tasks.work.enqueue(str(trace), f"cheap-{n}", 0.1) for n in range(4)]
    harness.worker("--slots", "9")
    for handle in (*handles, *cheap):
        handle.result(timeout=60)
    lines = [
        line.split() for line in trace.read_text().splitlines() if "cheap" not in line
    ]
    assert [line[0] for line in lines] == ["start", "end", "start", "end"]
