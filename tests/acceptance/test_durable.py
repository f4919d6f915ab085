"""Durable tasks in real processes: slots, stops, crashes and other workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RunFailed, RunHandle, events
from orchestrator.engine import inspect, sessions
from orchestrator.models import Attempt, Lease, Run, TaskRun, Wait
from tests.acceptance.harness import Harness
from tests.app import workflows
from tests.app.workflows import Journey

pytestmark = pytest.mark.acceptance


@pytest.fixture(autouse=True)
def _nothing_is_broken(harness: Harness) -> Iterator[None]:
    yield
    for process in harness.processes:
        if process.running:
            process.stop()
    assert inspect.violations(sessions.django_session()) == []


def lines(trace: Path, word: str) -> list[list[str]]:
    found = [line.split() for line in trace.read_text().splitlines()]
    return [line for line in found if line[0] == word]


def outcomes(handle: RunHandle[Any]) -> list[str]:
    task_run = TaskRun.objects.get(run_id=handle.id)
    return [attempt.outcome for attempt in task_run.attempt_rows()]


def suspended(handle: RunHandle[Any]) -> bool:
    return Wait.objects.filter(run_id=handle.id, suspended=True).exists()


def leased(handle: RunHandle[Any]) -> bool:
    return Lease.objects.filter(run_id=handle.id).exists()


@pytest.mark.parametrize("which", ["journey", "ajourney", "lonely"])
def test_a_journey_goes_through_all_that_is_durable(
    harness: Harness, trace: Path, which: str
) -> None:
    harness.worker("--slots", "2", "--durable-slots", "2")
    harness.scheduler()
    target = getattr(workflows, which)
    handles = [target.enqueue(Journey(str(trace), f"{which}{n}")) for n in range(4)]
    results = [handle.result(60) for handle in handles]
    for number, result in enumerate(results):
        name = f"{which}{number}"
        if which == "ajourney":
            assert result == [
                [f"{name}: {n}.1", f"{name}.{n}", f"{name}: {n}.2"] for n in (1, 2)
            ]
        else:
            assert result[:2] == [f"{name}: 1", name]
        assert "SUSPENDED" in outcomes(handles[number])
        assert outcomes(handles[number])[-1] == "COMPLETED"
    children = Run.objects.filter(parent_task_run_id__isnull=False)
    assert children.count() == (8 if which == "ajourney" else 4)


def test_a_waiting_task_holds_no_slot(harness: Harness, trace: Path) -> None:
    harness.worker("--slots", "1", "--durable-slots", "1")
    harness.scheduler()
    began = time.monotonic()
    handles = [
        workflows.nap.enqueue(Journey(str(trace), f"n{n}", 8.0)) for n in range(20)
    ]
    harness.wait_until(
        lambda: all(map(suspended, handles)), "all of them wait", timeout=8.0
    )
    assert {handle.refresh().status for handle in handles} == {"RUNNING"}
    assert set(TaskRun.objects.with_status("WAITING").values_list("run_id", flat=True))
    assert [handle.result(30) for handle in handles] == [f"n{n}" for n in range(20)]
    assert time.monotonic() - began >= 8.0


@pytest.mark.parametrize("which", ["stay", "astay"])
def test_a_policy_of_never_keeps_the_slot(
    harness: Harness, trace: Path, which: str
) -> None:
    harness.worker("--durable-slots", "1")
    harness.scheduler()
    target = getattr(workflows, which)
    handle = target.enqueue(Journey(str(trace), which, 3.0))
    second = target.enqueue(Journey(str(trace), f"{which}-2", 0.1))
    harness.wait_until(lambda: lines(trace, "start"), "it starts")
    for _ in range(20):
        assert leased(handle)
        assert not leased(second)
        time.sleep(0.1)
    assert handle.result(30) == which
    assert outcomes(handle) == ["COMPLETED"]
    assert second.result(30) == f"{which}-2"


@pytest.mark.parametrize("which", ["brief", "abrief"])
def test_after_its_ttl_a_waiting_task_gives_its_slot_back(
    harness: Harness, trace: Path, which: str
) -> None:
    harness.worker("--durable-slots", "1")
    harness.scheduler()
    target = getattr(workflows, which)
    began = time.monotonic()
    handle = target.enqueue(Journey(str(trace), which, 3.0))
    harness.wait_until(lambda: leased(handle), "it runs")
    harness.wait_until(lambda: suspended(handle), "it is suspended", timeout=5.0)
    assert not leased(handle)
    assert handle.result(30) == which
    assert time.monotonic() - began >= 3.0
    assert outcomes(handle) == ["SUSPENDED", "COMPLETED"]


@pytest.mark.parametrize("which", ["roomy", "aroomy"])
def test_a_waiting_task_makes_room_for_another_one(
    harness: Harness, trace: Path, which: str
) -> None:
    """One durable slot, two tasks without a TTL."""
    harness.worker("--durable-slots", "1")
    harness.scheduler()
    target = getattr(workflows, which)
    first = target.enqueue(Journey(str(trace), "first", 6.0))
    harness.wait_until(lambda: lines(trace, "start"), "the first starts")
    second = target.enqueue(Journey(str(trace), "second", 0.2))
    assert second.result(5) == "second"
    assert first.refresh().status == "RUNNING"
    assert first.result(30) == "first"


@pytest.mark.parametrize("evicted", [True, False])
def test_an_event_finds_a_task_that_waits_with_or_without_its_slot(
    harness: Harness, trace: Path, evicted: bool
) -> None:
    harness.worker("--durable-slots", "1")
    harness.scheduler()
    handle = workflows.patient.enqueue(Journey(str(trace), "shop", 60.0))
    if evicted:
        harness.wait_until(lambda: suspended(handle), "it is suspended")
    else:
        harness.wait_until(lambda: lines(trace, "start"), "it starts")
    events.push("acceptance", scope="shop")
    assert handle.result(15) == ["acceptance"]
    assert outcomes(handle)[0] == ("SUSPENDED" if evicted else "COMPLETED")


def test_children_in_a_row_with_evictions_in_between(
    harness: Harness, trace: Path
) -> None:
    harness.worker("--durable-slots", "1")
    harness.scheduler()
    handle = workflows.teacher.enqueue(Journey(str(trace), "t"))
    assert handle.result(30) == ["t-1", "t-2", "t-3"]
    assert len(lines(trace, "child")) == 3


@pytest.mark.parametrize("which", ["stay", "astay"])
def test_a_stopped_worker_leaves_what_waits_to_another_one(
    harness: Harness, trace: Path, which: str
) -> None:
    first = harness.worker()
    harness.scheduler()
    began = time.monotonic()
    handle = getattr(workflows, which).enqueue(Journey(str(trace), which, 5.0))
    harness.wait_until(lambda: lines(trace, "start"), "it starts")
    time.sleep(0.3)
    assert first.stop() == 0
    assert time.monotonic() - began < 5.0
    assert suspended(handle)
    harness.worker()
    assert handle.result(30) == which
    assert time.monotonic() - began >= 5.0
    assert outcomes(handle) == ["SUSPENDED", "COMPLETED"]
    pids = {line[2] for line in lines(trace, "start")}
    assert len(pids) == 2


def test_what_is_cancelled_while_it_waits_is_cancelled_at_once(
    harness: Harness, trace: Path
) -> None:
    harness.worker("--durable-slots", "2")
    harness.scheduler()
    away = workflows.nap.enqueue(Journey(str(trace), "away", 60.0))
    here = workflows.stay.enqueue(Journey(str(trace), "here", 60.0))
    harness.wait_until(lambda: suspended(away), "one is suspended")
    harness.wait_until(lambda: len(lines(trace, "start")) == 2, "the other runs")
    for handle in (away, here):
        handle.cancel()
        assert handle.status == "CANCELLED"
    # Its slot is free again.
    after = [
        workflows.stay.enqueue(Journey(str(trace), f"after{n}", 0.1)) for n in range(2)
    ]
    assert [handle.result(15) for handle in after] == ["after0", "after1"]


def test_c5_a_retried_parent_has_one_child(harness: Harness, trace: Path) -> None:
    harness.worker("--slots", "5")
    harness.scheduler()
    handle = workflows.spawning.enqueue(Journey(str(trace), "once"))
    with pytest.raises(RunFailed):
        handle.result(30)
    [child] = Run.objects.get(pk=handle.id).children()
    assert RunHandle.get(child.pk).result(30) == "once"
    assert len(lines(trace, "child")) == 1
    assert Attempt.objects.filter(outcome="TIMED_OUT").count() == 3


def test_a_hundred_thousand_children_of_one_task(harness: Harness, trace: Path) -> None:
    harness.worker("--queues", "default")
    handle = workflows.crowd.enqueue(str(trace), 100_000)
    peak = handle.result(120)
    assert Run.objects.filter(parent_task_run_id__isnull=False).count() == 100_000
    assert peak < 300
