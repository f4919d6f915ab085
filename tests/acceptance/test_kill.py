"""SIGKILL to a child, a supervisor, a scheduler: nothing is lost, little is charged."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from orchestrator.ids import task_run_id
from orchestrator.models import Attempt, Lease, Run, Worker
from tests.acceptance.harness import Harness
from tests.app import tasks

pytestmark = pytest.mark.acceptance


def test_a_killed_child_is_replaced_and_its_started_task_runs_again_at_once(
    harness: Harness, trace: Path
) -> None:
    worker = harness.worker("--slots", "2")
    handle = tasks.work.enqueue(str(trace), "victim", 3)
    harness.wait_until(lambda: "start victim" in trace.read_text(), "it has started")
    killed_at = time.monotonic()
    os.kill(int(trace.read_text().split()[2]), signal.SIGKILL)
    harness.wait_until(
        lambda: trace.read_text().count("start victim") == 2,
        "it starts again, long before the lease of the worker would be over",
    )
    assert time.monotonic() - killed_at < 10
    assert handle.result(timeout=60) == "victim"
    attempts = list(Attempt.objects.order_by("number").values_list("outcome", "error"))
    assert attempts[0][0] == "LOST"
    assert "SIGKILL" in str(attempts[0][1])
    assert attempts[1] == ("COMPLETED", None)
    assert worker.running


def test_only_started_tasks_are_charged_for_a_killed_child(
    harness: Harness, trace: Path
) -> None:
    harness.worker("--slots", "1")
    for number in range(20):  # short ones, so that the child claims ahead
        tasks.work.enqueue(str(trace), f"short-{number}", 0.001)
    slow = tasks.work.enqueue(str(trace), "slow", 3)
    rest = tasks.work.enqueue_many(
        [tasks.work.bind(str(trace), f"rest-{n}", 0.001) for n in range(30)]
    )
    harness.wait_until(lambda: "start slow" in trace.read_text(), "the slow one starts")
    pid = next(
        int(line.split()[2])
        for line in trace.read_text().splitlines()
        if line.startswith("start slow")
    )
    os.kill(pid, signal.SIGKILL)
    for handle in [slow, *rest]:
        handle.result(timeout=60)
    # Short ones may have been executed and not settled yet; the rest had not started.
    lost = set(
        Attempt.objects.filter(outcome="LOST").values_list("task_run_id", flat=True)
    )
    assert task_run_id(slow.id, 0) in lost
    assert lost.isdisjoint(task_run_id(handle.id, 0) for handle in rest)
    assert trace.read_text().count("start slow") == 2
    assert trace.read_text().count("start rest") == 30


def test_children_die_with_their_supervisor_and_a_scheduler_rescues(
    harness: Harness, trace: Path
) -> None:
    harness.scheduler()
    worker = harness.worker("--processes", "2")
    handle = tasks.work.enqueue(str(trace), "orphan", 2)
    harness.wait_until(lambda: "start orphan" in trace.read_text(), "it has started")
    children = harness.ready(worker, 2)
    worker.kill()
    harness.wait_until(
        lambda: not any(Path(f"/proc/{pid}/fd/0").exists() for pid in children),
        "the children are gone",
        timeout=4,
    )
    second = harness.worker()
    assert handle.result(timeout=60) == "orphan"
    assert list(
        Attempt.objects.order_by("number").values_list("outcome", flat=True)
    ) == ["LOST", "COMPLETED"]
    assert Worker.objects.get(pid=worker.pid).status == "LOST"
    assert second.stop() == 0
    assert not Lease.objects.exists()


def test_another_scheduler_goes_on_when_one_is_killed(
    harness: Harness, trace: Path
) -> None:
    first, second = harness.scheduler(), harness.scheduler()
    harness.worker()
    for scheduler in (first, second):
        harness.says(scheduler, "has started")
    handles = [tasks.flaky.enqueue(str(trace), 1) for _ in range(3)]
    first.kill()
    for handle in handles:
        handle.result(timeout=60)
    assert second.stop() == 0


@pytest.mark.parametrize(
    "point", ["claim.committed", "settle.before", "settle.after", "settle.replied"]
)
def test_a_child_that_dies_at_the_worst_moment_loses_and_repeats_nothing_accepted(
    harness: Harness, trace: Path, point: str
) -> None:
    # Every child dies there at its third time, its successors, too.
    harness.worker(
        "--processes",
        "2",
        environment={"ORCHESTRATOR_FAILPOINTS": f"{point}=kill@3"},
    )
    handles = [tasks.chain.enqueue({"number": n}) for n in range(4)]
    for number, handle in enumerate(handles):
        assert handle.result(timeout=60)["third"] == 2 * number + 1
    accepted = Attempt.objects.filter(outcome="COMPLETED")
    assert accepted.count() == accepted.values("task_run_id").distinct().count() == 12
    assert Run.objects.with_status("COMPLETED").count() == 4
    assert not Lease.objects.exists()
